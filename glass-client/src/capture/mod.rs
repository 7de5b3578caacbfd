//! Camera and microphone, as raw pictures and sound blocks with the monotonic time of capture.
//!
//! Owns: the seam between a real device and its stand-ins (a clip, a drawn picture). Every source gives the same two
//! things, so nothing behind this module knows which one runs.
//! Never: the network. Elsewhere: encoding (`encode`, `encoders`), voices (`voice`).

pub mod clip;
pub mod decode;
pub mod device;
pub mod encode;
pub mod encoders;
pub mod pattern;
pub mod yuv;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{config::Config, error::GlassError, profile::Profile};

/// Samples per second of all sound here.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of one sound block: 10 ms, usually one Opus frame. Half of the usual 20 ms: a sound waits for the end of its frame
/// before it can leave, and the listener's buffer for a whole frame more.
pub const BLOCK: usize = 480;
/// Length of one sound block, ns.
pub const BLOCK_NS: u64 = 10_000_000;

/// One raw picture, I420 of [`encode::MAIN_WIDTH`] x [`encode::MAIN_HEIGHT`].
#[derive(Debug, Clone)]
pub struct RawFrame {
    pub picture: gstreamer::Buffer,
    /// Monotonic.
    pub capture_ns: u64,
}

/// 10 ms of sound, 48 kHz, one channel.
#[derive(Debug, Clone)]
pub struct SoundBlock {
    pub samples: Box<[i16; BLOCK]>,
    /// Monotonic, of the first sample.
    pub capture_ns: u64,
}

/// What a source reports besides pictures and sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No picture: the sentence for the log. The call goes on with voice.
    Camera(String),
    /// No microphone.
    Microphone(String),
}

/// Where a source delivers. Called on the source's own threads; must not block.
#[derive(Clone)]
pub struct Outlets {
    pub picture: Arc<dyn Fn(RawFrame) + Send + Sync>,
    pub sound: Arc<dyn Fn(SoundBlock) + Send + Sync>,
    pub trouble: Arc<dyn Fn(Trouble) + Send + Sync>,
}

/// A camera, a microphone, or both.
pub trait Source: Send {
    /// Begins to deliver; ends when the guard is dropped.
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError>;
}

/// Keeps a source running.
pub struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Dropped after the threads have ended.
    _keep: Option<Box<dyn Send>>,
}

impl Running {
    fn new(stop: Arc<AtomicBool>, threads: Vec<std::thread::JoinHandle<()>>, keep: Option<Box<dyn Send>>) -> Self {
        Self { stop, threads, _keep: keep }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A source thread that panicked has said so already; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// The sources the settings name. The camera's clip also gives the sound where the microphone is "file".
pub fn sources(config: &Config, profile: &Profile) -> Vec<Box<dyn Source>> {
    let mut list: Vec<Box<dyn Source>> = Vec::new();
    let camera = config.camera.source.as_str();
    if let Some(path) = camera.strip_prefix("file:") {
        list.push(Box::new(clip::Clip { path: path.into(), with_sound: config.sound.microphone == "file" }));
    } else if let Some(device) = camera.strip_prefix("v4l2:") {
        list.push(Box::new(device::Camera { device: device.into(), modes: profile.camera.clone() }));
    } else {
        list.push(Box::new(pattern::Picture));
    }
    match config.sound.microphone.as_str() {
        "auto" => list.push(Box::new(device::Microphone)),
        "test" => list.push(Box::new(pattern::Beeps)),
        _ => {}
    }
    list
}

/// Sleeps until a monotonic time, in steps that notice `stop`. Returns false if stopped.
fn sleep_until(at_ns: u64, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let now = crate::clock::monotonic_ns();
        let Some(left) = at_ns.checked_sub(now).filter(|&l| l > 0) else { return true };
        std::thread::sleep(std::time::Duration::from_nanos(left.min(100_000_000)));
    }
}

/// Initialises GStreamer once.
pub fn init() -> Result<(), GlassError> {
    gstreamer::init().map_err(|e| GlassError::Encoder { why: e.to_string() })
}
