//! The real camera and microphone, through GStreamer.
//!
//! Owns: opening them and telling what is wrong in a sentence. No camera and no sound device were present where this was
//! written: the paths of failure are tested, the paths of success are not.

use std::sync::{Arc, atomic::AtomicBool};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::{
    BLOCK, BLOCK_NS, Outlets, RawFrame, Running, SAMPLE_RATE, SoundBlock, Source, Trouble,
    encode::{MAIN_HEIGHT, MAIN_WIDTH},
};
use crate::{clock::monotonic_ns, error::GlassError, profile::CameraModes};

const CAMERA_REMEDY: &str =
    "Plug the camera in firmly and wait five seconds; v4l2-ctl --list-devices shows what is there.";
const SOUND_REMEDY: &str = "Plug the headset in; arecord -l shows what is there.";

/// A V4L2 camera.
pub struct Camera {
    pub device: String,
    pub modes: CameraModes,
}

/// The sound device's microphone.
pub struct Microphone;

struct Pipeline(gst::Pipeline);

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

impl Source for Camera {
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError> {
        let broken = |why: String| GlassError::Camera {
            source_name: format!("v4l2:{}", self.device),
            why,
            remedy: CAMERA_REMEDY,
        };
        if !std::path::Path::new(&self.device).exists() {
            return Err(broken("there is no such device".into()));
        }
        let CameraModes { format, width, height, fps } = &self.modes;
        let wanted = match format.as_str() {
            "MJPG" => format!("! image/jpeg,width={width},height={height},framerate={fps}/1 ! jpegdec"),
            "YUYV" => format!("! video/x-raw,format=YUY2,width={width},height={height}"),
            _ => "! decodebin".into(),
        };
        let line = format!(
            "v4l2src name=camera do-timestamp=true {wanted} ! queue max-size-buffers=1 leaky=downstream ! videoconvert ! \
             videoscale add-borders=true ! video/x-raw,format=I420,width={MAIN_WIDTH},height={MAIN_HEIGHT} ! \
             appsink name=out sync=false max-buffers=1 drop=true"
        );
        let pipeline = launch(&line).map_err(broken)?;
        if let Some(camera) = pipeline.0.by_name("camera") {
            camera.set_property("device", &self.device);
        }
        let picture = outlets.picture.clone();
        on_sample(&pipeline, move |sample| {
            let (Some(buffer), Some(segment)) = (sample.buffer_owned(), sample.segment()) else { return };
            let time = segment.downcast_ref::<gst::ClockTime>().and_then(|s| s.to_running_time(buffer.pts()?));
            picture(RawFrame { picture: buffer, capture_ns: time.map_or_else(monotonic_ns, |t| t.nseconds()) });
        })
        .map_err(broken)?;
        play(&pipeline).map_err(broken)?;
        let trouble = outlets.trouble.clone();
        Ok(watch(pipeline, move |why| trouble(Trouble::Camera(why))))
    }
}

impl Source for Microphone {
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError> {
        let broken = |why: String| GlassError::Sound { device: "microphone".into(), why, remedy: SOUND_REMEDY };
        let line = format!(
            "autoaudiosrc ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=1 ! \
             appsink name=out sync=false max-buffers=50 drop=true"
        );
        let pipeline = launch(&line).map_err(broken)?;
        let sound = outlets.sound.clone();
        let mut waiting: Vec<i16> = Vec::with_capacity(2 * BLOCK);
        let mut last_ns = 0;
        on_sample(&pipeline, move |sample| {
            let (Some(buffer), Some(segment)) = (sample.buffer(), sample.segment()) else { return };
            let Ok(map) = buffer.map_readable() else { return };
            let time = segment.downcast_ref::<gst::ClockTime>().and_then(|s| s.to_running_time(buffer.pts()?));
            waiting.extend(map.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
            let end = time.map_or_else(monotonic_ns, |t| t.nseconds())
                + map.len() as u64 / 2 * 1_000_000_000 / u64::from(SAMPLE_RATE);
            let mut blocks = waiting.chunks_exact(BLOCK);
            let total = waiting.len() as u64;
            for (i, block) in blocks.by_ref().enumerate() {
                let before_end = (total - (i * BLOCK) as u64) * 1_000_000_000 / u64::from(SAMPLE_RATE);
                // On the device's own clock, but never two blocks at one time.
                let at = end.saturating_sub(before_end).max(last_ns + BLOCK_NS / 2);
                last_ns = at;
                let mut samples = Box::new([0; BLOCK]);
                samples.copy_from_slice(block);
                sound(SoundBlock { samples, capture_ns: at });
            }
            let rest = blocks.remainder().to_vec();
            waiting = rest;
        })
        .map_err(broken)?;
        play(&pipeline).map_err(broken)?;
        let trouble = outlets.trouble.clone();
        Ok(watch(pipeline, move |why| trouble(Trouble::Microphone(why))))
    }
}

fn launch(line: &str) -> Result<Pipeline, String> {
    let pipeline = gst::parse::launch(line).map_err(|e| e.to_string())?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline".to_owned())?;
    pipeline.use_clock(Some(&gst::SystemClock::obtain()));
    pipeline.set_start_time(gst::ClockTime::NONE);
    pipeline.set_base_time(gst::ClockTime::ZERO);
    Ok(Pipeline(pipeline))
}

fn on_sample(pipeline: &Pipeline, mut take: impl FnMut(&gst::Sample) + Send + 'static) -> Result<(), String> {
    let sink = pipeline.0.by_name("out").and_then(|e| e.downcast::<AppSink>().ok()).ok_or("no sink")?;
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                take(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(())
}

/// Starts and waits until the device is open, or says why it is not.
fn play(pipeline: &Pipeline) -> Result<(), String> {
    let started = pipeline.0.set_state(gst::State::Playing);
    let (settled, ..) = pipeline.0.state(gst::ClockTime::from_seconds(5));
    if started.is_ok() && settled.is_ok() {
        return Ok(());
    }
    let error = pipeline.0.bus().and_then(|b| b.pop_filtered(&[gst::MessageType::Error]));
    Err(error.map_or_else(|| "it does not start".into(), |m| words(&m)))
}

/// Listens for a device that goes away.
fn watch(pipeline: Pipeline, tell: impl Fn(String) + Send + 'static) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let bus = pipeline.0.bus();
    let thread = std::thread::spawn(move || {
        let Some(bus) = bus else { return };
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            let types = [gst::MessageType::Error, gst::MessageType::Eos];
            if let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(200), &types) {
                return tell(words(&message));
            }
        }
    });
    Running::new(stop, vec![thread], Some(Box::new(pipeline)))
}

fn words(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(e) => e.error().to_string().trim_end_matches('.').to_owned(),
        _ => "it ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlets() -> Outlets {
        Outlets { picture: Arc::new(|_| {}), sound: Arc::new(|_| {}), trouble: Arc::new(|_| {}) }
    }

    #[test]
    fn a_missing_camera_is_named_with_its_remedy() {
        super::super::init().expect("gstreamer");
        let camera = Camera { device: "/dev/video77".into(), modes: CameraModes::default() };
        let error = Box::new(camera).start(outlets()).err().expect("no camera").to_string();
        assert!(error.contains("/dev/video77") && error.contains("Plug the camera in"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_camera_is_refused() {
        super::super::init().expect("gstreamer");
        let camera = Camera { device: "/dev/null".into(), modes: CameraModes::default() };
        let error = Box::new(camera).start(outlets()).err().expect("no camera").to_string();
        assert!(error.contains("v4l2-ctl"), "{error}");
    }
}
