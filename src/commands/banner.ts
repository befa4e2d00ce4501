import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import type { Config } from '../config.js';
import { adminKeyPath } from './admin-key.js';
import { placeOfBlobs } from './storage.js';

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
  const kept = newKey !== undefined || existsSync(adminKeyPath(config));
  // Another node made it, or it was once a setting.
  const whereabouts = config.adminKey ? 'REGISTRY_ADMIN_KEY' : kept ? `in ${keyFile}` : 'not on this machine';
  const given = config.adminKey ? '<<< "$REGISTRY_ADMIN_KEY"' : kept ? `< ${keyFile}` : '<<< "$KEY"';
  return [
    '',
    `Weighhouse serves ${secure ? 'https' : 'http'}://${registry} with ${config.workers} worker${config.workers === 1 ? '' : 's'}`,
    `  blobs       ${placeOfBlobs(config)}`,
    `  PostgreSQL  ${place ?? 'REGISTRY_DATABASE_URL'}`,
    `  admin key   ${newKey ? `${newKey}   (shown this once, kept in ${keyFile})` : whereabouts}`,
    ...(config.operationsListen
      ? [`  operations  http://${addressOf(config.operationsListen)}/health and /metrics, for a closed network`]
      : []),
    '',
    `  oras login ${plain}${registry} -u admin --password-stdin ${given}`,
    `  oras push ${plain}${registry}/team/model:v1.0-fp16 ./model.safetensors`,
    `  oras pull ${plain}${registry}/team/model:v1.0-fp16 -o ./pulled`,
    '',
    '',
  ].join('\n');
}

function addressOf({ host, port }: { host: string; port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
