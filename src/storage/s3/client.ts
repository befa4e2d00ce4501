import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { readByArrivals } from './arrivals.js';

const CONNECT_MS = 5_000;

export interface S3Options {
  /** Empty: that of AWS for the region. */
  readonly endpoint: string;
  /** By which clients reach it; empty: by the same. */
  readonly publicEndpoint?: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** What every name begins with: empty, or ending in `/`. */
  readonly prefix: string;
  readonly forcePathStyle: boolean;
  /** How long one request may take, in seconds. */
  readonly timeoutSeconds: number;
}

/** The SDK's clients, set up for what RGW is. They repeat nothing: that is decided for each request. */
export function openClients(options: S3Options): {
  client: S3Client;
  /** For what is sent once: on connections of its own, as a kept one may just be closed by the other side. */
  streamer: S3Client;
  /** Only signs. */
  signer: S3Client;
} {
  const { endpoint, publicEndpoint, region, accessKeyId, secretAccessKey, forcePathStyle } = options;
  const settings: S3ClientConfig = {
    ...(endpoint !== '' && { endpoint }),
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle,
    // Otherwise streams go out in chunks with a checksum behind them, which RGW answers with 411.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 1,
    expectContinueHeader: false,
    logger: silent,
    requestHandler: connections(true),
  };
  const client = withUnsignedBodies(new S3Client(settings));
  const streamer = withUnsignedBodies(new S3Client({ ...settings, requestHandler: connections(false) }));
  return {
    client,
    streamer,
    signer: publicEndpoint ? new S3Client({ ...settings, endpoint: publicEndpoint }) : client,
  };
}

/** The SDK would write to the console; what it says is in its errors. */
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function connections(keepAlive: boolean): NodeHttpHandler {
  // A download holds its connection as long as its client reads: none must wait for that.
  const options = { keepAlive, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: 64 };
  return new NodeHttpHandler({
    connectionTimeout: CONNECT_MS,
    httpAgent: readByArrivals(new HttpAgent(options)),
    httpsAgent: readByArrivals(new HttpsAgent(options)),
  });
}

/** Content-MD5 and ETags vouch for bodies; their SHA-256 in the signature would cost a core. */
function withUnsignedBodies(client: S3Client): S3Client {
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers, method } = args.request as { headers: Record<string, string>; method: string };
      if (method === 'PUT') headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'unsignedBodies' },
  );
  return client;
}
