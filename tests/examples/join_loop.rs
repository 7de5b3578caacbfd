//! Joins and leaves of one running, recorded session: do memory and descriptors of server and archivist stay flat? Prints one JSON line.
//!
//! Usage: `join_loop [TIMES]`, by default 2000. A technician and an expert stay and talk; a second expert comes on a new live socket, joins
//! the session, connects media, hears something, leaves and goes, again and again.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    kind,
};
use lotse_tests::{Draft, World, eventually, program::Usage, recorded::recorded};
use serde_json::{Value, json};

/// A busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn figures(n: usize, world: &World) -> Value {
    let of = |usage: Usage| json!({ "rss_mb": usage.rss as f64 / 1e6, "descriptors": usage.descriptors });
    json!({ "joins": n, "server": of(world.server.usage()), "archivist": of(world.archivist.usage()) })
}

#[tokio::main]
async fn main() {
    let times: usize = std::env::args().nth(1).and_then(|w| w.parse().ok()).unwrap_or(2_000);
    let world = World::seeded(1).await;
    world.add_expert("visitor").await;
    let call = recorded(&world).await;
    let (case, session) = (call.case, call.session);
    let began = std::time::Instant::now();
    let rows = call
        .talking(async {
            call.segments_after(0).await;
            let mut visitor = world.person("visitor").await;
            visitor.enter(case).await;
            visitor.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
            visitor.answer(case, session, kind::CONSENT_RECORD).await;
            let mut rows = vec![figures(0, &world)];
            for n in 1..=times {
                visitor.reconnect().await;
                // Only what comes from now on.
                visitor.open(case, u64::MAX).await.unwrap();
                visitor.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
                let leg = visitor.watch_media(case, session).await;
                eventually("the visitor hears something", PATIENCE, async || (leg.total() > 0).then_some(())).await;
                let mark = visitor.live.mark();
                visitor.live.say(&ClientMessage::RtcLeave { session });
                visitor
                    .live
                    .until_within("the visitor has left", mark, PATIENCE, |m| match m {
                        ServerMessage::Event { event, .. } if event.event.author.contains(kind::SESSION_LEFT) => {
                            Some(())
                        }
                        _ => None,
                    })
                    .await;
                if n % (times / 10).max(1) == 0 {
                    rows.push(figures(n, &world));
                    eprintln!("{}", rows[rows.len() - 1]);
                }
            }
            rows
        })
        .await;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    call.ends_and_verifies(&world).await;
    println!("{}", json!({ "joins": times, "minutes": minutes, "rows": rows }));
}
