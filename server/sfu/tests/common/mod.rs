//! A participant on the async `webrtc` crate, as the glasses and the archivist are.
//!
//! Owns: one PeerConnection and everything it received. Never: talks to the SFU by itself; the tests carry offers.
//! Elsewhere: a room full of these (`world`).

#![allow(dead_code, unreachable_pub)]

pub mod door;
pub mod relay;
pub mod world;

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use lotse_interceptor::{RTCP_TAP_SLOT, RTX_DECAP_SLOT, RtcpTap, RtxDecap};
use lotse_protocol::signal::{Codec, Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo};
use rtc::interceptor::{NackGeneratorBuilder, NackResponderBuilder, ReceiverReportBuilder, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::{rtcp, rtp};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState, RTCSessionDescription,
    Registry, SettingEngineBuilder, SrtpProtectionProfile,
};

pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

const H264_FMTP: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

/// One thing received.
#[derive(Debug, Clone)]
pub struct Got {
    /// The track's id, as the SFU writes it into the msid.
    pub track: String,
    pub packet: rtp::Packet,
}

/// Everything that came.
#[derive(Debug, Default)]
pub struct Inbox {
    pub packets: Vec<Got>,
    pub clocks: Vec<(String, SenderReport)>,
    pub messages: Vec<String>,
    pub key_frame_wishes: Vec<u32>,
    pub tracks: Vec<String>,
    pub connected: bool,
    pub channel_open: bool,
}

struct Handler {
    inbox: Arc<Mutex<Inbox>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.inbox.lock().expect("inbox").connected = state == RTCPeerConnectionState::Connected;
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let (inbox, id) = (self.inbox.clone(), track.track_id().await);
        inbox.lock().expect("inbox").tracks.push(id.clone());
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let mut inbox = inbox.lock().expect("inbox");
                match event {
                    TrackRemoteEvent::OnRtpPacket(packet) => inbox.packets.push(Got { track: id.clone(), packet }),
                    TrackRemoteEvent::OnRtcpPacket(packets) => {
                        for packet in packets {
                            if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                                inbox.clocks.push((id.clone(), report.clone()));
                            }
                        }
                    }
                    _ => {}
                }
            }
        });
    }
}

/// A track this client sends.
pub struct Sending {
    pub info: TrackInfo,
    pub track: Arc<TrackLocalStaticRTP>,
    pub ssrc: u32,
    /// Header extension ids by address, known after the first answer.
    pub extensions: Vec<(String, u8)>,
}

pub struct Client {
    pub pc: Arc<dyn PeerConnection>,
    pub inbox: Arc<Mutex<Inbox>>,
    pub sending: Vec<Sending>,
    pub channel: Arc<dyn DataChannel>,
    tcp: bool,
}

fn codec(codec: Codec) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    match codec {
        Codec::Vp8 | Codec::H264 => RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: if codec == Codec::Vp8 { "video/VP8" } else { "video/H264" }.into(),
                clock_rate: 90_000,
                sdp_fmtp_line: if codec == Codec::Vp8 { "" } else { H264_FMTP }.into(),
                rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
                ..Default::default()
            },
            payload_type: if codec == Codec::Vp8 { 96 } else { 102 },
        },
        Codec::Opus => RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: "audio/opus".into(),
                clock_rate: 48_000,
                channels: 2,
                sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
                ..Default::default()
            },
            payload_type: 111,
        },
    }
}

fn media_engine(pictures: &[Codec]) -> MediaEngine {
    let mut engine = MediaEngine::default();
    for picture in pictures {
        let primary = codec(*picture);
        let repair = RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: "video/rtx".into(),
                clock_rate: 90_000,
                sdp_fmtp_line: format!("apt={}", primary.payload_type),
                ..Default::default()
            },
            payload_type: primary.payload_type + 1,
        };
        engine.register_codec(primary, RtpCodecKind::Video).expect("codec");
        engine.register_codec(repair, RtpCodecKind::Video).expect("codec");
    }
    engine.register_codec(codec(Codec::Opus), RtpCodecKind::Audio).expect("codec");
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let uri = RTCRtpHeaderExtensionCapability { uri: CAPTURE_TIME.into() };
        engine.register_header_extension(uri, kind, None).expect("extension");
    }
    let uri = RTCRtpHeaderExtensionCapability { uri: AUDIO_LEVEL.into() };
    engine.register_header_extension(uri, RtpCodecKind::Audio, None).expect("extension");
    engine
}

impl Client {
    pub async fn new() -> Self {
        Self::with_pictures(&[Codec::Vp8]).await
    }

    /// A client that knows these codecs for pictures.
    pub async fn with_pictures(pictures: &[Codec]) -> Self {
        Self::build(pictures, false).await
    }

    /// A client behind a firewall that lets no UDP through: it has no UDP socket at all.
    pub async fn over_tcp() -> Self {
        let mut client = Self::build(&[Codec::Vp8], true).await;
        client.tcp = true;
        client
    }

    async fn build(pictures: &[Codec], tcp: bool) -> Self {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let registry = Registry::new()
            .with(Slot::NackResponder, NackResponderBuilder::new().with_size(1_024).build())
            .with(RTX_DECAP_SLOT, RtxDecap::default())
            .with(
                Slot::NackGenerator,
                NackGeneratorBuilder::new()
                    .with_interval(std::time::Duration::from_millis(20))
                    .with_max_nacks_per_packet(10)
                    .build(),
            )
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
            .with(RTCP_TAP_SLOT, RtcpTap::default());
        let settings = SettingEngineBuilder::new()
            .with_answering_dtls_role(RTCDtlsRole::Client)
            .with_include_loopback_candidate(true)
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .build();
        let builder = PeerConnectionBuilder::new();
        let builder = match tcp {
            true => builder.with_tcp_addrs(vec!["127.0.0.1:0"]),
            false => builder.with_udp_addrs(vec!["127.0.0.1:0"]),
        };
        let pc = builder
            .with_media_engine(media_engine(pictures))
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler { inbox: inbox.clone() }))
            .build()
            .await
            .expect("a connection");
        let pc: Arc<dyn PeerConnection> = Arc::new(pc);
        let options =
            RTCDataChannelInit { ordered: false, max_retransmits: Some(0), negotiated: Some(1), ..Default::default() };
        let channel = pc.create_data_channel(POINTER_CHANNEL, Some(options)).await.expect("a channel");
        let (events, to) = (channel.clone(), inbox.clone());
        tokio::spawn(async move {
            while let Some(event) = events.poll().await {
                let mut inbox = to.lock().expect("inbox");
                match event {
                    DataChannelEvent::OnOpen => inbox.channel_open = true,
                    DataChannelEvent::OnMessage(message) => {
                        inbox.messages.push(String::from_utf8_lossy(&message.data).into_owned());
                    }
                    _ => {}
                }
            }
        });
        Self { pc, inbox, sending: Vec::new(), channel, tcp: false }
    }

    /// Answers an offer. On the first one the own tracks are attached, in the order of `offer.uplink`.
    pub async fn answer(&mut self, offer: &Offer) -> RtcAnswer {
        let description = RTCSessionDescription::offer(offer.sdp.clone()).expect("an offer");
        self.pc.set_remote_description(description).await.expect("remote description");
        let first = self.sending.is_empty();
        if first {
            for line in &offer.uplink {
                self.attach(&line.info).await;
            }
        }
        let answer = self.pc.create_answer(None).await.expect("an answer");
        self.pc.set_local_description(answer.clone()).await.expect("local description");
        for (sender, sending) in self.pc.get_senders().await.iter().zip(0..) {
            let _ = sending;
            let id = sender.track().track_id().await;
            let parameters = sender.get_parameters().await.expect("parameters");
            let Some(sending) = self.sending.iter_mut().find(|sending| sending.info.track.to_string() == id) else {
                continue;
            };
            let extensions = parameters.rtp_parameters.header_extensions.iter();
            sending.extensions = extensions.map(|extension| (extension.uri.clone(), extension.id as u8)).collect();
        }
        if self.tcp && first {
            // The crate dials the passive candidates that are told it one by one, each time it is told. What it then sends over a
            // newer stream before the check there is answered is nobody's, and lost: one stream, as the glasses have.
            let mut passive: Vec<&str> = offer.sdp.lines().filter(|line| line.contains(" tcptype passive")).collect();
            passive.sort_unstable();
            passive.dedup();
            for line in passive {
                let candidate = line.trim_start_matches("a=").to_owned();
                let init = rtc::peer_connection::transport::RTCIceCandidateInit { candidate, ..Default::default() };
                self.pc.add_ice_candidate(init).await.expect("a candidate");
            }
        }
        RtcAnswer { leg: offer.leg, rev: offer.rev, sdp: answer.sdp, fingerprint_sig: None }
    }

    /// Answers a later offer; the own tracks stay as they are.
    pub async fn answer_again(&self, offer: &Offer) -> RtcAnswer {
        let description = RTCSessionDescription::offer(offer.sdp.clone()).expect("an offer");
        self.pc.set_remote_description(description).await.expect("remote description");
        let answer = self.pc.create_answer(None).await.expect("an answer");
        self.pc.set_local_description(answer.clone()).await.expect("local description");
        RtcAnswer { leg: offer.leg, rev: offer.rev, sdp: answer.sdp, fingerprint_sig: None }
    }

    async fn attach(&mut self, info: &TrackInfo) {
        let ssrc: u32 = rand::random();
        let kind = if info.codec.is_video() { RtpCodecKind::Video } else { RtpCodecKind::Audio };
        let encoding = RTCRtpEncodingParameters {
            codec: codec(info.codec).rtp_codec,
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            active: true,
            ..Default::default()
        };
        let id = info.track.to_string();
        let track = MediaStreamTrack::new("own".into(), id.clone(), id, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        self.pc.add_track(track.clone()).await.expect("a sender");
        let (events, inbox) = (track.clone(), self.inbox.clone());
        tokio::spawn(async move {
            while let Some(TrackLocalEvent::OnRtcpPacket(packets)) = events.poll().await {
                for packet in packets {
                    use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
                    if let Some(wish) = packet.as_any().downcast_ref::<PictureLossIndication>() {
                        inbox.lock().expect("inbox").key_frame_wishes.push(wish.media_ssrc);
                    }
                }
            }
        });
        self.sending.push(Sending { info: info.clone(), track, ssrc, extensions: Vec::new() });
    }

    pub fn sending(&self, info: &TrackInfo) -> &Sending {
        self.sending.iter().find(|sending| sending.info.track == info.track).expect("a sending track")
    }

    /// Sends one packet exactly as told.
    pub async fn send(&self, info: &TrackInfo, seq: u16, timestamp: u32, payload: &[u8], extensions: &[(&str, &[u8])]) {
        let sending = self.sending(info);
        let mut header = rtp::Header {
            version: 2,
            marker: true,
            payload_type: codec(info.codec).payload_type,
            sequence_number: seq,
            timestamp,
            ssrc: sending.ssrc,
            ..Default::default()
        };
        for (uri, value) in extensions {
            let id = sending.extensions.iter().find(|(known, _)| known == uri).expect("an agreed extension").1;
            header.set_extension(id, Bytes::copy_from_slice(value)).expect("an extension");
        }
        let packet = rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        sending.track.write_rtp(packet).await.expect("sent");
    }

    /// Sends one of several packets of a frame.
    pub async fn send_marked(&self, info: &TrackInfo, seq: u16, timestamp: u32, payload: &[u8], marker: bool) {
        let (sending, payload_type) = (self.sending(info), codec(info.codec).payload_type);
        let header = rtp::Header {
            version: 2,
            marker,
            payload_type,
            sequence_number: seq,
            timestamp,
            ssrc: sending.ssrc,
            ..Default::default()
        };
        let packet = rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        sending.track.write_rtp(packet).await.expect("sent");
    }

    /// Tells this client's clock for a track.
    pub async fn tell_clock(&self, info: &TrackInfo, ntp_time: u64, rtp_time: u32) {
        let sending = self.sending(info);
        let report = SenderReport { ssrc: sending.ssrc, ntp_time, rtp_time, ..Default::default() };
        sending.track.write_rtcp(vec![Box::new(report)]).await.expect("sent");
    }

    pub async fn say(&self, text: &str) {
        self.channel.send(BytesMut::from(text)).await.expect("said");
    }

    /// The packets of one track so far.
    pub fn packets(&self, info: &TrackInfo) -> Vec<rtp::Packet> {
        let id = info.track.to_string();
        let inbox = self.inbox.lock().expect("inbox");
        inbox.packets.iter().filter(|got| got.track == id).map(|got| got.packet.clone()).collect()
    }
}
