//! Voices in: what the others say, from RTP packets to one loudspeaker.
//!
//! Use: `let speaker = Speaker::start(SpeakerConfig::parse("auto")?)`, then `speaker.push(track, packet)` for each packet of each
//! voice, from anywhere, without waiting; `speaker.remove(track)` when a voice has gone. `level()`, `counters()` and `state()` tell how it
//! goes. Without a sound device `state()` says why, and everything else goes on in silence. Dropping the last handle ends the sound.
//!
//! Owns: the output thread with its clock, one `Voice` per track, the sum. Runs on its own thread.
//! Never: waits for the network, blocks who pushes. A full queue loses packets and counts them.
//! Elsewhere: which packets come (`link`), the microphone (`capture`).

mod buffer;
mod mix;
mod sink;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use lotse_protocol::id::TrackId;

use self::{
    mix::{Level, Limiter},
    sink::Sink,
    stream::Voice,
};
use crate::error::GlassError;

/// Samples per second of everything here, and of Opus' RTP times.
pub const SAMPLE_RATE: u32 = 48_000;
/// One block: 10 ms, the shortest time in which a slow device is still on time.
const BLOCK: usize = 480;
const BLOCK_TIME: Duration = Duration::from_millis(10);
/// Packets on their way to the output thread: three voices of 50 a second for 1.7 s. When full, a packet is dropped and counted.
const QUEUE: usize = 256;
/// Voices at a time: the server sends three; the one silent for longest makes room.
const VOICES: usize = 8;

/// One packet of a voice: Opus (RFC 7587), 48 kHz RTP time.
#[derive(Debug, Clone)]
pub struct VoicePacket {
    pub rtp_time: u32,
    pub seq: u16,
    pub payload: Bytes,
    pub arrived: Instant,
}

/// Where the sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeakerConfig {
    /// The system's sound device.
    Auto,
    /// A device of ALSA, e.g. `hw:1,0`.
    Alsa(String),
    /// A WAV file, 48 kHz, 16 bit, mono; time in the file is time since start, and it can be read at any moment.
    Wav(PathBuf),
    None,
}

/// How the loudspeaker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkState {
    Starting,
    Playing,
    /// Nothing is to be heard, as configured.
    Off,
    /// Nothing is to be heard; the call goes on.
    Failed {
        why: String,
        remedy: &'static str,
    },
}

/// What happened to the voices, since start. A packet is usually 20 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Packets heard.
    pub played: u64,
    /// Packets that were missing when they should have been heard, and were filled from what was there.
    pub concealed: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets thrown away: twice the same, unreadable, too many.
    pub dropped: u64,
}

/// The loudspeaker. Cheap to clone; all handles are the same loudspeaker.
#[derive(Debug, Clone)]
pub struct Speaker {
    queue: SyncSender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `f32` bits.
    level: AtomicU32,
    played: AtomicU64,
    concealed: AtomicU64,
    late: AtomicU64,
    dropped: AtomicU64,
    /// Dropped before the output thread saw them.
    overflowed: AtomicU64,
    state: Mutex<SinkState>,
}

enum Order {
    Packet(TrackId, VoicePacket),
    Remove(TrackId),
}

impl SpeakerConfig {
    /// `auto`, `alsa:DEVICE`, `wav:FILE` or `none`.
    pub fn parse(text: &str) -> Result<Self, GlassError> {
        match (text, text.split_once(':')) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::None),
            (_, Some(("alsa", device))) if !device.is_empty() => Ok(Self::Alsa(device.into())),
            (_, Some(("wav", file))) if !file.is_empty() => Ok(Self::Wav(file.into())),
            _ => Err(GlassError::Sound {
                device: text.into(),
                why: "is none of auto, alsa:DEVICE, wav:FILE, none".into(),
                remedy: "Write one of them in [sound] speaker.",
            }),
        }
    }
}

/// For `tests/fuzz`: the packets of one voice (ms after the one before, number, RTP time, payload), heard block by block.
#[doc(hidden)]
pub fn fuzz(packets: &[(u8, u16, u32, Bytes)]) {
    let (mut mixer, track, mut block) = (Mixer::new(), TrackId(uuid::Uuid::nil()), [0.0; BLOCK]);
    let mut now = Instant::now();
    for (after_ms, seq, rtp_time, payload) in packets {
        for _ in 0..after_ms / 10 {
            now += BLOCK_TIME;
            mixer.next_block(now, &mut block);
            assert!(block.iter().all(|sample| sample.abs() <= 1.0), "louder than full scale");
        }
        now += Duration::from_millis(u64::from(after_ms % 10));
        mixer.push(track, VoicePacket { rtp_time: *rtp_time, seq: *seq, payload: payload.clone(), arrived: now });
    }
}

impl Speaker {
    pub fn start(config: SpeakerConfig) -> Self {
        let (queue, orders) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            level: AtomicU32::new(0),
            played: AtomicU64::new(0),
            concealed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            state: Mutex::new(SinkState::Starting),
        });
        let output = Output::new(shared.clone());
        let started = std::thread::Builder::new().name("speaker".into()).spawn(move || output.run(&config, &orders));
        if let Err(e) = started {
            shared.set_state(SinkState::Failed { why: e.to_string(), remedy: "Close other programs and start again." });
        }
        Self { queue, shared }
    }

    /// Never waits.
    pub fn push(&self, track: TrackId, packet: VoicePacket) {
        self.send(Order::Packet(track, packet));
    }

    /// This voice has gone.
    pub fn remove(&self, track: TrackId) {
        self.send(Order::Remove(track));
    }

    /// Effective value of what was played last (about 100 ms): 0 silence, 1 full scale.
    pub fn level(&self) -> f32 {
        f32::from_bits(self.shared.level.load(Ordering::Relaxed))
    }

    pub fn counters(&self) -> Counters {
        let s = &self.shared;
        Counters {
            played: s.played.load(Ordering::Relaxed),
            concealed: s.concealed.load(Ordering::Relaxed),
            late: s.late.load(Ordering::Relaxed),
            dropped: s.dropped.load(Ordering::Relaxed) + s.overflowed.load(Ordering::Relaxed),
        }
    }

    pub fn state(&self) -> SinkState {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, order: Order) {
        if self.queue.try_send(order).is_err() {
            self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn set_state(&self, state: SinkState) {
        if let SinkState::Failed { why, remedy } = &state {
            tracing::warn!("no sound: {why}. {remedy} The call goes on in silence.");
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// The output thread's belongings.
struct Output {
    shared: Arc<Shared>,
    mixer: Mixer,
    level: Level,
}

impl Output {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, mixer: Mixer::new(), level: Level::default() }
    }

    fn run(mut self, config: &SpeakerConfig, orders: &Receiver<Order>) {
        let mut sink = self.open(config);
        let start = Instant::now();
        let mut block = [0.0; BLOCK];
        // Each block has its own time, so that a late thread catches up and the file's time stays true.
        for n in 0u32.. {
            let at = start + BLOCK_TIME * n;
            if let Some(rest) = at.checked_duration_since(Instant::now()) {
                std::thread::sleep(rest);
            }
            if !self.take(orders) {
                break;
            }
            self.mixer.next_block(at, &mut block);
            if let Err((why, remedy)) = sink.write(&block) {
                self.shared.set_state(SinkState::Failed { why, remedy });
                sink = Sink::None;
            }
            self.tell(&block);
        }
        sink.close();
    }

    fn open(&self, config: &SpeakerConfig) -> Sink {
        match Sink::open(config) {
            Ok(sink) => {
                self.shared.set_state(if matches!(sink, Sink::None) { SinkState::Off } else { SinkState::Playing });
                sink
            }
            Err((why, remedy)) => {
                self.shared.set_state(SinkState::Failed { why, remedy });
                Sink::None
            }
        }
    }

    /// False: the last handle has gone.
    fn take(&mut self, orders: &Receiver<Order>) -> bool {
        loop {
            match orders.try_recv() {
                Ok(Order::Packet(track, packet)) => self.mixer.push(track, packet),
                Ok(Order::Remove(track)) => self.mixer.remove(track),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn tell(&mut self, block: &[f32]) {
        let level = self.level.add(block);
        let counters = self.mixer.counters();
        let s = &self.shared;
        s.level.store(level.to_bits(), Ordering::Relaxed);
        s.played.store(counters.played, Ordering::Relaxed);
        s.concealed.store(counters.concealed, Ordering::Relaxed);
        s.late.store(counters.late, Ordering::Relaxed);
        s.dropped.store(counters.dropped, Ordering::Relaxed);
    }
}

/// All voices and their sum; no thread, no clock.
struct Mixer {
    voices: HashMap<TrackId, Voice>,
    limiter: Limiter,
    /// Of voices that have gone.
    gone: Counters,
}

impl Mixer {
    fn new() -> Self {
        Self { voices: HashMap::new(), limiter: Limiter::new(), gone: Counters::default() }
    }

    fn push(&mut self, track: TrackId, packet: VoicePacket) {
        if let Some(voice) = self.voices.get_mut(&track) {
            return voice.push(packet);
        }
        if self.voices.len() >= VOICES {
            let quietest = self.voices.iter().min_by_key(|(_, v)| v.last_arrival).map(|(t, _)| *t);
            if let Some(track) = quietest {
                self.remove(track);
            }
        }
        match Voice::new(packet.arrived) {
            Ok(mut voice) => {
                voice.push(packet);
                self.voices.insert(track, voice);
            }
            Err(_) => self.gone.dropped += 1,
        }
    }

    fn remove(&mut self, track: TrackId) {
        if let Some(voice) = self.voices.remove(&track) {
            self.gone = self.gone.plus(voice.counters);
        }
    }

    fn next_block(&mut self, now: Instant, block: &mut [f32]) {
        block.fill(0.0);
        for voice in self.voices.values_mut() {
            voice.add_to(now, block);
        }
        self.limiter.apply(block);
    }

    fn counters(&self) -> Counters {
        self.voices.values().fold(self.gone, |sum, v| sum.plus(v.counters))
    }
}

impl Counters {
    fn plus(self, other: Self) -> Self {
        Self {
            played: self.played + other.played,
            concealed: self.concealed + other.concealed,
            late: self.late + other.late,
            dropped: self.dropped + other.dropped,
        }
    }
}

/// Samples in so many ms.
fn per_ms(ms: f64) -> f64 {
    ms * f64::from(SAMPLE_RATE) / 1_000.0
}
