/**
 * Starts the real programs in a folder of their own, on free ports, and ends exactly those.
 *
 * Owns: the processes, their settings and their logs. Never: a port or a file that another run could share.
 * Elsewhere: what people do with them (`story.spec.ts`), the Rust tests' own kit (`tests/src/world.rs`).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '../..');
export const binaries = process.env['LOTSE_PROGRAMS'] ?? join(root, 'target/debug');
const workshop = ['workshop.webm', 'workshop.mp4'].map((f) => join(root, 'tests/footage', f)).find(existsSync) ?? '';
const bikes = join(root, '.tools/footage/bikes-voice.mp4');

/** A program may take this long until it says that it is ready, ms: a cold start on a busy machine. */
const READY_MS = 60_000;

export type Account = { user: string; password: string; name: string };

/** One line of a pair of glasses' hud.jsonl: what was presented, when. */
export type Presented = Record<string, unknown> & { screen: string };

class Program {
  private child: ChildProcess | undefined;
  /** What the program said on its ready line. */
  ready: Record<string, unknown> = {};

  constructor(
    readonly name: string,
    private readonly binary: string,
    private readonly args: string[],
    private readonly env: Record<string, string>,
    private readonly logs: string,
  ) {}

  async start(): Promise<this> {
    const child = spawn(join(binaries, this.binary), this.args, {
      env: { ...process.env, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    const log = createWriteStream(join(this.logs, `${this.name}.log`), { flags: 'a' });
    child.stderr.pipe(log, { end: false });
    this.ready = await new Promise((done, fail) => {
      let text = '';
      const timer = setTimeout(() => fail(new Error(`${this.name}: not ready after ${READY_MS} ms`)), READY_MS);
      child.on('exit', (code) => fail(new Error(`${this.name}: ended with ${code}, see ${this.logs}/${this.name}.log`)));
      child.stdout.on('data', (data: Buffer) => {
        log.write(data);
        text += data.toString();
        const line = text.split('\n').find((l) => l.includes('"ready"'));
        if (line && text.includes('\n')) {
          clearTimeout(timer);
          done(JSON.parse(line) as Record<string, unknown>);
        }
      });
    });
    return this;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Ends it; `SIGKILL` is the power cut. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.child;
    this.child = undefined;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill(signal);
    const force = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await gone;
    clearTimeout(force);
  }
}

/** A pair of simulated glasses by its folder, wherever its program runs: words go in, and what it shows can be seen. */
export class Worn {
  constructor(readonly folder: string) {}

  /** Says a word on the input socket, as a button or a voice would. */
  say(word: string): Promise<string> {
    return new Promise((done, fail) => {
      const socket = createConnection(join(this.folder, 'input.sock'), () => socket.write(`${word}\n`));
      socket.once('data', (data) => {
        socket.end();
        const line = data.toString().trim();
        if (line.startsWith('ok')) done(line);
        else fail(new Error(line));
      });
      socket.once('error', fail);
    });
  }

  /** Everything the display has shown so far. */
  shown(): Presented[] {
    const file = join(this.folder, 'hud', 'hud.jsonl');
    if (!existsSync(file)) return [];
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((l) => l.endsWith('}'))
      .map((l) => JSON.parse(l) as Presented);
  }

  /** The newest picture of the display, PNG. */
  picture(): Buffer {
    const last = this.shown().at(-1);
    return readFileSync(join(this.folder, 'hud', String(last?.['file'])));
  }

  /** What came out of the glasses' speaker so far: mono samples, -1 to 1, 48 kHz. */
  heard(): Float32Array {
    const wav = readFileSync(join(this.folder, 'speaker.wav'));
    const at = wav.indexOf('data', 12, 'latin1') + 8;
    const samples = new Int16Array(wav.buffer.slice(wav.byteOffset + at, wav.byteOffset + at + ((wav.length - at) & ~1)));
    return Float32Array.from(samples, (s) => s / 32768);
  }
}

/** A pair of simulated glasses that this kit has started. */
export class Glasses extends Worn {
  constructor(
    readonly program: Program,
    readonly wear: string,
    folder: string,
  ) {
    super(folder);
  }

  /** What the wear page's /state says now. */
  async state(): Promise<Record<string, unknown>> {
    const reply = await fetch(new URL('/state', this.wear));
    return (await reply.json()) as Record<string, unknown>;
  }
}

/** A simulated link: what reaches the server by its address goes through it. */
export class Link {
  constructor(
    readonly program: Program,
    private readonly file: string,
  ) {}

  get url(): string {
    return String(this.program.ready['url']);
  }

  /** In words as `tests/examples/relay.rs` reads them. */
  set(words: string): void {
    writeFileSync(this.file, words);
  }
}

export class Programs {
  private readonly env: Record<string, Record<string, string>> = {};
  accounts: Account[] = [];
  server!: Program;
  archivist!: Program;
  glasses: Glasses[] = [];
  /** What was started by `link`, by name. */
  readonly links: Record<string, Link> = {};
  url = '';

  private constructor(
    readonly folder: string,
    private readonly helmets: readonly string[],
    private readonly glassesEnv: Record<string, string>,
    private readonly linked = false,
  ) {}

  /** `glassesEnv`: settings of the glasses besides. `linked`: each pair reaches the server over a simulated link of its name. */
  static async start(
    helmets: readonly string[] = ['helmet-1', 'helmet-2'],
    glassesEnv: Record<string, string> = {},
    linked = false,
  ): Promise<Programs> {
    const programs = new Programs(mkdtempSync(join(tmpdir(), 'lotse-story-')), helmets, glassesEnv, linked);
    try {
      await programs.startAll();
    } catch (e) {
      await programs.stop();
      throw e;
    }
    return programs;
  }

  /** A server alone, with a certificate authority of its own; `url` is its plain address, as a phone first meets it. */
  static async withOwnAuthority(): Promise<Programs> {
    const programs = new Programs(mkdtempSync(join(tmpdir(), 'lotse-story-')), [], {});
    const [http] = await freePorts(1);
    const env = {
      LOTSE_HTTP_LISTEN: `127.0.0.1:${http}`,
      LOTSE_DATA_DIR: join(programs.folder, 'server'),
      LOTSE_DATA_KEYS: join(programs.folder, 'server-keys'),
      LOTSE_MEDIA_UDP_PORT: '0',
      LOTSE_TLS_FROM: 'own-ca',
    };
    programs.url = `http://127.0.0.1:${http}`;
    try {
      const made = spawnSync(join(binaries, 'lotse-server'), ['admin', 'make-ca'], { env: { ...process.env, ...env }, encoding: 'utf8' });
      if (made.status !== 0) throw new Error(`make-ca: ${made.stderr}`);
      programs.server = await programs.program('server', 'lotse-server', ['serve'], env).start();
    } catch (e) {
      await programs.stop();
      throw e;
    }
    return programs;
  }

  private async startAll(): Promise<void> {
    const [http, archive, ...wear] = await freePorts(4);
    const serverEnv = {
      LOTSE_HTTP_LISTEN: `127.0.0.1:${http}`,
      LOTSE_DATA_DIR: join(this.folder, 'server'),
      LOTSE_DATA_KEYS: join(this.folder, 'server-keys'),
      LOTSE_MEDIA_UDP_PORT: '0',
      LOTSE_ARCHIVE_URL: `http://127.0.0.1:${archive}`,
      LOTSE_PAGES_DIR: process.env['LOTSE_PAGES'] ?? join(root, 'web-expert/dist'),
    };
    this.url = `http://127.0.0.1:${http}`;
    this.env['server'] = serverEnv;
    const said = this.admin(['seed-demo'])
      .split('\n')
      .filter((l) => l.startsWith('{'))
      .map((l) => JSON.parse(l) as Record<string, string>);
    this.accounts = said.filter((l) => l['kind'] === 'account') as unknown as Account[];
    const code = (name: string) => said.find((l) => l['kind'] === 'pairing' && l['name'] === name)?.['code'] ?? '';

    this.server = await this.program('server', 'lotse-server', ['serve'], serverEnv).start();
    this.archivist = await this.program('archivist', 'lotse-archivist', ['serve'], {
      LOTSE_SERVER_URL: this.url,
      LOTSE_SERVER_PAIRING_CODE: code('archivist'),
      LOTSE_HTTP_LISTEN: `127.0.0.1:${archive}`,
      LOTSE_DATA_DIR: join(this.folder, 'archivist'),
      LOTSE_DATA_KEYS: join(this.folder, 'archivist-keys'),
    }).start();
    for (const [i, name] of this.helmets.entries()) {
      const folder = join(this.folder, name);
      mkdirSync(join(folder, 'hud'), { recursive: true });
      const program = this.program(name, 'lotse-glass', ['run'], {
        LOTSE_SERVER_URL: this.linked ? (await this.link(name)).url : this.url,
        LOTSE_SERVER_PAIRING_CODE: code(name),
        LOTSE_DATA_DIR: join(folder, 'data'),
        LOTSE_CAMERA_SOURCE: `file:${i === 0 ? workshop : bikes}`,
        LOTSE_SOUND_MICROPHONE: 'file',
        LOTSE_SOUND_SPEAKER: `wav:${join(folder, 'speaker.wav')}`,
        LOTSE_HUD_DISPLAYS: `web:127.0.0.1:${wear[i]},png:${join(folder, 'hud')}`,
        LOTSE_HUD_LANGUAGE: 'en',
        LOTSE_INPUT_SOURCES: `socket:${join(folder, 'input.sock')}`,
        LOTSE_DEVICE_NAME: name,
        LOTSE_DEVICE_WEARER: i === 0 ? 'Mara Krüger' : 'Jonas Lind',
        LOTSE_CALL_ON_START: 'true',
        LOTSE_CALL_TITLE: i === 0 ? 'Mechanical seal leaks' : 'Rental bike loses its chain',
        LOTSE_CALL_ASSET: i === 0 ? 'p-204' : 'dock-12',
        ...this.glassesEnv,
      });
      this.glasses.push(new Glasses(await program.start(), `http://127.0.0.1:${wear[i]}`, folder));
    }
  }

  /** Another way to the server, that can be made bad. */
  async link(name: string, seed = 1): Promise<Link> {
    const file = join(this.folder, `${name}.link`);
    writeFileSync(file, 'direct');
    const program = await this.program(`${name}-link`, 'examples/relay', [this.url, '127.0.0.1:0', file, String(seed)], {}).start();
    return (this.links[name] = new Link(program, file));
  }

  /** What an administrator types beside the server; what it prints. */
  admin(words: string[]): string {
    const env = { ...process.env, ...this.env['server'] };
    const done = spawnSync(join(binaries, 'lotse-server'), ['admin', ...words], { env, encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`${words.join(' ')}: ${done.stderr}`);
    return done.stdout;
  }

  account(user: string): Account {
    const found = this.accounts.find((a) => a.user === user);
    if (!found) throw new Error(`no demo account ${user}`);
    return found;
  }

  private program(name: string, binary: string, args: string[], env: Record<string, string>): Program {
    this.env[name] = env;
    return new Program(name, binary, args, env, this.folder);
  }

  /** Ends everything and removes the folder, unless `LOTSE_KEEP` is set. */
  async stop(): Promise<void> {
    await Promise.all(this.glasses.map((g) => g.program.stop()));
    await this.archivist?.stop();
    await this.server?.stop();
    await Promise.all(Object.values(this.links).map((l) => l.program.stop()));
    if (!process.env['LOTSE_KEEP']) rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Ports nobody listens on right now. */
async function freePorts(n: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: n },
      () =>
        new Promise<ReturnType<typeof createServer>>((done) => {
          const s = createServer().listen(0, '127.0.0.1', () => done(s));
        }),
    ),
  );
  const ports = servers.map((s) => (s.address() as { port: number }).port);
  await Promise.all(servers.map((s) => new Promise((done) => s.close(done))));
  return ports;
}
