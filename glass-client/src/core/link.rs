//! How good the way to the server is, in the few words that the wearer sees and the case keeps.
//!
//! Owns: `LinkWatch`: bounds, and how long something has to last before it is said. Never: measures. Elsewhere: what the way carries is the
//! interceptors' `Estimator`, round trips and losses are the server's report.

use lotse_payload::{LinkState, LinkStatePayload, LinkTrouble};

use crate::link::ladder::Pictures;

/// Beyond these a link is poor (PRODUCT, default numbers).
const POOR_BPS: f64 = 1_500_000.0;
const POOR_RTT_MS: f32 = 1_000.0;
const POOR_LOSS_PCT: f32 = 10.0;
/// A poor link is good again when it is so much better than the bound.
const BETTER: f64 = 1.05;
/// So long it has to be worse, or better, before that is said, ms.
const WORSE_AFTER_MS: i64 = 2_000;
const BETTER_AFTER_MS: i64 = 4_000;

/// What is known of the way now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Measured {
    /// The server has not been heard since then, and that was shown.
    pub(super) lost_since_ms: Option<i64>,
    pub(super) bps: Option<f64>,
    pub(super) pictures: Pictures,
    pub(super) rtt_ms: Option<f32>,
    /// The worse of both directions.
    pub(super) loss_pct: f32,
}

type Grade = (LinkState, Option<LinkTrouble>);

const GOOD: Grade = (LinkState::Good, None);

/// The more the worse.
fn rank(grade: Grade) -> u8 {
    match grade.0 {
        LinkState::Good => 0,
        LinkState::Poor => 1,
        LinkState::StillMode => 2,
        LinkState::AudioOnly => 3,
        LinkState::Offline => 4,
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct LinkWatch {
    now: Grade,
    /// What it looks like since when, if that is not what was said.
    next: Option<(Grade, i64)>,
    /// What the case knows.
    filed: Grade,
}

impl Default for LinkWatch {
    fn default() -> Self {
        Self { now: GOOD, next: None, filed: GOOD }
    }
}

impl LinkWatch {
    pub(super) fn trouble(&self) -> Option<(LinkState, LinkTrouble)> {
        self.now.1.map(|why| (self.now.0, why))
    }

    pub(super) fn step(&mut self, now_ms: i64, measured: &Measured) {
        let looks = self.grade(measured);
        if looks == self.now {
            self.next = None;
            return;
        }
        let since = match self.next {
            // How bad it is may change meanwhile.
            Some((next, since)) if rank(next) > rank(self.now) && rank(looks) > rank(self.now) => since,
            Some(((state, _), since)) if state == looks.0 => since,
            _ => now_ms,
        };
        self.next = Some((looks, since));
        let after = match (self.now.0, looks.0) {
            // A loss was waited for already, and what is heard again is there.
            (LinkState::Offline, _) | (_, LinkState::Offline) => 0,
            (_, LinkState::Good) => BETTER_AFTER_MS,
            _ => WORSE_AFTER_MS,
        };
        if now_ms - since >= after {
            (self.now, self.next) = (looks, None);
        }
    }

    /// What the case does not know yet, once.
    pub(super) fn unfiled(&mut self, now_ms: i64, measured: &Measured) -> Option<LinkStatePayload> {
        if self.filed == self.now {
            return None;
        }
        self.filed = self.now;
        let (state, why) = self.now;
        let offline = measured.lost_since_ms.filter(|_| state == LinkState::Offline);
        let kbit = measured.bps.filter(|_| offline.is_none()).map(|bps| (bps / 1e3).round() as u32);
        Some(LinkStatePayload { at_ms: offline.unwrap_or(now_ms), state, why, kbit })
    }

    /// Another call, or one of an earlier start: this is what its case has last.
    pub(super) fn restore(&mut self, filed: Option<&LinkStatePayload>) {
        self.filed = filed.map_or(GOOD, |p| (p.state, p.why));
    }

    fn grade(&self, m: &Measured) -> Grade {
        if m.lost_since_ms.is_some() {
            return (LinkState::Offline, Some(LinkTrouble::Silent));
        }
        let slack = if self.now.0 == LinkState::Poor { BETTER } else { 1.0 };
        match m.pictures {
            Pictures::Moving => {}
            Pictures::Stills => return (LinkState::StillMode, Some(LinkTrouble::Slow)),
            Pictures::None => return (LinkState::AudioOnly, Some(LinkTrouble::Slow)),
        }
        let why = if m.bps.is_some_and(|bps| bps < POOR_BPS * slack) {
            LinkTrouble::Slow
        } else if m.loss_pct > POOR_LOSS_PCT / slack as f32 {
            LinkTrouble::Lossy
        } else if m.rtt_ms.is_some_and(|rtt| rtt > POOR_RTT_MS / slack as f32) {
            LinkTrouble::Late
        } else {
            return GOOD;
        };
        (LinkState::Poor, Some(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Measured =
        Measured { lost_since_ms: None, bps: Some(2e6), pictures: Pictures::Moving, rtt_ms: Some(40.0), loss_pct: 0.0 };

    /// States said, one step each 200 ms.
    fn run(watch: &mut LinkWatch, now_ms: &mut i64, lasts_ms: i64, measured: Measured) -> Vec<(i64, LinkStatePayload)> {
        let mut said = Vec::new();
        for _ in 0..lasts_ms / 200 {
            *now_ms += 200;
            watch.step(*now_ms, &measured);
            said.extend(watch.unfiled(*now_ms, &measured).map(|p| (*now_ms, p)));
        }
        said
    }

    #[test]
    fn a_link_that_narrows_is_called_slow_and_good_again_when_it_stays_wide() {
        let (mut watch, mut now) = (LinkWatch::default(), 0);
        let narrow = Measured { bps: Some(300e3), ..WIDE };
        assert_eq!(run(&mut watch, &mut now, 10_000, WIDE), []);
        assert_eq!(run(&mut watch, &mut now, 1_800, narrow), [], "a dip");
        assert_eq!(run(&mut watch, &mut now, 2_000, WIDE), []);
        let said = run(&mut watch, &mut now, 10_000, narrow);
        let poor =
            LinkStatePayload { at_ms: 16_000, state: LinkState::Poor, why: Some(LinkTrouble::Slow), kbit: Some(300) };
        assert_eq!(said, [(16_000, poor)]);
        assert_eq!(
            run(&mut watch, &mut now, 10_000, Measured { bps: Some(1.55e6), ..WIDE }),
            [],
            "just above the bound"
        );
        assert_eq!(run(&mut watch, &mut now, 3_000, WIDE), []);
        let said = run(&mut watch, &mut now, 3_000, WIDE);
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].1.state, said[0].1.why), (LinkState::Good, None));
    }

    #[test]
    fn stills_and_the_voice_alone_are_states_of_their_own() {
        let (mut watch, mut now) = (LinkWatch::default(), 0);
        let mut said = |bps: f64, pictures| {
            let measured = Measured { bps: Some(bps), pictures, ..WIDE };
            run(&mut watch, &mut now, 6_000, measured).iter().map(|s| s.1.state).collect::<Vec<_>>()
        };
        assert_eq!(said(70e3, Pictures::Stills), [LinkState::StillMode]);
        assert_eq!(said(36e3, Pictures::None), [LinkState::AudioOnly]);
        assert_eq!(said(70e3, Pictures::Stills), [LinkState::StillMode]);
        assert_eq!(said(300e3, Pictures::Moving), [LinkState::Poor]);
        assert_eq!(said(2e6, Pictures::Moving), [LinkState::Good]);
    }

    #[test]
    fn an_outage_is_filed_with_the_moment_it_began() {
        let (mut watch, mut now) = (LinkWatch::default(), 100_000);
        let lost = Measured { lost_since_ms: Some(98_500), ..WIDE };
        let said = run(&mut watch, &mut now, 30_000, lost);
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].1.at_ms, said[0].1.state, said[0].1.kbit), (98_500, LinkState::Offline, None));
        let said = run(&mut watch, &mut now, 200, WIDE);
        assert_eq!((said[0].1.at_ms, said[0].1.state), (130_200, LinkState::Good), "at once");
    }

    #[test]
    fn each_trouble_has_its_name_and_another_one_is_said_as_well() {
        let (mut watch, mut now) = (LinkWatch::default(), 0);
        let mut said =
            |m: Measured| run(&mut watch, &mut now, 5_000, m).iter().filter_map(|s| s.1.why).collect::<Vec<_>>();
        assert_eq!(said(Measured { rtt_ms: Some(1_200.0), ..WIDE }), [LinkTrouble::Late]);
        assert_eq!(said(Measured { loss_pct: 12.0, ..WIDE }), [LinkTrouble::Lossy]);
        assert_eq!(said(Measured { loss_pct: 9.6, ..WIDE }), [], "not better enough");
    }

    #[test]
    fn a_new_start_goes_on_from_what_the_case_has() {
        let (mut watch, mut now) = (LinkWatch::default(), 0);
        let poor = LinkStatePayload { at_ms: 0, state: LinkState::Poor, why: Some(LinkTrouble::Slow), kbit: None };
        watch.restore(Some(&poor));
        let said = run(&mut watch, &mut now, 400, WIDE);
        assert_eq!(said.iter().map(|s| s.1.state).collect::<Vec<_>>(), [LinkState::Good]);
    }
}
