// Runs the specification's own conformance program on a registry of ours: both profiles, with one worker and with two.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { clustered, clusteredMissing, stopClustered } from '../clients/support/clustered.js';
import { findClient } from '../clients/support/scenario.js';
import { type RunningRegistry, startWeighhouse } from '../clients/support/weighhouse.js';
import { type Result, readReport } from './report.js';

const skipsFile = fileURLToPath(new URL('../../../spec/conformance-skips.json', import.meta.url));

// Everything that is optional is on, in both profiles. SPARSE stays off: its image lacks a blob, which we refuse.
const optional = {
  OCI_API_BLOBS_UPLOAD_CANCEL: 'true',
  OCI_API_BLOBS_DIGEST_HEADER: 'true',
  OCI_API_BLOBS_MOUNT_ANONYMOUS: 'true',
  OCI_API_BLOBS_ATOMIC: 'true',
  OCI_API_MANIFESTS_DIGEST_HEADER: 'true',
  OCI_API_MANIFESTS_TAG_PARAM: 'true',
  OCI_API_MANIFESTS_ATOMIC: 'true',
  OCI_API_TAGS_ATOMIC: 'true',
  OCI_DATA_SPARSE: 'false',
};

interface Outcome {
  passed: number;
  failed: number;
  skipped: Result[];
}

async function runProgram(program: string, registry: RunningRegistry, profile: string, name: string): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-conformance-'));
  const child = spawn(program, [], {
    cwd: folder,
    env: {
      HOME: folder,
      ...optional,
      OCI_REGISTRY: registry.host,
      OCI_TLS: 'disabled',
      OCI_USERNAME: registry.user,
      OCI_PASSWORD: registry.key,
      OCI_REPO1: `conformance/${name}/one`,
      OCI_REPO2: `conformance/${name}/two`,
      OCI_VERSION: profile,
      OCI_LOG: 'error',
      OCI_RESULTS_DIR: join(folder, 'results'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const insist = setTimeout(() => child.kill('SIGKILL'), 300_000);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    const { counts, tests, verdicts } = readReport(text);
    const failures = [...tests, ...verdicts].filter(({ status }) => ['FAIL', 'Error', 'Unknown'].includes(status));
    for (const failure of failures)
      console.log(`  ${failure.status} ${failure.name}\n    ${failure.complaints.join('\n    ')}`);
    // A program that broke off said too little to be believed.
    const brokeOff = !counts.get('Total') || verdicts.length === 0;
    if (brokeOff || (code !== 0 && failures.length === 0)) {
      console.log(`  the program ended with ${code}; it said:\n${text.slice(-2000)}`);
    }
    return {
      passed: counts.get('Pass') ?? 0,
      failed: (counts.get('FAIL') ?? 0) + (counts.get('Error') ?? 0) || (code === 0 && !brokeOff ? 0 : 1),
      skipped: [...tests, ...verdicts].filter(({ status }) => ['Skip', 'Disabled'].includes(status)),
    };
  } finally {
    clearTimeout(insist);
    await rm(folder, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const program = findClient('conformance');
  if (program === undefined) {
    console.log('not run: conformance: the program is not installed (npm run clients:install)');
    return process.env.REQUIRE_ALL === '1' ? 1 : 0;
  }
  const missing = clusteredMissing();
  if (missing) {
    console.log(`not run: conformance on several nodes: ${missing}`);
    return process.env.REQUIRE_ALL === '1' ? 1 : 0;
  }
  const accepted = JSON.parse(await readFile(skipsFile, 'utf8')) as { name: string; reason: string }[];
  const acceptedNames = new Set(accepted.map(({ name }) => name));
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const workers of clustered ? [2] : [1, 2]) {
    const registry = await startWeighhouse({ workers });
    try {
      for (const profile of ['1.1', 'dev']) {
        const { passed, failed, skipped } = await runProgram(program, registry, profile, `v${profile}-${workers}`);
        const unlisted = skipped.filter(({ name }) => !acceptedNames.has(name));
        for (const one of unlisted)
          console.log(`  not in spec/conformance-skips.json: ${one.name} ${one.complaints.join(' ')}`);
        const nodes = clustered ? 'three nodes, each ' : '';
        console.log(
          `${profile}, ${nodes}${workers} worker(s): ${passed} passed, ${failed} failed, ${skipped.length} skipped`,
        );
        total.passed += passed;
        total.failed += failed + unlisted.length;
        total.skipped += skipped.length - unlisted.length;
      }
    } finally {
      await registry.stop();
    }
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 ? 0 : 1;
}

process.exitCode = await main().finally(stopClustered);
