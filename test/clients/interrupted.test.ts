// What README says of clients whose push breaks off: whether the run goes on by itself, from where, and what the next run sends.
import { expect } from 'chai';
import { MiB, writeSeeded } from './support/bytes.js';
import { Cutter } from './support/cutter.js';
import { writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { type Scenario, scenario } from './support/scenario.js';

const SIZE = 64 * MiB;
const CUT = 24 * MiB;

/** `same run`: the push that broke succeeds by itself; `resumes`: only what was missing is sent again. */
interface Habit {
  readonly sameRun: boolean;
  readonly resumes: boolean;
}

interface Client {
  readonly name: string;
  readonly habit: Habit;
  push(here: Scenario, host: string, repository: string): Promise<void>;
}

const clients: Client[] = [
  {
    name: 'oras',
    habit: { sameRun: false, resumes: false },
    push: async (here, host, repository) => {
      await here.run('oras', ['push', '--plain-http', `${host}/${repository}:v1`, 'weights.bin']);
    },
  },
  {
    name: 'crane',
    habit: { sameRun: true, resumes: false },
    push: async (here, host, repository) => {
      await here.run('crane', ['push', here.path('layout'), `${host}/${repository}:v1`]);
    },
  },
  {
    name: 'regctl',
    habit: { sameRun: true, resumes: true },
    push: async (here, host, repository) => {
      await here.run('regctl', [
        'registry',
        'set',
        '--tls=disabled',
        '--skip-check',
        '--blob-chunk',
        '4194304',
        '--blob-max',
        '1',
        host,
      ]);
      await here.run('regctl', ['image', 'copy', 'ocidir://layout:v1', `${host}/${repository}:v1`]);
    },
  },
  {
    name: 'skopeo',
    habit: { sameRun: false, resumes: false },
    push: async (here, host, repository) => {
      await here.run('skopeo', [
        '--insecure-policy',
        'copy',
        '--dest-tls-verify=false',
        'oci:layout:v1',
        `docker://${host}/${repository}:v1`,
      ]);
    },
  },
];

describe('a push that breaks off', () => {
  for (const client of clients) {
    describe(`by ${client.name}`, () => {
      const here = scenario(`broken-${client.name}`, [client.name, 'busybox']);

      it(`${client.habit.sameRun ? 'succeeds in the same run' : 'fails'} and ${client.habit.resumes ? 'goes on where it was' : 'begins again'}`, async () => {
        await writeSeeded(here().path('weights.bin'), client.name, SIZE);
        await writeLayout(here().path('layout'), client.name, SIZE);
        const repository = `${here().repository}/broken`;
        const cutter = await Cutter.open(registry().host, CUT);
        try {
          await here().writeDockerLogin(cutter.host);
          const broken = await client.push(here(), cutter.host, repository).catch((error: unknown) => error);
          expect(cutter.cutAt, 'the wire was not cut').to.be.greaterThan(CUT);
          expect(broken === undefined, String(broken)).to.equal(client.habit.sameRun);
          if (broken !== undefined) await client.push(here(), cutter.host, repository);
          const again = cutter.sent - (cutter.cutAt ?? 0);
          console.log(`      ${client.name}: cut after ${cutter.cutAt} bytes, ${again} sent afterwards`);
          expect(again < SIZE).to.equal(client.habit.resumes);
          expect((await ask('HEAD', `/v2/${repository}/manifests/v1`)).status).to.equal(200);
          const before = cutter.sent;
          await client.push(here(), cutter.host, repository);
          expect(cutter.sent - before, 'what is complete is not sent again').to.be.lessThan(MiB);
        } finally {
          await cutter.close();
        }
      });
    });
  }
});
