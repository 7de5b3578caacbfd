//! How many recorded sessions, each with a publisher and three viewers, does this machine hold? Prints one JSON line for each number tried.
//!
//! Usage: `capacity [SESSIONS,…] [SECONDS]`, by default `5,10,20,40 60`. Server and archivist are the real programs. A film of the workshop clip,
//! encoded by real glasses beforehand, is sent by a client of this program for each session; so the encoder, which in the field runs on the glasses,
//! takes nothing from this machine, and the clients do. Each expert watches three sessions and writes a note a second into each.
//! Frozen is what a picture comes too late by: after the last packet of the one before, more than three times the mean interval, and at least 150 ms
//! above it (as WebRTC's freeze count has it).
#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lotse_payload::recording::GapPayload;
use lotse_protocol::{
    id::{CaseId, EventId, SessionId},
    kind,
    signal::TrackSource,
};
use lotse_tests::{
    Draft, Person, World,
    call::{self, Part},
    clip::Film,
    disk, eventually,
    media::Leg,
    person::fine,
    program::Usage,
};
use serde_json::{Value, json};

/// Hundreds of people come in, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Viewers of a session, and sessions of an expert.
const VIEWERS: usize = 3;
/// Key frames, new lines and allocations are over.
const SETTLES: Duration = Duration::from_secs(5);
/// Of the film: some key frames of it.
const FILM: Duration = Duration::from_secs(25);

struct Call {
    technician: Arc<Person>,
    case: CaseId,
    session: SessionId,
    picture: Arc<Leg>,
    viewers: Vec<(Arc<Person>, Leg)>,
}

/// What real glasses send in half a minute.
async fn film() -> Film {
    let world = World::seeded(91).await;
    let glasses = world.started_glasses("helmet-1").await;
    let call = call::Call::recorded(&world, &glasses, Part::Listens).await;
    call.sees(PATIENCE).await;
    tokio::time::sleep(FILM).await;
    eventually("a film without a hole", PATIENCE, async || {
        Film::of(&call.leg.packets(call.technician, TrackSource::Main))
    })
    .await
}

async fn begin(world: &World, n: usize, experts: &[Arc<Person>]) -> Call {
    let device = format!("camera-{n}");
    let code = world.pairing_code(&device).await;
    let technician = Arc::new(Person::pair(&world.url, &code, &device).await);
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    technician.answer(case, session, kind::CONSENT_RECORD).await;
    let mut viewers = Vec::new();
    for k in 0..VIEWERS {
        let expert = experts[(n + k) % experts.len()].clone();
        expert.take(case, session).await;
        expert.answer(case, session, kind::CONSENT_RECORD).await;
        let leg = expert.watch_media(case, session).await;
        viewers.push((expert, leg));
    }
    let picture = Arc::new(technician.publish_media(case, session).await);
    picture.connected().await;
    for (_, leg) in &viewers {
        leg.connected().await;
    }
    Call { technician, case, session, picture, viewers }
}

/// Share of the time in which the picture stood still.
fn frozen(pictures: &[Instant], from: Instant, to: Instant) -> f64 {
    let mut before: Vec<f64> = Vec::new();
    let mut frozen = 0.0;
    let inside: Vec<Instant> = pictures.iter().copied().filter(|at| (from..=to).contains(at)).collect();
    // Nothing after the last one is frozen as well.
    let ends = inside.iter().copied().chain([to]);
    let mut last = from;
    for at in ends {
        let gap = at.duration_since(last).as_secs_f64();
        let recent = &before[before.len().saturating_sub(30)..];
        let mean = if recent.is_empty() { 0.04 } else { recent.iter().sum::<f64>() / recent.len() as f64 };
        if gap > (3.0 * mean).max(mean + 0.15) {
            frozen += gap - mean;
        }
        before.push(gap);
        last = at;
    }
    frozen / to.duration_since(from).as_secs_f64()
}

async fn run(film: &Arc<Film>, sessions: usize, length: Duration) -> Value {
    let world = World::seeded(92).await;
    let mut experts = Vec::new();
    for n in 0..sessions.max(VIEWERS) {
        let user = format!("desk-{n}");
        world.add_expert(&user).await;
        experts.push(Arc::new(world.person(&user).await));
    }
    let mut calls = Vec::new();
    let whole = length + SETTLES + PATIENCE;
    let mut films = tokio::task::JoinSet::new();
    for n in 0..sessions {
        let call = begin(&world, n, &experts).await;
        let (leg, film) = (call.picture.clone(), film.clone());
        // Sessions do not send their key frames all at once.
        let late = Duration::from_millis(n as u64 * 370 % 4_000);
        films.spawn(async move {
            tokio::time::sleep(late).await;
            leg.show(&film, whole).await;
        });
        calls.push(call);
    }
    eventually("everybody sees, and everything is recorded", PATIENCE, async || {
        let see = calls.iter().flat_map(|c| &c.viewers).all(|(_, leg)| leg.pictures().len() > 25);
        let kept = calls.iter().all(|c| c.technician.log(c.case).iter().any(|(f, _)| f.kind == kind::SEGMENT));
        (see && kept).then_some(())
    })
    .await;
    tokio::time::sleep(SETTLES).await;

    let usage = || (world.server.usage(), world.archivist.usage(), Usage::own());
    let (from, before, kept_before) = (Instant::now(), usage(), world.media_bytes());
    let mut notes: Vec<(usize, EventId)> = Vec::new();
    let (mut refused, mut slowest) = (0usize, Duration::ZERO);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    while from.elapsed() < length {
        second.tick().await;
        let writing = calls.iter().enumerate().map(|(n, call)| async move {
            let began = Instant::now();
            let note = Draft::of(kind::MESSAGE).payload(&json!({ "text": "a note" }));
            (n, call.viewers[0].0.commit(call.case, note).await, began.elapsed())
        });
        for (n, told, took) in futures_util::future::join_all(writing).await {
            slowest = slowest.max(took);
            match told {
                Ok(id) => notes.push((n, id)),
                Err(_) => refused += 1,
            }
        }
    }
    let (to, after, kept) = (Instant::now(), usage(), world.media_bytes() - kept_before);
    let took = to.duration_since(from).as_secs_f64();
    // A note that is acknowledged may be a moment on its way to the others.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut dropped = 0;
    for (n, call) in calls.iter().enumerate() {
        for (person, _) in &call.viewers {
            let have: std::collections::HashSet<EventId> = person.log(call.case).iter().map(|(f, _)| f.id).collect();
            dropped += notes.iter().filter(|(of, id)| *of == n && !have.contains(id)).count();
        }
    }
    let mut still: Vec<f64> =
        calls.iter().flat_map(|c| &c.viewers).map(|(_, leg)| frozen(&leg.pictures(), from, to)).collect();
    still.sort_by(f64::total_cmp);
    let mut gap_s = 0.0;
    for call in &calls {
        for (fields, sent) in call.technician.log(call.case).iter().filter(|(f, _)| f.kind == kind::GAP) {
            let gap: GapPayload = call.technician.payload(call.case, fields, sent).await;
            gap_s += (gap.to_us - gap.from_us) as f64 / 1e6;
        }
    }
    let metrics: Value = fine(experts[0].http.get(format!("{}/readyz", world.url)).send().await.unwrap())
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let ms = |after: Usage, before: Usage| (after.cpu - before.cpu).as_secs_f64() * 1e3 / took;
    let round = |x: f64| (x * 100.0).round() / 100.0;
    let shares = [ms(after.0, before.0), ms(after.1, before.1), ms(after.2, before.2)];
    films.shutdown().await;
    for call in &calls {
        let ended = Draft::of(kind::SESSION_ENDED).session(call.session);
        call.viewers[0].0.commit(call.case, ended).await.unwrap();
    }
    world.assert_no_panic();
    json!({
        "sessions": sessions, "seconds": round(took),
        "frozen_mean": still.iter().sum::<f64>() / still.len() as f64, "frozen_worst": still.last(),
        "viewers_over_half_percent": still.iter().filter(|s| **s > 0.005).count(),
        "notes": notes.len(), "refused": refused, "dropped": dropped, "slowest_note_ms": slowest.as_millis() as u64,
        "gaps_s": round(gap_s), "recorded_mbit": round(kept as f64 * 8e-6 / took),
        "server_ms": round(shares[0]), "archivist_ms": round(shares[1]), "clients_ms": round(shares[2]),
        "server_mb": after.0.rss / 1_000_000, "archivist_mb": after.1.rss / 1_000_000,
        "fragments": disk::files(&world.path("archivist")).iter().filter(|f| disk::is_media(f)).count(),
        "ready": metrics,
    })
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let numbers = words.next().unwrap_or_else(|| "5,10,20,40".into());
    let seconds = words.next().and_then(|w| w.parse().ok()).unwrap_or(60);
    let film = Arc::new(film().await);
    let (pictures, length, rate) = film.measure();
    println!("{}", json!({ "film": { "pictures": pictures, "seconds": length.as_secs_f64(), "bit_s": rate } }));
    for sessions in numbers.split(',').filter_map(|n| n.parse().ok()) {
        println!("{}", run(&film, sessions, Duration::from_secs(seconds)).await);
    }
}
