//! From raw pictures and sound to what leaves the glasses: encoders, the ring, the voice, the cover.
//!
//! Owns: the sources, both encodings, the Opus encoder. Nothing is encoded before somebody may see it, and while the
//! technician covers the camera the encoder gets black and silence.
//! Never: a socket. Elsewhere: packets (`link::publish`).

use std::sync::{
    Arc, Mutex, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use gstreamer as gst;
use lotse_protocol::{id::FrameId, signal::TrackSource};

use crate::{
    capture::{
        self, BLOCK, Outlets, RawFrame, Running, SAMPLE_RATE, SoundBlock, Trouble,
        encode::{Encoded, Encoder, MAIN_HEIGHT, MAIN_WIDTH, Size},
        yuv::{self, Rgba},
    },
    clock::Clock,
    config::Config,
    error::GlassError,
    link::publish::{Outgoing, Publisher},
    profile::Profile,
    ring::{EncodedFrame, Match, Ring},
};

/// Bit/s of the voice.
const VOICE_BITRATE: i32 = 24_000;
/// Loss the Opus encoder prepares for, percent.
const EXPECTED_LOSS: i32 = 10;

/// Everything that leaves the glasses.
pub struct Feed {
    inner: Arc<Inner>,
    config: Config,
    profile: Profile,
    running: Vec<Running>,
    trouble: Arc<dyn Fn(Trouble) + Send + Sync>,
}

struct Inner {
    publisher: OnceLock<Publisher>,
    main: OnceLock<Encoder>,
    preview: Mutex<Option<Encoder>>,
    ring: Mutex<Ring>,
    voice: Mutex<Option<opus::Encoder>>,
    latest: Mutex<Option<RawFrame>>,
    black: gst::Buffer,
    sending: AtomicBool,
    private: AtomicBool,
    key_wanted: AtomicBool,
    counters: Counters,
    /// RFC 6464 level of the last block: 127 is silence.
    level: AtomicU8,
}

/// Counted since start.
#[derive(Default)]
struct Counters {
    captured: AtomicU64,
    encoded: AtomicU64,
    dropped: AtomicU64,
    sounds: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counted {
    pub captured: u64,
    pub encoded: u64,
    pub sent: u64,
    pub dropped: u64,
    pub sounds: u64,
}

impl Feed {
    /// Starts encoders and sources. A source that does not start is told as trouble; the rest goes on.
    pub fn start(
        config: &Config,
        profile: &Profile,
        clock: Clock,
        trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Result<Self, GlassError> {
        capture::init()?;
        let inner = Arc::new(Inner {
            publisher: OnceLock::new(),
            main: OnceLock::new(),
            preview: Mutex::default(),
            ring: Mutex::default(),
            voice: Mutex::new(Some(voice()?)),
            latest: Mutex::default(),
            black: gst::Buffer::from_mut_slice(yuv::black(MAIN_WIDTH.into(), MAIN_HEIGHT.into())),
            sending: false.into(),
            private: false.into(),
            key_wanted: false.into(),
            counters: Counters::default(),
            level: 127.into(),
        });
        // Weak: the encoder belongs to what it delivers to.
        let to = Arc::downgrade(&inner);
        let main = Encoder::start(Size::Main, &profile.encoder, move |e| with(&to, |i| i.on_main(e)))?;
        tracing::info!("encoder {} ({:?})", main.element(), main.codec());
        let publisher = Publisher::start(clock, main.codec());
        // Set once, here: both cells are empty.
        let _ = (inner.publisher.set(publisher), inner.main.set(main));
        let mut feed = Self {
            inner,
            config: config.clone(),
            profile: profile.clone(),
            running: Vec::new(),
            trouble: Arc::new(trouble),
        };
        feed.restart();
        Ok(feed)
    }

    /// Starts the sources (again).
    pub fn restart(&mut self) {
        self.running.clear();
        let (pictures, sounds) = (Arc::downgrade(&self.inner), Arc::downgrade(&self.inner));
        let outlets = Outlets {
            picture: Arc::new(move |f| with(&pictures, |i| i.on_picture(f))),
            sound: Arc::new(move |b| with(&sounds, |i| i.on_sound(&b))),
            trouble: self.trouble.clone(),
        };
        for source in capture::sources(&self.config, &self.profile) {
            match source.start(outlets.clone()) {
                Ok(running) => self.running.push(running),
                Err(e @ GlassError::Sound { .. }) => (self.trouble)(Trouble::Microphone(e.to_string())),
                Err(e) => (self.trouble)(Trouble::Camera(e.to_string())),
            }
        }
    }

    pub fn publisher(&self) -> Option<&Publisher> {
        self.inner.publisher.get()
    }

    /// Lets pictures and voice out, or not.
    pub fn send(&self, on: bool) {
        self.inner.sending.store(on, Ordering::Relaxed);
        if on {
            self.key_frame(TrackSource::Main);
        } else {
            // What was shown under this consent is not kept beyond it.
            lock(&self.inner.ring, Ring::clear);
            self.watch_preview(false);
        }
    }

    /// Black and silence instead of camera and microphone.
    pub fn cover(&self, on: bool) {
        self.inner.private.store(on, Ordering::Relaxed);
        self.key_frame(TrackSource::Main);
    }

    /// The preview is encoded only while somebody watches it.
    pub fn watch_preview(&self, on: bool) {
        let to = Arc::downgrade(&self.inner);
        let change = |preview: &mut Option<Encoder>| {
            if on == preview.is_some() {
                return;
            }
            *preview = if on {
                let deliver =
                    move |e: Encoded| with(&to, |i| i.offer(TrackSource::Preview, e.data, e.capture_ns, None));
                Encoder::start(Size::Preview, &[], deliver).map_err(|e| tracing::warn!("{e}")).ok()
            } else {
                None
            };
        };
        lock(&self.inner.preview, change);
    }

    pub fn key_frame(&self, source: TrackSource) {
        match source {
            TrackSource::Main => self.inner.key_wanted.store(true, Ordering::Relaxed),
            TrackSource::Preview => {
                lock(&self.inner.preview, |p| {
                    if let Some(p) = p {
                        p.key_frame();
                    }
                });
            }
            TrackSource::Voice => {}
        }
    }

    /// The frames to decode for this picture, if it is still in the ring.
    pub fn find(&self, frame: FrameId) -> Option<Vec<EncodedFrame>> {
        let how = match self.publisher()?.source_of(frame.track)? {
            TrackSource::Main => Match::Exact,
            TrackSource::Preview => Match::Nearest,
            TrackSource::Voice => return None,
        };
        lock(&self.inner.ring, |ring| ring.find(frame.rtp, how))?
    }

    /// What the camera sees now, small; black while it is covered.
    pub fn picture(&self, width: usize, height: usize) -> Option<Rgba> {
        let frame = lock(&self.inner.latest, |l| l.clone())??;
        let buffer = if self.inner.private.load(Ordering::Relaxed) { &self.inner.black } else { &frame.picture };
        let map = buffer.map_readable().ok()?;
        yuv::to_rgba(&map, MAIN_WIDTH.into(), MAIN_HEIGHT.into(), width, height)
    }

    pub fn counted(&self) -> Counted {
        let c = &self.inner.counters;
        let (sent, lost) = self.publisher().map(Publisher::counters).unwrap_or_default();
        Counted {
            captured: c.captured.load(Ordering::Relaxed),
            encoded: c.encoded.load(Ordering::Relaxed),
            sent,
            dropped: c.dropped.load(Ordering::Relaxed) + lost,
            sounds: c.sounds.load(Ordering::Relaxed),
        }
    }

    /// 0 silence, 1 full scale.
    pub fn microphone_level(&self) -> f32 {
        10f32.powf(-f32::from(self.inner.level.load(Ordering::Relaxed)) / 20.0)
    }

    pub fn encoder(&self) -> String {
        self.inner.main.get().map(|e| e.element().to_owned()).unwrap_or_default()
    }
}

impl Inner {
    fn on_picture(&self, mut frame: RawFrame) {
        self.counters.captured.fetch_add(1, Ordering::Relaxed);
        if self.sending.load(Ordering::Relaxed) {
            if self.private.load(Ordering::Relaxed) {
                frame.picture = self.black.clone();
            }
            if let Some(main) = self.main.get() {
                if self.key_wanted.swap(false, Ordering::Relaxed) {
                    main.key_frame();
                }
                if !main.push(&frame) {
                    self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            lock(&self.preview, |preview| preview.as_ref().map(|p| p.push(&frame)));
        }
        lock(&self.latest, |latest| *latest = Some(frame));
    }

    fn on_main(&self, encoded: Encoded) {
        self.counters.encoded.fetch_add(1, Ordering::Relaxed);
        let (Some(publisher), Some(main)) = (self.publisher.get(), self.main.get()) else { return };
        lock(&self.ring, |ring| {
            ring.push(EncodedFrame {
                codec: main.codec(),
                capture_ns: encoded.capture_ns,
                rtp: publisher.picture_rtp(encoded.capture_ns),
                key: encoded.key,
                data: encoded.data.clone(),
            });
        });
        self.offer(TrackSource::Main, encoded.data, encoded.capture_ns, None);
    }

    fn on_sound(&self, block: &SoundBlock) {
        self.counters.sounds.fetch_add(1, Ordering::Relaxed);
        let silence = [0; BLOCK];
        let covered = self.private.load(Ordering::Relaxed);
        let samples: &[i16; BLOCK] = if covered { &silence } else { &block.samples };
        let level = level(samples);
        self.level.store(level, Ordering::Relaxed);
        if !self.sending.load(Ordering::Relaxed) {
            return;
        }
        let encoded = lock(&self.voice, |voice| voice.as_mut().and_then(|v| v.encode_vec(samples, 1_000).ok()));
        if let Some(Some(data)) = encoded {
            self.offer(TrackSource::Voice, data.into(), block.capture_ns, Some(level));
        }
    }

    fn offer(&self, source: TrackSource, data: bytes::Bytes, capture_ns: u64, level: Option<u8>) {
        let Some(publisher) = self.publisher.get() else { return };
        let taken = publisher.offer(Outgoing { source, data, capture_ns, level });
        if !taken && source == TrackSource::Main {
            // The next picture builds on the one that is missing.
            self.key_wanted.store(true, Ordering::Relaxed);
        }
    }
}

fn with(inner: &Weak<Inner>, f: impl FnOnce(&Inner)) {
    if let Some(inner) = inner.upgrade() {
        f(&inner);
    }
}

/// `None` only after a panic under the same lock.
fn lock<T, R>(mutex: &Mutex<T>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    mutex.lock().ok().map(|mut guard| f(&mut guard))
}

fn voice() -> Result<opus::Encoder, GlassError> {
    let broken = |e: opus::Error| GlassError::Ours(format!("voice encoder: {e}"));
    let mut voice = opus::Encoder::new(SAMPLE_RATE, opus::Channels::Mono, opus::Application::Voip).map_err(broken)?;
    voice.set_bitrate(opus::Bitrate::Bits(VOICE_BITRATE)).map_err(broken)?;
    voice.set_inband_fec(true).map_err(broken)?;
    voice.set_packet_loss_perc(EXPECTED_LOSS).map_err(broken)?;
    voice.set_complexity(5).map_err(broken)?;
    Ok(voice)
}

/// −dB over the largest sine, 0 to 127 (RFC 6464).
fn level(samples: &[i16; BLOCK]) -> u8 {
    let power = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / BLOCK as f64;
    if power < 1.0 {
        return 127;
    }
    let db = 10.0 * (power / (32_768.0 * 32_768.0)).log10();
    (-db).clamp(0.0, 127.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_full_scale_have_their_levels() {
        assert_eq!(level(&[0; BLOCK]), 127);
        assert_eq!(level(&[i16::MAX; BLOCK]), 0);
        assert_eq!(level(&[3_277; BLOCK]), 20);
    }
}
