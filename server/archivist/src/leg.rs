//! One leg: the connection on which media of a session comes in.
//!
//! Owns: its UDP socket and the WebRTC core's state, driven here without I/O of the core's own. That choice gives what a
//! recording needs and the wrapped API hides: every packet with its arrival time, in no queue that drops silently, and
//! the publisher's sender reports as they came. Never: looks into a payload, waits for the disk.
//! Elsewhere: offers and answers on their way (`link`), packets from here on (`recorder`).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ed25519_dalek::SigningKey;
use lotse_interceptor::{RTCP_TAP_SLOT, RTX_DECAP_SLOT, RtcpTap, RtxDecap};
use lotse_protocol::{
    envelope,
    id::{Pseudonym, SessionId, TrackId},
    signal::{Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo, fingerprint_text},
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
        state::RTCPeerConnectionState,
        transport::{RTCDtlsRole, RTCIceCandidateInit},
    },
    rtcp::{payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport},
    rtp_transceiver::{
        RTCRtpReceiverId,
        rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind},
    },
    sansio::Protocol as _,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use tokio::{net::UdpSocket, sync::mpsc};

use crate::{
    clock::ntp_to_us,
    depacketize::Packet,
    error::{ArchivistError, Result},
    link::Steady,
    recording::Feed,
};

/// Commands that may wait: offers and key frame requests. Full: the sender drops a request, the next one comes soon.
pub const QUEUE: usize = 64;
/// Datagrams read before the core is served: a burst of one picture.
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
    Connected,
    /// Gone; a new one may be built.
    Lost(String),
}

/// A leg of its own task; dropping the sender ends it.
pub struct Leg {
    session: SessionId,
    device_key: SigningKey,
    clock: Arc<Steady>,
    feed: Feed,
    socket: UdpSocket,
    local: SocketAddr,
    core: RTCPeerConnection,
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
        let local_ip = route_to(&candidates(&offer.sdp)).await?;
        let socket = UdpSocket::bind((local_ip, 0)).await.map_err(media)?;
        let local = socket.local_addr().map_err(media)?;
        let core = connection(local)?;
        let mut leg = Self {
            session,
            device_key,
            clock,
            feed,
            socket,
            local,
            core,
            streams: HashMap::new(),
            receivers: HashMap::new(),
            connected: false,
            began: Instant::now(),
        };
        let (tell, told) = mpsc::channel(QUEUE);
        let answer = leg.on_offer(offer)?;
        said(Said::Answer(answer));
        tokio::spawn(async move {
            let why = leg.run(told, &said).await;
            let _ = leg.core.close();
            leg.send().await;
            if let Some(why) = why {
                said(Said::Lost(why));
            }
        });
        Ok(tell)
    }

    async fn run(&mut self, mut told: mpsc::Receiver<Tell>, said: &(impl Fn(Said) + Sync)) -> Option<String> {
        let mut buffer = vec![0u8; 2_048];
        loop {
            if let Some(why) = self.serve(said) {
                return Some(why);
            }
            self.send().await;
            let idle = Instant::now() + IDLE;
            let deadline = self.core.poll_timeout().map_or(idle, |t| t.min(idle));
            tokio::select! {
                readable = self.socket.readable() => {
                    if let Err(e) = readable {
                        return Some(e.to_string());
                    }
                    self.receive(&mut buffer);
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

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Ok((len, from)) = self.socket.try_recv_from(buffer) else { return };
            let message = TaggedBytesMut {
                now: Instant::now(),
                transport: TransportContext {
                    local_addr: self.local,
                    peer_addr: from,
                    transport_protocol: TransportProtocol::UDP,
                    ecn: None,
                },
                message: BytesMut::from(&buffer[..len]),
            };
            if let Err(e) = self.core.handle_read(message) {
                tracing::trace!("a datagram that is not ours: {e}");
            }
            self.take_media();
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
                        said(Said::Connected);
                    }
                    RTCPeerConnectionState::Failed
                    | RTCPeerConnectionState::Disconnected
                    | RTCPeerConnectionState::Closed => return Some(format!("the media connection is {state}")),
                    _ => {}
                },
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
            // A full socket buffer loses a datagram, as any network may.
            let _ = self.socket.send_to(&out.message, out.transport.peer_addr).await;
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
        Ok(RtcAnswer { rev: offer.rev, sdp, fingerprint_sig })
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
    let _ = (streams(&offer), candidates(&offer.sdp));
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

/// The server's UDP addresses in an offer, the best first.
fn candidates(sdp: &str) -> Vec<SocketAddr> {
    let lines = sdp.lines().filter_map(|l| l.trim().strip_prefix("a=candidate:"));
    let addresses = lines.filter_map(|l| {
        let mut parts = l.split(' ').skip(2);
        let udp = parts.next()?.eq_ignore_ascii_case("udp");
        let ip: IpAddr = parts.nth(1)?.parse().ok()?;
        let port: u16 = parts.next()?.parse().ok()?;
        udp.then_some(SocketAddr::new(ip, port))
    });
    addresses.collect()
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
    fn the_server_address_is_read_from_its_candidate() {
        let sdp = "v=0\r\na=candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host\r\n";
        assert_eq!(candidates(sdp), [SocketAddr::from(([192, 0, 2, 7], 40_000))]);
        assert!(candidates("a=candidate:1 1 tcp 1 192.0.2.7 9 typ host").is_empty());
        assert!(candidates("a=candidate:").is_empty());
    }
}
