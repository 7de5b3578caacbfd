//! A room with one pair of simulated glasses, for a browser to join: one JSON object a line on stdin and stdout.
//!
//! In: `{"join":true}` (the browser announces a voice), `{"answer":{…}}`, `{"glasses":2}` (another pair comes), `{"leave":2}`, `{"watch":…}`.
//! Out: `{"offer":{…}}`, `{"event":"…"}`, and once a second `{"heard":n}`: packets of the browser's voice at the first glasses.
//! Driver: `browser_room.mjs`. Pictures come from an IVF file (VP8) named as first argument.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::world::{person, track};
use common::{Client, Inbox, door};
use lotse_protocol::id::{Pseudonym, SessionId};
use lotse_protocol::signal::{RtcAnswer, TrackInfo, TrackSource};
use lotse_sfu::{LegKind, SfuConfig, SfuEvent, start};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

const BROWSER: u128 = 100;

struct Glasses {
    who: Pseudonym,
    /// Until it films.
    client: Option<Client>,
    inbox: Arc<Mutex<Inbox>>,
    main: TrackInfo,
    voice: TrackInfo,
}

/// Frames of an IVF file.
fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (&file[32..], Vec::new());
    while rest.len() > 12 {
        let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        found.push(rest[12..12 + len].to_vec());
        rest = &rest[12 + len..];
    }
    found
}

/// Sends the clip in a loop at 30 fps with a sender report a second, and 20 ms packets of silence as voice.
async fn film(client: Arc<Client>, main: TrackInfo, voice: TrackInfo, clip: Vec<Vec<u8>>) {
    let mut tick = tokio::time::interval(Duration::from_micros(33_333));
    let (mut seq, mut spoken) = (0u16, 0u32);
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64()
        + 2_208_988_800.0;
    for n in 0u32.. {
        tick.tick().await;
        let frame = &clip[n as usize % clip.len()];
        let chunks: Vec<&[u8]> = frame.chunks(1_100).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut payload = vec![if at == 0 { 0x10 } else { 0x00 }];
            payload.extend_from_slice(chunk);
            client.send_marked(&main, seq, 1_000 + n * 3_000, &payload, at + 1 == chunks.len()).await;
            seq = seq.wrapping_add(1);
        }
        while spoken * 960 < n * 1_600 {
            client.send(&voice, spoken as u16, spoken * 960, &[0xF8, 0xFF, 0xFE], &[]).await;
            spoken += 1;
        }
        if n % 30 == 1 {
            let ntp = ((start + f64::from(n) / 30.0) * 4_294_967_296.0) as u64;
            client.tell_clock(&main, ntp, 1_000 + n * 3_000).await;
            client.tell_clock(&voice, ntp, n * 1_600).await;
        }
    }
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn,rtc=error,webrtc=error").init();
    let file = std::env::args().nth(1).expect("usage: browser_room CLIP.ivf");
    let clip = frames(&std::fs::read(file).expect("the clip"));
    // ROOM_IP: an address that others reach; media over TCP is offered there as well.
    let named = std::env::var("ROOM_IP").ok();
    let loopback = named.as_deref().unwrap_or("127.0.0.1").parse().expect("an address");
    // With `tcp` no datagram arrives: the UDP sockets are bound to another address than the offers name.
    let over_tcp = std::env::args().nth(2).is_some_and(|word| word == "tcp");
    let door = TcpListener::bind((loopback, 0)).await.expect("listens");
    let tcp_port = Some(door.local_addr().expect("bound").port()).filter(|_| over_tcp || named.is_some());
    let bind = if over_tcp { std::net::IpAddr::from([127, 0, 0, 2]) } else { loopback };
    let (sfu, mut events) =
        start(SfuConfig { bind, public: vec![loopback], tcp_port, udp_port: 0, workers: 1 }).expect("an SFU");
    tokio::spawn(door::serve(door, sfu.clone()));
    let room = SessionId(Uuid::new_v4());
    let (line_in, mut lines) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| line_in.blocking_send(line))
    });
    let mut glasses: Vec<Glasses> = Vec::new();
    let mut filming = std::collections::HashMap::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let browser_voice = track(TrackSource::Voice);
    let mut add = vec![1u128];
    loop {
        for n in add.drain(..) {
            let who = person(n);
            let (main, voice) = (track(TrackSource::Main), track(TrackSource::Voice));
            let client = if over_tcp { Client::over_tcp().await } else { Client::new().await };
            let inbox = client.inbox.clone();
            glasses.push(Glasses { who, client: Some(client), inbox, main: main.clone(), voice: voice.clone() });
            sfu.join(room, who, LegKind::Person, vec![main, voice]).await.expect("joins");
            sfu.gate(room, who, true).await;
        }
        tokio::select! {
            event = events.recv() => match event.expect("a running SFU") {
                SfuEvent::Offer { who, offer, .. } if who == person(BROWSER) => println!("{}", json!({ "offer": offer })),
                SfuEvent::Offer { who, offer, .. } => {
                    let Some(at) = glasses.iter().position(|g| g.who == who) else { continue };
                    match &mut glasses[at].client {
                        Some(client) => {
                            let answer = client.answer(&offer).await;
                            sfu.answer(room, who, answer).await.expect("taken");
                        }
                        None => {
                            let client: &Arc<Client> = &filming[&who];
                            let answer = client.answer_again(&offer).await;
                            sfu.answer(room, who, answer).await.expect("taken");
                        }
                    }
                }
                SfuEvent::Connected { who, .. } => {
                    println!("{}", json!({ "event": format!("connected {who}") }));
                    if let Some(g) = glasses.iter_mut().find(|g| g.who == who)
                        && let Some(client) = g.client.take()
                    {
                        let client = Arc::new(client);
                        filming.insert(who, client.clone());
                        tokio::spawn(film(client, g.main.clone(), g.voice.clone(), clip.clone()));
                    }
                }
                other => println!("{}", json!({ "event": format!("{other:?}") })),
            },
            line = lines.recv() => {
                let Some(line) = line else { return };
                let command: Value = serde_json::from_str(&line).expect("a command");
                if command["join"] == true {
                    let who = person(BROWSER);
                    sfu.join(room, who, LegKind::Person, vec![browser_voice.clone()]).await.expect("joins");
                    sfu.gate(room, who, true).await;
                } else if let Some(n) = command["glasses"].as_u64() {
                    add.push(n.into());
                } else if let Some(n) = command["leave"].as_u64() {
                    sfu.leave(room, person(n.into())).await;
                } else if command["answer"].is_object() {
                    let answer: RtcAnswer = serde_json::from_value(command["answer"].clone()).expect("an answer");
                    if let Err(error) = sfu.answer(room, person(BROWSER), answer).await {
                        println!("{}", json!({ "event": format!("refused: {error}") }));
                    }
                }
            }
            _ = second.tick() => {
                let heard = glasses.first().map_or(0, |g| g.inbox.lock().expect("inbox").packets.len());
                let pointed = glasses.first().map_or(0, |g| g.inbox.lock().expect("inbox").messages.len());
                println!("{}", json!({ "heard": heard, "pointed": pointed, "legs": sfu.legs(room).await }));
            }
        }
    }
}
