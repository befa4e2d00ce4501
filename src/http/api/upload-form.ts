import { once } from 'node:events';
import { Busboy } from '@fastify/busboy';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { invalid } from '../../metadata/failures.js';
import { readRequest } from '../request-body.js';

type Parser = InstanceType<typeof Busboy>;

/** A file that comes as a request's body: what was said of it, and its bytes. */
export interface UploadedFile {
  readonly fields: Readonly<Record<string, string>>;
  /** The name and type that the form gave the file. */
  readonly filename: string | undefined;
  readonly mediaType: string | undefined;
  /** In bytes; undefined: as many as come. */
  readonly length: number | undefined;
  read(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** More than one file, so that a second is seen and refused rather than left out. */
const LIMITS = { fields: 32, fieldSize: 64 * 1024, fieldNameSize: 100, files: 2, parts: 64, headerPairs: 20 };

/**
 * Reads a form (RFC 7578) up to its file, whose bytes then come as they are asked for: nothing of it is kept in memory or
 * on disk on the way. What comes behind the file is refused, and the file with it.
 * @throws 'Invalid' for what is no such form, or has no file
 */
export async function readForm(
  request: IncomingMessage,
  response: ServerResponse,
  idleMs: number,
): Promise<UploadedFile> {
  const fields: Record<string, string> = {};
  const controller = new AbortController();
  const parser = makeParser(request);
  /** What came behind the file, which is too late to be meant. */
  const behind: string[] = [];
  let atFile = false;
  const file = new Promise<Omit<UploadedFile, 'fields'>>((resolve, reject) => {
    const fail = (message: string) => reject(badForm(message));
    parser.on('field', (name, value, _nameCut, valueCut) => {
      if (atFile) behind.push(name);
      else if (valueCut) fail(`the field ${name} is too long`);
      else if (Object.hasOwn(fields, name)) fail(`the field ${name} comes twice`);
      else fields[name] = value;
    });
    parser.on('file', (name, stream, filename, _encoding, mediaType) => {
      if (atFile) {
        behind.push(name);
        stream.resume();
        return;
      }
      atFile = true;
      resolve({
        filename: filename || undefined,
        mediaType: mediaType || undefined,
        length: undefined,
        async *read(signal) {
          signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
          try {
            yield* stream as AsyncIterable<Uint8Array>;
          } catch (error) {
            throwError((await fed) ?? error);
          }
          const broken = await fed;
          if (broken !== undefined) throwError(broken);
          const issue = { msg: 'the file has to be the last part of the form', type: 'extra_forbidden' };
          if (behind.length > 0) throw invalid(...behind.map((field) => ({ ...issue, loc: ['body', field] })));
        },
      });
    });
    parser.once('finish', () => fail('the form has no file'));
    parser.once('error', (error: Error) => fail(error.message));
  });
  const fed = feed(request, response, idleMs, parser, controller.signal);
  const broken = fed.then((error) => {
    if (error !== undefined) throwError(error);
    return new Promise<never>(() => undefined);
  });
  broken.catch(() => undefined);
  try {
    return { ...(await Promise.race([file, broken])), fields };
  } catch (error) {
    controller.abort(error);
    throw error;
  }
}

function makeParser(request: IncomingMessage): Parser {
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': request.headers['content-type'] ?? '' },
      limits: LIMITS,
    });
  } catch (error) {
    throw badForm((error as Error).message);
  }
}

/** Hands the body to the parser as fast as it takes it. @returns why that broke off, if it did */
async function feed(
  request: IncomingMessage,
  response: ServerResponse,
  idleMs: number,
  parser: Parser,
  signal: AbortSignal,
): Promise<unknown> {
  try {
    for await (const bytes of readRequest(request, response, idleMs, signal))
      if (!parser.write(bytes)) await once(parser, 'drain', { signal });
    const finished = once(parser, 'finish', { signal });
    parser.end();
    await finished;
    return undefined;
  } catch (error) {
    parser.destroy(error as Error);
    return signal.aborted ? signal.reason : error;
  }
}

function throwError(error: unknown): never {
  throw error instanceof Error ? error : new Error('the form broke off', { cause: error });
}

function badForm(message: string) {
  return invalid({ loc: ['body'], msg: `the form can't be read: ${message}`, type: 'form_invalid' });
}
