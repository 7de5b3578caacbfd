//! What every leg can do: codecs, header extensions, transport settings.
//!
//! Owns: payload types and extension addresses we offer. Never: holds the state of a leg.
//! Elsewhere: the lines of one leg (`leg`), the interceptors (`interceptor`).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lotse_protocol::signal::Codec;
use rtc::crypto::{RTCCryptoProvider, SignatureScheme};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MediaEngine,
};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};

use crate::{SfuError, interceptor, keytap::KeyTap, path::Route, srtp::Profile};

/// Header extensions we carry, by address.
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(crate) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(crate) const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
pub(crate) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Extensions copied from a publisher to its subscribers, unread. `urn:3gpp:video-orientation` is not agreed on purpose: a phone
/// that may send it leaves its pictures lying and only says how they are turned, which no recording and no decoder of single
/// frames would see. Without it the sender turns the pixels (RFC 7742, section 5).
pub(crate) const FORWARDED: [&str; 3] = [CAPTURE_TIME, AUDIO_LEVEL, PLAYOUT_DELAY];

/// All codecs for pictures, the preferred first.
pub(crate) const PICTURES: [Codec; 2] = [Codec::Vp8, Codec::H264];

/// What one connection can do.
pub(crate) struct Abilities<'a> {
    pub(crate) profile: Profile,
    pub(crate) pictures: &'a [Codec],
    pub(crate) publishes_video: bool,
    pub(crate) publishes: bool,
}

/// Shared by all legs of a worker.
pub(crate) struct Engine {
    /// Which worker this is; stands in each leg's ICE name.
    pub(crate) worker: u8,
    /// Addresses written into offers, the best first.
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    /// What stands for our side of a packet in the core, by address family: the first of each.
    udp_local: [Option<SocketAddr>; 2],
    tcp_local: [Option<SocketAddr>; 2],
    pub(crate) crypto: Arc<dyn RTCCryptoProvider>,
    certificate: RTCCertificate,
}

/// The DTLS certificate of this process; one for all legs, so that no leg has to wait for a key.
pub(crate) fn certificate(crypto: &Arc<dyn RTCCryptoProvider>) -> Result<RTCCertificate, SfuError> {
    let params = CertificateParams::new(vec!["lotse-sfu".to_owned()])
        .map_err(|e| SfuError::Core { what: "a certificate", why: e.to_string() })?;
    RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, params).map_err(core("a certificate"))
}

/// Wraps an error of the core.
pub(crate) fn core<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> SfuError {
    move |e| SfuError::Core { what, why: e.to_string() }
}

pub(crate) fn kind(codec: Codec) -> RtpCodecKind {
    if codec.is_video() { RtpCodecKind::Video } else { RtpCodecKind::Audio }
}

fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Vp8 => 96,
        Codec::H264 => 102,
        Codec::Opus => 111,
    }
}

fn feedback(typ: &str, parameter: &str) -> RTCPFeedback {
    RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() }
}

/// The codec as it stands in our offers.
pub(crate) fn codec_parameters(codec: Codec) -> RTCRtpCodecParameters {
    let video =
        vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir"), feedback("transport-cc", "")];
    let rtp_codec = match codec {
        Codec::Vp8 => RTCRtpCodec {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: video,
        },
        Codec::H264 => RTCRtpCodec {
            mime_type: MIME_TYPE_H264.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
            rtcp_feedback: video,
        },
        Codec::Opus => RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: vec![feedback("nack", ""), feedback("transport-cc", "")],
        },
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: payload_type(codec) }
}

fn repair_parameters(codec: Codec) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_RTX.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: format!("apt={}", payload_type(codec)),
            rtcp_feedback: Vec::new(),
        },
        payload_type: payload_type(codec) + 1,
    }
}

/// The codecs of a line, the track's own first. Pictures always name both: what the first picture line of a leg leaves out
/// could never be offered on that leg again.
pub(crate) fn line_codecs(codec: Codec) -> Vec<RTCRtpCodecParameters> {
    match codec {
        Codec::Vp8 => vec![codec_parameters(Codec::Vp8), codec_parameters(Codec::H264)],
        Codec::H264 => vec![codec_parameters(Codec::H264), codec_parameters(Codec::Vp8)],
        Codec::Opus => vec![codec_parameters(Codec::Opus)],
    }
}

/// A track for sending, in a stream of its own: browsers hold the pictures of a stream back for its voice, and what counts
/// here is the picture as it is now.
pub(crate) fn sending_track(track: String, codec: Codec, ssrc: u32, repair: Option<u32>) -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        codec: codec_parameters(codec).rtp_codec,
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: repair.map(|ssrc| RTCRtpRtxParameters { ssrc }),
            ..Default::default()
        },
        active: true,
        ..Default::default()
    };
    MediaStreamTrack::new(track.clone(), track.clone(), track, kind(codec), vec![encoding])
}

fn media_engine(pictures: &[Codec]) -> Result<MediaEngine, SfuError> {
    let refused = || core("a codec or header extension");
    let mut engine = MediaEngine::default();
    for codec in pictures {
        engine.register_codec(codec_parameters(*codec), RtpCodecKind::Video).map_err(refused())?;
        engine.register_codec(repair_parameters(*codec), RtpCodecKind::Video).map_err(refused())?;
    }
    engine.register_codec(codec_parameters(Codec::Opus), RtpCodecKind::Audio).map_err(refused())?;
    let both = [RtpCodecKind::Audio, RtpCodecKind::Video];
    let up = Some(RTCRtpTransceiverDirection::Recvonly);
    let extensions: [(&str, &[RtpCodecKind], _); 5] = [
        (MID, &both, None),
        (TRANSPORT_CC, &both, up),
        (CAPTURE_TIME, &both, None),
        (AUDIO_LEVEL, &both[..1], None),
        (PLAYOUT_DELAY, &both[1..], None),
    ];
    for (uri, kinds, direction) in extensions {
        for kind in kinds {
            let capability = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
            engine.register_header_extension(capability, *kind, direction).map_err(refused())?;
        }
    }
    Ok(engine)
}

impl Engine {
    pub(crate) fn new(
        worker: u8,
        (udp, tcp): (Vec<SocketAddr>, Vec<SocketAddr>),
        crypto: Arc<dyn RTCCryptoProvider>,
        certificate: RTCCertificate,
    ) -> Self {
        let first = |of: &[SocketAddr]| [true, false].map(|v4| of.iter().copied().find(|a| a.is_ipv4() == v4));
        let (udp_local, tcp_local) = (first(&udp), first(&tcp));
        Self { worker, udp, tcp, udp_local, tcp_local, crypto, certificate }
    }

    /// Our address as the core knows it for a packet from there: it must be one that was offered. All public addresses of
    /// a family lead to the same socket, so which of them was used makes no difference.
    pub(crate) fn local(&self, from: Route) -> SocketAddr {
        let local = match from {
            Route::Udp(peer) => self.udp_local[usize::from(peer.is_ipv6())],
            Route::Tcp(peer) => self.tcp_local[usize::from(peer.is_ipv6())],
        };
        local.unwrap_or(self.udp[0])
    }

    /// A connection of our side, and what shows its sending key: ICE-lite on the worker's socket, passive in DTLS.
    pub(crate) fn connection(
        &self,
        now: Instant,
        (ufrag, password): (&str, &str),
        abilities: Abilities<'_>,
    ) -> Result<(RTCPeerConnection, Arc<KeyTap>), SfuError> {
        let tap = Arc::new(KeyTap::new(self.crypto.clone()));
        let settings = SettingEngineBuilder::new()
            .with_lite(true)
            // `Leg::gone` judges silence. The core counts checks alone, and after 30 s without one gives up a client that keeps its path by media
            // and indications (RFC 8445, 11), as GStreamer does.
            .with_ice_timeouts(Some(Duration::ZERO), Some(Duration::ZERO), None)
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_credentials(ufrag.to_owned(), password.to_owned())
            .with_include_loopback_candidate(true)
            // Alone, because the client's order would decide: browsers name the slower AES-CM with SHA-1 first.
            .with_srtp_protection_profiles(vec![abilities.profile.negotiated()])
            .with_crypto_provider(tap.clone())
            .build();
        let configuration = RTCConfigurationBuilder::new().with_certificates(vec![self.certificate.clone()]).build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(media_engine(abilities.pictures)?)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptor::registry(abilities.publishes_video, abilities.publishes))
            .build(now)
            .map_err(core("a connection"))?;
        for candidate in self.candidates() {
            let init = RTCIceCandidateInit { candidate, ..Default::default() };
            connection.add_local_candidate(init).map_err(core("its own address"))?;
        }
        Ok((connection, tap))
    }

    /// Host candidates, and the empty one that ends the list. UDP comes before TCP (RFC 8445 5.1.2.1, RFC 6544 4.2).
    fn candidates(&self) -> Vec<String> {
        let priority = |preference: u32| (126 << 24) | (preference << 8) | 255;
        let mut list = Vec::new();
        for (n, address) in (0u32..).zip(&self.udp) {
            let (priority, ip, port) = (priority(65_535 - n), address.ip(), address.port());
            list.push(format!("candidate:{} 1 udp {priority} {ip} {port} typ host", n + 1));
        }
        for (n, address) in (0u32..).zip(&self.tcp) {
            // Direction preference 4: passive.
            let (priority, ip, port) = (priority((4 << 13) | (8_191 - n)), address.ip(), address.port());
            list.push(format!("candidate:{} 1 tcp {priority} {ip} {port} typ host tcptype passive", n + 101));
        }
        list.push(String::new());
        list
    }
}
