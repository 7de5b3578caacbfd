//! A clip as camera and microphone: looped, in real time, picture and sound on one timeline.
//!
//! Owns: decoding as fast as it is needed, and the rule that time never goes back: each round begins where the longer of
//! picture and sound ended. Never: frames in bulk; at most half a second is decoded ahead.

use std::{
    path::PathBuf,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;

use super::{
    BLOCK, BLOCK_NS, Outlets, RawFrame, Running, SAMPLE_RATE, SoundBlock, Source, Trouble,
    encode::{MAIN_HEIGHT, MAIN_WIDTH},
    sleep_until,
};
use crate::{clock::monotonic_ns, error::GlassError};

/// Decoded pictures waiting: 1.4 MB each.
const PICTURES_AHEAD: u32 = 6;
/// Decoded sound buffers waiting.
const SOUNDS_AHEAD: u32 = 20;
/// How long a sound may be missing inside the clip before silence takes its place, ns.
const SOUND_GAP_NS: u64 = 40_000_000;

/// A looped clip.
pub struct Clip {
    pub path: PathBuf,
    /// Deliver its sound as the microphone.
    pub with_sound: bool,
}

struct Reader {
    pipeline: gst::Pipeline,
    pictures: AppSink,
    sounds: Option<AppSink>,
    length_ns: u64,
}

impl Source for Clip {
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError> {
        let reader = Reader::open(&self)?;
        let stop = Arc::new(AtomicBool::new(false));
        let round = Arc::new(Round {
            start_ns: AtomicU64::new(monotonic_ns() + 100_000_000),
            length_ns: reader.length_ns,
            pipeline: reader.pipeline.clone(),
            gate: Barrier::new(if reader.sounds.is_some() { 2 } else { 1 }),
            ended: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        {
            let (round, stop, outlets, sink) = (round.clone(), stop.clone(), outlets.clone(), reader.pictures.clone());
            threads.push(thread::spawn(move || pictures(&round, &sink, &outlets, &stop)));
        }
        if let Some(sink) = reader.sounds.clone() {
            let (round, stop) = (round.clone(), stop.clone());
            threads.push(thread::spawn(move || sounds(&round, &sink, &outlets, &stop)));
        }
        Ok(Running::new(stop, threads, Some(Box::new(reader))))
    }
}

/// What both threads of a clip share.
struct Round {
    /// Monotonic time of the clip's time 0 in this round.
    start_ns: AtomicU64,
    length_ns: u64,
    pipeline: gst::Pipeline,
    gate: Barrier,
    ended: AtomicBool,
}

impl Round {
    fn start(&self) -> u64 {
        self.start_ns.load(Ordering::Acquire)
    }

    /// Both streams have ended: one of the threads winds back, both go on or both end. A stopped thread comes here too,
    /// so that the other does not wait for ever.
    fn again(&self, stop: &AtomicBool) -> bool {
        if self.gate.wait().is_leader() {
            self.start_ns.fetch_add(self.length_ns, Ordering::AcqRel);
            let stopped = stop.load(Ordering::Relaxed);
            if stopped || self.pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).is_err() {
                self.ended.store(true, Ordering::Release);
            }
        }
        self.gate.wait();
        !self.ended.load(Ordering::Acquire)
    }
}

fn pictures(round: &Round, sink: &AppSink, outlets: &Outlets, stop: &AtomicBool) {
    let mut last_ns = 0;
    loop {
        let mut pulled = 0u32;
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(2_000)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            pulled += 1;
            let Some((time, buffer)) = running(&sample) else { continue };
            let at = round.start() + time.min(round.length_ns.saturating_sub(1));
            // Never back, never twice: a clip may have a frame with the time of the one before.
            if at <= last_ns || !sleep_until(at, stop) {
                continue;
            }
            last_ns = at;
            (outlets.picture)(RawFrame { picture: buffer, capture_ns: at });
        }
        let stopped = stop.load(Ordering::Relaxed);
        if !stopped && pulled == 0 {
            (outlets.trouble)(Trouble::Camera("the clip gave no picture".into()));
        }
        if stopped || pulled == 0 {
            stop.store(true, Ordering::Relaxed);
        }
        if !round.again(stop) {
            return;
        }
    }
}

fn sounds(round: &Round, sink: &AppSink, outlets: &Outlets, stop: &AtomicBool) {
    let mut blocks = Blocks::new(round.start());
    loop {
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(2_000)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Some((time, buffer)) = running(&sample) else { continue };
            let Ok(map) = buffer.map_readable() else { continue };
            let samples = map.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
            blocks.add(round.start() + time, samples, &mut |block| {
                if sleep_until(block.capture_ns + BLOCK_NS, stop) {
                    (outlets.sound)(block);
                }
            });
        }
        let end = round.start() + round.length_ns;
        if !stop.load(Ordering::Relaxed) {
            // Silence up to the end of the round, where the picture is longer.
            blocks.add(end, std::iter::empty(), &mut |block| {
                if sleep_until(block.capture_ns + BLOCK_NS, stop) {
                    (outlets.sound)(block);
                }
            });
        }
        if !round.again(stop) {
            return;
        }
    }
}

/// Cuts sound into blocks of 10 ms on one unbroken sample clock.
struct Blocks {
    start_ns: u64,
    /// Samples given out or waiting since `start_ns`.
    count: u64,
    waiting: Vec<i16>,
}

impl Blocks {
    fn new(start_ns: u64) -> Self {
        Self { start_ns, count: 0, waiting: Vec::with_capacity(2 * BLOCK) }
    }

    /// Adds samples that begin at `at_ns`; missing ones before become silence, ones that overlap are left out.
    fn add(&mut self, at_ns: u64, samples: impl Iterator<Item = i16>, give: &mut dyn FnMut(SoundBlock)) {
        let place =
            |ns: u64| (u128::from(ns.saturating_sub(self.start_ns)) * u128::from(SAMPLE_RATE) / 1_000_000_000) as u64;
        let (at, slack) = (place(at_ns), place(self.start_ns + SOUND_GAP_NS));
        let silence = if at > self.count + slack { at - self.count } else { 0 };
        let overlap = if self.count > at + slack { self.count - at } else { 0 };
        let all = std::iter::repeat_n(0, silence as usize).chain(samples.skip(overlap as usize));
        for sample in all {
            self.waiting.push(sample);
            self.count += 1;
            if self.waiting.len() == BLOCK {
                let first = self.count - BLOCK as u64;
                let ns = u128::from(first) * 1_000_000_000 / u128::from(SAMPLE_RATE);
                let mut samples = Box::new([0; BLOCK]);
                samples.copy_from_slice(&self.waiting);
                self.waiting.clear();
                give(SoundBlock { samples, capture_ns: self.start_ns + ns as u64 });
            }
        }
    }
}

fn running(sample: &gst::Sample) -> Option<(u64, gst::Buffer)> {
    let buffer = sample.buffer_owned()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    // After the flushing seek of a new round running time starts at 0 again.
    Some((segment.to_running_time(buffer.pts()?)?.nseconds(), buffer))
}

impl Reader {
    fn open(clip: &Clip) -> Result<Self, GlassError> {
        let broken = |why: String| GlassError::Camera {
            source_name: format!("file:{}", clip.path.display()),
            why,
            remedy: "Check that the clip exists and plays with gst-play-1.0.",
        };
        if !clip.path.is_file() {
            return Err(broken("there is no such file".into()));
        }
        let line = format!(
            "filesrc name=file ! decodebin name=d \
             d. ! queue max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! videoconvert ! videoscale add-borders=true ! \
             video/x-raw,format=I420,width={MAIN_WIDTH},height={MAIN_HEIGHT},pixel-aspect-ratio=1/1 ! \
             appsink name=pictures sync=false max-buffers={PICTURES_AHEAD} {}",
            if clip.with_sound {
                format!(
                    "d. ! queue ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=1 ! \
                     appsink name=sounds sync=false max-buffers={SOUNDS_AHEAD}"
                )
            } else {
                String::new()
            }
        );
        let pipeline = gst::parse::launch(&line)
            .map_err(|e| broken(e.to_string()))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| broken("not a pipeline".into()))?;
        if let Some(file) = pipeline.by_name("file") {
            file.set_property("location", clip.path.display().to_string());
        }
        let sink = |name: &str| pipeline.by_name(name).and_then(|e| e.downcast::<AppSink>().ok());
        let pictures = sink("pictures").ok_or_else(|| broken("no picture sink".into()))?;
        let sounds = sink("sounds");
        let mut reader = Self { pipeline: pipeline.clone(), pictures, sounds, length_ns: 0 };
        pipeline.set_state(gst::State::Playing).map_err(|e| broken(e.to_string()))?;
        let (result, state, _) = pipeline.state(gst::ClockTime::from_seconds(10));
        if result.is_err() || state != gst::State::Playing {
            let why = pipeline
                .bus()
                .and_then(|b| b.pop_filtered(&[gst::MessageType::Error]))
                .and_then(|m| match m.view() {
                    gst::MessageView::Error(e) => Some(e.error().to_string()),
                    _ => None,
                })
                .unwrap_or_else(|| "it has no picture, or no sound where one is wanted".into());
            return Err(broken(why));
        }
        let length = pipeline.query_duration::<gst::ClockTime>().map(|d| d.nseconds()).filter(|&d| d > 0);
        reader.length_ns = length.ok_or_else(|| broken("its length is unknown".into()))?;
        Ok(reader)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_follow_each_other_without_a_hole(pieces in proptest::collection::vec((1usize..3_000, 0u64..200_000_000), 1..40)) {
            let start = 1_000_000_007;
            let mut blocks = Blocks::new(start);
            let mut at = start;
            let mut times = Vec::new();
            for (len, gap) in pieces {
                blocks.add(at, std::iter::repeat_n(1, len), &mut |b| times.push(b.capture_ns));
                at += len as u64 * 1_000_000_000 / 48_000 + gap;
            }
            for (i, t) in times.iter().enumerate() {
                prop_assert_eq!(*t, start + i as u64 * BLOCK_NS);
            }
        }
    }

    #[test]
    fn a_gap_becomes_silence_of_its_length() {
        let mut blocks = Blocks::new(0);
        let mut heard = Vec::new();
        blocks.add(0, std::iter::repeat_n(5, BLOCK), &mut |b| heard.push(b.samples[0]));
        blocks.add(10 * BLOCK_NS, std::iter::repeat_n(7, BLOCK), &mut |b| heard.push(b.samples[0]));
        assert_eq!(heard, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    }
}
