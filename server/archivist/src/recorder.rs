//! Everything that is recorded of one session: which tracks, since when, and what is missing.
//!
//! Owns: the tracks and the state off → armed → running; it runs on a thread of its own, because it waits for the disk.
//! Never: records unless told that every person present said yes. A slow disk costs a declared gap, never the call.
//! Elsewhere: that decision (`case`), packets (`leg`), one track (`track`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lotse_payload::recording::{GapPayload, GapWhy, StopWhy};
use lotse_protocol::{
    id::{Digest, Pseudonym, SessionId, TrackId},
    signal::{TrackInfo, TrackSource},
};

use uuid::Uuid;

use crate::{
    depacketize::Packet,
    fragment::{self, Finished},
    index::Record,
    journal::{Journal, Resume},
    keys::Keys,
    track::{GAP_MS, Told, Track},
};

/// Between two flushes: at most this much is lost by a power cut, µs.
pub const FLUSH_US: i64 = 250_000;
/// Without media for this long the recording is suspended, µs.
const SUSPEND_US: i64 = 60_000_000;
/// A disk that refused is tried again after this long, µs.
const RETRY_US: i64 = 1_000_000;
/// A hole at the end of the recording shorter than this is the way sessions end, µs.
const TAIL_US: i64 = 2_500_000;

/// What the recorder tells.
#[derive(Debug)]
pub enum Out {
    Started {
        at_us: i64,
    },
    Stopped {
        at_us: i64,
        why: StopWhy,
    },
    Segment(Box<Finished>),
    Gap(GapPayload),
    KeyFrame(TrackId),
    /// The disk refuses, and nothing is recorded until it works again; the call goes on. Empty: it works again.
    Trouble(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// Allowed; begins with the first packet, once the disk takes something.
    Armed,
    Running,
}

/// How far the recording of a source reaches.
struct Coverage {
    track: TrackId,
    end_us: i64,
}

/// Where a recording after a hole begins, until the disk has something of it.
struct Begun {
    start_us: i64,
    why: Option<GapWhy>,
}

/// What the disk still has to take, in the order in which it was told. On a disk that refuses it waits here.
#[derive(Default)]
struct Unwritten {
    records: Vec<Record>,
    /// What these records mean once they are written.
    steps: Vec<(Source, TrackId, Step)>,
    names: Vec<(Uuid, Digest)>,
    finished: Vec<Finished>,
}

enum Step {
    Begun(Begun),
    Covered { end_us: i64 },
}

type Source = (Pseudonym, TrackSource);

pub struct Recorder {
    session: SessionId,
    keys: Arc<Keys>,
    journal: Journal,
    state: State,
    tracks: HashMap<TrackId, Track>,
    coverage: HashMap<Source, Coverage>,
    begun: HashMap<Source, Begun>,
    unwritten: Unwritten,
    /// People whose media is missing since then because this program was not running.
    down: HashMap<Pseudonym, i64>,
    resume: HashMap<TrackId, Resume>,
    heard_us: i64,
    flushed_us: i64,
    /// Since when the disk refuses.
    refused_us: Option<i64>,
    out: Vec<Out>,
}

impl Recorder {
    /// `resume` and `down` are what a start after a crash found.
    pub fn new(
        session: SessionId,
        keys: Arc<Keys>,
        journal: Journal,
        resume: HashMap<TrackId, Resume>,
        down: HashMap<Pseudonym, i64>,
    ) -> Self {
        Self {
            session,
            keys,
            journal,
            state: State::Off,
            tracks: HashMap::new(),
            coverage: HashMap::new(),
            begun: HashMap::new(),
            unwritten: Unwritten::default(),
            down,
            resume,
            heard_us: 0,
            flushed_us: 0,
            refused_us: None,
            out: Vec::new(),
        }
    }

    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// The tracks there are now. New ones are added, others end.
    pub fn announce(&mut self, lines: &[(Pseudonym, TrackInfo)]) {
        let now: HashSet<TrackId> = lines.iter().map(|l| l.1.track).collect();
        let gone: Vec<TrackId> = self.tracks.keys().filter(|t| !now.contains(t)).copied().collect();
        for id in gone {
            self.on_track(id, |track, dir, keys| track.stop(dir, keys, true));
            self.settle(None);
            self.tracks.remove(&id);
        }
        for (owner, info) in lines {
            // A preview is the same picture, smaller.
            if info.source == TrackSource::Preview || self.tracks.contains_key(&info.track) {
                continue;
            }
            let resume = self.resume.remove(&info.track);
            let mut track = Track::new(self.session, *owner, info.clone(), resume);
            if self.refused_us.is_some() {
                track.set_disk_slow();
            } else if self.coverage.contains_key(&(*owner, info.source)) {
                track.set_came_back();
            }
            self.tracks.insert(info.track, track);
        }
    }

    /// May media be kept from now on? A withdrawal also drops what is not yet on the disk.
    pub fn allow(&mut self, allowed: bool, why: StopWhy, now_us: i64) {
        match (allowed, self.state) {
            (true, State::Off) => {
                self.state = State::Armed;
                self.heard_us = now_us;
            }
            (false, State::Running) => self.stop(why, now_us),
            // Only a disk that refuses leaves something covered here.
            (false, State::Armed) => self.declare_tails(now_us, GAP_MS as i64 * 1000, GapWhy::Disk),
            _ => {}
        }
        if !allowed {
            self.state = State::Off;
        }
    }

    pub fn packet(&mut self, id: TrackId, packet: Packet) {
        if self.state == State::Off || !self.tracks.contains_key(&id) {
            return;
        }
        self.heard_us = packet.arrival_us;
        if self.refused_us.is_some() {
            return;
        }
        if self.state == State::Armed {
            self.state = State::Running;
            self.out.push(Out::Started { at_us: packet.arrival_us });
        }
        self.on_track(id, |track, dir, keys| track.packet(dir, keys, packet));
    }

    pub fn report(&mut self, id: TrackId, timestamp: u32, ntp_us: i64, arrival_us: i64) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.report(timestamp, ntp_us, arrival_us);
        }
    }

    /// Packets did not reach the recorder because it was too slow.
    pub fn dropped(&mut self) {
        for track in self.tracks.values_mut() {
            track.set_disk_slow();
        }
    }

    /// Every 50 ms.
    pub fn tick(&mut self, now_us: i64) {
        if self.state == State::Running {
            let ids: Vec<TrackId> = self.tracks.keys().copied().collect();
            for id in &ids {
                self.on_track(*id, |track, dir, keys| track.tick(dir, keys, now_us));
            }
            if now_us - self.flushed_us >= FLUSH_US {
                self.flushed_us = now_us;
                for id in ids {
                    self.on_track(id, |track, _, _| track.flush());
                }
            }
            if now_us - self.heard_us > SUSPEND_US {
                self.stop(StopWhy::NoMedia, now_us);
                self.state = State::Armed;
            }
        }
        self.settle(Some(now_us));
    }

    /// The events of these fragments are in the log.
    pub fn committed(&mut self, media: &[Digest]) {
        let records: Vec<Record> = media.iter().map(|m| Record::Committed { media: *m }).collect();
        // Kept with the rest on a disk that refuses.
        self.unwritten.records.extend(records);
        self.settle(None);
    }

    fn stop(&mut self, why: StopWhy, now_us: i64) {
        let keep = why != StopWhy::NotAllowed;
        let ids: Vec<TrackId> = self.tracks.keys().copied().collect();
        for id in ids {
            self.on_track(id, |track, dir, keys| track.stop(dir, keys, keep));
        }
        self.settle(None);
        if self.state != State::Running {
            // The disk refused the last of it; that it stopped is told.
            self.declare_tails(now_us, GAP_MS as i64 * 1000, GapWhy::Disk);
            self.state = State::Off;
            return;
        }
        if why == StopWhy::ArchivistRestarted {
            // Media goes on without us: missing until it is recorded again.
            for ((owner, _), covered) in self.coverage.drain() {
                let from = self.down.entry(owner).or_insert(covered.end_us);
                *from = (*from).max(covered.end_us);
            }
        } else if keep {
            self.declare_tails(now_us, TAIL_US, GapWhy::LinkLost);
        }
        self.coverage.clear();
        self.state = State::Off;
        self.out.push(Out::Stopped { at_us: now_us, why });
    }

    /// Ends gaps of people who never came back; call when the session is over.
    pub fn close(&mut self, now_us: i64) {
        if self.state == State::Running {
            self.stop(StopWhy::SessionEnded, now_us);
        }
        self.state = State::Off;
        for (owner, from_us) in std::mem::take(&mut self.down) {
            if now_us - from_us > GAP_MS as i64 * 1000 {
                let why = GapWhy::ArchivistDown;
                self.out.push(Out::Gap(GapPayload { owner, track: None, from_us, to_us: now_us, why }));
            }
        }
    }

    /// Gives the folder back, forgetting what the log has.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    fn on_track(&mut self, id: TrackId, act: impl FnOnce(&mut Track, &std::path::Path, &Keys) -> std::io::Result<()>) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if let Err(e) = act(track, &self.journal.dir, &self.keys) {
            self.refuse(&e);
        }
    }

    /// Index first, then names, then the log. With the time, a disk that refused gets another chance.
    fn settle(&mut self, now_us: Option<i64>) {
        self.gather();
        if let Err(e) = self.write() {
            self.refuse(&e);
        } else if let Some((now_us, since_us)) = now_us.zip(self.refused_us)
            && now_us - since_us > RETRY_US
        {
            self.refused_us = None;
            self.out.push(Out::Trouble(String::new()));
        }
    }

    fn gather(&mut self) {
        let todo = &mut self.unwritten;
        for (id, track) in &mut self.tracks {
            let source = (track.owner, track.info.source);
            for told in track.take_told() {
                match told {
                    Told::Record(record) => {
                        match &record {
                            Record::Closed { fragment, media } => todo.names.push((*fragment, *media)),
                            Record::Flushed(f) => {
                                todo.steps.push((source, *id, Step::Covered { end_us: f.end_us }));
                            }
                            _ => {}
                        }
                        todo.records.push(record);
                    }
                    Told::Finished(f) => todo.finished.push(*f),
                    Told::KeyFrame => self.out.push(Out::KeyFrame(*id)),
                    Told::Begun { start_us, why } => {
                        todo.steps.push((source, *id, Step::Begun(Begun { start_us, why })));
                    }
                }
            }
        }
    }

    /// As much as the disk takes; the rest stays for the next time.
    fn write(&mut self) -> std::io::Result<()> {
        self.journal.append(&self.unwritten.records)?;
        self.unwritten.records.clear();
        for (source, track, step) in std::mem::take(&mut self.unwritten.steps) {
            match step {
                Step::Begun(begun) => drop(self.begun.insert(source, begun)),
                Step::Covered { end_us } => self.cover(source, track, end_us),
            }
        }
        if !self.unwritten.names.is_empty() {
            let dir = &self.journal.dir;
            self.unwritten.names.iter().try_for_each(|(id, media)| fragment::name(dir, *id, media))?;
            fragment::keep_names(dir)?;
            self.unwritten.names.clear();
        }
        self.out.extend(self.unwritten.finished.drain(..).map(|f| Out::Segment(Box::new(f))));
        Ok(())
    }

    /// The disk has a source until then. Where that begins after a hole, the hole is declared.
    fn cover(&mut self, source: Source, track: TrackId, end_us: i64) {
        let before = self.coverage.insert(source, Coverage { track, end_us });
        let Some(Begun { start_us, why }) = self.begun.remove(&source) else { return };
        let owner = source.0;
        if let Some(from_us) = self.down.remove(&owner) {
            let why = GapWhy::ArchivistDown;
            self.out.push(Out::Gap(GapPayload { owner, track: None, from_us, to_us: start_us, why }));
            return;
        }
        let Some(Coverage { track: old, end_us: from_us }) = before else { return };
        // Another track of the same source: its publisher was away.
        let why = if old == track { why } else { Some(why.unwrap_or(GapWhy::LinkLost)) };
        if let Some(why) = why
            && start_us - from_us > GAP_MS as i64 * 1000
        {
            self.out.push(Out::Gap(GapPayload { owner, track: Some(old), from_us, to_us: start_us, why }));
        }
    }

    /// What is covered ends here; where more than `least_us` is missing since then, that is a gap.
    fn declare_tails(&mut self, now_us: i64, least_us: i64, why: GapWhy) {
        for ((owner, _), covered) in self.coverage.drain() {
            if now_us - covered.end_us > least_us {
                let (track, from_us) = (Some(covered.track), covered.end_us);
                self.out.push(Out::Gap(GapPayload { owner, track, from_us, to_us: now_us, why }));
            }
        }
        self.begun.clear();
    }

    /// Nothing more is recorded until the disk takes what waits. Everybody is told.
    fn refuse(&mut self, error: &std::io::Error) {
        for track in self.tracks.values_mut() {
            track.abandon();
        }
        self.begun.clear();
        if self.refused_us.is_none() {
            let dir = self.journal.dir.display();
            let remedy = "Free space or mend the rights; it goes on by itself.";
            self.out.push(Out::Trouble(format!("{dir}: {error}. {remedy}")));
        }
        self.refused_us = Some(self.heard_us);
        if self.state == State::Running {
            self.state = State::Armed;
            self.out.push(Out::Stopped { at_us: self.heard_us, why: StopWhy::Disk });
        }
    }
}
