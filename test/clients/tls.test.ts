import { expect } from 'chai';
import { registry } from './support/registry.js';
import { scenario } from './support/scenario.js';
import { overTls } from './support/tls.js';

(overTls ? describe : describe.skip)('a private CA', () => {
  const here = scenario('ca', ['oras', 'crane', 'regctl', 'skopeo', 'curl', 'oras-py']);
  const ask: Record<string, (host: string) => string[]> = {
    oras: (host) => ['repo', 'tags', `${host}/any/name`],
    crane: (host) => ['ls', `${host}/any/name`],
    regctl: (host) => ['tag', 'ls', `${host}/any/name`],
    skopeo: (host) => ['list-tags', `docker://${host}/any/name`],
    curl: (host) => [`https://${host}/v2/`],
    'oras-py': (host) => ['-c', `import requests; requests.get("https://${host}/v2/")`],
  };

  for (const [client, args] of Object.entries(ask)) {
    it(`is needed by ${client}, which goes no further without`, async () => {
      const nothing = { SSL_CERT_FILE: '/dev/null', REQUESTS_CA_BUNDLE: '', CURL_CA_BUNDLE: '/dev/null' };
      const said = await here().refused(client, args(registry().host), { env: nothing });
      expect(said).to.match(/certificate/i);
    });
  }
});
