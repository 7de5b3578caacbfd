//! One track while it is recorded: frames become fragments.
//!
//! Owns: where fragments begin (pictures: at a key frame; voices: every 2 s), what is missing, how long each frame lasts,
//! and the loudness of voices. Never: sends, signs or decides whether it may record. Elsewhere: order of packets
//! (`depacketize`), how often key frames are asked for (`pace`), bytes on disk (`fragment`), all tracks (`recorder`).

use std::path::Path;

use lotse_payload::recording::GapWhy;
use lotse_protocol::{
    id::{Pseudonym, SessionId},
    signal::{Codec, TrackInfo},
};

use crate::{
    clock::TrackClock,
    depacketize::{Depacketizer, Frame, Output, Packet, opus_duration, vp8_size},
    fragment::{Begin, Finished, Fragment, Timed},
    index::Record,
    journal::Resume,
    keys::Keys,
    pace::Pace,
    sps,
};

/// Between two requests for a key frame, µs.
const ASK_EVERY_US: i64 = 300_000;
/// Voices are cut here.
const FRAGMENT_MS: u64 = 2_000;
/// A key frame earlier than this (somebody else asked) does not begin a new fragment.
const MIN_FRAGMENT_MS: u64 = 1_000;
/// A publisher that never answers: recording stops here until a key frame comes. Block times reach 32 s.
const MAX_FRAGMENT_MS: u64 = 15_000;
/// A hole longer than this is a gap in the log; a shorter one is bridged, ms.
pub const GAP_MS: u64 = 500;
/// Without a packet for this long the track is interrupted, µs.
const SILENT_US: i64 = 2_000_000;
/// How long a hole waits for its retransmission, µs: NACK runs every 20 ms, ten times.
const VIDEO_PATIENCE_US: i64 = 400_000;
/// Voices are not sent again; this is for reordering only.
const VOICE_PATIENCE_US: i64 = 100_000;
/// Times of a browser's voice wait this long for its first sender report, µs (Chromium: 2.5 s).
const CLOCK_PATIENCE_US: i64 = 6_000_000;

/// What a track tells its recorder.
#[derive(Debug)]
pub enum Told {
    /// For the index, in this order.
    Record(Record),
    /// Complete on disk, once its record is; may be told to the log.
    Finished(Box<Finished>),
    /// A fragment begins after a hole: from here, if it is one.
    Begun {
        start_us: i64,
        why: Option<GapWhy>,
    },
    KeyFrame,
}

pub struct Track {
    pub owner: Pseudonym,
    pub info: TrackInfo,
    session: SessionId,
    depacketizer: Depacketizer,
    clock: TrackClock,
    origin: Option<u64>,
    fragment: Option<Open>,
    /// Video: the last frame, until the next one tells how long it lasts.
    last: Option<Timed>,
    typical: u32,
    /// Nothing fits until a key frame comes.
    needs_key: bool,
    /// The open fragment began because the picture had another size.
    turned: bool,
    asked_us: i64,
    pace: Pace,
    missing: u32,
    why: Option<GapWhy>,
    heard_us: Option<i64>,
    expected: Option<u64>,
    decoder: Option<opus::Decoder>,
    toc: u8,
    /// Finished before the publisher's clock was known, and since when.
    held: Vec<(Finished, i64)>,
    told: Vec<Told>,
}

fn depacketizer(codec: Codec) -> Depacketizer {
    Depacketizer::new(codec, if codec.is_video() { VIDEO_PATIENCE_US } else { VOICE_PATIENCE_US })
}

struct Open {
    fragment: Fragment,
    start_us: i64,
    clock_known: bool,
}

impl Track {
    pub fn new(session: SessionId, owner: Pseudonym, info: TrackInfo, resume: Option<Resume>) -> Self {
        let mut clock = TrackClock::new(&info);
        if let Some(r) = resume {
            clock.resume(r.last_rtp, r.arrival_us);
        }
        let video = info.codec.is_video();
        Self {
            depacketizer: depacketizer(info.codec),
            clock,
            origin: resume.map(|r| r.origin).or(info.rtp_base.map(u64::from)),
            fragment: None,
            last: None,
            // 30 pictures a second until known better.
            typical: info.codec.clock_rate() / 30,
            needs_key: video,
            turned: false,
            asked_us: i64::MIN / 2,
            pace: Pace::new(info.codec.clock_rate()),
            missing: 0,
            why: None,
            heard_us: None,
            expected: None,
            // Only for loudness; 16 kHz hold all of a voice that matters for it.
            decoder: (!video).then(|| opus::Decoder::new(16_000, opus::Channels::Mono).ok()).flatten(),
            toc: 0xfc,
            held: Vec::new(),
            told: Vec::new(),
            session,
            owner,
            info,
        }
    }

    /// What there is to tell since the last call.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub fn packet(&mut self, dir: &Path, keys: &Keys, packet: Packet) -> std::io::Result<()> {
        self.heard_us = Some(packet.arrival_us);
        let now = packet.arrival_us;
        let out = self.depacketizer.push(packet);
        self.take(dir, keys, out, now)
    }

    pub fn report(&mut self, timestamp: u32, ntp_us: i64, arrival_us: i64) {
        self.clock.report(timestamp, ntp_us, arrival_us);
        let samples = self.clock.take_samples();
        if let Some(open) = &mut self.fragment {
            open.fragment.add_clock(samples);
        }
    }

    /// Every 50 ms: gives up holes, notices silence, asks for key frames.
    pub fn tick(&mut self, dir: &Path, keys: &Keys, now_us: i64) -> std::io::Result<()> {
        let out = self.depacketizer.tick(now_us);
        self.take(dir, keys, out, now_us)?;
        if self.heard_us.is_some_and(|at| now_us - at > SILENT_US) {
            self.heard_us = None;
            self.interrupt(GapWhy::LinkLost)?;
        }
        self.ask(now_us);
        self.release_held(now_us);
        Ok(())
    }

    /// Every 250 ms: what is whole goes to the disk.
    pub fn flush(&mut self) -> std::io::Result<()> {
        let Some(open) = &mut self.fragment else { return Ok(()) };
        let end_us = self.clock.give(open.fragment.rtp_end());
        let arrival_us = self.heard_us.unwrap_or(end_us);
        if let Some(record) = open.fragment.flush(open.start_us, end_us, arrival_us)? {
            self.told.push(Told::Record(record));
        }
        Ok(())
    }

    /// Ends recording of this track. `keep`: what was heard but not yet flushed is kept; not after a withdrawal.
    pub fn stop(&mut self, dir: &Path, keys: &Keys, keep: bool) -> std::io::Result<()> {
        let rest = self.depacketizer.finish();
        if keep {
            self.take(dir, keys, rest, i64::MAX)?;
            self.end_last(None)?;
            self.cut(true)?;
        } else {
            self.last = None;
            self.cut(false)?;
        }
        self.release_held(i64::MAX);
        self.needs_key = self.info.codec.is_video();
        self.expected = None;
        self.heard_us = None;
        self.why = None;
        Ok(())
    }

    /// The disk refuses: what it has taken becomes a short fragment, the rest is given up, and nothing is fed until it works again.
    pub fn abandon(&mut self) {
        self.last = None;
        if let Err(e) = self.cut(false) {
            tracing::warn!("a fragment that the disk cut off is left to the next start: {e}");
        }
        // What comes later comes after a hole of any length.
        self.depacketizer = depacketizer(self.info.codec);
        self.needs_key = self.info.codec.is_video();
        self.expected = None;
        self.heard_us = None;
        self.why = Some(GapWhy::Disk);
    }

    /// This source was recorded before and was away: what lies between is missing.
    pub fn set_came_back(&mut self) {
        self.why = Some(GapWhy::LinkLost);
    }

    /// Packets were dropped before they came here because the disk was too slow.
    pub fn set_disk_slow(&mut self) {
        self.why = Some(GapWhy::Disk);
    }

    fn take(&mut self, dir: &Path, keys: &Keys, out: Vec<Output>, now_us: i64) -> std::io::Result<()> {
        for o in out {
            match o {
                Output::Lost { packets } => self.lost(packets, now_us),
                Output::Frame(f) if self.info.codec == Codec::Opus => self.voice(dir, keys, f)?,
                Output::Frame(f) => self.picture(dir, keys, f, now_us)?,
            }
        }
        Ok(())
    }

    fn lost(&mut self, packets: u64, now_us: i64) {
        // A slow disk or an interrupted link explains more than the packets it cost.
        self.why.get_or_insert(GapWhy::PacketsLost);
        if self.info.codec.is_video() {
            self.needs_key = true;
            self.ask(now_us);
        } else {
            self.miss(packets.min(u64::from(u32::MAX)) as u32);
        }
    }

    fn miss(&mut self, count: u32) {
        match &mut self.fragment {
            Some(open) => open.fragment.add_missing(count),
            None => self.missing = self.missing.saturating_add(count),
        }
    }

    fn picture(&mut self, dir: &Path, keys: &Keys, frame: Frame, now_us: i64) -> std::io::Result<()> {
        let rtp = self.clock.unwrap(frame.timestamp, frame.arrival_us);
        if self.expected.is_some_and(|e| rtp < e) {
            // Shown before the last one (a B-frame): a fragment has its pictures in order.
            self.miss(1);
            return Ok(());
        }
        if self.needs_key && !frame.key {
            self.miss(1);
            self.ask(now_us);
            return Ok(());
        }
        let broken = std::mem::replace(&mut self.needs_key, false);
        let hole = self.end_last(Some((rtp, broken)))?;
        let size = match self.info.codec {
            Codec::Vp8 => vp8_size(&frame.data),
            Codec::H264 => sps::size(&self.depacketizer.parameters().sps),
            Codec::Opus => None,
        };
        let size = size.filter(|_| frame.key).unwrap_or((self.info.width, self.info.height));
        let other = size != (self.info.width, self.info.height);
        self.pace.picture(rtp, frame.data.len(), frame.key);
        let age = self.age_ms(rtp);
        if frame.key && age.is_none_or(|a| a >= MIN_FRAGMENT_MS || hole || (other && !self.turned)) {
            self.turned = other;
            (self.info.width, self.info.height) = size;
            self.cut(true)?;
            if !self.begin(dir, keys, rtp)? {
                // H.264 without parameter sets cannot be played; the next key frame brings them.
                self.needs_key = true;
                self.miss(1);
                return Ok(());
            }
        } else if other {
            // A fragment has one size, and two in a row do not end young.
            self.needs_key = true;
            self.miss(1);
            self.ask(now_us);
            return Ok(());
        } else if age.is_none_or(|a| a >= MAX_FRAGMENT_MS) {
            self.cut(true)?;
            self.needs_key = true;
            self.miss(1);
            return Ok(());
        } else if broken {
            // The hole was short and bridged.
            self.why = None;
        }
        self.expected = Some(rtp + 1);
        self.last = Some(Timed { rtp, duration: 0, key: frame.key, data: frame.data });
        self.ask(now_us);
        Ok(())
    }

    /// Writes the last picture, lasting until the next one. Returns whether there is a hole too long to bridge.
    fn end_last(&mut self, next: Option<(u64, bool)>) -> std::io::Result<bool> {
        let Some(mut last) = self.last.take() else { return Ok(false) };
        let rate = u64::from(self.info.codec.clock_rate());
        let mut hole = false;
        last.duration = match next {
            None => self.typical,
            Some((rtp, broken)) => {
                let ticks = rtp.saturating_sub(last.rtp).max(1);
                // Slow pictures are no loss; after a loss only a short hole is bridged.
                let bridge = if broken { GAP_MS } else { FRAGMENT_MS };
                hole = ticks * 1000 > bridge * rate;
                if hole {
                    self.typical
                } else {
                    if !broken {
                        self.typical = ticks as u32;
                    }
                    ticks as u32
                }
            }
        };
        if let Some(open) = &mut self.fragment {
            open.fragment.add(last)?;
        }
        Ok(hole)
    }

    fn voice(&mut self, dir: &Path, keys: &Keys, frame: Frame) -> std::io::Result<()> {
        let Some(duration) = opus_duration(&frame.data) else {
            self.miss(1);
            return Ok(());
        };
        let rtp = self.clock.unwrap(frame.timestamp, frame.arrival_us);
        if self.expected.is_some_and(|e| rtp < e) {
            return Ok(());
        }
        let rate = u64::from(self.info.codec.clock_rate());
        let hole = self.expected.map_or(0, |e| rtp - e);
        if hole * 1000 > GAP_MS * rate {
            self.cut(true)?;
        } else if hole > 0 {
            self.conceal(rtp)?;
            self.why = None;
        }
        if self.age_ms(rtp).is_some_and(|a| a >= FRAGMENT_MS) {
            self.cut(true)?;
        }
        if self.fragment.is_none() {
            self.begin(dir, keys, rtp)?;
        }
        let level = self.loudness(&frame.data);
        self.toc = frame.data.first().copied().unwrap_or(self.toc);
        self.expected = Some(rtp + u64::from(duration));
        if let Some(open) = &mut self.fragment {
            open.fragment.add_level(rtp, level);
            open.fragment.add(Timed { rtp, duration, key: true, data: frame.data })?;
        }
        Ok(())
    }

    /// Packets without content in place of lost ones (RFC 7845, 4.1): the decoder conceals, and time goes on.
    fn conceal(&mut self, until: u64) -> std::io::Result<()> {
        let toc = self.toc & 0xfc;
        let Some(duration) = opus_duration(&[toc]) else { return Ok(()) };
        if let Some(open) = &mut self.fragment {
            while let Some(at) = self.expected.filter(|at| at + u64::from(duration) <= until) {
                open.fragment.add(Timed { rtp: at, duration, key: true, data: vec![toc] })?;
                self.expected = Some(at + u64::from(duration));
            }
        }
        Ok(())
    }

    /// 0 silence to 127 loudest, from the packet's mean power.
    fn loudness(&mut self, packet: &[u8]) -> u8 {
        // 120 ms at 16 kHz, the longest packet.
        let mut samples = [0i16; 1_920];
        let Some(decoder) = &mut self.decoder else { return 0 };
        let Ok(count) = decoder.decode(packet, &mut samples, false) else { return 0 };
        if count == 0 {
            return 0;
        }
        let power: f64 = samples[..count].iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>() / count as f64;
        let db = 10.0 * (power / (32_768.0 * 32_768.0)).max(1e-13).log10();
        (127.0 + db).clamp(0.0, 127.0).round() as u8
    }

    fn begin(&mut self, dir: &Path, keys: &Keys, rtp: u64) -> std::io::Result<bool> {
        let origin = *self.origin.get_or_insert(rtp);
        let start_us = self.clock.give(rtp);
        let begin = Begin {
            session: self.session,
            owner: self.owner,
            info: &self.info,
            rtp_start: rtp,
            // A publisher that restarts its time below the origin starts a new one.
            origin: origin.min(rtp),
            parameters: self.depacketizer.parameters(),
        };
        let Some((mut fragment, record)) = Fragment::begin(dir, keys, begin)? else { return Ok(false) };
        fragment.add_missing(std::mem::take(&mut self.missing));
        fragment.add_clock(self.clock.take_samples());
        self.told.push(Told::Record(record));
        self.told.push(Told::Begun { start_us, why: self.why.take() });
        self.fragment = Some(Open { fragment, start_us, clock_known: self.clock.is_known() });
        Ok(true)
    }

    /// Ends the open fragment; `keep` flushes it first.
    fn cut(&mut self, keep: bool) -> std::io::Result<()> {
        if keep {
            self.flush()?;
        }
        let Some(open) = self.fragment.take() else { return Ok(()) };
        let known = open.clock_known;
        if let Some((finished, record)) = open.fragment.close()? {
            self.told.push(Told::Record(record));
            if known {
                self.told.push(Told::Finished(Box::new(finished)));
            } else {
                let since = finished.payload.end_us;
                self.held.push((finished, since));
            }
        }
        Ok(())
    }

    fn release_held(&mut self, now_us: i64) {
        let known = self.clock.is_known();
        for (mut finished, since) in std::mem::take(&mut self.held) {
            if known {
                finished.payload.start_us = self.clock.at(finished.payload.rtp_start);
                finished.payload.end_us = self.clock.at(finished.payload.rtp_end);
            }
            if known || now_us.saturating_sub(since) > CLOCK_PATIENCE_US {
                self.told.push(Told::Finished(Box::new(finished)));
            } else {
                self.held.push((finished, since));
            }
        }
    }

    fn interrupt(&mut self, why: GapWhy) -> std::io::Result<()> {
        self.end_last(None)?;
        self.cut(true)?;
        self.needs_key = self.info.codec.is_video();
        self.why = Some(why);
        Ok(())
    }

    fn age_ms(&self, rtp: u64) -> Option<u64> {
        let open = self.fragment.as_ref()?;
        Some(rtp.saturating_sub(open.fragment.rtp_start()) * 1000 / u64::from(self.info.codec.clock_rate()))
    }

    fn ask(&mut self, now_us: i64) {
        if !self.info.codec.is_video() || now_us.saturating_sub(self.asked_us) < ASK_EVERY_US || self.heard_us.is_none()
        {
            return;
        }
        let old = self.expected.and_then(|e| self.age_ms(e)).is_some_and(|a| a >= self.pace.ask_after_ms());
        if self.needs_key || old {
            self.asked_us = now_us;
            self.told.push(Told::KeyFrame);
        }
    }
}

#[cfg(test)]
mod tests {
    use lotse_protocol::{id::TrackId, signal::TrackSource};
    use uuid::Uuid;

    use super::*;

    /// A key frame of that size, with the sender's number.
    fn key(seq: u16, width: u8, height: u8) -> Packet {
        Packet {
            seq,
            timestamp: u32::from(seq) * 3_000,
            marker: true,
            payload: vec![0x10, 0, 2, 0, 0x9d, 1, 0x2a, width, 0, height, 0].into(),
            arrival_us: 1_700_000_000_000_000 + i64::from(seq) * 33_333,
        }
    }

    fn camera() -> Track {
        let info = TrackInfo {
            track: TrackId(Uuid::nil()),
            source: TrackSource::Main,
            codec: Codec::Vp8,
            rtp_base: Some(0),
            start_us: Some(1_700_000_000_000_000),
            clock_offset_us: 0,
            width: 16,
            height: 16,
        };
        Track::new(SessionId(Uuid::nil()), Pseudonym(Uuid::nil()), info, None)
    }

    fn finished(track: &mut Track) -> Vec<lotse_payload::recording::SegmentPayload> {
        let told = track.take_told().into_iter();
        told.filter_map(|told| if let Told::Finished(f) = told { Some(f.payload) } else { None }).collect()
    }

    /// A phone was turned, or a foreign client's picture follows its line.
    #[test]
    fn each_fragment_has_one_size() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        let mut track = camera();
        // The first other size begins a fragment at once; who changes again right away waits until that one is old enough.
        for (seq, width) in [(1, 16), (2, 32), (3, 16), (40, 16)] {
            let mut packet = key(seq, width, 16);
            packet.seq = seq.min(4);
            track.packet(dir.path(), &keys, packet).unwrap();
        }
        track.stop(dir.path(), &keys, true).unwrap();
        let kept: Vec<_> = finished(&mut track).iter().map(|p| (p.info.width, p.frames, p.missing)).collect();
        assert_eq!(kept, [(16, 1, 0), (32, 1, 1), (16, 1, 0)]);
    }

    #[test]
    fn a_session_that_ends_before_a_hole_was_filled_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        let mut track = camera();
        // A key frame, so that none was asked for; a packet that never came; and a picture that waits for it when the session ends.
        for (seq, head) in [(1u16, 0u8), (3, 1)] {
            let mut packet = key(seq, 16, 16);
            packet.payload = vec![0x10, head, 2, 0, 0x9d, 1, 0x2a, 16, 0, 16, 0].into();
            track.packet(dir.path(), &keys, packet).unwrap();
        }
        track.stop(dir.path(), &keys, true).unwrap();
        assert_eq!(finished(&mut track).iter().map(|p| p.frames).collect::<Vec<_>>(), [2]);
    }
}
