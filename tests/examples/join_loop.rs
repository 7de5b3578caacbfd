//! Joins and leaves of one running, recorded session: do memory and descriptors of server and archivist stay flat? Prints one JSON line.
//!
//! Usage: `join_loop [TIMES]`, by default 2000. A technician and an expert stay and talk; other experts, several at once, come on a new live
//! socket, join the session, connect media, hear something, leave and go, again and again.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    kind,
};
use lotse_tests::{
    Draft, Person, World, eventually,
    program::Usage,
    recorded::{Recorded, recorded},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Who come and go beside each other: most of a visit is waiting.
const AT_ONCE: usize = 16;
/// A busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn figures(n: usize, world: &World) -> Value {
    let of = |usage: Usage| json!({ "rss_mb": usage.rss as f64 / 1e6, "descriptors": usage.descriptors });
    json!({ "joins": n, "server": of(world.server.usage()), "archivist": of(world.archivist.usage()) })
}

/// Comes on a new live socket, hears something, leaves.
async fn visit(visitor: &mut Person, call: &Recorded) {
    let (case, session) = (call.case, call.session);
    visitor.reconnect().await;
    // Only what comes from now on.
    visitor.open(case, u64::MAX).await.unwrap();
    visitor.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
    let leg = visitor.watch_media(case, session).await;
    eventually("the visitor hears something", PATIENCE, async || (leg.total() > 0).then_some(())).await;
    let mark = visitor.live.mark();
    visitor.live.say(&ClientMessage::RtcLeave { session });
    let me = visitor.me(case).to_string();
    let left = |m: &ServerMessage| match m {
        ServerMessage::Event { event, .. } => {
            (event.event.author.contains(kind::SESSION_LEFT) && event.event.author.contains(&me)).then_some(())
        }
        _ => None,
    };
    visitor.live.until_within("the visitor has left", mark, PATIENCE, left).await;
    // A page that is closed closes its socket; dropping ours would leave it open as long as its leg looks for offers.
    visitor.live.say_frame(Message::Close(None));
    visitor.live.until_closed().await;
}

#[tokio::main]
async fn main() {
    let times: usize = std::env::args().nth(1).and_then(|w| w.parse().ok()).unwrap_or(2_000);
    let world = World::seeded(1).await;
    let call = recorded(&world).await;
    let visitors: Vec<String> = (0..AT_ONCE).map(|n| format!("visitor{n}")).collect();
    for visitor in &visitors {
        world.add_expert(visitor).await;
    }
    let began = std::time::Instant::now();
    let joined = AtomicUsize::new(0);
    let rows = Mutex::new(vec![]);
    call.talking(async {
        call.segments_after(0).await;
        rows.lock().unwrap().push(figures(0, &world));
        let coming_and_going = visitors.iter().map(async |user| {
            let mut visitor = world.person(user).await;
            visitor.enter(call.case).await;
            visitor.commit(call.case, Draft::of(kind::SESSION_JOINED).session(call.session)).await.unwrap();
            visitor.answer(call.case, call.session, kind::CONSENT_RECORD).await;
            for _ in 0..times / AT_ONCE {
                visit(&mut visitor, &call).await;
                let n = joined.fetch_add(1, Relaxed) + 1;
                if n.is_multiple_of((times / 20).max(1)) {
                    let row = figures(n, &world);
                    eprintln!("{row}");
                    rows.lock().unwrap().push(row);
                }
            }
        });
        futures_util::future::join_all(coming_and_going).await;
    })
    .await;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    call.ends_and_verifies(&world).await;
    println!(
        "{}",
        json!({ "joins": times, "minutes": minutes, "at_once": AT_ONCE, "rows": rows.into_inner().unwrap() })
    );
}
