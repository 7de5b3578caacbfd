//! From raw pictures and sound to what leaves the glasses: encoders, the ring, the voice, the cover.
//!
//! Owns: the sources, both encodings, the voice's frames, and the thread that replaces an encoder which fails. Nothing is encoded before somebody may see it, and while the
//! technician covers the camera the encoder gets black and silence.
//! Never: a socket. Elsewhere: packets (`link::publish`).

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use gstreamer as gst;
use lotse_protocol::{
    id::FrameId,
    signal::{Codec, TrackSource},
};

use crate::{
    capture::{
        self, BLOCK, BLOCK_NS, Outlets, RawFrame, Running, SAMPLE_RATE, SoundBlock, Trouble,
        encode::{Deliver, Encoded, Encoder, MAIN_HEIGHT, MAIN_WIDTH, Rate, Size},
        encoders::{self, Encoders, Failed},
        yuv::{self, Rgba},
    },
    clock::Clock,
    config::Config,
    error::GlassError,
    link::{
        ladder::{Share, VoiceFrames},
        publish::{Outgoing, Publisher},
    },
    profile::{EncoderChoice, Profile},
    ring::{EncodedFrame, Match, Ring},
};

/// Bit/s of the voice.
const VOICE_BITRATE: i32 = 24_000;
/// Where the way is so narrow that frames are of 60 ms.
const NARROW_VOICE_BITRATE: i32 = 16_000;
/// Loss the Opus encoder prepares for, percent.
const EXPECTED_LOSS: i32 = 10;
/// Longest encoded frame, bytes.
const MAX_VOICE: usize = 1_000;
/// Between two starts of the last encoder there is: one that fails at once would keep the machine busy otherwise.
const AGAIN: Duration = Duration::from_secs(10);

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
    /// None while it is being replaced.
    main: Mutex<Option<Encoder>>,
    /// Which start of the main encoder counts: what an earlier one still delivers does not.
    generation: AtomicU64,
    failed: Mutex<Vec<Failed>>,
    /// Wakes the thread that replaces encoders.
    replace: mpsc::SyncSender<()>,
    preview: Mutex<Option<Encoder>>,
    ring: Mutex<Ring>,
    voice: Mutex<Voice>,
    long_frames: AtomicBool,
    /// What the link carries.
    share: Mutex<Share>,
    latest: Mutex<Option<RawFrame>>,
    black: gst::Buffer,
    sending: AtomicBool,
    private: AtomicBool,
    key_wanted: AtomicBool,
    counters: Counters,
    /// RFC 6464 level of the last block: 127 is silence.
    level: AtomicU8,
}

/// Makes Opus frames of blocks.
struct Voice {
    encoder: opus::Encoder,
    bitrate: i32,
    /// Blocks of a frame that is not whole yet, the capture time of its first sample, its level.
    begun: Vec<i16>,
    at_ns: u64,
    level: u8,
}

impl Voice {
    fn new() -> Result<Self, GlassError> {
        Ok(Self { encoder: voice()?, bitrate: VOICE_BITRATE, begun: Vec::new(), at_ns: 0, level: 127 })
    }

    /// A frame, the capture time of its first sample, its level, when one is whole.
    fn add(
        &mut self,
        block: &[i16; BLOCK],
        capture_ns: u64,
        level: u8,
        frames: VoiceFrames,
    ) -> Option<(Vec<u8>, u64, u8)> {
        let blocks_ns = (self.begun.len() / BLOCK) as u64 * BLOCK_NS;
        if capture_ns >= self.at_ns + blocks_ns + BLOCK_NS {
            // Nothing was sent meanwhile: what waited is no longer the beginning of this.
            self.begun.clear();
        }
        if self.begun.is_empty() {
            (self.at_ns, self.level) = (capture_ns, 127);
        }
        self.begun.extend_from_slice(block);
        self.level = self.level.min(level);
        // Opus has frames of 1, 2, 4 and 6 of our blocks: one that was begun for another length goes out as soon as it is one.
        let (have, wanted) = (self.begun.len() / BLOCK, blocks(frames));
        if have < wanted || !matches!(have, 1 | 2 | 4 | 6) {
            return None;
        }
        let bitrate = if frames == VoiceFrames::Ms60 { NARROW_VOICE_BITRATE } else { VOICE_BITRATE };
        if bitrate != self.bitrate && self.encoder.set_bitrate(opus::Bitrate::Bits(bitrate)).is_ok() {
            self.bitrate = bitrate;
        }
        let data = self.encoder.encode_vec(&self.begun, MAX_VOICE).ok();
        self.begun.clear();
        Some((data?, self.at_ns, self.level))
    }
}

fn blocks(frames: VoiceFrames) -> usize {
    match frames {
        VoiceFrames::Ms10 => 1,
        VoiceFrames::Ms20 => 2,
        VoiceFrames::Ms60 => 6,
    }
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
    /// Starts encoders and sources. A source that does not start is told as trouble; the rest goes on. `announce` is called when
    /// the main track has become another one and has to be announced anew.
    pub fn start(
        config: &Config,
        profile: &Profile,
        clock: Clock,
        trouble: impl Fn(Trouble) + Send + Sync + 'static,
        announce: impl Fn() + Send + 'static,
    ) -> Result<Self, GlassError> {
        capture::init()?;
        let (replace, wake) = mpsc::sync_channel(1);
        let inner = Arc::new(Inner {
            publisher: OnceLock::new(),
            main: Mutex::default(),
            generation: 0.into(),
            failed: Mutex::default(),
            replace,
            preview: Mutex::default(),
            ring: Mutex::default(),
            voice: Mutex::new(Voice::new()?),
            long_frames: false.into(),
            share: Mutex::new(Share::FULL),
            latest: Mutex::default(),
            black: gst::Buffer::from_mut_slice(yuv::black(MAIN_WIDTH.into(), MAIN_HEIGHT.into())),
            sending: false.into(),
            private: false.into(),
            key_wanted: false.into(),
            counters: Counters::default(),
            level: 127.into(),
        });
        let mut encoders = Encoders::new(&profile.encoder);
        let main = encoders.start(deliver(&inner))?;
        tracing::info!("encoder {} ({:?})", main.element(), main.codec());
        // Set once, here: the cell is empty.
        let _ = inner.publisher.set(Publisher::start(clock, main.codec()));
        inner.use_main(main, &encoders);
        let weak = Arc::downgrade(&inner);
        thread::spawn(move || replace_encoders(&weak, encoders, &wake, announce));
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

    /// Voice frames of 20 ms instead of 10.
    pub fn long_frames(&self, on: bool) {
        self.inner.long_frames.store(on, Ordering::Relaxed);
    }

    /// What the link carries, from now on.
    pub fn follow(&self, share: Share) {
        lock(&self.inner.share, |s| *s = share);
        lock(&self.inner.main, |main| {
            if let Some(main) = main {
                main.follow(share.main);
            }
        });
    }

    /// The preview is encoded only while somebody watches it.
    pub fn watch_preview(&self, on: bool) {
        let to = Arc::downgrade(&self.inner);
        let change = |preview: &mut Option<Encoder>| {
            if on == preview.is_some() {
                return;
            }
            *preview = if on { start_preview(to) } else { None };
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

    /// The GStreamer element in use; empty while one is being replaced.
    pub fn encoder(&self) -> String {
        lock(&self.inner.main, |main| main.as_ref().map(|e| e.element().to_owned())).flatten().unwrap_or_default()
    }

    /// Encoders of the list that are not used, and why.
    pub fn encoders_failed(&self) -> Vec<Failed> {
        lock(&self.inner.failed, |f| f.clone()).unwrap_or_default()
    }
}

impl Inner {
    fn on_picture(&self, mut frame: RawFrame) {
        self.counters.captured.fetch_add(1, Ordering::Relaxed);
        if self.sending.load(Ordering::Relaxed) {
            if self.private.load(Ordering::Relaxed) {
                frame.picture = self.black.clone();
            }
            let fine = lock(&self.main, |main| self.push(main.as_ref(), &frame));
            let preview = lock(&self.preview, |preview| {
                preview.as_ref().is_none_or(|p| {
                    p.push(&frame);
                    p.fault().is_none()
                })
            });
            if fine != Some(true) || preview != Some(true) {
                // Woken already, or busy with it.
                let _ = self.replace.try_send(());
            }
        }
        lock(&self.latest, |latest| *latest = Some(frame));
    }

    /// `false`: the main encoder has to be replaced.
    fn push(&self, main: Option<&Encoder>, frame: &RawFrame) -> bool {
        let behind = self.publisher.get().is_some_and(Publisher::is_behind);
        if behind || lock(&self.share, |share| share.rests || share.main.fps == 0) == Some(true) {
            return true;
        }
        let Some(main) = main else {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if self.key_wanted.swap(false, Ordering::Relaxed) {
            main.key_frame();
        }
        if main.is_due(frame) && !main.push(frame) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        main.fault().is_none()
    }

    fn use_main(&self, encoder: Encoder, encoders: &Encoders) {
        lock(&self.failed, |f| *f = encoders.failed().to_vec());
        encoder.follow(lock(&self.share, |s| s.main).unwrap_or(Rate::FULL));
        lock(&self.main, |main| *main = Some(encoder));
    }

    fn on_main(&self, encoded: Encoded) {
        self.counters.encoded.fetch_add(1, Ordering::Relaxed);
        let Some(publisher) = self.publisher.get() else { return };
        lock(&self.ring, |ring| {
            ring.push(EncodedFrame {
                codec: encoded.codec,
                capture_ns: encoded.capture_ns,
                rtp: publisher.picture_rtp(encoded.capture_ns),
                key: encoded.key,
                data: encoded.data.clone(),
            });
        });
        self.offer(TrackSource::Main, encoded.codec, encoded.data, encoded.capture_ns, None);
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
        // Foreign clients take these alone.
        let usual = self.long_frames.load(Ordering::Relaxed).then_some(VoiceFrames::Ms20);
        let frames = usual.or_else(|| lock(&self.share, |s| s.voice)).unwrap_or(VoiceFrames::Ms10);
        let encoded = lock(&self.voice, |voice| voice.add(samples, block.capture_ns, level, frames)).flatten();
        if let Some((data, capture_ns, level)) = encoded {
            self.offer(TrackSource::Voice, Codec::Opus, data.into(), capture_ns, Some(level));
        }
    }

    fn offer(&self, source: TrackSource, codec: Codec, data: bytes::Bytes, capture_ns: u64, level: Option<u8>) {
        let Some(publisher) = self.publisher.get() else { return };
        let taken = publisher.offer(Outgoing { source, codec, data, capture_ns, level });
        if !taken && source == TrackSource::Main {
            // The next picture builds on the one that is missing.
            self.key_wanted.store(true, Ordering::Relaxed);
        }
    }
}

/// Takes what the next start of the main encoder gives.
fn deliver(inner: &Arc<Inner>) -> Deliver {
    let generation = inner.generation.fetch_add(1, Ordering::Relaxed) + 1;
    // Weak: the encoder belongs to what it delivers to.
    let to = Arc::downgrade(inner);
    Arc::new(move |encoded| {
        with(&to, |i| {
            if i.generation.load(Ordering::Relaxed) == generation {
                i.on_main(encoded);
            }
        });
    })
}

fn start_preview(to: Weak<Inner>) -> Option<Encoder> {
    let deliver = move |e: Encoded| with(&to, |i| i.offer(TrackSource::Preview, e.codec, e.data, e.capture_ns, None));
    // Always VP8 in software: hardware encoders rarely run twice.
    let started = Encoder::start(Size::Preview, &EncoderChoice::vp8(), Arc::new(deliver));
    started.map_err(|why| tracing::warn!("preview: {why}")).ok().inspect(Encoder::go)
}

/// Replaces an encoder that fails by the next of the list. Ends with the feed.
fn replace_encoders(to: &Weak<Inner>, mut encoders: Encoders, wake: &mpsc::Receiver<()>, announce: impl Fn()) {
    while wake.recv().is_ok() {
        let Some(inner) = to.upgrade() else { return };
        let again = inner.replace_failed(to, &mut encoders, &announce);
        drop(inner);
        if again == Again::Later && !waited(wake, AGAIN) {
            return;
        }
    }
}

#[derive(PartialEq)]
enum Again {
    WhenWoken,
    Later,
}

impl Inner {
    fn replace_failed(self: &Arc<Self>, to: &Weak<Self>, encoders: &mut Encoders, announce: &impl Fn()) -> Again {
        let failing = |slot: &mut Option<Encoder>| slot.take_if(|e| e.fault().is_some());
        if let Some(old) = lock(&self.preview, failing).flatten() {
            tracing::warn!("preview {}: {}; started anew", old.element(), old.fault().unwrap_or_default());
            encoders::close(old);
            lock(&self.preview, |slot| *slot = start_preview(to.clone()));
        }
        if let Some(old) = lock(&self.main, failing).flatten() {
            let (element, why) = (old.element().to_owned(), old.fault().unwrap_or_default());
            encoders::close(old);
            tracing::warn!("encoder {element}: {why}; the next one is tried");
            let more = encoders.pass_over(why);
            lock(&self.failed, |f| *f = encoders.failed().to_vec());
            if !more && encoders.age() < AGAIN {
                return Again::Later;
            }
        }
        if lock(&self.main, |main| main.is_some()).unwrap_or(true) {
            return Again::WhenWoken;
        }
        match encoders.start(deliver(self)) {
            Ok(main) => {
                tracing::info!("encoder {} ({:?})", main.element(), main.codec());
                let anew = self.publisher.get().is_some_and(|p| p.main_codec(main.codec()));
                self.use_main(main, encoders);
                if anew {
                    announce();
                }
                Again::WhenWoken
            }
            Err(e) => {
                tracing::error!("{e}");
                lock(&self.failed, |f| *f = encoders.failed().to_vec());
                Again::Later
            }
        }
    }
}

/// Lets the time pass, whatever wakes. `false`: the feed has ended.
fn waited(wake: &mpsc::Receiver<()>, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match wake.recv_timeout(left) {
            Ok(()) if !left.is_zero() => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => return true,
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
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
    fn frames_join_blocks_and_never_those_that_lie_apart() {
        use VoiceFrames::{Ms10, Ms20, Ms60};
        let mut voice = Voice::new().expect("an encoder");
        let mut add = |n: u64, level, frames| {
            let samples = |data: Vec<u8>| opus::packet::get_nb_samples(&data, SAMPLE_RATE).expect("a frame");
            voice
                .add(&[300; BLOCK], n * BLOCK_NS, level, frames)
                .map(|(data, at, level)| (samples(data), at / BLOCK_NS, level))
        };
        assert_eq!(add(0, 30, Ms10), Some((480, 0, 30)));
        assert_eq!(add(1, 30, Ms20), None);
        assert_eq!(add(2, 20, Ms20), Some((960, 1, 20)));
        assert_eq!(add(3, 30, Ms20), None);
        // Back to short ones: what waits goes with the next.
        assert_eq!(add(4, 40, Ms10), Some((960, 3, 30)));
        assert_eq!(add(5, 30, Ms10), Some((480, 5, 30)));
        assert_eq!(add(6, 30, Ms20), None);
        // Nothing was sent for a second.
        assert_eq!(add(106, 30, Ms20), None);
        assert_eq!(add(107, 30, Ms20), Some((960, 106, 30)));
        let long: Vec<_> = (108..120).filter_map(|n| add(n, 30, Ms60)).collect();
        assert_eq!(long, [(2_880, 108, 30), (2_880, 114, 30)]);
        // Three blocks wait, and Opus has no frame of three: the fourth makes one.
        assert!((120..123).all(|n| add(n, 30, Ms60).is_none()));
        assert_eq!(add(123, 30, Ms20), Some((1_920, 120, 30)));
        assert_eq!(add(124, 30, Ms10), Some((480, 124, 30)));
    }

    #[test]
    fn silence_and_full_scale_have_their_levels() {
        assert_eq!(level(&[0; BLOCK]), 127);
        assert_eq!(level(&[i16::MAX; BLOCK]), 0);
        assert_eq!(level(&[3_277; BLOCK]), 20);
    }
}
