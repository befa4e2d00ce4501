import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { api } from '../support/api.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';

const SCRIPT = fileURLToPath(new URL('../../../scripts/seed-demo.mjs', import.meta.url));

type Item = Readonly<Record<string, unknown>>;

describe('the set for trying things out', () => {
  let server: TestServer;
  const said: string[] = [];
  /** How much had happened after each run. */
  const recorded: number[] = [];

  before(async function () {
    this.timeout(240_000);
    server = await startServer();
    for (let run = 1; run <= 2; run++) {
      const child = spawn(process.execPath, [SCRIPT, '--url', server.url], {
        env: { WEIGHHOUSE_KEY: ADMIN_KEY, ...(server.authority ? { NODE_EXTRA_CA_CERTS: server.authority.file } : {}) },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let text = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (text += data.toString()));
      const [code] = (await once(child, 'close')) as [number | null];
      expect(code, text).to.equal(0);
      said.push(text);
      const events = await Promise.all((await list('/models')).map((model) => list(`/models/${model.id}/events`)));
      recorded.push(events.flat().length);
    }
  });
  after(async () => await server.dispose());

  async function list(path: string): Promise<readonly Item[]> {
    const joined = `${path}${path.includes('?') ? '&' : '?'}limit=1000`;
    return (await api<{ items: readonly Item[] }>(server, 'GET', joined)).body.items;
  }

  const namesOf = (items: readonly Item[], field: string) => items.map((item) => item[field]).sort();

  it('tells at the second time that all is there, and changes nothing', () => {
    expect(said[0]).to.match(/Borealis 8B Instruct \(new\) .* 9 \(9 new\)/);
    expect(said[1]).to.match(/Borealis 8B Instruct {2,}nordlicht\S+ +modelpack +9 /);
    expect(said[1]).not.to.include('new');
    expect(recorded[0]).to.be.greaterThan(50);
    expect(recorded[1]).to.equal(recorded[0]);
  });

  it('has models of six companies, whose releases are what was pushed', async () => {
    const models = await list('/models');
    expect(new Set(models.map((model) => model.company))).to.have.property('size', 6);
    for (const model of models) {
      expect(model.description, `${model.name}`).to.match(/^# /);
      const releases = await list(`/models/${model.id}/releases`);
      expect(releases.length).to.be.greaterThan(3);
      for (const release of releases.filter(({ status }) => status !== 'draft'))
        expect(release).to.have.nested.property('facts.packaging').that.is.oneOf(['modelpack', 'docker', 'files']);
      expect(await list(`/models/${model.id}/aliases`)).not.to.be.empty;
    }
    expect(
      namesOf(
        models.filter((model) => model.immutable),
        'name',
      ),
    ).to.deep.equal(['Triage 13B']);
  });

  it('finds v10 newer than v2', async () => {
    const latest = await api(server, 'GET', '/releases/latest?model=Ear%20base&quantization=FP16');
    expect(latest.body.tag).to.equal('v10-fp16');
  });

  it('runs in three environments, of which one was rolled back', async () => {
    expect(namesOf(await list('/environments'), 'name')).to.deep.equal(['dev', 'prod', 'staging']);
    const there = await list('/deployments?model=Borealis%208B%20Instruct&environment=prod');
    const byTag = Object.fromEntries(there.map((deployment) => [deployment.tag, deployment.status]));
    expect(byTag).to.deep.equal({ 'v1.0-int8': 'superseded', 'v1.1-int8': 'active', 'v2.0-int8': 'superseded' });
  });

  it('has a draft with files, a release that is deprecated, and one with a report and a signature', async () => {
    const [draft, ...others] = await list('/releases?status=draft');
    expect(others).to.be.empty;
    const files = await list(`/releases/${draft?.id}/artifacts`);
    expect(namesOf(files, 'path')).to.deep.equal(['README.md', 'config.json', 'model.safetensors', 'tokenizer.json']);
    expect(namesOf(await list('/releases?status=deprecated'), 'tag')).to.deep.equal(['v1.0-bf16']);
    const attached = await list('/artifacts?kind=attached');
    expect(namesOf(attached, 'name')).to.deep.equal(['evaluation.json', 'signature.jws']);
    expect(new Set(attached.map((artifact) => artifact.release_id))).to.have.property('size', 1);
  });

  it('consists of weights whose headers say what they are', async () => {
    const formats = { safetensors: 0, gguf: 0 };
    for (const format of ['safetensors', 'gguf'] as const)
      for (const artifact of await list(`/artifacts?format=${format}`)) {
        const { bytes } = await api(server, 'GET', `/artifacts/${artifact.id}/download`);
        expect(bytes.length).to.equal(artifact.size_bytes);
        if (format === 'gguf') checkGguf(bytes, String(artifact.name));
        else checkSafetensors(bytes);
        formats[format]++;
      }
    expect(formats.safetensors).to.be.greaterThan(20);
    expect(formats.gguf).to.equal(9);
  });
});

const NUMBERS: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, I8: 1, U8: 1, I32: 4 };

/** That the header names every byte behind it once, in order, as many as type and shape come to. */
function checkSafetensors(bytes: Buffer): void {
  const length = Number(bytes.readBigUInt64LE(0));
  expect(length % 8).to.equal(0);
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  expect(header).to.have.nested.property('__metadata__.format', 'pt');
  let end = 0;
  for (const [name, tensor] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    expect(tensor.data_offsets[0], name).to.equal(end);
    end += tensor.shape.reduce((all, one) => all * one, 1) * (NUMBERS[tensor.dtype] ?? Number.NaN);
    expect(tensor.data_offsets[1], name).to.equal(end);
  }
  expect(bytes.length).to.equal(8 + length + end);
}

/** By llama.cpp's number of the type: numbers of a block, and its bytes. */
const BLOCKS: Readonly<Record<number, readonly [number, number]>> = {
  0: [1, 4],
  1: [1, 2],
  8: [32, 34],
  12: [256, 144],
};
const FILE_TYPES: Readonly<Record<number, string>> = { 1: 'F16', 7: 'Q8_0', 15: 'Q4_K_M' };

/** That keys, tensors and bytes are as many as its head says, and of the type that its name says. */
function checkGguf(bytes: Buffer, name: string): void {
  let at = 0;
  const take = (size: number) => {
    at += size;
    return bytes.subarray(at - size, at);
  };
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const text = () => take(u64()).toString();
  const value = (type: number): unknown => {
    if (type === 4) return u32();
    if (type === 8) return text();
    expect(type, 'an array').to.equal(9);
    const [of, length] = [u32(), u64()];
    return Array.from({ length }, () => value(of));
  };
  expect(take(4).toString('latin1')).to.equal('GGUF');
  expect(u32()).to.equal(3);
  const [tensors, pairs] = [u64(), u64()];
  const facts = new Map<string, unknown>();
  for (let pair = 0; pair < pairs; pair++) facts.set(text(), value(u32()));
  const architecture = String(facts.get('general.architecture'));
  expect(architecture).to.match(/^(llama|qwen2)$/);
  expect(facts.get('general.name')).to.be.a('string').that.is.not.empty;
  expect(facts.get(`${architecture}.context_length`)).to.be.greaterThan(1000);
  expect(name).to.include(`-${FILE_TYPES[Number(facts.get('general.file_type'))]}.gguf`);
  let end = 0;
  for (let tensor = 0; tensor < tensors; tensor++) {
    text();
    const count = Array.from({ length: u32() }, u64).reduce((all, one) => all * one, 1);
    const [numbers, size] = BLOCKS[u32()] ?? [Number.NaN, Number.NaN];
    expect(u64(), 'where a tensor begins').to.equal(end);
    end += Math.ceil(((count / numbers) * size) / 32) * 32;
  }
  expect(bytes.length).to.equal(Math.ceil(at / 32) * 32 + end);
}
