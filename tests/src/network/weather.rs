//! Links by words: as technicians meet them, or with figures of one's own; for the demo, for benches and for trying by hand.
//!
//! Owns: the words, what each does, and how a link changes by itself. The figures of the kinds are chosen, one hardship each; nobody
//! measured them.

use std::{str::FromStr, time::Duration};

use super::{Faults, Link};

/// Time that a lift is underway and out of reach, and how long it stands at a floor.
const SHAFT: Duration = Duration::from_secs(15);
const FLOOR: Duration = Duration::from_secs(30);

const KINDS: [&str; 5] = ["direct", "lte", "hall", "lift", "cellar"];
const FIGURES: [&str; 6] = ["loss", "burst", "delay", "jitter", "double", "rate"];

/// What a link is from now on.
///
/// In words: a kind (`direct`: nothing is added, `lte`: a phone network, `hall`: a steel hall, losses in bursts, `lift`: phone network at a
/// floor, nothing in the shaft and another address afterwards, `cellar`: narrow, slow, loses some), and figures that change it:
/// `loss=15` and `double=1` in percent, `burst=5` losses in a row, `delay=25` and `jitter=5` in ms each way, `rate=300` in kbit/s;
/// `move`: from another address; `cut`: nothing passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    faults: Faults,
    moves: bool,
    cut: bool,
    lift: bool,
}

impl FromStr for Weather {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let mut weather = Self::default();
        for word in words.split_whitespace() {
            match word {
                "move" => weather.moves = true,
                "cut" => weather.cut = true,
                kind if KINDS.contains(&kind) => {
                    weather.faults = kind_of_link(kind);
                    weather.lift = kind == "lift";
                }
                figure => weather.faults.set(figure)?,
            }
        }
        Ok(weather)
    }
}

impl Faults {
    fn set(&mut self, figure: &str) -> Result<(), String> {
        let refuse = || {
            format!(
                "{figure:?} says nothing of a link. Write one of {}, a figure like loss=15 ({}), move or cut.",
                KINDS.join(", "),
                FIGURES.join(", ")
            )
        };
        let (name, value) = figure.split_once('=').ok_or_else(refuse)?;
        let value = value.parse().ok().filter(|v| (0.0..=1e9).contains(v)).ok_or_else(refuse)?;
        let ms = Duration::from_secs_f64(value / 1_000.0);
        match name {
            "loss" => self.loss_pct = value,
            "burst" => self.burst = value,
            "delay" => self.delay = ms,
            "jitter" => self.jitter = ms,
            "double" => self.double_pct = value,
            "rate" if value > 0.0 => self.rate_bps = Some(value * 1_000.0),
            _ => return Err(refuse()),
        }
        Ok(())
    }
}

fn kind_of_link(kind: &str) -> Faults {
    let ms = Duration::from_millis;
    match kind {
        "lte" | "lift" => {
            Faults { loss_pct: 0.5, delay: ms(25), jitter: ms(15), rate_bps: Some(6e6), ..Faults::default() }
        }
        "hall" => {
            Faults { loss_pct: 8.0, burst: 6.0, delay: ms(8), jitter: ms(20), double_pct: 0.5, rate_bps: Some(4e6) }
        }
        "cellar" => Faults {
            loss_pct: 3.0,
            burst: 3.0,
            delay: ms(80),
            jitter: ms(20),
            rate_bps: Some(300e3),
            ..Faults::default()
        },
        _ => Faults::default(),
    }
}

impl Weather {
    /// Makes the link so, for as long as this is polled.
    pub async fn keep(self, link: &Link) {
        link.set(self.faults);
        if self.moves {
            link.change_address();
        }
        if self.cut {
            link.cut();
        } else {
            link.mend();
        }
        if !self.lift {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(FLOOR).await;
            link.cut_for(SHAFT).await;
            link.change_address();
        }
    }
}
