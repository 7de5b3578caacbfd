//! A worker's UDP socket: many datagrams per call in and out.
//!
//! Owns: the buffers for receiving, grouping by destination for sending (UDP GSO where the kernel has it).
//! Never: knows what a datagram is. Elsewhere: `worker`.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
};

use bytes::BytesMut;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Datagrams taken per call.
const BATCH: usize = 64;
/// Larger datagrams are cut and then refused as broken; ours stay below 1,400 bytes.
const DATAGRAM: usize = 2_048;
/// Kernel buffers: 1 s of 60 Mbit/s, so that a busy moment loses nothing.
const KERNEL_BUFFER: usize = 8 * 1024 * 1024;
/// The kernel sends at most this many segments, and bytes, in one go.
const SEGMENTS: usize = 64;
const SEGMENT_BYTES: usize = 60_000;

/// See the module.
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    buffers: Vec<[u8; DATAGRAM]>,
    gso: bool,
}

/// Room for one control message carrying a u16.
#[repr(C, align(8))]
struct Control([u8; 24]);

impl DatagramSocket {
    pub(crate) fn bind(address: IpAddr, port: u16) -> io::Result<Self> {
        let address = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // The kernel may grant less; that is no reason to refuse service.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        socket.bind(&address.into())?;
        Ok(Self { socket: socket.into(), buffers: vec![[0; DATAGRAM]; BATCH], gso: true })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    pub(crate) fn raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes what has arrived, at most one batch. True: there may be more.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(SocketAddr, &[u8])) -> bool {
        // SAFETY: both are plain C structures for which all zeroes is a valid value.
        let mut addresses: [libc::sockaddr_storage; BATCH] = unsafe { mem::zeroed() };
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut parts: [libc::iovec; BATCH] = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        for n in 0..BATCH {
            parts[n] = libc::iovec { iov_base: self.buffers[n].as_mut_ptr().cast(), iov_len: DATAGRAM };
            headers[n].msg_hdr.msg_iov = &mut parts[n];
            headers[n].msg_hdr.msg_iovlen = 1;
            headers[n].msg_hdr.msg_name = ptr::from_mut(&mut addresses[n]).cast();
            headers[n].msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        // SAFETY: every header points at a buffer and an address that live until the call returns.
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
        for n in 0..count {
            let len = (headers[n].msg_len as usize).min(DATAGRAM);
            if let Some(from) = socket_address(&addresses[n], headers[n].msg_hdr.msg_namelen) {
                each(from, &self.buffers[n][..len]);
            }
        }
        count == BATCH
    }

    /// Sends all, in order; equal neighbours to one destination go together. Returns how many the kernel refused.
    pub(crate) fn send(&mut self, datagrams: &[(SocketAddr, BytesMut)]) -> u64 {
        let (mut at, mut refused) = (0, 0);
        while at < datagrams.len() {
            let run = if self.gso { run(&datagrams[at..]) } else { 1 };
            let group = &datagrams[at..at + run];
            at += run;
            match self.send_group(group) {
                Ok(()) => {}
                // This kernel or device cannot split: one by one from now on.
                Err(e) if run > 1 && matches!(e.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) => {
                    self.gso = false;
                    refused += group.chunks(1).map(|one| u64::from(self.send_group(one).is_err())).sum::<u64>();
                }
                Err(_) => refused += run as u64,
            }
        }
        refused
    }

    fn send_group(&self, group: &[(SocketAddr, BytesMut)]) -> io::Result<()> {
        let address = SockAddr::from(group[0].0);
        let mut parts: [libc::iovec; SEGMENTS] = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SEGMENTS];
        for (part, (_, data)) in parts.iter_mut().zip(group) {
            *part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        }
        let mut control = Control([0; 24]);
        // SAFETY: a plain C structure for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = group.len() as _;
        if group.len() > 1 {
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: the control buffer is aligned and large enough for one header and a u16 (24 bytes on 64 bit).
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(2) as _;
                let header = libc::CMSG_FIRSTHDR(&message);
                (*header).cmsg_level = libc::SOL_UDP;
                (*header).cmsg_type = libc::UDP_SEGMENT;
                (*header).cmsg_len = libc::CMSG_LEN(2) as _;
                ptr::write_unaligned(libc::CMSG_DATA(header).cast(), group[0].1.len() as u16);
            }
        }
        // SAFETY: address, parts and control live until the call returns; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// How many of these may go in one call: same destination, same length, only the last may be shorter.
fn run(datagrams: &[(SocketAddr, BytesMut)]) -> usize {
    let (to, first) = (&datagrams[0].0, datagrams[0].1.len());
    let (mut count, mut bytes) = (1, first);
    for (address, data) in datagrams[1..].iter().take(SEGMENTS - 1) {
        if address != to || data.len() > first || data.is_empty() || bytes + data.len() > SEGMENT_BYTES {
            break;
        }
        count += 1;
        bytes += data.len();
        if data.len() < first {
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

    fn datagram(to: u16, len: usize) -> (SocketAddr, BytesMut) {
        (SocketAddr::from((Ipv4Addr::LOCALHOST, to)), BytesMut::zeroed(len))
    }

    #[test]
    fn runs_end_at_another_destination_or_length() {
        let list =
            [datagram(1, 100), datagram(1, 100), datagram(1, 40), datagram(1, 40), datagram(2, 40), datagram(2, 90)];
        assert_eq!([run(&list), run(&list[2..]), run(&list[3..]), run(&list[4..])], [3, 2, 1, 1]);
        let many: Vec<_> = (0..100).map(|_| datagram(1, 1_200)).collect();
        assert_eq!(run(&many), SEGMENT_BYTES / 1_200);
    }

    #[test]
    fn datagrams_arrive_one_by_one_and_in_order() {
        let mut from = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
        let mut to = DatagramSocket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("binds");
        let port = to.port().expect("bound");
        let mut list: Vec<_> = (0..30u8)
            .map(|n| {
                let (address, mut data) = datagram(port, 300);
                data.fill(n);
                (address, data)
            })
            .collect();
        list.push(datagram(port, 7));
        assert_eq!(from.send(&list), 0);
        let mut seen = Vec::new();
        for _ in 0..100 {
            to.receive(|_, data| seen.push((data.len(), data[0])));
            if seen.len() == list.len() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let sent: Vec<_> = list.iter().map(|(_, data)| (data.len(), data[0])).collect();
        assert_eq!(seen, sent);
    }
}
