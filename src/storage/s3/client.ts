import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

const CONNECT_MS = 5_000;
export const MAX_READ_BYTES = 256 * 1024;

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
  /** How much is read from a connection at once, at most MAX_READ_BYTES; asked before each read. */
  readonly readBytes?: () => number;
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
  const readBytes = options.readBytes ?? (() => MAX_READ_BYTES);
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
    requestHandler: connections(true, readBytes),
  };
  const client = withUnsignedBodies(new S3Client(settings));
  const streamer = withUnsignedBodies(new S3Client({ ...settings, requestHandler: connections(false, readBytes) }));
  return {
    client,
    streamer,
    signer: publicEndpoint ? new S3Client({ ...settings, endpoint: publicEndpoint }) : client,
  };
}

/** The SDK would write to the console; what it says is in its errors. */
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** What arrives on any connection is read into this: many bytes at once, and none of it is garbage. */
const arriving = Buffer.allocUnsafeSlow(MAX_READ_BYTES);

function connections(keepAlive: boolean, readBytes: () => number): NodeHttpHandler {
  const agent = {
    keepAlive,
    // A download holds its connection as long as its client reads: none must wait for that.
    maxSockets: Number.POSITIVE_INFINITY,
    maxFreeSockets: 64,
    onread: {
      buffer: () => arriving.subarray(0, readBytes()),
      // The parser of HTTP is all that listens, and it copies what it passes on.
      callback(this: Socket, count: number, buffer: Uint8Array): boolean {
        this.emit('data', buffer.subarray(0, count));
        return true;
      },
    },
  };
  return new NodeHttpHandler({
    connectionTimeout: CONNECT_MS,
    httpAgent: new HttpAgent(agent),
    httpsAgent: new HttpsAgent(agent),
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
