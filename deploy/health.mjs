// Asks the registry in the same container how it is, for a health check: `node health.mjs /health` exits with 0 or 1.
import process from 'node:process';

const [path = '/health/live'] = process.argv.slice(2);
const port = process.env.REGISTRY_OPERATIONS_LISTEN?.split(':').at(-1) || '5001';
try {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`);
  console.log(await answer.text());
  process.exitCode = answer.ok ? 0 : 1;
} catch (error) {
  console.log(String(error.cause ?? error));
  process.exitCode = 1;
}
