import type { AddressInfo } from 'node:net';

/** What a worker tells the primary: that its code is loaded, and where it serves. */
export type FromWorker = 'loaded' | { readonly serving: AddressInfo };

/** What a worker has to know to serve: the database, and the id of the key that each start makes where there is none. */
export interface ToServe {
  readonly databaseUrl: string;
  readonly madeKey: string;
}

/** What the primary tells a worker: what it serves from, and that a newer worker has taken its place. */
export type ToWorker = ToServe | 'retire';
