//! The SFU: copies the packets of each publisher to those who may see and hear them.
//!
//! Owns: media workers (OS threads with their own UDP socket), the rooms pinned to them, every WebRTC leg.
//! Never: decodes media, changes a timestamp, knows cases, accounts or payloads, speaks HTTP.
//! Elsewhere: who may join and when the gate opens (`lotse-server`), files (the archivist).
//!
//! Read `worker` (the loop), `room` (who gets what) and `leg` (one WebRTC connection) first.

mod error;

use std::net::IpAddr;

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Leg, Offer, RtcAnswer, TrackInfo};
use tokio::sync::mpsc;

pub use error::SfuError;

/// Tracks one participant may announce.
pub const MAX_TRACKS: usize = 8;
/// Participants of one room.
pub const MAX_LEGS: usize = 128;
/// Events waiting for the server. When full, the worker keeps them and tries again on its next turn.
pub const EVENT_QUEUE: usize = 1_024;

/// Where the SFU listens and what it tells clients.
#[derive(Debug, Clone)]
pub struct SfuConfig {
    /// Address the sockets are bound to.
    pub bind: IpAddr,
    /// Address written into offers.
    pub public_ip: IpAddr,
    /// Port of worker 0; worker n uses this plus n. 0 lets the system choose.
    pub udp_port: u16,
    /// Number of worker threads. 0: one per core.
    pub workers: usize,
}

/// Who is at the other end of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegKind {
    /// A human with glasses or a browser: hears the loudest three.
    Person,
    /// The archivist: gets every voice, is never heard and gets no pointer.
    Archivist,
}

/// What the SFU tells the server.
#[derive(Debug, Clone)]
pub enum SfuEvent {
    /// Hand this offer to the participant; it answers by `Sfu::answer`.
    Offer { room: SessionId, who: Pseudonym, offer: Offer },
    /// A key frame of `who`'s track is wanted (also sent to the publisher as RTCP PLI).
    KeyFrame { room: SessionId, who: Pseudonym, track: TrackId },
    /// The first watcher of `who`'s track came (`on`) or the last one went.
    Watched { room: SessionId, who: Pseudonym, track: TrackId, on: bool },
    /// The leg is up: ICE, DTLS and SRTP are done.
    Connected { room: SessionId, who: Pseudonym },
    /// The leg is gone. `timeout`: 5 s without a valid packet; `dtls`: the handshake failed; `replaced`: joined again;
    /// `bye`: the client closed it.
    Closed { room: SessionId, who: Pseudonym, reason: &'static str },
}

/// Sums since start, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Datagrams that belonged to no leg or were no valid STUN, DTLS or SRTP.
    pub drops_in: u64,
    /// Datagrams the socket did not take.
    pub drops_out: u64,
    /// CPU time of each worker's thread, µs.
    pub cpu_us: Vec<u64>,
}

/// A handle on the running SFU. Clones are the same SFU; when the last one is dropped the workers stop.
#[derive(Clone)]
pub struct Sfu {}

/// Opens the sockets and starts the workers.
pub fn start(_config: SfuConfig) -> Result<(Sfu, mpsc::Receiver<SfuEvent>), SfuError> {
    let (_events, receiver) = mpsc::channel(EVENT_QUEUE);
    Ok((Sfu {}, receiver))
}

impl Sfu {
    /// The port of each worker.
    pub fn udp_ports(&self) -> Vec<u16> {
        Vec::new()
    }

    /// Makes a leg, closed by its gate; an older leg of the same participant is replaced. An `SfuEvent::Offer` follows.
    pub async fn join(
        &self,
        room: SessionId,
        who: Pseudonym,
        kind: LegKind,
        publish: Vec<TrackInfo>,
    ) -> Result<(), SfuError> {
        let _ = (room, who, kind, publish);
        Err(SfuError::Stopped)
    }

    /// Takes the client's answer to the newest offer.
    pub async fn answer(&self, room: SessionId, who: Pseudonym, answer: RtcAnswer) -> Result<(), SfuError> {
        let _ = (room, who, answer);
        Err(SfuError::Stopped)
    }

    /// Says whether `who` wants to get this track. Mains and voices are wanted from the start, previews are not.
    pub async fn watch(&self, room: SessionId, who: Pseudonym, track: TrackId, on: bool) -> Result<(), SfuError> {
        let _ = (room, who, track, on);
        Err(SfuError::Stopped)
    }

    /// Opens or closes the gate of a participant: nothing flows to or from a closed one. May be said before `join`;
    /// a leg that replaces another keeps its gate.
    pub async fn gate(&self, room: SessionId, who: Pseudonym, open: bool) {
        let _ = (room, who, open);
    }

    /// Ends a leg and forgets its gate.
    pub async fn leave(&self, room: SessionId, who: Pseudonym) {
        let _ = (room, who);
    }

    /// Ends all legs of a room.
    pub async fn close_room(&self, room: SessionId) {
        let _ = room;
    }

    /// The legs of a room as measured over the last second, in order of pseudonym.
    pub async fn legs(&self, room: SessionId) -> Vec<Leg> {
        let _ = room;
        Vec::new()
    }

    /// Sums since start.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
}
