import type { Context } from '../context.js';

/**
 * Sets the Location of an answer: relative, which is right behind every proxy; absolute for ollama, which takes no other
 * (its uploads fail with a Location that has no host).
 */
export function locate(ctx: Context, path: string): void {
  ctx.set('Location', isOllama(ctx) ? `${ctx.state.client.origin}${path}` : path);
}

/** Whether the client is ollama, whose needs differ from what the specification says. */
export function isOllama(ctx: Context): boolean {
  return /^ollama/i.test(ctx.get('User-Agent'));
}
