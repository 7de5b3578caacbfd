//! Nothing flows and nothing is kept before people have said so (S30), seen from the wire and from the disk.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotse_protocol::{
    id::{CaseId, SessionId},
    kind,
    policy::Role,
    signal::TrackSource,
};
use lotse_tests::{Draft, Person, World, eventually, media::Leg, secs};

/// A technician who has called, and an expert who has come; nobody has answered.
struct Call {
    world: World,
    technician: Person,
    expert: Person,
    case: CaseId,
    session: SessionId,
}

async fn call(seed: u64, archivist: bool) -> Call {
    let world = if archivist { World::seeded(seed).await } else { World::with_server(seed).await };
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    let waiting = expert.call_waiting(|c| c.session == session).await;
    assert_eq!(waiting.summary.asset.as_deref(), Some("p-204"));
    expert.take(case, session).await;
    if archivist {
        technician
            .session_is(case, "the archivist comes by itself", |s| {
                s.participants.values().any(|p| p.role == Role::Archivist && p.present)
            })
            .await;
    }
    Call { world, technician, expert, case, session }
}

impl Call {
    async fn legs(&self) -> (Leg, Leg) {
        let t = self.technician.connect_media(self.case, self.session, true).await;
        let e = self.expert.connect_media(self.case, self.session, true).await;
        t.connected().await;
        e.connected().await;
        (t, e)
    }

    async fn both_answer(&self, technician: &'static str, expert: &'static str) {
        self.technician.answer(self.case, self.session, technician).await;
        self.expert.answer(self.case, self.session, expert).await;
    }

    fn count(&self, who: &Person, kind: &str) -> usize {
        who.log(self.case).iter().filter(|(f, _)| f.kind == kind).count()
    }
}

/// Both talk for a while.
async fn talk(a: &Leg, b: &Leg, time: Duration) {
    tokio::join!(a.speak(440.0, time), b.speak(1_000.0, time));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_packet_passes_before_both_have_answered() {
    let c = call(1, true).await;
    let (t, e) = c.legs().await;
    talk(&t, &e, secs(2)).await;
    assert_eq!((t.total(), e.total()), (0, 0), "media before any answer");

    // One answer opens nothing to or from the other.
    c.technician.answer(c.case, c.session, kind::CONSENT_RECORD).await;
    talk(&t, &e, secs(2)).await;
    assert_eq!((t.total(), e.total()), (0, 0), "media with one answer");
    assert_eq!(c.world.media_bytes(), 0, "kept before everybody answered");
    assert_eq!(c.count(&c.technician, kind::RECORDING_STARTED), 0);

    c.expert.answer(c.case, c.session, kind::CONSENT_RECORD).await;
    talk(&t, &e, secs(2)).await;
    let (me, other) = (c.technician.me(c.case), c.expert.me(c.case));
    assert!(t.packets(other, TrackSource::Voice).len() > 50, "the technician hears the expert");
    assert!(e.packets(me, TrackSource::Voice).len() > 50, "the expert hears the technician");
    c.technician.event(c.case, kind::RECORDING_STARTED, |_| true).await;
    c.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_recording_keeps_no_voice_and_no_picture() {
    let c = call(2, true).await;
    let (t, e) = c.legs().await;
    c.both_answer(kind::CONSENT_CALL_ONLY, kind::CONSENT_RECORD).await;
    talk(&t, &e, secs(4)).await;
    assert!(e.packets(c.technician.me(c.case), TrackSource::Voice).len() > 100, "the call itself works");

    // A picture can only be relayed, not kept.
    let picture = b"not-to-be-kept-picture-bytes-7f3a".to_vec();
    for kind in [kind::SNAPSHOT, kind::INSTRUCTION] {
        let draft = Draft::of(kind).session(c.session).payload(&serde_json::json!({})).attached(picture.clone());
        assert_eq!(c.expert.commit(c.case, draft).await.unwrap_err().code, "not_recording");
    }
    c.expert.commit(c.case, Draft::of(kind::SESSION_ENDED).session(c.session)).await.unwrap();
    c.technician.event(c.case, kind::SESSION_ENDED, |_| true).await;
    // Whoever still had something to write has had time to.
    tokio::time::sleep(secs(2)).await;
    for kind in [kind::RECORDING_STARTED, kind::SEGMENT] {
        assert_eq!(c.count(&c.technician, kind), 0, "{kind}");
    }
    assert_eq!(c.world.media_bytes(), 0);
    assert_eq!(lotse_tests::disk::holding(c.world.folder.path(), &[&picture]), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_stops_the_recording_within_two_seconds_and_the_call_goes_on() {
    let c = call(3, true).await;
    let (t, e) = c.legs().await;
    c.both_answer(kind::CONSENT_RECORD, kind::CONSENT_RECORD).await;
    let (me, other) = (c.technician.me(c.case), c.expert.me(c.case));
    let on = secs(14);
    let listen = async {
        c.technician.event(c.case, kind::SEGMENT, |_| true).await;
        assert!(c.world.media_bytes() > 0);
        let withdrawn = Instant::now();
        c.technician.answer(c.case, c.session, kind::CONSENT_CALL_ONLY).await;
        c.technician.event(c.case, kind::RECORDING_STOPPED, |_| true).await;
        assert!(withdrawn.elapsed() < secs(2), "stopped only after {:?}", withdrawn.elapsed());
        tokio::time::sleep(secs(1)).await;
        let kept = c.world.media_bytes();
        let heard = t.packets(other, TrackSource::Voice).len();
        tokio::time::sleep(secs(3)).await;
        assert_eq!(c.world.media_bytes(), kept, "kept after the withdrawal");
        assert!(t.packets(other, TrackSource::Voice).len() > heard + 50, "the call goes on");
        assert!(e.packets(me, TrackSource::Voice).len() > 50);
    };
    tokio::join!(talk(&t, &e, on), listen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_is_asked_first_and_until_then_nothing_is_kept() {
    let c = call(4, true).await;
    let (t, e) = c.legs().await;
    c.both_answer(kind::CONSENT_RECORD, kind::CONSENT_RECORD).await;
    let late = c.world.person("expert2").await;
    let listen = async {
        c.technician.event(c.case, kind::SEGMENT, |_| true).await;
        late.take(c.case, c.session).await;
        c.technician.event(c.case, kind::RECORDING_STOPPED, |_| true).await;
        let leg = late.connect_media(c.case, c.session, false).await;
        leg.connected().await;
        tokio::time::sleep(secs(2)).await;
        assert_eq!(leg.total(), 0, "heard before the answer");
        late.answer(c.case, c.session, kind::CONSENT_RECORD).await;
        eventually("the late joiner hears", secs(10), async || (leg.total() > 20).then_some(())).await;
        eventually("the recording goes on", secs(10), async || {
            (c.count(&c.technician, kind::RECORDING_STARTED) == 2).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = async { loop { talk(&t, &e, secs(5)).await } } => {}
        () = listen => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_all_media_away_and_costs_nobody_the_session() {
    let c = call(5, true).await;
    let (t, e) = c.legs().await;
    c.both_answer(kind::CONSENT_REFUSED, kind::CONSENT_RECORD).await;
    talk(&t, &e, secs(3)).await;
    assert_eq!((t.total(), e.total()), (0, 0));
    assert_eq!(c.world.media_bytes(), 0);
    let message = Draft::of(kind::MESSAGE).payload(&serde_json::json!({ "text": "We can still write." }));
    c.expert.commit(c.case, message).await.unwrap();
    c.technician.event(c.case, kind::MESSAGE, |_| true).await;
    assert!(c.technician.sessions(c.case).get(c.session).unwrap().ended_at_ms.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_archivist_there_is_no_recording_and_the_call_works() {
    let c = call(6, false).await;
    let (t, e) = c.legs().await;
    c.both_answer(kind::CONSENT_RECORD, kind::CONSENT_RECORD).await;
    talk(&t, &e, secs(2)).await;
    assert!(t.packets(c.expert.me(c.case), TrackSource::Voice).len() > 50);
    assert!(e.packets(c.technician.me(c.case), TrackSource::Voice).len() > 50);
    assert!(!c.technician.sessions(c.case).get(c.session).unwrap().may_record());
}
