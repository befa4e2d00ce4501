// One registry for all files that don't need settings of their own; each keeps to its own repositories.
import { startServer, type TestServer } from '../support/server.js';

let started: Promise<TestServer> | undefined;

/** The registry that these tests share, with two workers. */
export function sharedServer(): Promise<TestServer> {
  started ??= startServer();
  return started;
}

after(async () => {
  await (await started)?.dispose();
});
