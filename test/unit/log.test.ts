import { readFileSync } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { createLog, logLast, openLog, withoutSecrets } from '../../src/log.js';

const KEY = 'wh_ci_n0tRe4lly-A_secret-of-anybody_';
const TOKEN = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl';

/** What is written to a log of this form, by `write`. */
async function written(format: 'auto' | 'json' | 'text', write: (log: Awaited<ReturnType<typeof openLog>>) => void) {
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-log-'));
  const file = await open(join(folder, 'log'), 'w');
  try {
    const log = await openLog('info', format, file.fd);
    write(log);
    log.info('the last line');
    let text = '';
    await until('all is written', async () => {
      text = await readFile(join(folder, 'log'), 'utf8');
      return text.includes('the last line');
    });
    return text;
  } finally {
    await file.close();
    await rm(folder, { recursive: true });
  }
}

const request = {
  requestId: 'an-id',
  method: 'GET',
  path: '/v2/team/model/manifests/v1',
  status: 200,
  actor: 'ci',
  repository: 'team/model',
  received: 0,
  sent: 512,
  ms: 3.4,
  address: '192.0.2.7',
};

describe('the log', () => {
  it('is JSON lines where nobody looks on', async () => {
    const lines = (await written('auto', (log) => log.info(request, 'request'))).trim().split('\n');
    expect(lines).to.have.lengthOf(2);
    expect(JSON.parse(lines[0] ?? '')).to.include({ ...request, level: 'info', msg: 'request' });
  });

  it('is text on demand, a line an event, a request in the order of reading', async () => {
    const text = await written('text', (log) => {
      log.info(request, 'request');
      log.info({ ...request, status: undefined, broken: true }, 'request');
      log.warn({ worker: 7 }, 'a worker ended');
    });
    const lines = text.trim().split('\n');
    expect(lines).to.have.lengthOf(4);
    expect(lines[0]).to.match(
      /^\[[\d:.]+\] INFO: GET {2}\/v2\/team\/model\/manifests\/v1 {2}200 {2}3\.4 ms {2}0 in {2}512 out {2}ci {2}192\.0\.2\.7/,
    );
    expect(lines[0]).to.include('an-id');
    expect(lines[1]).to.include('broken off');
    expect(lines[2]).to.match(/WARN: a worker ended .*"?worker"?:7/);
  });

  it('has its last words written when they are said, whatever is still on its way', async () => {
    for (const format of ['json', 'text'] as const) {
      const folder = await mkdtemp(join(tmpdir(), 'weighhouse-log-'));
      const file = await open(join(folder, 'log'), 'a');
      try {
        const log = await openLog('info', format, file.fd);
        log.info('a line that a thread writes');
        logLast(log, 'the last words');
        expect(readFileSync(join(folder, 'log'), 'utf8')).to.include('the last words');
      } finally {
        // A thread may still have it.
        await until('all is written', async () => (await readFile(join(folder, 'log'), 'utf8')).includes('a thread'));
        await file.close();
        await rm(folder, { recursive: true });
      }
    }
  });

  it('keeps keys and tokens out, wherever in an event they are', () => {
    const lines: string[] = [];
    const log = createLog('trace', { write: (line: string) => lines.push(line) });
    const encoded = KEY.replaceAll('_', '%5f');
    log.trace({ path: `/v2/${KEY}/tags/list`, deep: { list: [KEY, encoded] } }, `a text with ${KEY} and ${TOKEN}`);
    log.error({ err: new Error(`failed for ${TOKEN}`, { cause: new Error(KEY) }) });
    log.info({ authorization: 'Basic abc', key: 'of some other form', headers: { authorization: 'x y z' } });
    const text = lines.join('');
    for (const line of lines) JSON.parse(line);
    for (const secret of ['n0tRe4lly', TOKEN.slice(-10), 'Basic abc', 'of some other form', 'x y z'])
      expect(text).not.to.include(secret);
    expect(text).to.include('wh_ci_[redacted]');
  });

  it('leaves what is no secret as it is', () => {
    for (const text of ['/v2/team/wh_x/tags/list', 'wh_ci', 'eyJ', '/v2/a/manifests/v1.0_wh', 'sha256:abc'])
      expect(withoutSecrets(text)).to.equal(text);
  });
});
