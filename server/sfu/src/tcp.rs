//! Media over TCP, for networks that let no UDP through (RFC 6544, passive; each packet framed as in RFC 4571).
//!
//! Owns: a worker's accepted connections, their buffers, and what is read from and written to them. The worker alone touches
//! them: no lock, no other thread. Never: listens (the HTTPS port hands connections over), believes a connection before a
//! genuine STUN request came over it, waits for a reader.
//! Elsewhere: whose leg it is and what a packet leads to (`worker`), the first look at a connection (`lotse-server`).

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token, event::Event, net::TcpStream};

use crate::{
    path::Route,
    socket::Parcel,
    stun,
    worker::{LegId, State},
};

/// Tokens of connections begin here; below are the worker's own.
const FIRST_TOKEN: usize = 16;
/// Connections of one worker; a room has at most 128 legs, and each may be moving to a new connection.
const MOST: usize = 256;
/// Of those, connections that have proved nothing yet: junk must not keep others out.
const MOST_UNPROVEN: usize = 64;
/// A first genuine request must come this soon: it lies in the kernel's buffer already when the connection is handed over.
const PROVE_WITHIN: Duration = Duration::from_secs(5);
/// A connection without a word for this long is gone: ICE asks again every few seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// Frames above this are nobody's media; as for datagrams.
const FRAME: usize = 2_048;
/// Read per connection and turn, so that one fast sender does not hold up the rest.
const READ_PER_TURN: usize = 64 * 1024;
/// Waiting to be written on one connection: a large key frame and what follows it, half a second at 2 Mbit/s. When full, new
/// packets are dropped whole, as a full network queue would: late pictures help nobody, and repair asks for what is missing.
const WAITING: usize = 128 * 1024;
/// What the kernel may hold unsent, so that the bound above is the one that counts.
const KERNEL_UNSENT: libc::c_int = 32 * 1024;
const HEADER: usize = 2;

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// Not a framed STUN request.
    Other,
    /// Could become one; look again when more is there.
    TooFew,
    /// A framed STUN request of so many bytes, frame header included.
    Request(usize),
}

/// Tells a framed STUN binding request from anything else that speaks first on an HTTPS port (TLS begins with 0x16, HTTP with
/// a letter). `bytes` is what has come so far.
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    // Length, then a binding request (0x0001), its length, and the magic cookie.
    const LEAST: usize = HEADER + 20;
    let at = |n: usize| bytes.get(n).copied();
    let framed = [at(0), at(1)];
    let length = match framed {
        [Some(high), Some(low)] => usize::from(u16::from_be_bytes([high, low])),
        [Some(high), None] if high <= 7 => return FirstBytes::TooFew,
        [None, _] => return FirstBytes::TooFew,
        _ => return FirstBytes::Other,
    };
    let expected = [(2, 0x00), (3, 0x01), (6, 0x21), (7, 0x12), (8, 0xA4), (9, 0x42)];
    let fits = expected.iter().all(|(n, byte)| at(*n).is_none_or(|found| found == *byte));
    if !fits || !(LEAST - HEADER..=FRAME).contains(&length) {
        return FirstBytes::Other;
    }
    if bytes.len() < HEADER + length { FirstBytes::TooFew } else { FirstBytes::Request(HEADER + length) }
}

/// The worker that owns the leg named in a framed request; see [`ufrag`].
pub(crate) fn worker_of(frame: &[u8]) -> Option<usize> {
    let binding = stun::parse(frame.get(HEADER..)?)?;
    usize::from_str_radix(binding.ufrag?.get(..2)?, 16).ok()
}

/// A fresh ICE name: two hexadecimal digits say which worker, so that a connection finds it before anything is known of it.
pub(crate) fn ufrag(worker: u8) -> String {
    format!("{worker:02x}{}", crate::random_text(8))
}

struct Stream {
    socket: TcpStream,
    peer: SocketAddr,
    /// Whose it is, once proved.
    leg: Option<LegId>,
    heard: Instant,
    /// The kernel said that there is something to read, and it was not all read yet.
    readable: bool,
    /// Read, not yet a whole frame.
    inbox: Vec<u8>,
    /// Framed packets; what stands before `written` is gone.
    outbox: Vec<u8>,
    written: usize,
    /// To be closed at the end of the turn.
    over: bool,
}

/// See the module.
pub(crate) struct Streams {
    registry: Option<Registry>,
    slots: Vec<Option<Stream>>,
    by_peer: HashMap<SocketAddr, usize>,
    /// Places with something new to write.
    to_write: Vec<usize>,
    chunk: Vec<u8>,
}

/// What came of reading.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) drops: u64,
    pub(crate) more: bool,
}

impl Streams {
    /// Without a registry no connection is taken; only tests of other parts do that.
    pub(crate) fn new(registry: Option<Registry>) -> Self {
        Self {
            registry,
            slots: Vec::new(),
            by_peer: HashMap::new(),
            to_write: Vec::new(),
            chunk: vec![0; READ_PER_TURN / 4],
        }
    }

    /// Takes a connection over. It is closed when there are too many.
    pub(crate) fn adopt(&mut self, socket: std::net::TcpStream, now: Instant) -> io::Result<()> {
        let full = || io::Error::other("too many media connections");
        let registry = self.registry.as_ref().ok_or_else(full)?;
        let living = self.slots.iter().flatten();
        let unproven = living.clone().filter(|stream| stream.leg.is_none()).count();
        if living.count() >= MOST || unproven >= MOST_UNPROVEN {
            return Err(full());
        }
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        limit_unsent(&socket);
        let peer = socket.peer_addr()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut socket = TcpStream::from_std(socket);
        let at = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        registry.register(&mut socket, Token(FIRST_TOKEN + at), Interest::READABLE | Interest::WRITABLE)?;
        self.by_peer.insert(peer, at);
        self.slots[at] = Some(Stream {
            socket,
            peer,
            leg: None,
            heard: now,
            // Its first request is what it was recognised by.
            readable: true,
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            over: false,
        });
        Ok(())
    }

    /// Notes what the kernel told. Nothing is read or written yet.
    pub(crate) fn on_event(&mut self, event: &Event) {
        let Some(at) = event.token().0.checked_sub(FIRST_TOKEN) else { return };
        let Some(stream) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        stream.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        if event.is_writable() && stream.written < stream.outbox.len() {
            self.to_write.push(at);
        }
    }

    /// Puts one packet on its way. False: it was dropped.
    pub(crate) fn queue(&mut self, peer: SocketAddr, packet: &[u8]) -> bool {
        let Some(at) = self.by_peer.get(&peer).copied() else { return false };
        let Some(stream) = self.slots[at].as_mut() else { return false };
        let Ok(length) = u16::try_from(packet.len()) else { return false };
        if stream.outbox.len() - stream.written + HEADER + packet.len() > WAITING {
            return false;
        }
        if stream.written == stream.outbox.len() {
            stream.outbox.clear();
            stream.written = 0;
            self.to_write.push(at);
        } else if stream.written > WAITING {
            stream.outbox.drain(..stream.written);
            stream.written = 0;
        }
        stream.outbox.extend_from_slice(&length.to_be_bytes());
        stream.outbox.extend_from_slice(packet);
        true
    }

    /// Puts a whole parcel on its way. How many packets were dropped.
    pub(crate) fn queue_all(&mut self, peer: SocketAddr, parcel: &Parcel) -> u64 {
        let (mut from, mut dropped) = (0, 0);
        for len in &parcel.lens {
            dropped += u64::from(!self.queue(peer, &parcel.bytes[from..from + len]));
            from += len;
        }
        dropped
    }

    /// Writes what may be written. What the kernel does not take waits for its word.
    pub(crate) fn write(&mut self) {
        while let Some(at) = self.to_write.pop() {
            if let Some(stream) = self.slots[at].as_mut() {
                stream.flush();
            }
        }
    }

    /// Closes what has proved nothing in time, said nothing for long, or ended.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let Some(stream) = self.slots[at].as_ref() else { continue };
            let patience = if stream.leg.is_some() { SILENCE } else { PROVE_WITHIN };
            if stream.over || now >= stream.heard + patience {
                self.close(at);
            }
        }
    }

    /// Ends the connections of a leg that is gone, after its last words.
    pub(crate) fn close_leg(&mut self, leg: LegId) {
        for at in 0..self.slots.len() {
            if let Some(stream) = self.slots[at].as_mut().filter(|stream| stream.leg == Some(leg)) {
                stream.flush();
                self.close(at);
            }
        }
    }

    fn close(&mut self, at: usize) {
        let Some(mut stream) = self.slots[at].take() else { return };
        if self.by_peer.get(&stream.peer) == Some(&at) {
            self.by_peer.remove(&stream.peer);
        }
        if let Some(registry) = self.registry.as_ref() {
            // Closing takes it out of the kernel's list as well.
            let _ = registry.deregister(&mut stream.socket);
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

impl Stream {
    fn flush(&mut self) {
        while self.written < self.outbox.len() {
            match self.socket.write(&self.outbox[self.written..]) {
                Ok(0) => break,
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.over = true;
                    break;
                }
            }
        }
    }
}

impl State {
    /// Reads every connection that has something, and feeds whole packets to their legs.
    pub(crate) fn read_streams(&mut self, now: Instant) -> Read {
        let mut sum = Read::default();
        for at in 0..self.streams.slots.len() {
            if self.streams.slots[at].as_ref().is_some_and(|stream| stream.readable) {
                self.read_stream(at, now, &mut sum);
            }
        }
        sum
    }

    fn read_stream(&mut self, at: usize, now: Instant, sum: &mut Read) {
        let mut chunk = std::mem::take(&mut self.streams.chunk);
        let mut taken = 0;
        while let Some(stream) = self.streams.slots[at].as_mut() {
            if stream.over {
                break;
            }
            if taken >= READ_PER_TURN {
                sum.more = true;
                break;
            }
            match stream.socket.read(&mut chunk) {
                Ok(0) => {
                    stream.over = true;
                    stream.readable = false;
                    break;
                }
                Ok(n) => {
                    taken += n;
                    stream.inbox.extend_from_slice(&chunk[..n]);
                    let (inbox, peer) = (std::mem::take(&mut stream.inbox), stream.peer);
                    let rest = self.on_bytes(at, peer, &inbox, now, sum);
                    if let Some(stream) = self.streams.slots[at].as_mut() {
                        stream.inbox = inbox;
                        stream.inbox.drain(..rest);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    stream.over = e.kind() != io::ErrorKind::WouldBlock;
                    stream.readable = false;
                    break;
                }
            }
        }
        self.streams.chunk = chunk;
    }

    /// Takes whole frames off the front; how many bytes they were.
    fn on_bytes(&mut self, at: usize, peer: SocketAddr, bytes: &[u8], now: Instant, sum: &mut Read) -> usize {
        let mut from = 0;
        while let Some(header) = bytes.get(from..from + HEADER) {
            let length = usize::from(u16::from_be_bytes([header[0], header[1]]));
            if length > FRAME {
                self.trouble.forged += 1;
                if let Some(stream) = self.streams.slots[at].as_mut() {
                    stream.over = true;
                }
                break;
            }
            let Some(packet) = bytes.get(from + HEADER..from + HEADER + length) else { break };
            from += HEADER + length;
            sum.packets += 1;
            sum.bytes += length as u64;
            sum.drops += u64::from(!self.on_packet(at, peer, packet, now));
        }
        from
    }

    /// One packet of a connection. Its first must be a genuine request; that leg's it stays.
    fn on_packet(&mut self, at: usize, peer: SocketAddr, packet: &[u8], now: Instant) -> bool {
        let Some(owner) = self.streams.slots[at].as_ref().map(|stream| stream.leg) else { return false };
        let is_stun = packet.first().is_some_and(|first| *first <= 3);
        let id = match (is_stun, owner) {
            (true, _) => match stun::parse(packet) {
                Some(binding) if binding.class == stun::Class::Request => self.genuine(&binding, Route::Tcp(peer), now),
                Some(_) => owner,
                None => {
                    self.trouble.forged += 1;
                    None
                }
            },
            (false, owner) => {
                self.trouble.unknown += u64::from(owner.is_none());
                owner
            }
        };
        let Some(id) = id.filter(|id| owner.is_none_or(|owner| owner == *id)) else { return false };
        if let Some(stream) = self.streams.slots[at].as_mut() {
            (stream.leg, stream.heard) = (Some(id), now);
        }
        self.feed(id, Route::Tcp(peer), packet, now)
    }
}

/// Best effort: without it only more may wait in the kernel.
fn limit_unsent(socket: &std::net::TcpStream) {
    let most = KERNEL_UNSENT;
    // SAFETY: the descriptor is open, and the option is an int that lives until the call returns.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const most).cast(),
            size_of_val(&most) as libc::socklen_t,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use mio::Poll;

    use super::*;

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&(packet.len() as u16).to_be_bytes(), packet].concat()
    }

    fn request(username: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().expect("a provider is built in");
        framed(&stun::request(username, "secret", [7; 12], provider.crypto()).expect("a request"))
    }

    #[test]
    fn a_framed_request_is_told_from_tls_and_http_at_any_length() {
        let whole = request("0aours:theirs");
        for n in 0..whole.len() {
            assert_eq!(first_bytes(&whole[..n]), FirstBytes::TooFew, "{n}");
        }
        assert_eq!(first_bytes(&whole), FirstBytes::Request(whole.len()));
        assert_eq!(worker_of(&whole), Some(10));
        let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
        let others: [&[u8]; 5] = [&hello, b"GET / HTTP/1.1\r\n", &[0xff; 40], &[0, 5, 0, 1, 2, 3], &[0; 64]];
        for bytes in others {
            for n in 3..bytes.len() {
                if n >= 4 {
                    assert_eq!(first_bytes(&bytes[..n]), FirstBytes::Other, "{:02x?}", &bytes[..n]);
                }
            }
        }
        for bad in ["", "zzours:theirs", "0"] {
            assert_eq!(worker_of(&request(bad)), None, "{bad}");
        }
        assert_eq!(worker_of(&whole[..9]), None);
        assert_eq!(ufrag(171).get(..2), Some("ab"));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_a_bounded_buffer() {
        let poll = Poll::new().expect("a poll");
        let mut streams = Streams::new(Some(poll.registry().try_clone().expect("a registry")));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
        let mut client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (accepted, peer) = listener.accept().expect("accepted");
        let now = Instant::now();
        streams.adopt(accepted, now).expect("taken");
        let packet = [9u8; 1_200];
        let mut accepted_packets = 0u64;
        // More than any kernel holds: from some packet on all are dropped.
        let mut dropped = 0;
        for _ in 0..20_000 {
            if streams.queue(peer, &packet) {
                accepted_packets += 1;
            } else {
                dropped += 1;
            }
            streams.write();
        }
        assert!(dropped > 0, "nothing was ever dropped");
        let stream = streams.slots[0].as_ref().expect("there");
        assert!(stream.outbox.len() - stream.written <= WAITING);
        assert!(stream.outbox.capacity() <= 4 * WAITING, "{}", stream.outbox.capacity());
        // What was taken arrives whole and in order.
        client.set_nonblocking(true).expect("non-blocking");
        let (mut received, mut buffer) = (0, vec![0; 1 << 16]);
        let end = Instant::now() + Duration::from_secs(20);
        while received < accepted_packets as usize * (HEADER + packet.len()) && Instant::now() < end {
            match client.read(&mut buffer) {
                Ok(n) => received += n,
                Err(_) => std::thread::yield_now(),
            }
            streams.to_write.push(0);
            streams.write();
        }
        assert_eq!(received, accepted_packets as usize * (HEADER + packet.len()));
        assert!(!streams.queue(SocketAddr::from(([192, 0, 2, 1], 9)), &packet), "to nobody");
        streams.sweep(now + PROVE_WITHIN);
        assert_eq!(streams.count(), 0, "it never proved anything");
        assert!(streams.by_peer.is_empty());
    }

    #[test]
    fn connections_that_prove_nothing_are_few() {
        let poll = Poll::new().expect("a poll");
        let mut streams = Streams::new(Some(poll.registry().try_clone().expect("a registry")));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
        let mut clients = Vec::new();
        for n in 0..MOST_UNPROVEN + 3 {
            clients.push(std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connects"));
            let taken = streams.adopt(listener.accept().expect("accepted").0, Instant::now());
            assert_eq!(taken.is_ok(), n < MOST_UNPROVEN, "{n}");
        }
        assert_eq!(streams.count(), MOST_UNPROVEN);
    }
}
