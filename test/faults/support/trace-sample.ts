// What strace wrote of two requests of one session, a PATCH of 400 bytes and a PUT of 300 more, without the calls that
// tell nothing and with the bytes cut out. The checker of traces is tried on it, also where strace is missing.
const ID = '1023693b-d465-4228-82fd-2a64985ca6d7';
const FIRST = `/blobs/9e/${ID}.1.9e7c7b454e58b385`;
const SECOND = `/blobs/65/${ID}.2.65a7bca28f8f1f9b`;
const DATABASE = '23<UNIX-STREAM:[455060->456461]>';

/** A string as strace writes it. */
function quote(bytes: Buffer): string {
  return `"${[...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}"`;
}

function message(type: string, ...parts: (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** The writev by which a statement goes to PostgreSQL: Parse and Bind. */
function run(name: string, text: string, values: readonly string[] = []): string {
  const count = Buffer.alloc(2);
  count.writeUInt16BE(values.length);
  const bound = values.flatMap((value) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(value.length);
    return [length, Buffer.from(value)];
  });
  const parse = message('P', `${name}\0${text}\0`, Buffer.alloc(2));
  const bind = message('B', `\0${name}\0`, Buffer.alloc(2), count, ...bound, Buffer.alloc(4));
  return `10 writev(${DATABASE}, [{iov_base=${quote(parse)}, iov_len=${parse.length}}, {iov_base=${quote(bind)}, iov_len=${bind.length}}], 2) = ${parse.length + bind.length}`;
}

const record = 'update uploads set "offset" = $3 where id = $1 and epoch = $2';
const commit = 'update uploads set committed_digest = $3, body = null where id = $1 and epoch = $2 and "offset" = $4';

/** By the names of what they stand for, so that a test can leave one out or move it. */
export const sample: Readonly<Record<string, readonly string[]>> = {
  patch: [
    `10 read(22<TCP:[127.0.0.1:5000->127.0.0.1:49636]>, "PATCH /v2/a/b/blobs/uploads/${ID} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", 65536) = 80`,
    `11 openat(AT_FDCWD</>, "${FIRST}", O_WRONLY|O_CREAT|O_EXCL|O_TRUNC|O_CLOEXEC, 0640) = 24<${FIRST}>`,
    `12 pwrite64(24<${FIRST}>, "\\1778q\\346("..., 300, 0 <unfinished ...>`,
  ],
  firstFolder: ['13 fsync(25</blobs/9e>) = 0'],
  write: [
    '12 <... pwrite64 resumed>) = 300',
    `11 pwritev(24<${FIRST}>, [{iov_base="\\371X\\274\\0"..., iov_len=60}, {iov_base="a) = 1\\"", iov_len=40}], 2, 300) = 100`,
  ],
  firstData: [`11 fdatasync(24<${FIRST}> <unfinished ...>`, '11 <... fdatasync resumed>) = 0'],
  row: [run('s1', record, [ID, '1', '400'])],
  accepted: [
    `10 write(22<TCP:[127.0.0.1:5000->127.0.0.1:49636]>, "HTTP/1.1 202 Accepted\\r\\nUpload-Offset: 400\\r\\n\\r\\n", 45) = 45`,
  ],
  put: [
    `10 read(22<TCP:[127.0.0.1:5000->127.0.0.1:49648]>, "PUT /v2/a/b/blobs/uploads/${ID}?digest=sha256:8a HTTP/1.1\\r\\n\\r\\n", 65536) = 80`,
    `11 openat(AT_FDCWD</>, "${SECOND}", O_WRONLY|O_CREAT|O_EXCL|O_TRUNC|O_CLOEXEC, 0640) = 24<${SECOND}>`,
    `12 pwrite64(24<${SECOND}>, "L=\\317\\210"..., 300, 0) = 300`,
  ],
  secondData: [`12 fdatasync(24<${SECOND}>) = 0`],
  secondFolder: ['11 fsync(25</blobs/65>) = 0'],
  commit: [run('s2', 'begin'), run('s3', commit, [ID, '2', 'sha256:8a', '700']), run('s4', 'commit')],
  committed: [`10 read(${DATABASE}, "C\\0\\0\\0\\vCOMMIT\\0Z\\0\\0\\0\\5I", 65536) = 28`],
  created: [
    `10 write(22<TCP:[127.0.0.1:5000->127.0.0.1:49648]>, "HTTP/1.1 201 Created\\r\\nLocation: /v2/a/b/blobs/sha256:8a\\r\\n\\r\\n", 60) = 60`,
  ],
};

/** The lines of these parts, in this order. */
export function sampleOf(parts: readonly string[]): string {
  return parts.flatMap((part) => sample[part] ?? []).join('\n');
}
