//! Our SFU under load, in this process.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Codec, RtcAnswer, TrackInfo, TrackSource};
use lotse_sfu::{LegKind, Sfu, SfuConfig, SfuEvent, start};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Loader, Plan, address,
    loader::{Order, PUBLISHER},
    measure, memory_kb,
};

pub(crate) async fn run(plan: &Plan) -> Value {
    let config =
        SfuConfig { bind: address(), public: vec![address()], tcp_port: None, udp_port: 0, workers: plan.workers };
    let (sfu, mut events) = start(config).expect("an SFU");
    let empty = memory_kb(std::process::id());
    let mut rooms = HashMap::new();
    for _ in 0..plan.rooms {
        rooms.insert(SessionId(Uuid::new_v4()), Loader::start(plan).await);
    }
    let main = || TrackInfo {
        track: TrackId(Uuid::new_v4()),
        source: TrackSource::Main,
        codec: Codec::Vp8,
        rtp_base: None,
        start_us: None,
        clock_offset_us: 0,
        width: 1280,
        height: 720,
    };
    for room in rooms.keys() {
        join(&sfu, *room, PUBLISHER, vec![main()]).await;
        for n in 1..=plan.viewers {
            join(&sfu, *room, n, vec![]).await;
        }
    }
    let mut connected = 0;
    let limit = Instant::now() + Duration::from_secs(60);
    while connected < plan.rooms * (plan.viewers + 1) {
        assert!(Instant::now() < limit, "only {connected} are connected");
        match tokio::time::timeout(Duration::from_millis(100), events.recv()).await {
            Ok(Some(SfuEvent::Offer { room, who, offer })) => {
                let loader = rooms.get_mut(&room).expect("one of them");
                let number = who.0.as_u128() as u32;
                loader.tell(&Order::Answer { who: number, sdp: offer.sdp }).await;
                let (_, sdp) = loader.sdp().await;
                let answer = RtcAnswer { leg: offer.leg, rev: offer.rev, sdp, fingerprint_sig: None };
                sfu.answer(room, who, answer).await.expect("taken");
            }
            Ok(Some(SfuEvent::Connected { .. })) => connected += 1,
            _ => {}
        }
    }
    let cpu_us = || sfu.counters().cpu_us.iter().sum();
    measure(plan, rooms.into_values().collect(), cpu_us, || memory_kb(std::process::id()) - empty).await
}

async fn join(sfu: &Sfu, room: SessionId, who: u32, publish: Vec<TrackInfo>) {
    let who = Pseudonym(Uuid::from_u128(u128::from(who)));
    sfu.gate(room, who, true).await;
    sfu.join(room, who, LegKind::Person, publish).await.expect("joined");
}
