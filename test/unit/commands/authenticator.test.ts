import { expect } from 'chai';
import { ANONYMOUS, type Identity } from '../../../src/auth/access.js';
import type { Authenticator } from '../../../src/auth/authenticator.js';
import { watchAccess } from '../../../src/commands/authenticator.js';
import type { Listener } from '../../../src/database/notify.js';
import type { RunningRequests } from '../../../src/http/running-requests.js';
import { createLog } from '../../../src/log.js';

describe('the watch over access', () => {
  it('looks at the running requests at once when it is told of a change, and notes the last uses at its end', async () => {
    const events: string[] = [];
    let tell: (payload: string) => void = () => undefined;
    let miss: () => void = () => undefined;
    const watching = await watchAccess(
      {
        onChange: (payload: string) => events.push(payload),
        onGap: () => events.push('forgotten'),
        noteUse: ({ id }: Identity) => events.push(`${id} runs`),
        flushUses: async () => {
          events.push('noted');
        },
      } as unknown as Authenticator,
      {
        sweep: async () => {
          events.push('swept');
        },
        identities: () => [{ ...ANONYMOUS, kind: 'key', id: 'one' }],
      } as unknown as RunningRequests,
      {
        on: async (_channel: string, handle: (payload: string) => void) => {
          tell = handle;
        },
        onGap: (handle) => {
          miss = handle;
        },
      } as Listener,
      createLog('silent'),
    );
    tell('key one');
    expect(events).to.deep.equal(['key one', 'swept']);
    miss();
    expect(events.at(-1), 'what may have been missed is believed no longer').to.equal('forgotten');
    await watching.stop();
    expect(events.slice(-2)).to.deep.equal(['one runs', 'noted']);
  });
});
