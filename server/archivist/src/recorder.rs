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
    id::{Pseudonym, SessionId, TrackId},
    signal::{TrackInfo, TrackSource},
};

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
    /// The disk refuses; the call goes on. Empty: it works again.
    Trouble(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// Allowed; begins with the first packet.
    Armed,
    Running,
}

/// How far the recording of a source reaches.
struct Coverage {
    track: TrackId,
    end_us: i64,
}

pub struct Recorder {
    session: SessionId,
    keys: Arc<Keys>,
    journal: Journal,
    state: State,
    tracks: HashMap<TrackId, Track>,
    coverage: HashMap<(Pseudonym, TrackSource), Coverage>,
    /// People whose media is missing since then because this program was not running.
    down: HashMap<Pseudonym, i64>,
    resume: HashMap<TrackId, Resume>,
    heard_us: i64,
    flushed_us: i64,
    broken: bool,
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
            down,
            resume,
            heard_us: 0,
            flushed_us: 0,
            broken: false,
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
            self.settle();
            self.tracks.remove(&id);
        }
        for (owner, info) in lines {
            // A preview is the same picture, smaller.
            if info.source == TrackSource::Preview || self.tracks.contains_key(&info.track) {
                continue;
            }
            let resume = self.resume.remove(&info.track);
            let mut track = Track::new(self.session, *owner, info.clone(), resume);
            if self.coverage.contains_key(&(*owner, info.source)) {
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
            (false, State::Armed) => self.state = State::Off,
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
        self.settle();
    }

    /// The events of these fragments are in the log.
    pub fn committed(&mut self, media: &[lotse_protocol::id::Digest]) {
        let records: Vec<Record> = media.iter().map(|m| Record::Committed { media: *m }).collect();
        if let Err(e) = self.journal.append(&records) {
            self.trouble(&e);
        }
    }

    fn stop(&mut self, why: StopWhy, now_us: i64) {
        let keep = why != StopWhy::NotAllowed;
        let ids: Vec<TrackId> = self.tracks.keys().copied().collect();
        for id in ids {
            self.on_track(id, |track, dir, keys| track.stop(dir, keys, keep));
        }
        self.settle();
        if why == StopWhy::ArchivistRestarted {
            // Media goes on without us: missing until it is recorded again.
            for ((owner, _), covered) in self.coverage.drain() {
                let from = self.down.entry(owner).or_insert(covered.end_us);
                *from = (*from).max(covered.end_us);
            }
        } else if keep {
            for ((owner, _), covered) in self.coverage.drain() {
                if now_us - covered.end_us > TAIL_US {
                    self.out.push(Out::Gap(GapPayload {
                        owner,
                        track: Some(covered.track),
                        from_us: covered.end_us,
                        to_us: now_us,
                        why: GapWhy::LinkLost,
                    }));
                }
            }
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
            track.abandon();
            self.trouble(&e);
        }
    }

    /// Index first, then names, then the log.
    fn settle(&mut self) {
        let mut records = Vec::new();
        let mut names = Vec::new();
        let mut finished = Vec::new();
        for track in self.tracks.values_mut() {
            for told in track.take_told() {
                match told {
                    Told::Record(record) => {
                        match &record {
                            Record::Closed { fragment, media } => names.push((*fragment, *media)),
                            Record::Flushed(f) => {
                                let key = (track.owner, track.info.source);
                                self.coverage.insert(key, Coverage { track: track.info.track, end_us: f.end_us });
                            }
                            _ => {}
                        }
                        records.push(record);
                    }
                    Told::Finished(f) => finished.push(f),
                    Told::KeyFrame => self.out.push(Out::KeyFrame(track.info.track)),
                    Told::Begun { start_us, why } => {
                        let key = (track.owner, track.info.source);
                        let before = self.coverage.get(&key).map(|c| (c.end_us, c.track));
                        // Another track of the same source: its publisher was away.
                        let why = match before {
                            Some((_, id)) if id != track.info.track => Some(why.unwrap_or(GapWhy::LinkLost)),
                            _ => why,
                        };
                        if let Some(from_us) = self.down.remove(&track.owner) {
                            let gap = GapPayload {
                                owner: track.owner,
                                track: None,
                                from_us,
                                to_us: start_us,
                                why: GapWhy::ArchivistDown,
                            };
                            self.out.push(Out::Gap(gap));
                        } else if let (Some((from_us, id)), Some(why)) = (before, why)
                            && start_us - from_us > GAP_MS as i64 * 1000
                        {
                            let gap = GapPayload { owner: track.owner, track: Some(id), from_us, to_us: start_us, why };
                            self.out.push(Out::Gap(gap));
                        }
                        self.coverage.insert(key, Coverage { track: track.info.track, end_us: start_us });
                    }
                }
            }
        }
        let written = self.journal.append(&records).and_then(|()| {
            names.iter().try_for_each(|(fragment, media)| fragment::name(&self.journal.dir, *fragment, media))
        });
        match written {
            Ok(()) => {
                self.out.extend(finished.into_iter().map(Out::Segment));
                if self.broken && !records.is_empty() {
                    self.broken = false;
                    self.out.push(Out::Trouble(String::new()));
                }
            }
            Err(e) => {
                for track in self.tracks.values_mut() {
                    track.abandon();
                }
                self.trouble(&e);
            }
        }
    }

    fn trouble(&mut self, error: &std::io::Error) {
        self.broken = true;
        let dir = self.journal.dir.display();
        let remedy = "Free space or mend the rights; it goes on by itself.";
        self.out.push(Out::Trouble(format!("{dir}: {error}. {remedy}")));
    }
}
