//! `kill -9` of server and archivist in a recorded session: everybody comes back, nothing acknowledged is lost, what is missing is a Gap.
#![allow(clippy::unwrap_used)]

use lotse_payload::recording::{GapPayload, GapWhy};
use lotse_protocol::{
    chain,
    command::ServerMessage,
    id::{CaseId, SessionId},
    kind,
    policy::Role,
};
use lotse_tests::{Draft, Person, World, eventually, media::Leg, person, secs};
use lotse_verify::report::Verdict;

async fn recorded(world: &World) -> (Person, Person, CaseId, SessionId, Leg, Leg) {
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    expert.take(case, session).await;
    technician.answer(case, session, kind::CONSENT_RECORD).await;
    expert.answer(case, session, kind::CONSENT_RECORD).await;
    let t = technician.connect_media(case, session, true).await;
    let e = expert.connect_media(case, session, true).await;
    t.connected().await;
    e.connected().await;
    (technician, expert, case, session, t, e)
}

async fn talking<T>(t: &Leg, e: &Leg, story: impl Future<Output = T>) -> T {
    tokio::select! {
        () = async { loop { tokio::join!(t.speak(440.0, secs(5)), e.speak(1_000.0, secs(5))); } } => unreachable!(),
        out = story => out,
    }
}

async fn end_and_verify(world: &World, technician: &Person, case: CaseId, session: SessionId) -> lotse_verify::Report {
    technician.commit(case, Draft::of(kind::SESSION_ENDED).session(session)).await.unwrap();
    technician.event(case, kind::RECORDING_STOPPED, |f| f.session == Some(session)).await;
    let manager = world.person("manager").await;
    let bundle = manager.bundle(case).await;
    let report = person::verify(&bundle, world.fingerprint(technician));
    assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
    assert!(report.items > 0 && report.absent.is_empty(), "{:?}", report.absent);
    world.assert_no_panic();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_becomes_a_bundle_that_proves_itself() {
    let world = World::seeded(11).await;
    let (technician, _expert, case, session, t, e) = recorded(&world).await;
    talking(&t, &e, async {
        technician.event(case, kind::RECORDING_STARTED, |_| true).await;
        tokio::time::sleep(secs(6)).await;
    })
    .await;
    let report = end_and_verify(&world, &technician, case, session).await;
    let segments = technician.log(case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count();
    assert!(segments >= 4, "two voices for six seconds are {segments} fragments");
    assert!(report.events > 15);

    // The head a client kept proves the end; a cut bundle of an earlier day would not have it.
    let head = technician.live.heard().into_iter().rev().find_map(|m| match m {
        ServerMessage::CaseOpened { head, .. } => Some(head),
        _ => None,
    });
    let signed = head.unwrap();
    chain::read_head(&signed, &technician.server_key.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_of_the_archivist_it_comes_back_and_declares_the_gap() {
    let mut world = World::seeded(12).await;
    let (technician, _expert, case, session, t, e) = recorded(&world).await;
    talking(&t, &e, async {
        technician.event(case, kind::SEGMENT, |_| true).await;
        tokio::time::sleep(secs(3)).await;
        world.archivist.kill9();
        tokio::time::sleep(secs(3)).await;
        world.archivist.start().await;
        // It comes back by itself and goes on recording under the consent that was given.
        let before = technician.log(case).len();
        eventually("segments after the restart", secs(40), async || {
            let log = technician.log(case);
            log.iter().skip(before).any(|(f, _)| f.kind == kind::SEGMENT).then_some(())
        })
        .await;
        tokio::time::sleep(secs(3)).await;
    })
    .await;
    let (fields, sent) = technician.event(case, kind::GAP, |_| true).await;
    let gap: GapPayload = technician.payload(case, &fields, &sent).await;
    assert_eq!(gap.why, GapWhy::ArchivistDown);
    assert!(gap.to_us - gap.from_us > 2_000_000, "{gap:?}");
    end_and_verify(&world, &technician, case, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_of_the_server_nothing_acknowledged_is_lost_and_the_session_goes_on() {
    let mut world = World::seeded(13).await;
    let (mut technician, mut expert, case, session, t, e) = recorded(&world).await;
    let mut told = Vec::new();
    talking(&t, &e, async {
        technician.event(case, kind::SEGMENT, |_| true).await;
        // Everything that was answered with `committed` must be there afterwards.
        for n in 0..20 {
            let message = Draft::of(kind::MESSAGE).payload(&serde_json::json!({ "text": format!("note {n}") }));
            told.push(technician.commit(case, message).await.unwrap());
        }
        world.server.kill9();
    })
    .await;
    drop((t, e));
    // A machine needs a while to come back; a hole below half a second would not be worth an event.
    tokio::time::sleep(secs(3)).await;
    world.server.start().await;
    technician.reconnect().await;
    expert.reconnect().await;
    for person in [&technician, &expert] {
        person.open(case, 0).await.unwrap();
        person.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
    }
    let log = technician.log(case);
    for id in &told {
        assert!(log.iter().any(|(f, _)| f.id == *id), "an acknowledged event is lost");
    }
    let s = technician
        .session_is(case, "the archivist is back", |s| {
            s.participants.values().any(|p| p.role == Role::Archivist && p.present)
        })
        .await;
    assert_eq!(s.id, session, "the same session goes on");
    assert!(s.may_record(), "answers stand: {s:?}");

    let t = technician.connect_media(case, session, true).await;
    let e = expert.connect_media(case, session, true).await;
    t.connected().await;
    e.connected().await;
    // Media of the new connection end the hole.
    talking(&t, &e, technician.event_within(case, kind::GAP, secs(40), |_| true)).await;
    let (fields, sent) = technician.event(case, kind::GAP, |_| true).await;
    let gap: GapPayload = technician.payload(case, &fields, &sent).await;
    assert!(gap.to_us - gap.from_us > 1_000_000, "what is missing is declared: {gap:?}");
    end_and_verify(&world, &technician, case, session).await;
}
