//! What every leg can do: codecs, header extensions, transport settings.
//!
//! Owns: payload types and extension addresses we offer. Never: holds the state of a leg.
//! Elsewhere: the lines of one leg (`leg`), the interceptors (`interceptor`).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use lotse_protocol::signal::Codec;
use rtc::crypto::{RTCCryptoProvider, SignatureScheme};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
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

use crate::{SfuError, interceptor, keytap::KeyTap};

/// Header extensions we carry, by address.
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(crate) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(crate) const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
pub(crate) const ORIENTATION: &str = "urn:3gpp:video-orientation";
pub(crate) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Extensions copied from a publisher to its subscribers, unread.
pub(crate) const FORWARDED: [&str; 4] = [CAPTURE_TIME, AUDIO_LEVEL, ORIENTATION, PLAYOUT_DELAY];

/// Shared by all legs of a worker.
pub(crate) struct Engine {
    /// Address written into offers.
    pub(crate) public: SocketAddr,
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
            rtcp_feedback: vec![feedback("transport-cc", "")],
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

fn media_engine() -> Result<MediaEngine, SfuError> {
    let refused = || core("a codec or header extension");
    let mut engine = MediaEngine::default();
    for codec in [Codec::Vp8, Codec::H264] {
        engine.register_codec(codec_parameters(codec), RtpCodecKind::Video).map_err(refused())?;
        engine.register_codec(repair_parameters(codec), RtpCodecKind::Video).map_err(refused())?;
    }
    engine.register_codec(codec_parameters(Codec::Opus), RtpCodecKind::Audio).map_err(refused())?;
    let both = [RtpCodecKind::Audio, RtpCodecKind::Video];
    let up = Some(RTCRtpTransceiverDirection::Recvonly);
    let extensions: [(&str, &[RtpCodecKind], _); 6] = [
        (MID, &both, None),
        (TRANSPORT_CC, &both, up),
        (CAPTURE_TIME, &both, None),
        (AUDIO_LEVEL, &both[..1], None),
        (ORIENTATION, &both[1..], None),
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
    pub(crate) fn new(public: SocketAddr, crypto: Arc<dyn RTCCryptoProvider>, certificate: RTCCertificate) -> Self {
        Self { public, crypto, certificate }
    }

    /// A connection of our side, and what shows its sending key: ICE-lite on the worker's socket, passive in DTLS.
    pub(crate) fn connection(
        &self,
        now: Instant,
        ufrag: &str,
        password: &str,
        publishes_video: bool,
        publishes: bool,
    ) -> Result<(RTCPeerConnection, Arc<KeyTap>), SfuError> {
        let tap = Arc::new(KeyTap::new(self.crypto.clone()));
        let settings = SettingEngineBuilder::new()
            .with_lite(true)
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_credentials(ufrag.to_owned(), password.to_owned())
            .with_include_loopback_candidate(true)
            // Alone, because the client's order would decide: browsers name the slower AES-CM with SHA-1 first.
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_crypto_provider(tap.clone())
            .build();
        let configuration = RTCConfigurationBuilder::new().with_certificates(vec![self.certificate.clone()]).build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(media_engine()?)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptor::registry(publishes_video, publishes))
            .build(now)
            .map_err(core("a connection"))?;
        let candidate = format!("candidate:1 1 udp 2130706431 {} {} typ host", self.public.ip(), self.public.port());
        for candidate in [candidate, String::new()] {
            let init = RTCIceCandidateInit { candidate, ..Default::default() };
            connection.add_local_candidate(init).map_err(core("its own address"))?;
        }
        Ok((connection, tap))
    }
}
