import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'chai';
import { loadContract } from '../../../src/commands/contract-files.js';
import { isFailure } from '../../../src/errors.js';
import { Contract, type ContractDocument, type RawRequest, resolve } from '../../../src/http/api/contract.js';
import { createAjv } from '../../../src/http/api/schemas.js';
import { RULE } from '../../../src/http/api/issues.js';
import type { Issue } from '../../../src/metadata/failures.js';

const ID = '3f0c9a52-7d0e-4c55-9c1c-0a4a3c3f5b11';

type Node = Readonly<Record<string, unknown>>;

describe('the contract of the metadata API', () => {
  let document: ContractDocument;
  let contract: Contract;

  before(async () => {
    document = await loadContract();
    contract = await Contract.of(document);
  });

  const schemas = () => Object.entries(document.components.schemas as Record<string, Node>);

  function check(id: string, { path = {}, query = '', header = {}, body }: Partial<Parts> = {}) {
    const raw: RawRequest = { path, query: new URLSearchParams(query), header, body };
    return contract.operation(id).check(raw);
  }

  function issuesOf(id: string, parts: Partial<Parts>): Issue[] {
    try {
      check(id, parts);
    } catch (error) {
      if (isFailure(error, 'Invalid')) return error.detail?.issues as Issue[];
      throw error;
    }
    throw new Error('nothing was found to be wrong');
  }

  /** Places and kinds alone. */
  function faultsOf(id: string, parts: Partial<Parts>): string[] {
    return issuesOf(id, parts)
      .map(({ loc, type }) => `${loc.join('.')} ${type}`)
      .sort();
  }

  describe('as a document', () => {
    it('has schemas that are JSON Schema 2020-12 and compile strictly', () => {
      const meta = new Ajv2020({ allErrors: true, strict: false });
      const ajv = createAjv(document, 'contract');
      expect(schemas().length).to.be.greaterThan(50);
      for (const [name, schema] of schemas()) {
        expect(meta.validateSchema(schema), `${name}: ${meta.errorsText(meta.errors)}`).to.equal(true);
        expect(ajv.getSchema(`contract#/components/schemas/${name}`), name).to.be.a('function');
      }
    });

    it('says in words what each pattern of a request means', () => {
      const rules: unknown[] = [];
      const look = (node: unknown, at: string): void => {
        if (typeof node !== 'object' || node === null) return;
        const { pattern, [RULE]: rule } = node as Node;
        if (typeof pattern === 'string') {
          expect(rule, at).to.be.a('string');
          rules.push(rule);
        }
        for (const [name, child] of Object.entries(node)) if (name !== 'responses') look(child, `${at}/${name}`);
      };
      const { parameters, schemas: named } = document.components as Record<string, Node>;
      const { Issue: _answered, ...asked } = named ?? {};
      look({ parameters, schemas: asked, paths: document.paths }, '');
      expect(rules).to.have.length.greaterThan(30);
    });

    it('has references that lead somewhere', () => {
      const references = [...JSON.stringify(document).matchAll(/"\$ref":"(#[^"]+)"/g)].map(
        ([, reference]) => reference,
      );
      expect(references.length).to.be.greaterThan(100);
      for (const reference of new Set(references)) resolve(document, reference ?? '');
    });

    it('has examples that its own schemas take', () => {
      const ajv = createAjv(document, 'contract');
      let examples = 0;
      const look = (schema: Node, pointer: string): void => {
        for (const example of (schema.examples as unknown[] | undefined) ?? []) {
          const validate = ajv.getSchema(`contract#${pointer}`);
          examples += 1;
          expect(validate?.(example), `${pointer}: ${JSON.stringify(example)}`).to.equal(true);
        }
        for (const [name, property] of Object.entries((schema.properties as Record<string, Node> | undefined) ?? {}))
          look(property, `${pointer}/properties/${name}`);
      };
      for (const [name, schema] of schemas()) look(schema, `/components/schemas/${name}`);
      expect(examples).to.be.greaterThan(80);
    });

    it('demands only fields that it has, in every object', () => {
      for (const [name, schema] of schemas()) {
        const known = Object.keys((schema.properties as Node | undefined) ?? {});
        const branches = [schema, ...((schema.anyOf ?? []) as Node[]), ...((schema.allOf ?? []) as Node[])].flatMap(
          (branch) => [branch, ...((branch.anyOf ?? []) as Node[])],
        );
        for (const { required = [] } of branches as { required?: string[] }[])
          expect(known, name).to.include.members(required);
      }
    });

    it('leaves no object open but metadata, facts and details', () => {
      const open: string[] = [];
      const look = (node: unknown, at: string): void => {
        if (typeof node !== 'object' || node === null) return;
        const { type, properties, additionalProperties } = node as Node;
        if (
          [type].flat().includes('object') &&
          (properties || additionalProperties === true) &&
          additionalProperties !== false
        )
          open.push(at);
        for (const [name, child] of Object.entries(node)) if (name !== 'examples') look(child, `${at}/${name}`);
      };
      look({ components: document.components, paths: document.paths }, '');
      expect(open.sort()).to.deep.equal([
        '/components/schemas/AuditLog/properties/details',
        '/components/schemas/Event/properties/details',
        '/components/schemas/Facts',
        '/components/schemas/Metadata',
        '/paths//releases/{id}/manifest/get/responses/200/content/*/*/schema',
      ]);
    });

    it('names each operation once and says what it does', () => {
      const ids = new Set<unknown>();
      for (const [path, item] of Object.entries(document.paths as Record<string, Record<string, Node>>))
        for (const [method, operation] of Object.entries(item)) {
          if (method === 'parameters') continue;
          expect(ids.has(operation.operationId), `${method} ${path}`).to.equal(false);
          ids.add(operation.operationId);
          for (const field of ['operationId', 'summary', 'description', 'tags', 'responses'])
            expect(operation[field], `${method} ${path}: ${field}`).to.satisfy(
              (value: unknown) => value !== undefined && Object.keys(value as object).length > 0,
            );
        }
      expect(ids.size).to.be.greaterThan(40);
    });
  });

  describe('as a check of requests', () => {
    it('gives typed parameters, with their defaults', () => {
      expect(check('listModels').query).to.include({ limit: 50, sort: '-created_at', total: false });
      const { query } = check('listModels', { query: 'limit=7&total=true&tags=a,b&tags=c&parameter_count=7B..13B' });
      expect(query).to.include({ limit: 7, total: true, parameter_count: '7B..13B' });
      expect(query.tags).to.deep.equal(['a', 'b', 'c']);
    });

    it('puts no defaults into bodies', () => {
      const body = { description: 'new' };
      expect(check('updateModel', { path: { model: 'polaris' }, body }).body).to.deep.equal({ description: 'new' });
    });

    it('names every fault at once, each at its place', () => {
      const body = {
        storage_path: 'Acme/Polaris',
        parameter_count: '7X',
        immutable: 'yes',
        tags: ['chat', 'a,b'],
        description: 'x'.repeat(20_001),
        metadata: [],
        colour: 'blue',
      };
      const header = { 'idempotency-key': 'with a space' };
      expect(faultsOf('createModel', { body, header, query: 'colour=1' })).to.deep.equal([
        'body.colour extra_forbidden',
        'body.description string_too_long',
        'body.immutable bool_type',
        'body.metadata dict_type',
        'body.name missing',
        'body.parameter_count string_pattern_mismatch',
        'body.storage_path string_pattern_mismatch',
        'body.tags.1 string_pattern_mismatch',
        'header.Idempotency-Key string_pattern_mismatch',
        'query.colour extra_forbidden',
      ]);
    });

    it('counts places in lists by numbers, and names that look like numbers by names', () => {
      const grants = [{ repository: 'acme/**', actions: ['pull', 'fly'] }, { repository: '**' }];
      const places = issuesOf('createApiKey', { body: { name: 'ci', grants } }).map(({ loc }) => loc);
      expect(places).to.deep.include.members([
        ['body', 'grants', 0, 'actions', 1],
        ['body', 'grants', 1, 'actions'],
      ]);
      const body = { metadata: { '7': '\u0000' } };
      expect(issuesOf('updateModel', { path: { model: 'a' }, body })[0]?.loc).to.deep.equal(['body', 'metadata', '7']);
    });

    it('says in words what is wrong', () => {
      const messages = issuesOf('createModel', { body: { name: ID, tags: 7, storage_path: 'A' } }).map(
        ({ msg }) => msg,
      );
      expect(messages).to.have.members([
        'must be neither a UUID nor . or .., and without control characters and spaces at its ends',
        'must be a list',
        'must be lower-case letters and digits, separated by one of . _ / or by __ or -',
      ]);
    });

    it('says once that one of two fields is needed', () => {
      expect(faultsOf('createModel', { body: { name: 'polaris' } })).to.deep.equal(['body.storage_path missing']);
      expect(faultsOf('createRelease', { body: {} })).to.deep.equal(['body.model_id missing', 'body.version missing']);
      check('createModel', { body: { name: 'polaris', repository: 'acme/polaris' } });
    });

    it('grants admin with the pattern ** alone', () => {
      const body = (repository: string, actions: string[]) => ({
        body: { name: 'ci', grants: [{ repository, actions }] },
      });
      check('createApiKey', body('**', ['admin']));
      check('createApiKey', body('acme/**/x*', ['pull', 'deploy']));
      expect(faultsOf('createApiKey', body('acme/**', ['admin']))).to.deep.equal([
        'body.grants.0.repository literal_error',
      ]);
      expect(faultsOf('createApiKey', body('acme/a**', []))).to.deep.equal([
        'body.grants.0.actions too_short',
        'body.grants.0.repository string_pattern_mismatch',
      ]);
    });

    it('takes no text for a number or a truth, nor a parameter twice', () => {
      expect(faultsOf('listModels', { query: 'limit=1e2&total=1' })).to.deep.equal([
        'query.limit int_type',
        'query.total bool_type',
      ]);
      expect(faultsOf('listModels', { query: 'limit=0' })).to.deep.equal(['query.limit greater_than_equal']);
      expect(faultsOf('listModels', { query: 'limit=1001' })).to.deep.equal(['query.limit less_than_equal']);
      expect(faultsOf('listModels', { query: 'limit=1&limit=2' })).to.deep.equal(['query.limit repeated']);
      expect(
        faultsOf('createDeployment', { body: { release_id: ID, environment: 'prod', replicas: '2' } }),
      ).to.deep.equal(['body.replicas int_type']);
    });

    it('answers an id that is none as one that is not there', () => {
      for (const [id, path] of [
        ['getRelease', { id: 'seven' }],
        ['getModel', { model: '\u0000' }],
        ['getModel', { model: 'x'.repeat(256) }],
      ] as const)
        expect(() => check(id, { path }))
          .to.throw()
          .with.property('failure', 'NotFound');
      check('getModel', { path: { model: 'Polaris 7B' } });
    });

    it('finds fault with a name in the path that can be none', () => {
      expect(faultsOf('getAlias', { path: { model: 'polaris', alias: '.prod' } })).to.deep.equal([
        'path.alias string_pattern_mismatch',
      ]);
      expect(faultsOf('listCurrentDeployments', { path: { environment: 'a b' } })).to.deep.equal([
        'path.environment string_pattern_mismatch',
      ]);
    });

    it('takes no text that PostgreSQL can not hold, wherever it is, and says so once a place', () => {
      const body = {
        name: 'a\u0000',
        storage_path: 'a',
        metadata: { '\ud800': 1, deep: [{ text: '\udc00' }], big: Number.POSITIVE_INFINITY },
      };
      expect(faultsOf('createModel', { body })).to.deep.equal([
        'body.metadata.big finite_number',
        'body.metadata.deep.0.text string_unicode',
        'body.metadata.\ud800 string_unicode',
        'body.name string_unicode',
      ]);
      expect(faultsOf('listModels', { query: 'q=%00' })).to.deep.equal(['query.q string_unicode']);
    });

    it('takes times that a calendar has, with their zone', () => {
      const body = (expires_at: unknown) => ({ body: { name: 'ci', grants: [], expires_at } });
      for (const time of ['2030-02-28T12:00:00Z', '2030-02-28T12:00:00.123+02:00', null])
        check('createApiKey', body(time));
      for (const time of [
        '2030-02-30T12:00:00Z',
        '2030-02-28T12:00:00',
        '2016-12-31T23:59:60Z',
        '0000-01-01T00:00:00Z',
        'soon',
      ])
        expect(faultsOf('createApiKey', body(time)), time).to.deep.equal(['body.expires_at datetime_parsing']);
    });

    it('stops at a hundred faults, and looks into no body of ten thousand values', () => {
      const grants = Array.from({ length: 400 }, () => ({ repository: '', actions: 1 }));
      expect(issuesOf('createApiKey', { body: { name: 'ci', grants } })).to.have.lengthOf(100);
      const many = { name: 'ci', grants: Array.from({ length: 20_000 }, () => 1) };
      expect(faultsOf('createApiKey', { body: many })).to.deep.equal(['body too_complex']);
    });

    it('is not led astray by names that every object has', () => {
      const body = JSON.parse('{"__proto__": 1, "constructor": 2}') as unknown;
      expect(faultsOf('updateModel', { path: { model: 'a' }, body, query: '__proto__=1' })).to.deep.equal([
        'body.__proto__ extra_forbidden',
        'body.constructor extra_forbidden',
        'query.__proto__ extra_forbidden',
      ]);
    });

    it('compiles what an operation needs in little time', () => {
      let slowest = 0;
      for (const item of Object.values(document.paths as Record<string, Record<string, Node>>))
        for (const { operationId } of Object.values(item)) {
          if (operationId === undefined) continue;
          const begun = process.cpuUsage();
          contract.operation(String(operationId)).compile();
          slowest = Math.max(slowest, process.cpuUsage(begun).user / 1000);
        }
      // Milliseconds of this processor; about ten where nothing else runs.
      expect(slowest).to.be.lessThan(250);
    });
  });
});

interface Parts {
  readonly path: Readonly<Record<string, string>>;
  readonly query: string;
  readonly header: Readonly<Record<string, string>>;
  readonly body: unknown;
}
