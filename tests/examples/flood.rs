//! Floods while a session runs and is recorded: how many of its pictures still arrive, and does the recorder lose anything? Prints one JSON line.
//!
//! Usage: `flood [SECONDS] [TIMES]`, by default `20 5`: so long each, at so many times the session's own load. The real server, archivist and glasses
//! (workshop clip with its sound) and an expert who watches and writes a note a second. A quiet time comes first and last, to compare with.
//! junk: random bytes, and STUN, RTP, RTCP and DTLS of strangers, from 64 ports to the media ports, that many times the packets that the server moves.
//! hellos: that many times its handshakes of a second, each without end: DTLS hellos to the media ports, TLS and half requests to the HTTP port.
//! joins: that many experts come into the session, get its media, and go, over and over. logins: that many people log in at once, over and over.
#![allow(clippy::unwrap_used)]

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lotse_protocol::{
    id::{CaseId, EventId, SessionId},
    kind,
};
use lotse_tests::{
    Draft, Person, World,
    call::{Call, PATIENCE, Part},
    media::Leg,
    person::client,
    program::Usage,
    world::PASSWORD,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// Ports that junk comes from.
const STRANGERS: usize = 64;
/// Handshakes of one session a second that count as its own load: everybody's at once.
const HANDSHAKES: usize = 4;

/// What floods share.
struct Flood {
    over: AtomicBool,
    /// Datagrams, connections, joins or logins made.
    made: AtomicUsize,
}

struct Flooded {
    world: World,
    expert: Person,
    case: CaseId,
    session: SessionId,
    leg: Leg,
}

async fn begin() -> (Flooded, lotse_tests::Glasses) {
    let world = World::seeded(95).await;
    let glasses = world.started_glasses("helmet-1").await;
    let Call { expert, case, session, leg, .. } = Call::recorded(&world, &glasses, Part::Watches).await;
    expert.event_within(case, kind::SEGMENT, PATIENCE, |_| true).await;
    (Flooded { world, expert, case, session, leg }, glasses)
}

impl Flooded {
    fn ports(&self) -> Vec<u16> {
        self.world.server.ready["udp"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as u16).collect()
    }

    /// Pictures, notes, gaps and processor time of so long.
    async fn watch(&self, what: &str, length: Duration, flood: Option<&Flood>) -> Value {
        let gaps = || self.expert.log(self.case).iter().filter(|(f, _)| f.kind == kind::GAP).count();
        let (from, server, own, gaps_before) = (Instant::now(), self.world.server.usage(), Usage::own(), gaps());
        let (pictures, packets) = (self.leg.pictures().len(), self.leg.total());
        let (mut told, mut refused, mut slowest) = (Vec::<EventId>::new(), 0, Duration::ZERO);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while from.elapsed() < length {
            second.tick().await;
            let began = Instant::now();
            match self.expert.commit(self.case, Draft::of(kind::MESSAGE).payload(&json!({ "text": "a note" }))).await {
                Ok(id) => told.push(id),
                Err(_) => refused += 1,
            }
            slowest = slowest.max(began.elapsed());
        }
        let took = from.elapsed().as_secs_f64();
        let times = self.leg.pictures();
        let worst = times[pictures..].windows(2).map(|w| w[1].duration_since(w[0])).max().unwrap_or(length);
        let round = |x: f64| (x * 10.0).round() / 10.0;
        let ms = |after: Usage, before: Usage| round((after.cpu - before.cpu).as_secs_f64() * 1e3 / took);
        let row = json!({
            "what": what, "seconds": round(took),
            "pictures_s": round((times.len() - pictures) as f64 / took),
            "packets_s": round((self.leg.total() - packets) as f64 / took),
            "longest_gap_ms": worst.as_millis() as u64,
            "notes": told.len(), "refused": refused, "slowest_note_ms": slowest.as_millis() as u64,
            "gaps": gaps() - gaps_before,
            "made": flood.map(|f| f.made.load(Ordering::Relaxed)),
            "server_ms": ms(self.world.server.usage(), server), "this_ms": ms(Usage::own(), own),
            "server_mb": self.world.server.usage().rss / 1_000_000,
        });
        eprintln!("{row}");
        row
    }

    /// With this going on beside it.
    async fn under<F: Future<Output = ()> + Send + 'static>(
        &self,
        what: &str,
        length: Duration,
        start: impl Fn(usize, Arc<Flood>) -> F,
        workers: usize,
    ) -> Value {
        let flood = Arc::new(Flood { over: AtomicBool::new(false), made: AtomicUsize::new(0) });
        let running: Vec<_> = (0..workers).map(|n| tokio::spawn(start(n, flood.clone()))).collect();
        let row = self.watch(what, length, Some(&flood)).await;
        flood.over.store(true, Ordering::Relaxed);
        for worker in running {
            worker.await.unwrap();
        }
        row
    }
}

impl Flood {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }
}

/// What strangers send: shaped like something, and like nothing.
fn junk(rng: &mut StdRng) -> Vec<u8> {
    let mut data: Vec<u8> = (0..rng.random_range(1..1_200)).map(|_| rng.random()).collect();
    let shapes: [&[u8]; 6] = [
        &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42],
        &[0x80, 96],
        &[0x90, 111],
        &[0x81, 201, 0, 7],
        &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0],
        &[],
    ];
    let shape = shapes[rng.random_range(0..shapes.len())];
    let n = shape.len().min(data.len());
    data[..n].copy_from_slice(&shape[..n]);
    data
}

/// A DTLS 1.2 ClientHello of its own, without a cookie (RFC 6347).
fn hello(rng: &mut StdRng) -> Vec<u8> {
    let mut body = vec![254, 253];
    body.extend((0..32).map(|_| rng.random::<u8>()));
    // Neither session nor cookie; one suite (ECDHE-ECDSA-AES128-GCM); no compression; no extensions.
    body.extend([0, 0, 0, 2, 0xC0, 0x2B, 1, 0, 0, 0]);
    let length = body.len() as u8;
    let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, length + 12];
    record.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
    record.extend(body);
    record
}

fn stranger(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

async fn junk_flood(seed: usize, flood: Arc<Flood>, ports: Vec<u16>, per_second: f64) {
    let mut rng = StdRng::seed_from_u64(seed as u64);
    let sockets: Vec<UdpSocket> = (0..STRANGERS).map(|n| stranger(ports[n % ports.len()])).collect();
    // A hundred turns a second; what is due in a turn goes at once, as from a hose.
    let mut turn = tokio::time::interval(Duration::from_millis(10));
    let began = Instant::now();
    let mut sent = 0.0;
    while flood.goes_on() {
        turn.tick().await;
        while sent < began.elapsed().as_secs_f64() * per_second {
            let _ = sockets[rng.random_range(0..sockets.len())].send(&junk(&mut rng));
            flood.count();
            sent += 1.0;
        }
    }
}

async fn hello_flood(seed: usize, flood: Arc<Flood>, ports: Vec<u16>, http: String, per_second: f64) {
    use tokio::io::AsyncWriteExt as _;
    let mut rng = StdRng::seed_from_u64(seed as u64);
    let mut turn = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let mut held = std::collections::VecDeque::new();
    while flood.goes_on() {
        turn.tick().await;
        let _ = stranger(ports[rng.random_range(0..ports.len())]).send(&hello(&mut rng));
        // As many connections as a greeting may take seconds are held open and never end what they began.
        if let Ok(mut connection) = tokio::net::TcpStream::connect(&http).await {
            let begun: &[u8] =
                if rng.random() { &[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3] } else { b"GET / HTTP/1.1\r\nHo" };
            let _ = connection.write_all(begun).await;
            held.push_back(connection);
        }
        if held.len() > 500 {
            held.pop_front();
        }
        flood.count();
    }
}

async fn join_flood(flood: Arc<Flood>, person: Arc<Person>, case: CaseId, session: SessionId) {
    while flood.goes_on() {
        let joined = person.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await;
        if joined.is_ok() && person.commit(case, Draft::of(kind::CONSENT_RECORD).session(session)).await.is_ok() {
            let leg = person.watch_media(case, session).await;
            let until = Instant::now() + PATIENCE;
            while !leg.is_connected() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(leg.is_connected(), "who joins gets in");
            drop(leg);
            person.leave(session);
            let me = person.me(case);
            let here = || person.sessions(case).list.iter().any(|s| s.participants.get(&me).is_some_and(|p| p.present));
            while here() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            flood.count();
        }
    }
}

async fn login_flood(n: usize, flood: Arc<Flood>, url: String) {
    let http = client();
    while flood.goes_on() {
        let body = json!({ "user": format!("flood-{n}"), "password": PASSWORD });
        let reply = http.post(format!("{url}/api/v1/login")).header("origin", &url).json(&body).send().await;
        assert!(reply.is_ok_and(|r| r.status().is_success()), "who is right gets in");
        flood.count();
    }
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let length = Duration::from_secs(words.next().and_then(|w| w.parse().ok()).unwrap_or(20));
    let times: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(5);
    let (call, glasses) = begin().await;
    let mut crowd = Vec::new();
    for n in 0..times {
        let user = format!("flood-{n}");
        call.world.add_expert(&user).await;
        let person = call.world.person(&user).await;
        person.enter(call.case).await;
        crowd.push(Arc::new(person));
    }
    let ports = call.ports();
    let http = call.world.url.trim_start_matches("http://").to_owned();
    let mut rows = vec![call.watch("quiet", length, None).await];
    // The server takes each packet in once and sends it to the expert and to the archivist.
    let own = rows[0]["packets_s"].as_f64().unwrap() * 3.0;
    let junk = |n, flood| junk_flood(n, flood, ports.clone(), own * times as f64);
    rows.push(call.under("junk", length, junk, 1).await);
    let hellos = |n, flood| hello_flood(n, flood, ports.clone(), http.clone(), (HANDSHAKES * times) as f64);
    rows.push(call.under("hellos", length, hellos, 1).await);
    let joins = |n: usize, flood| join_flood(flood, crowd[n].clone(), call.case, call.session);
    rows.push(call.under("joins", length, joins, times).await);
    let logins = |n, flood| login_flood(n, flood, call.world.url.clone());
    rows.push(call.under("logins", length, logins, times).await);
    rows.push(call.watch("quiet again", length, None).await);
    call.expert.commit(call.case, Draft::of(kind::SESSION_ENDED).session(call.session)).await.unwrap();
    call.expert.event_within(call.case, kind::RECORDING_STOPPED, PATIENCE, |f| f.session == Some(call.session)).await;
    let gaps = call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::GAP).count();
    call.world.assert_no_panic();
    glasses.program.assert_no_panic();
    println!("{}", json!({ "bench": "flood", "times": times, "rows": rows, "gaps": gaps }));
}
