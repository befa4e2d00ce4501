import { writeFailure as writeApiFailure } from './api/failures.js';
import { pathOf } from './context.js';
import type { WriteFailure } from './error-response.js';
import { writeFailure as writeOciFailure } from './oci/failures.js';

/** Whether a target, as it was sent, is below /api: the metadata API's, in whose form everything there is answered. */
export function isApiTarget(target: string): boolean {
  return /^(?:https?:\/\/[^/?#]*)?\/api(?:[/?#]|$)/i.test(target);
}

/** Answers a failure in the form of the door that was meant. */
export const writeFailure: WriteFailure = (ctx, error) => {
  const write = isApiTarget(pathOf(ctx.req)) ? writeApiFailure : writeOciFailure;
  write(ctx, error);
};
