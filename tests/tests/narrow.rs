//! A way to the server that narrows and widens: the glasses send what it carries.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_protocol::signal::TrackSource;
use lotse_tests::{
    World,
    call::{Call, PATIENCE, Part},
    network::Faults,
    secs,
};
use tokio::time::Instant;

fn rate(kbit: f64) -> Faults {
    Faults { rate_bps: Some(kbit * 1e3), delay: Duration::from_millis(25), ..Faults::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn trial() {
    let world = World::seeded(71).await;
    let link = world.link().await;
    let glasses = world.glasses("helmet-1").behind(&link).with("LOTSE_CALL_FOLLOW_LINK", "true").start().await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    for (kbit, s) in [(2000.0, 10), (300.0, 20), (2000.0, 20)] {
        link.set(rate(kbit));
        let began = Instant::now();
        eprintln!("=== {kbit} at {}", chrono_now());
        tokio::time::sleep(secs(s)).await;
        let all = call.leg.packets(call.technician, TrackSource::Main);
        let mine: Vec<_> = all.iter().filter(|p| p.at >= began.into_std()).collect();
        for sec in 0..s {
            let of = |p: &&&lotse_tests::media::Got| (p.at - began.into_std()).as_secs() == sec;
            let bytes: usize = mine.iter().filter(of).map(|p| p.payload.len() + 40).sum();
            let pics = mine.iter().filter(of).filter(|p| p.marker).count();
            eprint!("{sec}:{}k/{pics} ", bytes * 8 / 1000);
        }
        eprintln!();
        let mut times: Vec<f64> =
            mine.iter().filter(|p| p.marker).map(|p| (p.at - began.into_std()).as_secs_f64()).collect();
        times.insert(0, 0.0);
        let mut gaps: Vec<(f64, f64)> = times.windows(2).map(|w| (w[1] - w[0], w[0])).collect();
        gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
        eprintln!("gaps {:.2?}", &gaps[..gaps.len().min(5)]);
    }
    eprintln!("{}", glasses.program.log());
}

fn chrono_now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() % 1_000_000
}
