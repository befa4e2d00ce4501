#!/usr/bin/env node
// Fetches the real clients that test/clients and test/conformance drive, at pinned versions, through package managers
// alone (go, apt, pip), into a cache outside the checkout. Names as arguments install just those.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const cacheHome = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
const cache = process.env.WEIGHHOUSE_CLIENTS || join(cacheHome, 'weighhouse', 'clients');
const modules = join(dirname(fileURLToPath(import.meta.url)), 'clients');

// `module` means: built by the go.mod of that folder, because the proxy gives the version but no list of versions,
// which `go install` insists on. `cgo` means: it has parts in C++.
const goTools = [
  {
    name: 'conformance',
    version: 'v0.0.0-20260831232431-97274622c111',
    path: 'github.com/opencontainers/distribution-spec/conformance',
  },
  { name: 'crane', version: 'v0.22.1', path: 'github.com/google/go-containerregistry/cmd/crane' },
  { name: 'regctl', version: 'v0.11.7', path: 'github.com/regclient/regclient/cmd/regctl' },
  { name: 'oras', version: 'v1.3.6', path: 'oras.land/oras/cmd/oras' },
  {
    name: 'notation',
    version: 'v1.3.2',
    path: 'github.com/notaryproject/notation/cmd/notation',
    module: 'github.com/notaryproject/notation',
  },
  { name: 'modctl', version: 'v0.2.2', path: 'github.com/modelpack/modctl', module: 'github.com/modelpack/modctl' },
  { name: 'helm', version: 'v3.22.0', path: 'helm.sh/helm/v3/cmd/helm' },
  { name: 'cosign2', version: 'v2.6.5', path: 'github.com/sigstore/cosign/v2/cmd/cosign' },
  { name: 'cosign3', version: 'v3.1.3', path: 'github.com/sigstore/cosign/v3/cmd/cosign' },
  { name: 'buildx', version: 'v0.38.2', path: 'github.com/docker/buildx/cmd/buildx' },
  {
    name: 'compose',
    version: 'v2.40.3',
    path: 'github.com/docker/compose/v2/cmd',
    module: 'github.com/docker/compose/v2',
  },
  // A program of our own over Kubernetes' types.
  { name: 'kubernetes-types', version: 'v0.32.3', path: '.', module: 'k8s.io/client-go' },
  { name: 'ollama', version: 'v0.6.5', path: 'github.com/ollama/ollama', cgo: true },
];

// Each in an environment of its own, so that none decides on the versions of the other's packages.
const pythonTools = [
  { name: 'oras-py', folder: 'venv', packages: ['oras==0.2.43', 'numpy==2.4.6', 'safetensors==0.8.0', 'gguf==0.19.0'] },
  { name: 'schemathesis', folder: 'schemathesis', packages: ['schemathesis==4.32.5'] },
];

// Debian pins these by its release. `docker` is in docker.io up to Debian 12 and in docker-cli from 13 on.
const debianTools = [
  { name: 'skopeo', packages: ['skopeo'] },
  { name: 'podman', packages: ['podman'] },
  { name: 'buildah', packages: ['buildah'] },
  { name: 'dockerd', packages: ['docker.io'] },
  { name: 'docker', packages: ['docker-cli', 'docker.io'] },
  { name: 'containerd', packages: ['containerd'] },
  { name: 'ctr', packages: ['containerd'], version: ['version'] },
  { name: 'busybox', packages: ['busybox-static'], version: [] },
  { name: 'nginx', packages: ['nginx-light'], version: ['-v'] },
  { name: 'strace', packages: ['strace'] },
  { name: 'curl', packages: ['curl'] },
  { name: 'ip', packages: ['iproute2'], version: ['-V'] },
  { name: 'debootstrap', packages: ['debootstrap'] },
  { name: 'openssl', packages: ['openssl'], version: ['version'] },
  // Of the benchmark, and only when they are named.
  { name: 'wrk', packages: ['wrk'], isExtra: true },
  { name: 'docker-registry', packages: ['docker-registry'], isExtra: true },
];

const failures = [];
const versions = new Map();
const wanted = new Set(process.argv.slice(2));
const isWanted = (name) => wanted.size === 0 || wanted.has(name);

process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);

function find(command) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => existsSync(file));
}

/** Runs a command and throws its last line of complaint. */
function run(command, args, { cwd, env, quiet } = {}) {
  return new Promise((done, fail) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let complaint = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.stderr.on('data', (data) => {
      complaint += data;
      if (!quiet) process.stderr.write(data);
    });
    child.on('error', fail);
    child.on('close', (code, signal) => {
      if (code === 0) return done(output);
      const lines = `${output}\n${complaint}`.split('\n').filter((line) => line.trim() !== '');
      fail(new Error(lines.at(-1)?.trim() ?? `${command} ended with ${code ?? signal}`));
    });
  });
}

/** One file a tool, so that two installs beside each other can't lose each other's entries. */
const stamp = (name) => join(cache, 'versions', name);
const stamped = (name) => (existsSync(stamp(name)) ? readFileSync(stamp(name), 'utf8').trim() : undefined);

async function attempt(name, work) {
  const begun = Date.now();
  try {
    await work();
    console.log(`${name}: done in ${Math.round((Date.now() - begun) / 1000)} s`);
  } catch (error) {
    failures.push(`${name}: ${error.message}`);
  }
}

async function installGoTool({ name, version, path, module, cgo }) {
  const target = join(cache, 'bin', name);
  if (stamped(name) !== version || !existsSync(target)) {
    await attempt(name, async () => {
      if (!find('go')) throw new Error('go is not on PATH');
      if (cgo && !find('g++')) await aptInstall(['g++']);
      console.log(`${name}: building ${path}@${version}`);
      const place = mkdtempSync(join(cache, 'build-'));
      try {
        // Two compilers at a time: modest on a shared machine. No cgo where it can be: that needs no C compiler.
        const flags = ['-p', '2', '-trimpath', '-ldflags=-s -w'];
        const env = { CGO_ENABLED: cgo ? '1' : '0', GOBIN: place };
        let built = join(place, path.split('/').at(-1));
        if (module) {
          built = join(place, name);
          const cwd = join(modules, name);
          const required = await run('go', ['list', '-m', '-f', '{{.Version}}', module], { cwd, env, quiet: true });
          if (required.trim() !== version) throw new Error(`its go.mod asks for ${required.trim()}, not ${version}`);
          await run('go', ['build', '-mod=readonly', ...flags, '-o', built, path], { cwd, env, quiet: true });
        } else {
          await run('go', ['install', ...flags, `${path}@${version}`], { cwd: place, env, quiet: true });
        }
        renameSync(built, target);
        writeFileSync(stamp(name), `${version}\n`);
      } finally {
        rmSync(place, { recursive: true, force: true });
      }
    });
  }
  if (stamped(name) === version && existsSync(target)) versions.set(name, version);
}

async function installPython({ name, folder, packages }) {
  const pins = packages.join(' ');
  const venv = join(cache, folder);
  if (stamped(name) !== pins || !existsSync(join(venv, 'bin', 'python'))) {
    await attempt(name, async () => {
      if (!find('python3')) throw new Error('python3 is not on PATH');
      rmSync(venv, { recursive: true, force: true });
      // Debian keeps what venv needs in a package of its own.
      if (spawnSync('python3', ['-c', 'import ensurepip']).status !== 0) await aptInstall(['python3-venv']);
      await run('python3', ['-m', 'venv', venv], { quiet: true });
      const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages];
      await run(join(venv, 'bin', 'python'), pip);
      writeFileSync(stamp(name), `${pins}\n`);
    });
  }
  if (stamped(name) === pins) versions.set(name, pins);
}

let listsAreFresh = false;

async function aptInstall(packages) {
  if (process.getuid?.() !== 0) throw new Error(`not root: apt-get install ${packages.join(' ')}`);
  if (!find('apt-get')) throw new Error('no apt-get here');
  if (!listsAreFresh) await run('apt-get', ['-qq', 'update']);
  listsAreFresh = true;
  // RUNLEVEL=1 keeps Debian's scripts from starting nginx and dockerd as services.
  const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const args = ['install', '-qq', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120', ...packages];
  await run('apt-get', args, { env, quiet: true });
}

async function installDebianTool({ name, packages, version = ['--version'] }) {
  if (!find(name)) {
    await attempt(name, async () => {
      let refused;
      for (const candidate of packages) {
        try {
          await aptInstall([candidate]);
        } catch (error) {
          refused = error;
        }
        if (find(name)) return;
      }
      throw refused ?? new Error(`${packages.join(' and ')} brought no ${name}`);
    });
  }
  if (!find(name)) return;
  const said = spawnSync(name, version, { encoding: 'utf8' });
  const lines = `${said.stdout}\n${said.stderr}`.split('\n').map((line) => line.trim());
  versions.set(name, lines.find((line) => /\d+\.\d+/.test(line)) ?? 'unknown');
}

mkdirSync(join(cache, 'bin'), { recursive: true });
mkdirSync(join(cache, 'versions'), { recursive: true });
for (const tool of debianTools)
  if (tool.isExtra ? wanted.has(tool.name) : isWanted(tool.name)) await installDebianTool(tool);
for (const tool of pythonTools) if (isWanted(tool.name)) await installPython(tool);
for (const tool of goTools) if (isWanted(tool.name)) await installGoTool(tool);

console.log(`\nIn ${cache}:`);
for (const [name, version] of versions) console.log(`  ${name.padEnd(12)} ${version}`);
for (const failure of failures) console.log(`not installed: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;
