//! The leg of a foreign client, which offers instead of answering: WHIP (it publishes) and WHEP (it watches).
//!
//! Owns: making the leg from the offer. Its lines are agreed once; what a watching line carries changes later without a word to
//! the client. Never: takes part in our own offers (`Leg::negotiate` returns none for it).
//! Elsewhere: reading the offer (`offer`), which tracks it gets (`room::one_of_each`).

use std::time::Instant;

use lotse_protocol::id::TrackId;
use lotse_protocol::signal::{Codec, TrackInfo, TrackSource};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use uuid::Uuid;

use super::Leg;
use crate::answer;
use crate::engine::{self, Abilities, Engine, core};
use crate::offer::{self, Line};
use crate::publisher::Uplink;
use crate::srtp::Profile;
use crate::subscriber::{Choice, Downlink};
use crate::{Gateway, LegKind, SfuError, Way, random_text, tcp};

impl Leg {
    /// The leg and the SDP answer.
    pub(crate) fn from_offer(
        engine: &Engine,
        now: Instant,
        place: (usize, u64),
        gateway: &Gateway,
    ) -> Result<(Self, String), SfuError> {
        let publishes = gateway.way == Way::Publish;
        let offered = offer::read(&gateway.sdp, publishes)?;
        let picture = offered.lines.iter().find(|line| line.video);
        let pictures = match picture {
            // A publisher may change between codecs we accept; a track has one.
            Some(line) if publishes => &line.codecs[..1],
            Some(line) => &line.codecs,
            None => &[],
        };
        let (ufrag, password) = (tcp::ufrag(engine.worker), random_text(24));
        let abilities =
            Abilities { profile: Profile::Cm, pictures, publishes_video: publishes && picture.is_some(), publishes };
        let (connection, tap) = engine.connection(now, (&ufrag, &password), abilities)?;
        let made = (connection, tap, Profile::Cm);
        let mut leg = Self::around(made, (ufrag, password), now, place, (gateway.who, LegKind::Gateway));
        match gateway.way {
            Way::Publish => leg.take_uplinks(&offered.lines)?,
            Way::Watch { first } => {
                leg.prefers = Some(first);
                leg.take_downlinks(&offered.lines)?;
            }
        }
        let refused = |e: rtc::shared::error::Error| SfuError::BadOffer { why: format!("{e}.") };
        let description = RTCSessionDescription::offer(offered.sdp).map_err(refused)?;
        leg.connection.set_remote_description(now, description).map_err(refused)?;
        let answer = leg.connection.create_answer(None).map_err(refused)?;
        leg.connection.set_local_description(now, answer.clone()).map_err(refused)?;
        let sdp = leg.connection.local_description().map_or(answer.sdp, |described| described.sdp);
        leg.learn(&sdp, &offered.lines)?;
        leg.answered = Some(now);
        Ok((leg, sdp))
    }

    fn take_uplinks(&mut self, lines: &[Line]) -> Result<(), SfuError> {
        for line in lines {
            let info = TrackInfo {
                track: TrackId(Uuid::new_v4()),
                source: if line.video { TrackSource::Main } else { TrackSource::Voice },
                codec: line.codecs[0],
                rtp_base: None,
                start_us: None,
                clock_offset_us: 0,
                width: 0,
                height: 0,
            };
            let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            let kind = engine::kind(info.codec);
            let id = self.connection.add_transceiver_from_kind(kind, Some(init)).map_err(core("a line"))?;
            self.uplinks.push(Uplink { ssrc: Some(line.ssrc), ..Uplink::new(info, id) });
        }
        Ok(())
    }

    fn take_downlinks(&mut self, lines: &[Line]) -> Result<(), SfuError> {
        for line in lines {
            let name = if line.video { "picture" } else { "voice" };
            let made = self.new_line(name.into(), line.codecs[0])?;
            let Some(downlink) = made else {
                return Err(SfuError::OfferRefused { why: "a line has no codec of ours.".into() });
            };
            self.downlinks.push(downlink);
        }
        Ok(())
    }

    /// What the answer agreed to: numbers of payloads and header extensions.
    fn learn(&mut self, sdp: &str, lines: &[Line]) -> Result<(), SfuError> {
        for (at, line) in lines.iter().enumerate() {
            let agreed = offer::agreed(sdp, &line.mid);
            if agreed.is_empty() {
                return Err(SfuError::OfferRefused { why: "a line could not be agreed. Offer VP8 and Opus.".into() });
            }
            let marked = format!("a=mid:{}", line.mid);
            let section = sdp.split("\nm=").skip(1).find(|section| section.lines().any(|l| l.trim_end() == marked));
            let attributes: Vec<&str> = section.unwrap_or_default().lines().map(str::trim_end).collect();
            let extensions = answer::extensions(&attributes);
            if let Some(uplink) = self.uplinks.get_mut(at) {
                uplink.extensions = extensions;
            }
            if let Some(downlink) = self.downlinks.get_mut(at) {
                let choice = |(codec, payload_type, repair_type)| Choice { codec, payload_type, repair_type };
                downlink.choices = agreed.into_iter().map(choice).collect();
                (downlink.extensions, downlink.idle) = (extensions, true);
            }
        }
        Ok(())
    }

    /// Puts the tracks wanted on lines that are free and can carry them.
    pub(super) fn fill(&mut self) {
        for want in self.wants.clone() {
            if self.downlinks.iter().any(|line| line.assigned.as_ref() == Some(&want)) {
                continue;
            }
            let choice = |line: &Downlink, codec: Codec| line.choices.iter().find(|c| c.codec == codec).copied();
            let free = |line: &&mut Downlink| line.assigned.is_none() && choice(line, want.info.codec).is_some();
            let Some(line) = self.downlinks.iter_mut().find(free) else { continue };
            let Some(choice) = choice(line, want.info.codec) else { continue };
            (line.codec, line.payload_type, line.repair_type) = (choice.codec, choice.payload_type, choice.repair_type);
            line.assigned = Some(want);
            line.live = true;
            line.restart();
        }
        self.stale = false;
    }
}
