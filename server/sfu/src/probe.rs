//! Does a datagram find its way to a worker, and back? For `doctor`, from this machine or from afar.
//!
//! A STUN request without a name asks nothing of any leg; the worker answers where it came from (RFC 8489, 6.3), a few times a
//! second, which makes it no better reflector than any STUN server. Owns: question and answer. Never: touches a leg.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

const MAGIC: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];
const ATTR_XOR_MAPPED: [u8; 2] = [0x00, 0x20];
/// Answers a worker gives in a second.
pub(crate) const ANSWERS_PER_SECOND: f64 = 20.0;
/// Datagrams get lost: the question is asked so often.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_millis(700);

/// Asks once or thrice. `Ok`: where the worker saw the question come from, whatever it saw.
pub fn probe(at: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if at.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected, so that "port unreachable" is an error and not silence.
    socket.connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let transaction: [u8; 12] = rand::random();
    let question = [&REQUEST[..], &[0, 0], &MAGIC, &transaction].concat();
    let mut trouble = io::Error::new(io::ErrorKind::TimedOut, "no answer");
    for _ in 0..TRIES {
        socket.send(&question)?;
        let mut answer = [0; 128];
        match socket.recv(&mut answer) {
            Ok(n) if n >= 20 && answer[..2] == SUCCESS && answer[8..20] == transaction => return Ok(()),
            Ok(_) => trouble = io::Error::other("something else answers there"),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => trouble = e,
        }
    }
    Err(trouble)
}

/// The answer to a request of that transaction which came from there.
pub(crate) fn answer(transaction: [u8; 12], from: SocketAddr) -> Vec<u8> {
    let mask = [&MAGIC[..], &transaction].concat();
    let ip: Vec<u8> = match from.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if from.is_ipv4() { 1 } else { 2 };
    let port = from.port().to_be_bytes();
    let length = (4 + 4 + ip.len()) as u16;
    let mut bytes = [&SUCCESS[..], &length.to_be_bytes(), &MAGIC, &transaction, &ATTR_XOR_MAPPED].concat();
    bytes.extend((length - 4).to_be_bytes());
    bytes.extend([0, family, port[0] ^ mask[0], port[1] ^ mask[1]]);
    bytes.extend(ip.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_rfc_5769_writes_it() {
        // RFC 5769 2.2: 192.0.2.1:32853 under this transaction.
        let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let bytes = answer(transaction, SocketAddr::from(([192, 0, 2, 1], 32_853)));
        assert_eq!(bytes[20..], [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 20);
    }

    #[test]
    fn nobody_there_is_said_at_once() {
        let closed = UdpSocket::bind(("127.0.0.1", 0)).expect("binds").local_addr().expect("bound");
        assert_eq!(probe(closed).expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
    }
}
