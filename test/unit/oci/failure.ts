import { expect } from 'chai';
import { type Failure, RegistryError } from '../../../src/errors.js';

/** Runs `run`, which must throw a RegistryError of `failure` whose message matches. */
export function expectFailure(run: () => unknown, failure: Failure, message: RegExp = /./): void {
  const error = thrownBy(run);
  expect(error).to.be.instanceOf(RegistryError);
  if (!(error instanceof RegistryError)) return;
  expect(error.failure).to.equal(failure);
  expect(error.message).to.match(message);
}

/** What `run` throws, undefined if it ends. */
export function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Runs `run` on a hostile input; anything worse than linear time takes minutes at these sizes. */
export function expectQuick(run: () => unknown): void {
  const start = performance.now();
  thrownBy(run);
  expect(performance.now() - start).to.be.lessThan(5000);
}
