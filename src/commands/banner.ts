import { relative } from 'node:path';
import type { Config } from '../config.js';
import { adminKeyPath } from './admin-key.js';

/** What the operator sees when the registry is up: where it is, and lines to paste. */
export function banner(
  config: Config,
  listening: { address: string; port: number },
  place: string | undefined,
  newKey: string | undefined,
): string {
  const registry = addressOf({ host: listening.address, port: listening.port });
  const secure = config.tlsCert !== '';
  const plain = secure ? '' : '--plain-http ';
  const keyFile = relative(process.cwd(), adminKeyPath(config)) || adminKeyPath(config);
  return [
    '',
    `Weighhouse serves ${secure ? 'https' : 'http'}://${registry} with ${config.workers} worker${config.workers === 1 ? '' : 's'}`,
    `  blobs       ${config.filesystemRoot}`,
    `  PostgreSQL  ${place ?? 'REGISTRY_DATABASE_URL'}`,
    newKey
      ? `  admin key   ${newKey}   (shown this once, kept in ${keyFile})`
      : `  admin key   ${config.adminKey ? 'REGISTRY_ADMIN_KEY' : `in ${keyFile}`}`,
    ...(config.operationsListen
      ? [`  operations  http://${addressOf(config.operationsListen)}/health and /metrics, for a closed network`]
      : []),
    '',
    `  oras login ${plain}${registry} -u admin --password-stdin ${config.adminKey ? '<<< "$REGISTRY_ADMIN_KEY"' : `< ${keyFile}`}`,
    `  oras push ${plain}${registry}/team/model:v1.0-fp16 ./model.safetensors`,
    `  oras pull ${plain}${registry}/team/model:v1.0-fp16 -o ./pulled`,
    '',
    '',
  ].join('\n');
}

function addressOf({ host, port }: { host: string; port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
