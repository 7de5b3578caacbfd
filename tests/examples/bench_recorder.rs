//! What recording costs, and whether it depends on how many people watch; prints one JSON line.
//!
//! Usage: `bench_recorder [VIEWERS,…] [WINDOWS] [SECONDS]`, by default `1,100 3 30`: one round of the workshop clip a window.
//! Server, archivist and glasses are the real programs, each viewer is a login with a WebRTC leg of its own. One session is
//! recorded throughout; more viewers join it. CPU time is what /proc says of each program; the viewers' own is said beside it,
//! for they share the cores.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotse_protocol::{
    id::{CaseId, SessionId},
    kind,
};
use lotse_tests::{
    Draft, Glasses, Person, World,
    call::{Call, PATIENCE, Part},
    disk, eventually,
    media::Leg,
    program::Usage,
};
use serde_json::{Value, json};

/// After somebody came in: key frames, new lines and allocations are over.
const SETTLES: Duration = Duration::from_secs(5);

struct Watched {
    world: World,
    glasses: Glasses,
    case: CaseId,
    session: SessionId,
    viewers: Vec<(Person, Leg)>,
}

impl Watched {
    async fn begin() -> Self {
        let world = World::seeded(81).await;
        let glasses = world.started_glasses("helmet-1").await;
        let Call { expert, case, session, leg, .. } = Call::recorded(&world, &glasses, Part::Watches).await;
        Self { world, glasses, case, session, viewers: vec![(expert, leg)] }
    }

    /// Until so many watch.
    async fn grow(&mut self, viewers: usize) {
        // Logging in takes time on purpose; all of it before the first one joins the session.
        let mut coming = Vec::new();
        for n in self.viewers.len()..viewers {
            let user = format!("expert-{n}");
            self.world.add_expert(&user).await;
            let person = self.world.person(&user).await;
            person.enter(self.case).await;
            coming.push(person);
        }
        for person in coming {
            person.commit(self.case, Draft::of(kind::SESSION_JOINED).session(self.session)).await.unwrap();
            person.answer(self.case, self.session, kind::CONSENT_RECORD).await;
            let leg = person.watch_media(self.case, self.session).await;
            leg.connected().await;
            self.viewers.push((person, leg));
        }
    }

    /// Everybody sees, and fragments are written.
    async fn settled(&self) {
        tokio::time::sleep(SETTLES).await;
        let seen: Vec<usize> = self.viewers.iter().map(|(_, leg)| leg.total()).collect();
        let kept = self.world.media_bytes();
        eventually("everybody sees and it is recorded", PATIENCE, async || {
            let all = self.viewers.iter().zip(&seen).all(|((_, leg), before)| leg.total() > before + 50);
            (all && self.world.media_bytes() > kept + 50_000).then_some(())
        })
        .await;
    }

    async fn window(&self, length: Duration) -> Value {
        let usage = || {
            let programs = [&self.world.archivist, &self.world.server, &self.glasses.program];
            let [archivist, server, glasses] = programs.map(lotse_tests::program::Program::usage);
            (archivist, server, glasses, Usage::own())
        };
        let kept = || self.world.media_bytes();
        let received = || self.viewers.iter().map(|(_, leg)| leg.total()).collect::<Vec<_>>();
        let (before, kept_before, received_before) = (usage(), kept(), received());
        let began = Instant::now();
        tokio::time::sleep(length).await;
        let (after, took) = (usage(), began.elapsed().as_secs_f64());
        let got: Vec<f64> =
            received().iter().zip(received_before).map(|(after, before)| (after - before) as f64 / took).collect();
        let ms = |after: Usage, before: Usage| round((after.cpu - before.cpu).as_secs_f64() * 1e3 / took);
        let mb = |usage: Usage| round(usage.rss as f64 / 1e6);
        json!({
            "archivist_ms": ms(after.0, before.0),
            "archivist_mb": mb(after.0),
            "server_ms": ms(after.1, before.1),
            "server_mb": mb(after.1),
            "glasses_ms": ms(after.2, before.2),
            "viewers_ms": ms(after.3, before.3),
            "recorded_kbit": round((kept() - kept_before) as f64 * 8e-3 / took),
            "viewer_packets_min": round(got.iter().copied().fold(f64::MAX, f64::min)),
            "viewer_packets_max": round(got.iter().copied().fold(0.0, f64::max)),
        })
    }

    /// Ends the session; how many holes the recording declared until then.
    async fn end(&self) -> usize {
        let (first, _) = &self.viewers[0];
        let gaps = first.log(self.case).iter().filter(|(f, _)| f.kind == kind::GAP).count();
        first.commit(self.case, Draft::of(kind::SESSION_ENDED).session(self.session)).await.unwrap();
        first.event_within(self.case, kind::RECORDING_STOPPED, PATIENCE, |f| f.session == Some(self.session)).await;
        gaps
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let viewers = words.next().unwrap_or_else(|| "1,100".into());
    let windows: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(3);
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(30);
    let mut call = Watched::begin().await;
    let mut runs = Vec::new();
    for count in viewers.split(',').filter_map(|word| word.parse().ok()) {
        call.grow(count).await;
        call.settled().await;
        let mut all = Vec::new();
        for _ in 0..windows {
            all.push(call.window(Duration::from_secs(seconds)).await);
        }
        eprintln!("{count}: {}", json!(all));
        runs.push(json!({ "viewers": count, "seconds": seconds, "windows": all }));
    }
    let gaps = call.end().await;
    let fragments = disk::files(&call.world.path("archivist")).iter().filter(|f| disk::is_media(f)).count();
    call.glasses.program.assert_no_panic();
    call.world.assert_no_panic();
    println!("{}", json!({ "bench": "recorder", "runs": runs, "fragments": fragments, "gaps": gaps }));
}
