// Asks the registry in the same container how it is, for a health check, and exits with 0 or 1:
//
//   node health.mjs /health/live   whether it lives, at the operations listener
//   node health.mjs /health        whether it can serve, where clients ask
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import process from 'node:process';

const [path = '/health/live'] = process.argv.slice(2);
const { REGISTRY_OPERATIONS_LISTEN, REGISTRY_LISTEN, REGISTRY_TLS_CERT } = process.env;
const listen = path === '/health/live' ? REGISTRY_OPERATIONS_LISTEN || ':5001' : REGISTRY_LISTEN || ':5000';
const request = path !== '/health/live' && REGISTRY_TLS_CERT ? httpsRequest : httpRequest;
// Its certificate is for another name.
const options = { host: '127.0.0.1', port: listen.split(':').at(-1), path, rejectUnauthorized: false };
const asked = request(options, (answer) => {
  process.exitCode = answer.statusCode === 200 ? 0 : 1;
  answer.pipe(process.stdout);
});
asked.on('error', (error) => {
  console.log(error.message);
  process.exitCode = 1;
});
asked.end();
