import type { Context } from 'mocha';

/** Says why a test can't run here and skips it; with REQUIRE_ALL=1 that is a failure. */
export function notRun(context: Context, what: string, reason: string): never {
  const message = `not run: ${what}: ${reason}`;
  if (process.env.REQUIRE_ALL === '1') throw new Error(message);
  console.log(message);
  return context.skip();
}
