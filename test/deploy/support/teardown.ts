import { stopSharedPostgres } from '../../support/postgres.js';
import { disposeEngine } from './images.js';

export const mochaHooks = {
  async afterAll(this: Mocha.Context): Promise<void> {
    this.timeout(120_000);
    await disposeEngine();
    await stopSharedPostgres();
  },
};
