//! A media worker: one OS thread, one UDP socket, the rooms pinned to it, the TCP connections of their legs.
//!
//! Owns: the loop (read a batch, feed it, let every touched leg speak, send), the table from address to leg.
//! Never: waits for anything but its socket, its clock and its command queue.
//! Elsewhere: what a packet leads to (`forward`), what a command leads to (`rooms`), bytes of TCP connections (`tcp`).

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use lotse_protocol::id::SessionId;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::command::{Command, Shared};
use crate::path::{Check, Route};
use crate::probe;
use crate::{
    LegKind, SfuEvent, engine::Engine, history::Packet, leg::Leg, room::Room, socket::Outlet, stun, tcp::Streams,
};

/// Place of a leg in its worker.
pub(crate) type LegId = usize;

pub(crate) const SOCKET: Token = Token(0);
pub(crate) const WAKER: Token = Token(1);
/// Commands done per turn, so that packets never wait for a flood of them.
const COMMANDS_PER_TURN: usize = 64;
/// Batches read per turn before everybody may send.
const BATCHES_PER_TURN: usize = 4;
/// Silence, seconds and trouble are looked at this often.
const TICK: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// Events kept while the server does not take them. Above this, key frame hints are left out: the publisher got its PLI.
const BACKLOG: usize = 4_096;

/// Events on their way to the server.
pub(crate) struct EventsOut {
    sender: mpsc::Sender<SfuEvent>,
    backlog: VecDeque<SfuEvent>,
}

impl EventsOut {
    pub(crate) fn new(sender: mpsc::Sender<SfuEvent>) -> Self {
        Self { sender, backlog: VecDeque::new() }
    }

    /// Hands over, or keeps in order for the next turn.
    pub(crate) fn tell(&mut self, event: SfuEvent) {
        self.backlog.push_back(event);
        self.flush();
    }

    /// For events whose loss does no harm.
    pub(crate) fn tell_if_room(&mut self, event: SfuEvent) {
        if self.backlog.len() < BACKLOG {
            self.tell(event);
        }
    }

    fn flush(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    return;
                }
                // Nobody listens any more.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.backlog.clear(),
            }
        }
    }
}

/// Trouble of the running second, told once.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) unknown: u64,
    pub(crate) forged: u64,
    pub(crate) refused: u64,
    pub(crate) pointer: u64,
    pub(crate) broken: u64,
}

/// What the packet path and the commands work on.
pub(crate) struct State {
    pub(crate) legs: Vec<Option<Box<Leg>>>,
    pub(crate) rooms: Vec<Option<Room>>,
    pub(crate) room_of: HashMap<SessionId, usize>,
    pub(crate) by_ufrag: HashMap<String, LegId>,
    pub(crate) by_address: HashMap<SocketAddr, LegId>,
    pub(crate) events: EventsOut,
    pub(crate) trouble: Trouble,
    pub(crate) engine: Engine,
    pub(crate) next_serial: u64,
    /// Legs with something to say.
    pub(crate) to_drain: VecDeque<LegId>,
    /// Forwarded packets of this turn; the `due` of legs point into it.
    pub(crate) burst: Vec<Packet>,
    pub(crate) outbox: Vec<(Route, BytesMut)>,
    pub(crate) streams: Streams,
    probe_budget: Budget,
    /// Legs that have ended in this turn, and why.
    pub(crate) ended: Vec<(LegId, &'static str)>,
}

impl State {
    pub(crate) fn new(engine: Engine, events: mpsc::Sender<SfuEvent>, streams: Streams) -> Self {
        Self {
            legs: Vec::new(),
            rooms: Vec::new(),
            room_of: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            events: EventsOut::new(events),
            trouble: Trouble::default(),
            engine,
            next_serial: 0,
            to_drain: VecDeque::new(),
            burst: Vec::new(),
            outbox: Vec::new(),
            streams,
            probe_budget: Budget::new(probe::ANSWERS_PER_SECOND),
            ended: Vec::new(),
        }
    }

    /// Lets a leg's connection speak before this turn ends.
    pub(crate) fn queue(&mut self, id: LegId) {
        if let Some(leg) = self.legs.get_mut(id).and_then(Option::as_mut) {
            leg.polled = true;
            if !leg.queued {
                leg.queued = true;
                self.to_drain.push_back(id);
            }
        }
    }

    /// One datagram from the network, which has waited for us. False: it belonged to nobody.
    pub(crate) fn on_datagram(&mut self, from: SocketAddr, data: &[u8], now: Instant, waited: Duration) -> bool {
        let Some(id) = self.owner(from, data, now) else { return false };
        // What is measured of a packet counts from its arrival; everything else happens now.
        let came = if is_media(data) { now.checked_sub(waited).unwrap_or(now) } else { now };
        self.feed(id, Route::Udp(from), data, came)
    }

    /// Hands a packet to its leg.
    pub(crate) fn feed(&mut self, id: LegId, from: Route, data: &[u8], now: Instant) -> bool {
        let Some(leg) = self.legs[id].as_mut() else { return false };
        leg.second.bytes_in += data.len() as u64;
        leg.path.on_datagram(from, now);
        let (peer_addr, transport_protocol) = match from {
            Route::Udp(peer) => (peer, TransportProtocol::UDP),
            Route::Tcp(peer) => (peer, TransportProtocol::TCP),
        };
        let local_addr = self.engine.local(from);
        let transport = TransportContext { local_addr, peer_addr, transport_protocol, ecn: None };
        let message = BytesMut::from(data);
        let fed =
            catch_unwind(AssertUnwindSafe(|| leg.connection.handle_read(TaggedBytesMut { now, transport, message })));
        match fed {
            Ok(_) => self.queue(id),
            Err(_) => self.ended.push((id, "broken")),
        }
        true
    }

    /// Whose datagram this is. A STUN request must be genuine, and only then may its address be taken over.
    fn owner(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Option<LegId> {
        if !is_stun(data) {
            let known = self.by_address.get(&from).copied();
            self.trouble.unknown += u64::from(known.is_none());
            return known;
        }
        let Some(binding) = stun::parse(data) else {
            self.trouble.forged += 1;
            return None;
        };
        match binding.class {
            stun::Class::Request => {}
            stun::Class::Response => return self.by_address.get(&from).copied(),
            stun::Class::Indication => return None,
        }
        if binding.is_anonymous() {
            if self.probe_budget.take(now) {
                let answer = probe::answer(binding.transaction, from);
                self.outbox.push((Route::Udp(from), answer[..].into()));
            }
            return None;
        }
        let id = self.genuine(&binding, Route::Udp(from), now)?;
        self.by_address.insert(from, id);
        Some(id)
    }

    /// The leg that a request is for, if its sender knows the leg's password.
    pub(crate) fn genuine(&mut self, binding: &stun::Binding<'_>, from: Route, now: Instant) -> Option<LegId> {
        let id = binding.ufrag.and_then(|ufrag| self.by_ufrag.get(ufrag)).copied();
        let Some((id, leg)) = id.and_then(|id| Some((id, self.legs[id].as_mut()?))) else {
            self.trouble.unknown += 1;
            return None;
        };
        if !binding.is_genuine(&leg.password, self.engine.crypto.crypto()) {
            self.trouble.forged += 1;
            return None;
        }
        match leg.path.on_check(from, binding.nominates, binding.transaction, now) {
            Check::Ours { left } => {
                leg.last_valid = now;
                if let Some(Route::Udp(left)) = left
                    && self.by_address.get(&left) == Some(&id)
                {
                    self.by_address.remove(&left);
                }
            }
            Check::Copied => {
                self.trouble.forged += 1;
                return None;
            }
        }
        Some(id)
    }

    /// Lets every queued leg speak, and sends each what was forwarded to it.
    pub(crate) fn drain(&mut self, now: Instant, out: &mut Outlet) {
        while let Some(id) = self.to_drain.pop_front() {
            let done = catch_unwind(AssertUnwindSafe(|| {
                let polled = self.legs[id].as_mut().is_some_and(|leg| {
                    leg.queued = false;
                    std::mem::take(&mut leg.polled)
                });
                if polled {
                    self.poll_leg(id, now);
                    // The end of a handshake goes before what only its key opens.
                    self.send_said(out);
                }
                self.send_due(id, out);
            }));
            if done.is_err() {
                self.ended.push((id, "broken"));
            }
        }
        self.burst.clear();
    }

    /// Sends what the connections had to say.
    pub(crate) fn send_said(&mut self, out: &mut Outlet) {
        for (to, message) in self.outbox.drain(..) {
            out.push(&message);
            out.flush(to, &mut self.streams);
        }
    }

    /// Events, reads, writes, next deadline.
    fn poll_leg(&mut self, id: LegId, now: Instant) {
        while let Some(event) = self.legs[id].as_mut().and_then(|leg| leg.connection.poll_event()) {
            self.on_event(id, event);
        }
        loop {
            let Some(leg) = self.legs[id].as_mut() else { return };
            let Some(message) = leg.connection.poll_read() else { break };
            leg.last_valid = now;
            match message.message {
                RTCMessage::RtpPacket(_, packet) => self.on_rtp(id, packet, now),
                RTCMessage::RtcpPacket(_, packets) => self.on_rtcp(id, packets, now),
                RTCMessage::DataChannelMessage(_, message) => self.on_pointer(id, &message.data, now),
                // The core may learn to say more; none of it is ours to forward.
                _ => {}
            }
        }
        let Some(leg) = self.legs[id].as_mut() else { return };
        while let Some(datagram) = leg.connection.poll_write() {
            leg.second.bytes_out += datagram.message.len() as u64;
            let peer = datagram.transport.peer_addr;
            let asked = match datagram.transport.transport_protocol {
                TransportProtocol::TCP => Route::Tcp(peer),
                _ => Route::Udp(peer),
            };
            // A check is answered where it came from; all else goes the one way that media goes.
            let path = leg.path.to().filter(|_| !is_stun(&datagram.message));
            self.outbox.push((path.unwrap_or(asked), datagram.message));
        }
        leg.deadline = leg.connection.poll_timeout();
    }

    fn on_event(&mut self, id: LegId, event: RTCPeerConnectionEvent) {
        let Some(leg) = self.legs[id].as_mut() else { return };
        let (room, who) = (leg.room, leg.who);
        match event {
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                RTCPeerConnectionState::Connected if !leg.connected => {
                    if !leg.on_handshake(&self.engine) {
                        tracing::error!("the WebRTC core has not shown the key of a leg, which is ended");
                        self.ended.push((id, "broken"));
                        return;
                    }
                    leg.connected = true;
                    leg.state.connected = true;
                    if let Some(room) = self.rooms[room].as_ref() {
                        self.events.tell(SfuEvent::Connected { room: room.id, who });
                    }
                    let (now, lines, kind) = (Instant::now(), leg.downlinks.len(), leg.kind);
                    for line in 0..lines {
                        match kind {
                            // Our own client loses what comes right after the handshake.
                            LegKind::Archivist => self.want_key_frame(id, line, now),
                            _ => self.begin(id, line, now),
                        }
                    }
                }
                RTCPeerConnectionState::Failed => self.ended.push((id, "dtls")),
                RTCPeerConnectionState::Closed => self.ended.push((id, "bye")),
                _ => {}
            },
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(channel))
                if Some(channel) == leg.channel =>
            {
                leg.channel_open = true;
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(channel))
                if Some(channel) == leg.channel =>
            {
                leg.channel_open = false;
            }
            _ => {}
        }
    }

    /// Calls every leg and held-back key frame request whose time has come.
    pub(crate) fn on_deadlines(&mut self, now: Instant) {
        for id in 0..self.legs.len() {
            let Some(leg) = self.legs[id].as_mut() else { continue };
            if leg.deadline.is_some_and(|deadline| now >= deadline) {
                let called = catch_unwind(AssertUnwindSafe(|| leg.connection.handle_timeout(now)));
                if called.is_err() {
                    self.ended.push((id, "broken"));
                    continue;
                }
                self.queue(id);
            }
            for at in 0..self.legs[id].as_ref().map_or(0, |leg| leg.uplinks.len()) {
                let due = self.legs[id].as_mut().is_some_and(|leg| leg.uplinks[at].key_frames.poll(now));
                if due {
                    self.ask_key_frame(id, at, now);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let legs = self.legs.iter().flatten();
        let gates = |leg: &Leg| leg.uplinks.iter().filter_map(|uplink| uplink.key_frames.deadline()).min();
        legs.flat_map(|leg| [leg.deadline, gates(leg)]).flatten().min()
    }
}

/// See the module.
pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) outlet: Outlet,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
}

/// What a turn leaves to the next.
struct Clock {
    next_tick: Instant,
    last_second: Instant,
    /// Commands or datagrams wait.
    more: bool,
}

impl Worker {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        self.shared.take_thread_clock();
        let fd = self.outlet.socket.raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), SOCKET, Interest::READABLE) {
            tracing::error!(%error, "a media worker cannot watch its socket; its rooms will be silent");
            return;
        }
        let mut events = Events::with_capacity(64);
        let now = Instant::now();
        let mut clock = Clock { next_tick: now + TICK, last_second: now, more: false };
        while !self.shared.stop.load(Ordering::Relaxed) {
            // One room's fault must not silence the others.
            if catch_unwind(AssertUnwindSafe(|| self.turn(&mut events, &mut clock))).is_err() {
                self.state.trouble.broken += 1;
            }
        }
        self.state.close_all();
        self.send();
    }

    fn turn(&mut self, events: &mut Events, clock: &mut Clock) {
        let wake = self.state.next_deadline().map_or(clock.next_tick, |deadline| deadline.min(clock.next_tick));
        let wait = if clock.more { Duration::ZERO } else { wake.saturating_duration_since(Instant::now()) };
        // An interrupted wait is a short wait.
        let _ = self.poll.poll(events, Some(wait));
        let now = Instant::now();
        for event in events.iter() {
            self.state.streams.on_event(event);
        }
        clock.more = self.on_commands(now);
        clock.more |= self.on_socket(now);
        clock.more |= self.on_streams(now);
        self.state.on_deadlines(now);
        if now >= clock.next_tick {
            clock.next_tick = now + TICK;
            self.state.end_silent(now);
            self.state.streams.sweep(now);
            self.state.ask_again(now);
            if now >= clock.last_second + SECOND {
                self.on_second(now - clock.last_second);
                clock.last_second = now;
            }
        }
        // Legs that end leave others changed, who then have something to say.
        loop {
            self.state.drain(now, &mut self.outlet);
            if !self.state.bury(now) {
                break;
            }
        }
        self.state.events.flush();
        self.send();
    }

    fn on_commands(&mut self, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => self.state.on_command(command, now),
                Err(_) => return false,
            }
        }
        true
    }

    fn on_socket(&mut self, now: Instant) -> bool {
        for _ in 0..BATCHES_PER_TURN {
            let (mut packets, mut bytes, mut drops) = (0, 0, 0);
            let state = &mut self.state;
            let more = self.outlet.socket.receive(|from, data, waited| {
                packets += 1;
                bytes += data.len() as u64;
                drops += u64::from(!state.on_datagram(from, data, now, waited));
            });
            self.shared.packets_in.fetch_add(packets, Ordering::Relaxed);
            self.shared.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            self.shared.drops_in.fetch_add(drops, Ordering::Relaxed);
            if !more {
                return false;
            }
            // Forward each burst before reading the next one: a full batch must not wait for three more.
            self.state.drain(now, &mut self.outlet);
            self.send();
        }
        true
    }

    fn on_streams(&mut self, now: Instant) -> bool {
        let read = self.state.read_streams(now);
        if read.packets > 0 {
            self.shared.packets_in.fetch_add(read.packets, Ordering::Relaxed);
            self.shared.bytes_in.fetch_add(read.bytes, Ordering::Relaxed);
            self.shared.drops_in.fetch_add(read.drops, Ordering::Relaxed);
        }
        read.more
    }

    /// Sends what the connections had to say, and counts everything that went out.
    fn send(&mut self) {
        let out = &mut self.outlet;
        self.state.send_said(out);
        self.state.streams.write();
        self.shared.packets_out.fetch_add(std::mem::take(&mut out.packets), Ordering::Relaxed);
        self.shared.bytes_out.fetch_add(std::mem::take(&mut out.bytes), Ordering::Relaxed);
        let refused = std::mem::take(&mut out.refused);
        self.shared.drops_out.fetch_add(refused, Ordering::Relaxed);
        self.state.trouble.refused += refused;
    }

    fn on_second(&mut self, length: Duration) {
        let mut legs = 0;
        for leg in self.state.legs.iter_mut().flatten() {
            leg.end_second(length);
            legs += 1;
        }
        self.shared.legs.store(legs, Ordering::Relaxed);
        let trouble = std::mem::take(&mut self.state.trouble);
        let Trouble { unknown, forged, refused, pointer, broken } = trouble;
        if forged + refused + pointer + broken > 0 {
            tracing::warn!(unknown, forged, refused, pointer, broken, "media trouble in the last second");
        } else if unknown > 0 {
            // Clients that have not noticed yet that they are gone.
            tracing::debug!(unknown, "datagrams of nobody in the last second");
        }
    }
}

/// RFC 7983: the first byte of STUN is 0 to 3.
fn is_stun(data: &[u8]) -> bool {
    data.first().is_some_and(|first| *first <= 3)
}

/// RFC 7983: that of RTP and RTCP is 128 to 191.
fn is_media(data: &[u8]) -> bool {
    data.first().is_some_and(|first| (128..=191).contains(first))
}
