// The live socket: one per tab, comes back by itself, keeps who listens to which case.
//
// Owns: connecting and reconnecting, hello and ping, clock offset, the queue, the archivist's presence.
// Never: knows what an event means. Elsewhere: one case's log and commits (case.svelte.ts), media (rtc.svelte.ts).

import type { Call, CaseSummary, ClientMessage, ServerMessage } from '@bindings/command';
import { language } from '../strings/index.svelte';
import { Clock, localUs } from './clock';
import { doubling, type RetryPolicy } from './retry';

export type LinkState = 'connecting' | 'open' | 'waiting' | 'closed';

/** Pings measure the clock; the server closes a socket silent for 15 s. */
const PING_MS = 2_000;
/** Nothing heard for this long: the connection is dead even if the socket has not noticed. */
const SILENT_MS = 12_000;
/** The server answers every ping: two answers are missing. */
const DOUBTFUL_MS = 4_500;

type Listener = (m: ServerMessage) => void;

export class LiveLink {
  state: LinkState = $state('closed');
  /** When the connection was lost; null while it stands. */
  lostSince_ms: number | null = $state(null);
  /** Nothing has come for a while: what was told last may no longer be so. */
  silent = $state(false);
  rtt_ms: number | null = $state(null);
  calls: Call[] | null = $state.raw(null);
  archivist: boolean | null = $state(null);
  /** The newest change of a case, for lists. */
  changed: CaseSummary | null = $state.raw(null);
  readonly clock = new Clock();

  #socket: WebSocket | null = null;
  #listeners = new Set<Listener>();
  #claims = new Map<string, number>();
  #onOpen = new Set<() => void>();
  #onSpoken = new Set<() => void>();
  #attempt = 0;
  #wanted = false;
  #heard = 0;
  #pingTimer = 0;
  #retryTimer = 0;

  constructor(private readonly policy: RetryPolicy = doubling()) {}

  start(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#connect();
    window.addEventListener('online', this.#now);
  }

  stop(): void {
    this.#wanted = false;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#pingTimer);
    window.removeEventListener('online', this.#now);
    this.#socket?.close();
    this.#socket = null;
    this.state = 'closed';
    this.calls = null;
    this.archivist = null;
  }

  /** Server UTC now, ms. */
  now_ms(): number {
    return Math.round((localUs() + this.clock.offset_us) / 1000);
  }

  /** Sends if connected; says whether it went out. Whoever must not lose a message sends it again on open. */
  /** What the server told last holds: it was heard just now. */
  get fresh(): boolean {
    return this.state === 'open' && !this.silent;
  }

  send(m: ClientMessage): boolean {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(m));
    return true;
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Somebody in this page reads this case. */
  claim(caseId: string): void {
    this.#claims.set(caseId, (this.#claims.get(caseId) ?? 0) + 1);
  }

  /** The last reader gone closes the case at the server; the next page may already have opened it. */
  release(caseId: string): void {
    const left = (this.#claims.get(caseId) ?? 1) - 1;
    if (left > 0) this.#claims.set(caseId, left);
    else {
      this.#claims.delete(caseId);
      this.send({ type: 'close_case', case: caseId });
    }
  }

  /** Called now if connected, and at every reconnect. */
  whenOpen(act: () => void): () => void {
    this.#onOpen.add(act);
    if (this.state === 'open') act();
    return () => this.#onOpen.delete(act);
  }

  #now = (): void => {
    if (this.state === 'waiting') {
      clearTimeout(this.#retryTimer);
      this.#connect();
    }
  };

  #connect(): void {
    this.state = 'connecting';
    const url = new URL('/api/v1/live', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heard = Date.now();
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = (e) => this.#received(socket, e.data as string);
    socket.onclose = () => this.#closed(socket);
    clearInterval(this.#pingTimer);
    this.#pingTimer = window.setInterval(() => this.#ping(socket), PING_MS);
  }

  #opened(socket: WebSocket): void {
    if (socket !== this.#socket) return;
    this.#attempt = 0;
    this.#hello();
    this.state = 'open';
    this.lostSince_ms = null;
    this.#ping(socket);
    for (const act of this.#onOpen) act();
  }

  /** Called when the page's language was switched, after the server knows. */
  whenSpoken(act: () => void): () => void {
    this.#onSpoken.add(act);
    return () => this.#onSpoken.delete(act);
  }

  /** The page's language was switched: the server's words follow. */
  speak(): void {
    this.#hello();
    for (const act of this.#onSpoken) act();
  }

  #hello(): void {
    this.send({ type: 'hello', language: language() });
  }

  #ping(socket: WebSocket): void {
    if (socket !== this.#socket) return;
    const silence = Date.now() - this.#heard;
    this.silent = silence > DOUBTFUL_MS;
    if (silence > SILENT_MS) {
      // `close` on a dead network reports late: go on without it.
      socket.close();
      this.#closed(socket);
    } else {
      this.send({ type: 'ping', t0_us: localUs() });
    }
  }

  #received(socket: WebSocket, text: string): void {
    if (socket !== this.#socket) return;
    this.#heard = Date.now();
    this.silent = false;
    let m: ServerMessage;
    try {
      m = JSON.parse(text) as ServerMessage;
    } catch {
      console.warn('live: a message was not JSON and was passed over');
      return;
    }
    if (m.type === 'pong') {
      this.clock.add(m.t0_us, m.server_us, localUs());
      this.rtt_ms = this.clock.rtt_ms;
    } else if (m.type === 'queue') this.calls = m.calls;
    else if (m.type === 'archivist') this.archivist = m.present;
    else if (m.type === 'case_changed') this.changed = m.summary;
    for (const listener of this.#listeners) listener(m);
  }

  #closed(socket: WebSocket): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearInterval(this.#pingTimer);
    this.archivist = null;
    if (!this.#wanted) return;
    this.state = 'waiting';
    this.lostSince_ms ??= Date.now();
    this.#attempt++;
    this.#retryTimer = window.setTimeout(() => this.#connect(), this.policy.delay(this.#attempt));
  }
}
