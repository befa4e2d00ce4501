// Loaded into a registry (`node --import`), it shifts what its processes take for the time; monotonic time stays.
const shiftMs = Number(process.env.TEST_CLOCK_SECONDS) * 1000;
const trueNow = Date.now.bind(Date);
const now = () => trueNow() + shiftMs;

globalThis.Date = new Proxy(Date, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object,
  apply: () => new Date(now()).toString(),
  get: (target, name, receiver) => (name === 'now' ? now : (Reflect.get(target, name, receiver) as unknown)),
});
