//! One WebRTC connection between a participant and the server.
//!
//! Owns: the connection, its lines, its offers and answers (never a second offer before the answer).
//! Never: decides who may get what. Elsewhere: that decision (`room`), sockets (`worker`), copying packets (`forward`),
//! legs whose client offers (`gateway`).

mod gateway;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lotse_protocol::id::Pseudonym;
use lotse_protocol::signal::{Codec, Leg as LegState, Line, Offer, POINTER_CHANNEL, RtcAnswer, TrackInfo, TrackSource};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_RTX;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use crate::budget::Budget;
use crate::engine::{self, Abilities, Engine, core};
use crate::history::REPAIRS_PER_SECOND;
use crate::keytap::KeyTap;
use crate::path::Path;
use crate::publisher::Uplink;
use crate::srtp::{Profile, Sealer};
use crate::subscriber::{Assignment, Downlink};
use crate::{LegKind, MAX_TRACKS, SfuError, answer, pointer, tcp};

/// The `pointer` channel's stream, agreed without a message.
const POINTER_STREAM: u16 = 1;
/// Silence after which a leg is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// The same of a foreign client that only listens: it may report every 7.5 s (RFC 3550, 6.2) and check every 6 s (RFC 7675, 5.1), and one of
/// them may be lost.
const LISTENERS_SILENCE: Duration = Duration::from_secs(16);
/// A connection may take this long from its answer to a finished handshake: slow links repeat parts of it.
const CONNECTING: Duration = Duration::from_secs(15);
/// An offer may stay unanswered this long.
const UNANSWERED: Duration = Duration::from_secs(60);

/// Sums of the running second.
#[derive(Debug, Default)]
pub(crate) struct Second {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// A packet of the worker's burst that this leg gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// Its place in the burst.
    pub(crate) packet: usize,
    /// The line it goes out on.
    pub(crate) line: usize,
    /// Its number on this line.
    pub(crate) number: u16,
    /// Asked for again.
    pub(crate) repair: bool,
}

/// See the module.
pub(crate) struct Leg {
    /// Never used twice in a worker, unlike the place of a leg.
    pub(crate) serial: u64,
    /// Its name in offers and answers.
    name: u32,
    /// The room's place in the worker.
    pub(crate) room: usize,
    pub(crate) who: Pseudonym,
    pub(crate) kind: LegKind,
    /// The gate, copied from the room for the packet path.
    pub(crate) open: bool,
    pub(crate) connection: RTCPeerConnection,
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) uplinks: Vec<Uplink>,
    pub(crate) downlinks: Vec<Downlink>,
    /// `None`: a gateway has no pointer.
    pub(crate) channel: Option<RTCDataChannelId>,
    pub(crate) channel_open: bool,
    pub(crate) pointer_budget: Budget,
    pub(crate) repair_budget: Budget,
    tap: Arc<KeyTap>,
    profile: Profile,
    /// A gateway watches this participant before others.
    pub(crate) prefers: Option<Pseudonym>,
    /// Present once the handshake is done.
    pub(crate) sealer: Option<Sealer>,
    pub(crate) path: Path,
    /// Forwarded packets that go out before this turn ends.
    pub(crate) due: Vec<Due>,
    pub(crate) connected: bool,
    pub(crate) last_valid: Instant,
    /// When the connection wants to be called.
    pub(crate) deadline: Option<Instant>,
    /// Waits in the worker's list of legs with something to say.
    pub(crate) queued: bool,
    /// Its connection has to be asked what it has to say, not only `due` be sent.
    pub(crate) polled: bool,
    pub(crate) second: Second,
    pub(crate) state: LegState,
    wants: Vec<Assignment>,
    /// The lines no longer match the wishes: an offer is due.
    stale: bool,
    rev: u32,
    offer_open: bool,
    answered: Option<Instant>,
    created: Instant,
    /// Lines of the open offer, in order.
    mids: Vec<String>,
    /// Codecs the client has not agreed to.
    refused: Vec<Codec>,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// Downlinks that have begun to flow.
    pub(crate) started: Vec<usize>,
}

/// Did this line carry that track last?
fn carried(line: &Downlink, want: &Assignment) -> bool {
    line.last.as_ref().is_some_and(|last| last.owner == want.owner && last.info.track == want.info.track)
}

impl Leg {
    pub(crate) fn new(
        engine: &Engine,
        now: Instant,
        (room, serial): (usize, u64),
        (who, kind): (Pseudonym, LegKind),
        publish: Vec<TrackInfo>,
    ) -> Result<Self, SfuError> {
        check(&publish)?;
        let (ufrag, password) = (tcp::ufrag(engine.worker), crate::random_text(24));
        let abilities = Abilities {
            profile: Profile::Gcm,
            pictures: &engine::PICTURES,
            publishes_video: publish.iter().any(|track| track.codec.is_video()),
            publishes: !publish.is_empty(),
        };
        let (mut connection, tap) = engine.connection(now, (&ufrag, &password), abilities)?;
        let mut uplinks = Vec::with_capacity(publish.len());
        for info in publish {
            let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            let id =
                connection.add_transceiver_from_kind(engine::kind(info.codec), Some(init)).map_err(core("a line"))?;
            prefer(&mut connection, id, info.codec)?;
            uplinks.push(Uplink::new(info, id));
        }
        let init = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            negotiated: Some(POINTER_STREAM),
            ..Default::default()
        };
        let channel =
            connection.create_data_channel(POINTER_CHANNEL, Some(init)).map_err(core("the pointer channel"))?.id();
        let mut leg =
            Self::around((connection, tap, Profile::Gcm), (ufrag, password), now, (room, serial), (who, kind));
        (leg.uplinks, leg.channel, leg.stale) = (uplinks, Some(channel), true);
        Ok(leg)
    }

    /// A leg around a connection, with no line yet.
    fn around(
        (connection, tap, profile): (RTCPeerConnection, Arc<KeyTap>, Profile),
        (ufrag, password): (String, String),
        now: Instant,
        (room, serial): (usize, u64),
        (who, kind): (Pseudonym, LegKind),
    ) -> Self {
        Self {
            serial,
            name: rand::random(),
            room,
            who,
            kind,
            open: false,
            connection,
            ufrag,
            password,
            uplinks: Vec::new(),
            downlinks: Vec::new(),
            channel: None,
            channel_open: false,
            pointer_budget: Budget::new(pointer::PER_SECOND),
            repair_budget: Budget::new(REPAIRS_PER_SECOND),
            tap,
            profile,
            prefers: None,
            sealer: None,
            path: Path::default(),
            due: Vec::new(),
            connected: false,
            last_valid: now,
            deadline: None,
            queued: false,
            polled: false,
            second: Second::default(),
            state: LegState {
                who,
                connected: false,
                rtt_ms: None,
                loss_up_pct: 0.0,
                loss_down_pct: 0.0,
                up_kbps: 0,
                down_kbps: 0,
            },
            wants: Vec::new(),
            stale: false,
            rev: 0,
            offer_open: false,
            answered: None,
            created: now,
            mids: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Takes the tracks this leg shall get. What it shall not get any more stops at once; the rest follows by offer.
    pub(crate) fn set_wants(&mut self, wants: Vec<Assignment>) {
        for line in &mut self.downlinks {
            if line.assigned.as_ref().is_some_and(|assigned| !wants.contains(assigned)) {
                line.unassign();
                self.stale = true;
            }
        }
        for want in &wants {
            let has = self.downlinks.iter().any(|line| line.assigned.as_ref() == Some(want));
            if !has && !self.refused.contains(&want.info.codec) {
                self.stale = true;
            }
        }
        self.wants = wants;
    }

    pub(crate) fn wants(&self, owner: Pseudonym, track: &TrackInfo) -> bool {
        self.wants.iter().any(|want| want.owner == owner && want.info.track == track.track)
    }

    /// The next offer, if one is due and none is open.
    pub(crate) fn negotiate(&mut self, now: Instant) -> Result<Option<Offer>, SfuError> {
        if self.kind == LegKind::Gateway {
            self.fill();
            return Ok(None);
        }
        if !self.stale || self.offer_open {
            return Ok(None);
        }
        self.assign()?;
        for at in 0..self.downlinks.len() {
            let line = &self.downlinks[at];
            let direction = match line.assigned {
                Some(_) => RTCRtpTransceiverDirection::Sendonly,
                None => RTCRtpTransceiverDirection::Inactive,
            };
            if let Some(mut transceiver) = self.connection.rtp_transceiver(line.transceiver) {
                transceiver.set_direction(direction);
            }
            let line = &mut self.downlinks[at];
            line.offered = line.assigned.is_some();
            if line.offered {
                line.offered_at.get_or_insert(now);
            }
        }
        let offer = self.connection.create_offer(None).map_err(core("an offer"))?;
        self.connection.set_local_description(now, offer.clone()).map_err(core("its own offer"))?;
        let sdp = self.connection.local_description().map_or(offer.sdp, |described| described.sdp);
        self.mids =
            sdp.lines().filter_map(|line| line.strip_prefix("a=mid:")).map(|mid| mid.trim().to_owned()).collect();
        self.rev += 1;
        (self.stale, self.offer_open) = (false, true);
        let mut offer = Offer {
            leg: self.name,
            rev: self.rev,
            sdp,
            uplink: Vec::new(),
            downlink: Vec::new(),
            ice_servers: Vec::new(),
        };
        for uplink in &self.uplinks {
            let mid = mid(&mut self.connection, uplink.transceiver);
            offer.uplink.push(Line { mid, owner: self.who, info: uplink.info.clone() });
        }
        for line in &self.downlinks {
            if let Some(assigned) = &line.assigned {
                let mid = mid(&mut self.connection, line.transceiver);
                offer.downlink.push(Line { mid, owner: assigned.owner, info: assigned.info.clone() });
            }
        }
        Ok(Some(offer))
    }

    /// Finds or makes a line for each track wanted.
    fn assign(&mut self) -> Result<(), SfuError> {
        for want in self.wants.clone() {
            if self.downlinks.iter().any(|line| line.assigned.as_ref() == Some(&want)) {
                continue;
            }
            let fits = |line: &Downlink| {
                line.assigned.is_none() && line.codec == want.info.codec && (line.idle || carried(line, &want))
            };
            // A track that was announced again with other figures goes on where it was: browsers take no offer that names it on two lines.
            let same = self.downlinks.iter().position(|line| fits(line) && carried(line, &want));
            let at = same.or_else(|| self.downlinks.iter().position(fits));
            let track = want.info.track.to_string();
            let at = match at {
                Some(at) => {
                    let line = &self.downlinks[at];
                    let track = engine::sending_track(track, line.codec, line.ssrc, line.repair);
                    let id = line.transceiver;
                    if let Some(mut transceiver) = self.connection.rtp_transceiver(id) {
                        transceiver.set_direction(RTCRtpTransceiverDirection::Sendonly);
                    }
                    if let Some(mut sender) = self.connection.rtp_sender(RTCRtpSenderId::from(id)) {
                        sender.replace_track(track).map_err(core("a track"))?;
                    }
                    at
                }
                // What the client's first answer left out can never be offered to it again: it goes without this track.
                None if self.refused.contains(&want.info.codec) => continue,
                None => match self.new_line(track, want.info.codec)? {
                    Some(line) => {
                        self.downlinks.push(line);
                        self.downlinks.len() - 1
                    }
                    None => {
                        self.refused.push(want.info.codec);
                        continue;
                    }
                },
            };
            let line = &mut self.downlinks[at];
            line.idle = false;
            line.assigned = Some(want);
        }
        Ok(())
    }

    /// A fresh line, or `None` if the client cannot have this codec.
    fn new_line(&mut self, track: String, codec: Codec) -> Result<Option<Downlink>, SfuError> {
        let ssrc = self.fresh_ssrc();
        let repair = codec.is_video().then(|| self.fresh_ssrc()).map(|r| if r == ssrc { r.wrapping_add(1) } else { r });
        let track = engine::sending_track(track, codec, ssrc, repair);
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        let id = match self.connection.add_transceiver_from_track(track, Some(init)) {
            Err(rtc::shared::error::Error::ErrRTPTransceiverCodecUnsupported) => return Ok(None),
            made => made.map_err(core("a line"))?,
        };
        prefer(&mut self.connection, id, codec)?;
        Ok(Some(Downlink::new(id, codec, ssrc, repair)))
    }

    fn fresh_ssrc(&self) -> u32 {
        loop {
            let ssrc: u32 = rand::random();
            let taken = |line: &Downlink| line.ssrc == ssrc || line.repair == Some(ssrc);
            if ssrc != 0 && !self.downlinks.iter().any(taken) {
                return ssrc;
            }
        }
    }

    /// Takes the client's answer to the open offer.
    pub(crate) fn answer(&mut self, now: Instant, answer: RtcAnswer) -> Result<Answered, SfuError> {
        if answer.leg != self.name {
            tracing::debug!(who = %self.who, "an answer for a connection that was given up");
            return Ok(Answered::default());
        }
        if !self.offer_open || answer.rev != self.rev {
            return Err(SfuError::StaleAnswer { answered: answer.rev, open: self.rev });
        }
        let lines = answer::parse(&answer.sdp, &self.mids)?;
        let bad = |e: rtc::shared::error::Error| SfuError::BadAnswer { why: e.to_string() };
        let description = RTCSessionDescription::answer(answer.sdp).map_err(bad)?;
        let applied = self.connection.set_remote_description(now, description).map_err(bad);
        self.offer_open = self.connection.pending_local_description().is_some();
        applied?;
        if self.answered.is_none() {
            (self.answered, self.last_valid) = (Some(now), now);
        }
        let mut answered = Answered::default();
        for uplink in &mut self.uplinks {
            let mid = mid(&mut self.connection, uplink.transceiver);
            if let Some(line) = lines.iter().find(|line| line.mid == mid) {
                uplink.ssrc = line.ssrc.filter(|_| line.sends);
                uplink.extensions = line.extensions;
            }
        }
        for (at, downlink) in self.downlinks.iter_mut().enumerate() {
            let mid = mid(&mut self.connection, downlink.transceiver);
            let line = lines.iter().find(|line| line.mid == mid);
            let receives = line.is_some_and(|line| line.receives);
            if downlink.assigned.is_none() {
                // What counts is what was offered: some clients answer an inactive line with the direction it had.
                downlink.idle = !downlink.offered;
                continue;
            }
            if let Some(line) = line {
                downlink.extensions = line.extensions;
            }
            if let Some(mut sender) = self.connection.rtp_sender(RTCRtpSenderId::from(downlink.transceiver)) {
                let mime = engine::codec_parameters(downlink.codec).rtp_codec.mime_type;
                let agreed = &sender.get_parameters().rtp_parameters.codecs;
                let of = |mime: &str, fmtp: &str| {
                    let is = |codec: &&RTCRtpCodecParameters| {
                        codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime)
                            && codec.rtp_codec.sdp_fmtp_line.contains(fmtp)
                    };
                    agreed.iter().find(is).map(|codec| codec.payload_type)
                };
                downlink.payload_type = of(&mime, "").unwrap_or(0);
                downlink.repair_type = of(MIME_TYPE_RTX, &format!("apt={}", downlink.payload_type));
            }
            let live = receives && downlink.payload_type != 0;
            if live && !downlink.live {
                downlink.restart();
                answered.started.push(at);
            }
            downlink.live = live;
        }
        Ok(answered)
    }

    /// The handshake is done: from now on packets can be sealed. False: the core has not shown its key.
    pub(crate) fn on_handshake(&mut self, engine: &Engine) -> bool {
        let sealer = self.tap.take().and_then(|key| Sealer::new(engine.crypto.crypto(), self.profile, &key).ok());
        self.sealer = sealer.or(self.sealer.take());
        self.sealer.is_some()
    }

    /// Why the leg has to go, if so.
    pub(crate) fn gone(&self, now: Instant) -> Option<&'static str> {
        // The core tells nobody of a client's goodbye (DTLS close_notify) while ICE still stands.
        let farewell = |sctp: rtc::peer_connection::transport::RTCSctpTransport<'_>| {
            sctp.transport().state() == RTCDtlsTransportState::Closed
        };
        if self.connected && self.connection.sctp().is_some_and(farewell) {
            return Some("bye");
        }
        match self.answered {
            None => (now >= self.created + UNANSWERED).then_some("timeout"),
            // The core does not tell of a refused handshake; ICE alone would keep such a leg alive for ever.
            Some(answered) if !self.connected => {
                let reached = self.last_valid > answered;
                (now >= answered + CONNECTING).then_some(if reached { "dtls" } else { "timeout" })
            }
            Some(_) => {
                let listens = self.kind == LegKind::Gateway && self.uplinks.is_empty();
                let silence = if listens { LISTENERS_SILENCE } else { SILENCE };
                (now.saturating_duration_since(self.last_valid) > silence).then_some("timeout")
            }
        }
    }

    /// Closes the second: `state` tells of it from now on.
    pub(crate) fn end_second(&mut self, length: Duration) {
        let kbps = |bytes: u64| (bytes as f64 * 8.0 / 1_000.0 / length.as_secs_f64().max(0.001)) as u32;
        let second = std::mem::take(&mut self.second);
        let (mut expected, mut lost) = (0u32, 0u32);
        for uplink in &mut self.uplinks {
            expected += std::mem::take(&mut uplink.meter.expected);
            lost += std::mem::take(&mut uplink.meter.lost);
        }
        let flowing = self.downlinks.iter().filter(|line| line.live);
        let worst = flowing.map(|line| line.fraction_lost).max().unwrap_or(0);
        self.state.connected = self.connected;
        self.state.up_kbps = kbps(second.bytes_in);
        self.state.down_kbps = kbps(second.bytes_out);
        self.state.loss_up_pct = if expected == 0 { 0.0 } else { 100.0 * lost as f32 / expected as f32 };
        self.state.loss_down_pct = f32::from(worst) / 2.56;
    }
}

/// The tracks a participant may announce.
fn check(publish: &[TrackInfo]) -> Result<(), SfuError> {
    let bad = |why: &str| Err(SfuError::BadTracks { why: why.to_owned() });
    if publish.len() > MAX_TRACKS {
        return bad("too many");
    }
    for (at, track) in publish.iter().enumerate() {
        if publish[..at].iter().any(|other| other.track == track.track) {
            return bad("two have the same id");
        }
        if (track.source == TrackSource::Voice) == track.codec.is_video() {
            return bad("the codec does not fit the source");
        }
    }
    Ok(())
}

fn prefer(connection: &mut RTCPeerConnection, id: usize, codec: Codec) -> Result<(), SfuError> {
    let Some(mut transceiver) = connection.rtp_transceiver(id) else {
        return Err(SfuError::Core { what: "a line", why: "it is gone".into() });
    };
    // A client that took only one of our picture codecs is offered that one from then on.
    transceiver
        .set_codec_preferences(engine::line_codecs(codec))
        .or_else(|_| transceiver.set_codec_preferences(vec![engine::codec_parameters(codec)]))
        .map_err(core("a codec"))
}

fn mid(connection: &mut RTCPeerConnection, id: usize) -> String {
    connection.rtp_transceiver(id).and_then(|transceiver| transceiver.mid().clone()).unwrap_or_default()
}
