/**
 * What a worker tells the primary: that its code is loaded, that it serves, that it shall get no more connections, what
 * became of those that were offered to it, and how many of its own have ended since it last said so.
 */
export type FromWorker =
  | 'loaded'
  | 'serving'
  | 'leaving'
  | { readonly have: number; readonly ended: number }
  | { readonly freed: number; readonly ended: number }
  | { readonly ended: number };

/** What a worker has to know to serve: the database, and the id of the key that each start makes where there is none. */
export interface ToServe {
  readonly databaseUrl: string;
  readonly madeKey: string;
}

/**
 * About connections, by their numbers: one that is the worker's own now, one that it is offered, which comes with the
 * message (nothing may be read of it yet), and one that it was offered and that goes to another.
 */
export interface Deal {
  readonly yours: number | undefined;
  readonly offer?: number;
  readonly revoked?: number;
}

/**
 * What the primary tells a worker: what it serves from; what becomes of connections; that it gets no more because it asked
 * for that ('left') or because a newer worker has taken its place.
 */
export type ToWorker = ToServe | Deal | 'left' | 'retire';
