//! The last packets of a publisher's track, kept once for everybody who may ask for one again.
//!
//! Owns: packets as they came. Never: a copy per subscriber.
//! Elsewhere: which number a subscriber means (`subscriber`), sending it (`forward`).

use bytes::Bytes;

use crate::srtp::Carried;

/// Packets kept per track of pictures: 8 s of 1 Mbit/s, at most 1.5 MB.
const KEPT: usize = 1_024;
/// Packets a leg gets again in a second: a third of 10 Mbit/s. Above it the line is beyond repair, and more would make it worse.
pub(crate) const REPAIRS_PER_SECOND: f64 = 300.0;

/// What all subscribers get of one packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// The publisher's number.
    pub(crate) number: u16,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) carried: Carried,
    pub(crate) payload: Bytes,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    packets: Vec<Option<Packet>>,
}

impl History {
    pub(crate) fn keep(&mut self, packet: &Packet) {
        if self.packets.is_empty() {
            self.packets.resize(KEPT, None);
        }
        self.packets[usize::from(packet.number) % KEPT] = Some(packet.clone());
    }

    pub(crate) fn get(&self, number: u16) -> Option<&Packet> {
        self.packets.get(usize::from(number) % KEPT)?.as_ref().filter(|packet| packet.number == number)
    }
}
