// When an upload is under way: only then can it be broken off, ousted or cancelled.
import { until } from '../faults/support/processes.js';
import { onDatabase } from '../support/keys.js';
import type { TestServer } from '../support/server.js';

/** Sends, and waits until a request that brings bytes has taken its session. `whose`: the session's location, or the id of a key. */
export async function untilTaken(server: TestServer, whose: string, send: () => unknown): Promise<void> {
  const taken = async () =>
    await onDatabase(server, async (database) => {
      const [row] = await database.query<{ taken: number }>(
        'select coalesce(sum(epoch), 0)::int as taken from uploads where id::text = $1 or actor = $1',
        [whose.split('/').at(-1)],
      );
      return row?.taken ?? 0;
    });
  const before = await taken();
  send();
  await until('the session is taken', async () => (await taken()) > before);
}
