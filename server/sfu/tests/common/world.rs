//! A running SFU and its participants; carries offers and answers between them.
//!
//! Owns: the SFU, the clients, the events seen. Never: sleeps as a means of order; it waits for conditions with a limit.
//! Elsewhere: what a client does with an offer (`super`).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Codec, Offer, TrackInfo, TrackSource};
use lotse_sfu::{LegKind, Sfu, SfuConfig, SfuEvent, start};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Client, relay::Relay};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(10);

pub fn person(n: u128) -> Pseudonym {
    Pseudonym(Uuid::from_u128(n))
}

pub fn track(source: TrackSource) -> TrackInfo {
    let codec = if source == TrackSource::Voice { Codec::Opus } else { Codec::Vp8 };
    let (width, height) = if codec.is_video() { (1280, 720) } else { (0, 0) };
    TrackInfo {
        track: TrackId(Uuid::new_v4()),
        source,
        codec,
        rtp_base: Some(1_000),
        start_us: Some(0),
        clock_offset_us: 0,
        width,
        height,
    }
}

/// A VP8 payload: one packet, one frame.
pub fn vp8(key: bool, n: u8) -> Vec<u8> {
    vec![0x10, u8::from(!key), n, n, n, n, n, n]
}

pub struct World {
    pub sfu: Sfu,
    pub room: SessionId,
    pub clients: HashMap<Pseudonym, Client>,
    pub offers: HashMap<Pseudonym, Offer>,
    pub seen: Vec<SfuEvent>,
    /// Paths of those who do not reach the SFU directly.
    pub relays: HashMap<Pseudonym, Relay>,
    events: mpsc::Receiver<SfuEvent>,
}

impl World {
    pub fn new() -> Self {
        Self::with_tcp(None)
    }

    /// A world whose SFU offers media over TCP as well, on this port; somebody hands it the connections.
    pub fn with_tcp(tcp_port: Option<u16>) -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let config = SfuConfig { bind: loopback, public: vec![loopback], tcp_port, udp_port: 0, workers: 2 };
        let (sfu, events) = start(config).expect("an SFU");
        Self {
            sfu,
            room: SessionId(Uuid::new_v4()),
            clients: HashMap::new(),
            offers: HashMap::new(),
            seen: Vec::new(),
            relays: HashMap::new(),
            events,
        }
    }

    /// Joins with a new client; the gate stays as it is.
    pub async fn join(&mut self, who: Pseudonym, kind: LegKind, publish: Vec<TrackInfo>) {
        self.join_as(Client::new().await, who, kind, publish).await;
    }

    /// Joins with this client.
    pub async fn join_as(&mut self, client: Client, who: Pseudonym, kind: LegKind, publish: Vec<TrackInfo>) {
        if let Some(old) = self.clients.insert(who, client) {
            let _ = old.pc.close().await;
        }
        self.sfu.join(self.room, who, kind, publish).await.expect("joined");
        self.until("connected", |world| world.clients[&who].inbox.lock().expect("inbox").connected).await;
    }

    /// Like `join`, over a path that loses media.
    pub async fn join_over(&mut self, loss: f64, seed: u64, who: Pseudonym, kind: LegKind, publish: Vec<TrackInfo>) {
        let port = self.port().await;
        self.relays.insert(who, Relay::new(port, loss, seed).await);
        self.join(who, kind, publish).await;
    }

    /// The port of the room's worker: the one a throw-away leg is offered.
    pub async fn port(&mut self) -> u16 {
        let who = person(u128::MAX);
        self.sfu.join(self.room, who, LegKind::Person, vec![]).await.expect("joined");
        let sdp = loop {
            match self.events.recv().await.expect("a running SFU") {
                SfuEvent::Offer { who: to, offer, .. } if to == who => break offer.sdp,
                event => self.on_event(event).await,
            }
        };
        self.sfu.leave(self.room, who).await;
        let candidate = sdp.lines().find(|line| line.starts_with("a=candidate:")).expect("a candidate");
        candidate.split(' ').nth(5).expect("a port").parse().expect("a number")
    }

    pub async fn open(&mut self, who: Pseudonym) {
        self.sfu.gate(self.room, who, true).await;
    }

    /// Handles events until the condition holds.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&World) -> bool) {
        self.until_within(LIMIT, what, condition).await;
    }

    pub async fn until_within(&mut self, limit: Duration, what: &str, condition: impl Fn(&World) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < limit, "waited in vain for: {what}\nseen: {:#?}", self.short());
            if let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(5), self.events.recv()).await {
                self.on_event(event).await;
            }
        }
    }

    /// Handles events for a while.
    pub async fn settle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(event)) =
            tokio::time::timeout(end.saturating_duration_since(Instant::now()), self.events.recv()).await
        {
            self.on_event(event).await;
        }
    }

    /// The newest offer to somebody who has no client yet.
    pub fn offer_to(&self, to: Pseudonym) -> Offer {
        let offers = self.seen.iter().rev().filter_map(|event| match event {
            SfuEvent::Offer { who, offer, .. } if *who == to => Some(offer.clone()),
            _ => None,
        });
        offers.into_iter().next().expect("an offer")
    }

    /// Answers an offer that was kept waiting.
    pub async fn take(&mut self, who: Pseudonym, offer: Offer) {
        self.on_event(SfuEvent::Offer { room: self.room, who, offer }).await;
    }

    async fn on_event(&mut self, event: SfuEvent) {
        if let SfuEvent::Offer { room, who, offer } = &event
            && let Some(client) = self.clients.get_mut(who)
        {
            let mut offer = offer.clone();
            if let Some(relay) = self.relays.get(who) {
                for port in self.sfu.udp_ports() {
                    offer.sdp = offer.sdp.replace(&format!(" {port} typ host"), &format!(" {} typ host", relay.port));
                }
            }
            let answer = client.answer(&offer).await;
            self.offers.insert(*who, offer.clone());
            self.sfu.answer(*room, *who, answer).await.expect("the answer is taken");
        }
        self.seen.push(event);
    }

    pub fn downlink(&self, who: Pseudonym) -> Vec<TrackId> {
        self.offers
            .get(&who)
            .map(|offer| offer.downlink.iter().map(|line| line.info.track).collect())
            .unwrap_or_default()
    }

    fn short(&self) -> Vec<String> {
        let tell = |event: &SfuEvent| match event {
            SfuEvent::Offer { who, offer, .. } => {
                format!("offer {} to {who}: up {} down {}", offer.rev, offer.uplink.len(), offer.downlink.len())
            }
            other => format!("{other:?}"),
        };
        self.seen.iter().map(tell).collect()
    }
}
