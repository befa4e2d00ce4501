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

/** The connection comes with it; nothing may be read of it yet. */
export interface Offer {
  readonly offer: number;
}

/**
 * What the primary tells a worker: what it serves from; which connection it is offered, that it is its own now, or that it
 * went to another; that it gets no more because it asked for that ('left') or because a newer worker has taken its place.
 */
export type ToWorker = ToServe | Offer | { readonly yours: number } | { readonly revoked: number } | 'left' | 'retire';
