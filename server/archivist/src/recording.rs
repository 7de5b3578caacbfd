//! The thread of one session's recorder, and how the rest speaks to it without waiting.
//!
//! Owns: the queue of packets to the disk side and the latest wishes (tracks, permission), which never queue up.
//! Never: makes the leg wait: a full queue drops packets, and the recorder declares a gap.
//! Elsewhere: what is recorded (`recorder`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use lotse_payload::recording::StopWhy;
use lotse_protocol::{
    id::{CaseId, Digest, Pseudonym, TrackId},
    signal::TrackInfo,
};
use tokio::sync::mpsc;

use crate::{
    depacketize::Packet,
    link::Steady,
    recorder::{Out, Recorder},
};

/// Packets that may wait for the disk: some 10 s of one picture and two voices.
const QUEUE: usize = 4_096;
/// How often the recorder looks at the time.
const TICK: Duration = Duration::from_millis(50);

enum Fed {
    Packet(TrackId, Packet),
    Report { track: TrackId, rtp: u32, ntp_us: i64, arrival_us: i64 },
}

/// The newest wishes; older ones are overtaken.
#[derive(Default)]
struct Wishes {
    lines: Option<Vec<(Pseudonym, TrackInfo)>>,
    allowed: Option<(bool, StopWhy)>,
    committed: Vec<Digest>,
    close: bool,
}

struct Shared {
    wishes: Mutex<Wishes>,
    /// Checked for each packet: a withdrawal overtakes what waits in the queue.
    allowed: AtomicBool,
    dropped: AtomicU64,
}

/// The leg's end: packets in.
#[derive(Clone)]
pub struct Feed {
    packets: SyncSender<Fed>,
    shared: Arc<Shared>,
}

impl Feed {
    pub fn packet(&self, track: TrackId, packet: Packet) {
        if self.shared.allowed.load(Ordering::Acquire)
            && let Err(TrySendError::Full(_)) = self.packets.try_send(Fed::Packet(track, packet))
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn report(&self, track: TrackId, rtp: u32, ntp_us: i64, arrival_us: i64) {
        // A report lost here is replaced by the next one, a second later.
        let _ = self.packets.try_send(Fed::Report { track, rtp, ntp_us, arrival_us });
    }

    pub fn lines(&self, lines: Vec<(Pseudonym, TrackInfo)>) {
        self.wish(|w| w.lines = Some(lines));
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What comes out of the thread, with its case.
#[derive(Debug)]
pub enum Told {
    Out(Out),
    /// The thread has ended; the case's folder is free.
    Closed,
}

/// The owner's end: permission and end.
pub struct Recording {
    pub feed: Feed,
    pub clock: Arc<Steady>,
}

impl Recording {
    pub fn start(
        case: CaseId,
        recorder: Recorder,
        clock: Steady,
        told: mpsc::Sender<(CaseId, Told)>,
    ) -> std::io::Result<Self> {
        let (packets, fed) = sync_channel(QUEUE);
        let clock = Arc::new(clock);
        let counted = clock.clone();
        let shared =
            Arc::new(Shared { wishes: Mutex::default(), allowed: AtomicBool::new(false), dropped: AtomicU64::new(0) });
        let feed = Feed { packets, shared: shared.clone() };
        std::thread::Builder::new().name("recorder".into()).spawn(move || {
            run(recorder, &fed, &shared, &counted, |out| {
                // The reader is gone only at shutdown.
                let _ = told.blocking_send((case, Told::Out(out)));
            });
            let _ = told.blocking_send((case, Told::Closed));
        })?;
        Ok(Self { feed, clock })
    }

    /// May media be kept? Takes effect with the next packet.
    pub fn allow(&self, allowed: bool, why: StopWhy) {
        self.feed.shared.allowed.store(allowed, Ordering::Release);
        self.feed.wish(|w| w.allowed = Some((allowed, why)));
    }

    pub fn committed(&self, media: Digest) {
        self.feed.wish(|w| w.committed.push(media));
    }

    /// Ends the thread after what is open was finished.
    pub fn close(&self) {
        self.feed.wish(|w| w.close = true);
    }
}

fn run(mut recorder: Recorder, fed: &Receiver<Fed>, shared: &Shared, clock: &Steady, mut tell: impl FnMut(Out)) {
    let mut next_tick = Instant::now();
    let mut dropped = 0;
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        let first = match fed.recv_timeout(wait) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Wishes first: what was withdrawn must not be kept.
        let wishes = std::mem::take(&mut *shared.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(lines) = wishes.lines {
            recorder.announce(&lines);
        }
        if let Some((allowed, why)) = wishes.allowed {
            recorder.allow(allowed, why, clock.now_us());
        }
        if !wishes.committed.is_empty() {
            recorder.committed(&wishes.committed);
        }
        let now_dropped = shared.dropped.load(Ordering::Relaxed);
        if now_dropped != dropped {
            metrics::counter!("lotse_archivist_dropped_packets_total").increment(now_dropped - dropped);
            tracing::warn!(packets = now_dropped - dropped, "the disk is too slow: packets are not recorded");
            dropped = now_dropped;
            recorder.dropped();
        }
        // While packets wait here, it is as late as they say: nobody is silent because a disk is slow.
        let fed_us = match &first {
            Some(Fed::Packet(_, packet)) => Some(packet.arrival_us),
            Some(Fed::Report { arrival_us, .. }) => Some(*arrival_us),
            None => None,
        };
        match first {
            Some(Fed::Packet(track, packet)) if shared.allowed.load(Ordering::Acquire) => {
                recorder.packet(track, packet)
            }
            Some(Fed::Report { track, rtp, ntp_us, arrival_us }) => recorder.report(track, rtp, ntp_us, arrival_us),
            _ => {}
        }
        let began = Instant::now();
        if began >= next_tick {
            recorder.tick(fed_us.unwrap_or_else(|| clock.now_us()));
            // A slow disk gets half of the time at most; the other half is for the packets that waited meanwhile.
            next_tick = Instant::now() + TICK.max(began.elapsed());
        }
        if wishes.close {
            recorder.close(clock.now_us());
        }
        recorder.take_out().into_iter().for_each(&mut tell);
        if wishes.close {
            return;
        }
    }
}
