//! A user-space path between a client and the SFU that loses media packets by a seeded rule, and counts.
//!
//! Owns: two UDP sockets and a task. Never: loses STUN, DTLS or RTCP, so that loss is all that is tested.
//! Elsewhere: who uses it (`world`).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::net::UdpSocket;

/// Counts of one direction.
#[derive(Debug, Default)]
pub struct Way {
    pub media: AtomicU64,
    pub lost: AtomicU64,
    pub repairs: AtomicU64,
}

pub struct Relay {
    pub port: u16,
    pub up: Arc<Way>,
    pub down: Arc<Way>,
    /// True: nothing at all passes.
    pub cut: Arc<AtomicBool>,
    /// True: the SFU sees another address from now on, as after a change of network. Falls back by itself.
    pub move_on: Arc<AtomicBool>,
}

impl Relay {
    /// `loss`: share of media packets lost each way, 0 to 1.
    pub async fn new(sfu_port: u16, loss: f64, seed: u64) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let mut far = far_socket(sfu_port).await;
        let port = near.local_addr().expect("bound").port();
        let (up, down, cut) = (Arc::new(Way::default()), Arc::new(Way::default()), Arc::new(AtomicBool::new(false)));
        let move_on = Arc::new(AtomicBool::new(false));
        let ways = (up.clone(), down.clone(), cut.clone(), move_on.clone());
        tokio::spawn(async move {
            let (up, down, cut, move_on) = ways;
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut from_near, mut from_far) = ([0; 2_048], [0; 2_048]);
            let mut client: Option<SocketAddr> = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut from_near) => {
                        client = Some(from);
                        if move_on.swap(false, Ordering::Relaxed) {
                            far = far_socket(sfu_port).await;
                        }
                        if !cut.load(Ordering::Relaxed) && passes(&from_near[..len], &up, loss, &mut rng) {
                            let _ = far.send(&from_near[..len]).await;
                        }
                    }
                    Ok(len) = far.recv(&mut from_far) => {
                        if let Some(client) = client
                            && !cut.load(Ordering::Relaxed)
                            && passes(&from_far[..len], &down, loss, &mut rng)
                        {
                            let _ = near.send_to(&from_far[..len], client).await;
                        }
                    }
                }
            }
        });
        Self { port, up, down, cut, move_on }
    }
}

async fn far_socket(sfu_port: u16) -> UdpSocket {
    let far = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    far.connect(("127.0.0.1", sfu_port)).await.expect("the SFU");
    far
}

fn passes(data: &[u8], way: &Way, loss: f64, rng: &mut StdRng) -> bool {
    // RFC 7983 and RFC 5761: media has a first byte of 128 to 191 and no RTCP type in the second.
    let media = data.len() > 12 && (128..192).contains(&data[0]) && !(192..224).contains(&data[1]);
    if !media {
        return true;
    }
    way.media.fetch_add(1, Ordering::Relaxed);
    way.repairs.fetch_add(u64::from(data[1] & 0x7F == 97), Ordering::Relaxed);
    let lost = rng.random_bool(loss);
    way.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
    !lost
}
