// A node's process that stands still at one of the places at which tests may hold it, and says so, to be killed there:
//
//   node doomed-node.js PLACE     (settings as for the registry; tells its parent 'serving', then 'there')
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

await runWorker(readProcessConfig(), '', createLog('warn'), pause);
tell('serving');
