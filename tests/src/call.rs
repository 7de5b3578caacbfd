//! The glasses' call with one expert in it: what tests, benches and loops with real glasses begin with and end with.
//!
//! Owns: how the call is taken, recorded, ended and proven. Never: what happens in between.
//! Elsewhere: two people without glasses (`recorded`).

use std::time::Duration;

use lotse_payload::{
    annotation::{Annotation, Colour, FrameConfidence, Instruction, Mark},
    geometry::PictureCoord,
};
use lotse_protocol::{
    id::{CaseId, FrameId, Pseudonym, SessionId},
    kind,
    policy::Role,
    signal::TrackSource,
};
use lotse_verify::{Report, report::Verdict};

use crate::{Draft, Glasses, Person, World, eventually, media::Leg, person};

/// A cold start of encoder and call on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What the expert's leg does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Has a voice, and keeps the packets.
    Talks,
    /// Keeps the packets.
    Listens,
    /// Counts the packets only, as one of a crowd.
    Watches,
}

/// The expert in the glasses' call.
pub struct Call {
    pub expert: Person,
    pub case: CaseId,
    pub session: SessionId,
    pub technician: Pseudonym,
    pub leg: Leg,
}

impl Call {
    /// The expert took the waiting call, and the archivist is in it. Nobody has answered.
    pub async fn taken(world: &World, glasses: &Glasses, part: Part) -> Self {
        let expert = world.person("expert").await;
        let waiting = expert.call_waiting(|_| true).await;
        let (case, session) = (waiting.summary.case, waiting.session);
        expert.take(case, session).await;
        let leg = match part {
            Part::Talks => expert.connect_media(case, session, true).await,
            Part::Listens => expert.connect_media(case, session, false).await,
            Part::Watches => expert.watch_media(case, session).await,
        };
        leg.connected().await;
        glasses.shows("consent").await;
        let s = expert.session_is(case, "the archivist comes", |s| s.participants.len() >= 3).await;
        let technician = *s.participants.iter().find(|(_, p)| p.role == Role::Technician).unwrap().0;
        Self { expert, case, session, technician, leg }
    }

    /// Taken and recorded.
    pub async fn recorded(world: &World, glasses: &Glasses, part: Part) -> Self {
        let call = Self::taken(world, glasses, part).await;
        call.both_say_yes(glasses).await;
        call
    }

    /// Both say yes; it is recorded.
    pub async fn both_say_yes(&self, glasses: &Glasses) {
        // Nobody answers as fast as this program: the glasses may not know yet that the archivist is here.
        eventually("the answer is taken", PATIENCE, async || {
            glasses.try_say("YES_RECORD").await.starts_with("ok").then_some(())
        })
        .await;
        self.expert.answer(self.case, self.session, kind::CONSENT_RECORD).await;
        self.expert.event_within(self.case, kind::RECORDING_STARTED, PATIENCE, |_| true).await;
    }

    /// Pictures of the glasses that came so far.
    pub fn pictures(&self) -> usize {
        self.leg.packets(self.technician, TrackSource::Main).iter().filter(|p| p.marker).count()
    }

    /// New pictures come.
    pub async fn sees(&self, within: Duration) {
        let before = self.pictures();
        eventually("the expert sees new pictures", within, async || (self.pictures() > before + 5).then_some(())).await;
    }

    /// An arrow on the glasses' picture of this RTP time.
    pub fn arrow_on(&self, rtp: u64) -> Instruction {
        let info = self.leg.track(self.technician, TrackSource::Main).expect("a picture came");
        let mark =
            Mark::Arrow { tail: PictureCoord { x: 50_000, y: 20_000 }, tip: PictureCoord { x: 32_768, y: 32_768 } };
        Instruction {
            frame: FrameId { track: info.track, rtp },
            confidence: FrameConfidence::Exact,
            width: info.width,
            height: info.height,
            at_ms: person::now_ms(),
            text: "Loosen this first".into(),
            marks: vec![Annotation { mark, colour: Colour::Yellow, width: 600 }],
            replaces: None,
        }
    }

    /// Ends the session, and waits for the end of its recording.
    pub async fn end(&self) {
        self.expert.commit(self.case, Draft::of(kind::SESSION_ENDED).session(self.session)).await.unwrap();
        let ours = |f: &lotse_protocol::envelope::AuthorFields| f.session == Some(self.session);
        self.expert.event_within(self.case, kind::RECORDING_STOPPED, PATIENCE, ours).await;
    }

    /// The manager's bundle of the case, proven.
    pub async fn proven_bundle(&self, world: &World) -> (Vec<u8>, Report) {
        let bundle = world.person("manager").await.bundle(self.case).await;
        let fingerprint = world.server.ready["fingerprint"].as_str().unwrap().parse().unwrap();
        let report = person::verify(&bundle, fingerprint);
        assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
        (bundle, report)
    }
}
