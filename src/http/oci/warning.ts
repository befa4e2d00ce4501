import type { Context } from '../context.js';

/** Sends a warning that clients show to their users (distribution-spec, "Warnings"). */
export function warn(ctx: Context, message: string): void {
  ctx.append('Warning', `299 - "${message.replaceAll(/[\\"]/g, '\\$&')}"`);
}
