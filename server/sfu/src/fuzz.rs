//! Entry points for `tests/fuzz`: bytes from outside, brought as deep into a worker as they come without a network.
//!
//! Owns: a room of three whose legs have answered and count as connected, at addresses of this machine where nobody listens.
//! Nothing in the product calls this.
//! Never: a rule of its own; everything goes through the functions the worker calls.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Codec, Offer, RtcAnswer, TrackInfo, TrackSource};
use rtc::crypto::{RTCCryptoProvider, SecretVec};
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::shared::marshal::Unmarshal as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::command::Command;
use crate::engine::{self, Engine};
use crate::keytap::MasterKey;
use crate::path::Route;
use crate::socket::{DatagramSocket, Outlet};
use crate::srtp::{Profile, SALT, Sealer};
use crate::tcp::Streams;
use crate::worker::{LegId, State};
use crate::{LegKind, SfuEvent, answer, stun};

const ROOM: SessionId = SessionId(Uuid::from_u128(1));

type Provider = Arc<dyn RTCCryptoProvider>;

/// What a process makes once.
fn shared() -> Option<&'static (Provider, RTCCertificate)> {
    static SHARED: OnceLock<Option<(Provider, RTCCertificate)>> = OnceLock::new();
    let make = || {
        let crypto = rtc::crypto::default_provider().ok()?;
        let certificate = engine::certificate(&crypto).ok()?;
        Some((crypto, certificate))
    };
    SHARED.get_or_init(make).as_ref()
}

/// One way out for all rooms: a socket for each would be most of the work.
fn outlet() -> Option<&'static Mutex<Outlet>> {
    static OUTLET: OnceLock<Option<Mutex<Outlet>>> = OnceLock::new();
    let make = || DatagramSocket::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).ok().map(|s| Mutex::new(Outlet::new(s)));
    OUTLET.get_or_init(make).as_ref()
}

/// Any datagram as a STUN message.
pub fn stun(data: &[u8]) {
    let (Some((crypto, _)), Some(binding)) = (shared(), stun::parse(data)) else { return };
    // A password nobody was told fits nothing.
    assert!(!binding.is_genuine("a password of 24 letters", crypto.crypto()));
}

/// An answer to the SFU's offer: read, then taken by a fresh leg.
pub fn answer(sdp: &str) {
    let mids = ["0", "1", "2", "3"].map(String::from);
    if let Ok(lines) = answer::parse(sdp, &mids) {
        assert!(lines.len() <= mids.len());
    }
    let Some(mut world) = World::new(1) else { return };
    let (leg, rev) = world.offers.first().map_or((0, 0), |(_, offer)| (offer.leg, offer.rev));
    world.answer(0, RtcAnswer { leg, rev, sdp: sdp.to_owned(), fingerprint_sig: None });
    world.turn();
}

/// A foreign client's offer into a room where somebody is: read, answered by a leg, which then may leave again.
pub fn foreign_offer(sdp: &str, publishes: bool) {
    let Some(mut world) = World::new(1) else { return };
    let way = if publishes { crate::Way::Publish } else { crate::Way::Watch { first: who(0) } };
    let gateway = crate::Gateway { who: who(9), way, sdp: sdp.to_owned() };
    let (reply, mut answered) = tokio::sync::oneshot::channel();
    let taken = crate::check_offer(sdp, publishes).is_ok();
    world.state.on_command(Command::Offer { room: ROOM, gateway, reply }, world.now);
    let answered = answered.try_recv();
    // What is refused beforehand is never answered.
    assert!(taken || matches!(answered, Ok(Err(_))));
    world.step(Step::Gate { leg: 9, open: true });
    world.turn();
}

/// The first offer to a person who publishes everything: what real answers are made from.
pub fn offer() -> Option<Offer> {
    World::new(1)?.offers.first().map(|(_, offer)| offer.clone())
}

/// A plain answer to an offer, as a client that agrees to everything would give it.
pub fn agree(offer: &str, ssrc: u32) -> String {
    let mut answer = String::new();
    let mut line = ssrc;
    for text in offer.lines() {
        let dropped = ["a=candidate:", "a=end-of-candidates", "a=ssrc", "a=msid", "a=ice-lite"];
        match text {
            _ if dropped.iter().any(|start| text.starts_with(start)) => {}
            "a=sendonly" => answer += "a=recvonly\r\n",
            "a=recvonly" => {
                line += 1;
                answer += &format!("a=sendonly\r\na=ssrc:{line} cname:glasses\r\n");
            }
            _ if text.starts_with("a=ice-ufrag:") => answer += "a=ice-ufrag:client\r\n",
            _ if text.starts_with("a=ice-pwd:") => answer += "a=ice-pwd:clientclientclientclient\r\n",
            _ if text.starts_with("a=setup:") => answer += "a=setup:active\r\n",
            _ => {
                answer += text;
                answer += "\r\n";
            }
        }
    }
    answer
}

/// What happens next in the room.
#[derive(Debug)]
pub enum Step<'a> {
    /// An RTP packet came out of the core of this leg. `own`: with the number of one of its announced streams.
    Rtp {
        leg: u8,
        own: Option<u8>,
        packet: &'a [u8],
    },
    Rtcp {
        leg: u8,
        compound: &'a [u8],
    },
    /// A datagram from some address.
    Datagram {
        from: u8,
        data: &'a [u8],
    },
    /// A genuine STUN request: the address belongs to the leg from here on.
    Bind {
        leg: u8,
        from: u8,
    },
    Pointer {
        leg: u8,
        message: &'a [u8],
    },
    Gate {
        leg: u8,
        open: bool,
    },
    Watch {
        leg: u8,
        track: u8,
        on: bool,
    },
    Answer {
        leg: u8,
        sdp: &'a str,
    },
    Later {
        ms: u16,
    },
}

/// Lets a room of glasses, an expert and an archivist live through these steps.
pub fn forward<'a>(steps: impl IntoIterator<Item = Step<'a>>) {
    let Some(mut world) = World::new(3) else { return };
    for leg in 0..3 {
        world.settle(leg);
    }
    for step in steps {
        world.step(step);
        world.turn();
    }
}

struct World {
    state: State,
    outlet: &'static Mutex<Outlet>,
    events: mpsc::Receiver<SfuEvent>,
    offers: Vec<(Pseudonym, Offer)>,
    tracks: Vec<TrackId>,
    now: Instant,
    checks: u32,
}

fn who(leg: u8) -> Pseudonym {
    Pseudonym(Uuid::from_u128(100 + u128::from(leg % 3)))
}

fn address(from: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 100 + from % 8)), 9)
}

impl World {
    /// A room whose first `legs` have joined with open gates.
    fn new(legs: u8) -> Option<Self> {
        let (crypto, certificate) = shared()?;
        let (sender, events) = mpsc::channel(crate::EVENT_QUEUE);
        let public = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
        let engine = Engine::new(0, (vec![public], Vec::new()), crypto.clone(), certificate.clone());
        let state = State::new(engine, sender, Streams::new(None));
        let outlet = outlet()?;
        let mut world =
            Self { state, outlet, events, offers: Vec::new(), tracks: Vec::new(), now: Instant::now(), checks: 0 };
        for leg in 0..legs {
            let kind = if leg == 2 { LegKind::Archivist } else { LegKind::Person };
            let publish = if leg == 0 { world.announced() } else { Vec::new() };
            let (reply, _) = tokio::sync::oneshot::channel();
            world.state.on_command(Command::Gate { room: ROOM, who: who(leg), open: true, reply }, world.now);
            let (reply, _) = tokio::sync::oneshot::channel();
            world.state.on_command(Command::Join { room: ROOM, who: who(leg), kind, publish, reply }, world.now);
        }
        world.take_events();
        Some(world)
    }

    fn announced(&mut self) -> Vec<TrackInfo> {
        let wanted =
            [(TrackSource::Main, Codec::Vp8), (TrackSource::Preview, Codec::H264), (TrackSource::Voice, Codec::Opus)];
        let make = |(at, (source, codec)): (usize, (TrackSource, Codec))| TrackInfo {
            track: TrackId(Uuid::from_u128(200 + at as u128)),
            source,
            codec,
            rtp_base: Some(0),
            start_us: Some(0),
            clock_offset_us: 0,
            width: 1280,
            height: 720,
        };
        let tracks: Vec<TrackInfo> = wanted.into_iter().enumerate().map(make).collect();
        self.tracks = tracks.iter().map(|track| track.track).collect();
        tracks
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            if let SfuEvent::Offer { who, offer, .. } = event {
                self.offers.retain(|(known, _)| *known != who);
                self.offers.push((who, offer));
            }
        }
    }

    fn answer(&mut self, leg: u8, answer: RtcAnswer) {
        let (reply, _) = tokio::sync::oneshot::channel();
        self.state.on_command(Command::Answer { room: ROOM, who: who(leg), answer, reply }, self.now);
        self.take_events();
    }

    /// Agrees to what is offered to a leg, which then counts as connected.
    fn settle(&mut self, leg: u8) {
        let open = self.offers.iter().find(|(known, _)| *known == who(leg)).map(|(_, offer)| offer.clone());
        if let Some(offer) = open {
            let sdp = agree(&offer.sdp, 1_000 * (u32::from(leg) + 1));
            self.answer(leg, RtcAnswer { leg: offer.leg, rev: offer.rev, sdp, fingerprint_sig: None });
        }
        let Some((crypto, _)) = shared() else { return };
        let master = MasterKey { key: SecretVec::new(vec![7; 16]), salt: SecretVec::new(vec![9; SALT]) };
        if let Some(found) = self.leg(leg).and_then(|id| self.state.legs[id].as_mut()) {
            (found.connected, found.channel_open) = (true, true);
            found.sealer = Sealer::new(crypto.crypto(), Profile::Gcm, &master).ok();
            found.path.on_check(Route::Udp(address(leg)), true, [leg; 12], self.now);
        }
    }

    fn leg(&self, leg: u8) -> Option<LegId> {
        self.state.legs.iter().position(|place| place.as_ref().is_some_and(|found| found.who == who(leg)))
    }

    fn step(&mut self, step: Step<'_>) {
        let now = self.now;
        match step {
            Step::Rtp { leg, own, packet } => {
                let Some(id) = self.leg(leg) else { return };
                let Ok(mut packet) = rtc::rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(packet)) else { return };
                let streams = self.state.legs[id].as_ref().map_or(&[][..], |leg| &leg.uplinks);
                if let Some(ssrc) = own.and_then(|at| streams.get(usize::from(at) % streams.len().max(1))?.ssrc) {
                    packet.header.ssrc = ssrc;
                }
                self.state.on_rtp(id, packet, now);
            }
            Step::Rtcp { leg, compound } => {
                let Some(id) = self.leg(leg) else { return };
                let mut bytes = Bytes::copy_from_slice(compound);
                if let Ok(packets) = rtc::rtcp::packet::unmarshal(&mut bytes) {
                    self.state.on_rtcp(id, packets, now);
                }
            }
            Step::Datagram { from, data } => {
                self.state.on_datagram(address(from), data, now, Duration::ZERO);
            }
            Step::Bind { leg, from } => {
                let Some(leg) = self.leg(leg).and_then(|id| self.state.legs[id].as_ref()) else { return };
                let Some((crypto, _)) = shared() else { return };
                let name = format!("{}:client", leg.ufrag);
                self.checks += 1;
                let transaction = std::array::from_fn(|at| self.checks.to_be_bytes()[at % 4]);
                let Some(request) = stun::request(&name, &leg.password, transaction, crypto.crypto()) else { return };
                self.state.on_datagram(address(from), &request, now, Duration::ZERO);
            }
            Step::Pointer { leg, message } => {
                if let Some(id) = self.leg(leg) {
                    self.state.on_pointer(id, message, now);
                }
            }
            Step::Gate { leg, open } => {
                let (reply, _) = tokio::sync::oneshot::channel();
                self.state.on_command(Command::Gate { room: ROOM, who: who(leg), open, reply }, now);
            }
            Step::Watch { leg, track, on } => {
                let Some(track) = self.tracks.get(usize::from(track) % 3).copied() else { return };
                let (reply, _) = tokio::sync::oneshot::channel();
                self.state.on_command(Command::Watch { room: ROOM, who: who(leg), track, on, reply }, now);
                self.take_events();
            }
            Step::Answer { leg, sdp: "" } => self.settle(leg),
            Step::Answer { leg, sdp } => {
                let open = self.offers.iter().find(|(known, _)| *known == who(leg));
                let (name, rev) = open.map_or((0, 0), |(_, offer)| (offer.leg, offer.rev));
                self.answer(leg, RtcAnswer { leg: name, rev, sdp: sdp.to_owned(), fingerprint_sig: None });
            }
            Step::Later { ms } => self.now += Duration::from_millis(ms.into()),
        }
    }

    /// The rest of a worker's turn.
    fn turn(&mut self) {
        self.state.on_deadlines(self.now);
        self.state.end_silent(self.now);
        self.state.ask_again(self.now);
        loop {
            self.state.drain(self.now, &mut self.outlet.lock().unwrap_or_else(PoisonError::into_inner));
            if !self.state.bury(self.now) {
                break;
            }
        }
        // Nobody is sent more than a datagram may hold.
        assert!(self.state.outbox.drain(..).all(|(_, datagram)| datagram.len() <= 65_507));
        self.take_events();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The glasses have moved to another address; the check that said so, as anybody on the way could have copied it.
    fn moved() -> (World, LegId, Vec<u8>) {
        let mut world = World::new(1).expect("a room");
        world.settle(0);
        world.step(Step::Later { ms: 3_000 });
        let id = world.leg(0).expect("a leg");
        let leg = world.state.legs[id].as_ref().expect("a leg");
        let (crypto, _) = shared().expect("cryptography");
        let name = format!("{}:client", leg.ufrag);
        let check = stun::request(&name, &leg.password, [3; 12], crypto.crypto()).expect("a check");
        assert!(world.state.on_datagram(address(1), &check, world.now, Duration::ZERO));
        assert_eq!(world.state.legs[id].as_ref().and_then(|leg| leg.path.to()), Some(Route::Udp(address(1))));
        (world, id, check)
    }

    #[test]
    fn a_valid_name_with_a_wrong_password_moves_no_address() {
        let (mut world, id, _) = moved();
        world.step(Step::Later { ms: 9_000 });
        let name = format!("{}:client", world.state.legs[id].as_ref().expect("a leg").ufrag);
        let (crypto, _) = shared().expect("cryptography");
        for (n, password) in ["", "guessguessguessguessgues"].into_iter().enumerate() {
            let forged = stun::request(&name, password, [n as u8 + 40; 12], crypto.crypto()).expect("a check");
            assert!(!world.state.on_datagram(address(6), &forged, world.now, Duration::ZERO));
        }
        assert_eq!(world.state.legs[id].as_ref().and_then(|leg| leg.path.to()), Some(Route::Udp(address(1))));
        assert!(!world.state.by_address.contains_key(&address(6)));
    }

    #[test]
    fn a_copied_check_sent_from_elsewhere_moves_no_address_and_keeps_no_leg_alive() {
        let (mut world, id, check) = moved();
        let heard = |world: &World| world.state.legs[id].as_ref().expect("a leg").last_valid;
        let before = heard(&world);
        world.step(Step::Later { ms: 9_000 });
        for from in [5, 6, 7] {
            assert!(!world.state.on_datagram(address(from), &check, world.now, Duration::ZERO), "it is nobody's");
            assert!(!world.state.by_address.contains_key(&address(from)));
        }
        assert_eq!(world.state.legs[id].as_ref().and_then(|leg| leg.path.to()), Some(Route::Udp(address(1))));
        assert_eq!(heard(&world), before);
        assert!(world.state.on_datagram(address(1), &check, world.now, Duration::ZERO), "its client may send it again");
    }

    #[test]
    fn a_packet_of_the_glasses_comes_through_to_both_others() {
        let mut world = World::new(3).expect("a room");
        (0..3).for_each(|leg| world.settle(leg));
        // A voice: 12 bytes of header, three of Opus.
        let packet = [0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0xff, 0xfe];
        let sent = |world: &World| -> u64 { world.state.legs.iter().flatten().map(|leg| leg.second.bytes_out).sum() };
        let before = sent(&world);
        world.step(Step::Rtp { leg: 0, own: Some(2), packet: &packet });
        world.turn();
        let more = sent(&world) - before;
        assert_eq!(more, 2 * (15 + 16), "the packet with its tag, to both others");
    }
}
