import type { AddressInfo } from 'node:net';

/** What a worker tells the primary: that its code is loaded, and where it serves. */
export type FromWorker = 'loaded' | { readonly serving: AddressInfo };

/** What the primary tells a worker: the database to serve from, and that a newer worker has taken its place. */
export type ToWorker = { readonly databaseUrl: string } | 'retire';
