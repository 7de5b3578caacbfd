//! Whether pictures may wait for their repairs where they are shown.
//!
//! Owns: `Patience`: from which losses on, and for how long. Never: measures. Elsewhere: losses are the server's report of all legs; what is said
//! to those who show is the playout delay in `packet`.

use std::time::{Duration, Instant};

use lotse_protocol::{id::Pseudonym, signal::Leg};

/// Losses of a leg that a repair is needed for, percent; twice in a row, since one report may be of a moment.
const LOSSY_PCT: f32 = 2.0;
/// So long after the last of them.
const KEPT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub struct Patience {
    lossy: bool,
    until: Option<Instant>,
}

impl Patience {
    /// Takes the report of a second; `me`: whose pictures they are. Says whether they may wait.
    pub fn step(&mut self, now: Instant, legs: &[Leg], me: Option<Pseudonym>) -> bool {
        // Our pictures go up one leg and down all the others.
        let loss = |leg: &Leg| if Some(leg.who) == me { leg.loss_up_pct } else { leg.loss_down_pct };
        let lossy = legs.iter().any(|leg| loss(leg) > LOSSY_PCT);
        if lossy && self.lossy {
            self.until = Some(now + KEPT);
        }
        self.lossy = lossy;
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn leg(who: u128, loss_up_pct: f32, loss_down_pct: f32) -> Leg {
        let who = Pseudonym(Uuid::from_u128(who));
        Leg { who, connected: true, rtt_ms: None, loss_up_pct, loss_down_pct, up_kbps: 0, down_kbps: 0 }
    }

    #[test]
    fn pictures_wait_while_somebody_loses_them_and_not_for_a_moment_of_loss() {
        let (me, began) = (Some(Pseudonym(Uuid::from_u128(1))), Instant::now());
        let mut patience = Patience::default();
        let mut step = |second: u64, legs: &[Leg]| patience.step(began + Duration::from_secs(second), legs, me);
        let fine = [leg(1, 0.0, 15.0), leg(2, 15.0, 0.0)];
        assert!(!step(0, &fine) && !step(1, &fine), "what others send, and what we receive, is not ours");
        assert!(!step(2, &[leg(1, 15.0, 0.0)]), "a moment");
        assert!(!step(3, &fine));
        assert!(!step(4, &[leg(2, 0.0, 3.0)]));
        assert!(step(5, &[leg(2, 0.0, 3.0)]), "an expert loses");
        assert!(step(24, &fine));
        assert!(!step(25, &fine), "over for a while");
        assert!(!step(30, &[leg(1, 9.0, 0.0)]));
        assert!(step(31, &[leg(1, 9.0, 0.0)]), "we lose");
    }
}
