//! Where a leg's packets are sent: the address its client's own connectivity checks vouch for.
//!
//! As an ICE-lite side we check nothing ourselves. We follow the address whose genuine check nominates it, and one that
//! does not when the old address has fallen silent (a network that changed under a client which nominates only once).
//! A check seen before from elsewhere is nobody's: whoever copied it from the network could send it from anywhere.
//!
//! Owns: the address, the other ones checks came from, and the checks seen lately. Never: looks into a check.
//! Elsewhere: whether a check is genuine (`stun`, `worker`).

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Silence after which an address may be left without a nomination: half of the 2 s in which clients check a path they use.
const SILENT: Duration = Duration::from_secs(1);
/// Checks remembered: a quarter of an hour on the path in use, 22 kB. A copy kept longer than that is not known any more.
const REMEMBERED: usize = 512;
/// Addresses a leg may have at once: every interface of a laptop, twice. The oldest one not in use makes room.
const ADDRESSES: usize = 16;

/// What a genuine check means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// From here on the address is the leg's; the other one, if any, is not any more.
    Ours { left: Option<Route> },
    /// It was seen before, from another address: somebody copied it.
    Copied,
}

/// An address, and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Udp(SocketAddr),
    /// The other end of a connection in `tcp`.
    Tcp(SocketAddr),
}

#[derive(Debug, Default)]
pub(crate) struct Path {
    to: Option<(Route, Instant)>,
    seen: VecDeque<([u8; 12], Route)>,
    addresses: VecDeque<Route>,
}

impl Path {
    pub(crate) fn to(&self) -> Option<Route> {
        self.to.map(|(to, _)| to)
    }

    /// Anything at all has come from there.
    pub(crate) fn on_datagram(&mut self, from: Route, now: Instant) {
        if let Some((to, heard)) = &mut self.to
            && *to == from
        {
            *heard = now;
        }
    }

    /// A genuine check has come from there.
    pub(crate) fn on_check(&mut self, from: Route, nominates: bool, transaction: [u8; 12], now: Instant) -> Check {
        match self.seen.iter().find(|(known, _)| *known == transaction) {
            // Sent again by its client, because our answer was lost.
            Some((_, place)) if *place == from => return Check::Ours { left: None },
            Some(_) => return Check::Copied,
            None => {}
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((transaction, from));
        let silent = self.to.is_none_or(|(_, heard)| now.saturating_duration_since(heard) > SILENT);
        if nominates || silent {
            self.to = Some((from, now));
        }
        if !self.addresses.contains(&from) {
            self.addresses.push_back(from);
        }
        let to = self.to();
        let old = || self.addresses.iter().position(|address| Some(*address) != to && *address != from);
        let left = if self.addresses.len() > ADDRESSES { old().and_then(|at| self.addresses.remove(at)) } else { None };
        Check::Ours { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Route {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        if port.is_multiple_of(2) { Route::Tcp(address) } else { Route::Udp(address) }
    }

    #[test]
    fn the_nominated_address_is_used_and_a_silent_one_left() {
        let (mut path, start) = (Path::default(), Instant::now());
        let ms = |ms| start + Duration::from_millis(ms);
        path.on_check(at(1), false, [1; 12], ms(0));
        assert_eq!(path.to(), Some(at(1)), "better than none");
        path.on_check(at(2), false, [2; 12], ms(10));
        assert_eq!(path.to(), Some(at(1)), "another path of the same client");
        path.on_check(at(2), true, [3; 12], ms(20));
        assert_eq!(path.to(), Some(at(2)), "nominated");
        path.on_datagram(at(2), ms(900));
        path.on_check(at(3), false, [4; 12], ms(1_800));
        assert_eq!(path.to(), Some(at(2)), "heard 0.9 s ago");
        path.on_check(at(3), false, [5; 12], ms(1_950));
        assert_eq!(path.to(), Some(at(3)), "the old one is silent");
    }

    #[test]
    fn a_check_that_was_copied_moves_nothing() {
        let (mut path, now) = (Path::default(), Instant::now());
        path.on_check(at(1), true, [1; 12], now);
        path.on_check(at(66), true, [1; 12], now + Duration::from_secs(9));
        assert_eq!(path.to(), Some(at(1)));
    }

    #[test]
    fn a_client_with_ever_new_addresses_holds_a_few_and_keeps_the_one_in_use() {
        let (mut path, now) = (Path::default(), Instant::now());
        path.on_check(at(1), true, [0; 12], now);
        let mut left = 0;
        for n in 2..200u16 {
            let transaction = std::array::from_fn(|at| n.to_be_bytes()[at % 2]);
            match path.on_check(at(n), false, transaction, now) {
                Check::Ours { left: Some(gone) } => {
                    assert!(gone != at(1) && gone != at(n));
                    left += 1;
                }
                other => assert_eq!(other, Check::Ours { left: None }),
            }
        }
        assert_eq!((left, path.addresses.len(), path.to()), (199 - ADDRESSES, ADDRESSES, Some(at(1))));
    }
}
