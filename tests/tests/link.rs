//! The bad links that the other tests use: what they lose, delay and queue is what was asked for.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_tests::network::{Faults, Way, Weather};
use tokio::time::Instant;

fn lost(faults: &Faults, seed: u64) -> Vec<bool> {
    let now = Instant::now();
    let mut way = Way::new(seed, now);
    (0..20_000).map(|_| way.datagram(faults, 1_200, now).is_empty()).collect()
}

#[test]
fn losses_are_as_many_and_in_bursts_as_long_as_asked_for() {
    for (loss_pct, burst) in [(15.0, 0.0), (15.0, 5.0), (30.0, 8.0)] {
        let fate = lost(&Faults { loss_pct, burst, ..Faults::default() }, 7);
        let count = fate.iter().filter(|lost| **lost).count();
        let bursts = fate.windows(2).filter(|w| !w[0] && w[1]).count();
        let (found, long) = (count as f64 / 200.0, count as f64 / bursts as f64);
        assert!((found - loss_pct).abs() < loss_pct / 8.0, "{found} % lost instead of {loss_pct}");
        // By themselves, 15 % make 1.18 in a row.
        let expected = if burst > 1.0 { burst } else { 1.0 / (1.0 - loss_pct / 100.0) };
        assert!((long - expected).abs() < expected / 8.0, "{long} in a row instead of {expected}");
    }
    let burst = Faults { loss_pct: 15.0, burst: 5.0, ..Faults::default() };
    assert_eq!(lost(&burst, 7), lost(&burst, 7), "the seed decides");
    assert_ne!(lost(&burst, 7), lost(&burst, 8));
    assert!(lost(&Faults { loss_pct: 100.0, burst: 5.0, ..Faults::default() }, 7).iter().all(|lost| *lost));
}

#[test]
fn some_arrive_twice() {
    let now = Instant::now();
    let mut way = Way::new(3, now);
    let faults = Faults { double_pct: 10.0, ..Faults::default() };
    let twice = (0..10_000).filter(|_| way.datagram(&faults, 100, now).len() == 2).count();
    assert!((900..1_100).contains(&twice), "{twice} of 10000");
}

#[test]
fn a_rate_queues_what_comes_too_fast_and_loses_what_the_queue_cannot_hold() {
    let now = Instant::now();
    let mut way = Way::new(1, now);
    let faults = Faults { rate_bps: Some(80_000.0), delay: Duration::from_millis(20), ..Faults::default() };
    // 1,000 bytes take 100 ms: six wait 100 to 600 ms, the rest of a burst is lost.
    let fate: Vec<_> = (0..8).map(|_| way.datagram(&faults, 1_000, now)).collect();
    let late: Vec<u128> = fate.iter().flatten().map(Duration::as_millis).collect();
    assert_eq!(late, [120, 220, 320, 420, 520, 620]);
    let now = now + Duration::from_secs(1);
    assert_eq!(way.datagram(&faults, 1_000, now), [Duration::from_millis(120)]);
    // A stream loses nothing: it waits.
    let (due, wait) = way.piece(&faults, 10_000, now);
    assert_eq!((due - now, wait), (Duration::from_millis(1_120), Duration::from_millis(500)));
}

#[test]
fn a_link_is_told_in_words_and_nonsense_is_refused_with_what_may_stand_there() {
    let parse = |words: &str| words.parse::<Weather>();
    assert_eq!(parse("direct").unwrap(), Weather::default());
    assert_ne!(parse("cellar\n").unwrap(), Weather::default());
    assert_eq!(parse("lte loss=0.5").unwrap(), parse("lte").unwrap());
    assert_eq!(parse("rate=300 delay=80 jitter=20 loss=3 burst=3").unwrap(), parse("cellar").unwrap());
    for words in ["mars", "loss", "loss=much", "loss=-1", "rate=0", "loss=15,burst=5", "delay=1e99"] {
        let refused = parse(words).unwrap_err();
        assert!(refused.contains("cellar") && refused.contains("loss=15"), "{words}: {refused}");
    }
}
