/**
 * Whether the node is on its way out (SIGTERM), for whoever tells balancers about its health. Each process has its own:
 * workers are told by the primary. A worker that only makes way for a newer one (SIGHUP) is not draining.
 */
export interface Draining {
  readonly draining: boolean;
}
