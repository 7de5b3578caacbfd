//! Media over TCP by real clients on loopback: where no UDP gets through, and where strangers knock.

mod common;

use std::{net::Ipv4Addr, time::Duration};

use common::{
    AUDIO_LEVEL, Client, door,
    world::{LIMIT, World, person, track, vp8},
};
use lotse_protocol::signal::TrackSource;
use lotse_sfu::{FirstBytes, LegKind, SfuEvent, first_bytes};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn world() -> (World, std::net::SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let at = listener.local_addr().expect("bound");
    let world = World::with_tcp(Some(at.port()));
    tokio::spawn(door::serve(listener, world.sfu.clone()));
    (world, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_and_voice_pass_between_one_over_tcp_and_one_over_udp() {
    let (mut world, _) = world().await;
    let (glasses, expert) = (person(1), person(2));
    let (main, voice) = (track(TrackSource::Main), track(TrackSource::Voice));
    world.join_as(Client::over_tcp().await, glasses, LegKind::Person, vec![main.clone()]).await;
    world.join(expert, LegKind::Person, vec![voice.clone()]).await;
    world.open(glasses).await;
    world.open(expert).await;
    world.until("lines both ways", |w| w.downlink(expert).len() == 1 && w.downlink(glasses).len() == 1).await;
    // Lines begin with a key frame, and begin when both sides are ready: key frames until the first one is through.
    let mut begun = 0u32;
    while world.clients[&expert].packets(&main).is_empty() || world.clients[&glasses].packets(&voice).is_empty() {
        assert!(begun < 500, "nothing ever came through");
        world.clients[&glasses].send(&main, begun as u16, begun * 3_000, &vp8(true, 1), &[]).await;
        world.clients[&expert].send(&voice, begun as u16, begun * 960, &[1; 40], &[(AUDIO_LEVEL, &[30])]).await;
        world.settle(Duration::from_millis(20)).await;
        begun += 1;
    }
    let last = begun + 200;
    for n in begun..last {
        let (frame, talk) = (vp8(n % 30 == 0, n as u8), [n as u8; 40]);
        world.clients[&glasses].send(&main, n as u16, n * 3_000, &frame, &[]).await;
        world.clients[&expert].send(&voice, n as u16, n * 960, &talk, &[(AUDIO_LEVEL, &[30])]).await;
        world.settle(Duration::from_millis(2)).await;
    }
    let from = |packets: Vec<rtc::rtp::Packet>, first: u32| {
        packets.iter().map(|p| p.header.timestamp).filter(|t| *t >= first).collect::<Vec<_>>()
    };
    world
        .until("all packets both ways", |w| {
            from(w.clients[&expert].packets(&main), begun * 3_000).len() == 200
                && from(w.clients[&glasses].packets(&voice), begun * 960).len() == 200
        })
        .await;
    let came = from(world.clients[&expert].packets(&main), begun * 3_000);
    assert!((begun..last).eq(came.iter().map(|t| t / 3_000)), "in order and unchanged");
    world.clients[&glasses].pc.close().await.expect("closed");
    world
        .until("the leg has ended", |w| {
            w.seen.iter().any(|event| matches!(event, SfuEvent::Closed { who, .. } if *who == glasses))
        })
        .await;
}

/// Reads until the other side closes; false: it did not in time.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1_024];
    let closed = async { while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(LIMIT, closed).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_name_but_not_its_password_gets_no_word_and_is_closed() {
    let (mut world, at) = world().await;
    let expert = person(2);
    world.join(expert, LegKind::Person, vec![]).await;
    let sdp = &world.offers[&expert].sdp;
    let ufrag = sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("a name").trim().to_owned();
    // A whole binding request with a username and a wrong MESSAGE-INTEGRITY.
    let username = format!("{ufrag}:mine");
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    request.extend([5; 12]);
    request.extend([0, 6]);
    request.extend((username.len() as u16).to_be_bytes());
    request.extend(username.as_bytes());
    request.resize(request.len().next_multiple_of(4), 0);
    request.extend([0, 8, 0, 20]);
    request.extend([1; 20]);
    let length = (request.len() - 20) as u16;
    request[2..4].copy_from_slice(&length.to_be_bytes());
    let frame = [&(request.len() as u16).to_be_bytes(), &request[..]].concat();
    assert_eq!(first_bytes(&frame), FirstBytes::Request(frame.len()));
    let before = world.sfu.counters();
    let mut stranger = TcpStream::connect(at).await.expect("connects");
    for _ in 0..50 {
        stranger.write_all(&frame).await.expect("sent");
    }
    // Media of nobody, then a frame longer than any may be.
    stranger.write_all(&[0, 3, 0x80, 1, 2]).await.expect("sent");
    let _ = stranger.write_all(&[0xff, 0xff, 0, 0]).await;
    assert!(is_closed(&mut stranger).await, "the stranger was kept");
    let after = world.sfu.counters();
    assert!(after.drops_in >= before.drops_in + 51, "{before:?} {after:?}");
    world.settle(Duration::from_millis(100)).await;
    assert!(!world.seen.iter().any(|event| matches!(event, SfuEvent::Closed { .. })), "the expert's leg was touched");
}
