//! Where the sum of the voices goes, block by block: a sound device, a file, nowhere.
//!
//! Owns: the GStreamer pipeline or the open file. Never: decides what to do after a failure, waits for a device.
//! Elsewhere: the pace (`Output`), the state shown to the technician (`core`).

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

use super::{BLOCK, SAMPLE_RATE, SpeakerConfig};

/// Why there is no sound, and what to do.
pub(super) type Failure = (String, &'static str);

const NO_DEVICE: &str = "Connect a loudspeaker or headset, or name another one in [sound] speaker.";
const NO_FILE: &str = "Choose another file in [sound] speaker, or free some space.";
const HEADER: u32 = 44;
/// Blocks between two corrections of the lengths in the header: half a second.
const HEADER_EVERY: u32 = 50;
/// Blocks the device may be behind: 200 ms. The oldest goes when it is full.
const DEVICE_BEHIND: u64 = 20;
/// A device that has not begun by then will not.
const DEVICE_WAIT: Duration = Duration::from_secs(3);

pub(super) enum Sink {
    None,
    Wav(Wav),
    Device(Device),
}

impl Sink {
    pub(super) fn open(config: &SpeakerConfig) -> Result<Self, Failure> {
        match config {
            SpeakerConfig::None => Ok(Self::None),
            SpeakerConfig::Wav(path) => match Wav::create(path) {
                Ok(wav) => Ok(Self::Wav(wav)),
                Err(e) => Err((format!("{}: {e}", path.display()), NO_FILE)),
            },
            SpeakerConfig::Auto => Device::open(None).map(Self::Device),
            SpeakerConfig::Alsa(device) => Device::open(Some(device)).map(Self::Device),
        }
    }

    pub(super) fn write(&mut self, block: &[f32]) -> Result<(), Failure> {
        match self {
            Self::None => Ok(()),
            Self::Wav(wav) => wav.write(block).map_err(|e| (e.to_string(), NO_FILE)),
            Self::Device(device) => device.write(block),
        }
    }

    pub(super) fn close(self) {
        if let Self::Wav(mut wav) = self
            && let Err(e) = wav.correct_header()
        {
            tracing::warn!("the sound file's header: {e}");
        }
    }
}

fn pcm(block: &[f32]) -> Vec<u8> {
    block.iter().flat_map(|s| ((s.clamp(-1.0, 1.0) * 32_767.0).round() as i16).to_le_bytes()).collect()
}

/// A WAV file whose header is right at least twice a second.
pub(super) struct Wav {
    file: File,
    bytes: u32,
    blocks: u32,
}

impl Wav {
    fn create(path: &Path) -> io::Result<Self> {
        let mut wav = Self { file: File::create(path)?, bytes: 0, blocks: 0 };
        wav.file.write_all(&wav.header())?;
        Ok(wav)
    }

    fn header(&self) -> Vec<u8> {
        let mut h = Vec::with_capacity(HEADER as usize);
        h.extend(b"RIFF");
        h.extend((HEADER - 8 + self.bytes).to_le_bytes());
        h.extend(b"WAVEfmt ");
        h.extend(16u32.to_le_bytes());
        // PCM, mono.
        h.extend([1, 0, 1, 0]);
        h.extend(SAMPLE_RATE.to_le_bytes());
        h.extend((SAMPLE_RATE * 2).to_le_bytes());
        // 2 bytes a sample, 16 bits.
        h.extend([2, 0, 16, 0]);
        h.extend(b"data");
        h.extend(self.bytes.to_le_bytes());
        h
    }

    fn write(&mut self, block: &[f32]) -> io::Result<()> {
        let pcm = pcm(block);
        if u32::MAX - self.bytes < pcm.len() as u32 + HEADER {
            return Err(io::Error::other("the file is full (4 GB)"));
        }
        self.file.write_all(&pcm)?;
        self.bytes += pcm.len() as u32;
        self.blocks += 1;
        if self.blocks.is_multiple_of(HEADER_EVERY) {
            self.correct_header()?;
        }
        Ok(())
    }

    fn correct_header(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(&self.header())?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

/// A sound device behind GStreamer. Its clock is not ours: the sink leaves out or repeats what differs.
pub(super) struct Device {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    opened: Instant,
    playing: bool,
}

impl Device {
    fn open(alsa: Option<&str>) -> Result<Self, Failure> {
        Self::build(alsa).map_err(|e| (format!("no sound device can be used: {e}"), NO_DEVICE))
    }

    fn build(alsa: Option<&str>) -> Result<Self, gst::glib::BoolError> {
        gst::init().map_err(|e| gst::glib::bool_error!("{e}"))?;
        let caps = gst::Caps::builder("audio/x-raw")
            .field("format", "S16LE")
            .field("layout", "interleaved")
            .field("rate", SAMPLE_RATE as i32)
            .field("channels", 1i32)
            .build();
        let source = gst_app::AppSrc::builder()
            .caps(&caps)
            .is_live(true)
            .format(gst::Format::Time)
            .do_timestamp(true)
            .max_buffers(DEVICE_BEHIND)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let convert = gst::ElementFactory::make("audioconvert").build()?;
        let resample = gst::ElementFactory::make("audioresample").build()?;
        let sink = match alsa {
            Some(device) => gst::ElementFactory::make("alsasink")
                .property("device", device)
                .property("buffer-time", 60_000i64)
                .property("latency-time", 10_000i64)
                .build()?,
            None => gst::ElementFactory::make("autoaudiosink").build()?,
        };
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([source.upcast_ref(), &convert, &resample, &sink])?;
        gst::Element::link_many([source.upcast_ref(), &convert, &resample, &sink])?;
        let device = Self { pipeline, source, opened: Instant::now(), playing: false };
        if device.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(gst::glib::bool_error!(
                "{}",
                device.complaint().unwrap_or("the device cannot be opened".into())
            ));
        }
        if let Some(why) = device.complaint() {
            return Err(gst::glib::bool_error!("{why}"));
        }
        Ok(device)
    }

    fn write(&mut self, block: &[f32]) -> Result<(), Failure> {
        if let Some(why) = self.complaint() {
            return Err((why, NO_DEVICE));
        }
        let mut buffer = gst::Buffer::from_mut_slice(pcm(block));
        if let Some(b) = buffer.get_mut() {
            b.set_duration(gst::ClockTime::from_mseconds(BLOCK as u64 * 1_000 / u64::from(SAMPLE_RATE)));
        }
        if let Err(e) = self.source.push_buffer(buffer) {
            return Err((e.to_string(), NO_DEVICE));
        }
        if !self.playing {
            self.playing = self.pipeline.current_state() == gst::State::Playing;
            if !self.playing && self.opened.elapsed() > DEVICE_WAIT {
                return Err(("the device does not begin to play".into(), NO_DEVICE));
            }
        }
        Ok(())
    }

    /// What the pipeline says is wrong. A missing device is only a warning of `autoaudiosink`, which then plays into nothing.
    fn complaint(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]) {
            match message.view() {
                gst::MessageView::Error(e) => return Some(e.error().to_string()),
                gst::MessageView::Warning(w)
                    if message.src().is_some_and(|s| s.name().starts_with("autoaudiosink")) =>
                {
                    return Some(w.error().to_string());
                }
                _ => {}
            }
        }
        None
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nothing can be done about a device that refuses to stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
