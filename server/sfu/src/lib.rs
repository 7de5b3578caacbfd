//! The SFU: copies the packets of each publisher to those who may see and hear them.
//!
//! Owns: media workers (OS threads with their own UDP socket), the rooms pinned to them, every WebRTC leg.
//! Never: decodes media, changes a timestamp, knows cases, accounts or payloads, speaks HTTP.
//! Elsewhere: who may join and when the gate opens (`lotse-server`), files (the archivist).
//!
//! Read `worker` (the loop), `room` (who gets what) and `leg` (one WebRTC connection) first.

mod answer;
mod budget;
mod command;
mod engine;
mod error;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod history;
mod interceptor;
mod keyframe;
mod keytap;
mod leg;
mod offer;
mod path;
mod pointer;
mod probe;
mod publisher;
mod room;
mod rooms;
mod socket;
mod srtp;
mod stun;
mod subscriber;
mod tcp;
mod voices;
mod worker;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Leg, Offer, RtcAnswer, TrackInfo};
use mio::{Poll, Waker};
use tokio::sync::{mpsc, oneshot};

use command::{Command, Shared};
use engine::Engine;
use socket::{DatagramSocket, Outlet};
use tcp::Streams;
use worker::{State, Worker};

pub use error::SfuError;
pub use offer::check as check_offer;
pub use probe::probe;
pub use tcp::{FirstBytes, first_bytes};

/// Tracks one participant may announce.
pub const MAX_TRACKS: usize = 8;
/// Participants of one room.
pub const MAX_LEGS: usize = 128;
/// Events waiting for the server. When full, the worker keeps them and tries again on its next turn.
pub const EVENT_QUEUE: usize = 1_024;
/// Commands waiting for a worker; callers wait when it is full.
const COMMAND_QUEUE: usize = 256;
/// How long a join, an answer or a watch waits for a busy worker.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the SFU listens and what it tells clients.
#[derive(Debug, Clone)]
pub struct SfuConfig {
    /// Address the sockets are bound to.
    pub bind: IpAddr,
    /// Addresses written into offers, the best first; at least one.
    pub public: Vec<IpAddr>,
    /// Port of those addresses on which [`Sfu::adopt`] gets its connections; `None`: no media over TCP.
    pub tcp_port: Option<u16>,
    /// Port of worker 0; worker n uses this plus n. 0 lets the system choose.
    pub udp_port: u16,
    /// Number of worker threads. 0: one per core.
    pub workers: usize,
}

/// Who is at the other end of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegKind {
    /// A human with a screen for others' pictures: hears the loudest three.
    Person,
    /// A human with a camera at the machine: hears the loudest three, and gets no picture but those asked for.
    Technician,
    /// The archivist: gets every voice, is never heard and gets no pointer.
    Archivist,
    /// A foreign client that came with an offer of its own (`Sfu::offer`): publishes, or gets one picture and one voice. No pointer.
    Gateway,
}

/// A foreign client that comes with an offer.
#[derive(Debug, Clone)]
pub struct Gateway {
    pub who: Pseudonym,
    pub way: Way,
    /// Its SDP offer, as it came.
    pub sdp: String,
}

/// Which way a gateway's media flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It sends us a picture, a voice, or both.
    Publish,
    /// It gets the picture and the voice of this participant, or of another while that one has none.
    Watch { first: Pseudonym },
}

/// What the SFU tells the server.
#[derive(Debug, Clone)]
pub enum SfuEvent {
    /// Hand this offer to the participant; it answers by `Sfu::answer`.
    Offer { room: SessionId, who: Pseudonym, offer: Offer },
    /// A key frame of `who`'s track is wanted (also sent to the publisher as RTCP PLI).
    KeyFrame { room: SessionId, who: Pseudonym, track: TrackId },
    /// The first watcher of `who`'s track came (`on`) or the last one went.
    Watched { room: SessionId, who: Pseudonym, track: TrackId, on: bool },
    /// The leg is up: ICE, DTLS and SRTP are done.
    Connected { room: SessionId, who: Pseudonym },
    /// The leg is gone. `timeout`: 5 s without a valid packet (16 s of a foreign client that only watches); `dtls`: the handshake failed; `replaced`: joined again;
    /// `bye`: the client closed it. `leg`: as `Sfu::join` or `Sfu::offer` numbered it; a newer one of `who` may stand by now.
    Closed { room: SessionId, who: Pseudonym, leg: u64, reason: &'static str },
}

/// Sums since start, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Datagrams that belonged to no leg or were no valid STUN, DTLS or SRTP.
    pub drops_in: u64,
    /// Datagrams the socket did not take.
    pub drops_out: u64,
    /// Legs there were within the last second.
    pub legs: u64,
    /// CPU time of each worker's thread, µs.
    pub cpu_us: Vec<u64>,
}

/// A handle on the running SFU. Clones are the same SFU; when the last one is dropped the workers stop.
#[derive(Clone)]
pub struct Sfu {
    workers: Arc<[WorkerHandle]>,
}

struct WorkerHandle {
    port: u16,
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
    }
}

/// Opens the sockets and starts the workers.
pub fn start(config: SfuConfig) -> Result<(Sfu, mpsc::Receiver<SfuEvent>), SfuError> {
    let (events, receiver) = mpsc::channel(EVENT_QUEUE);
    let count = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let crypto = rtc::crypto::default_provider().map_err(engine::core("its cryptography"))?;
    let certificate = engine::certificate(&crypto)?;
    let mut workers = Vec::with_capacity(count);
    for n in 0..count {
        let port = match config.udp_port {
            0 => 0,
            first => u16::try_from(usize::from(first) + n).map_err(|_| SfuError::Socket {
                bind: config.bind,
                port: first,
                source: io::Error::new(io::ErrorKind::InvalidInput, "too few ports above it for all workers"),
            })?,
        };
        let socket = DatagramSocket::bind(config.bind, port)
            .and_then(|socket| socket.port().map(|port| (socket, port)))
            .map_err(|source| SfuError::Socket { bind: config.bind, port, source });
        let (socket, port) = socket?;
        let poll = Poll::new().map_err(SfuError::Worker)?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::WAKER).map_err(SfuError::Worker)?);
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let shared = Arc::new(Shared::default());
        let at = |port: u16| config.public.iter().map(|ip| SocketAddr::new(*ip, port)).collect::<Vec<_>>();
        let addresses = (at(port), config.tcp_port.map(at).unwrap_or_default());
        let number = u8::try_from(n).map_err(|_| SfuError::Worker(io::Error::other("more than 256 workers")))?;
        let engine = Engine::new(number, addresses, crypto.clone(), certificate.clone());
        let registry = poll.registry().try_clone().map_err(SfuError::Worker)?;
        let state = State::new(engine, events.clone(), Streams::new(Some(registry)));
        let outlet = Outlet::new(socket);
        let worker = Worker { poll, outlet, commands: queue, shared: shared.clone(), state };
        std::thread::Builder::new().name(format!("media-{n}")).spawn(move || worker.run()).map_err(SfuError::Worker)?;
        workers.push(WorkerHandle { port, commands, waker, shared });
    }
    Ok((Sfu { workers: workers.into() }, receiver))
}

impl Sfu {
    /// The port of each worker.
    pub fn udp_ports(&self) -> Vec<u16> {
        self.workers.iter().map(|worker| worker.port).collect()
    }

    /// Makes a leg, closed by its gate; an older leg of the same participant is replaced. An `SfuEvent::Offer` follows.
    /// Returns the leg's number, which no other of its room has.
    pub async fn join(
        &self,
        room: SessionId,
        who: Pseudonym,
        kind: LegKind,
        publish: Vec<TrackInfo>,
    ) -> Result<u64, SfuError> {
        self.ask(room, |reply| Command::Join { room, who, kind, publish, reply }).await?
    }

    /// Makes a leg for a client that offers, closed by its gate; an older leg of the same participant is replaced. Returns the
    /// leg's number and the SDP answer. No `SfuEvent::Offer` follows, now or later: its lines stay as they are.
    pub async fn offer(&self, room: SessionId, gateway: Gateway) -> Result<(u64, String), SfuError> {
        self.ask(room, |reply| Command::Offer { room, gateway, reply }).await?
    }

    /// Takes the client's answer to the newest offer.
    pub async fn answer(&self, room: SessionId, who: Pseudonym, answer: RtcAnswer) -> Result<(), SfuError> {
        self.ask(room, |reply| Command::Answer { room, who, answer, reply }).await?
    }

    /// Says whether `who` wants to get this track. Mains and voices are wanted from the start, previews are not.
    pub async fn watch(&self, room: SessionId, who: Pseudonym, track: TrackId, on: bool) -> Result<(), SfuError> {
        self.ask(room, |reply| Command::Watch { room, who, track, on, reply }).await?
    }

    /// Opens or closes the gate of a participant: nothing flows to or from a closed one. May be said before `join`;
    /// a leg that replaces another keeps its gate. When this returns, it holds.
    pub async fn gate(&self, room: SessionId, who: Pseudonym, open: bool) {
        let _ = self.tell(room, |reply| Command::Gate { room, who, open, reply }).await;
    }

    /// Ends a leg and forgets its gate.
    pub async fn leave(&self, room: SessionId, who: Pseudonym) {
        let _ = self.tell(room, |reply| Command::Leave { room, who, reply }).await;
    }

    /// Ends all legs of a room.
    pub async fn close_room(&self, room: SessionId) {
        let _ = self.tell(room, |reply| Command::CloseRoom { room, reply }).await;
    }

    /// The legs of a room as measured over the last second, in order of pseudonym.
    pub async fn legs(&self, room: SessionId) -> Vec<Leg> {
        self.ask(room, |reply| Command::Legs { room, reply }).await.unwrap_or_default()
    }

    /// Takes over a TCP connection that began with this framed STUN request, of which nothing was read yet. False: it names
    /// no worker of ours, or that worker is too busy; the connection is closed.
    pub fn adopt(&self, socket: std::net::TcpStream, request: &[u8]) -> bool {
        let Some(worker) = tcp::worker_of(request).and_then(|n| self.workers.get(n)) else { return false };
        worker.commands.try_send(Command::Stream { socket }).is_ok() && worker.waker.wake().is_ok()
    }

    /// Do all workers take commands and answer within this time?
    pub async fn answers(&self, within: Duration) -> bool {
        let nobody = SessionId(Default::default());
        let all = async {
            for worker in self.workers.iter() {
                self.tell_worker(worker, |reply| Command::Legs { room: nobody, reply }).await?;
            }
            Ok::<_, SfuError>(())
        };
        matches!(tokio::time::timeout(within, all).await, Ok(Ok(())))
    }

    /// Sums since start.
    pub fn counters(&self) -> Counters {
        let mut sums = Counters::default();
        for Shared { packets_in, bytes_in, packets_out, bytes_out, drops_in, drops_out, legs, .. } in
            self.workers.iter().map(|worker| &*worker.shared)
        {
            sums.packets_in += packets_in.load(Ordering::Relaxed);
            sums.bytes_in += bytes_in.load(Ordering::Relaxed);
            sums.packets_out += packets_out.load(Ordering::Relaxed);
            sums.bytes_out += bytes_out.load(Ordering::Relaxed);
            sums.drops_in += drops_in.load(Ordering::Relaxed);
            sums.drops_out += drops_out.load(Ordering::Relaxed);
            sums.legs += legs.load(Ordering::Relaxed);
        }
        sums.cpu_us = self.workers.iter().map(|worker| worker.shared.cpu_us()).collect();
        sums
    }

    /// The worker of a room: always the same one.
    fn worker(&self, room: SessionId) -> &WorkerHandle {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        &self.workers[(hasher.finish() % self.workers.len() as u64) as usize]
    }

    /// A command that may be refused when the worker is too busy.
    async fn ask<T>(
        &self,
        room: SessionId,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, SfuError> {
        match tokio::time::timeout(PATIENCE, self.tell(room, command)).await {
            Ok(done) => done,
            Err(_) => Err(SfuError::Busy),
        }
    }

    /// A command that waits as long as it takes: closing a gate must not be lost.
    async fn tell<T>(
        &self,
        room: SessionId,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, SfuError> {
        self.tell_worker(self.worker(room), command).await
    }

    async fn tell_worker<T>(
        &self,
        worker: &WorkerHandle,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, SfuError> {
        let (reply, done) = oneshot::channel();
        worker.commands.send(command(reply)).await.map_err(|_| SfuError::Stopped)?;
        worker.waker.wake().map_err(|_| SfuError::Stopped)?;
        done.await.map_err(|_| SfuError::Stopped)
    }
}

/// Random letters and digits, for ICE names and passwords.
fn random_text(len: usize) -> String {
    use rand::{RngExt as _, distr::Alphanumeric};
    rand::rng().sample_iter(Alphanumeric).take(len).map(char::from).collect()
}
