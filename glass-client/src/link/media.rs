//! One media connection: answers the server's offers, binds the published tracks, hands voices and the pointer on.
//!
//! Owns: one PeerConnection. Never: offers; restarts by itself (a failed one is dropped and joined anew).
//! Elsewhere: packets out (`publish`), voices in (`voice`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lotse_interceptor::{
    Estimator, Path, PathNow, REPAIR_GATE_SLOT, RTCP_TAP_SLOT, RTX_DECAP_SLOT, RepairGate, RtcpTap, RtxDecap,
};
use lotse_payload::pointer::PointerMessage;
use lotse_protocol::{
    envelope,
    id::{Pseudonym, SessionId},
    signal::{
        Codec, MAX_POINTER_BYTES, Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo, TrackSource, UDP_FIRST,
        fingerprint_text,
    },
};
use rtc::{
    interceptor::{
        CongestionControlBuilder, NackGeneratorBuilder, NackResponderBuilder, ReceiverReportBuilder, Slot,
        TwccSenderBuilder,
    },
    media_stream::MediaStreamTrack,
    peer_connection::{
        configuration::media_engine::MediaEngine,
        transport::{RTCDtlsRole, RTCIceCandidateInit},
    },
    rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RTCRtpHeaderExtensionCapability, RtpCodecKind,
    },
};
use serde::Deserialize;
use tokio::sync::mpsc;
use webrtc::{
    data_channel::{DataChannelEvent, RTCDataChannelInit},
    media_stream::{
        track_local::{TrackLocal, TrackLocalEvent, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceConnectionState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile,
    },
};

use super::{
    ladder,
    publish::{Lane, Publisher},
};
use crate::{
    error::GlassError,
    packet::{ABS_CAPTURE_TIME, AUDIO_LEVEL, MID, Negotiated, PLAYOUT_DELAY, TRANSPORT_CC},
};

/// Packets of pictures kept for repair: about two seconds at 1.5 Mbit/s.
const REPAIR: u16 = 512;
/// Checks of the way to the server, 200 ms apart: 15 s, as long as the server waits. The core gives up after 1.4 s of its own
/// accord, which a walk past a steel door takes, and a connection that gave up is built anew only half a minute later.
const CHECKS: u16 = 75;
/// So long a packet waits for feedback about it: a far link answers after seconds.
const FEEDBACK_WITHIN: Duration = Duration::from_secs(10);

/// What a connection reports.
#[derive(Debug)]
pub enum MediaEvent {
    Connected,
    /// Failed or closed by the other side: join again.
    Failed,
    Pointer {
        from: Pseudonym,
        message: PointerMessage,
    },
    /// Somebody asks for a key frame.
    KeyFrame(TrackSource),
}

/// Takes the packets of one voice: called with its track id and each packet, and with `None` when it ends.
pub type VoiceSink = Arc<dyn Fn(&str, Option<rtc::rtp::Packet>) + Send + Sync>;

/// A media connection.
pub struct Media {
    session: SessionId,
    pc: Arc<dyn PeerConnection>,
    path: Option<Path>,
    /// The server's name of the leg, since its first offer.
    leg: Option<u32>,
    lanes_bound: bool,
    way_found: Arc<AtomicBool>,
    events: mpsc::Sender<(u64, MediaEvent)>,
    generation: u64,
}

struct Handler {
    events: mpsc::Sender<(u64, MediaEvent)>,
    generation: u64,
    voices: VoiceSink,
    way_found: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let event = match state {
            RTCPeerConnectionState::Connected => MediaEvent::Connected,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Disconnected => MediaEvent::Failed,
            _ => return,
        };
        // The app ends before its connections: nobody is left to tell.
        let _ = self.events.send((self.generation, event)).await;
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            self.way_found.store(true, Ordering::Relaxed);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if track.kind().await != RtpCodecKind::Audio {
            return;
        }
        let (voices, id) = (self.voices.clone(), track.track_id().await);
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                match event {
                    TrackRemoteEvent::OnRtpPacket(packet) => voices(&id, Some(packet)),
                    TrackRemoteEvent::OnEnded => break,
                    _ => {}
                }
            }
            voices(&id, None);
        });
    }
}

#[derive(Deserialize)]
struct Relayed {
    from: Pseudonym,
    data: PointerMessage,
}

impl Media {
    /// A connection for one join. `generation` is given back with every event, so that those of an old one are known; `start_bps`: what the way is
    /// taken to carry until it says so itself; `None`: it is not measured, and repairs are not limited.
    pub async fn new(
        session: SessionId,
        server_url: &str,
        generation: u64,
        start_bps: Option<f64>,
        events: mpsc::Sender<(u64, MediaEvent)>,
        voices: VoiceSink,
    ) -> Result<Self, GlassError> {
        let mut registry = Registry::new();
        let estimator = start_bps.map(|bps| Estimator::new(ladder::limits(bps)));
        let path = estimator.as_ref().map(Estimator::path);
        if let Some(estimator) = estimator {
            let gate = RepairGate::new(estimator.path());
            let feedback = CongestionControlBuilder::new(estimator).with_prune_horizon(FEEDBACK_WITHIN).build();
            registry = registry
                .with(Slot::CongestionControl, feedback)
                .with(Slot::TwccSender, TwccSenderBuilder::new().build())
                .with(REPAIR_GATE_SLOT, gate);
        }
        let registry = registry
            .with(Slot::NackResponder, NackResponderBuilder::new().with_size(REPAIR).build())
            .with(RTX_DECAP_SLOT, RtxDecap::default())
            .with(
                Slot::NackGenerator,
                NackGeneratorBuilder::new()
                    .with_interval(Duration::from_millis(20))
                    .with_max_nacks_per_packet(10)
                    .build(),
            )
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
            .with(RTCP_TAP_SLOT, RtcpTap::default());
        let settings = SettingEngineBuilder::new()
            .with_answering_dtls_role(RTCDtlsRole::Client)
            .with_include_loopback_candidate(true)
            // The server names itself by address; asking by multicast fails where no route leads out.
            .with_multicast_dns_mode(rtc::ice::mdns::MulticastDnsMode::Disabled)
            .with_ice_connection_attempts(None, Some(CHECKS))
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .build();
        let way_found = Arc::new(AtomicBool::new(false));
        let handler = Handler { events: events.clone(), generation, voices, way_found: way_found.clone() };
        let pc = PeerConnectionBuilder::new()
            .with_media_engine(media_engine(path.is_some())?)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![local_address(server_url)])
            // Dialled only, never listened to by anybody: the server's candidates are passive.
            .with_tcp_addrs(vec![local_address(server_url)])
            .build()
            .await
            .map_err(broken)?;
        let pc: Arc<dyn PeerConnection> = Arc::new(pc);
        let options =
            RTCDataChannelInit { ordered: false, max_retransmits: Some(0), negotiated: Some(1), ..Default::default() };
        let channel = pc.create_data_channel(POINTER_CHANNEL, Some(options)).await.map_err(broken)?;
        let tell = events.clone();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                let DataChannelEvent::OnMessage(message) = event else { continue };
                if message.data.len() > 2 * MAX_POINTER_BYTES {
                    continue;
                }
                // Anything else on this channel is from a newer program.
                if let Ok(Relayed { from, data }) = serde_json::from_slice(&message.data)
                    && tell.send((generation, MediaEvent::Pointer { from, message: data })).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { session, pc, path, leg: None, lanes_bound: false, way_found, events, generation })
    }

    pub fn session(&self) -> SessionId {
        self.session
    }

    pub fn leg(&self) -> Option<u32> {
        self.leg
    }

    /// What the way to the server carries, once it has said so.
    pub fn path(&self) -> Option<PathNow> {
        self.path.as_ref().map(Path::now).filter(|path| path.heard.is_some())
    }

    /// Answers an offer; on the first one the published tracks are bound to its uplink lines, in their order.
    pub async fn answer(
        &mut self,
        offer: &Offer,
        publisher: &Publisher,
        device_key: &ed25519_dalek::SigningKey,
    ) -> Result<RtcAnswer, GlassError> {
        self.leg = Some(offer.leg);
        let description = RTCSessionDescription::offer(offer.sdp.clone()).map_err(broken)?;
        self.pc.set_remote_description(description).await.map_err(broken)?;
        let mut tracks = Vec::new();
        let first = !std::mem::replace(&mut self.lanes_bound, true);
        if first {
            for line in &offer.uplink {
                tracks.push(self.attach(&line.info, &line.mid).await?);
            }
        }
        let answer = self.pc.create_answer(None).await.map_err(broken)?;
        self.pc.set_local_description(answer.clone()).await.map_err(broken)?;
        if first {
            publisher.bind(self.lanes(tracks).await?);
        }
        if first {
            self.dial_later(tcp_candidates(&offer.sdp));
        }
        let fingerprint = answer.sdp.lines().find_map(|l| l.strip_prefix("a=fingerprint:")).map(str::trim);
        let fingerprint_sig = fingerprint.map(|f| envelope::sign(device_key, &fingerprint_text(self.session, f)));
        Ok(RtcAnswer { leg: offer.leg, rev: offer.rev, sdp: answer.sdp, fingerprint_sig })
    }

    /// Tries media over TCP as well, [`UDP_FIRST`] later and beside UDP, unless that has connected by then.
    fn dial_later(&self, candidates: Vec<String>) {
        let (pc, way_found) = (self.pc.clone(), self.way_found.clone());
        tokio::spawn(async move {
            tokio::time::sleep(UDP_FIRST).await;
            if way_found.load(Ordering::Relaxed) || candidates.is_empty() {
                return;
            }
            tracing::info!("no way by UDP yet: trying media over TCP as well");
            for candidate in candidates {
                let init = RTCIceCandidateInit { candidate, ..Default::default() };
                if let Err(e) = pc.add_ice_candidate(init).await {
                    tracing::debug!("media over TCP is not tried: {e}");
                }
            }
        });
    }

    pub async fn close(&self) {
        // Closing what is already gone is no trouble.
        let _ = self.pc.close().await;
    }

    async fn attach(&self, info: &TrackInfo, mid: &str) -> Result<Lane, GlassError> {
        let ssrc: u32 = rand::random();
        let parameters = codec(info.codec);
        let encoding = RTCRtpEncodingParameters {
            codec: parameters.rtp_codec,
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            active: true,
            ..Default::default()
        };
        let kind = if info.codec.is_video() { RtpCodecKind::Video } else { RtpCodecKind::Audio };
        let id = info.track.to_string();
        let track = MediaStreamTrack::new("own".into(), id.clone(), id, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        self.pc.add_track(track.clone()).await.map_err(broken)?;
        let (wishes, events, generation, source) = (track.clone(), self.events.clone(), self.generation, info.source);
        tokio::spawn(async move {
            while let Some(TrackLocalEvent::OnRtcpPacket(packets)) = wishes.poll().await {
                let wish = packets.iter().any(|p| p.as_any().is::<PictureLossIndication>());
                if wish && events.send((generation, MediaEvent::KeyFrame(source))).await.is_err() {
                    return;
                }
            }
        });
        let negotiated =
            Negotiated { ssrc, payload_type: parameters.payload_type, mid: mid.to_owned(), ..Negotiated::default() };
        Ok(Lane { info: info.clone(), track, negotiated })
    }

    /// Payload types and extension ids as agreed.
    async fn lanes(&self, mut lanes: Vec<Lane>) -> Result<Vec<Lane>, GlassError> {
        let senders = self.pc.get_senders().await;
        for Lane { track, negotiated, .. } in &mut lanes {
            let id = webrtc::media_stream::Track::track_id(track.as_ref()).await;
            for sender in &senders {
                if sender.track().track_id().await != id {
                    continue;
                }
                let agreed = sender.get_parameters().await.map_err(broken)?.rtp_parameters;
                let ext = |uri: &str| agreed.header_extensions.iter().find(|e| e.uri == uri).map(|e| e.id as u8);
                negotiated.mid_id = ext(MID);
                negotiated.abs_capture_time_id = ext(ABS_CAPTURE_TIME);
                negotiated.audio_level_id = ext(AUDIO_LEVEL);
                negotiated.playout_delay_id = ext(PLAYOUT_DELAY);
            }
        }
        Ok(lanes)
    }
}

/// The wildcard address does not reach a server on the same machine, and loopback does not reach any other.
fn local_address(server_url: &str) -> &'static str {
    let host = server_url.split("//").nth(1).unwrap_or_default();
    let local = ["127.", "localhost", "[::1]"].iter().any(|l| host.starts_with(l));
    if local { "127.0.0.1:0" } else { "0.0.0.0:0" }
}

/// The server's candidates for media over TCP, as an offer lists them.
fn tcp_candidates(sdp: &str) -> Vec<String> {
    let all = sdp.lines().filter_map(|line| line.trim().strip_prefix("a=").filter(|l| l.starts_with("candidate:")));
    let mut found: Vec<String> = Vec::new();
    for candidate in all.filter(|c| c.contains(" tcptype passive")) {
        if !found.iter().any(|known| known == candidate) {
            found.push(candidate.to_owned());
        }
    }
    found
}

fn codec(codec: Codec) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let video = |mime: &str, fmtp: &str, payload_type| RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.into(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: fmtp.into(),
            rtcp_feedback: vec![
                feedback("nack", ""),
                feedback("nack", "pli"),
                feedback("ccm", "fir"),
                feedback("transport-cc", ""),
            ],
        },
        payload_type,
    };
    match codec {
        Codec::Vp8 => video("video/VP8", "", 96),
        Codec::H264 => {
            video("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 102)
        }
        Codec::Opus => RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: "audio/opus".into(),
                clock_rate: 48_000,
                channels: 2,
                sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
                rtcp_feedback: vec![feedback("nack", ""), feedback("transport-cc", "")],
            },
            payload_type: 111,
        },
    }
}

/// `measured`: packets are numbered, and the server says when each came.
fn media_engine(measured: bool) -> Result<MediaEngine, GlassError> {
    let mut engine = MediaEngine::default();
    for c in [Codec::Vp8, Codec::H264] {
        let main = codec(c);
        let repair = RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: "video/rtx".into(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: format!("apt={}", main.payload_type),
                rtcp_feedback: Vec::new(),
            },
            payload_type: main.payload_type + 1,
        };
        engine.register_codec(main, RtpCodecKind::Video).map_err(broken)?;
        engine.register_codec(repair, RtpCodecKind::Video).map_err(broken)?;
    }
    engine.register_codec(codec(Codec::Opus), RtpCodecKind::Audio).map_err(broken)?;
    let mut extension = |uri: &str, kind| {
        engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri: uri.into() }, kind, None)
    };
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        extension(ABS_CAPTURE_TIME, kind).map_err(broken)?;
        if measured {
            extension(TRANSPORT_CC, kind).map_err(broken)?;
        }
    }
    extension(AUDIO_LEVEL, RtpCodecKind::Audio).map_err(broken)?;
    extension(PLAYOUT_DELAY, RtpCodecKind::Video).map_err(broken)?;
    Ok(engine)
}

fn broken(e: impl std::fmt::Display) -> GlassError {
    GlassError::Media(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passive_tcp_candidates_are_taken_once_each() {
        let udp = "a=candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host\r\n";
        let tcp = "a=candidate:101 1 tcp 2124414975 192.0.2.7 443 typ host tcptype passive\r\n";
        let sdp = format!("v=0\r\n{udp}{tcp}m=audio\r\n{udp}{tcp}");
        assert_eq!(tcp_candidates(&sdp), ["candidate:101 1 tcp 2124414975 192.0.2.7 443 typ host tcptype passive"]);
        assert!(tcp_candidates(udp).is_empty());
    }

    #[test]
    fn a_server_on_this_machine_is_reached_by_loopback() {
        for url in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:2"] {
            assert_eq!(local_address(url), "127.0.0.1:0", "{url}");
        }
        assert_eq!(local_address("https://lotse.example.org"), "0.0.0.0:0");
    }
}
