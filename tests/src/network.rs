//! A bad network between one client and the server, in user space: everything of the client goes through a [`Link`].
//!
//! Owns: a TCP door that stalls when the link is cut, and a UDP door for media that loses, delays, queues and reorders by a seed.
//! The live socket is passed on message by message, because the server's offers name its UDP address: the link writes its own
//! door there. Never: changes anything else that is said.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use lotse_protocol::command::ServerMessage;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};
use tokio_tungstenite::tungstenite::{
    Message,
    client::IntoClientRequest as _,
    handshake::server::{Request, Response},
    protocol::WebSocketConfig,
};

/// Messages of the server hold cards of a whole queue.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// What comes to a queue as long as this is lost.
const QUEUE: Duration = Duration::from_millis(600);
/// Largest datagram of media.
const DATAGRAM: usize = 2_048;

/// What the link does to datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Lost datagrams, percent.
    pub loss_pct: f64,
    pub delay: Duration,
    /// Up to this much more, by chance: reorders.
    pub jitter: Duration,
    /// Bit/s each way carries; None: everything.
    pub rate_bps: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

struct Shared {
    server: SocketAddr,
    cut: watch::Sender<bool>,
    faults: Mutex<Faults>,
    chance: Mutex<StdRng>,
    /// The link's door for each UDP port of the server.
    doors: tokio::sync::Mutex<HashMap<u16, u16>>,
    passed: Mutex<u64>,
    /// When the queue of each way is empty again.
    free: Mutex<[Instant; 2]>,
}

pub struct Link {
    /// What the client takes for the server.
    pub url: String,
    shared: Arc<Shared>,
}

impl Link {
    pub async fn to(server: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            server: server.strip_prefix("http://").unwrap().parse().unwrap(),
            cut: watch::channel(false).0,
            faults: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            doors: tokio::sync::Mutex::default(),
            passed: Mutex::new(0),
            free: Mutex::new([Instant::now(); 2]),
        });
        let for_all = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(for_all.clone(), client));
            }
        });
        Self { url, shared }
    }

    pub fn set(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Nothing passes until [`Link::mend`].
    pub fn cut(&self) {
        self.shared.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.shared.cut.send_replace(false);
    }

    pub async fn cut_for(&self, time: Duration) {
        self.cut();
        tokio::time::sleep(time).await;
        self.mend();
    }

    /// Datagrams of media that passed, both ways.
    pub fn datagrams(&self) -> u64 {
        *self.shared.passed.lock().unwrap()
    }
}

impl Shared {
    async fn open(&self) {
        let mut cut = self.cut.subscribe();
        let _ = cut.wait_for(|cut| !cut).await;
    }

    /// How long a datagram that takes this long on the way stands in its queue and is underway; `None`: the queue is full.
    fn queued(&self, way: Way, takes: Duration) -> Option<Duration> {
        let now = Instant::now();
        let free = &mut self.free.lock().unwrap()[way as usize];
        let begins = now.max(*free);
        (begins - now < QUEUE).then(|| {
            *free = begins + takes;
            *free - now
        })
    }

    /// How late this datagram arrives; `None`: never.
    fn fate(&self, way: Way, bytes: usize) -> Option<Duration> {
        if *self.cut.borrow() {
            return None;
        }
        let faults = *self.faults.lock().unwrap();
        let mut chance = self.chance.lock().unwrap();
        if chance.random_range(0.0..100.0) < faults.loss_pct {
            return None;
        }
        let queued = match faults.rate_bps {
            Some(bps) => self.queued(way, Duration::from_secs_f64(bytes as f64 * 8.0 / bps))?,
            None => Duration::ZERO,
        };
        *self.passed.lock().unwrap() += 1;
        Some(queued + faults.delay + faults.jitter.mul_f64(chance.random_range(0.0..1.0)))
    }
}

async fn connection(shared: Arc<Shared>, client: TcpStream) {
    shared.open().await;
    let mut first = [0; 64];
    // The request line comes in one piece from every client we have.
    let Ok(n) = client.peek(&mut first).await else {
        return;
    };
    if first[..n].starts_with(b"GET /api/v1/live") {
        live(shared, client).await;
    } else if let Ok(server) = TcpStream::connect(shared.server).await {
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        tokio::join!(pump(&shared, client_in, server_out), pump(&shared, server_in, client_out));
    }
}

async fn pump(shared: &Shared, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(n) = from.read(&mut piece).await {
        shared.open().await;
        if n == 0 || to.write_all(&piece[..n]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

async fn live(shared: Arc<Shared>, client: TcpStream) {
    let settings = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut request = format!("ws://{}/api/v1/live", shared.server).into_client_request().unwrap();
    #[allow(clippy::result_large_err)]
    let copy = |asked: &Request, reply: Response| {
        for name in ["authorization", "cookie"] {
            if let Some(value) = asked.headers().get(name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        Ok(reply)
    };
    let Ok(client) = tokio_tungstenite::accept_hdr_async_with_config(client, copy, Some(settings)).await else {
        return;
    };
    // A refusal of the server (stale token) reaches the client as a closed socket.
    let Ok((server, _)) = tokio_tungstenite::connect_async_with_config(request, Some(settings), true).await else {
        return;
    };
    let ((mut to_client, mut from_client), (mut to_server, mut from_server)) = (client.split(), server.split());
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            shared.open().await;
            if !message.is_ping() && !message.is_pong() && to_server.send(message).await.is_err() {
                break;
            }
        }
        let _ = to_server.close().await;
    };
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            shared.open().await;
            if message.is_ping() || message.is_pong() {
                continue;
            }
            let message = match message {
                Message::Text(text) => Message::Text(through_our_door(&shared, &text).await.into()),
                other => other,
            };
            if to_client.send(message).await.is_err() {
                break;
            }
        }
        let _ = to_client.close().await;
    };
    tokio::join!(up, down);
}

/// An offer names the server's UDP address: the link's own door goes there instead.
async fn through_our_door(shared: &Arc<Shared>, text: &str) -> String {
    let Ok(ServerMessage::RtcOffer { session, mut offer }) = serde_json::from_str(text) else {
        return text.to_owned();
    };
    let mut sdp = String::new();
    for line in offer.sdp.split_inclusive('\n') {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if line.starts_with("a=candidate:")
            && let Some(port) = words.get(5).and_then(|p| p.parse().ok())
        {
            words[5] = door(shared, port).await.to_string();
        }
        sdp += &words.join(" ");
    }
    offer.sdp = sdp;
    serde_json::to_string(&ServerMessage::RtcOffer { session, offer }).unwrap()
}

/// The door to a UDP port of the server; made at its first use.
async fn door(shared: &Arc<Shared>, port: u16) -> u16 {
    let mut doors = shared.doors.lock().await;
    if let Some(door) = doors.get(&port) {
        return *door;
    }
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let number = front.local_addr().unwrap().port();
    doors.insert(port, number);
    let server = SocketAddr::new(shared.server.ip(), port);
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut datagram = vec![0; DATAGRAM];
        while let Ok((n, client)) = front.recv_from(&mut datagram).await {
            let back = match backs.get(&client) {
                Some(back) => back.clone(),
                None => {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    back.connect(server).await.unwrap();
                    backs.insert(client, back.clone());
                    tokio::spawn(answers(shared.clone(), back.clone(), front.clone(), client));
                    back
                }
            };
            later(&shared, Way::Up, datagram[..n].to_vec(), async move |bytes: Vec<u8>| drop(back.send(&bytes).await));
        }
    });
    number
}

/// The way back to one client.
async fn answers(shared: Arc<Shared>, back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr) {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        match back.recv(&mut datagram).await {
            Ok(n) => {
                let front = front.clone();
                later(&shared, Way::Down, datagram[..n].to_vec(), async move |b: Vec<u8>| {
                    drop(front.send_to(&b, client).await)
                });
            }
            // The server's port is closed: it may come back, or another offer leads elsewhere.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn later<F>(shared: &Shared, way: Way, bytes: Vec<u8>, send: impl FnOnce(Vec<u8>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    if let Some(delay) = shared.fate(way, bytes.len()) {
        tokio::spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            send(bytes).await;
        });
    }
}
