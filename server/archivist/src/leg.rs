//! One leg: the connection on which media of a session comes in.
//!
//! Owns: the WebRTC core's state, and when TCP is tried beside UDP. The core is driven here, without I/O of its own. That choice
//! gives what a recording needs and the wrapped API hides: every packet with its arrival time, in no queue that drops silently,
//! and the publisher's sender reports as they came. Never: looks into a payload, waits for the disk.
//! Elsewhere: sockets (`way`), offers and answers on their way (`link`), packets from here on (`recorder`).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use lotse_interceptor::{RTCP_TAP_SLOT, RTX_DECAP_SLOT, RtcpTap, RtxDecap};
use lotse_protocol::{
    envelope,
    id::{Pseudonym, SessionId, TrackId},
    signal::{Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo, UDP_FIRST, fingerprint_text},
};
use rtc::{
    data_channel::RTCDataChannelInit,
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    interceptor::{NackGeneratorBuilder, ReceiverReportBuilder, Registry, Slot},
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MediaEngine},
            setting_engine::SettingEngineBuilder,
        },
        event::{RTCPeerConnectionEvent, RTCTrackEvent},
        message::RTCMessage,
        sdp::RTCSessionDescription,
        state::{RTCIceConnectionState, RTCPeerConnectionState},
        transport::{RTCDtlsRole, RTCIceCandidateInit},
    },
    rtcp::{payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport},
    rtp_transceiver::{
        RTCRtpReceiverId,
        rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind},
    },
    sansio::Protocol as _,
    shared::TransportProtocol,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    clock::ntp_to_us,
    depacketize::Packet,
    error::{ArchivistError, Result},
    link::Steady,
    recording::Feed,
    way::{self, Ways},
};

/// Commands that may wait: offers and key frame requests. Full: the sender drops a request, the next one comes soon.
pub const QUEUE: usize = 64;
/// Packets read before the core is served: a burst of one picture.
const BURST: usize = 64;
/// Time to connect, and silence after which the leg counts as lost.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Checks of the way to the server, 200 ms apart: as many as fit into that time. The core gives up after 1.4 s of its own accord,
/// and never tries that way again.
const CHECKS: u16 = 75;
/// Below the time of a frame, so that most holes close within one.
const NACK_EVERY: Duration = Duration::from_millis(20);
/// After this many requests a packet is gone; `track` gives up its hole a little later.
const NACK_TRIES: u16 = 10;
/// The core wants to be called at least this often.
const IDLE: Duration = Duration::from_secs(1);

/// What the leg is told.
pub enum Tell {
    Offer(Box<Offer>),
    KeyFrame(TrackId),
}

/// What the leg says.
#[derive(Debug)]
pub enum Said {
    Answer(RtcAnswer),
    /// By `UDP` or `TCP`.
    Connected(&'static str),
    /// Gone; a new one may be built.
    Lost(String),
}

/// A leg of its own task; dropping the sender ends it.
pub struct Leg {
    session: SessionId,
    device_key: SigningKey,
    clock: Arc<Steady>,
    feed: Feed,
    ways: Ways,
    core: RTCPeerConnection,
    /// A connection for media on its way, beside UDP.
    dialling: Option<JoinHandle<std::io::Result<TcpStream>>>,
    /// By which the newest packet of the other side came.
    by: TransportProtocol,
    /// Which track a stream carries, by the newest offer.
    streams: HashMap<u32, TrackId>,
    receivers: HashMap<u32, RTCRtpReceiverId>,
    connected: bool,
    began: Instant,
}

impl Leg {
    /// Builds the connection for this first offer. The answer comes through `said`.
    pub async fn start(
        session: SessionId,
        device_key: SigningKey,
        clock: Arc<Steady>,
        feed: Feed,
        offer: Offer,
        said: impl Fn(Said) + Send + Sync + 'static,
    ) -> Result<mpsc::Sender<Tell>> {
        let local_ip = route_to(&candidates(&offer.sdp, "udp")).await?;
        let ways = Ways::new(UdpSocket::bind((local_ip, 0)).await.map_err(media)?).map_err(media)?;
        let core = connection(ways.udp())?;
        let by_tcp = candidates(&offer.sdp, "tcp");
        let mut leg = Self {
            session,
            device_key,
            clock,
            feed,
            ways,
            core,
            dialling: None,
            by: TransportProtocol::UDP,
            streams: HashMap::new(),
            receivers: HashMap::new(),
            connected: false,
            began: Instant::now(),
        };
        let (tell, told) = mpsc::channel(QUEUE);
        let answer = leg.on_offer(offer)?;
        said(Said::Answer(answer));
        leg.dialling = (!by_tcp.is_empty()).then(|| {
            tokio::spawn(async move {
                tokio::time::sleep(UDP_FIRST).await;
                tracing::info!("no way by UDP yet: trying media over TCP as well");
                way::dial(by_tcp).await
            })
        });
        tokio::spawn(async move {
            let why = leg.run(told, &said).await;
            leg.dial_no_more();
            let _ = leg.core.close();
            leg.send().await;
            if let Some(why) = why {
                said(Said::Lost(why));
            }
        });
        Ok(tell)
    }

    async fn run(&mut self, mut told: mpsc::Receiver<Tell>, said: &(impl Fn(Said) + Sync)) -> Option<String> {
        loop {
            if let Some(why) = self.serve(said) {
                return Some(why);
            }
            self.send().await;
            let idle = Instant::now() + IDLE;
            let deadline = self.core.poll_timeout().map_or(idle, |t| t.min(idle));
            tokio::select! {
                ready = self.ways.ready() => {
                    if let Err(e) = ready {
                        return Some(e.to_string());
                    }
                    self.receive();
                    self.ways.flush();
                    if self.by == TransportProtocol::TCP && !self.ways.has_stream() {
                        return Some("the server ended the connection for media".to_owned());
                    }
                }
                dialled = dialled(&mut self.dialling) => {
                    self.dialling = None;
                    if let Err(e) = dialled.and_then(|stream| self.add_way(stream)) {
                        tracing::warn!("no media over TCP either: {e}");
                    }
                }
                command = told.recv() => match command {
                    None => return None,
                    Some(Tell::Offer(offer)) => match self.on_offer(*offer) {
                        Ok(answer) => said(Said::Answer(answer)),
                        Err(e) => return Some(e.to_string()),
                    },
                    Some(Tell::KeyFrame(track)) => self.ask_key_frame(track),
                },
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            if let Err(e) = self.core.handle_timeout(Instant::now()) {
                tracing::debug!("leg: {e}");
            }
        }
    }

    fn receive(&mut self) {
        for _ in 0..BURST {
            let Some(message) = self.ways.received() else { return };
            // Checks come by every way there is; what follows them comes by the one that is used (RFC 7983).
            if message.message.first().is_some_and(|first| *first > 3) {
                self.by = message.transport.transport_protocol;
            }
            if let Err(e) = self.core.handle_read(message) {
                tracing::trace!("a packet that is not ours: {e}");
            }
            self.take_media();
        }
    }

    /// The core checks this way too, and takes it where UDP does not answer.
    fn add_way(&mut self, stream: TcpStream) -> std::io::Result<()> {
        let local = self.ways.add(stream)?;
        // An end that dials has no port to be dialled at: 9 stands for none (RFC 6544, 4.5).
        let candidate = format!("candidate:2 1 tcp 2124414975 {} 9 typ host tcptype active", local.ip());
        let init = RTCIceCandidateInit { candidate, ..Default::default() };
        self.core.add_local_candidate(init).map_err(std::io::Error::other)
    }

    fn dial_no_more(&mut self) {
        if let Some(dialling) = self.dialling.take() {
            dialling.abort();
        }
    }

    /// Packets and reports go on to the recorder, with the time they came.
    fn take_media(&mut self) {
        let arrival_us = self.clock.now_us();
        while let Some(read) = self.core.poll_read() {
            match read.message {
                RTCMessage::RtpPacket(_, packet) => {
                    let Some(track) = self.streams.get(&packet.header.ssrc) else { continue };
                    let packet = Packet {
                        seq: packet.header.sequence_number,
                        timestamp: packet.header.timestamp,
                        marker: packet.header.marker,
                        payload: packet.payload,
                        arrival_us,
                    };
                    self.feed.packet(*track, packet);
                }
                RTCMessage::RtcpPacket(_, packets) => {
                    for report in packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>()) {
                        if let Some(track) = self.streams.get(&report.ssrc) {
                            self.feed.report(*track, report.rtp_time, ntp_to_us(report.ntp_time), arrival_us);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn serve(&mut self, said: &impl Fn(Said)) -> Option<String> {
        self.take_media();
        while let Some(event) = self.core.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                    RTCPeerConnectionState::Connected => {
                        self.connected = true;
                        let way = if self.by == TransportProtocol::TCP { "TCP" } else { "UDP" };
                        said(Said::Connected(way));
                    }
                    RTCPeerConnectionState::Failed
                    | RTCPeerConnectionState::Disconnected
                    | RTCPeerConnectionState::Closed => return Some(format!("the media connection is {state}")),
                    _ => {}
                },
                RTCPeerConnectionEvent::OnIceConnectionStateChangeEvent(RTCIceConnectionState::Connected) => {
                    self.dial_no_more();
                }
                RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(open)) => {
                    self.receivers.insert(open.ssrc, open.receiver_id);
                }
                _ => {}
            }
        }
        (!self.connected && self.began.elapsed() > CONNECT_WITHIN).then(|| "no media connection came about".to_owned())
    }

    async fn send(&mut self) {
        while let Some(out) = self.core.poll_write() {
            self.ways.send(&out).await;
        }
    }

    fn on_offer(&mut self, offer: Offer) -> Result<RtcAnswer> {
        self.streams = streams(&offer);
        let lines: Vec<(Pseudonym, TrackInfo)> = offer.downlink.iter().map(|l| (l.owner, l.info.clone())).collect();
        self.feed.lines(lines);
        let sdp = answer(&mut self.core, offer.sdp, Instant::now())?;
        let fingerprint_sig = sdp
            .lines()
            .find_map(|l| l.trim().strip_prefix("a=fingerprint:"))
            .map(|f| envelope::sign(&self.device_key, &fingerprint_text(self.session, f.trim())));
        Ok(RtcAnswer { leg: offer.leg, rev: offer.rev, sdp, fingerprint_sig })
    }

    fn ask_key_frame(&mut self, track: TrackId) {
        let ssrcs: Vec<u32> = self.streams.iter().filter(|(_, t)| **t == track).map(|(s, _)| *s).collect();
        for ssrc in ssrcs {
            if let Some(id) = self.receivers.get(&ssrc)
                && let Some(mut receiver) = self.core.rtp_receiver(*id)
            {
                let ask = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
                if let Err(e) = receiver.write_rtcp(Instant::now(), vec![Box::new(ask)]) {
                    tracing::debug!("a key frame could not be asked for: {e}");
                }
            }
        }
    }
}

/// The connection that was dialled, when it is there; never, where none is.
async fn dialled(dialling: &mut Option<JoinHandle<std::io::Result<TcpStream>>>) -> std::io::Result<TcpStream> {
    match dialling {
        Some(dialling) => dialling.await.unwrap_or_else(|e| Err(std::io::Error::other(e))),
        None => std::future::pending().await,
    }
}

/// The SDP of our answer to an offer.
fn answer(core: &mut RTCPeerConnection, offer: String, now: Instant) -> Result<String> {
    let remote = RTCSessionDescription::offer(offer).map_err(media)?;
    core.set_remote_description(now, remote).map_err(media)?;
    let answer = core.create_answer(None).map_err(media)?;
    core.set_local_description(now, answer.clone()).map_err(media)?;
    Ok(core.local_description().map_or(answer.sdp, |d| d.sdp))
}

/// For `tests/fuzz`: a fresh connection without a socket answers this offer.
#[doc(hidden)]
pub fn fuzz(offer: Offer) -> Option<String> {
    let _ = (streams(&offer), candidates(&offer.sdp, "udp"), candidates(&offer.sdp, "tcp"));
    answer(&mut connection(SocketAddr::from(([127, 0, 0, 1], 5_000))).ok()?, offer.sdp, Instant::now()).ok()
}

/// Which stream belongs to which track: by the lines' mids and the `a=ssrc` of their sections.
fn streams(offer: &Offer) -> HashMap<u32, TrackId> {
    let mut found = HashMap::new();
    for section in offer.sdp.split("\nm=").skip(1) {
        let attribute = |name: &str| section.lines().find_map(|l| l.trim().strip_prefix(name));
        let Some(mid) = attribute("a=mid:") else { continue };
        let Some(line) = offer.downlink.iter().find(|l| l.mid == mid.trim()) else { continue };
        for text in section.lines().filter_map(|l| l.trim().strip_prefix("a=ssrc:")) {
            if let Some(ssrc) = text.split(' ').next().and_then(|s| s.parse().ok()) {
                found.insert(ssrc, line.info.track);
            }
        }
    }
    found
}

/// The server's addresses in an offer that media reach by `udp` or `tcp`, the best first, each once.
fn candidates(sdp: &str, by: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in sdp.lines().filter_map(|l| l.trim().strip_prefix("a=candidate:")) {
        let parts: Vec<&str> = line.split(' ').collect();
        let [_, _, transport, _, ip, port, rest @ ..] = parts.as_slice() else { continue };
        // Only an end that listens can be dialled.
        let open = by != "tcp" || rest.windows(2).any(|w| w == ["tcptype", "passive"]);
        if let (true, true, Ok(ip), Ok(port)) = (open, transport.eq_ignore_ascii_case(by), ip.parse(), port.parse()) {
            let address = SocketAddr::new(ip, port);
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

/// Our own address on the way to the server: to the first of its addresses that any way leads to.
async fn route_to(server: &[SocketAddr]) -> Result<IpAddr> {
    let mut trouble = media("the offer names no address");
    for address in server {
        match local_towards(*address).await {
            Ok(local) => return Ok(local),
            Err(e) => trouble = media(e),
        }
    }
    Err(trouble)
}

async fn local_towards(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let probe = UdpSocket::bind((any, 0)).await?;
    probe.connect(server).await?;
    Ok(probe.local_addr()?.ip())
}

fn media(e: impl std::fmt::Display) -> ArchivistError {
    ArchivistError::Media(e.to_string())
}

fn connection(local: SocketAddr) -> Result<RTCPeerConnection> {
    let settings = SettingEngineBuilder::new()
        .with_answering_dtls_role(RTCDtlsRole::Client)
        .with_include_loopback_candidate(true)
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
        .with_ice_timeouts(Some(Duration::from_secs(4)), Some(Duration::from_secs(4)), Some(Duration::from_secs(1)))
        .with_ice_connection_attempts(None, Some(CHECKS))
        .build();
    let nack = NackGeneratorBuilder::new().with_interval(NACK_EVERY).with_max_nacks_per_packet(NACK_TRIES).build();
    let registry = Registry::new()
        .with(RTX_DECAP_SLOT, RtxDecap::default())
        .with(Slot::NackGenerator, nack)
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(RTCP_TAP_SLOT, RtcpTap::default());
    let mut core = RTCPeerConnectionBuilder::new()
        .with_media_engine(media_engine()?)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .build(Instant::now())
        .map_err(media)?;
    let host = format!("candidate:1 1 udp 2130706431 {} {} typ host", local.ip(), local.port());
    core.add_local_candidate(RTCIceCandidateInit { candidate: host, ..Default::default() }).map_err(media)?;
    // The same channel as everybody's; what comes on it is not kept.
    let pointer =
        RTCDataChannelInit { ordered: false, max_retransmits: Some(0), negotiated: Some(1), ..Default::default() };
    core.create_data_channel(POINTER_CHANNEL, Some(pointer)).map_err(media)?;
    Ok(core)
}

fn media_engine() -> Result<MediaEngine> {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let video = vec![feedback("nack", ""), feedback("nack", "pli")];
    let codec = |mime: &str, clock_rate, channels, fmtp: &str, rtcp_feedback, payload_type| RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback,
        },
        payload_type,
    };
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    let codecs = [
        (codec(MIME_TYPE_VP8, 90_000, 0, "", video.clone(), 96), RtpCodecKind::Video),
        (codec(MIME_TYPE_RTX, 90_000, 0, "apt=96", Vec::new(), 97), RtpCodecKind::Video),
        (codec(MIME_TYPE_H264, 90_000, 0, h264, video, 102), RtpCodecKind::Video),
        (codec(MIME_TYPE_RTX, 90_000, 0, "apt=102", Vec::new(), 103), RtpCodecKind::Video),
        (codec(MIME_TYPE_OPUS, 48_000, 2, "minptime=10;useinbandfec=1", Vec::new(), 111), RtpCodecKind::Audio),
    ];
    let mut engine = MediaEngine::default();
    for (codec, kind) in codecs {
        engine.register_codec(codec, kind).map_err(media)?;
    }
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let mid = RTCRtpHeaderExtensionCapability { uri: "urn:ietf:params:rtp-hdrext:sdes:mid".to_owned() };
        engine.register_header_extension(mid, kind, None).map_err(media)?;
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_addresses_are_read_from_its_candidates() {
        let udp = "a=candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host\r\n";
        let tcp = "a=candidate:101 1 tcp 2124414975 192.0.2.7 443 typ host tcptype passive\r\n";
        let sdp = format!("v=0\r\n{udp}{tcp}m=audio\r\n{udp}{tcp}");
        assert_eq!(candidates(&sdp, "udp"), [SocketAddr::from(([192, 0, 2, 7], 40_000))]);
        assert_eq!(candidates(&sdp, "tcp"), [SocketAddr::from(([192, 0, 2, 7], 443))]);
        for bad in
            ["a=candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype active", "a=candidate:", "a=candidate:1 1 tcp 1 x y z"]
        {
            assert!(candidates(bad, "tcp").is_empty(), "{bad}");
        }
    }
}
