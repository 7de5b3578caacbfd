//! A worker's UDP socket: many datagrams per call in and out.
//!
//! Owns: the buffers for receiving, how long each datagram lay in the kernel's, grouping by destination for sending (UDP GSO where the
//! kernel has it).
//! Never: knows what a datagram is. Elsewhere: `worker`; connections (`tcp`).

use std::{
    io, mem,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
    time::{Duration, SystemTime},
};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::{path::Route, tcp::Streams};

/// Datagrams taken per call.
const BATCH: usize = 64;
/// Larger datagrams are cut and then refused as broken; ours stay below 1,400 bytes.
const DATAGRAM: usize = 2_048;
/// Kernel buffers: 1 s of 60 Mbit/s, so that a busy moment loses nothing.
const KERNEL_BUFFER: usize = 8 * 1024 * 1024;
/// The kernel sends at most this many segments, and bytes, in one go.
const SEGMENTS: usize = 64;
const SEGMENT_BYTES: usize = 60_000;
/// Longer than this no datagram lies in a buffer that we go on reading: the system's clock was set.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    buffers: Vec<[u8; DATAGRAM]>,
    gso: bool,
    /// Bound to `::` for both families; IPv4 addresses are mapped on the way in and out.
    both: bool,
}

/// Room for one control message carrying a u16.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Room for one control message carrying a time, and some more.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Stamp([u8; 64]);

impl DatagramSocket {
    pub(crate) fn bind(address: IpAddr, port: u16) -> io::Result<Self> {
        let address = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // The kernel may grant less; that is no reason to refuse service.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        let both = address.is_ipv6() && address.ip().is_unspecified();
        if both {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        stamp_arrivals(&socket);
        Ok(Self { socket: socket.into(), buffers: vec![[0; DATAGRAM]; BATCH], gso: true, both })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    pub(crate) fn raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes what has arrived, at most one batch, each with how long it has waited for us. True: there may be more.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(SocketAddr, &[u8], Duration)) -> bool {
        // SAFETY: both are plain C structures for which all zeroes is a valid value.
        let mut addresses: [libc::sockaddr_storage; BATCH] = unsafe { mem::zeroed() };
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut stamps = [Stamp([0; 64]); BATCH];
        let mut parts: [libc::iovec; BATCH] = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        for n in 0..BATCH {
            parts[n] = libc::iovec { iov_base: self.buffers[n].as_mut_ptr().cast(), iov_len: DATAGRAM };
            headers[n].msg_hdr.msg_iov = &mut parts[n];
            headers[n].msg_hdr.msg_iovlen = 1;
            headers[n].msg_hdr.msg_name = ptr::from_mut(&mut addresses[n]).cast();
            headers[n].msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            headers[n].msg_hdr.msg_control = stamps[n].0.as_mut_ptr().cast();
            headers[n].msg_hdr.msg_controllen = mem::size_of::<Stamp>() as _;
        }
        // SAFETY: every header points at a buffer, an address and a stamp that live until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        let now = SystemTime::now();
        for n in 0..count {
            let len = (headers[n].msg_len as usize).min(DATAGRAM);
            if let Some(from) = socket_address(&addresses[n], headers[n].msg_hdr.msg_namelen) {
                let from = if self.both { SocketAddr::new(from.ip().to_canonical(), from.port()) } else { from };
                let waited = arrival(&headers[n].msg_hdr).and_then(|at| now.duration_since(at).ok());
                each(from, &self.buffers[n][..len], waited.unwrap_or_default().min(LONGEST_WAIT));
            }
        }
        count == BATCH
    }

    /// Sends a parcel, in order; packets of one length go together. Returns how many the kernel refused.
    pub(crate) fn send(&mut self, to: SocketAddr, parcel: &Parcel) -> u64 {
        let address = match to {
            SocketAddr::V4(to) if self.both => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()).into(),
            to => SockAddr::from(to),
        };
        let (mut at, mut from, mut refused) = (0, 0, 0);
        while at < parcel.lens.len() {
            let lens = &parcel.lens[at..];
            let count = if self.gso { run(lens) } else { 1 };
            let bytes: usize = lens[..count].iter().sum();
            let data = &parcel.bytes[from..from + bytes];
            match self.send_run(&address, data, lens[0], count) {
                Ok(()) => {}
                // This kernel or device cannot split: one by one from now on.
                Err(e)
                    if count > 1 && matches!(e.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) =>
                {
                    self.gso = false;
                    continue;
                }
                Err(_) => refused += count as u64,
            }
            (at, from) = (at + count, from + bytes);
        }
        refused
    }

    fn send_run(&self, address: &SockAddr, data: &[u8], len: usize, count: usize) -> io::Result<()> {
        let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let mut control = Control([0; 24]);
        // SAFETY: a plain C structure for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if count > 1 {
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: the control buffer is aligned and large enough for one header and a u16 (24 bytes on 64 bit).
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(2) as _;
                let header = libc::CMSG_FIRSTHDR(&message);
                (*header).cmsg_level = libc::SOL_UDP;
                (*header).cmsg_type = libc::UDP_SEGMENT;
                (*header).cmsg_len = libc::CMSG_LEN(2) as _;
                ptr::write_unaligned(libc::CMSG_DATA(header).cast(), len as u16);
            }
        }
        // SAFETY: address, data and control live until the call returns; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Packets for one destination, back to back.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) bytes: Vec<u8>,
    /// Of each packet; none is longer than a datagram.
    pub(crate) lens: Vec<usize>,
}

/// The way out of a worker: its socket, the parcel being filled, and what has been sent since the last count.
pub(crate) struct Outlet {
    pub(crate) socket: DatagramSocket,
    pub(crate) parcel: Parcel,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
}

impl Outlet {
    pub(crate) fn new(socket: DatagramSocket) -> Self {
        Self { socket, parcel: Parcel::default(), packets: 0, bytes: 0, refused: 0 }
    }

    /// Adds a packet that was made elsewhere.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.parcel.bytes.extend_from_slice(packet);
        self.parcel.lens.push(packet.len());
    }

    /// Sends what the parcel holds.
    pub(crate) fn flush(&mut self, to: Route, streams: &mut Streams) {
        if self.parcel.lens.is_empty() {
            return;
        }
        self.packets += self.parcel.lens.len() as u64;
        self.bytes += self.parcel.bytes.len() as u64;
        self.refused += match to {
            Route::Udp(to) => self.socket.send(to, &self.parcel),
            Route::Tcp(to) => streams.queue_all(to, &self.parcel),
        };
        self.parcel.bytes.clear();
        self.parcel.lens.clear();
    }
}

/// Asks the kernel to say of each datagram when it came: a program that is late would take its own lateness for the network's.
fn stamp_arrivals(socket: &Socket) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the value is an int of the size that is told. A kernel that refuses stamps nothing.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// When the kernel had this datagram.
fn arrival(header: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: the kernel has filled the control buffer that the header points at, and it lives.
    let at = unsafe {
        let message = libc::CMSG_FIRSTHDR(header).as_ref()?;
        if (message.cmsg_level, message.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            return None;
        }
        ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::timespec>())
    };
    let since = Duration::new(u64::try_from(at.tv_sec).ok()?, u32::try_from(at.tv_nsec).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// How many of these may go in one call: same length, only the last may be shorter.
fn run(lens: &[usize]) -> usize {
    let (mut count, mut bytes) = (1, lens[0]);
    for len in lens[1..].iter().take(SEGMENTS - 1) {
        if *len > lens[0] || *len == 0 || bytes + len > SEGMENT_BYTES {
            break;
        }
        count += 1;
        bytes += len;
        if *len < lens[0] {
            break;
        }
    }
    count
}

fn socket_address(storage: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let mut copy = SockAddrStorage::zeroed();
    // SAFETY: `SockAddrStorage` is a transparent sockaddr_storage, and `len` is what the kernel wrote.
    let address = unsafe {
        *copy.view_as::<libc::sockaddr_storage>() = *storage;
        SockAddr::new(copy, len)
    };
    address.as_socket()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn runs_end_at_another_length() {
        let lens = [100, 100, 40, 40, 40, 90];
        assert_eq!([run(&lens), run(&lens[2..]), run(&lens[5..])], [3, 3, 1]);
        assert_eq!(run(&[1_200; 100]), SEGMENT_BYTES / 1_200);
    }

    #[test]
    fn one_socket_serves_both_families() {
        let Ok(mut both) = DatagramSocket::bind(std::net::Ipv6Addr::UNSPECIFIED.into(), 0) else {
            // A kernel without IPv6 must say so at start, and that is all there is to see here.
            assert!(UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_err());
            return;
        };
        let port = both.port().expect("bound");
        let parcel = |bytes: &[u8]| Parcel { bytes: bytes.to_vec(), lens: vec![bytes.len()] };
        for own in [IpAddr::from(Ipv4Addr::LOCALHOST), std::net::Ipv6Addr::LOCALHOST.into()] {
            let mut client = DatagramSocket::bind(own, 0).expect("binds");
            let at = SocketAddr::new(own, client.port().expect("bound"));
            assert_eq!(client.send(SocketAddr::new(own, port), &parcel(b"hello")), 0);
            let mut seen = Vec::new();
            while seen.is_empty() {
                both.receive(|from, data, _| seen.push((from, data.to_vec())));
            }
            assert_eq!(seen, [(at, b"hello".to_vec())]);
            assert_eq!(both.send(at, &parcel(b"back")), 0);
            let mut answers = 0;
            while answers == 0 {
                client.receive(|_, data, _| answers += usize::from(data == b"back"));
            }
        }
    }

    #[test]
    fn what_lay_in_the_kernel_says_how_long() {
        let mut from = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
        let mut to = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, to.port().expect("bound")));
        let parcel = Parcel { bytes: b"hello".to_vec(), lens: vec![5] };
        let began = std::time::Instant::now();
        let mut sent = Vec::new();
        for _ in 0..3 {
            let before = began.elapsed();
            assert_eq!(from.send(at, &parcel), 0);
            sent.push((before, began.elapsed()));
            std::thread::sleep(Duration::from_millis(30));
        }
        let read = began.elapsed();
        let mut waited = Vec::new();
        while waited.len() < 3 {
            to.receive(|_, _, wait| waited.push(wait));
        }
        let done = began.elapsed();
        // The system's clock and the process's may run apart a little.
        let slack = Duration::from_millis(1);
        for ((before, after), waited) in sent.into_iter().zip(waited) {
            assert!(waited + slack >= read - after, "{waited:?} of at least {:?}", read - after);
            assert!(waited <= done - before + slack, "{waited:?} of at most {:?}", done - before);
        }
    }

    #[test]
    fn datagrams_arrive_one_by_one_and_in_order() {
        for gso in [true, false] {
            let mut from = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
            from.gso = gso;
            let mut to = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
            let port = to.port().expect("bound");
            let mut out = Outlet::new(from);
            for n in 0..30u8 {
                out.push(&[n; 300]);
            }
            out.push(&[0; 7]);
            out.flush(Route::Udp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), &mut Streams::new(None));
            assert_eq!((out.packets, out.bytes, out.refused, out.parcel.bytes.len()), (31, 9_007, 0, 0));
            let mut seen = Vec::new();
            for _ in 0..100 {
                to.receive(|_, data, _| seen.push((data.len(), data[0])));
                if seen.len() == 31 {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let sent: Vec<_> = (0..30).map(|n| (300, n)).chain([(7, 0)]).collect();
            assert_eq!(seen, sent);
        }
    }
}
