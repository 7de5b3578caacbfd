// One photo as large as the camera gives it: its own photo where the browser can take one, else the picture that is on its way.
//
// Never: sends or keeps it (call.svelte.ts does, and only while recording is allowed).

/** JPEG of a frame: type plates stay readable. */
const QUALITY = 0.92;
/** A camera that has not taken its photo by then will not, ms: some drivers never answer. */
const TAKE_MS = 4_000;

interface PhotoRange {
  max: number;
}
interface Capture {
  takePhoto(settings?: { imageWidth: number; imageHeight: number }): Promise<Blob>;
  getPhotoCapabilities(): Promise<{ imageWidth?: PhotoRange; imageHeight?: PhotoRange }>;
}

export async function takePhoto(track: MediaStreamTrack, video: HTMLVideoElement): Promise<Blob | null> {
  const Ctor = (globalThis as { ImageCapture?: new (t: MediaStreamTrack) => Capture }).ImageCapture;
  const taken = Ctor && track.readyState === 'live' ? await within(ofCamera(new Ctor(track))) : null;
  return taken ?? ofStream(video);
}

async function ofCamera(capture: Capture): Promise<Blob | null> {
  try {
    const { imageWidth, imageHeight } = await capture.getPhotoCapabilities();
    const largest = imageWidth?.max && imageHeight?.max ? { imageWidth: imageWidth.max, imageHeight: imageHeight.max } : undefined;
    // A camera may name a size and then refuse it.
    return await capture.takePhoto(largest).catch(() => capture.takePhoto());
  } catch {
    return null;
  }
}

async function ofStream(video: HTMLVideoElement): Promise<Blob | null> {
  if (video.videoWidth === 0) return null;
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext('2d')!.drawImage(video, 0, 0);
  return new Promise((done) => canvas.toBlob(done, 'image/jpeg', QUALITY));
}

function within(photo: Promise<Blob | null>): Promise<Blob | null> {
  return Promise.race([photo, new Promise<null>((done) => setTimeout(() => done(null), TAKE_MS))]);
}

/** "foto-20261122-143208.jpg": sorts by time, in local time as on the watch beside the machine. */
export function photoName(at_ms: number, mime: string): string {
  const d = new Date(at_ms);
  const two = (n: number) => String(n).padStart(2, '0');
  const day = `${d.getFullYear()}${two(d.getMonth() + 1)}${two(d.getDate())}`;
  const time = `${two(d.getHours())}${two(d.getMinutes())}${two(d.getSeconds())}`;
  return `foto-${day}-${time}.${mime === 'image/png' ? 'png' : mime === 'image/webp' ? 'webp' : 'jpg'}`;
}
