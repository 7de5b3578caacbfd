//! What is said about media: tracks, offers, answers, links.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::id::{Pseudonym, Signature, TrackId};

/// The start that UDP has over TCP with glasses and archivist. Both work in most places, and the media core keeps the first that
/// answers; TCP makes a picture wait for every lost packet. UDP is through after one check, 200 ms and a round trip; where it is
/// blocked nobody notices the rest.
pub const UDP_FIRST: Duration = Duration::from_millis(500);

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "signal.ts")]
pub enum TrackSource {
    /// The camera.
    Main,
    /// The camera at 320x180, 5 fps, only while watched.
    Preview,
    /// The microphone.
    Voice,
}

/// How a track is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "signal.ts")]
pub enum Codec {
    Vp8,
    H264,
    Opus,
}

impl Codec {
    /// RTP clock rate, Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Vp8 | Codec::H264 => 90_000,
            Codec::Opus => 48_000,
        }
    }

    pub fn is_video(self) -> bool {
        self != Codec::Opus
    }
}

/// A track as its publisher announces it, before the first packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct TrackInfo {
    pub track: TrackId,
    pub source: TrackSource,
    pub codec: Codec,
    /// First RTP time, below 2^31. A publisher with its own clock (glasses) states it; a browser cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rtp_base: Option<u32>,
    /// The publisher's UTC at `rtp_base`, µs since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub start_us: Option<i64>,
    /// Measured server UTC minus publisher UTC, µs; added to the publisher's times to align people.
    #[ts(type = "number")]
    pub clock_offset_us: i64,
    /// Pixels of the encoded picture after rotation; 0 for voices.
    pub width: u16,
    pub height: u16,
}

/// One m-line of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct Line {
    pub mid: String,
    /// Whose track it is; the receiver itself on an uplink line.
    pub owner: Pseudonym,
    pub info: TrackInfo,
}

/// A relay for clients that reach the server by no other way (`RTCIceServer` of browsers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct IceServer {
    pub urls: Vec<String>,
    /// Ends at the time it begins with, seconds since 1970.
    pub username: String,
    pub credential: String,
}

/// The server's offer for one leg. The server always offers; the client answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct Offer {
    /// Names the connection that it is for, by chance: after another `rtc_join` offers may still come of the one that was given up.
    #[serde(default)]
    pub leg: u32,
    /// Rises with each offer on a leg; the answer repeats it.
    pub rev: u32,
    pub sdp: String,
    /// Lines on which the client sends its own tracks, one per announced track.
    pub uplink: Vec<Line>,
    /// Lines on which it receives.
    pub downlink: Vec<Line>,
    /// Relays the client may use besides the candidates in `sdp`; those of the first offer count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<IceServer>>")]
    pub ice_servers: Vec<IceServer>,
}

/// The client's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct RtcAnswer {
    /// As in the offer. An answer for another connection than the one that stands is passed over.
    pub leg: u32,
    pub rev: u32,
    pub sdp: String,
    /// Devices: signature by the device key over "lotse-dtls-v1 <session> <a=fingerprint value>".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub fingerprint_sig: Option<Signature>,
}

/// The words a device signs to bind its DTLS certificate to a session. `fingerprint` as in the SDP, e.g. "sha-256 AB:CD:…".
pub fn fingerprint_text(session: crate::id::SessionId, fingerprint: &str) -> String {
    format!("lotse-dtls-v1 {session} {fingerprint}")
}

/// One leg between a participant and the server, as measured over the last second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "signal.ts")]
pub struct Leg {
    pub who: Pseudonym,
    pub connected: bool,
    /// Round trip, ms; absent until measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rtt_ms: Option<f32>,
    /// Packets lost on the way to the server, percent of the last second.
    pub loss_up_pct: f32,
    /// Packets the participant reported lost, percent.
    pub loss_down_pct: f32,
    pub up_kbps: u32,
    pub down_kbps: u32,
}

/// The label of the unordered, unreliable data channel for pointer and ink.
pub const POINTER_CHANNEL: &str = "pointer";
/// A data channel message above this is dropped, bytes.
pub const MAX_POINTER_BYTES: usize = 1_200;
