//! Encodes pictures: `main` at 1280x720 and `preview` at 320x180.
//!
//! Owns: one GStreamer pipeline per encoding, running times taken from the segment (raw PTS of x264 are shifted by 1000
//! hours), key frames by time and on request. One frame waits at most; a newer one replaces it.
//! Never: RTP. Elsewhere: packets (`packet`), the ring (`ring`).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::UpstreamForceKeyUnitEvent;
use lotse_protocol::signal::Codec;

use super::RawFrame;
use crate::{
    error::GlassError,
    packet::{h264, vp8},
    profile::EncoderChoice,
};

pub const MAIN_WIDTH: u16 = 1280;
pub const MAIN_HEIGHT: u16 = 720;
pub const PREVIEW_WIDTH: u16 = 320;
pub const PREVIEW_HEIGHT: u16 = 180;
/// Bit/s.
const MAIN_BITRATE: u32 = 1_500_000;
/// Bit/s: with packet headers it stays below 80 kbit/s.
const PREVIEW_BITRATE: u32 = 64_000;
/// Least time between two preview pictures: 5 a second, with some play for jitter.
const PREVIEW_PERIOD_NS: u64 = 190_000_000;
/// A key frame at least this often. The contract says 10 s; 4 s halve the wait for a marked picture.
const KEY_FRAME_NS: u64 = 4_000_000_000;
/// Requests for key frames closer together than this are one.
const KEY_FRAME_PAUSE_NS: u64 = 300_000_000;

/// One encoded picture as it leaves an encoder.
#[derive(Debug, Clone)]
pub struct Encoded {
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

/// A running encoder.
pub struct Encoder {
    pipeline: gst::Pipeline,
    input: AppSrc,
    output: AppSink,
    size: Size,
    codec: Codec,
    element: String,
    last_pushed_ns: AtomicU64,
    key_wanted: std::sync::atomic::AtomicBool,
    last_key_ns: Arc<AtomicU64>,
    pushed: AtomicU64,
}

impl Encoder {
    /// The first of `choices` that is installed and runs; `vp8enc` last.
    pub fn start(
        size: Size,
        choices: &[EncoderChoice],
        deliver: impl Fn(Encoded) + Send + Sync + 'static,
    ) -> Result<Self, GlassError> {
        let deliver: Arc<dyn Fn(Encoded) + Send + Sync> = Arc::new(deliver);
        let vp8 = vp8();
        let mut why = String::new();
        // The preview is always VP8: hardware encoders rarely run twice.
        let choices: Vec<&EncoderChoice> =
            if size == Size::Main { choices.iter().chain([&vp8]).collect() } else { vec![&vp8] };
        for choice in choices {
            if gst::ElementFactory::find(&choice.element).is_none() {
                why = format!("{} is not installed", choice.element);
                tracing::info!("encoder {}", why);
                continue;
            }
            match Self::build(size, choice, deliver.clone()) {
                Ok(encoder) => return Ok(encoder),
                Err(e) => {
                    why = format!("{}: {e}", choice.element);
                    tracing::warn!("encoder {why}");
                }
            }
        }
        Err(GlassError::Encoder { why })
    }

    fn build(
        size: Size,
        choice: &EncoderChoice,
        deliver: Arc<dyn Fn(Encoded) + Send + Sync>,
    ) -> Result<Self, GlassError> {
        let codec = if choice.codec == "h264" { Codec::H264 } else { Codec::Vp8 };
        let broken = |why: String| GlassError::Encoder { why };
        let (width, height) = size.pixels();
        let bitrate = if size == Size::Main { MAIN_BITRATE } else { PREVIEW_BITRATE };
        let rate = if choice.bitrate_property.is_empty() {
            String::new()
        } else {
            format!("{}={}", choice.bitrate_property, bitrate / choice.bitrate_unit.max(1))
        };
        let scale = match size {
            Size::Main => String::new(),
            Size::Preview => format!("videoscale ! video/x-raw,width={width},height={height} !"),
        };
        let tail = match codec {
            Codec::H264 => "! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
            _ => "",
        };
        let line = format!(
            "appsrc name=in ! {scale} {} {} {rate} {tail} ! appsink name=out sync=false async=false",
            choice.element, choice.settings
        );
        let pipeline = gst::parse::launch(&line)
            .map_err(|e| broken(e.to_string()))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| broken("not a pipeline".into()))?;
        let element = |name: &str| pipeline.by_name(name).ok_or_else(|| broken(format!("no {name}")));
        let input = element("in")?.downcast::<AppSrc>().map_err(|_| broken("no appsrc".into()))?;
        let output = element("out")?.downcast::<AppSink>().map_err(|_| broken("no appsink".into()))?;
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
        let last_key_ns = Arc::new(AtomicU64::new(0));
        let key_at = last_key_ns.clone();
        output.set_callbacks(
            AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if let Some(frame) = read(&sample, codec) {
                        if frame.key {
                            key_at.store(frame.capture_ns, Ordering::Relaxed);
                        }
                        deliver(frame);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(gst::ClockTime::ZERO);
        let started = pipeline.set_state(gst::State::Playing);
        // Hardware encoders open their device here and say on the bus what is wrong.
        if started.is_err() {
            let why = pipeline
                .bus()
                .and_then(|b| b.timed_pop_filtered(gst::ClockTime::from_mseconds(200), &[gst::MessageType::Error]))
                .map(|m| match m.view() {
                    gst::MessageView::Error(e) => e.error().to_string(),
                    _ => String::new(),
                })
                .unwrap_or_default();
            let _ = pipeline.set_state(gst::State::Null);
            return Err(broken(format!("does not start {why}")));
        }
        Ok(Self {
            pipeline,
            input,
            output,
            size,
            codec,
            element: choice.element.clone(),
            last_pushed_ns: AtomicU64::new(0),
            key_wanted: false.into(),
            last_key_ns,
            pushed: AtomicU64::new(0),
        })
    }

    /// Offers a picture. Returns whether it was taken (the preview takes five a second).
    pub fn push(&self, frame: &RawFrame) -> bool {
        let last = self.last_pushed_ns.load(Ordering::Relaxed);
        if frame.capture_ns <= last
            || (self.size == Size::Preview && frame.capture_ns - last < PREVIEW_PERIOD_NS && last > 0)
        {
            return false;
        }
        self.last_pushed_ns.store(frame.capture_ns, Ordering::Relaxed);
        let since_key = frame.capture_ns.saturating_sub(self.last_key_ns.load(Ordering::Relaxed));
        let wanted = since_key > KEY_FRAME_PAUSE_NS && self.key_wanted.swap(false, Ordering::Relaxed);
        if wanted || (since_key > KEY_FRAME_NS && self.pushed.load(Ordering::Relaxed) > 0) {
            self.last_key_ns.store(frame.capture_ns, Ordering::Relaxed);
            self.output.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        let mut buffer = frame.picture.copy();
        {
            let Some(buffer) = buffer.get_mut() else { return false };
            buffer.set_pts(gst::ClockTime::from_nseconds(frame.capture_ns));
            buffer.set_dts(gst::ClockTime::NONE);
        }
        self.pushed.fetch_add(1, Ordering::Relaxed);
        self.input.push_buffer(buffer).is_ok()
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

fn vp8() -> EncoderChoice {
    EncoderChoice {
        element: "vp8enc".into(),
        codec: "vp8".into(),
        settings:
            "deadline=1 cpu-used=-8 threads=1 lag-in-frames=0 end-usage=cbr error-resilient=0 keyframe-max-dist=300 \
                   buffer-size=1000 buffer-initial-size=500 buffer-optimal-size=600 undershoot=95 min-quantizer=4 \
                   max-quantizer=56 static-threshold=1 max-intra-bitrate=600 timebase=1/90000"
                .into(),
        bitrate_property: "target-bitrate".into(),
        bitrate_unit: 1,
    }
}

fn read(sample: &gst::Sample, codec: Codec) -> Option<Encoded> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let capture_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let map = buffer.map_readable().ok()?;
    let data = bytes::Bytes::copy_from_slice(&map);
    let key = if codec == Codec::H264 { h264::is_key(&data) } else { vp8::is_key(&data) };
    Some(Encoded { capture_ns, key, data })
}
