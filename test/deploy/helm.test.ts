// The chart, linted and rendered by the real helm, and what it renders held against the registry.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseAllDocuments } from 'yaml';
import { readConfig } from '../../src/config.js';
import { notRun } from '../support/not-run.js';
import { find, ROOT, run } from './support/run.js';

const CHART = join(ROOT, 'deploy/helm/weighhouse');
const SETS = ['small', 'production', 'folder'] as const;
/** helm alone takes itself for an old Kubernetes. */
const CLUSTER = ['--kube-version', '1.31.0'];

// biome-ignore lint/suspicious/noExplicitAny: manifests of Kubernetes are what they are.
type Manifest = any;

const valuesOf = (name: string) => ['--values', join(ROOT, 'test/deploy/values', `${name}.yaml`)];

/** What helm makes of the values, as text. */
async function template(name: string): Promise<string> {
  const args = ['template', 'wh', CHART, '--namespace', 'models', ...CLUSTER, ...valuesOf(name)];
  return (await run('helm', args)).stdout;
}

async function render(name: string): Promise<Manifest[]> {
  const documents = parseAllDocuments(await template(name));
  for (const document of documents) expect(document.errors).to.deep.equal([]);
  return documents.map((document) => document.toJS() as Manifest).filter((manifest) => manifest !== null);
}

/** The refusal of what can't be rendered. */
async function refusal(...args: string[]): Promise<string> {
  const { code, stderr } = await run('helm', ['template', 'wh', CHART, ...CLUSTER, ...args], { mayFail: true });
  expect(code).not.to.equal(0);
  return stderr;
}

function of(manifests: readonly Manifest[], kind: string): Manifest {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  expect(found, kind).to.have.lengthOf(1);
  return found[0];
}

describe('the Helm chart', () => {
  before(function () {
    if (!find('helm')) notRun(this, 'helm', 'it is not installed (npm run clients:install)');
  });

  it('is without a fault for helm lint, whatever is chosen', async () => {
    for (const name of SETS) await run('helm', ['lint', '--strict', CHART, ...CLUSTER, ...valuesOf(name)]);
  });

  it('starts the registry with settings that it takes', async () => {
    for (const name of SETS) {
      const manifests = await render(name);
      const [container] = of(manifests, 'Deployment').spec.template.spec.containers;
      const named = Object.fromEntries(container.env.map((one: Manifest) => [one.name, 'from-a-secret']));
      const environment = {
        ...of(manifests, 'ConfigMap').data,
        ...named,
        REGISTRY_DATABASE_URL: 'postgres://a:b@c:5432/d',
      };
      for (const value of Object.values(environment)) expect(value, name).to.be.a('string');
      const config = readConfig(environment as Record<string, string>);
      expect(config.storage, name).to.equal(name === 'folder' ? 'filesystem' : 's3');
      if (name === 'production') expect(config.publicUrl).to.equal('https://registry.example');
      const ports = Object.fromEntries(container.ports.map((port: Manifest) => [port.name, port.containerPort]));
      expect(ports).to.deep.equal({ http: config.listen.port, operations: config.operationsListen?.port });
    }
  });

  it('asks the registry how it is where it answers, and gives it time to end', async () => {
    const routes = await readFile(join(ROOT, 'src/http/ops/routes.ts'), 'utf8');
    for (const name of SETS) {
      const manifests = await render(name);
      const pod = of(manifests, 'Deployment').spec.template.spec;
      const [container] = pod.containers;
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        const { path, port } = container[probe].httpGet;
        expect(port).to.equal(probe === 'readinessProbe' ? 'http' : 'operations');
        expect(routes).to.contain(`'${path}'`);
      }
      expect(container.readinessProbe.httpGet.path).to.equal('/health');
      const { REGISTRY_DRAIN_DELAY: delay, REGISTRY_DRAIN_TIMEOUT: timeout } = of(manifests, 'ConfigMap').data;
      expect(pod.terminationGracePeriodSeconds).to.be.greaterThan(Number(delay) + Number(timeout) + 10);
      // It is noticed before connections are refused.
      const { periodSeconds, failureThreshold } = container.readinessProbe;
      expect(Number(delay)).to.be.greaterThan(periodSeconds * failureThreshold);
    }
  });

  it('runs it without rights and never with fewer nodes than were asked for', async () => {
    for (const name of SETS) {
      const manifests = await render(name);
      const { strategy, template, replicas } = of(manifests, 'Deployment').spec;
      expect(strategy.rollingUpdate).to.deep.equal({ maxUnavailable: 0, maxSurge: 1 });
      expect(template.spec.securityContext).to.include({ runAsNonRoot: true, runAsUser: 1000 });
      const [container] = template.spec.containers;
      expect(container.securityContext).to.deep.equal({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      });
      expect(container.resources.limits.memory).to.be.a('string');
      expect(template.spec.topologySpreadConstraints[0].labelSelector.matchLabels).to.deep.equal(
        of(manifests, 'Deployment').spec.selector.matchLabels,
      );
      const budgets = manifests.filter(({ kind }) => kind === 'PodDisruptionBudget');
      // One for a single node would keep its machine from ever being emptied.
      expect(budgets.length).to.equal(replicas > 1 ? 1 : 0);
    }
  });

  it('refers to what is there: labels, ports, volumes, secrets, accounts', async () => {
    const outside = { Secret: ['database', 'admin', 'bucket-claim'], PersistentVolumeClaim: ['blobs'] };
    for (const name of SETS) {
      const manifests = await render(name);
      const { selector, template } = of(manifests, 'Deployment').spec;
      expect(template.metadata.labels).to.include(selector.matchLabels);
      const service = of(manifests, 'Service');
      expect(template.metadata.labels).to.include(service.spec.selector);
      const [container] = template.spec.containers;
      const ports = container.ports.map((port: Manifest) => port.name);
      for (const { targetPort } of service.spec.ports) expect(ports).to.include(targetPort);
      for (const { kind, spec } of manifests) {
        if (kind === 'PodDisruptionBudget') expect(spec.selector.matchLabels).to.deep.equal(selector.matchLabels);
        if (kind !== 'Ingress') continue;
        const backend = spec.rules[0].http.paths[0].backend.service;
        expect(backend).to.deep.equal({ name: service.metadata.name, port: { name: service.spec.ports[0].name } });
      }
      const volumes = template.spec.volumes.map((volume: Manifest) => volume.name);
      expect(container.volumeMounts.map((mount: Manifest) => mount.name)).to.deep.equal(volumes);
      for (const volume of template.spec.volumes)
        if (volume.persistentVolumeClaim)
          expect(outside.PersistentVolumeClaim).to.include(volume.persistentVolumeClaim.claimName);
      for (const { valueFrom } of container.env) {
        const { name: secret, key } = valueFrom.secretKeyRef;
        const made = manifests.find((one) => one.kind === 'Secret' && one.metadata.name === secret);
        if (made) expect(Buffer.from(made.data[key], 'base64').toString()).to.match(/^\S+$/);
        else expect(outside.Secret).to.include(secret);
      }
      const { configMapRef } = container.envFrom[0];
      expect(of(manifests, 'ConfigMap').metadata.name).to.equal(configMapRef.name);
      const accounts = manifests.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name);
      expect([...accounts, 'default']).to.include(template.spec.serviceAccountName);
    }
  });

  it('is made of what Kubernetes itself knows, field by field', async function () {
    if (!find('kubernetes-types')) notRun(this, 'kubernetes-types', 'it is not installed (npm run clients:install)');
    for (const name of SETS) {
      const { stdout } = await run('kubernetes-types', [], { input: await template(name) });
      expect(stdout).to.contain('apps/v1, Kind=Deployment');
    }
    const wrong = (await template('small')).replace('readOnlyRootFilesystem', 'readOnlyRootFileSystem');
    const refused = await run('kubernetes-types', [], { input: wrong, mayFail: true });
    expect([refused.code, refused.stderr]).to.satisfy(
      ([code, said]: [number, string]) => code === 1 && said.includes('readOnlyRootFileSystem'),
    );
  });

  it('has ingress-nginx pass bodies on as deploy/nginx does', async () => {
    const { annotations } = of(await render('production'), 'Ingress').metadata;
    const said = (name: string) => annotations[`nginx.ingress.kubernetes.io/${name}`];
    expect([said('proxy-body-size'), said('proxy-request-buffering'), said('proxy-buffering')]).to.deep.equal([
      '0',
      'off',
      'off',
    ]);
    expect(said('proxy-next-upstream')).to.equal('off');
    expect(annotations['cert-manager.io/cluster-issuer']).to.equal('internal');
  });

  it('shows no secret but in a Secret, and makes an admin key where none is given', async () => {
    const manifests = await render('small');
    const others = JSON.stringify(manifests.filter(({ kind }) => kind !== 'Secret'));
    expect(others).not.to.match(/weighhouse:secret|"secret"/);
    const key = Buffer.from(of(manifests, 'Secret').data['admin-key'], 'base64').toString();
    expect(key).to.match(/^[A-Za-z0-9]{40}$/);
  });

  it('refuses values that can not be meant, and asks for those that are missing', async () => {
    expect(await refusal()).to.match(/is needed/);
    expect(await refusal(...valuesOf('small'), '--set', 'storage.s3.bucket=')).to.contain(
      'storage.s3.bucket is needed',
    );
    for (const wrong of [
      'replicas=0',
      'storage.kind=nfs',
      'unknown=1',
      'settings.OTHER=x',
      'settings.REGISTRY_LISTEN=x',
    ])
      expect(await refusal(...valuesOf('small'), '--set', wrong), wrong).to.match(/schema/);
  });

  it('is taken by a cluster, where there is one', function () {
    console.log('not run: Kubernetes: there is no cluster here; what is rendered is held against the registry alone');
    this.skip();
  });
});
