import { matches, parsePattern } from '../auth/grants.js';
import { type Config, ConfigError } from '../config.js';
import { RegistryError } from '../errors.js';

/** Which repositories' reads are recorded (REGISTRY_AUDIT_READS). @throws ConfigError */
export function auditedReads(config: Config): (repository: string) => boolean {
  const patterns = config.auditReads.map(readPattern);
  return (repository) => patterns.some((pattern) => matches(pattern, repository));
}

function readPattern(text: string): string {
  try {
    return parsePattern(text);
  } catch (error) {
    if (error instanceof RegistryError) throw new ConfigError([`REGISTRY_AUDIT_READS: ${error.message}`]);
    throw error;
  }
}
