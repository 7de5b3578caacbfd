//! The ways on which a leg's packets come and go: its UDP socket, and one TCP connection where no datagram gets through.
//!
//! Owns: both, and what waits to be written on the connection. Packets on it are framed as in RFC 4571, by the media core's own
//! framing. Never: looks into a packet, waits for a slow server. Elsewhere: whose packets they are and when to dial (`leg`), the
//! other end of the connection (`lotse_sfu::tcp`).

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc::shared::{
    TaggedBytesMut, TransportContext, TransportProtocol,
    tcp_framing::{TcpFrameDecoder, frame_packet},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// A server that lets no connection through does not always say so; the leg itself waits 15 s.
const DIAL: Duration = Duration::from_secs(5);
/// A datagram, or what the kernel has of the connection.
const CHUNK: usize = 16 * 1024;
/// Waiting to be written on the connection: reports, requests and checks, seconds of them. When full, new ones are dropped whole;
/// each is said again.
const WAITING: usize = 64 * 1024;

/// See the module.
pub struct Ways {
    socket: UdpSocket,
    udp: SocketAddr,
    stream: Option<Stream>,
    chunk: Vec<u8>,
}

struct Stream {
    socket: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    decoder: TcpFrameDecoder,
    /// Read, not yet handed out.
    packets: VecDeque<Vec<u8>>,
    outbox: Vec<u8>,
}

/// Connects to the first of these addresses that answers.
pub async fn dial(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut trouble = io::Error::other("the server offers no media over TCP");
    for address in addresses {
        match timeout(DIAL, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => trouble = io::Error::new(e.kind(), format!("{address}: {e}")),
            Err(_) => trouble = io::Error::new(io::ErrorKind::TimedOut, format!("{address}: no answer")),
        }
    }
    Err(trouble)
}

impl Ways {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let udp = socket.local_addr()?;
        Ok(Self { socket, udp, stream: None, chunk: vec![0; CHUNK] })
    }

    /// Where datagrams come in.
    pub fn udp(&self) -> SocketAddr {
        self.udp
    }

    /// From now on packets pass here too. Gives its own address.
    pub fn add(&mut self, socket: TcpStream) -> io::Result<SocketAddr> {
        socket.set_nodelay(true)?;
        let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
        let (decoder, packets, outbox) = Default::default();
        self.stream = Some(Stream { socket, local, peer, decoder, packets, outbox });
        Ok(local)
    }

    /// Is there a connection?
    pub fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Resolves when [`Ways::next`] may have something, or what waits may be written.
    pub async fn ready(&self) -> io::Result<()> {
        let stream = async {
            match &self.stream {
                None => std::future::pending().await,
                Some(stream) if !stream.packets.is_empty() => Ok(()),
                Some(stream) => {
                    let writes = !stream.outbox.is_empty();
                    let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
                    stream.socket.ready(interest).await.map(|_| ())
                }
            }
        };
        tokio::select! {
            readable = self.socket.readable() => readable,
            ready = stream => ready,
        }
    }

    /// The next packet that has come, without waiting.
    pub fn received(&mut self) -> Option<TaggedBytesMut> {
        if let Ok((len, from)) = self.socket.try_recv_from(&mut self.chunk) {
            return Some(packet(self.udp, from, TransportProtocol::UDP, &self.chunk[..len]));
        }
        let stream = self.stream.as_mut()?;
        if stream.read(&mut self.chunk).is_err() {
            self.stream = None;
            return None;
        }
        let read = stream.packets.pop_front()?;
        Some(packet(stream.local, stream.peer, TransportProtocol::TCP, &read))
    }

    /// Sends one packet by the way it names. What cannot go at once and does not fit into the queue is lost, as on any network.
    pub async fn send(&mut self, packet: &TaggedBytesMut) {
        if packet.transport.transport_protocol == TransportProtocol::UDP {
            // A full socket buffer loses a datagram, as any network may.
            let _ = self.socket.send_to(&packet.message, packet.transport.peer_addr).await;
            return;
        }
        let Some(stream) = self.stream.as_mut().filter(|s| s.peer == packet.transport.peer_addr) else { return };
        if packet.message.len() + stream.outbox.len() <= WAITING {
            stream.outbox.extend(frame_packet(&packet.message));
        }
        self.flush();
    }

    /// Writes of what waits as much as the kernel takes.
    pub fn flush(&mut self) {
        if self.stream.as_mut().is_some_and(|stream| stream.write().is_err()) {
            self.stream = None;
        }
    }
}

impl Stream {
    /// An error: it is over.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        // One chunk at a time: whoever asks sees to the rest of its work between them.
        if !self.packets.is_empty() {
            return Ok(());
        }
        match self.socket.try_read(chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.decoder.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        while let Some(packet) = self.decoder.next_packet() {
            self.packets.push_back(packet);
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.socket.try_write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn packet(local_addr: SocketAddr, peer_addr: SocketAddr, by: TransportProtocol, bytes: &[u8]) -> TaggedBytesMut {
    TaggedBytesMut {
        now: Instant::now(),
        transport: TransportContext { local_addr, peer_addr, transport_protocol: by, ecn: None },
        message: BytesMut::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn connected() -> (Ways, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listens");
        let mut ways = Ways::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("binds")).expect("bound");
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.expect("listens").local_addr().expect("bound");
        // Nobody listens at the first address any more.
        let dialled = dial(vec![gone, listener.local_addr().expect("bound")]).await.expect("connects");
        ways.add(dialled).expect("added");
        (ways, listener.accept().await.expect("accepted").0)
    }

    fn to(peer: SocketAddr, bytes: &[u8]) -> TaggedBytesMut {
        packet(peer, peer, TransportProtocol::TCP, bytes)
    }

    #[tokio::test]
    async fn packets_pass_whole_both_ways_however_the_stream_is_cut() {
        let (mut ways, mut server) = connected().await;
        let sent: Vec<Vec<u8>> = (1..=200u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|p| frame_packet(p)).collect();
        let writing = tokio::spawn(async move {
            for piece in bytes.chunks(333) {
                server.write_all(piece).await.expect("written");
            }
            server
        });
        let mut came = Vec::new();
        while came.len() < sent.len() {
            ways.ready().await.expect("ready");
            while let Some(packet) = ways.received() {
                assert_eq!(packet.transport.transport_protocol, TransportProtocol::TCP);
                came.push(packet.message.to_vec());
            }
        }
        assert_eq!(came, sent);
        let mut server = writing.await.expect("written");
        let peer = server.local_addr().expect("bound");
        ways.send(&to(peer, b"check")).await;
        ways.send(&to(SocketAddr::from(([192, 0, 2, 1], 9)), b"to nobody")).await;
        ways.send(&to(peer, b"report")).await;
        let mut read = [0; 15];
        server.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"\0\x05check\0\x06report");
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_costs_a_bounded_queue_and_one_that_ends_is_noticed() {
        let (mut ways, server) = connected().await;
        let peer = server.local_addr().expect("bound");
        for _ in 0..20_000 {
            ways.send(&to(peer, &[7; 1_200])).await;
        }
        let waiting = ways.stream.as_ref().expect("there").outbox.len();
        assert!((1..=WAITING + 2).contains(&waiting), "{waiting}");
        drop(server);
        while ways.has_stream() {
            ways.ready().await.expect("ready");
            assert!(ways.received().is_none());
            ways.flush();
        }
    }
}
