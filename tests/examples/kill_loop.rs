//! `kill -9` of one program at random instants of recorded sessions: what is lost of media and events, and does every case verify? Prints one
//! JSON line.
//!
//! Usage: `kill_loop server|archivist|glasses [TIMES] [SEED]`, by default 50 times, seed 1. The real server, archivist and glasses (workshop clip with
//! its sound), an expert who talks and writes notes as fast as they are acknowledged. Each kill meets a world of its own; one that fails
//! is counted and told, and the others go on.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use lotse_payload::recording::SegmentPayload;
use lotse_protocol::{id::EventId, kind, policy::Role};
use lotse_tests::{
    Draft, World,
    call::{Call, PATIENCE, Part},
    eventually, person,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// Notes until the connection breaks or `time` is over; those that were acknowledged.
async fn notes(call: &Call, time: Duration) -> Vec<EventId> {
    let mut told = Vec::new();
    let writing = async {
        loop {
            let note = Draft::of(kind::MESSAGE).payload(&json!({ "text": format!("note {}", told.len()) }));
            match call.expert.commit(call.case, note).await {
                Ok(id) => told.push(id),
                Err(_) => return,
            }
        }
    };
    let talking = async {
        loop {
            call.leg.speak(700.0, Duration::from_secs(5)).await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = talking => {}
        () = tokio::time::sleep(time) => {}
    }
    told
}

/// One kill: ms of media lost, notes acknowledged, notes lost.
async fn kill(seed: u64, what: &str, after: Duration) -> (f64, usize, usize) {
    let mut world = World::seeded(seed).await;
    let mut glasses = world.started_glasses("helmet-1").await;
    let mut call = Call::recorded(&world, &glasses, Part::Talks).await;
    call.expert.event_within(call.case, kind::SEGMENT, PATIENCE, |_| true).await;
    let told = notes(&call, after).await;
    let killed_us = person::now_ms() * 1_000;
    match what {
        "server" => world.server.kill9(),
        "archivist" => world.archivist.kill9(),
        _ => glasses.program.kill9(),
    }
    match what {
        "server" => {
            world.server.start().await;
            call.expert.reconnect().await;
            call.expert.open(call.case, 0).await.unwrap();
            call.expert.commit(call.case, Draft::of(kind::SESSION_JOINED).session(call.session)).await.unwrap();
        }
        "archivist" => world.archivist.start().await,
        _ => glasses.program.start().await,
    }
    // Everybody is back, and what the crash left open is filed.
    call.expert
        .session_is(call.case, "the archivist is back", |s| {
            s.participants.values().any(|p| p.role == Role::Archivist && p.present)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    call.expert.commit(call.case, Draft::of(kind::SESSION_ENDED).session(call.session)).await.unwrap();
    eventually("recording has stopped", PATIENCE, async || {
        let log = call.expert.log(call.case);
        let count = |k: &str| log.iter().filter(|(f, _)| f.kind == k).count();
        (count(kind::RECORDING_STOPPED) == count(kind::RECORDING_STARTED)).then_some(())
    })
    .await;
    let log = call.expert.log(call.case);
    let lost_notes = told.iter().filter(|id| !log.iter().any(|(f, _)| f.id == **id)).count();
    // Of the glasses' picture and voice, how far before the kill the last that is kept ends. The expert of this program is no product: its
    // voice keeps no pace on a busy machine.
    let mut ends = HashMap::new();
    for (fields, sent) in log.iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
        let segment: SegmentPayload = call.expert.payload(call.case, fields, sent).await;
        if fields.session == Some(call.session) && segment.owner == call.technician && segment.start_us < killed_us {
            let end = ends.entry(segment.info.track).or_insert(segment.end_us);
            *end = (*end).max(segment.end_us);
        }
    }
    let lost_us = ends.values().map(|end| killed_us - end).max().expect("something was kept").max(0);
    call.proven_bundle(&world).await;
    (lost_us as f64 / 1_000.0, told.len(), lost_notes)
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_else(|| "archivist".into());
    let times: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(50);
    let seed: u64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(1);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut lost: Vec<f64> = Vec::new();
    let (mut told, mut lost_notes) = (0, 0);
    for n in 0..times {
        let after = Duration::from_millis(rng.random_range(200..4_000));
        match AssertUnwindSafe(kill(seed + n as u64, &what, after)).catch_unwind().await {
            Ok((ms, count, gone)) => {
                eprintln!("{what} {n}: killed after {after:?}: {ms:.0} ms of media lost, {gone} of {count} notes");
                lost.push(ms);
                (told, lost_notes) = (told + count, lost_notes + gone);
            }
            Err(_) => eprintln!("{what} {n}: killed after {after:?}: FAILED"),
        }
    }
    lost.sort_by(f64::total_cmp);
    let at = |q: f64| lost[((lost.len() - 1) as f64 * q).round() as usize];
    let out: Value = json!({
        "killed": what, "times": times, "seed": seed, "verified": lost.len(),
        "lost_ms": { "p50": at(0.5), "p95": at(0.95), "max": at(1.0) },
        "acknowledged": told, "acknowledged_lost": lost_notes,
    });
    println!("{out}");
    assert_eq!(lost.len(), times, "see above for those that failed");
}
