//! The clients of a bench, in a process of their own: one publisher on its clock, viewers who stamp what arrives.
//!
//! Owns: sockets, WebRTC connections, latencies. Told what to do by JSON lines (`Order`), answers likewise (`Said`).
//! Never: knows what it is connected to. Elsewhere: that (`ours`, `janus`).

use std::{
    collections::BTreeMap,
    io::{BufRead as _, ErrorKind, Write as _},
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
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
use serde::{Deserialize, Serialize};

/// Bytes of an RTP payload.
const PAYLOAD: usize = 1_100;
const FPS: u32 = 30;
const SSRC: u32 = 4_711;
/// The one who publishes.
pub(crate) const PUBLISHER: u32 = 0;

/// To the loader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Answer this offer.
    Answer {
        who: u32,
        sdp: String,
    },
    /// Make an offer.
    Offer {
        who: u32,
    },
    /// Take the answer to it.
    Accept {
        who: u32,
        sdp: String,
    },
    /// Forget what was measured so far.
    Begin,
    End,
}

/// From the loader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Sdp { who: u32, sdp: String },
    Measured(Measured),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
}

struct Peer {
    socket: UdpSocket,
    local: SocketAddr,
    connection: RTCPeerConnection,
    deadline: Option<Instant>,
}

impl Peer {
    fn new(publishes: bool, now: Instant) -> Self {
        let socket = UdpSocket::bind((crate::address(), 0)).expect("a socket");
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

    fn publish(&mut self) {
        let encoding = RTCRtpEncodingParameters {
            codec: RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..Default::default() },
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() },
            ..Default::default()
        };
        let track =
            MediaStreamTrack::new("own".into(), "main".into(), "main".into(), RtpCodecKind::Video, vec![encoding]);
        self.connection.add_track(track).expect("a track");
    }

    fn answer(&mut self, sdp: String, publishes: bool, now: Instant) -> String {
        let first = self.connection.local_description().is_none();
        let description = RTCSessionDescription::offer(sdp).expect("an offer");
        self.connection.set_remote_description(now, description).expect("remote");
        if first && publishes {
            self.publish();
        }
        let answer = self.connection.create_answer(None).expect("an answer");
        self.connection.set_local_description(now, answer).expect("local");
        self.described()
    }

    fn offer(&mut self, now: Instant) -> String {
        self.publish();
        let offer = self.connection.create_offer(None).expect("an offer");
        self.connection.set_local_description(now, offer).expect("local");
        self.described()
    }

    /// With the candidates.
    fn described(&self) -> String {
        self.connection.local_description().expect("described").sdp
    }

    /// Reads, lets the connection work, writes. Payloads go to `seen`.
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

/// When the publisher sends what.
struct Clock {
    packets_per_frame: u32,
    /// Packets spread over the frame's time instead of all at once.
    even: bool,
    frame: u32,
    /// Of the running frame.
    packet: u32,
    seq: u16,
    next: Instant,
}

impl Clock {
    /// Sends what is due; how many packets that were.
    fn send(&mut self, publisher: &mut Peer, base: Instant, now: Instant) -> u64 {
        if now < self.next {
            return 0;
        }
        let frame = Duration::from_secs(1) / FPS;
        let (count, pause) =
            if self.even { (1, frame / self.packets_per_frame) } else { (self.packets_per_frame, frame) };
        self.next = (self.next + pause).max(now);
        for _ in 0..count {
            // VP8: a descriptor that begins a partition, and a frame header that makes each thirtieth frame a key frame.
            let mut payload = BytesMut::with_capacity(PAYLOAD);
            payload.put_slice(&[if self.packet == 0 { 0x10 } else { 0 }, u8::from(!self.frame.is_multiple_of(FPS))]);
            payload.put_u64(base.elapsed().as_nanos() as u64);
            payload.resize(PAYLOAD, 7);
            let header = rtp::Header {
                version: 2,
                marker: self.packet + 1 == self.packets_per_frame,
                payload_type: 96,
                sequence_number: self.seq,
                timestamp: self.frame.wrapping_mul(90_000 / FPS),
                ssrc: SSRC,
                ..Default::default()
            };
            self.seq = self.seq.wrapping_add(1);
            self.packet += 1;
            if self.packet == self.packets_per_frame {
                (self.packet, self.frame) = (0, self.frame + 1);
            }
            let message = RTCMessage::RtpPacket(String::new(), rtp::Packet { header, payload: payload.freeze() });
            let _ = publisher.connection.handle_write(TaggedRTCMessage { now, message });
        }
        publisher.flush(&mut |_| {});
        u64::from(count)
    }
}

/// Runs until told to end: `loader MBIT burst|even`.
pub(crate) fn run(mbit: f64, even: bool) {
    let (order, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let _ = order.send(serde_json::from_str::<Order>(&line).expect("an order"));
        }
    });
    let say = |said: Said| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&said).expect("text")).and_then(|()| out.flush()).expect("a reader");
    };
    let base = Instant::now();
    let packets_per_frame = (mbit * 1e6 / 8.0 / f64::from(FPS) / PAYLOAD as f64).round().max(1.0) as u32;
    let mut clock = Clock { packets_per_frame, even, frame: 0, packet: 0, seq: 0, next: base };
    let mut peers: BTreeMap<u32, Peer> = BTreeMap::new();
    let (mut sent, mut late) = (0, Vec::<u32>::new());
    loop {
        let now = Instant::now();
        match orders.try_recv() {
            Ok(Order::Answer { who, sdp }) => {
                let peer = peers.entry(who).or_insert_with(|| Peer::new(who == PUBLISHER, now));
                let sdp = peer.answer(sdp, who == PUBLISHER, now);
                peer.deadline = Some(now);
                say(Said::Sdp { who, sdp });
            }
            Ok(Order::Offer { who }) => {
                let mut peer = Peer::new(who == PUBLISHER, now);
                let sdp = peer.offer(now);
                peers.insert(who, peer);
                say(Said::Sdp { who, sdp });
            }
            Ok(Order::Accept { who, sdp }) => {
                let peer = peers.get_mut(&who).expect("it made the offer");
                let description = RTCSessionDescription::answer(sdp).expect("an answer");
                peer.connection.set_remote_description(now, description).expect("remote");
                peer.deadline = Some(now);
            }
            Ok(Order::Begin) => (sent, late) = (0, Vec::new()),
            Ok(Order::End) | Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) => {}
        }
        if let Some(publisher) = peers.get_mut(&PUBLISHER) {
            sent += clock.send(publisher, base, Instant::now());
        }
        for (who, peer) in &mut peers {
            peer.turn(Instant::now(), &mut |payload| {
                if *who != PUBLISHER
                    && let Some(stamp) = payload.get(2..10)
                {
                    let stamp = u64::from_be_bytes(stamp.try_into().expect("eight bytes"));
                    late.push(((base.elapsed().as_nanos() as u64 - stamp) / 1_000) as u32);
                }
            });
        }
        // 200 µs: finer than what is measured, coarse enough to leave the other side its core.
        std::thread::sleep(Duration::from_micros(200));
    }
    late.sort_unstable();
    let quantile = |q: f64| late.get((late.len() as f64 * q) as usize).copied().unwrap_or(0);
    say(Said::Measured(Measured { sent, received: late.len() as u64, p50_us: quantile(0.50), p99_us: quantile(0.99) }));
}
