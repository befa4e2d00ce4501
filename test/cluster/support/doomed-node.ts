// A node's process that stands still at one of the places at which tests may hold it, and says so, to be killed there:
//
//   node doomed-node.js PLACE     (settings as for the registry; tells its parent 'serving', then 'there')
import type { Server } from 'node:http';
import { addressError } from '../../../src/commands/listen-address.js';
import { runWorker } from '../../../src/commands/worker.js';
import { readProcessConfig } from '../../../src/config.js';
import { createLog } from '../../../src/log.js';

const place = process.argv[2] ?? '';
const tell = (word: string) => process.send?.(word);

async function pause(name: string): Promise<void> {
  if (name !== place) return;
  tell('there');
  await new Promise(() => undefined);
}

const config = readProcessConfig();
/** Nobody deals connections out to it. */
const intake = {
  open: (server: Server) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(addressError(error, config.listen)));
      server.listen({ ...config.listen }, resolve);
    }),
  close: () => Promise.resolve(),
};
await runWorker(config, '', createLog('warn'), intake, pause);
tell('serving');
