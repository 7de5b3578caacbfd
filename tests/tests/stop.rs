//! SIGTERM: each program finishes what was begun, says so, ends in bounded time, and the next start goes on where it was.
#![allow(clippy::unwrap_used)]

use lotse_protocol::{kind, policy::Role};
use lotse_tests::{Draft, World, disk, eventually, live::PATIENCE, recorded::recorded, secs};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_answers_what_it_committed_says_why_and_the_session_goes_on() {
    let mut world = World::seeded(71).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(call.segments_after(0)).await;
    let mark = call.technician.live.mark();
    // A burst whose answers are on their way when the signal comes.
    let mut asked = Vec::new();
    for n in 0..50 {
        let note = Draft::of(kind::MESSAGE).session(call.session).payload(&json!({ "text": format!("burst {n}") }));
        let (fields, items) = call.technician.prepare(call.case, note).await.unwrap();
        let (author, sig) = call.technician.sign(call.case, &fields);
        asked.push(fields.id);
        call.technician.live.say(&lotse_protocol::command::ClientMessage::Commit {
            case: call.case,
            author,
            sig,
            items,
        });
    }
    call.technician
        .live
        .until("the first answer", mark, |m| {
            matches!(m, lotse_protocol::command::ServerMessage::Committed { .. }).then_some(())
        })
        .await;
    let (code, took) = world.server.stop().await;
    assert_eq!(code, Some(0));
    assert!(took < secs(8), "{took:?}");
    for person in [&call.technician, &call.expert] {
        assert_eq!(person.live.until_closed().await, "server_stops");
    }
    for message in call.technician.live.heard().into_iter().skip(mark) {
        match message {
            lotse_protocol::command::ServerMessage::Committed { id, .. } => acknowledged.push(id),
            lotse_protocol::command::ServerMessage::Refused { error, .. } => panic!("{error:?}"),
            _ => {}
        }
    }
    assert!(!world.path("server").join("lotse.sqlite-wal").exists(), "the database is closed in order");

    world.server.start().await;
    call.technician.reconnect().await;
    call.technician.open(call.case, 0).await.unwrap();
    call.technician.commit(call.case, Draft::of(kind::SESSION_JOINED).session(call.session)).await.unwrap();
    call.has_all(&acknowledged).await;
    // Nothing half: what is in the log was answered, or came too late to be.
    assert!(asked.iter().filter(|id| acknowledged.contains(id)).count() == acknowledged.len());
    let session = call
        .technician
        .session_is(call.case, "the archivist is back", |s| {
            s.participants.values().any(|p| p.role == Role::Archivist && p.present)
        })
        .await;
    assert_eq!(session.id, call.session);
    call.ends_and_verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archivist_that_is_stopped_keeps_all_it_heard() {
    let mut world = World::seeded(72).await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        let (code, took) = world.archivist.stop().await;
        assert_eq!(code, Some(0));
        assert!(took < secs(5), "{took:?}");
    })
    .await;
    let open: Vec<_> = disk::files(&world.path("archivist")).into_iter().filter(|f| f.extension().is_some()).collect();
    assert!(open.iter().all(|f| f.extension().unwrap() != "part"), "a fragment was left open: {open:?}");
    world.archivist.start().await;
    call.talking(async {
        call.technician.event_within(call.case, kind::GAP, secs(40), |_| true).await;
        let before = call.technician.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count();
        call.segments_after(before).await;
    })
    .await;
    call.ends_and_verifies(&world).await;
    call.kept_or_declared().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn glasses_that_are_stopped_come_back_into_their_session() {
    let world = World::seeded(73).await;
    let mut glasses = world.started_glasses("helmet-1").await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    let (case, session) = (waiting.summary.case, waiting.session);
    expert.take(case, session).await;
    glasses.shows("consent").await;
    glasses.say("CALL_ONLY").await;
    glasses.shows("live").await;
    let (code, took) = glasses.program.stop().await;
    assert_eq!(code, Some(0));
    assert!(took < secs(5), "{took:?}");
    let before = glasses.shown().len();
    glasses.program.start().await;
    eventually("they are live again", PATIENCE * 3, async || {
        glasses.shown().iter().skip(before).any(|s| s["screen"] == "live").then_some(())
    })
    .await;
    let sessions = expert.sessions(case);
    assert_eq!(sessions.list.len(), 1, "the same session");
    assert_eq!((sessions.list[0].id, sessions.list[0].ended_at_ms), (session, None));
    glasses.program.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_never_had_a_session_is_exported_whole() {
    let world = World::seeded(74).await;
    let technician = world.technician("helmet-1").await;
    let case = technician.new_case("p-204").await;
    let note = Draft::of(kind::MESSAGE).payload(&json!({ "text": "no call was needed" }));
    technician.commit(case, note).await.unwrap();
    let bundle = world.person("manager").await.bundle(case).await;
    let report = lotse_tests::person::verify(&bundle, world.fingerprint(&technician));
    assert_eq!(report.verdict(), lotse_verify::report::Verdict::Authentic);
    assert!(report.absent.is_empty(), "{:?}", report.absent);
    // Everybody sees who read it.
    let sessions = technician.sessions(case);
    assert!(sessions.roles.values().any(|role| *role == Role::Archivist), "{:?}", sessions.roles);
}
