//! What the server asks a worker to do, and what is counted for it.
//!
//! Owns: the shapes on the command queue. Never: does anything.
//! Elsewhere: sending them (`lib`), doing them (`worker`).

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Leg, RtcAnswer, TrackInfo};
use tokio::sync::oneshot;

use crate::{Gateway, LegKind, SfuError};

pub(crate) type Reply<T> = oneshot::Sender<T>;

pub(crate) enum Command {
    Join {
        room: SessionId,
        who: Pseudonym,
        kind: LegKind,
        publish: Vec<TrackInfo>,
        reply: Reply<Result<u64, SfuError>>,
    },
    Offer {
        room: SessionId,
        gateway: Gateway,
        reply: Reply<Result<(u64, String), SfuError>>,
    },
    Answer {
        room: SessionId,
        who: Pseudonym,
        answer: RtcAnswer,
        reply: Reply<Result<(), SfuError>>,
    },
    Watch {
        room: SessionId,
        who: Pseudonym,
        track: TrackId,
        on: bool,
        reply: Reply<Result<(), SfuError>>,
    },
    Gate {
        room: SessionId,
        who: Pseudonym,
        open: bool,
        reply: Reply<()>,
    },
    Leave {
        room: SessionId,
        who: Pseudonym,
        reply: Reply<()>,
    },
    CloseRoom {
        room: SessionId,
        reply: Reply<()>,
    },
    Legs {
        room: SessionId,
        reply: Reply<Vec<Leg>>,
    },
    /// A TCP connection whose first frame names a leg of this worker.
    Stream {
        socket: std::net::TcpStream,
    },
}

/// Shared between a worker, which writes, and the handle, which reads.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) packets_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) packets_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) drops_in: AtomicU64,
    pub(crate) drops_out: AtomicU64,
    /// Legs there are now.
    pub(crate) legs: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// The thread's CPU clock.
    pub(crate) cpu_clock: AtomicI32,
}

impl Shared {
    /// CPU time of the worker's thread, µs; 0 before it runs or after it has ended.
    pub(crate) fn cpu_us(&self) -> u64 {
        let clock = self.cpu_clock.load(Ordering::Relaxed);
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place to write; an unknown clock is refused by an error code.
        if clock == 0 || unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
            return 0;
        }
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
    }

    /// Called by the worker on its own thread.
    pub(crate) fn take_thread_clock(&self) {
        let mut clock = 0;
        // SAFETY: the calling thread exists, and `clock` is a valid place to write.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) } == 0 {
            self.cpu_clock.store(clock, Ordering::Relaxed);
        }
    }
}
