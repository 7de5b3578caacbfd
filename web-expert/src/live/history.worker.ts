// Keeps the encoded pictures of one camera as they pass, and decodes any of them again on demand.
//
// Owns: the ring, what is held while somebody steps back, decoded pictures near the one shown. Never: holds a picture up on
// its way: it is passed on first, kept after. Elsewhere: rules of the ring (ring.ts), the page's side (history.ts).

import { apart, chainIn, EncodedRing, type Encoded } from './ring';

/** VP8 and H.264 are what the glasses send; the codec string WebCodecs wants. */
const CODECS: Record<string, string> = { vp8: 'vp8', h264: 'avc1.42e034' };
/** Decoded pictures kept around the one shown: one second, 35 MB at 720p, only while frozen. Stepping stays quick both ways. */
const NEAR = 25;
/** Decoded beyond the one asked, so that steps forward are there already. */
const AHEAD = 8;

export type HistoryAsk =
  | { t: 'codec'; codec: string }
  /** Keep what is here now, whatever comes. */
  | { t: 'hold' }
  | { t: 'release' }
  | { t: 'show'; n: number; rtp: number };
export interface HistoryReply {
  n: number;
  bitmap: ImageBitmap | null;
  /** What is kept at this moment. */
  bytes: number;
}

interface EncodedVideo {
  type: 'key' | 'delta' | 'empty';
  data: ArrayBuffer;
  getMetadata(): { rtpTimestamp?: number };
}
interface Transformer {
  readable: ReadableStream<EncodedVideo>;
  writable: WritableStream<EncodedVideo>;
}
const scope = self as unknown as {
  onmessage: (e: MessageEvent<HistoryAsk>) => void;
  onrtctransform: (e: { transformer: Transformer }) => void;
  postMessage(m: HistoryReply, t: Transferable[]): void;
};

const ring = new EncodedRing();
let codec = '';
let held: readonly Encoded[] | null = null;
const near = new Map<number, VideoFrame>();
/** One decoding at a time. */
let queue: Promise<void> = Promise.resolve();

scope.onrtctransform = ({ transformer }) => {
  const keep = new TransformStream<EncodedVideo, EncodedVideo>({
    transform(frame, out) {
      const rtp = frame.getMetadata().rtpTimestamp;
      // Passing it on takes the bytes away.
      const data = rtp === undefined || frame.type === 'empty' ? null : new Uint8Array(frame.data.slice(0));
      out.enqueue(frame);
      if (data && rtp !== undefined) ring.push({ rtp: rtp >>> 0, key: frame.type === 'key', data });
    },
  });
  void transformer.readable.pipeThrough(keep).pipeTo(transformer.writable).catch(() => {});
};

scope.onmessage = ({ data: ask }) => {
  if (ask.t === 'codec') {
    codec = CODECS[ask.codec] ?? '';
    ring.clear();
    held = null;
    forget();
  } else if (ask.t === 'hold') held = [...ring.frames];
  else if (ask.t === 'release') {
    held = null;
    queue = queue.then(forget);
  } else {
    const { n, rtp } = ask;
    queue = queue.then(async () => {
      const bitmap = await show(rtp).catch(() => null);
      scope.postMessage({ n, bitmap, bytes: ring.bytes }, bitmap ? [bitmap] : []);
    });
  }
};

async function show(rtp: number): Promise<ImageBitmap | null> {
  let frame = near.get(rtp);
  if (!frame) {
    const chain = (held && chainIn(held, rtp, AHEAD)) ?? ring.chain(rtp, AHEAD);
    if (!chain || !codec) return null;
    await decode(chain, rtp);
    frame = near.get(rtp);
  }
  return frame ? createImageBitmap(frame) : null;
}

async function decode(chain: readonly Encoded[], rtp: number): Promise<void> {
  const copies: Promise<void>[] = [];
  const decoder = new VideoDecoder({
    output: (frame) => {
      // The timestamp carries the place in the chain.
      const at = chain[frame.timestamp]!.rtp;
      if (chain.length - frame.timestamp <= NEAR && !near.has(at)) copies.push(own(frame).then((f) => void near.set(at, f)).finally(() => frame.close()));
      else frame.close();
    },
    error: () => {},
  });
  decoder.configure({ codec, optimizeForLatency: true });
  for (const [timestamp, f] of chain.entries()) decoder.decode(new EncodedVideoChunk({ type: f.key ? 'key' : 'delta', timestamp, data: f.data }));
  await decoder.flush();
  decoder.close();
  await Promise.all(copies);
  // The farthest from the one asked go first.
  const far = [...near.keys()].sort((a, b) => Math.abs(apart(b, rtp)) - Math.abs(apart(a, rtp)));
  for (const key of far.slice(0, Math.max(0, far.length - NEAR))) {
    near.get(key)!.close();
    near.delete(key);
  }
}

/** The same picture in memory of our own: a decoder has few buffers, and keeping them would stop it. */
async function own(frame: VideoFrame): Promise<VideoFrame> {
  const data = new Uint8Array(frame.allocationSize());
  const layout = await frame.copyTo(data);
  const { width, height } = frame.visibleRect!;
  return new VideoFrame(data, {
    format: frame.format!,
    codedWidth: width,
    codedHeight: height,
    timestamp: frame.timestamp,
    layout,
    colorSpace: frame.colorSpace,
    transfer: [data.buffer],
  } as VideoFrameBufferInit);
}

function forget(): void {
  for (const f of near.values()) f.close();
  near.clear();
}
