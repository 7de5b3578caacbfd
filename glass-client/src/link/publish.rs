//! What these glasses publish: three tracks, their ids and clocks, and the task that sends their packets.
//!
//! Owns: TrackIds (new at every start), RTP clocks, packetizers, sender reports. Pictures wait in a short queue;
//! a full one drops the picture and asks for a key frame.
//! Never: blocks a capture thread. Elsewhere: negotiation (`media`).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lotse_protocol::{
    id::TrackId,
    signal::{Codec, TrackInfo, TrackSource},
};
use rtc::rtcp::sender_report::SenderReport;
use tokio::sync::mpsc;
use uuid::Uuid;
use webrtc::media_stream::track_local::{TrackLocal as _, static_rtp::TrackLocalStaticRTP};

use crate::{
    capture::encode::{MAIN_HEIGHT, MAIN_WIDTH, PREVIEW_HEIGHT, PREVIEW_WIDTH},
    clock::{Clock, RtpClock, monotonic_ns, ntp},
    packet::{Negotiated, Packetizer, Unit},
};

/// Pictures and sound blocks waiting to be sent: about a second of both.
const QUEUE: usize = 96;
/// Between two sender reports of a track.
const REPORT: Duration = Duration::from_secs(1);

/// One encoded picture or sound block on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub source: TrackSource,
    pub data: Bytes,
    pub capture_ns: u64,
    /// RFC 6464, for the voice.
    pub level: Option<u8>,
}

/// The tracks of this start.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
}

struct Shared {
    clock: Clock,
    epoch_ns: u64,
    tracks: Vec<(TrackInfo, RtpClock)>,
    lanes: Mutex<Vec<Lane>>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// A track bound to the present media connection.
#[derive(Clone)]
pub struct Lane {
    pub source: TrackSource,
    pub track: Arc<TrackLocalStaticRTP>,
    pub negotiated: Negotiated,
}

impl Publisher {
    /// `main`: the codec of the camera's main track.
    pub fn start(clock: Clock, main: Codec) -> Self {
        let epoch_ns = monotonic_ns();
        // Below 2^31, so that unwrapped times begin at the base itself.
        let base = || rand::random::<u32>() >> 1;
        let (pictures, voice) = (base(), base());
        let info = |source, codec, base, (width, height)| {
            let track = TrackInfo {
                track: TrackId(Uuid::now_v7()),
                source,
                codec,
                rtp_base: Some(base),
                start_us: Some(clock.utc_us(epoch_ns)),
                clock_offset_us: 0,
                width,
                height,
            };
            (track, RtpClock { base, epoch_ns, rate: codec.clock_rate() })
        };
        let tracks = vec![
            info(TrackSource::Main, main, pictures, (MAIN_WIDTH, MAIN_HEIGHT)),
            info(TrackSource::Preview, Codec::Vp8, pictures, (PREVIEW_WIDTH, PREVIEW_HEIGHT)),
            info(TrackSource::Voice, Codec::Opus, voice, (0, 0)),
        ];
        let shared = Arc::new(Shared {
            clock,
            epoch_ns,
            tracks,
            lanes: Mutex::default(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send(shared.clone(), waiting));
        Self { shared, queue }
    }

    /// As announced in `rtc_join`, with the clock offset of now.
    pub fn infos(&self) -> Vec<TrackInfo> {
        let clock_offset_us = self.shared.clock.offset_us();
        self.shared.tracks.iter().map(|(info, _)| TrackInfo { clock_offset_us, ..info.clone() }).collect()
    }

    pub fn source_of(&self, track: TrackId) -> Option<TrackSource> {
        self.shared.tracks.iter().find(|(i, _)| i.track == track).map(|(i, _)| i.source)
    }

    /// Unwrapped RTP time of a picture.
    pub fn picture_rtp(&self, capture_ns: u64) -> u64 {
        self.shared.tracks[0].1.unwrapped(capture_ns)
    }

    /// Queues a picture or block. `false`: it was dropped.
    pub fn offer(&self, out: Outgoing) -> bool {
        let taken = out.capture_ns >= self.shared.epoch_ns && self.queue.try_send(out).is_ok();
        if !taken {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Binds the tracks to a media connection, or to none.
    pub fn bind(&self, lanes: Vec<Lane>) {
        if let Ok(mut l) = self.shared.lanes.lock() {
            *l = lanes;
        }
    }

    /// Pictures and blocks sent, and dropped because the queue was full.
    pub fn counters(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

async fn send(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Outgoing>) {
    let mut packetizers: Vec<Packetizer> =
        shared.tracks.iter().map(|(i, _)| Packetizer::new(i.codec, rand::random(), rand::random())).collect();
    let mut reported: Vec<Option<tokio::time::Instant>> = vec![None; packetizers.len()];
    while let Some(out) = waiting.recv().await {
        let Some(at) = shared.tracks.iter().position(|(i, _)| i.source == out.source) else { continue };
        let lane = shared.lanes.lock().ok().and_then(|l| l.iter().find(|l| l.source == out.source).cloned());
        let Some(lane) = lane else { continue };
        let rtp = shared.tracks[at].1;
        let unit = Unit {
            data: &out.data,
            rtp: rtp.wrapped(out.capture_ns),
            utc_us: shared.clock.utc_us(out.capture_ns),
            level: out.level,
        };
        for packet in packetizers[at].packetize(&unit, &lane.negotiated) {
            // Not bound any more: the next connection gets the next picture.
            if lane.track.write_rtp(packet).await.is_err() {
                break;
            }
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let due = reported[at].is_none_or(|last| last.elapsed() >= REPORT);
        if due {
            reported[at] = Some(tokio::time::Instant::now());
            let now = monotonic_ns();
            let (packet_count, octet_count) = packetizers[at].sent();
            let report = SenderReport {
                ssrc: lane.negotiated.ssrc,
                ntp_time: ntp(shared.clock.utc_us(now)),
                rtp_time: rtp.wrapped(now),
                packet_count,
                octet_count,
                ..SenderReport::default()
            };
            // A report lost is followed by the next one.
            let _ = lane.track.write_rtcp(vec![Box::new(report)]).await;
        }
    }
}
