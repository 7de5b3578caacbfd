//! Glasses of the integration tests: real encoded packets, sent in real time over a real media leg.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use lotse_interceptor::{RTCP_TAP_SLOT, RtcpTap};
use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    id::SessionId,
    signal::{Codec, Offer, RtcAnswer, TrackInfo, fingerprint_text},
};
use rtc::{
    interceptor::{NackResponderBuilder, ReceiverReportBuilder, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::{configuration::media_engine::MediaEngine, transport::RTCDtlsRole},
    rtcp::{payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport},
    rtp,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RtpCodecKind,
    },
};
use webrtc::{
    media_stream::track_local::{TrackLocal, TrackLocalEvent, static_rtp::TrackLocalStaticRTP},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
        RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile,
    },
};

use super::live::{Peer, now_us};

/// Sequence number, RTP time, marker, payload; as `kit::packets` makes them.
pub(crate) type Packets = Vec<(u16, u32, bool, Vec<u8>)>;

struct Watch(Arc<AtomicBool>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Watch {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.0.store(state == RTCPeerConnectionState::Connected, Ordering::Relaxed);
    }
}

pub(crate) struct Publisher {
    connection: Arc<dyn PeerConnection>,
    tracks: Vec<(TrackInfo, Arc<TrackLocalStaticRTP>, u32)>,
    connected: Arc<AtomicBool>,
    /// Requests for key frames that arrived.
    pub(crate) asked: Arc<AtomicU32>,
}

fn codec(codec: Codec) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let (mime_type, clock_rate, channels, fmtp, payload_type) = match codec {
        Codec::Opus => ("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1", 111),
        _ => ("video/VP8", 90_000, 0, "", 96),
    };
    let rtcp_feedback = if codec.is_video() { vec![feedback("nack", ""), feedback("nack", "pli")] } else { vec![] };
    let rtp_codec =
        RTCRtpCodec { mime_type: mime_type.into(), clock_rate, channels, sdp_fmtp_line: fmtp.into(), rtcp_feedback };
    RTCRtpCodecParameters { rtp_codec, payload_type }
}

impl Publisher {
    /// Joins media with these tracks and connects.
    pub(crate) async fn connect(peer: &Peer, session: SessionId, publish: Vec<TrackInfo>) -> Self {
        peer.say(ClientMessage::RtcJoin { case: peer.case.unwrap(), session, publish: publish.clone() });
        let offer = peer
            .until("an offer", |m| match m {
                ServerMessage::RtcOffer { offer, .. } => Some(offer.clone()),
                ServerMessage::Refused { error, .. } => panic!("{error:?}"),
                _ => None,
            })
            .await;
        let mut engine = MediaEngine::default();
        engine.register_codec(codec(Codec::Vp8), RtpCodecKind::Video).unwrap();
        let mut repair = codec(Codec::Vp8);
        repair.payload_type = 97;
        repair.rtp_codec.mime_type = "video/rtx".into();
        repair.rtp_codec.sdp_fmtp_line = "apt=96".into();
        repair.rtp_codec.rtcp_feedback.clear();
        engine.register_codec(repair, RtpCodecKind::Video).unwrap();
        engine.register_codec(codec(Codec::Opus), RtpCodecKind::Audio).unwrap();
        let registry = Registry::new()
            .with(Slot::NackResponder, NackResponderBuilder::new().with_size(1_024).build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
            .with(RTCP_TAP_SLOT, RtcpTap::default());
        let settings = SettingEngineBuilder::new()
            .with_answering_dtls_role(RTCDtlsRole::Client)
            .with_include_loopback_candidate(true)
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .build();
        let connected = Arc::new(AtomicBool::new(false));
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Watch(connected.clone())))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        let mut publisher =
            Self { connection: Arc::new(connection), tracks: Vec::new(), connected, asked: Arc::default() };
        let answer = publisher.answer(peer, session, &offer, true).await;
        peer.say(ClientMessage::RtcAnswer { session, answer });
        for _ in 0..500 {
            if publisher.connected.load(Ordering::Relaxed) {
                return publisher;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the publisher did not connect");
    }

    async fn answer(&mut self, peer: &Peer, session: SessionId, offer: &Offer, first: bool) -> RtcAnswer {
        let remote = RTCSessionDescription::offer(offer.sdp.clone()).unwrap();
        self.connection.set_remote_description(remote).await.unwrap();
        for line in offer.uplink.iter().filter(|_| first) {
            let ssrc: u32 = rand::random();
            let kind = if line.info.codec.is_video() { RtpCodecKind::Video } else { RtpCodecKind::Audio };
            let encoding = RTCRtpEncodingParameters {
                codec: codec(line.info.codec).rtp_codec,
                rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
                active: true,
                ..Default::default()
            };
            let id = line.info.track.to_string();
            let track = MediaStreamTrack::new("own".into(), id.clone(), id, kind, vec![encoding]);
            let track = Arc::new(TrackLocalStaticRTP::new(track));
            self.connection.add_track(track.clone()).await.unwrap();
            let (events, asked) = (track.clone(), self.asked.clone());
            tokio::spawn(async move {
                while let Some(TrackLocalEvent::OnRtcpPacket(packets)) = events.poll().await {
                    let wishes = packets.iter().filter(|p| p.as_any().is::<PictureLossIndication>()).count();
                    asked.fetch_add(wishes as u32, Ordering::Relaxed);
                }
            });
            self.tracks.push((line.info.clone(), track, ssrc));
        }
        let answer = self.connection.create_answer(None).await.unwrap();
        self.connection.set_local_description(answer.clone()).await.unwrap();
        let print = answer.sdp.lines().find_map(|l| l.trim().strip_prefix("a=fingerprint:")).unwrap();
        let sig = lotse_protocol::envelope::sign(&peer.device_key, &fingerprint_text(session, print));
        RtcAnswer { leg: offer.leg, rev: offer.rev, sdp: answer.sdp, fingerprint_sig: Some(sig) }
    }

    /// Sends packets of track `at` at their times, with a sender report each second. Returns at the end.
    pub(crate) fn play(&self, at: usize, packets: Packets, start_us: i64) -> tokio::task::JoinHandle<()> {
        let (info, track, ssrc) = self.tracks[at].clone();
        tokio::spawn(async move {
            let rate = i64::from(info.codec.clock_rate());
            let base = info.rtp_base.unwrap();
            let mut reported = 0;
            for (seq, timestamp, marker, payload) in packets {
                let elapsed_us = i64::from(timestamp.wrapping_sub(base)) * 1_000_000 / rate;
                let wait = start_us + elapsed_us - now_us();
                if wait > 0 {
                    tokio::time::sleep(Duration::from_micros(wait as u64)).await;
                }
                let header = rtp::Header {
                    version: 2,
                    marker,
                    payload_type: if info.codec.is_video() { 96 } else { 111 },
                    sequence_number: seq,
                    timestamp,
                    ssrc,
                    ..Default::default()
                };
                let _ = track.write_rtp(rtp::Packet { header, payload: payload.into() }).await;
                if elapsed_us >= reported {
                    reported += 1_000_000;
                    let us = info.start_us.unwrap() + elapsed_us;
                    let seconds = (us / 1_000_000 + 2_208_988_800) as u64;
                    let fraction = (((us % 1_000_000) as u64) << 32) / 1_000_000;
                    let report = SenderReport {
                        ssrc,
                        ntp_time: seconds << 32 | fraction,
                        rtp_time: timestamp,
                        ..Default::default()
                    };
                    let _ = track.write_rtcp(vec![Box::new(report)]).await;
                }
            }
        })
    }

    pub(crate) async fn close(self) {
        let _ = self.connection.close().await;
    }
}
