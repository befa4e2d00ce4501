import type { IncomingMessage } from 'node:http';

/** Who wants to know of bytes of content, while they pass: an upload of hours shows before it ends. */
export interface TrafficObserver {
  received(bytes: number): void;
  sent(bytes: number): void;
}

/** The bytes of content of one request and of its response so far; heads are not counted. */
export class Traffic {
  received = 0;
  sent = 0;
  readonly #observer: TrafficObserver;

  constructor(observer: TrafficObserver) {
    this.#observer = observer;
  }

  receive(bytes: number): void {
    this.received += bytes;
    this.#observer.received(bytes);
  }

  send(bytes: number): void {
    this.sent += bytes;
    this.#observer.sent(bytes);
  }
}

const counted = new WeakMap<IncomingMessage, Traffic>();

/** Begins to count the bytes of a request. */
export function countTraffic(request: IncomingMessage, observer: TrafficObserver): Traffic {
  const traffic = new Traffic(observer);
  counted.set(request, traffic);
  return traffic;
}

/** Where the bytes of a request are counted, if they are. */
export function trafficOf(request: IncomingMessage): Traffic | undefined {
  return counted.get(request);
}
