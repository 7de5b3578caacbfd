// Drives real Chromium against the room of `browser_room.rs`: publishes a voice, receives VP8, with tracks that come and go mid-call.
// Usage: node browser_room.mjs ROOM_BINARY CLIP.ivf [tcp]   (playwright-core must be resolvable; CHROMIUM names another browser)
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
const { chromium } = createRequire(process.env.PLAYWRIGHT ?? import.meta.url)('playwright-core');

const [binary, clip, way] = process.argv.slice(2);
// The network decides by itself where ROOM_IP names another machine; ICE_SERVERS (JSON) are relays for the page.
const room = spawn(binary, way && !process.env.ROOM_IP ? [clip, way] : [clip], { stdio: ['pipe', 'pipe', 'inherit'] });
const tell = (message) => room.stdin.write(JSON.stringify(message) + '\n');
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--headless', '--disable-gpu', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--autoplay-policy=no-user-gesture-required'],
});
const page = await browser.newPage();
page.on('console', (message) => console.error('page:', message.text()));
page.on('pageerror', (error) => console.error('page error:', error.message));
await page.route('**/*', (route) => route.fulfill({ contentType: 'text/html', body: '<body></body>' }));
await page.goto('http://localhost/');
await page.evaluate(async (iceServers) => {
  const pc = (window.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers }));
  window.pointer = pc.createDataChannel('pointer', { negotiated: true, id: 1, ordered: false, maxRetransmits: 0 });
  const mic = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks()[0];
  window.times = {};
  pc.ontrack = ({ track, transceiver, streams }) => {
    if (track.kind !== 'video') { const a = new Audio(); a.srcObject = new MediaStream([track]); a.play(); return; }
    const video = document.createElement('video');
    Object.assign(video, { muted: true, autoplay: true, srcObject: new MediaStream([track]) });
    document.body.append(video);
    const see = (_, frame) => { (window.times[transceiver.mid] ??= []).push(frame.rtpTimestamp); video.requestVideoFrameCallback(see); };
    video.requestVideoFrameCallback(see);
  };
  window.take = async (offer) => {
    await pc.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
    for (const line of offer.uplink) {
      const transceiver = pc.getTransceivers().find((t) => t.mid === line.mid);
      if (transceiver.sender.track) continue;
      transceiver.direction = 'sendonly';
      await transceiver.sender.replaceTrack(mic);
    }
    await pc.setLocalDescription(await pc.createAnswer());
    return { rev: offer.rev, sdp: pc.localDescription.sdp };
  };
  window.look = async () => {
    const inbound = [], out = [];
    let profile, rtt, protocol;
    for (const s of (await pc.getStats()).values()) {
      if (s.type === 'inbound-rtp') inbound.push({ kind: s.kind, mid: s.mid, frames: s.framesDecoded, packets: s.packetsReceived, nack: s.nackCount, pli: s.pliCount, lost: s.packetsLost, freezes: s.freezeCount });
      if (s.type === 'outbound-rtp') out.push({ kind: s.kind, packets: s.packetsSent });
      if (s.type === 'transport') profile = s.srtpCipher;
      if (s.type === 'candidate-pair' && s.nominated) { rtt = s.currentRoundTripTime; const all = await pc.getStats(); const local = all.get(s.localCandidateId); protocol = local?.candidateType === 'relay' ? 'relay' : local?.protocol; }
    }
    const times = Object.fromEntries(Object.entries(window.times).map(([mid, t]) => [mid, { n: t.length, onGrid: t.every((x) => (x - 1000) % 3000 === 0) }]));
    return { state: pc.connectionState, channel: window.pointer.readyState, profile, rtt, protocol, inbound, out, times };
  };
}, JSON.parse(process.env.ICE_SERVERS ?? '[]'));

let last = {};
let offers = 0;
const queue = [];
let busy = false;
const pump = async () => {
  if (busy) return;
  busy = true;
  while (queue.length) tell({ answer: await page.evaluate((offer) => window.take(offer), queue.shift()) });
  busy = false;
};
createInterface({ input: room.stdout }).on('line', (line) => {
  const message = JSON.parse(line);
  if (message.offer) { offers += 1; queue.push(message.offer); pump().catch((e) => { console.error(e); process.exitCode = 1; }); }
  else if (message.event) console.error('room:', message.event);
  else last = message;
});

const failures = [];
const check = (what, ok) => { console.log(ok ? 'ok  ' : 'FAIL', what); if (!ok) failures.push(what); };
const seconds = (n) => new Promise((done) => setTimeout(done, n * 1000));
const look = () => page.evaluate(() => window.look());
const videos = (seen) => seen.inbound.filter((s) => s.kind === 'video');

await seconds(1);
tell({ join: true });
await seconds(4);
let seen = await look();
// A busy machine takes longer; what never comes fails all the same.
for (let n = 0; n < 20 && !(last.heard > 100 && videos(seen)[0]?.frames > 60); n += 1) { await seconds(1); seen = await look(); }
check('connected with GCM', seen.state === 'connected' && seen.profile === 'SRTP_AEAD_AES_128_GCM');
check(`media over ${way ?? 'udp'}`, seen.protocol === (way ?? 'udp'));
check('picture decoded', videos(seen).length === 1 && videos(seen)[0].frames > 60);
check('every frame has the publisher\'s time', Object.values(seen.times).every((t) => t.n > 30 && t.onGrid));
check('glasses heard', seen.inbound.some((s) => s.kind === 'audio' && s.packets > 100));
check('browser voice arrives at the glasses', last.heard > 100);
if (process.env.ROOM_IP) {
  // What is asked here is the way; tracks that come and go are asked on one machine.
  await browser.close();
  room.kill();
  process.exit(failures.length ? 1 : 0);
}
await page.evaluate(() => window.pointer.send('{"t":"off"}'));
tell({ glasses: 2 });
await seconds(4);
const before = seen;
seen = await look();
check('pointer arrives', last.pointed === 1);
check('a second pair of glasses mid-call', videos(seen).length === 2 && videos(seen).every((s) => s.frames > 30));
check('the first picture went on', videos(seen)[0].frames > videos(before)[0].frames + 60);
tell({ leave: 2 });
await seconds(2);
tell({ glasses: 3 });
await seconds(4);
seen = await look();
const active = videos(seen).filter((s) => s.frames > 0);
check('a third pair after the second left', active.length === 2 && active.every((s) => s.frames > 30));
check('round trip known to the room', last.legs.some((leg) => leg.who.endsWith('64') && leg.rtt_ms !== undefined));
console.log(JSON.stringify({ offers, seen, legs: last.legs }, null, 1));
await browser.close();
room.kill();
process.exit(failures.length ? 1 : 0);
