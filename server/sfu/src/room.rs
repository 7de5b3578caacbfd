//! Who is in a room, whose gate is open, and who therefore gets which track.
//!
//! Owns: members, gates, wishes to watch, the room's voices. Runs on the room's worker.
//! Never: touches a packet. Elsewhere: the lines that follow from this (`leg`), the copying (`forward`).

use std::collections::{BTreeMap, HashMap};

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{TrackInfo, TrackSource};

use crate::{LegKind, subscriber::Assignment, voices::Voices, worker::LegId};

/// One participant; the gate outlives the leg.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) open: bool,
    pub(crate) leg: Option<LegId>,
    watches: HashMap<TrackId, bool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: SessionId,
    pub(crate) members: BTreeMap<Pseudonym, Member>,
    pub(crate) voices: Voices,
}

/// A track that may flow, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Flowing {
    pub(crate) owner: Pseudonym,
    pub(crate) leg: LegId,
    pub(crate) uplink: usize,
    pub(crate) info: TrackInfo,
}

impl Room {
    pub(crate) fn new(id: SessionId) -> Self {
        Self { id, members: BTreeMap::new(), voices: Voices::default() }
    }

    /// Remembers a wish; it holds for the track's life, whether a line follows or not.
    pub(crate) fn watch(&mut self, who: Pseudonym, track: TrackId, on: bool) {
        self.members.entry(who).or_default().watches.insert(track, on);
    }

    /// Forgets wishes for tracks that are gone.
    pub(crate) fn forget_tracks(&mut self, alive: impl Fn(TrackId) -> bool) {
        for member in self.members.values_mut() {
            member.watches.retain(|track, _| alive(*track));
        }
    }

    /// What `who` shall get of the tracks that flow. Voices by themselves, mains too but to a technician, previews on request;
    /// nothing to a closed participant, nobody's own.
    pub(crate) fn wants(&self, who: Pseudonym, kind: LegKind, flowing: &[Flowing]) -> Vec<Assignment> {
        let Some(member) = self.members.get(&who).filter(|member| member.open) else { return Vec::new() };
        flowing
            .iter()
            .filter(|track| track.owner != who)
            .filter(|track| {
                let by_itself = match track.info.source {
                    TrackSource::Voice => true,
                    TrackSource::Main => kind != LegKind::Technician,
                    TrackSource::Preview => false,
                };
                member.watches.get(&track.info.track).copied().unwrap_or(by_itself)
            })
            .map(|track| Assignment { owner: track.owner, info: track.info.clone() })
            .collect()
    }

    /// Nothing keeps the room any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Whether a leg of this kind gets the voice: people only those heard, the archivist all, a gateway the one it has a line for.
pub(crate) fn hears(kind: LegKind, heard: bool) -> bool {
    heard || !matches!(kind, LegKind::Person | LegKind::Technician)
}

/// What a gateway gets, which has one line for pictures and one for voices: this participant's where there are such, else the
/// first's.
pub(crate) fn one_of_each(wants: Vec<Assignment>, prefers: Option<Pseudonym>) -> Vec<Assignment> {
    let pick = |source: TrackSource| {
        let mut fitting = wants.iter().filter(|want| want.info.source == source);
        let preferred = fitting.clone().find(|want| Some(want.owner) == prefers);
        preferred.or_else(|| fitting.next()).cloned()
    };
    [TrackSource::Main, TrackSource::Voice].into_iter().filter_map(pick).collect()
}

#[cfg(test)]
mod tests {
    use lotse_protocol::signal::Codec;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn track(owner: u128, n: u128, source: TrackSource) -> Flowing {
        let codec = if source == TrackSource::Voice { Codec::Opus } else { Codec::Vp8 };
        let info = TrackInfo {
            track: TrackId(id(n)),
            source,
            codec,
            rtp_base: None,
            start_us: None,
            clock_offset_us: 0,
            width: 0,
            height: 0,
        };
        Flowing { owner: Pseudonym(id(owner)), leg: 0, uplink: 0, info }
    }

    fn ids(wants: Vec<Assignment>) -> Vec<u128> {
        wants.iter().map(|want| want.info.track.0.as_u128()).collect()
    }

    #[test]
    fn mains_and_voices_by_themselves_previews_on_request_nothing_through_a_closed_gate() {
        let mut room = Room::new(SessionId(id(1)));
        let (glasses, expert) = (Pseudonym(id(10)), Pseudonym(id(11)));
        room.members.entry(glasses).or_default().open = true;
        room.members.entry(expert).or_default();
        let flowing = [
            track(10, 100, TrackSource::Main),
            track(10, 101, TrackSource::Preview),
            track(10, 102, TrackSource::Voice),
            track(11, 103, TrackSource::Voice),
        ];
        assert!(room.wants(expert, LegKind::Person, &flowing).is_empty(), "the gate is closed");
        room.members.entry(expert).or_default().open = true;
        assert_eq!(ids(room.wants(expert, LegKind::Person, &flowing)), [100, 102]);
        assert_eq!(ids(room.wants(glasses, LegKind::Person, &flowing)), [103], "nobody gets their own");
        assert_eq!(ids(room.wants(expert, LegKind::Technician, &flowing)), [102], "glasses show nobody's picture");
        room.watch(expert, TrackId(id(101)), true);
        room.watch(expert, TrackId(id(100)), false);
        assert_eq!(ids(room.wants(expert, LegKind::Person, &flowing)), [101, 102]);
        room.forget_tracks(|track| track != TrackId(id(101)));
        assert_eq!(ids(room.wants(expert, LegKind::Person, &flowing)), [102]);
        assert!(room.wants(Pseudonym(id(99)), LegKind::Person, &flowing).is_empty(), "a stranger");
    }

    #[test]
    fn a_gateway_gets_one_picture_and_one_voice_and_the_callers_first() {
        let mut room = Room::new(SessionId(id(1)));
        let gateway = Pseudonym(id(9));
        room.members.entry(gateway).or_default().open = true;
        let flowing = [
            track(10, 100, TrackSource::Voice),
            track(11, 101, TrackSource::Main),
            track(11, 102, TrackSource::Voice),
            track(12, 103, TrackSource::Main),
        ];
        let wants = |prefers| ids(one_of_each(room.wants(gateway, LegKind::Gateway, &flowing), prefers));
        assert_eq!(wants(Some(Pseudonym(id(11)))), [101, 102]);
        assert_eq!(wants(Some(Pseudonym(id(12)))), [103, 100], "who has no voice leaves it to another");
        assert_eq!(wants(None), [101, 100]);
    }

    #[test]
    fn the_archivist_hears_everybody() {
        assert!(hears(LegKind::Archivist, false));
        assert!(!hears(LegKind::Person, false) && !hears(LegKind::Technician, false));
        assert!(hears(LegKind::Person, true));
    }
}
