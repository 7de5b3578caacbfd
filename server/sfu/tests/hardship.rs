//! What a call survives: loss, silence, reconnects, garbage, forgers, too many voices.

mod common;

use std::{
    net::UdpSocket,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::world::{World, person, track, vp8};
use common::{AUDIO_LEVEL, Client};
use lotse_protocol::id::Pseudonym;
use lotse_protocol::signal::{Codec, RtcAnswer, TrackInfo, TrackSource};
use lotse_sfu::{LegKind, SfuError, SfuEvent};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const FRAME: Duration = Duration::from_millis(10);

fn closed(world: &World, who: Pseudonym) -> Vec<&'static str> {
    world
        .seen
        .iter()
        .filter_map(|event| match event {
            SfuEvent::Closed { who: gone, reason, .. } if *gone == who => Some(*reason),
            _ => None,
        })
        .collect()
}

/// Glasses (1) with a main, an expert (2), both open and connected.
async fn call(world: &mut World, main: &TrackInfo) {
    world.join(person(1), LegKind::Person, vec![main.clone()]).await;
    world.join(person(2), LegKind::Person, vec![]).await;
    ready(world, main).await;
}

async fn ready(world: &mut World, main: &TrackInfo) {
    world.open(person(1)).await;
    world.open(person(2)).await;
    world.until("the line", |w| w.downlink(person(2)) == [main.track]).await;
    world.settle(Duration::from_millis(150)).await;
}

async fn film(world: &mut World, main: &TrackInfo, numbers: std::ops::Range<u16>) {
    for n in numbers {
        world.clients[&person(1)].send(main, n, u32::from(n) * 3_000, &vp8(n % 30 == 0, n as u8), &[]).await;
        world.settle(FRAME).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_percent_loss_both_ways_is_repaired_without_a_storm() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    world.join_over(0.05, 3, person(1), LegKind::Person, vec![main.clone()]).await;
    world.join_over(0.05, 4, person(2), LegKind::Person, vec![]).await;
    ready(&mut world, &main).await;
    film(&mut world, &main, 0..600).await;
    world.settle(Duration::from_millis(300)).await;
    let packets = world.clients[&person(2)].packets(&main);
    let mut times: Vec<u32> = packets.iter().map(|p| p.header.timestamp / 3_000).collect();
    times.sort_unstable();
    times.dedup();
    let first = times[0];
    let lost_up = world.relays[&person(1)].up.lost.load(Ordering::Relaxed);
    let lost_down = world.relays[&person(2)].down.lost.load(Ordering::Relaxed);
    assert!(lost_up > 10 && lost_down > 10, "{lost_up} and {lost_down} were lost on the way");
    // The newest packets may still be on their way, and the very first may be lost before a stream is known.
    assert!(times.len() as u32 + 3 >= 600 - first && first <= 60, "{} frames from {first}", times.len());
    let repairs = world.relays[&person(1)].up.repairs.load(Ordering::Relaxed);
    assert!(repairs >= lost_up / 2 && repairs <= 3 * lost_up + 5, "{repairs} repairs for {lost_up} lost");
    let legs = world.sfu.legs(world.room).await;
    assert!(legs[0].loss_up_pct > 0.0 || legs[1].loss_down_pct > 0.0, "{legs:?}");
    assert!(legs[1].down_kbps > 0 && legs[0].up_kbps > 0, "{legs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_frame_that_does_not_come_is_asked_for_again() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    call(&mut world, &main).await;
    let began = Instant::now();
    for n in 0..200u16 {
        world.clients[&person(1)].send(&main, n, u32::from(n) * 3_000, &vp8(false, n as u8), &[]).await;
        world.settle(FRAME).await;
    }
    // Every 400 ms at most; a busy machine takes longer over the pictures.
    let most = 2 + began.elapsed().as_millis() as usize / 400;
    let wishes = world.clients[&person(1)].inbox.lock().expect("inbox").key_frame_wishes.len();
    assert!((3..=most).contains(&wishes), "{wishes} wishes, at most {most} are due");
    assert!(world.clients[&person(2)].packets(&main).is_empty(), "nothing that cannot be decoded");
    film(&mut world, &main, 210..220).await;
    world.until("pictures", |w| w.clients[&person(2)].packets(&main).len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_codec_goes_without_the_picture_and_keeps_the_voice() {
    let mut world = World::new();
    let (main, voice) = (TrackInfo { codec: Codec::H264, ..track(TrackSource::Main) }, track(TrackSource::Voice));
    let both = [Codec::H264, Codec::Vp8];
    world
        .join_as(Client::with_pictures(&both).await, person(1), LegKind::Person, vec![main.clone(), voice.clone()])
        .await;
    world.join_as(Client::with_pictures(&both).await, person(2), LegKind::Person, vec![]).await;
    world.join(person(3), LegKind::Person, vec![]).await;
    for who in 1..=3 {
        world.open(person(who)).await;
    }
    world.until("lines", |w| w.downlink(person(2)).len() == 2 && w.downlink(person(3)).contains(&voice.track)).await;
    world.settle(Duration::from_millis(150)).await;
    for n in 0..50u16 {
        let unit: &[u8] = if n == 0 { &[0x65, 1, 2, 3] } else { &[0x41, 1, 2, 3] };
        world.clients[&person(1)].send(&main, n, u32::from(n) * 3_000, unit, &[]).await;
        world.clients[&person(1)].send(&voice, n, u32::from(n) * 960, &[1; 30], &[]).await;
        world.settle(FRAME).await;
    }
    world
        .until("picture and voice", |w| {
            w.clients[&person(2)].packets(&main).len() == 50 && w.clients[&person(2)].packets(&voice).len() == 50
        })
        .await;
    world.until("voice alone", |w| w.clients[&person(3)].packets(&voice).len() == 50).await;
    assert!(world.clients[&person(3)].packets(&main).is_empty());
    // A second picture it cannot have does not disturb it, nor a third it can.
    let (second, third) = (TrackInfo { codec: Codec::H264, ..track(TrackSource::Main) }, track(TrackSource::Main));
    world.join_as(Client::with_pictures(&both).await, person(4), LegKind::Person, vec![second, third.clone()]).await;
    world.open(person(4)).await;
    world.until("the third picture's line", |w| w.downlink(person(3)).contains(&third.track)).await;
    world.settle(Duration::from_millis(200)).await;
    let offers = world.offers[&person(3)].rev;
    world.settle(Duration::from_millis(200)).await;
    assert_eq!(world.offers[&person(3)].rev, offers, "what cannot be is not offered over and over");
    for n in 0..10u16 {
        world.clients[&person(4)].send(&third, n, u32::from(n) * 3_000, &vp8(n == 0, 1), &[]).await;
        world.settle(FRAME).await;
    }
    world.until("the third picture", |w| w.clients[&person(3)].packets(&third).len() == 10).await;
    assert!(closed(&world, person(3)).is_empty());
}

/// Films while this one's address changes; a connectivity check must vouch for the new one before anything goes there.
async fn moving(who: Pseudonym) {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    world.join_over(0.0, 1, person(1), LegKind::Person, vec![main.clone()]).await;
    world.join_over(0.0, 2, person(2), LegKind::Person, vec![]).await;
    ready(&mut world, &main).await;
    film(&mut world, &main, 0..10).await;
    world.until("pictures", |w| w.clients[&person(2)].packets(&main).len() == 10).await;
    world.relays[&who].move_on.store(true, Ordering::Relaxed);
    film(&mut world, &main, 10..450).await;
    let last = world.clients[&person(2)].packets(&main).last().map(|packet| packet.header.timestamp / 3_000);
    assert!(last.is_some_and(|last| last > 400), "the last picture seen was {last:?}");
    assert!(closed(&world, who).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_address_changes_is_heard_on() {
    moving(person(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_whose_address_changes_sees_on() {
    moving(person(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trips_come_from_the_receivers_reports() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    call(&mut world, &main).await;
    for n in 0..300u16 {
        world.clients[&person(1)].send(&main, n, u32::from(n) * 900, &vp8(n % 30 == 0, 0), &[]).await;
        if n % 50 == 1 {
            world.clients[&person(1)].tell_clock(&main, (u64::from(n) << 32) + 0x1234_5678, u32::from(n) * 900).await;
        }
        world.settle(FRAME).await;
    }
    let legs = world.sfu.legs(world.room).await;
    let rtt = legs[1].rtt_ms.expect("measured");
    assert!((0.0..50.0).contains(&rtt), "{rtt} ms on loopback");
    assert!(legs[0].connected && legs[1].connected && legs[1].loss_down_pct == 0.0, "{legs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_leg_is_closed_after_five_seconds_and_its_line_goes() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    world.join_over(0.0, 1, person(1), LegKind::Person, vec![main.clone()]).await;
    world.join(person(2), LegKind::Person, vec![]).await;
    ready(&mut world, &main).await;
    world.relays[&person(1)].cut.store(true, Ordering::Relaxed);
    let start = Instant::now();
    world.until("the end of the silent leg", |w| !closed(w, person(1)).is_empty()).await;
    assert_eq!(closed(&world, person(1)), ["timeout"]);
    assert!((Duration::from_secs(3)..Duration::from_secs(7)).contains(&start.elapsed()), "{:?}", start.elapsed());
    world.until("no line", |w| w.downlink(person(2)).is_empty()).await;
    assert!(closed(&world, person(2)).is_empty(), "the idle expert stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_goodbye_is_gone_at_once() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    call(&mut world, &main).await;
    let start = Instant::now();
    world.clients[&person(1)].pc.close().await.expect("closed");
    world.until("the end", |w| !closed(w, person(1)).is_empty()).await;
    assert_eq!(closed(&world, person(1)), ["bye"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_with_its_track_goes_on_in_the_same_line() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    call(&mut world, &main).await;
    film(&mut world, &main, 0..30).await;
    world.until("pictures", |w| w.clients[&person(2)].packets(&main).len() == 30).await;
    let rev = world.offers[&person(2)].rev;
    world.join(person(1), LegKind::Person, vec![main.clone()]).await;
    assert_eq!(closed(&world, person(1)), ["replaced"]);
    world.settle(Duration::from_millis(150)).await;
    film(&mut world, &main, 9_000..9_030).await;
    world.until("pictures again", |w| w.clients[&person(2)].packets(&main).len() == 60).await;
    assert_eq!(world.offers[&person(2)].rev, rev, "no new offer was needed");
    let packets = world.clients[&person(2)].packets(&main);
    let numbers: Vec<u16> = packets.iter().map(|p| p.header.sequence_number).collect();
    assert_eq!(numbers, (0..60).map(|n| numbers[0].wrapping_add(n)).collect::<Vec<_>>());
    assert_eq!(packets[30].header.timestamp, 9_000 * 3_000, "its own time, untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_whose_page_reloads_is_heard_on_the_line_that_fell_idle() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    world.join(person(1), LegKind::Person, vec![main.clone()]).await;
    world.open(person(1)).await;
    let mut lines = Vec::new();
    for reload in 0..3u16 {
        let (who, voice) = (person(10 + u128::from(reload)), track(TrackSource::Voice));
        world.join(who, LegKind::Person, vec![voice.clone()]).await;
        world.open(who).await;
        world
            .until("lines both ways", |w| w.downlink(person(1)) == [voice.track] && w.downlink(who) == [main.track])
            .await;
        world.settle(Duration::from_millis(150)).await;
        for n in 0..20 {
            world.clients[&who].send(&voice, n, u32::from(n) * 960, &[reload as u8; 30], &[]).await;
            world.clients[&person(1)].send(&main, reload * 20 + n, u32::from(n) * 3_000, &vp8(n == 0, 0), &[]).await;
            world.settle(FRAME).await;
        }
        world.until("the voice at the glasses", |w| w.clients[&person(1)].packets(&voice).len() == 20).await;
        world.until("the picture at the page", |w| w.clients[&who].packets(&main).len() == 20).await;
        lines.push(world.offers[&person(1)].downlink[0].mid.clone());
        world.sfu.leave(world.room, who).await;
        world.until("no line", |w| w.downlink(person(1)).is_empty()).await;
        world.settle(Duration::from_millis(100)).await;
    }
    assert!(lines.windows(2).all(|pair| pair[0] == pair[1]), "the glasses' lines do not pile up: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_another_certificate_than_it_answered_is_refused() {
    let mut world = World::new();
    let (room, who) = (world.room, person(1));
    world.sfu.join(room, who, LegKind::Person, vec![track(TrackSource::Main)]).await.expect("joined");
    world.until("an offer", |w| w.seen.iter().any(|e| matches!(e, SfuEvent::Offer { .. }))).await;
    let Some(SfuEvent::Offer { offer, .. }) = world.seen.last().cloned() else { panic!("an offer") };
    let mut client = Client::new().await;
    let mut answer = client.answer(&offer).await;
    let print = answer.sdp.find("a=fingerprint:sha-256 ").expect("a fingerprint") + "a=fingerprint:sha-256 ".len();
    let forged = if answer.sdp[print..].starts_with("00") { "01" } else { "00" };
    answer.sdp.replace_range(print..print + 2, forged);
    world.sfu.answer(room, who, answer).await.expect("well formed");
    world.until_within(Duration::from_secs(25), "the refusal", |w| !closed(w, who).is_empty()).await;
    assert_eq!(closed(&world, who), ["dtls"]);
    assert!(!world.seen.iter().any(|e| matches!(e, SfuEvent::Connected { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_and_fourth_expert_join_while_the_picture_runs() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    call(&mut world, &main).await;
    film(&mut world, &main, 0..30).await;
    for who in [3, 4] {
        world.join(person(who), LegKind::Person, vec![track(TrackSource::Voice)]).await;
        world.open(person(who)).await;
    }
    world
        .until("lines of all", |w| {
            w.downlink(person(3)).len() == 2 && w.downlink(person(4)).len() == 2 && w.downlink(person(2)).len() == 3
        })
        .await;
    world.settle(Duration::from_millis(150)).await;
    film(&mut world, &main, 30..120).await;
    world.until("no picture missed by the first", |w| w.clients[&person(2)].packets(&main).len() == 120).await;
    world
        .until("pictures at the new ones", |w| {
            [3, 4].iter().all(|who| w.clients[&person(*who)].packets(&main).len() >= 60)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hear_the_loudest_three_and_the_archivist_everybody() {
    let mut world = World::new();
    let voices: Vec<TrackInfo> = (0..4).map(|_| track(TrackSource::Voice)).collect();
    for (n, voice) in (1..).zip(&voices) {
        world.join(person(n), LegKind::Person, vec![voice.clone()]).await;
        world.open(person(n)).await;
    }
    world.join(person(8), LegKind::Person, vec![]).await;
    world.join(person(9), LegKind::Archivist, vec![]).await;
    for who in [8, 9] {
        world.open(person(who)).await;
    }
    world.until("all lines", |w| w.downlink(person(8)).len() == 4 && w.downlink(person(9)).len() == 4).await;
    world.settle(Duration::from_millis(150)).await;
    // The first three talk; the fourth whispers, then talks while the second has stopped.
    for n in 0..300u16 {
        for (place, voice) in voices.iter().enumerate() {
            let level = match (place, n) {
                (3, ..100) => 120,
                (1, 100..) => 120,
                _ => 30,
            };
            world.clients[&person(place as u128 + 1)]
                .send(voice, n, u32::from(n) * 960, &[n as u8; 30], &[(AUDIO_LEVEL, &[level])])
                .await;
        }
        world.settle(FRAME).await;
    }
    world
        .until("all voices at the archivist", |w| voices.iter().all(|v| w.clients[&person(9)].packets(v).len() == 300))
        .await;
    let heard: Vec<usize> = voices.iter().map(|v| world.clients[&person(8)].packets(v).len()).collect();
    // The whisper may come first; a talker takes its place within a few packets.
    assert!(heard[0] >= 295 && heard[2] >= 295, "the steady talkers are never cut: {heard:?}");
    assert!((100..200).contains(&heard[1]) && (100..200).contains(&heard[3]), "{heard:?}");
    let fourth = world.clients[&person(8)].packets(&voices[3]);
    let numbers: Vec<u16> = fourth.iter().map(|p| p.header.sequence_number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "silence is no loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_forgers_do_not_disturb_a_call() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    let port = world.port().await;
    call(&mut world, &main).await;
    let ufrag = world.offers[&person(1)]
        .sdp
        .lines()
        .find_map(|l| l.strip_prefix("a=ice-ufrag:").map(str::to_owned))
        .expect("ufrag");
    let forger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    forger.connect(("127.0.0.1", port)).expect("connects");
    forger.set_nonblocking(true).expect("set");
    let mut rng = StdRng::seed_from_u64(5);
    // A binding request that knows the name but not the password, then variations of it, of RTP, RTCP and DTLS.
    let name = format!("{ufrag}:x");
    let mut request =
        vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 6, 0, name.len() as u8];
    request.extend(name.as_bytes());
    request.resize(request.len().next_multiple_of(4), 0);
    request.extend([0, 0x25, 0, 0, 0, 8, 0, 20]);
    request.extend([9; 20]);
    let len = (request.len() - 20) as u16;
    request[2..4].copy_from_slice(&len.to_be_bytes());
    let samples: Vec<Vec<u8>> = vec![
        request,
        vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0, 1, 2, 3],
        vec![0x90, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xBE, 0xDE, 0xFF, 0xFF, 1, 2, 3],
        vec![0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6],
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8],
    ];
    for n in 0..120u16 {
        for _ in 0..40 {
            let mut data = samples[rng.random_range(0..samples.len())].clone();
            for _ in 0..rng.random_range(0..4) {
                let at = rng.random_range(0..data.len());
                data[at] = rng.random();
            }
            let _ = forger.send(&data);
        }
        film(&mut world, &main, n..n + 1).await;
    }
    world.until("all pictures", |w| w.clients[&person(2)].packets(&main).len() == 120).await;
    // What lost its name and its proof in the shuffle asks for nothing but its own address, as `doctor` does.
    let mut got = [0; 2_048];
    while let Ok(length) = forger.recv(&mut got) {
        assert_eq!((&got[..2], length), (&[1, 1][..], 32), "the forger gets no leg's answer and no media");
    }
    assert!(world.sfu.counters().drops_in > 1_000);
    assert!(closed(&world, person(1)).is_empty() && closed(&world, person(2)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_a_participants_own_address_is_counted_not_fatal() {
    let mut world = World::new();
    let main = track(TrackSource::Main);
    world.join_over(0.0, 1, person(1), LegKind::Person, vec![main.clone()]).await;
    world.join(person(2), LegKind::Person, vec![]).await;
    ready(&mut world, &main).await;
    // Sent through the relay, so it comes from the address the SFU knows as the glasses'.
    let relay = world.relays[&person(1)].port;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut rng = StdRng::seed_from_u64(6);
    for n in 0..90u16 {
        for _ in 0..20 {
            let first: u8 = [0x80, 0x90, 0xB0, 0x81, 20, 21, 22, 23, 0, 1][rng.random_range(0..10)];
            let mut data: Vec<u8> = (0..rng.random_range(1..200)).map(|_| rng.random()).collect();
            data[0] = first;
            let _ = socket.send_to(&data, ("127.0.0.1", relay));
        }
        film(&mut world, &main, n..n + 1).await;
    }
    world.until("all pictures", |w| w.clients[&person(2)].packets(&main).len() >= 88).await;
    assert!(closed(&world, person(1)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_announcements_and_answers_are_refused_with_a_remedy() {
    let mut world = World::new();
    let (room, who) = (world.room, person(1));
    let main = track(TrackSource::Main);
    let bad = TrackInfo { codec: Codec::Opus, ..main.clone() };
    let refused = world.sfu.join(room, who, LegKind::Person, vec![bad]).await.expect_err("a silent picture");
    assert!(matches!(refused, SfuError::BadTracks { .. }));
    let refused =
        world.sfu.join(room, who, LegKind::Person, vec![main.clone(), main.clone()]).await.expect_err("twice");
    assert!(matches!(refused, SfuError::BadTracks { .. }));
    let answer = |leg, rev, sdp: &str| RtcAnswer { leg, rev, sdp: sdp.into(), fingerprint_sig: None };
    let refused = world.sfu.answer(room, who, answer(1, 1, "v=0")).await.expect_err("nobody joined");
    assert!(matches!(refused, SfuError::NoRoom(_) | SfuError::NoLeg(_)));

    world.sfu.join(room, who, LegKind::Person, vec![main.clone()]).await.expect("joined");
    world.until("an offer", |w| w.seen.iter().any(|e| matches!(e, SfuEvent::Offer { .. }))).await;
    let Some(SfuEvent::Offer { offer, .. }) = world.seen.last().cloned() else { panic!("an offer") };
    assert!(matches!(
        world.sfu.answer(room, who, answer(offer.leg, 9, "v=0")).await,
        Err(SfuError::StaleAnswer { answered: 9, open: 1 })
    ));
    let of_another = answer(offer.leg.wrapping_add(1), offer.rev, "v=0");
    world.sfu.answer(room, who, of_another).await.expect("passed over: its connection was given up");
    let mut client = Client::new().await;
    let good = client.answer(&offer).await;
    let mut rng = StdRng::seed_from_u64(8);
    let mut taken = 0;
    for _ in 0..300 {
        let mut bytes = good.sdp.clone().into_bytes();
        for _ in 0..rng.random_range(1..40) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random_range(32..127);
        }
        if rng.random_bool(0.3) {
            bytes.truncate(rng.random_range(0..bytes.len()));
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match world.sfu.answer(room, who, answer(offer.leg, offer.rev, &text)).await {
            Ok(()) => taken += 1,
            Err(SfuError::BadAnswer { why }) => assert!(!why.is_empty()),
            // A damaged answer that still made sense was taken before.
            Err(SfuError::StaleAnswer { .. } | SfuError::NoLeg(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken <= 1, "an offer is answered once");
    // The worker lives: another call works.
    world.room = lotse_protocol::id::SessionId(uuid::Uuid::new_v4());
    world.clients.clear();
    call(&mut world, &main).await;
    film(&mut world, &main, 0..10).await;
    world.until("pictures", |w| w.clients[&person(2)].packets(&main).len() == 10).await;
}
