//! A bad network between one client and the server, in user space: everything of the client goes through a [`Link`].
//!
//! Owns: a TCP door that is as late and slow as the link and stalls when it is cut, and a UDP door for media. The live socket is
//! passed on message by message, because the server's offers name its UDP address: the link writes its own door there.
//! Never: changes anything else that is said. Elsewhere: what happens to a datagram (`fate`), links by words (`weather`).

mod fate;
mod weather;

use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

pub use fate::{Faults, Way};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, sink, stream};
use lotse_protocol::command::ServerMessage;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream, UdpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_tungstenite::tungstenite::{
    Message,
    client::IntoClientRequest as _,
    handshake::server::{Request, Response},
    protocol::WebSocketConfig,
};
pub use weather::Weather;

/// Messages of the server hold cards of a whole queue.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Largest datagram of media.
const DATAGRAM: usize = 2_048;

/// Pieces of a stream that are underway, at most; what is read at once of one that is not cut into messages.
const UNDERWAY: usize = 64;
const PIECE: usize = 16 * 1024;

const UP: usize = 0;
const DOWN: usize = 1;

struct Shared {
    server: SocketAddr,
    cut: watch::Sender<bool>,
    faults: Mutex<Faults>,
    ways: [Mutex<Way>; 2],
    underway: [mpsc::UnboundedSender<Underway>; 2],
    /// The link's door for each UDP port of the server.
    doors: tokio::sync::Mutex<HashMap<u16, u16>>,
    /// Counts the addresses the server has seen the client under.
    address: watch::Sender<u64>,
    passed: Mutex<u64>,
}

pub struct Link {
    /// What the client takes for the server.
    pub url: String,
    shared: Arc<Shared>,
}

impl Link {
    pub async fn to(server: &str, seed: u64) -> Self {
        Self::at("127.0.0.1:0", server, seed).await.unwrap()
    }

    /// `listen`: the TCP door. `server`: "http://ADDRESS:PORT" on loopback.
    pub async fn at(listen: &str, server: &str, seed: u64) -> Result<Self, String> {
        let listener = TcpListener::bind(listen).await.map_err(|e| format!("{listen}: {e}"))?;
        let url = format!("http://{}", listener.local_addr().map_err(|e| e.to_string())?);
        let shared = Arc::new(Shared {
            server: server
                .strip_prefix("http://")
                .and_then(|address| address.parse().ok())
                .ok_or_else(|| format!("{server}: a link leads to http://ADDRESS:PORT"))?,
            cut: watch::channel(false).0,
            faults: Mutex::default(),
            underway: std::array::from_fn(|_| {
                let (to, coming) = mpsc::unbounded_channel();
                tokio::spawn(deliver(coming));
                to
            }),
            ways: [seed, seed.wrapping_add(1)].map(|seed| Mutex::new(Way::new(seed, Instant::now()))),
            doors: tokio::sync::Mutex::default(),
            address: watch::channel(0).0,
            passed: Mutex::new(0),
        });
        let for_all = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(for_all.clone(), client));
            }
        });
        Ok(Self { url, shared })
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

    /// From now on the server sees the client's media come from another address, and what it sends to the old one is lost.
    pub fn change_address(&self) {
        self.shared.address.send_modify(|count| *count += 1);
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

    /// How late each copy of a datagram arrives; none: never.
    fn fate(&self, way: usize, bytes: usize) -> Vec<Duration> {
        if *self.cut.borrow() {
            return Vec::new();
        }
        let faults = *self.faults.lock().unwrap();
        let late = self.ways[way].lock().unwrap().datagram(&faults, bytes, Instant::now());
        *self.passed.lock().unwrap() += u64::from(!late.is_empty());
        late
    }

    /// Passes a stream on in order, as late and as slowly as the link is, until either end is closed.
    async fn carry<T>(&self, way: usize, bytes: impl Fn(&T) -> usize, from: impl Stream<Item = T>, to: impl Sink<T>) {
        let (underway, mut arriving) = mpsc::channel(UNDERWAY);
        let leaving = async {
            tokio::pin!(from);
            while let Some(piece) = from.next().await {
                let faults = *self.faults.lock().unwrap();
                let (due, wait) = self.ways[way].lock().unwrap().piece(&faults, bytes(&piece), Instant::now());
                if underway.send((due, piece)).await.is_err() {
                    break;
                }
                tokio::time::sleep(wait).await;
            }
            drop(underway);
            std::future::pending::<()>().await;
        };
        let arrived = async {
            tokio::pin!(to);
            while let Some((due, piece)) = arriving.recv().await {
                tokio::time::sleep_until(due).await;
                self.open().await;
                if to.send(piece).await.is_err() {
                    break;
                }
            }
            let _ = to.close().await;
        };
        tokio::select! { () = arrived => {}, () = leaving => {} }
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
        tokio::join!(
            shared.carry(UP, Vec::len, pieces(client_in), writer(server_out)),
            shared.carry(DOWN, Vec::len, pieces(server_in), writer(client_out)),
        );
    }
}

fn pieces(from: OwnedReadHalf) -> impl Stream<Item = Vec<u8>> {
    stream::unfold(from, async |mut from| {
        let mut piece = vec![0; PIECE];
        let n = from.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        piece.truncate(n);
        Some((piece, from))
    })
}

fn writer(to: OwnedWriteHalf) -> impl Sink<Vec<u8>> {
    sink::unfold(to, async |mut to: OwnedWriteHalf, piece: Vec<u8>| to.write_all(&piece).await.map(|()| to))
}

async fn live(shared: Arc<Shared>, client: TcpStream) {
    let settings = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut request = format!("ws://{}/api/v1/live", shared.server).into_client_request().unwrap();
    #[allow(clippy::result_large_err)]
    let copy = |asked: &Request, reply: Response| {
        for name in ["authorization", "cookie", "host", "origin"] {
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
    let ((to_client, from_client), (to_server, from_server)) = (client.split(), server.split());
    // Each side of a socket answers its own pings.
    let spoken = |message: &Message| !message.is_ping() && !message.is_pong();
    let up = from_client.take_while(|m| ready(m.is_ok())).filter_map(|m| ready(m.ok().filter(spoken)));
    let down = from_server.take_while(|m| ready(m.is_ok())).filter_map(|m| ready(m.ok().filter(spoken)));
    let down = down.then(async |message| match message {
        Message::Text(text) => Message::Text(through_our_door(&shared, &text).await.into()),
        other => other,
    });
    tokio::join!(shared.carry(UP, Message::len, up, to_server), shared.carry(DOWN, Message::len, down, to_client),);
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
        let address = shared.address.subscribe();
        let mut backs: HashMap<(u64, SocketAddr), Arc<UdpSocket>> = HashMap::new();
        let mut datagram = vec![0; DATAGRAM];
        while let Ok((n, client)) = front.recv_from(&mut datagram).await {
            let now = *address.borrow();
            backs.retain(|(of, _), _| *of == now);
            let back = match backs.get(&(now, client)) {
                Some(back) => back.clone(),
                None => {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    back.connect(server).await.unwrap();
                    backs.insert((now, client), back.clone());
                    tokio::spawn(answers(shared.clone(), now, back.clone(), front.clone(), client));
                    back
                }
            };
            later(&shared, UP, &datagram[..n], &back, server);
        }
    });
    number
}

/// The way back to one client, as long as it has this address.
async fn answers(shared: Arc<Shared>, of: u64, back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr) {
    let mut address = shared.address.subscribe();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let came = tokio::select! {
            came = back.recv(&mut datagram) => came,
            _ = address.wait_for(|now| *now != of) => return,
        };
        match came {
            Ok(n) => later(&shared, DOWN, &datagram[..n], &front, client),
            // The server's port is closed: it may come back, or another offer leads elsewhere.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn later(shared: &Shared, way: usize, bytes: &[u8], from: &Arc<UdpSocket>, to: SocketAddr) {
    for delay in shared.fate(way, bytes.len()) {
        let underway = Underway { due: Instant::now() + delay, bytes: bytes.to_vec(), from: from.clone(), to };
        // The link has ended: nothing arrives any more.
        let _ = shared.underway[way].send(underway);
    }
}

/// A datagram that will arrive.
struct Underway {
    due: Instant,
    bytes: Vec<u8>,
    from: Arc<UdpSocket>,
    to: SocketAddr,
}

/// Delivers the datagrams of one direction when they are due, and those due at once in the order in which they came: timers of their own
/// would mix them up, and no queue does.
async fn deliver(mut coming: mpsc::UnboundedReceiver<Underway>) {
    let mut waiting: BTreeMap<(Instant, u64), Underway> = BTreeMap::new();
    let mut count = 0;
    loop {
        let due = waiting.first_key_value().map(|((due, _), _)| *due);
        tokio::select! {
            came = coming.recv() => {
                let Some(came) = came else { return };
                waiting.insert((came.due, count), came);
                count += 1;
            }
            () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                let now = Instant::now();
                while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= now) {
                    let Underway { bytes, from, to, .. } = first.remove();
                    // Its receiver may be gone.
                    let _ = from.send_to(&bytes, to).await;
                }
            }
        }
    }
}
