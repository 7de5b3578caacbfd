//! The last packets of a publisher's track, kept once for everybody who may ask for one again.
//!
//! Owns: packets as they came, and where the newest key frame begins. Never: a copy per subscriber.
//! Elsewhere: which number a subscriber means (`subscriber`), sending it (`forward`).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::srtp::Carried;

/// Packets kept per track of pictures: 8 s of 1 Mbit/s, at most 1.5 MB.
const KEPT: usize = 1_024;
/// Packets a leg gets again in a second: a third of 10 Mbit/s. Above it the line is beyond repair, and more would make it worse.
pub(crate) const REPAIRS_PER_SECOND: f64 = 300.0;

/// A newcomer begins with a key frame of this age at most: what has to be decoded to catch up delays the first picture.
const FRESH: Duration = Duration::from_millis(500);

/// What all subscribers get of one packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// The publisher's number.
    pub(crate) number: u16,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) carried: Carried,
    pub(crate) payload: Bytes,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    packets: Vec<Option<Packet>>,
    /// The newest number, and of the newest key frame the first one, its time stamp and when it came.
    newest: u16,
    key_frame: Option<(u16, u32, Instant)>,
}

impl History {
    /// `opens`: a key frame begins with it, or one of its parts.
    pub(crate) fn keep(&mut self, packet: &Packet, opens: bool, now: Instant) {
        if self.packets.is_empty() {
            self.packets.resize(KEPT, None);
            self.newest = packet.number.wrapping_sub(1);
        }
        if packet.number.wrapping_sub(self.newest) < 0x8000 {
            self.newest = packet.number;
            if opens && self.key_frame.is_none_or(|(_, timestamp, _)| timestamp != packet.timestamp) {
                self.key_frame = Some((packet.number, packet.timestamp, now));
            }
        }
        self.packets[usize::from(packet.number) % KEPT] = Some(packet.clone());
    }

    pub(crate) fn get(&self, number: u16) -> Option<&Packet> {
        self.packets.get(usize::from(number) % KEPT)?.as_ref().filter(|packet| packet.number == number)
    }

    /// From the newest key frame on, if that came after `since` and is fresh. What is lost on the way up is a hole in it.
    pub(crate) fn since_key_frame(&self, since: Instant, now: Instant) -> Option<impl Iterator<Item = &Packet>> {
        let (first, ..) = self.key_frame.filter(|(_, _, came)| *came >= since && now.duration_since(*came) <= FRESH)?;
        let count = self.newest.wrapping_sub(first).saturating_add(1);
        let packets = (0..count).filter_map(move |n| self.get(first.wrapping_add(n)));
        (usize::from(count) <= KEPT).then_some(packets)
    }

    /// What was sent until now is nobody's any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u16, timestamp: u32) -> Packet {
        Packet { number, marker: false, timestamp, carried: Carried::default(), payload: Bytes::new() }
    }

    #[test]
    fn a_newcomer_gets_the_newest_key_frame_and_what_followed_while_it_is_fresh() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut history = History::default();
        let numbers = |history: &History, since: u64, now: u64| {
            history.since_key_frame(at(since), at(now)).map(|packets| packets.map(|p| p.number).collect::<Vec<_>>())
        };
        history.keep(&packet(65_533, 1), true, at(0));
        history.keep(&packet(65_534, 2), false, at(40));
        assert_eq!(numbers(&history, 0, 50), Some(vec![65_533, 65_534]));
        // Two parts of one key frame, and a packet lost after it.
        history.keep(&packet(65_535, 3), true, at(80));
        history.keep(&packet(0, 3), true, at(80));
        history.keep(&packet(2, 4), false, at(120));
        assert_eq!(numbers(&history, 0, 130), Some(vec![65_535, 0, 2]));
        history.keep(&packet(1, 4), false, at(130));
        assert_eq!(numbers(&history, 80, 140), Some(vec![65_535, 0, 1, 2]), "it came late");
        assert_eq!(numbers(&history, 81, 140), None, "from before it was wanted");
        assert_eq!(numbers(&history, 0, 581), None, "too old");
        history.forget();
        assert_eq!(numbers(&history, 0, 140), None);
        for n in 0..=KEPT as u16 {
            history.keep(&packet(n, 5), n == 0, at(200));
        }
        assert_eq!(numbers(&history, 0, 200), None, "its beginning is gone");
    }
}
