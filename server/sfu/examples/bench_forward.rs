//! What forwarding costs: one publisher, many viewers, all on this machine; prints one JSON line.
//!
//! Usage: `bench_forward [VIEWERS,…] [SECONDS] [MBIT]`, by default `10,100 8 2`. The SFU's share is the CPU time of its worker
//! thread, kernel work for its calls included; the loader's own work is not counted but competes for the same cores.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::mpsc as blocking,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Codec, Offer, RtcAnswer, TrackInfo, TrackSource};
use lotse_sfu::{Counters, LegKind, Sfu, SfuConfig, SfuEvent, start};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::{NackResponderBuilder, ReceiverReportBuilder, Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

const PAYLOAD: usize = 1_100;
const FPS: u32 = 30;
const SSRC: u32 = 4_711;
const PUBLISHER: Pseudonym = Pseudonym(Uuid::from_u128(1));

/// To the loader.
enum Order {
    Offer(Pseudonym, Box<Offer>),
    /// Forget what was measured so far.
    Begin,
    End,
}

/// What the loader measured.
struct Measured {
    latencies_us: Vec<u32>,
    sent: u64,
}

struct Peer {
    socket: UdpSocket,
    local: SocketAddr,
    connection: RTCPeerConnection,
    deadline: Option<Instant>,
}

impl Peer {
    fn new(publishes: bool, now: Instant) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("set");
        let local = socket.local_addr().expect("bound");
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        let settings = SettingEngineBuilder::new()
            .with_answering_dtls_role(RTCDtlsRole::Client)
            .with_include_loopback_candidate(true)
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .build();
        let mut registry = Registry::new();
        if publishes {
            registry = registry.with(Slot::NackResponder, NackResponderBuilder::new().build());
        } else {
            registry = registry.with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
        }
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .build(now)
            .expect("a connection");
        let candidate = format!("candidate:1 1 udp 2130706431 {} {} typ host", local.ip(), local.port());
        connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() }).expect("a candidate");
        Self { socket, local, connection, deadline: Some(now) }
    }

    fn answer(&mut self, offer: &Offer, now: Instant) -> RtcAnswer {
        let description = RTCSessionDescription::offer(offer.sdp.clone()).expect("an offer");
        self.connection.set_remote_description(now, description).expect("remote");
        if offer.rev == 1 && !offer.uplink.is_empty() {
            let encoding = RTCRtpEncodingParameters {
                codec: RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..Default::default() },
                rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() },
                ..Default::default()
            };
            let track =
                MediaStreamTrack::new("own".into(), "main".into(), "main".into(), RtpCodecKind::Video, vec![encoding]);
            self.connection.add_track(track).expect("a track");
        }
        let answer = self.connection.create_answer(None).expect("an answer");
        self.connection.set_local_description(now, answer.clone()).expect("local");
        RtcAnswer { rev: offer.rev, sdp: answer.sdp, fingerprint_sig: None }
    }

    /// Reads, lets the connection work, writes. Arrival stamps go to `seen`.
    fn turn(&mut self, now: Instant, seen: &mut impl FnMut(&[u8])) {
        let mut busy = self.deadline.is_some_and(|deadline| now >= deadline);
        let mut buffer = [0; 2_048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let transport = TransportContext {
                        local_addr: self.local,
                        peer_addr: from,
                        transport_protocol: TransportProtocol::UDP,
                        ecn: None,
                    };
                    let message = BytesMut::from(&buffer[..len]);
                    let _ = self.connection.handle_read(TaggedBytesMut { now, transport, message });
                    busy = true;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break,
            }
        }
        if !busy {
            return;
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let _ = self.connection.handle_timeout(now);
        }
        self.flush(seen);
    }

    fn flush(&mut self, seen: &mut impl FnMut(&[u8])) {
        while self.connection.poll_event().is_some() {}
        while let Some(message) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                seen(&packet.payload);
            }
        }
        while let Some(out) = self.connection.poll_write() {
            let _ = self.socket.send_to(&out.message, out.transport.peer_addr);
        }
        self.deadline = self.connection.poll_timeout();
    }
}

/// All clients on one thread: the publisher sends on its clock, viewers stamp what arrives.
fn load(
    orders: &blocking::Receiver<Order>,
    answers: &mpsc::UnboundedSender<(Pseudonym, RtcAnswer)>,
    packets_per_frame: u32,
) -> Measured {
    let base = Instant::now();
    let mut peers: HashMap<Pseudonym, Peer> = HashMap::new();
    let mut measured = Measured { latencies_us: Vec::new(), sent: 0 };
    let (mut frame, mut seq, mut next) = (0u32, 0u16, base);
    loop {
        match orders.try_recv() {
            Ok(Order::Offer(who, offer)) => {
                let now = Instant::now();
                let peer = peers.entry(who).or_insert_with(|| Peer::new(who == PUBLISHER, now));
                let answer = peer.answer(&offer, now);
                peer.deadline = Some(now);
                let _ = answers.send((who, answer));
            }
            Ok(Order::Begin) => measured = Measured { latencies_us: Vec::new(), sent: 0 },
            Ok(Order::End) | Err(blocking::TryRecvError::Disconnected) => return measured,
            Err(blocking::TryRecvError::Empty) => {}
        }
        let now = Instant::now();
        if now >= next
            && let Some(publisher) = peers.get_mut(&PUBLISHER)
        {
            next = (next + Duration::from_secs(1) / FPS).max(now);
            for n in 0..packets_per_frame {
                let mut payload = BytesMut::with_capacity(PAYLOAD);
                payload.put_slice(&[if n == 0 { 0x10 } else { 0 }, u8::from(!frame.is_multiple_of(FPS))]);
                payload.put_u64(base.elapsed().as_nanos() as u64);
                payload.resize(PAYLOAD, 7);
                let header = rtp::Header {
                    version: 2,
                    marker: n + 1 == packets_per_frame,
                    payload_type: 96,
                    sequence_number: seq,
                    timestamp: frame.wrapping_mul(90_000 / FPS),
                    ssrc: SSRC,
                    ..Default::default()
                };
                seq = seq.wrapping_add(1);
                let message = RTCMessage::RtpPacket(String::new(), rtp::Packet { header, payload: payload.freeze() });
                let _ = publisher.connection.handle_write(TaggedRTCMessage { now, message });
                measured.sent += 1;
            }
            frame += 1;
            publisher.flush(&mut |_| {});
        }
        for (who, peer) in &mut peers {
            peer.turn(Instant::now(), &mut |payload| {
                if *who != PUBLISHER
                    && let Some(stamp) = payload.get(2..10)
                {
                    let sent = u64::from_be_bytes(stamp.try_into().expect("eight bytes"));
                    let took = base.elapsed().as_nanos() as u64 - sent;
                    measured.latencies_us.push((took / 1_000) as u32);
                }
            });
        }
        // 200 µs: finer than what is measured, coarse enough to leave the SFU its core.
        std::thread::sleep(Duration::from_micros(200));
    }
}

async fn run(viewers: u32, seconds: u64, mbit: f64) -> Value {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let config = SfuConfig { bind: loopback, public_ip: loopback, udp_port: 0, workers: 1 };
    let (sfu, mut events) = start(config).expect("an SFU");
    let room = SessionId(Uuid::new_v4());
    let packets_per_frame = (mbit * 1e6 / 8.0 / f64::from(FPS) / PAYLOAD as f64).round().max(1.0) as u32;
    let (order, orders) = blocking::channel();
    let (answer, mut answers) = mpsc::unbounded_channel();
    let loader = std::thread::spawn(move || load(&orders, &answer, packets_per_frame));
    let main = TrackInfo {
        track: TrackId(Uuid::new_v4()),
        source: TrackSource::Main,
        codec: Codec::Vp8,
        rtp_base: None,
        start_us: None,
        clock_offset_us: 0,
        width: 1280,
        height: 720,
    };
    join(&sfu, room, PUBLISHER, vec![main]).await;
    for n in 0..viewers {
        join(&sfu, room, Pseudonym(Uuid::from_u128(100 + u128::from(n))), vec![]).await;
    }
    let mut connected = 0;
    let limit = Instant::now() + Duration::from_secs(60);
    while connected < viewers + 1 && Instant::now() < limit {
        tokio::select! {
            Some(event) = events.recv() => match event {
                SfuEvent::Offer { who, offer, .. } => order.send(Order::Offer(who, Box::new(offer))).expect("the loader"),
                SfuEvent::Connected { .. } => connected += 1,
                _ => {}
            },
            Some((who, answer)) = answers.recv() => sfu.answer(room, who, answer).await.expect("taken"),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    order.send(Order::Begin).expect("the loader");
    let before = sfu.counters();
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, took) = (sfu.counters(), start.elapsed().as_secs_f64());
    order.send(Order::End).expect("the loader");
    let mut measured = loader.join().expect("the loader ends");
    measured.latencies_us.sort_unstable();
    let quantile = |q: f64| measured.latencies_us.get((measured.latencies_us.len() as f64 * q) as usize).copied();
    let since = |of: fn(&Counters) -> u64| of(&after) - of(&before);
    let (cpu_us, out) = (after.cpu_us[0] - before.cpu_us[0], since(|c| c.packets_out));
    json!({
        "viewers": viewers,
        "connected": connected,
        "mbit": mbit,
        "packets_out_per_s": (out as f64 / took).round(),
        "cpu_us_per_packet": (cpu_us as f64 / out.max(1) as f64 * 100.0).round() / 100.0,
        "cpu_pct_of_a_core": (cpu_us as f64 / took / 1e4 * 10.0).round() / 10.0,
        "delivered_pct": (measured.latencies_us.len() as f64 * 1e4 / (measured.sent * u64::from(viewers)).max(1) as f64).round() / 100.0,
        "latency_p50_ms": quantile(0.50).map(|us| f64::from(us) / 1e3),
        "latency_p99_ms": quantile(0.99).map(|us| f64::from(us) / 1e3),
        "drops_in": since(|c| c.drops_in),
        "drops_out": since(|c| c.drops_out),
    })
}

async fn join(sfu: &Sfu, room: SessionId, who: Pseudonym, publish: Vec<TrackInfo>) {
    sfu.gate(room, who, true).await;
    sfu.join(room, who, LegKind::Person, publish).await.expect("joined");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut words = std::env::args().skip(1);
    let viewers = words.next().unwrap_or_else(|| "10,100".into());
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(8);
    let mbit = words.next().and_then(|word| word.parse().ok()).unwrap_or(2.0);
    let mut runs = Vec::new();
    for count in viewers.split(',').filter_map(|word| word.parse().ok()) {
        runs.push(run(count, seconds, mbit).await);
    }
    println!("{}", json!({ "bench": "sfu_forward", "runs": runs }));
}
