// From what the browser counts to what a person may read: one leg, measured, nothing guessed.
//
// Owns: reading a stats report and the difference of two. Never: asks the browser, formats. Elsewhere: showing (ui/LinkPill.svelte).

/** Any entry of a report: names and meanings as in webrtc-stats of the W3C. */
export type Entry = Record<string, unknown> & { id: string; type: string; timestamp: number };
export type Report = Iterable<Entry>;

export interface Stream {
  codec: string | null;
  kbps: number | null;
  loss_pct: number | null;
  jitter_ms: number | null;
}

export interface PictureFacts extends Stream {
  width: number | null;
  height: number | null;
  fps: number | null;
  /** Since the picture began. */
  dropped: number | null;
  frozen: number | null;
}

export interface PathFacts {
  rtt_ms: number | null;
  /** DTLS version and the cipher of the media, as negotiated; null until it stands. */
  dtls: string | null;
  srtp: string | null;
  /** "udp", "tcp", or "relay/tls" where a relay is on the way. */
  protocol: string | null;
  local: string | null;
  remote: string | null;
}

export interface LinkFacts {
  path: PathFacts;
  picture: PictureFacts | null;
  voice: Stream | null;
  /** My own voice on its way to the server. */
  mine: Stream | null;
}

/** The facts of this moment; `before` is a report of about a second ago, for rates. `mids`: lines of the person the pill is about. */
export function linkFacts(now: Report, before: Report | null, mids: ReadonlySet<string>): LinkFacts {
  const all = new Map([...now].map((e) => [e.id, e]));
  const old = new Map([...(before ?? [])].map((e) => [e.id, e]));
  const list = [...all.values()];
  const inbound = (kind: string) => list.find((e) => e.type === 'inbound-rtp' && e['kind'] === kind && mids.has(String(e['mid'])));
  const picture = inbound('video');
  const voice = inbound('audio');
  const mine = list.find((e) => e.type === 'outbound-rtp' && e['kind'] === 'audio');
  const codec = (e: Entry) => text(all.get(String(e['codecId']))?.['mimeType'])?.split('/')[1] ?? null;
  const received = (e: Entry): Stream => ({
    codec: codec(e),
    kbps: rate(e, old.get(e.id), 'bytesReceived'),
    loss_pct: share(e, old.get(e.id)),
    jitter_ms: times(e['jitter'], 1000),
  });
  const heard = mine && list.find((e) => e.type === 'remote-inbound-rtp' && e['localId'] === mine.id);
  return {
    path: path(list, all),
    picture: picture
      ? {
          ...received(picture),
          width: times(picture['frameWidth'], 1),
          height: times(picture['frameHeight'], 1),
          fps: times(picture['framesPerSecond'], 1),
          dropped: times(picture['framesDropped'], 1),
          frozen: times(picture['freezeCount'], 1),
        }
      : null,
    voice: voice ? received(voice) : null,
    mine: mine
      ? { codec: codec(mine), kbps: rate(mine, old.get(mine.id), 'bytesSent'), loss_pct: times(heard?.['fractionLost'], 100), jitter_ms: times(heard?.['jitter'], 1000) }
      : null,
  };
}

function path(list: readonly Entry[], all: ReadonlyMap<string, Entry>): PathFacts {
  const transport = list.find((e) => e.type === 'transport');
  const pair = all.get(String(transport?.['selectedCandidatePairId'])) ?? list.find((e) => e.type === 'candidate-pair' && e['nominated'] === true);
  const local = all.get(String(pair?.['localCandidateId']));
  const remote = all.get(String(pair?.['remoteCandidateId']));
  const relay = text(local?.['relayProtocol']);
  const address = (c: Entry | undefined) => (c && text(c['address']) ? `${String(c['address'])}:${String(c['port'])}` : null);
  return {
    rtt_ms: times(pair?.['currentRoundTripTime'], 1000),
    // Without an established handshake nothing is said.
    dtls: transport?.['dtlsState'] === 'connected' ? version(text(transport['tlsVersion'])) : null,
    srtp: transport?.['dtlsState'] === 'connected' ? text(transport['srtpCipher']) : null,
    protocol: relay ? `relay/${relay}` : text(local?.['protocol']),
    local: address(local),
    remote: address(remote),
  };
}

/** The report has the number of the record layer in hexadecimal. */
function version(tls: string | null): string | null {
  if (tls === null) return null;
  return { FEFD: 'DTLS 1.2', FEFC: 'DTLS 1.3', '0303': 'DTLS 1.2', '0304': 'DTLS 1.3' }[tls.toUpperCase()] ?? `DTLS (${tls})`;
}

function rate(e: Entry, before: Entry | undefined, key: string): number | null {
  const ms = before ? e.timestamp - before.timestamp : 0;
  return before && ms > 0 ? Math.max(0, ((Number(e[key]) - Number(before[key])) * 8) / ms) : null;
}

/** Lost of all that should have come since the report before. */
function share(e: Entry, before: Entry | undefined): number | null {
  if (!before) return null;
  const lost = Math.max(0, Number(e['packetsLost']) - Number(before['packetsLost']));
  const came = Number(e['packetsReceived']) - Number(before['packetsReceived']);
  return lost + came > 0 ? (100 * lost) / (lost + came) : 0;
}

function times(v: unknown, factor: number): number | null {
  return typeof v === 'number' && Number.isFinite(v) ? v * factor : null;
}

function text(v: unknown): string | null {
  return typeof v === 'string' && v !== '' ? v : null;
}
