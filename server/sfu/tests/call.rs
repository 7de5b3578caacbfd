//! A call through the SFU by real clients on loopback.

mod common;

use std::time::Duration;

use common::world::{World, person, track, vp8};
use common::{AUDIO_LEVEL, CAPTURE_TIME};
use lotse_protocol::signal::{TrackInfo, TrackSource};
use lotse_sfu::{LegKind, SfuEvent};

const FRAME: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn glasses_are_seen_and_heard_unchanged_by_expert_and_archivist() {
    let mut world = World::new();
    let (glasses, expert, archivist) = (person(1), person(2), person(3));
    let (main, preview, voice) = (track(TrackSource::Main), track(TrackSource::Preview), track(TrackSource::Voice));
    let expert_voice = track(TrackSource::Voice);
    world.join(glasses, LegKind::Person, vec![main.clone(), preview.clone(), voice.clone()]).await;
    world.join(expert, LegKind::Person, vec![expert_voice.clone()]).await;
    assert!(world.downlink(expert).is_empty(), "both gates are closed");
    world.open(glasses).await;
    world.open(expert).await;
    world
        .until("lines both ways", |w| w.downlink(expert).len() == 2 && w.downlink(glasses) == [expert_voice.track])
        .await;
    assert_eq!(world.downlink(expert), [main.track, voice.track], "the preview only on request");

    world.join(archivist, LegKind::Archivist, vec![]).await;
    world.open(archivist).await;
    world.until("the archivist's lines", |w| w.downlink(archivist).len() == 3).await;
    world.settle(Duration::from_millis(200)).await;

    let ntp = 0x0123_4567_89AB_CDEF;
    for n in 0..100u32 {
        let (frame, talk) = (vp8(n % 30 == 0, n as u8), [n as u8; 40]);
        let time = n.to_be_bytes();
        let capture = [0, 0, 0, 0, time[0], time[1], time[2], time[3]];
        let client = &world.clients[&glasses];
        client
            .send(&main, 65_500u16.wrapping_add(n as u16), 1_000 + n * 3_000, &frame, &[(CAPTURE_TIME, &capture)])
            .await;
        client.send(&preview, n as u16, 1_000 + n * 3_000, &frame, &[]).await;
        client.send(&voice, n as u16, 77 + n * 960, &talk, &[(AUDIO_LEVEL, &[30])]).await;
        if n == 20 {
            client.tell_clock(&main, ntp, 61_000).await;
            client.tell_clock(&voice, ntp, 19_277).await;
        }
        world.clients[&expert].send(&expert_voice, n as u16, n * 960, &talk, &[(AUDIO_LEVEL, &[30])]).await;
        world.settle(FRAME).await;
    }
    let all = |w: &World, who, track: &TrackInfo| w.clients[&who].packets(track).len() == 100;
    world.until("voice and picture at the expert", |w| all(w, expert, &main) && all(w, expert, &voice)).await;
    world
        .until("everything at the archivist", |w| {
            all(w, archivist, &main) && all(w, archivist, &voice) && all(w, archivist, &expert_voice)
        })
        .await;
    world.until("the expert at the glasses", |w| all(w, glasses, &expert_voice)).await;
    assert!(world.clients[&expert].packets(&preview).is_empty(), "an unwatched preview costs nothing");

    for who in [expert, archivist] {
        let packets = world.clients[&who].packets(&main);
        for (n, packet) in (0u32..).zip(&packets) {
            assert_eq!(packet.header.timestamp, 1_000 + n * 3_000);
            assert_eq!(&packet.payload[..], &vp8(n % 30 == 0, n as u8));
            assert_eq!(packet.header.sequence_number, packets[0].header.sequence_number.wrapping_add(n as u16));
            let value = packet.header.extensions.first().expect("the capture time is carried").payload.clone();
            assert_eq!(value[4..], n.to_be_bytes());
        }
        let inbox = world.clients[&who].inbox.lock().expect("inbox");
        for (track, rtp) in [(&main, 61_000), (&voice, 19_277)] {
            let clock =
                inbox.clocks.iter().find(|(id, _)| *id == track.track.to_string()).expect("the publisher's clock");
            assert_eq!((clock.1.ntp_time, clock.1.rtp_time), (ntp, rtp));
            assert!(clock.1.packet_count > 0 && clock.1.octet_count > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_flows_to_or_from_a_closed_participant() {
    let mut world = World::new();
    let (glasses, expert) = (person(1), person(2));
    let (main, voice) = (track(TrackSource::Main), track(TrackSource::Voice));
    world.join(glasses, LegKind::Person, vec![main.clone()]).await;
    world.join(expert, LegKind::Person, vec![voice.clone()]).await;
    world.open(glasses).await;
    world.open(expert).await;
    world.until("the picture's line", |w| w.downlink(expert) == [main.track]).await;
    world.settle(Duration::from_millis(100)).await;
    let mut n = 0u16;
    let mut film = async |world: &mut World, frames: u16| {
        for _ in 0..frames {
            world.clients[&glasses].send(&main, n, u32::from(n) * 3_000, &vp8(true, n as u8), &[]).await;
            n += 1;
            world.settle(FRAME).await;
        }
    };
    film(&mut world, 20).await;
    world.until("pictures", |w| w.clients[&expert].packets(&main).len() == 20).await;

    world.sfu.gate(world.room, expert, false).await;
    film(&mut world, 20).await;
    world.until("no line", |w| w.downlink(expert).is_empty()).await;
    assert_eq!(world.clients[&expert].packets(&main).len(), 20, "closed: not one more packet");

    world.open(expert).await;
    world.until("the line again", |w| w.downlink(expert) == [main.track]).await;
    world.settle(Duration::from_millis(100)).await;
    film(&mut world, 20).await;
    world.until("pictures again", |w| w.clients[&expert].packets(&main).len() == 40).await;
    let packets = world.clients[&expert].packets(&main);
    let numbers: Vec<u16> = packets.iter().map(|p| p.header.sequence_number).collect();
    assert_eq!(
        numbers,
        (0..40).map(|n| numbers[0].wrapping_add(n)).collect::<Vec<_>>(),
        "no hole is shown for what was withheld"
    );
    assert_eq!(packets[20].header.timestamp, 40 * 3_000, "but time went on");

    world.sfu.gate(world.room, glasses, false).await;
    film(&mut world, 20).await;
    assert_eq!(world.clients[&expert].packets(&main).len(), 40, "nothing from a closed participant");
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_watched_on_request_and_the_publisher_is_told() {
    let mut world = World::new();
    let (glasses, expert, second) = (person(1), person(2), person(3));
    let (main, preview) = (track(TrackSource::Main), track(TrackSource::Preview));
    world.join(glasses, LegKind::Person, vec![main.clone(), preview.clone()]).await;
    world.join(expert, LegKind::Person, vec![]).await;
    world.join(second, LegKind::Person, vec![]).await;
    for who in [glasses, expert, second] {
        world.open(who).await;
    }
    world.until("mains", |w| w.downlink(expert) == [main.track] && w.downlink(second) == [main.track]).await;
    let watched = |w: &World, track: &TrackInfo| -> Vec<bool> {
        let about = track.track;
        w.seen
            .iter()
            .filter_map(|e| match e {
                SfuEvent::Watched { track, on, .. } if *track == about => Some(*on),
                _ => None,
            })
            .collect()
    };
    assert_eq!(watched(&world, &main), [true]);
    assert!(watched(&world, &preview).is_empty());

    for who in [expert, second] {
        world.sfu.watch(world.room, who, preview.track, true).await.expect("watch");
        world.sfu.watch(world.room, who, main.track, false).await.expect("watch");
    }
    world.until("previews", |w| w.downlink(expert) == [preview.track] && w.downlink(second) == [preview.track]).await;
    world.settle(Duration::from_millis(200)).await;
    assert_eq!(watched(&world, &preview), [true], "told once for two watchers");
    assert_eq!(watched(&world, &main), [true, false]);
    for n in 0..20u8 {
        world.clients[&glasses].send(&preview, n.into(), u32::from(n) * 18_000, &vp8(n == 0, n), &[]).await;
        world.settle(FRAME).await;
    }
    world.until("preview packets", |w| w.clients[&expert].packets(&preview).len() == 20).await;

    for who in [expert, second] {
        world.sfu.watch(world.room, who, preview.track, false).await.expect("watch");
        world.sfu.watch(world.room, who, main.track, true).await.expect("watch");
    }
    world.until("mains again", |w| w.downlink(expert) == [main.track] && w.downlink(second) == [main.track]).await;
    world.settle(Duration::from_millis(200)).await;
    for n in 0..20u8 {
        world.clients[&glasses].send(&main, n.into(), u32::from(n) * 3_000, &vp8(n == 0, n), &[]).await;
        world.settle(FRAME).await;
    }
    world.until("main packets", |w| w.clients[&expert].packets(&main).len() == 20).await;
    assert_eq!(watched(&world, &preview), [true, false]);
    let stranger = track(TrackSource::Main).track;
    assert!(world.sfu.watch(world.room, expert, stranger, true).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_frames_are_asked_for_when_a_subscriber_comes_and_pictures_begin_with_one() {
    let mut world = World::new();
    let (glasses, expert) = (person(1), person(2));
    let main = track(TrackSource::Main);
    world.join(glasses, LegKind::Person, vec![main.clone()]).await;
    world.join(expert, LegKind::Person, vec![]).await;
    world.open(glasses).await;
    world.open(expert).await;
    world
        .until("the wish at the glasses", |w| {
            let wishes = &w.clients[&glasses].inbox.lock().expect("inbox").key_frame_wishes;
            wishes.contains(&w.clients[&glasses].sending(&main).ssrc)
        })
        .await;
    world
        .until("the wish as an event", |w| {
            w.seen.iter().any(|e| matches!(e, SfuEvent::KeyFrame { track, .. } if *track == main.track))
        })
        .await;
    for n in 0..10u8 {
        world.clients[&glasses].send(&main, n.into(), u32::from(n) * 3_000, &vp8(n == 4, n), &[]).await;
        world.settle(FRAME).await;
    }
    world.until("pictures", |w| w.clients[&expert].packets(&main).len() == 6).await;
    assert_eq!(world.clients[&expert].packets(&main)[0].header.timestamp, 4 * 3_000);
}

/// An answer takes longer than a key frame: what passed meanwhile is not lost for whoever answers.
#[tokio::test(flavor = "multi_thread")]
async fn who_answers_slowly_begins_with_the_key_frame_that_came_meanwhile() {
    let mut world = World::new();
    let (glasses, expert) = (person(1), person(2));
    let main = track(TrackSource::Main);
    world.join(glasses, LegKind::Person, vec![main.clone()]).await;
    world.join(expert, LegKind::Person, vec![]).await;
    world.open(glasses).await;
    let picture = async |world: &World, n: u8, key: bool| {
        world.clients[&glasses].send(&main, n.into(), u32::from(n) * 3_000, &vp8(key, n), &[]).await;
    };
    // From before the expert was offered anything: never theirs.
    picture(&world, 0, true).await;
    world.settle(FRAME).await;
    let slow = world.clients.remove(&expert).expect("a client");
    world.open(expert).await;
    let asked = |w: &World| w.seen.iter().filter(|e| matches!(e, SfuEvent::KeyFrame { .. })).count();
    world.until("a key frame is asked for as soon as the track is offered", |w| asked(w) == 1).await;
    let offer = world.offer_to(expert);
    for n in 1..6u8 {
        picture(&world, n, n == 2).await;
        world.settle(FRAME).await;
    }
    world.clients.insert(expert, slow);
    world.take(expert, offer).await;
    world.until("the pictures since", |w| w.clients[&expert].packets(&main).len() == 4).await;
    picture(&world, 6, false).await;
    world.until("and the next", |w| w.clients[&expert].packets(&main).len() == 5).await;
    let times: Vec<u32> = world.clients[&expert].packets(&main).iter().map(|p| p.header.timestamp / 3_000).collect();
    assert_eq!(times, [2, 3, 4, 5, 6]);
    assert_eq!(asked(&world), 1, "and not again");
}

#[tokio::test(flavor = "multi_thread")]
async fn pointer_reaches_the_others_and_nobody_else() {
    let mut world = World::new();
    let (glasses, expert, second, archivist) = (person(1), person(2), person(3), person(4));
    for who in [glasses, expert, second] {
        world.join(who, LegKind::Person, vec![]).await;
    }
    world.join(archivist, LegKind::Archivist, vec![]).await;
    for who in [glasses, expert, archivist] {
        world.open(who).await;
    }
    let open = |w: &World, who| w.clients[&who].inbox.lock().expect("inbox").channel_open;
    world.until("channels", |w| [glasses, expert, second, archivist].iter().all(|who| open(w, *who))).await;
    world.settle(Duration::from_millis(100)).await;
    world.clients[&second].say(r#"{"t":"pointer"}"#).await;
    world.clients[&expert].say(r#"{"t":"drawing"}"#).await;
    world.until("the pen", |w| !w.clients[&glasses].inbox.lock().expect("inbox").messages.is_empty()).await;
    world.settle(Duration::from_millis(100)).await;
    let heard = |who| world.clients[&who].inbox.lock().expect("inbox").messages.clone();
    assert_eq!(heard(glasses), [format!(r#"{{"from":"{expert}","data":{{"t":"drawing"}}}}"#)]);
    assert!(heard(expert).is_empty() && heard(second).is_empty() && heard(archivist).is_empty());
}
