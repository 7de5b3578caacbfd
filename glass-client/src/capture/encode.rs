//! Encodes pictures: `main` at 1280x720, or half of it where the link is narrow, and `preview` at 320x180.
//!
//! Owns: one GStreamer pipeline per encoding, running times taken from the segment (raw PTS of x264 are shifted by 1000
//! hours), key frames by time and on request, and what went wrong. One frame waits at most; a newer one replaces it.
//! Never: RTP, or another encoder in its place. Elsewhere: which encoder (`encoders`), packets (`packet`), the ring (`ring`).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::UpstreamForceKeyUnitEvent;
use lotse_protocol::signal::Codec;

use super::{RawFrame, yuv};
use crate::{
    clock::monotonic_ns,
    packet::{h264, vp8},
    profile::EncoderChoice,
};

pub const MAIN_WIDTH: u16 = 1280;
pub const MAIN_HEIGHT: u16 = 720;
pub const PREVIEW_WIDTH: u16 = 320;
pub const PREVIEW_HEIGHT: u16 = 180;
/// Bit/s.
pub const MAIN_BITRATE: u32 = 1_500_000;
/// Bit/s: with packet headers it stays below 80 kbit/s.
const PREVIEW_BITRATE: u32 = 64_000;
/// Least time between two preview pictures: 5 a second, with some play for jitter.
const PREVIEW_PERIOD_NS: u64 = 190_000_000;
/// A key frame at least this often. The contract says 10 s; 4 s halve the wait for a marked picture, where the link carries them.
const KEY_FRAME_NS: u64 = 4_000_000_000;
const RARE_KEY_FRAME_NS: u64 = 10_000_000_000;
/// Bit/s below which key frames are rare.
const KEY_FRAMES_FROM: u32 = 1_000_000;
/// What a picture may come early and is still taken, at a pace: half the time between two of a camera, about.
const EARLY_NS: u64 = 12_000_000;
/// Requests for key frames closer together than this are one: three tenths of a second, or as long as a narrow link takes to carry one.
const KEY_FRAME_PAUSE_NS: u64 = 300_000_000;
const LONGEST_KEY_FRAME_PAUSE_NS: u64 = 3_000_000_000;
/// Bits of a key frame at a low rate: some 25 kB, and 9 at half the size.
const KEY_FRAME_BITS: u64 = 200_000;
const HALF_KEY_FRAME_BITS: u64 = 72_000;
/// So many pictures in and none out, for so long: the encoder hangs. Software on a machine with all its hands full was seen to hold
/// pictures for 4.7 s, and a source that was held up itself gives many at once.
const UNANSWERED: u64 = 150;
const UNANSWERED_NS: u64 = 6_000_000_000;
/// The encoder's name in its pipeline.
const ENCODER: &str = "encoder";
/// And what sets the size before it.
const SIZE: &str = "size";
/// Between two pictures of a trial.
const TRIAL_PERIOD: Duration = Duration::from_millis(33);

/// One encoded picture as it leaves an encoder.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub codec: Codec,
    pub capture_ns: u64,
    pub key: bool,
    pub data: bytes::Bytes,
}

/// Which of the two encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Main,
    Preview,
}

impl Size {
    pub fn pixels(self) -> (u16, u16) {
        match self {
            Size::Main => (MAIN_WIDTH, MAIN_HEIGHT),
            Size::Preview => (PREVIEW_WIDTH, PREVIEW_HEIGHT),
        }
    }
}

/// Bit/s, pictures a second and size of `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub bps: u32,
    pub fps: u32,
    /// Half as wide and half as high.
    pub half: bool,
}

impl Rate {
    pub const FULL: Self = Self { bps: MAIN_BITRATE, fps: 30, half: false };
}

/// Takes encoded pictures, on a thread of the encoder; must not block.
pub type Deliver = Arc<dyn Fn(Encoded) + Send + Sync>;

/// A running encoder.
pub struct Encoder {
    pipeline: gst::Pipeline,
    input: AppSrc,
    output: AppSink,
    codec: Codec,
    element: String,
    /// Where the bit rate is set while it runs, and in what unit; None: it stands in settings that are read once.
    rate: Option<(gst::Element, String, u32)>,
    /// Where the size is set while it runs, and whether it is the half one; None: this encoder has one size.
    size: Option<(gst::Element, AtomicBool)>,
    /// Least time between two pictures.
    period_ns: AtomicU64,
    key_period_ns: AtomicU64,
    key_pause_ns: AtomicU64,
    last_pushed_ns: AtomicU64,
    key_wanted: AtomicBool,
    pushed: AtomicU64,
    seen: Arc<Seen>,
    /// Rings when a picture of a trial comes out.
    tried: std::sync::Mutex<mpsc::Receiver<()>>,
}

/// What came out of the pipeline and its bus.
#[derive(Default)]
struct Seen {
    fault: OnceLock<String>,
    /// Pictures put in since the last one that came out.
    unanswered: AtomicU64,
    /// When that was, or when the first one was put in.
    answered_ns: AtomicU64,
    last_key_ns: AtomicU64,
    /// Pictures of this time and later are delivered; 0: none yet, it is on trial.
    from_ns: AtomicU64,
    /// The first key frame has been delivered: what comes before it cannot be decoded.
    open: AtomicBool,
}

impl Seen {
    /// Keeps the first reason: what follows is its echo.
    fn broken(&self, why: String) {
        let _ = self.fault.set(why);
    }

    fn delivers(&self, frame: &Encoded) -> bool {
        self.unanswered.store(0, Ordering::Relaxed);
        self.answered_ns.store(monotonic_ns(), Ordering::Relaxed);
        let from = self.from_ns.load(Ordering::Relaxed);
        if from == 0 || frame.capture_ns < from {
            return false;
        }
        if frame.key {
            self.last_key_ns.store(frame.capture_ns, Ordering::Relaxed);
            self.open.store(true, Ordering::Relaxed);
        }
        self.open.load(Ordering::Relaxed)
    }
}

impl Encoder {
    /// Builds and starts one; the error says why it cannot be used. It delivers nothing before [`Encoder::go`] or a passed trial.
    pub fn start(size: Size, choice: &EncoderChoice, deliver: Deliver) -> Result<Self, String> {
        let codec = choice.codec();
        let pipeline = gst::parse::launch(&line(size, choice))
            .map_err(|e| e.to_string())?
            .downcast::<gst::Pipeline>()
            .map_err(|_| "not a pipeline".to_owned())?;
        let element = |name: &str| pipeline.by_name(name).ok_or_else(|| format!("no {name}"));
        let rate = (!choice.bitrate_property.is_empty())
            .then(|| Ok::<_, String>((element(ENCODER)?, choice.bitrate_property.clone(), choice.bitrate_unit.max(1))))
            .transpose()?;
        let size_filter = resizes(size, choice).then(|| element(SIZE)).transpose()?;
        if let Some(filter) = &size_filter {
            filter.set_property("caps", sized(false));
        }
        let input = element("in")?.downcast::<AppSrc>().map_err(|_| "no appsrc".to_owned())?;
        let output = element("out")?.downcast::<AppSink>().map_err(|_| "no appsink".to_owned())?;
        let fps = if size == Size::Main { 30 } else { 5 };
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", i32::from(MAIN_WIDTH))
            .field("height", i32::from(MAIN_HEIGHT))
            .field("framerate", gst::Fraction::new(fps, 1))
            .build();
        input.set_caps(Some(&caps));
        input.set_format(gst::Format::Time);
        input.set_is_live(true);
        input.set_block(false);
        input.set_max_buffers(1);
        input.set_max_bytes(0);
        input.set_leaky_type(AppLeakyType::Downstream);
        let seen = Arc::new(Seen::default());
        let (ring, tried) = mpsc::sync_channel(1);
        let look = seen.clone();
        output.set_callbacks(
            AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if let Some(frame) = read(&sample, codec) {
                        if look.delivers(&frame) {
                            deliver(frame);
                        } else {
                            // Rung already, or nobody waits.
                            let _ = ring.try_send(());
                        }
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        if let Some(bus) = pipeline.bus() {
            let seen = seen.clone();
            // Nobody reads the bus: whatever else is on it is dropped.
            bus.set_sync_handler(move |_, message| {
                match message.view() {
                    gst::MessageView::Error(e) => seen.broken(e.error().to_string().trim_end_matches('.').to_owned()),
                    gst::MessageView::Eos(_) => seen.broken("it ended".into()),
                    _ => {}
                }
                gst::BusSyncReply::Drop
            });
        }
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(gst::ClockTime::ZERO);
        let started = pipeline.set_state(gst::State::Playing);
        let encoder = Self {
            pipeline,
            input,
            output,
            codec,
            element: choice.element.clone(),
            rate,
            size: size_filter.map(|filter| (filter, AtomicBool::new(false))),
            period_ns: (if size == Size::Main { 0 } else { PREVIEW_PERIOD_NS }).into(),
            key_period_ns: KEY_FRAME_NS.into(),
            key_pause_ns: KEY_FRAME_PAUSE_NS.into(),
            last_pushed_ns: AtomicU64::new(0),
            key_wanted: false.into(),
            pushed: AtomicU64::new(0),
            seen,
            tried: std::sync::Mutex::new(tried),
        };
        // Hardware encoders open their device here and say on the bus what is wrong.
        match started {
            Ok(_) => Ok(encoder),
            Err(_) => {
                Err(format!("it does not start: {}", encoder.fault().unwrap_or_else(|| "no reason given".into())))
            }
        }
    }

    /// Encodes black pictures until one comes out, then is ready for those of the camera.
    pub fn trial(&self, limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        let black = gst::Buffer::from_mut_slice(yuv::black(MAIN_WIDTH.into(), MAIN_HEIGHT.into()));
        let mut count = 0;
        while began.elapsed() < limit {
            self.push(&RawFrame { picture: black.clone(), capture_ns: monotonic_ns() });
            count += 1;
            let rung = self.tried.lock().is_ok_and(|t| t.recv_timeout(TRIAL_PERIOD).is_ok());
            if let Some(why) = self.fault() {
                return Err(why);
            }
            if rung {
                self.go();
                return Ok(());
            }
        }
        Err(format!("it gave no picture for {count} pictures in {} ms", limit.as_millis()))
    }

    /// From now on pictures are delivered, the first of them a key frame.
    pub fn go(&self) {
        self.seen.last_key_ns.store(0, Ordering::Relaxed);
        self.key_wanted.store(true, Ordering::Relaxed);
        self.seen.from_ns.store(monotonic_ns(), Ordering::Relaxed);
    }

    /// Why this encoder is of no more use.
    pub fn fault(&self) -> Option<String> {
        if let Some(why) = self.seen.fault.get() {
            return Some(why.clone());
        }
        let waiting = self.seen.unanswered.load(Ordering::Relaxed);
        let since_ns = monotonic_ns().saturating_sub(self.seen.answered_ns.load(Ordering::Relaxed));
        (waiting > UNANSWERED && since_ns > UNANSWERED_NS).then(|| format!("nothing came out for {waiting} pictures"))
    }

    /// From the next picture on; another size begins with a key frame. One whose bit rate stands in settings that are read once
    /// follows the pace alone, one that cannot change its size keeps it.
    pub fn follow(&self, rate: Rate) {
        let mut half = false;
        if let Some((filter, now)) = &self.size {
            half = rate.half;
            if now.swap(half, Ordering::Relaxed) != half {
                filter.set_property("caps", sized(half));
            }
        }
        if let Some((element, property, unit)) = &self.rate {
            element.set_property_from_str(property, &(rate.bps / unit).to_string());
        }
        // At the full pace the camera sets it.
        let slow = rate.fps < Rate::FULL.fps;
        let every_ns = if slow { 1_000_000_000 / u64::from(rate.fps.max(1)) } else { 0 };
        self.period_ns.store(every_ns.saturating_sub(EARLY_NS), Ordering::Relaxed);
        let keys_ns = if rate.bps < KEY_FRAMES_FROM { RARE_KEY_FRAME_NS } else { KEY_FRAME_NS };
        self.key_period_ns.store(keys_ns, Ordering::Relaxed);
        let bits = if half { HALF_KEY_FRAME_BITS } else { KEY_FRAME_BITS };
        let carried_ns = bits * 1_000_000_000 / u64::from(rate.bps.max(1));
        let pause_ns = carried_ns.clamp(KEY_FRAME_PAUSE_NS, LONGEST_KEY_FRAME_PAUSE_NS);
        self.key_pause_ns.store(pause_ns, Ordering::Relaxed);
    }

    /// Is it time for this picture?
    pub fn is_due(&self, frame: &RawFrame) -> bool {
        let last = self.last_pushed_ns.load(Ordering::Relaxed);
        let period_ns = self.period_ns.load(Ordering::Relaxed);
        frame.capture_ns > last && (last == 0 || frame.capture_ns - last >= period_ns)
    }

    /// Offers a picture. Returns whether it was taken.
    pub fn push(&self, frame: &RawFrame) -> bool {
        if !self.is_due(frame) {
            return false;
        }
        self.last_pushed_ns.store(frame.capture_ns, Ordering::Relaxed);
        let since_key = frame.capture_ns.saturating_sub(self.seen.last_key_ns.load(Ordering::Relaxed));
        let wanted =
            since_key > self.key_pause_ns.load(Ordering::Relaxed) && self.key_wanted.swap(false, Ordering::Relaxed);
        if wanted || (since_key > self.key_period_ns.load(Ordering::Relaxed) && self.pushed.load(Ordering::Relaxed) > 0)
        {
            self.seen.last_key_ns.store(frame.capture_ns, Ordering::Relaxed);
            self.output.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        let mut buffer = frame.picture.copy();
        {
            let Some(buffer) = buffer.get_mut() else { return false };
            buffer.set_pts(gst::ClockTime::from_nseconds(frame.capture_ns));
            buffer.set_dts(gst::ClockTime::NONE);
        }
        self.pushed.fetch_add(1, Ordering::Relaxed);
        if self.seen.unanswered.fetch_add(1, Ordering::Relaxed) == 0 {
            // Between two calls nothing is put in for hours.
            self.seen.answered_ns.store(monotonic_ns(), Ordering::Relaxed);
        }
        let taken = self.input.push_buffer(buffer);
        if let Err(e) = taken {
            self.seen.broken(format!("it takes no more pictures ({e})"));
        }
        taken.is_ok()
    }

    /// Makes the next picture a key frame.
    pub fn key_frame(&self) {
        self.key_wanted.store(true, Ordering::Relaxed);
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The GStreamer element in use.
    pub fn element(&self) -> &str {
        &self.element
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn resizes(size: Size, choice: &EncoderChoice) -> bool {
    size == Size::Main && choice.resizes
}

/// Of the main picture.
fn sized(half: bool) -> gst::Caps {
    let part = if half { 2 } else { 1 };
    gst::Caps::builder("video/x-raw")
        .field("width", i32::from(MAIN_WIDTH) / part)
        .field("height", i32::from(MAIN_HEIGHT) / part)
        .build()
}

/// The pipeline as on a `gst-launch-1.0` line.
fn line(size: Size, choice: &EncoderChoice) -> String {
    let (width, height) = size.pixels();
    let bitrate = if size == Size::Main { MAIN_BITRATE } else { PREVIEW_BITRATE } / choice.bitrate_unit.max(1);
    let rate = match choice.bitrate_property.as_str() {
        "" => String::new(),
        property => format!("{property}={bitrate}"),
    };
    let settings = choice.settings.replace("{bitrate}", &bitrate.to_string());
    // I420 comes in; hardware often wants NV12. Where the encoder takes I420, nothing is copied.
    let scale = match size {
        Size::Main if resizes(size, choice) => {
            format!("videoconvert n-threads=1 ! videoscale ! capsfilter name={SIZE}")
        }
        Size::Main => "videoconvert n-threads=1".into(),
        Size::Preview => format!("videoscale ! video/x-raw,width={width},height={height}"),
    };
    let output = if choice.output.is_empty() { String::new() } else { format!("! {}", choice.output) };
    let tail = match choice.codec() {
        Codec::H264 => "! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
        _ => "",
    };
    // The rate before the settings: those may go on with further elements.
    format!(
        "appsrc name=in ! {scale} ! {} name={ENCODER} {rate} {settings} {output} {tail} ! appsink name=out sync=false async=false",
        choice.element
    )
}

fn read(sample: &gst::Sample, codec: Codec) -> Option<Encoded> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let capture_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let map = buffer.map_readable().ok()?;
    let data = bytes::Bytes::copy_from_slice(&map);
    let key = if codec == Codec::H264 { h264::is_key(&data) } else { vp8::is_key(&data) };
    Some(Encoded { codec, capture_ns, key, data })
}
