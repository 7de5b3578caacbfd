// The pill says what was measured, and nothing where nothing was.

import { describe, expect, it } from 'vitest';
import { linkFacts, type Entry } from './stats';

const report = (at: number, bytes: number, lost: number, came: number): Entry[] => [
  { id: 'T', type: 'transport', timestamp: at, dtlsState: 'connected', tlsVersion: 'FEFD', srtpCipher: 'AEAD_AES_128_GCM', selectedCandidatePairId: 'P' },
  { id: 'P', type: 'candidate-pair', timestamp: at, currentRoundTripTime: 0.0123, localCandidateId: 'L', remoteCandidateId: 'R' },
  { id: 'L', type: 'local-candidate', timestamp: at, protocol: 'udp', address: '10.0.0.7', port: 50000 },
  { id: 'R', type: 'remote-candidate', timestamp: at, protocol: 'udp', address: '10.0.0.1', port: 40000 },
  { id: 'C', type: 'codec', timestamp: at, mimeType: 'video/VP8' },
  { id: 'V1', type: 'inbound-rtp', kind: 'video', mid: '0', timestamp: at, codecId: 'C', bytesReceived: bytes, packetsLost: lost, packetsReceived: came, jitter: 0.004, frameWidth: 1280, frameHeight: 720, framesPerSecond: 25, framesDropped: 3, freezeCount: 0 },
  { id: 'V2', type: 'inbound-rtp', kind: 'video', mid: '7', timestamp: at, codecId: 'C', bytesReceived: 1, packetsLost: 0, packetsReceived: 1, jitter: 9 },
];

describe('facts of a leg', () => {
  it('are the difference of two reports, of the lines asked for', () => {
    const facts = linkFacts(report(2_000, 350_000, 15, 285), report(1_000, 100_000, 10, 90), new Set(['0']));
    expect(facts.picture).toEqual({ codec: 'VP8', kbps: 2000, loss_pct: 2.5, jitter_ms: 4, width: 1280, height: 720, fps: 25, dropped: 3, frozen: 0 });
    expect(facts.path).toEqual({ rtt_ms: 12.3, dtls: 'DTLS 1.2', srtp: 'AEAD_AES_128_GCM', protocol: 'udp', local: '10.0.0.7:50000', remote: '10.0.0.1:40000' });
    expect(facts.voice).toBeNull();
    expect(facts.mine).toBeNull();
  });

  it('leave out what one report cannot tell', () => {
    expect(linkFacts(report(1, 1, 0, 1), null, new Set(['0'])).picture).toMatchObject({ kbps: null, loss_pct: null, codec: 'VP8' });
    expect(linkFacts([], null, new Set())).toEqual({ path: { rtt_ms: null, dtls: null, srtp: null, protocol: null, local: null, remote: null }, picture: null, voice: null, mine: null });
  });

  it('claim no encryption before the handshake stands', () => {
    const early = report(1, 1, 0, 1).map((e) => (e.id === 'T' ? { ...e, dtlsState: 'connecting' } : e));
    expect(linkFacts(early, null, new Set()).path).toMatchObject({ dtls: null, srtp: null });
  });
});
