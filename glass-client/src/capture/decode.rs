//! Decodes one frame of the ring on demand: from its key frame up to it.
//!
//! Owns: a VP8 decoder kept warm (a cold one costs more than ten frames). H.264 gets a fresh one each time, because only
//! its end of stream empties it. Never: anything live.

use std::time::Duration;

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::VideoFrameExt as _;
use lotse_protocol::signal::Codec;

use super::{
    encode::{MAIN_HEIGHT, MAIN_WIDTH},
    yuv,
};
use crate::{error::GlassError, ring::EncodedFrame};

/// Longest wait for one picture.
const PATIENCE: Duration = Duration::from_secs(3);

/// A raw I420 picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Picture {
    pub fn to_rgba(&self, width: usize, height: usize) -> Option<yuv::Rgba> {
        yuv::to_rgba(&self.data, self.width, self.height, width, height)
    }
}

/// Decodes on demand.
#[derive(Default)]
pub struct Decoder {
    warm: Option<Running>,
}

struct Running {
    pipeline: gst::Pipeline,
    input: AppSrc,
    output: AppSink,
    next: u64,
}

impl Decoder {
    /// Starts the VP8 decoder before it is needed.
    pub fn warm_up(&mut self) -> Result<(), GlassError> {
        if self.warm.is_none() {
            self.warm = Some(Running::start(Codec::Vp8)?);
        }
        Ok(())
    }

    /// Decodes the last of `frames`; the first must be a key frame.
    pub fn last_of(&mut self, frames: &[EncodedFrame]) -> Result<Picture, GlassError> {
        let codec = frames.first().map(|f| f.codec).ok_or_else(|| broken("no frame"))?;
        let sample = if codec == Codec::Vp8 {
            self.warm_up()?;
            let decoder = self.warm.as_mut().ok_or_else(|| broken("no decoder"))?;
            let result = decoder.decode(frames, false);
            if result.is_err() {
                self.warm = None;
            }
            result?
        } else {
            Running::start(codec)?.decode(frames, true)?
        };
        sample.as_ref().and_then(picture).ok_or_else(|| broken("the decoder gave no picture"))
    }
}

impl Running {
    fn start(codec: Codec) -> Result<Self, GlassError> {
        let (caps, decoder) = match codec {
            Codec::H264 => (
                "video/x-h264,stream-format=byte-stream,alignment=au",
                if gst::ElementFactory::find("avdec_h264").is_some() {
                    "avdec_h264 max-threads=1"
                } else {
                    "openh264dec"
                },
            ),
            _ => ("video/x-vp8", "vp8dec threads=2"),
        };
        let line = format!(
            "appsrc name=in format=time max-bytes=0 ! {caps} ! {decoder} ! videoconvert ! video/x-raw,format=I420 ! \
             appsink name=out sync=false async=false max-buffers=0 qos=false"
        );
        let pipeline = gst::parse::launch(&line)
            .map_err(broken)?
            .downcast::<gst::Pipeline>()
            .map_err(|_| broken("not a pipeline"))?;
        let input = pipeline.by_name("in").and_then(|e| e.downcast::<AppSrc>().ok()).ok_or_else(|| broken("appsrc"))?;
        let output =
            pipeline.by_name("out").and_then(|e| e.downcast::<AppSink>().ok()).ok_or_else(|| broken("appsink"))?;
        let mut caps = gst::Caps::builder(if codec == Codec::H264 { "video/x-h264" } else { "video/x-vp8" })
            .field("width", i32::from(MAIN_WIDTH))
            .field("height", i32::from(MAIN_HEIGHT))
            .field("framerate", gst::Fraction::new(30, 1));
        if codec == Codec::H264 {
            caps = caps.field("stream-format", "byte-stream").field("alignment", "au");
        }
        input.set_caps(Some(&caps.build()));
        pipeline.set_state(gst::State::Playing).map_err(broken)?;
        Ok(Self { pipeline, input, output, next: 0 })
    }

    /// All of them; gives the last picture. `end`: nothing follows, the decoder is emptied.
    fn decode(&mut self, frames: &[EncodedFrame], end: bool) -> Result<Option<gst::Sample>, GlassError> {
        for frame in frames {
            let mut buffer = gst::Buffer::from_slice(frame.data.clone());
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(gst::ClockTime::from_mseconds(self.next));
            }
            self.next += 1;
            self.input.push_buffer(buffer).map_err(|e| broken(format!("{e:?}")))?;
        }
        if end {
            self.input.end_of_stream().map_err(|e| broken(format!("{e:?}")))?;
        }
        let patience = gst::ClockTime::from_mseconds(PATIENCE.as_millis() as u64);
        let mut last = None;
        for _ in frames {
            match self.output.try_pull_sample(patience) {
                Some(sample) => last = Some(sample),
                None if self.output.is_eos() => break,
                None => return Err(broken("the decoder gave no picture")),
            }
        }
        Ok(last)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn picture(sample: &gst::Sample) -> Option<Picture> {
    let info = gstreamer_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    let frame = gstreamer_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let layout = yuv::Layout::of(width, height);
    let mut data = vec![0; yuv::size(width, height)];
    let planes = [
        (0, 0, layout.stride, width, height),
        (1, layout.u, layout.chroma_stride, width.div_ceil(2), height.div_ceil(2)),
        (2, layout.v, layout.chroma_stride, width.div_ceil(2), height.div_ceil(2)),
    ];
    for (plane, offset, stride, columns, rows) in planes {
        let from = frame.plane_data(plane).ok()?;
        let from_stride = *frame.plane_stride().get(plane as usize)? as usize;
        for row in 0..rows {
            let line = from.get(row * from_stride..row * from_stride + columns)?;
            data[offset + row * stride..][..columns].copy_from_slice(line);
        }
    }
    Some(Picture { width, height, data })
}

fn broken(why: impl std::fmt::Display) -> GlassError {
    GlassError::Encoder { why: format!("decoding a frame of the ring: {why}") }
}
