//! Two people with voices in a recorded session: what tests of faults begin with and end with.
//!
//! Owns: how they come together, talk, and how the case is checked at its end. Elsewhere: what goes wrong (`faults`, `disk`, `network`).

use lotse_payload::recording::{GapPayload, GapWhy, SegmentPayload};
use lotse_protocol::{
    id::{CaseId, EventId, SessionId},
    kind,
};
use lotse_verify::report::Verdict;
use serde_json::json;

use crate::{Draft, Person, Refusal, World, eventually, live::PATIENCE, media::Leg, person, secs};

/// Two people with voices in a recorded session.
pub struct Recorded {
    pub technician: Person,
    pub expert: Person,
    pub case: CaseId,
    pub session: SessionId,
    pub legs: [Leg; 2],
}

pub async fn recorded(world: &World) -> Recorded {
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    expert.take(case, session).await;
    let mut legs = Vec::new();
    for person in [&technician, &expert] {
        person.answer(case, session, kind::CONSENT_RECORD).await;
        let leg = person.connect_media(case, session, true).await;
        leg.connected().await;
        legs.push(leg);
    }
    Recorded { technician, expert, case, session, legs: legs.try_into().ok().unwrap() }
}

impl Recorded {
    /// Both talk while the story is told.
    pub async fn talking<T>(&self, story: impl Future<Output = T>) -> T {
        let [t, e] = &self.legs;
        tokio::select! {
            () = async { loop { tokio::join!(t.speak(440.0, secs(5)), e.speak(1_000.0, secs(5))); } } => unreachable!(),
            out = story => out,
        }
    }

    /// Each still hears the other.
    pub async fn hear_each_other(&self) {
        let heard = || self.legs.iter().map(Leg::total).collect::<Vec<_>>();
        let before = heard();
        eventually("both still hear the other", PATIENCE, async || {
            heard().iter().zip(&before).all(|(now, before)| *now > before + 50).then_some(())
        })
        .await;
    }

    pub async fn note(&self, text: String) -> Result<EventId, Refusal> {
        let note = Draft::of(kind::MESSAGE).session(self.session).payload(&json!({ "text": text }));
        self.technician.commit(self.case, note).await
    }

    pub async fn segments_after(&self, seen: usize) {
        eventually("recorded fragments", secs(40), async || (self.count(kind::SEGMENT) >= seen + 4).then_some(()))
            .await;
    }

    /// Events of this kind in the log.
    pub fn count(&self, kind: &str) -> usize {
        self.technician.log(self.case).iter().filter(|(f, _)| f.kind == kind).count()
    }

    /// Those of our own that were acknowledged are in the log that the server gives to whoever asks anew.
    pub async fn has_all(&mut self, acknowledged: &[EventId]) {
        self.expert.reconnect().await;
        self.expert.open(self.case, 0).await.unwrap();
        eventually("the whole log", PATIENCE, async || {
            let log = self.expert.log(self.case);
            acknowledged.iter().all(|id| log.iter().any(|(f, _)| f.id == *id)).then_some(())
        })
        .await;
    }

    /// Each voice is recorded or declared missing, all the time from the first fragment to the last. The gaps, longest first; without
    /// the silence at the end, when the story is told and nobody speaks any more.
    pub async fn kept_or_declared(&self) -> Vec<GapPayload> {
        let (mut segments, mut gaps) = (Vec::new(), Vec::new());
        for (fields, sent) in self.technician.log(self.case) {
            match fields.kind.as_str() {
                kind::SEGMENT => {
                    segments.push(self.technician.payload::<SegmentPayload>(self.case, &fields, &sent).await);
                }
                kind::GAP => gaps.push(self.technician.payload::<GapPayload>(self.case, &fields, &sent).await),
                _ => {}
            }
        }
        for person in [&self.technician, &self.expert] {
            let me = person.me(self.case);
            let mut known: Vec<(i64, i64)> = segments
                .iter()
                .filter(|s| s.owner == me)
                .map(|s| (s.start_us, s.end_us))
                .chain(gaps.iter().filter(|g| g.owner == me).map(|g| (g.from_us, g.to_us)))
                .collect();
            known.sort_unstable();
            let mut until = known[0].0;
            for (from, to) in known {
                // Up to half a second is no gap.
                assert!(from - until < 600_000, "{} µs are neither recorded nor declared missing", from - until);
                until = until.max(to);
            }
        }
        let log = self.technician.log(self.case);
        let ended = log.iter().find(|(f, _)| f.kind == kind::SESSION_ENDED).map(|(f, _)| f.captured_at_ms * 1000);
        gaps.retain(|g| g.why != GapWhy::LinkLost || ended.is_none_or(|ended_us| g.to_us < ended_us));
        gaps.sort_by_key(|g| g.from_us - g.to_us);
        gaps
    }

    /// Ends the session; the bundle proves itself.
    pub async fn ends_and_verifies(&self, world: &World) {
        let end = Draft::of(kind::SESSION_ENDED).session(self.session);
        self.technician.commit(self.case, end).await.unwrap();
        let stopped = async || {
            let log = self.technician.log(self.case);
            let count = |kind| log.iter().filter(|(f, _)| f.kind == kind).count();
            (count(kind::RECORDING_STARTED) == count(kind::RECORDING_STOPPED)).then_some(())
        };
        eventually("the recording ends", PATIENCE, stopped).await;
        let bundle = world.person("manager").await.bundle(self.case).await;
        let report = person::verify(&bundle, world.fingerprint(&self.technician));
        assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
        assert!(report.absent.is_empty(), "{:?}", report.absent);
        world.assert_no_panic();
    }
}
