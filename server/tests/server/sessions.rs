//! Presence, leaving, being lost, recording rules, relays and media signalling.

use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    envelope::LeftWhy,
    id::SessionId,
    item, kind,
    session::Answer,
    signal::{Codec, RtcAnswer, TrackInfo, TrackSource},
};
use uuid::Uuid;

use crate::kit::{Scene, World, fresh_item_key, inline};

#[tokio::test]
async fn a_socket_that_comes_back_in_time_was_never_gone() {
    let world = World::start().await;
    let scene = Scene::recorded(&world).await;
    drop(scene.expert.0);
    let mut back = world.login("expert").await.connect().await;
    back.open_after(scene.case, 0).await;
    back.caught_up().await;
    // The technician goes for good: its loss is the next thing logged, not the expert's.
    drop(scene.technician.0);
    assert_eq!(back.left().await, (scene.technician.1.me, LeftWhy::Lost));
    // The first to leave is the technician: nobody else left before.
    let left = back.seen.iter().filter(|m| kind_of(m).as_deref() == Some(kind::SESSION_LEFT)).count();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn who_opens_a_log_hears_first_which_session_runs_and_lean_leaves_out_what_fragments_carry() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (live, author) = &mut scene.archivist;
    let segment = author.say(kind::SEGMENT, Some(scene.session), b"{}");
    live.commit(&segment).await.expect("filed");
    for lean in [true, false] {
        let mut back = world.login("expert").await.connect().await;
        back.say(&ClientMessage::OpenCase { case: scene.case, after_seq: 0, lean }).await;
        let told = |m: &ServerMessage| match m {
            ServerMessage::SessionNow { session, .. } => Some(session.clone()),
            ServerMessage::Event { .. } => panic!("an event came before"),
            _ => None,
        };
        let session = back.until(told).await.expect("one runs");
        assert_eq!(session.id, scene.session);
        assert_eq!(session.participants[&scene.expert.1.me].answer, Some(Answer::Record));
        back.caught_up().await;
        // New ones too, not only those that are read from the store.
        let (live, author) = &mut scene.archivist;
        let segment = author.say(kind::SEGMENT, Some(scene.session), b"{}");
        live.commit(&segment).await.expect("filed");
        back.event(kind::SEGMENT).await;
        let items = |wanted: bool| {
            let of = back.seen.iter().filter(move |m| (kind_of(m).as_deref() == Some(kind::SEGMENT)) == wanted);
            of.filter_map(|m| if let ServerMessage::Event { event, .. } = m { Some(event.items.len()) } else { None })
                .sum::<usize>()
        };
        assert_eq!((items(true) > 0, items(false) > 0), (!lean, true));
        let told = back.seen.iter().filter(|m| matches!(m, ServerMessage::SessionNow { .. })).count();
        assert_eq!(told, 1, "once the log is here, it says it");
    }
}

#[tokio::test]
async fn when_the_last_person_is_gone_the_server_ends_the_session() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let leave = ClientMessage::RtcLeave { session: scene.session };
    scene.expert.0.say(&leave).await;
    assert_eq!(scene.archivist.0.left().await, (scene.expert.1.me, LeftWhy::Left));
    scene.technician.0.say(&ClientMessage::CloseCase { case: scene.case }).await;
    assert_eq!(scene.archivist.0.left().await, (scene.technician.1.me, LeftWhy::Left));
    let (ended, _) = scene.archivist.0.event(kind::SESSION_ENDED).await;
    assert_ne!(ended.author, scene.technician.1.me, "by the server");
    let (live, author) = &mut scene.archivist;
    let late = author.bare(kind::SESSION_JOINED, Some(scene.session));
    assert_eq!(live.commit(&late).await.expect_err("over").code, "session_ended");
    // What was recorded before may still be filed.
    let gap = author.say(kind::GAP, Some(scene.session), b"{}");
    live.commit(&gap).await.expect("filed");
}

#[tokio::test]
async fn after_a_restart_presence_is_counted_from_the_log() {
    let mut world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    world.kill();
    world.serve();
    // Only the expert comes back; the others are lost 20 s after the start, the session goes on.
    let mut back = world.login("expert").await.connect().await;
    back.open_after(scene.case, 0).await;
    back.caught_up().await;
    let mut lost = vec![back.left().await, back.left().await];
    lost.sort_by_key(|(who, _)| *who);
    let mut expected = vec![(scene.technician.1.me, LeftWhy::Lost), (scene.archivist.1.me, LeftWhy::Lost)];
    expected.sort_by_key(|(who, _)| *who);
    assert_eq!(lost, expected);
    let still = scene.expert.1.say(kind::MESSAGE, Some(scene.session), b"still here");
    back.commit(&still).await.expect("the session is open");
}

#[tokio::test]
async fn no_picture_is_kept_before_everybody_said_yes_nor_after_somebody_withdrew() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let session = Some(scene.session);
    let picture = item::seal(fresh_item_key(), b"jpeg");
    let snapshot = |author: &mut crate::kit::Author| {
        let mut event = author.make(kind::SNAPSHOT, session, Some(b"{}"), &[&picture], None);
        event.items[1] = inline(&picture);
        event
    };
    let (live, author) = &mut scene.expert;
    let early = snapshot(author);
    assert_eq!(live.commit(&early).await.expect_err("nobody answered").code, "not_recording");
    let yes = author.say(kind::CONSENT_RECORD, session, b"yes");
    live.commit(&yes).await.expect("consent");
    let (tlive, technician) = &mut scene.technician;
    let yes = technician.say(kind::CONSENT_RECORD, session, b"yes");
    tlive.commit(&yes).await.expect("consent");
    let kept = snapshot(author);
    live.commit(&kept).await.expect("everybody said yes");

    let no = technician.say(kind::CONSENT_CALL_ONLY, session, b"no longer");
    tlive.commit(&no).await.expect("withdrawn");
    let late = snapshot(author);
    assert_eq!(live.commit(&late).await.expect_err("withdrawn").code, "not_recording");
    let with_picture = author.make(kind::INSTRUCTION, session, Some(b"{}"), &[&picture], None);
    assert_eq!(live.commit(&with_picture).await.expect_err("withdrawn").code, "not_recording");
    let marks_only = author.say(kind::INSTRUCTION, session, b"{}");
    live.commit(&marks_only).await.expect("marks alone are no picture");
    let (alive, archivist) = &mut scene.archivist;
    let started = archivist.say(kind::RECORDING_STARTED, session, b"{}");
    assert_eq!(alive.commit(&started).await.expect_err("withdrawn").code, "not_recording");
}

#[tokio::test]
async fn a_relayed_picture_reaches_people_only_and_is_not_stored() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let picture = item::seal(fresh_item_key(), &[7; 100_000]);
    let relay = ClientMessage::Relay { case: scene.case, session: scene.session, to: None, item: inline(&picture) };
    scene.expert.0.say(&relay).await;
    assert_eq!(scene.expert.0.refused().await.code, "forbidden", "before one's own answer nothing flows");
    for (live, author) in [&mut scene.technician, &mut scene.expert] {
        let only = author.say(kind::CONSENT_CALL_ONLY, Some(scene.session), b"no recording");
        live.commit(&only).await.expect("answered");
    }
    scene.expert.0.say(&relay).await;
    let me = scene.expert.1.me;
    let got = scene
        .technician
        .0
        .until(|m| match m {
            ServerMessage::Relayed { from, item, .. } if *from == me => Some(item.clone()),
            _ => None,
        })
        .await;
    assert_eq!(got, inline(&picture));
    scene.archivist.0.settled().await;
    assert!(!scene.archivist.0.seen.iter().any(|m| matches!(m, ServerMessage::Relayed { .. })));
    for file in crate::kit::files(&world.data()) {
        let bytes = std::fs::read(&file).expect("readable");
        assert!(!bytes.windows(64).any(|w| w == &picture.bytes[5000..5064]), "{}", file.display());
    }
}

#[tokio::test]
async fn who_is_present_gets_an_offer_and_who_is_not_gets_a_reason() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (case, session) = (scene.case, scene.session);
    let track = TrackInfo {
        track: lotse_protocol::id::TrackId(Uuid::new_v4()),
        source: TrackSource::Main,
        codec: Codec::Vp8,
        rtp_base: Some(1000),
        start_us: Some(1),
        clock_offset_us: 0,
        width: 1280,
        height: 720,
    };
    let (live, author) = &mut scene.technician;
    live.say(&ClientMessage::RtcJoin { case, session, publish: vec![track.clone()] }).await;
    let offer =
        live.until(|m| if let ServerMessage::RtcOffer { offer, .. } = m { Some(offer.clone()) } else { None }).await;
    assert!(offer.sdp.starts_with("v=0") && offer.sdp.contains("a=ice-lite"), "{}", offer.sdp);
    assert_eq!(offer.uplink.len(), 1);
    assert_eq!((offer.uplink[0].owner, &offer.uplink[0].info), (author.me, &track));
    live.until(|m| if let ServerMessage::RtcLegs { legs, .. } = m { (legs.len() == 1).then_some(()) } else { None })
        .await;

    // People see everybody's lines; the archivist, who shows nothing, is not told of them.
    scene.archivist.0.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    scene.archivist.0.until(|m| matches!(m, ServerMessage::RtcOffer { .. }).then_some(())).await;
    let live = &mut scene.technician.0;
    live.until(|m| if let ServerMessage::RtcLegs { legs, .. } = m { (legs.len() == 2).then_some(()) } else { None })
        .await;
    scene.archivist.0.settled().await;
    assert!(!scene.archivist.0.seen.iter().any(|m| matches!(m, ServerMessage::RtcLegs { .. })));

    // An answer that is none: the reason comes, the socket and the leg stay.
    let (elive, _) = &mut scene.expert;
    elive.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    let leg = elive.until(|m| if let ServerMessage::RtcOffer { offer, .. } = m { Some(offer.leg) } else { None }).await;
    elive
        .say(&ClientMessage::RtcAnswer {
            session,
            answer: RtcAnswer { leg, rev: 1, sdp: "nonsense".into(), fingerprint_sig: None },
        })
        .await;
    assert_eq!(elive.refused().await.code, "media_refused");

    let mut outsider = world.login("expert2").await.connect().await;
    outsider.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    assert_eq!(outsider.refused().await.code, "case_not_open");
    outsider.enter(case).await;
    outsider.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    assert_eq!(outsider.refused().await.code, "not_present");
    let elsewhere = ClientMessage::RtcJoin { case, session: SessionId(Uuid::new_v4()), publish: vec![] };
    outsider.say(&elsewhere).await;
    assert_eq!(outsider.refused().await.code, "no_such_session");
    // The page was switched to German.
    outsider.say(&ClientMessage::Hello { language: "de".into() }).await;
    outsider.say(&elsewhere).await;
    let refused = outsider.refused().await;
    assert_eq!(refused.code, "no_such_session");
    assert!(refused.message.contains("Sitzung"), "{}", refused.message);
}

#[tokio::test]
async fn media_may_be_asked_for_right_behind_the_event_that_makes_one_present() {
    let world = World::start().await;
    let scene = Scene::recorded(&world).await;
    let (case, session) = (scene.case, scene.session);
    let mut live = world.login("expert2").await.connect().await;
    let mut author = live.enter(case).await;
    let joined = author.bare(kind::SESSION_JOINED, Some(session));
    live.say(&joined.message()).await;
    live.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    let what = live
        .until(|m| match m {
            ServerMessage::RtcOffer { .. } => Some("offer".to_owned()),
            ServerMessage::Refused { error, .. } => Some(error.code.clone()),
            _ => None,
        })
        .await;
    assert_eq!(what, "offer");

    // One whose event is refused is refused too, not kept waiting.
    let mut late = world.login("manager").await.connect().await;
    let mut author = late.enter(case).await;
    let mut broken = author.bare(kind::SESSION_JOINED, Some(session));
    broken.sig = joined.sig;
    late.say(&broken.message()).await;
    late.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    assert!(late.fate(broken.id).await.is_err());
    assert_eq!(late.refused().await.code, "not_present");
}

#[tokio::test]
async fn a_second_window_takes_the_leg_and_the_first_is_told() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (case, session) = (scene.case, scene.session);
    let join = ClientMessage::RtcJoin { case, session, publish: vec![] };
    scene.expert.0.say(&join).await;
    scene.expert.0.until(|m| matches!(m, ServerMessage::RtcOffer { .. }).then_some(())).await;
    let mut second = world.login("expert").await.connect().await;
    second.open_after(case, 0).await;
    second.say(&join).await;
    second.until(|m| matches!(m, ServerMessage::RtcOffer { .. }).then_some(())).await;
    let reason = scene
        .expert
        .0
        .until(|m| if let ServerMessage::RtcClosed { reason, .. } = m { Some(reason.clone()) } else { None })
        .await;
    assert_eq!(reason, "replaced");
}

#[tokio::test]
async fn everybody_hears_when_the_archivist_comes_and_goes() {
    let world = World::start().await;
    let mut expert = world.login("expert").await.connect().await;
    let presence = |m: &ServerMessage| if let ServerMessage::Archivist { present } = m { Some(*present) } else { None };
    assert!(!expert.until(presence).await);
    let archivist = world.pair("archivist").await.connect().await;
    assert!(expert.until(presence).await);
    drop(archivist);
    assert!(!expert.until(presence).await);
}

#[tokio::test]
async fn a_leg_waits_for_its_socket_and_the_missed_offer_comes_with_it() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (case, session) = (scene.case, scene.session);
    scene.expert.0.say(&ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    scene.expert.0.until(|m| matches!(m, ServerMessage::RtcOffer { .. }).then_some(())).await;
    drop(scene.expert.0);
    let mut back = world.login("expert").await.connect().await;
    back.open_after(case, 0).await;
    back.until(|m| matches!(m, ServerMessage::RtcOffer { .. }).then_some(())).await;
}

fn kind_of(message: &ServerMessage) -> Option<String> {
    let ServerMessage::Event { event, .. } = message else { return None };
    lotse_protocol::envelope::AuthorFields::read(&event.event.author).ok().map(|f| f.kind)
}
