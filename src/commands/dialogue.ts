/** What the primary and its workers ask each other. */
export type Topic = 'metrics of the worker' | 'metrics of the node' | 'health of the node';

/** The other end of the channel between processes: a worker, or for a worker its own process. */
export interface Peer {
  send?(message: object, done: (error: Error | null) => void): unknown;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  on(event: 'disconnect', listener: () => void): unknown;
}

export interface Dialogue {
  /** Resolves with the answer, however late. @throws Error if the other end failed at it or is gone. */
  ask(topic: Topic): Promise<unknown>;
  /** Tells what was not asked for; resolves when it was handed over, or the other end is gone. */
  tell(topic: Topic, value: unknown): Promise<void>;
}

type Message =
  | { readonly topic: Topic; readonly question: number }
  | { readonly answer: number; readonly value?: unknown; readonly failure?: string }
  | { readonly topic: Topic; readonly news: unknown };

/** Begins to answer the other end's questions. Messages of any other form are left to others. */
export function converse(
  peer: Peer,
  answers: Partial<Record<Topic, () => Promise<unknown>>>,
  news: Partial<Record<Topic, (value: unknown) => void>> = {},
): Dialogue {
  const asked = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let count = 0;
  let gone = false;

  function send(message: Message): Promise<void> {
    // Whether it arrives shows by the answer; a channel that is closed is heard of as 'disconnect'.
    return new Promise((resolve) => {
      if (gone || !peer.send) resolve();
      else peer.send(message, () => resolve());
    });
  }

  async function answer(topic: Topic, question: number): Promise<void> {
    try {
      await send({ answer: question, value: await answers[topic]?.() });
    } catch (error) {
      await send({ answer: question, failure: String(error) });
    }
  }

  peer.on('message', (message) => {
    if (typeof message !== 'object' || message === null) return;
    const heard = message as Message;
    if ('question' in heard) void answer(heard.topic, heard.question);
    else if ('news' in heard) news[heard.topic]?.(heard.news);
    else if ('answer' in heard) {
      const waiting = asked.get(heard.answer);
      asked.delete(heard.answer);
      if (heard.failure === undefined) waiting?.resolve(heard.value);
      else waiting?.reject(new Error(heard.failure));
    }
  });
  peer.on('disconnect', () => {
    gone = true;
    for (const { reject } of asked.values()) reject(new Error('the other process is gone'));
    asked.clear();
  });

  return {
    ask: (topic) =>
      new Promise((resolve, reject) => {
        const question = count++;
        if (gone) {
          reject(new Error('the other process is gone'));
          return;
        }
        asked.set(question, { resolve, reject });
        void send({ topic, question });
      }),
    tell: (topic, value) => send({ topic, news: value }),
  };
}
