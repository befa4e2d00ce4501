import { parseArgs, type ParseArgsConfig } from 'node:util';

/** What the operator typed can't be done like that; the message says what can. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What ends a command with an exit code of its own. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  constructor(
    message: string,
    readonly exitCode: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Takes apart what follows a command's name. @throws UsageError with `usage` */
export function readArguments<T extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: T,
  usage: string,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (cause) {
    throw new UsageError(`${(cause as Error).message}\n\n${usage}`, { cause });
  }
}
