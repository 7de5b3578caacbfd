//! A media leg: the connection on which a person of a test hears and sees, and sends a voice and a film.
//!
//! Owns: its UDP socket and the WebRTC core. Answers the server's offers as docs/PROTOCOL.md says, keeps every packet that
//! came, by track. Never: decodes (`clip` does), hides a packet it did not expect.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    envelope,
    id::{CaseId, Pseudonym, SessionId, TrackId},
    signal::{Codec, Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo, TrackSource, fingerprint_text},
};
use rtc::{
    data_channel::RTCDataChannelInit,
    interceptor::Registry,
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine},
            setting_engine::SettingEngineBuilder,
        },
        event::RTCPeerConnectionEvent,
        message::RTCMessage,
        sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
        transport::{RTCDtlsRole, RTCIceCandidateInit},
    },
    rtp,
    rtp_transceiver::{
        RTCRtpSenderId,
        rtp_sender::{
            RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
        },
    },
    sansio::Protocol as _,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use tokio::{net::UdpSocket, sync::mpsc};
use uuid::Uuid;

use crate::{
    clip::Film,
    person::{Person, now_ms},
};

/// On the wire.
const OPUS: u8 = 111;
const VP8: u8 = 96;
/// Of a voice, per packet, at 48 kHz: 20 ms as browsers send it, 10 ms as the glasses do.
const BROWSER_SAMPLES: u32 = 960;
const GLASSES_SAMPLES: u32 = 480;
/// RTP time at which everything that a leg sends begins.
const RTP_BASE: u32 = 1_000;

/// One packet as it came.
#[derive(Debug, Clone)]
pub struct Got {
    pub at: Instant,
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Bytes,
}

/// Datagrams read before the core is served: a burst of one picture.
const BURST: usize = 64;

/// A key frame comes at once, and a busy machine may be late to read it: as large as the kernel allows, bytes.
const KERNEL_BUFFER: libc::c_int = 8 * 1024 * 1024;

/// What a leg has seen so far.
#[derive(Default)]
pub struct Seen {
    pub connected: bool,
    /// Whose tracks the server announced.
    pub lines: HashMap<TrackId, (Pseudonym, TrackInfo)>,
    pub packets: HashMap<TrackId, Vec<Got>>,
    /// Packets that a leg which keeps none has counted, and when it had the last packet of each picture.
    pub counted: usize,
    pub pictures: Vec<Instant>,
    /// Packets on streams that no offer described.
    pub strangers: usize,
    /// Messages of the pointer channel.
    pub pointers: Vec<String>,
}

/// A running leg. Dropping it ends it.
pub struct Leg {
    pub seen: Arc<Mutex<Seen>>,
    tell: mpsc::Sender<Tell>,
}

enum Tell {
    Offer(Box<Offer>),
    /// An Opus packet and how many samples it lasts.
    Voice(Bytes, u32),
    /// A picture's packets, and its RTP time since the leg began.
    Picture(u32, Vec<Bytes>),
    Pointer(String),
}

/// What a leg sends of one kind.
struct Sending {
    source: TrackSource,
    track: MediaStreamTrack,
    ssrc: u32,
    id: Option<RTCRtpSenderId>,
    seq: u16,
}

impl Person {
    /// Connects media of a session; with `voice`, announces a voice that [`Leg::speak`] can use.
    pub async fn connect_media(&self, case: CaseId, session: SessionId, voice: bool) -> Leg {
        let sources: &[_] = if voice { &[TrackSource::Voice] } else { &[] };
        self.connect(case, session, sources, true).await
    }

    /// Connects media of a session as one of a crowd: sends nothing, counts the packets and keeps none.
    pub async fn watch_media(&self, case: CaseId, session: SessionId) -> Leg {
        self.connect(case, session, &[], false).await
    }

    /// Connects media of a session as glasses do: a picture and a voice, for [`Leg::show`].
    pub async fn publish_media(&self, case: CaseId, session: SessionId) -> Leg {
        self.connect(case, session, &[TrackSource::Main, TrackSource::Voice], false).await
    }

    async fn connect(&self, case: CaseId, session: SessionId, sources: &[TrackSource], keeps: bool) -> Leg {
        let mark = self.live.mark();
        let announced = |source: &TrackSource| TrackInfo {
            track: TrackId(Uuid::now_v7()),
            source: *source,
            codec: if *source == TrackSource::Voice { Codec::Opus } else { Codec::Vp8 },
            rtp_base: Some(RTP_BASE),
            start_us: Some(now_ms() * 1000),
            clock_offset_us: 0,
            width: if *source == TrackSource::Voice { 0 } else { 1_280 },
            height: if *source == TrackSource::Voice { 0 } else { 720 },
        };
        let publish = sources.iter().map(announced).collect();
        self.live.say(&ClientMessage::RtcJoin { case, session, publish });
        let first = self
            .live
            .until("an offer", mark, |m| match m {
                ServerMessage::RtcOffer { session: s, offer } if *s == session => Some(Ok(offer.clone())),
                ServerMessage::Refused { session: s, error, .. } if *s == Some(session) => {
                    Some(Err(error.code.clone()))
                }
                _ => None,
            })
            .await
            .unwrap();

        let seen = Arc::new(Mutex::new(Seen::default()));
        let (tell, told) = mpsc::channel(1_024);
        let (answer, mut answers) = mpsc::unbounded_channel();
        let mut core = Core::new(session, self.device_key.clone(), seen.clone(), sources, answer).await;
        core.keeps = keeps;
        tokio::spawn(core.run(told));
        tell.send(Tell::Offer(Box::new(first.clone()))).await.unwrap();
        // The first answer is said here; the task below carries later offers and answers.
        let said = answers.recv().await.expect("an answer");
        self.live.say(&ClientMessage::RtcAnswer { session, answer: said });
        self.follow(session, (first.leg, first.rev), mark, tell.clone(), answers);
        Leg { seen, tell }
    }

    /// Keeps answering the server's further offers. `answered`: leg and revision of the last one.
    fn follow(
        &self,
        session: SessionId,
        mut answered: (u32, u32),
        mark: usize,
        tell: mpsc::Sender<Tell>,
        mut answers: mpsc::UnboundedReceiver<RtcAnswer>,
    ) {
        let live = self.live.handle();
        tokio::spawn(async move {
            let mut looked = mark;
            loop {
                tokio::select! {
                    answer = answers.recv() => match answer {
                        Some(answer) => live.say(&ClientMessage::RtcAnswer { session, answer }),
                        None => return,
                    },
                    messages = live.more(looked) => {
                        let Some(messages) = messages else { return };
                        looked += messages.len();
                        for message in messages {
                            if let ServerMessage::RtcOffer { session: s, offer } = message
                                && s == session && (offer.leg != answered.0 || offer.rev > answered.1)
                            {
                                answered = (offer.leg, offer.rev);
                                if tell.send(Tell::Offer(Box::new(offer))).await.is_err() {
                                    return;
                                }
                            }
                        }
                    }
                }
            }
        });
    }
}

impl Leg {
    /// Packets of the tracks of this owner and source that came so far.
    pub fn packets(&self, owner: Pseudonym, source: TrackSource) -> Vec<Got> {
        let seen = self.seen.lock().unwrap();
        let tracks = seen.lines.iter().filter(|(_, (o, i))| *o == owner && i.source == source).map(|(t, _)| *t);
        tracks.flat_map(|t| seen.packets.get(&t).cloned().unwrap_or_default()).collect()
    }

    /// The newest track of this owner and source.
    pub fn track(&self, owner: Pseudonym, source: TrackSource) -> Option<TrackInfo> {
        let seen = self.seen.lock().unwrap();
        let mut of = seen.lines.values().filter(|(o, i)| *o == owner && i.source == source).map(|(_, i)| i.clone());
        of.next()
    }

    pub fn is_connected(&self) -> bool {
        self.seen.lock().unwrap().connected
    }

    /// Everything that came on any track, packets.
    pub fn total(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.packets.values().map(Vec::len).sum::<usize>() + seen.counted + seen.strangers
    }

    pub async fn connected(&self) {
        crate::eventually("media connects", Duration::from_secs(20), async || self.is_connected().then_some(())).await;
    }

    /// Sends a tone of this pitch (Hz) for a while, in real time.
    pub async fn speak(&self, pitch: f32, length: Duration) {
        let mut encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let mut sample = 0u32;
        for _ in 0..length.as_millis() / 20 {
            let pcm: Vec<f32> = (0..BROWSER_SAMPLES)
                .map(|i| {
                    let t = (sample + i) as f32 / 48_000.0;
                    0.5 * (t * pitch * std::f32::consts::TAU).sin()
                })
                .collect();
            sample += BROWSER_SAMPLES;
            let packet = encoder.encode_vec_float(&pcm, 1_200).unwrap();
            tick.tick().await;
            if self.tell.send(Tell::Voice(packet.into(), BROWSER_SAMPLES)).await.is_err() {
                return;
            }
        }
    }

    /// Sends a film in real time, again from its beginning when it has ended, and a voice beside it.
    pub async fn show(&self, film: &Film, length: Duration) {
        let began = tokio::time::Instant::now();
        let mut voice = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
        let hum: Vec<f32> = (0..GLASSES_SAMPLES).map(|i| 0.2 * (i as f32 * 0.05).sin()).collect();
        let pictures = async {
            for n in 0u32.. {
                let (after, packets) = film.picture(n);
                tokio::time::sleep_until(began + after).await;
                let time = (after.as_micros() * 9 / 100) as u32;
                let sent = self.tell.send(Tell::Picture(time, packets.to_vec())).await;
                if after >= length || sent.is_err() {
                    return;
                }
            }
        };
        let sounds = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                let packet = voice.encode_vec_float(&hum, 1_200).unwrap();
                if self.tell.send(Tell::Voice(packet.into(), GLASSES_SAMPLES)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = pictures => {}
            () = sounds => {}
        }
    }

    /// When the last packets of the pictures came, of a leg that keeps no packets.
    pub fn pictures(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().pictures.clone()
    }

    pub async fn point(&self, message: &str) {
        let _ = self.tell.send(Tell::Pointer(message.into())).await;
    }
}

struct Core {
    session: SessionId,
    device_key: ed25519_dalek::SigningKey,
    seen: Arc<Mutex<Seen>>,
    keeps: bool,
    answers: mpsc::UnboundedSender<RtcAnswer>,
    socket: UdpSocket,
    local: SocketAddr,
    pc: RTCPeerConnection,
    channel: usize,
    sending: Vec<Sending>,
    voice_time: u32,
    streams: HashMap<u32, TrackId>,
    /// The server's name of the connection, since its first offer.
    leg: Option<u32>,
}

impl Core {
    async fn new(
        session: SessionId,
        device_key: ed25519_dalek::SigningKey,
        seen: Arc<Mutex<Seen>>,
        sources: &[TrackSource],
        answers: mpsc::UnboundedSender<RtcAnswer>,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let wanted: libc::c_int = KERNEL_BUFFER;
        // SAFETY: the descriptor is open, and the value is an int of the size that is told. The kernel gives what it may.
        unsafe {
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const wanted).cast(), size);
        }
        let local = socket.local_addr().unwrap();
        let (pc, channel) = connection(local);
        Self {
            session,
            device_key,
            seen,
            keeps: true,
            answers,
            socket,
            local,
            pc,
            channel,
            sending: sources.iter().map(|source| Sending::of(*source)).collect(),
            voice_time: RTP_BASE,
            streams: HashMap::new(),
            leg: None,
        }
    }

    async fn run(mut self, mut told: mpsc::Receiver<Tell>) {
        let mut buffer = vec![0u8; 2_048];
        loop {
            self.events();
            while let Some(out) = self.pc.poll_write() {
                let _ = self.socket.send_to(&out.message, out.transport.peer_addr).await;
            }
            let idle = Instant::now() + Duration::from_millis(200);
            let due = self.pc.poll_timeout().map_or(idle, |t| t.min(idle));
            tokio::select! {
                readable = self.socket.readable() => {
                    readable.unwrap();
                    self.receive(&mut buffer);
                }
                command = told.recv() => match command {
                    None => break,
                    Some(Tell::Offer(offer)) => self.answer(*offer),
                    Some(Tell::Voice(packet, samples)) => {
                        self.send(TrackSource::Voice, self.voice_time, false, packet);
                        self.voice_time = self.voice_time.wrapping_add(samples);
                    }
                    Some(Tell::Picture(time, packets)) => {
                        let last = packets.len().saturating_sub(1);
                        for (n, packet) in packets.into_iter().enumerate() {
                            self.send(TrackSource::Main, RTP_BASE.wrapping_add(time), n == last, packet);
                        }
                    }
                    Some(Tell::Pointer(text)) => if let Some(mut channel) = self.pc.data_channel(self.channel) {
                        let _ = channel.send_text(Instant::now(), text);
                    },
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let _ = self.pc.handle_timeout(Instant::now());
        }
        let _ = self.pc.close();
        while let Some(out) = self.pc.poll_write() {
            let _ = self.socket.send_to(&out.message, out.transport.peer_addr).await;
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Ok((n, from)) = self.socket.try_recv_from(buffer) else { return };
            let context = TransportContext {
                local_addr: self.local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            };
            let message = BytesMut::from(&buffer[..n]);
            let _ = self.pc.handle_read(TaggedBytesMut { now: Instant::now(), transport: context, message });
            self.take();
        }
    }

    fn events(&mut self) {
        self.take();
        while let Some(event) = self.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.seen.lock().unwrap().connected = state == RTCPeerConnectionState::Connected;
            }
        }
    }

    /// What the core has read, with the time it came.
    fn take(&mut self) {
        let at = Instant::now();
        while let Some(read) = self.pc.poll_read() {
            let mut seen = self.seen.lock().unwrap();
            match read.message {
                RTCMessage::RtpPacket(_, packet) if !self.keeps => {
                    seen.counted += 1;
                    if packet.header.marker && packet.header.payload_type == VP8 {
                        seen.pictures.push(at);
                    }
                }
                RTCMessage::RtpPacket(_, packet) => {
                    let got = Got {
                        at,
                        seq: packet.header.sequence_number,
                        timestamp: packet.header.timestamp,
                        marker: packet.header.marker,
                        payload: packet.payload,
                    };
                    match self.streams.get(&packet.header.ssrc) {
                        Some(track) => seen.packets.entry(*track).or_default().push(got),
                        None => seen.strangers += 1,
                    }
                }
                RTCMessage::DataChannelMessage(_, message) => {
                    seen.pointers.push(String::from_utf8_lossy(&message.data).into_owned());
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, offer: Offer) {
        let now = Instant::now();
        if self.leg.replace(offer.leg).is_some_and(|leg| leg != offer.leg) {
            // What was answered before was an offer that an older leg had missed: this one came for our join.
            (self.pc, self.channel) = connection(self.local);
            self.sending.iter_mut().for_each(|sending| sending.id = None);
        }
        {
            let mut seen = self.seen.lock().unwrap();
            for line in &offer.downlink {
                seen.lines.insert(line.info.track, (line.owner, line.info.clone()));
            }
        }
        self.streams = streams(&offer);
        self.pc.set_remote_description(now, RTCSessionDescription::offer(offer.sdp.clone()).unwrap()).unwrap();
        for sending in self.sending.iter_mut().filter(|s| s.id.is_none()) {
            sending.id = Some(self.pc.add_track(sending.track.clone()).unwrap());
        }
        let answer = self.pc.create_answer(None).unwrap();
        self.pc.set_local_description(now, answer.clone()).unwrap();
        let sdp = self.pc.local_description().map_or(answer.sdp, |d| d.sdp);
        let fingerprint = sdp.lines().find_map(|l| l.trim().strip_prefix("a=fingerprint:")).unwrap();
        let sig = envelope::sign(&self.device_key, &fingerprint_text(self.session, fingerprint.trim()));
        let _ = self.answers.send(RtcAnswer { leg: offer.leg, rev: offer.rev, sdp, fingerprint_sig: Some(sig) });
    }

    fn send(&mut self, source: TrackSource, timestamp: u32, marker: bool, payload: Bytes) {
        let Some(sending) = self.sending.iter_mut().find(|s| s.source == source) else { return };
        let header = rtp::Header {
            version: 2,
            payload_type: if source == TrackSource::Voice { OPUS } else { VP8 },
            sequence_number: sending.seq,
            timestamp,
            marker,
            ssrc: sending.ssrc,
            ..Default::default()
        };
        sending.seq = sending.seq.wrapping_add(1);
        if let Some(id) = sending.id
            && let Some(mut sender) = self.pc.rtp_sender(id)
        {
            let _ = sender.write_rtp(Instant::now(), rtp::Packet { header, payload });
        }
    }
}

/// A fresh connection, and its pointer channel.
fn connection(local: SocketAddr) -> (RTCPeerConnection, usize) {
    let settings = SettingEngineBuilder::new()
        .with_answering_dtls_role(RTCDtlsRole::Client)
        .with_include_loopback_candidate(true)
        // 200 ms apart: as long as a test waits. The core's own 1.4 s are less than a busy machine may take.
        .with_ice_connection_attempts(None, Some(100))
        .build();
    let mut pc = RTCPeerConnectionBuilder::new()
        .with_media_engine(codecs())
        .with_setting_engine(settings)
        .with_interceptor_registry(Registry::new())
        .build(Instant::now())
        .unwrap();
    let host = format!("candidate:1 1 udp 2130706431 {} {} typ host", local.ip(), local.port());
    pc.add_local_candidate(RTCIceCandidateInit { candidate: host, ..Default::default() }).unwrap();
    let pointer =
        RTCDataChannelInit { ordered: false, max_retransmits: Some(0), negotiated: Some(1), ..Default::default() };
    let channel = pc.create_data_channel(POINTER_CHANNEL, Some(pointer)).unwrap().id();
    (pc, channel)
}

/// Which stream is which track: by each line's mid and the `a=ssrc` of its section.
fn streams(offer: &Offer) -> HashMap<u32, TrackId> {
    let mut found = HashMap::new();
    for section in offer.sdp.split("\nm=").skip(1) {
        let value = |name: &str| section.lines().filter_map(|l| l.trim().strip_prefix(name)).collect::<Vec<_>>();
        let line = value("a=mid:").first().and_then(|mid| offer.downlink.iter().find(|l| l.mid == *mid));
        for text in value("a=ssrc:") {
            if let (Some(line), Ok(ssrc)) = (line, text.split(' ').next().unwrap_or_default().parse()) {
                found.insert(ssrc, line.info.track);
            }
        }
    }
    found
}

fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: vec![],
    }
}

fn vp8_codec() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: MIME_TYPE_VP8.into(), clock_rate: 90_000, ..Default::default() }
}

impl Sending {
    fn of(source: TrackSource) -> Self {
        let ssrc = rand::random();
        let (name, kind, codec) = match source {
            TrackSource::Voice => ("voice", RtpCodecKind::Audio, opus_codec()),
            TrackSource::Main | TrackSource::Preview => ("main", RtpCodecKind::Video, vp8_codec()),
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec,
            ..Default::default()
        };
        let track = MediaStreamTrack::new(name.into(), name.into(), name.into(), kind, vec![encoding]);
        Self { source, track, ssrc, id: None, seq: 0 }
    }
}

fn codecs() -> MediaEngine {
    let mut engine = MediaEngine::default();
    let h264 = RTCRtpCodec {
        mime_type: MIME_TYPE_H264.into(),
        clock_rate: 90_000,
        sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".into(),
        ..Default::default()
    };
    let of = |rtp_codec, payload_type| RTCRtpCodecParameters { rtp_codec, payload_type };
    engine.register_codec(of(vp8_codec(), VP8), RtpCodecKind::Video).unwrap();
    engine.register_codec(of(h264, 102), RtpCodecKind::Video).unwrap();
    engine.register_codec(of(opus_codec(), OPUS), RtpCodecKind::Audio).unwrap();
    engine
}
