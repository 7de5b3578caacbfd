//! An archivist that is killed in a recorded session and stays away: the call goes on, people are told, and what is missing is declared.
//!
//! Owns: what is done meanwhile and what is checked. Tests stay away for seconds, `fault_loop away` for minutes.
//! Elsewhere: the session (`recorded`), an archivist that hangs (`tests/faults.rs`).

use std::time::{Duration, Instant};

use lotse_protocol::{command::ServerMessage, kind, policy::Role, session::Session, signal::TrackSource};
use serde::Serialize;

use crate::{
    World,
    recorded::{Recorded, recorded},
    secs,
};

/// What one absence showed.
#[derive(Debug, Serialize)]
pub struct Away {
    /// From the kill to the next start.
    pub seconds: f64,
    /// From the kill until every socket was told that there is no archivist, and until its session shows it.
    pub told_ms: u64,
    pub shown_ms: u64,
    /// The longest time without a packet of the technician's voice at the expert, from the kill to the end.
    pub longest_silence_ms: u64,
    /// From the next start to its first fragment in the log.
    pub records_again_ms: u64,
    /// Notes that were acknowledged meanwhile; all are in the log.
    pub notes: usize,
    /// The declared gaps, longest first.
    pub gaps_ms: Vec<i64>,
}

/// The longest time in which nothing of the technician's voice came to the expert.
pub fn longest_silence(call: &Recorded, since: Instant) -> Duration {
    let mut at: Vec<Instant> =
        call.legs[1].packets(call.technician.me(call.case), TrackSource::Voice).iter().map(|p| p.at).collect();
    at.retain(|at| *at > since);
    assert!(at.len() > 100, "{} packets", at.len());
    at.sort();
    at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// Waits until the archivist is in the session or gone from it.
pub async fn archivist_is(call: &Recorded, present: bool) -> Session {
    let fits = move |s: &Session| s.participants.values().any(|p| p.role == Role::Archivist && p.present == present);
    call.expert.session_is(call.case, "the archivist comes or goes", fits).await
}

/// Killed, away for so long, and back.
pub async fn for_so_long(seed: u64, away: Duration) -> Away {
    let mut world = World::seeded(seed).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    let ms = |time: Duration| time.as_millis() as u64;
    let mut found = call
        .talking(async {
            call.segments_after(0).await;
            let mark = call.expert.live.mark();
            let killed = Instant::now();
            world.archivist.kill9();
            let told = |m: &ServerMessage| matches!(m, ServerMessage::Archivist { present: false }).then_some(());
            call.expert.live.until_within("that nothing is recorded", mark, secs(60), told).await;
            let told_ms = ms(killed.elapsed());
            assert!(!archivist_is(&call, false).await.may_record(), "nobody is there to record");
            let shown_ms = ms(killed.elapsed());
            // A note a second: the case goes on being written.
            let mut second = tokio::time::interval(secs(1));
            while killed.elapsed() < away {
                second.tick().await;
                acknowledged.push(call.note(format!("nobody records {}", acknowledged.len())).await.unwrap());
            }
            call.hear_each_other().await;
            let seconds = killed.elapsed().as_secs_f64();
            let before = call.count(kind::SEGMENT);
            let started = Instant::now();
            world.archivist.start().await;
            assert!(archivist_is(&call, true).await.may_record(), "the answers given before still count");
            call.segments_after(before).await;
            let records_again_ms = ms(started.elapsed());
            call.hear_each_other().await;
            let longest_silence_ms = ms(longest_silence(&call, killed));
            let notes = acknowledged.len();
            Away { seconds, told_ms, shown_ms, longest_silence_ms, records_again_ms, notes, gaps_ms: Vec::new() }
        })
        .await;
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    found.gaps_ms = gaps.iter().map(|g| (g.to_us - g.from_us) / 1_000).collect();
    assert!(found.longest_silence_ms < 1_000, "the voice noticed: {found:?}");
    // Both voices, each in one piece.
    let long = (away.as_millis() as i64, away.as_millis() as i64 + 20_000);
    let whole = found.gaps_ms.iter().filter(|ms| (long.0 - 3_000..long.1).contains(*ms)).count();
    assert_eq!(whole, 2, "{gaps:?}");
    found
}
