//! What is handed to one socket to send, and the bounded queue it waits in.
//!
//! Owns: the rule for a slow socket: it is never waited for; a full queue ends it with a reason.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lotse_protocol::{
    chain::Head,
    command::ServerMessage,
    id::{CaseId, EventId},
};
use tokio::sync::{Notify, mpsc};

use crate::{error::Error, store::log::LogEvent};

/// Messages that may wait for one socket: minutes of a busy session. When it is full the socket is closed as `too_slow`.
const QUEUE: usize = 512;

/// One thing for a socket to send.
#[derive(Debug)]
pub enum Push {
    /// A new event of an open case; sent if the receiver may read it and has not had it.
    Event(Arc<LogEvent>),
    /// The fate of a commit.
    Answer { case: CaseId, id: Option<EventId>, result: Result<Head, Error> },
    /// Anything else, as it is.
    Say(Box<ServerMessage>),
}

/// The sending end of a socket's queue. Never waits.
#[derive(Clone)]
pub struct Pusher {
    queue: mpsc::Sender<Push>,
    overrun: Overrun,
}

/// Set once when something could not be queued.
#[derive(Clone, Default)]
pub struct Overrun(Arc<(AtomicBool, Notify)>);

pub fn queue() -> (Pusher, mpsc::Receiver<Push>, Overrun) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let overrun = Overrun::default();
    (Pusher { queue, overrun: overrun.clone() }, receiver, overrun)
}

impl Pusher {
    pub fn push(&self, push: Push) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(push) {
            self.overrun.0.0.store(true, Ordering::Relaxed);
            self.overrun.0.1.notify_one();
        }
    }

    pub fn say(&self, message: ServerMessage) {
        self.push(Push::Say(Box::new(message)));
    }

    pub fn same(&self, other: &Pusher) -> bool {
        self.queue.same_channel(&other.queue)
    }
}

impl Overrun {
    /// Returns when something could not be queued.
    pub async fn happened(&self) {
        while !self.0.0.load(Ordering::Relaxed) {
            self.0.1.notified().await;
        }
    }
}
