//! What can go wrong when the server asks the SFU for something, each with its remedy.
//!
//! Owns: the words. Never: a packet's trouble, which is counted (`counters`) and never returned.
//! Elsewhere: the German sentence and the request id (`lotse-server`).

/// An error of the SFU, grouped by who must act.
#[derive(Debug, thiserror::Error)]
pub enum SfuError {
    /// The caller: the room is not known here.
    #[error("session {0} has no media here. Join it first.")]
    NoRoom(lotse_protocol::id::SessionId),
    /// The caller: the participant has no leg in the room.
    #[error("participant {0} has no media leg in this session. Say rtc_join first.")]
    NoLeg(lotse_protocol::id::Pseudonym),
    /// The caller: nobody publishes this track in the room.
    #[error("track {0} is not published in this session. Take a track from the latest offer.")]
    NoTrack(lotse_protocol::id::TrackId),
    /// The caller: an announcement that cannot be carried.
    #[error("the announced tracks cannot be carried: {why}. Announce at most {MAX_TRACKS} tracks, each with its own id, pictures as VP8 or H.264, voices as Opus.", MAX_TRACKS = crate::MAX_TRACKS)]
    BadTracks { why: String },
    /// The caller: the answer does not belong to the offer that is open.
    #[error("the answer is for offer {answered}, but offer {open} is open. Answer the newest offer.")]
    StaleAnswer { answered: u32, open: u32 },
    /// The caller: the answer's SDP cannot be used.
    #[error(
        "the answer's SDP cannot be used: {why}. Answer with what your WebRTC library made of the offer, unchanged."
    )]
    BadAnswer { why: String },
    /// The caller: a foreign client's offer cannot be read.
    #[error("the offer cannot be taken: {why}")]
    BadOffer { why: String },
    /// The caller: a foreign client's offer is whole, and asks for what we do not do.
    #[error("the offer cannot be taken: {why}")]
    OfferRefused { why: String },
    /// The caller: the room is full.
    #[error("this session already has {0} participants. Ask one to leave, then join again.")]
    RoomFull(usize),
    /// The operator: the socket could not be opened.
    #[error(
        "[media] udp_port = {port}: cannot listen on {bind}: {source}. Choose a free port range (one port per worker) or an address of this machine."
    )]
    Socket { bind: std::net::IpAddr, port: u16, source: std::io::Error },
    /// The operator: the worker could not start.
    #[error("[media] workers: a media worker could not start: {0}. Lower the number of workers or free memory.")]
    Worker(std::io::Error),
    /// The operator: too many commands at once.
    #[error("the media worker has too much to do. Try again in a second; if it stays, raise [media] workers.")]
    Busy,
    /// Us: the worker is gone.
    #[error("the media worker has stopped. Restart lotse-server and tell us what the log says.")]
    Stopped,
    /// Us: the WebRTC core refused something it should not.
    #[error("the WebRTC core refused {what}: {why}. Join again; if it stays, tell us.")]
    Core { what: &'static str, why: String },
}
