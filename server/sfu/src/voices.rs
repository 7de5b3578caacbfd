//! Picks the voices people hear: the loudest three, without flicker.
//!
//! Owns: the loudness of each voice of a room. Never: mixes or decodes sound; it reads the level header (RFC 6464).
//! Elsewhere: the archivist gets all voices (`forward`).

use std::time::{Duration, Instant};

use lotse_protocol::id::TrackId;

/// Voices heard at once.
pub(crate) const HEARD: usize = 3;
/// A voice is replaced only by one clearly louder, dB.
const MARGIN_DB: f32 = 6.0;
/// A voice that came in stays at least this long, a word, unless it is quieter than `SPEECH`.
const HOLD: Duration = Duration::from_millis(1_000);
/// Speech is louder than this, dB above silence (-87 dBov): breath and hum hold no place.
const SPEECH: f32 = 40.0;
/// A voice not heard from for this long counts as silent.
const GONE: Duration = Duration::from_millis(500);
/// The level is smoothed over about this long; one packet counts for at most `PACKET` of it.
const SMOOTHED: Duration = Duration::from_millis(200);
/// The usual length of a browser's packet; the glasses send shorter ones.
const PACKET: Duration = Duration::from_millis(20);
/// A voice without level header is always loud, dB above silence.
const LOUD: f32 = 127.0;

#[derive(Debug, Clone)]
struct Voice {
    track: TrackId,
    /// Smoothed, dB above silence: 0 to 127.
    level: f32,
    last: Option<Instant>,
    heard_since: Option<Instant>,
}

impl Voice {
    fn level_at(&self, now: Instant) -> f32 {
        if self.last.is_some_and(|last| now < last + GONE) { self.level } else { 0.0 }
    }
}

/// The voices of one room.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    voices: Vec<Voice>,
}

impl Voices {
    /// Takes the room's voices of now; those known keep their level. Places follow the order given.
    pub(crate) fn set(&mut self, tracks: impl Iterator<Item = TrackId>) {
        let old = std::mem::take(&mut self.voices);
        self.voices = tracks
            .map(|track| {
                let known = old.iter().find(|voice| voice.track == track).cloned();
                known.unwrap_or(Voice { track, level: 0.0, last: None, heard_since: None })
            })
            .collect();
    }

    /// A packet of the voice at `place` has come; `header` is its level byte. True: people hear it.
    pub(crate) fn on_packet(&mut self, place: usize, header: Option<u8>, now: Instant) -> bool {
        let Some(voice) = self.voices.get_mut(place) else { return false };
        let lasted = voice.last.map_or(PACKET, |last| now.saturating_duration_since(last).min(PACKET));
        let weight = lasted.as_secs_f32() / SMOOTHED.as_secs_f32();
        voice.level = match header {
            // The header counts down from loudest 0 to silence 127.
            Some(byte) => voice.level + weight * (127.0 - f32::from(byte & 0x7F) - voice.level),
            None => LOUD,
        };
        voice.last = Some(now);
        if voice.heard_since.is_some() {
            return true;
        }
        let level = voice.level;
        let heard = self.voices.iter().filter(|voice| voice.heard_since.is_some()).count();
        if heard >= HEARD {
            let quietest = self
                .voices
                .iter_mut()
                .filter(|voice| {
                    voice.heard_since.is_some_and(|since| now >= since + HOLD || voice.level_at(now) < SPEECH)
                })
                .min_by(|a, b| a.level_at(now).total_cmp(&b.level_at(now)));
            match quietest {
                Some(quietest) if level > quietest.level_at(now) + MARGIN_DB => quietest.heard_since = None,
                _ => return false,
            }
        }
        self.voices[place].heard_since = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn voices(n: u128) -> Voices {
        let mut voices = Voices::default();
        voices.set((0..n).map(|n| TrackId(Uuid::from_u128(n))));
        voices
    }

    /// Twenty packets of 20 ms from each; who was heard in the last one.
    fn talk(voices: &mut Voices, levels: &[Option<u8>], at: &mut Instant) -> Vec<bool> {
        let mut heard = vec![false; levels.len()];
        for _ in 0..20 {
            for (place, level) in levels.iter().enumerate() {
                heard[place] = voices.on_packet(place, *level, *at);
            }
            *at += Duration::from_millis(20);
        }
        heard
    }

    #[test]
    fn up_to_three_voices_are_all_heard() {
        let (mut voices, mut at) = (voices(3), Instant::now());
        assert_eq!(talk(&mut voices, &[Some(127), Some(60), None], &mut at), [true, true, true]);
    }

    #[test]
    fn a_louder_fourth_voice_replaces_the_quietest_after_its_hold() {
        let (mut voices, mut at) = (voices(4), Instant::now());
        assert_eq!(talk(&mut voices, &[Some(30), Some(90), Some(30), Some(127)], &mut at), [true, true, true, false]);
        let mut last = Vec::new();
        for _ in 0..4 {
            last = talk(&mut voices, &[Some(30), Some(90), Some(30), Some(25)], &mut at);
        }
        assert_eq!(last, [true, false, true, true]);
    }

    #[test]
    fn a_whisper_that_came_first_gives_way_at_once() {
        let (mut voices, at) = (voices(4), Instant::now());
        for place in [3, 0, 1] {
            assert!(voices.on_packet(place, Some(if place == 3 { 120 } else { 30 }), at));
        }
        let after = (1..20).find(|_| voices.on_packet(2, Some(30), at)).expect("heard");
        assert!(after <= 3, "after {after} packets");
    }

    #[test]
    fn nearly_equal_voices_do_not_flicker() {
        let (mut voices, mut at) = (voices(4), Instant::now());
        for _ in 0..10 {
            assert_eq!(
                talk(&mut voices, &[Some(32), Some(31), Some(30), Some(29)], &mut at),
                [true, true, true, false]
            );
        }
    }

    #[test]
    fn a_voice_that_fell_silent_gives_way_and_unleveled_voices_count_as_loud() {
        let (mut voices, mut at) = (voices(4), Instant::now());
        talk(&mut voices, &[None, None, Some(40), Some(127)], &mut at);
        at += Duration::from_secs(2);
        let mut heard = false;
        for _ in 0..20 {
            heard = voices.on_packet(3, Some(60), at);
            at += Duration::from_millis(20);
        }
        assert!(heard, "the others have gone silent");
    }

    #[test]
    fn known_voices_keep_their_place_in_the_ear() {
        let (mut voices, mut at) = (voices(4), Instant::now());
        talk(&mut voices, &[Some(30), Some(30), Some(30), Some(30)], &mut at);
        voices.set((1..4).map(|n| TrackId(Uuid::from_u128(n))));
        assert!(voices.on_packet(2, Some(30), at), "a place came free");
        assert!(!voices.on_packet(9, None, at), "an unknown place is silent");
    }
}
