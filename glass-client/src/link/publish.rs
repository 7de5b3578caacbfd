//! What these glasses publish: three tracks, their ids and clocks, and the task that sends their packets.
//!
//! Owns: TrackIds (new at every start, the main one also when its codec changes), RTP clocks, packetizers, sender reports, and the pace at which
//! packets of pictures leave: a whole picture at once would hold up the voice on a narrow link.
//! Pictures wait in a short queue; a full one drops the picture and asks for a key frame.
//! Never: blocks a capture thread. Elsewhere: negotiation (`media`).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
/// Of a packet on the wire besides its payload, bytes: about.
const HEADERS: usize = 75;
/// A pace is caught up with by so much.
const CATCH_UP: Duration = Duration::from_millis(20);

/// One encoded picture or sound block on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub source: TrackSource,
    pub codec: Codec,
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
    /// One clock for both pictures, so that a time of one is found in the other.
    pictures: RtpClock,
    voice: RtpClock,
    tracks: Mutex<Vec<TrackInfo>>,
    lanes: Mutex<Vec<Lane>>,
    sent: AtomicU64,
    dropped: AtomicU64,
    patient: AtomicBool,
    /// Bit/s at which packets of pictures leave; 0: at once.
    pace_bps: AtomicU64,
    /// Bits that wait for their turn.
    paced_bits: AtomicU64,
}

/// A track bound to the present media connection.
#[derive(Clone)]
pub struct Lane {
    pub info: TrackInfo,
    pub track: Arc<TrackLocalStaticRTP>,
    pub negotiated: Negotiated,
}

impl Publisher {
    /// `main`: the codec of the camera's main track.
    pub fn start(clock: Clock, main: Codec) -> Self {
        let epoch_ns = monotonic_ns();
        // Below 2^31, so that unwrapped times begin at the base itself.
        let clock_of = |codec: Codec| RtpClock { base: rand::random::<u32>() >> 1, epoch_ns, rate: codec.clock_rate() };
        let (pictures, voice) = (clock_of(main), clock_of(Codec::Opus));
        let info = |source, codec, rtp: &RtpClock, (width, height)| TrackInfo {
            track: TrackId(Uuid::now_v7()),
            source,
            codec,
            rtp_base: Some(rtp.base),
            start_us: Some(clock.utc_us(epoch_ns)),
            clock_offset_us: 0,
            width,
            height,
        };
        let tracks = vec![
            info(TrackSource::Main, main, &pictures, (MAIN_WIDTH, MAIN_HEIGHT)),
            info(TrackSource::Preview, Codec::Vp8, &pictures, (PREVIEW_WIDTH, PREVIEW_HEIGHT)),
            info(TrackSource::Voice, Codec::Opus, &voice, (0, 0)),
        ];
        let shared = Arc::new(Shared {
            clock,
            epoch_ns,
            pictures,
            voice,
            tracks: Mutex::new(tracks),
            lanes: Mutex::default(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            patient: AtomicBool::new(false),
            pace_bps: AtomicU64::new(0),
            paced_bits: AtomicU64::new(0),
        });
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send(shared.clone(), waiting));
        Self { shared, queue }
    }

    /// As announced in `rtc_join`, with the clock offset of now.
    pub fn infos(&self) -> Vec<TrackInfo> {
        let clock_offset_us = self.shared.clock.offset_us();
        let tracks = self.shared.tracks.lock().map(|t| t.clone()).unwrap_or_default();
        tracks.into_iter().map(|info| TrackInfo { clock_offset_us, ..info }).collect()
    }

    pub fn source_of(&self, track: TrackId) -> Option<TrackSource> {
        self.shared.tracks.lock().ok()?.iter().find(|i| i.track == track).map(|i| i.source)
    }

    /// The main picture comes in this codec from now on. `true`: that is another one than before, so the track has a new id, and
    /// its pictures are sent once it has been announced and bound anew.
    pub fn main_codec(&self, codec: Codec) -> bool {
        let Ok(mut tracks) = self.shared.tracks.lock() else { return false };
        match tracks.iter_mut().find(|i| i.source == TrackSource::Main) {
            Some(main) if main.codec != codec => {
                (main.track, main.codec) = (TrackId(Uuid::now_v7()), codec);
                true
            }
            _ => false,
        }
    }

    /// Unwrapped RTP time of a picture.
    pub fn picture_rtp(&self, capture_ns: u64) -> u64 {
        self.shared.pictures.unwrapped(capture_ns)
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

    /// From the next picture on: it may wait for its repairs where it is shown.
    pub fn set_patient(&self, patient: bool) {
        self.shared.patient.store(patient, Ordering::Relaxed);
    }

    /// Bit/s at which packets of pictures leave from now on; None: at once.
    pub fn set_pace(&self, bps: Option<u32>) {
        self.shared.pace_bps.store(bps.map_or(0, u64::from), Ordering::Relaxed);
    }

    /// Half a second's packets wait already: another picture would only come late.
    pub fn is_behind(&self) -> bool {
        let pace_bps = self.shared.pace_bps.load(Ordering::Relaxed);
        pace_bps > 0 && self.shared.paced_bits.load(Ordering::Relaxed) > pace_bps / 2
    }

    /// Pictures and blocks sent, and dropped because the queue was full.
    pub fn counters(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// The track as it is now and its lane, if it has one that was bound to this very track.
    fn way(&self, out: &Outgoing) -> Option<(usize, TrackInfo, Lane)> {
        let (at, info) = {
            let tracks = self.tracks.lock().ok()?;
            // A picture encoded before the codec changed has no track any more.
            let found = tracks.iter().enumerate().find(|(_, i)| i.source == out.source && i.codec == out.codec)?;
            (found.0, found.1.clone())
        };
        let lanes = self.lanes.lock().ok()?;
        let lane = lanes.iter().find(|l| l.info.track == info.track)?.clone();
        Some((at, info, lane))
    }
}

async fn send(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Outgoing>) {
    let mut packetizers: Vec<(TrackId, Packetizer)> = Vec::new();
    let mut reported: Vec<Option<tokio::time::Instant>> = Vec::new();
    let mut paced = Paced::default();
    loop {
        let out = tokio::select! {
            out = waiting.recv() => out,
            () = paced.due() => {
                paced.send_one(&shared).await;
                continue;
            }
        };
        let Some(out) = out else { return };
        let Some((at, info, lane)) = shared.way(&out) else { continue };
        while packetizers.len() <= at {
            packetizers.push((TrackId(Uuid::nil()), Packetizer::new(info.codec, rand::random(), rand::random())));
            reported.push(None);
        }
        if packetizers[at].0 != info.track {
            packetizers[at] = (info.track, Packetizer::new(info.codec, rand::random(), rand::random()));
        }
        let packetizer = &mut packetizers[at].1;
        let rtp = if out.source == TrackSource::Voice { shared.voice } else { shared.pictures };
        let unit = Unit {
            data: &out.data,
            rtp: rtp.wrapped(out.capture_ns),
            utc_us: shared.clock.utc_us(out.capture_ns),
            level: out.level,
            patient: shared.patient.load(Ordering::Relaxed),
        };
        let packets = packetizer.packetize(&unit, &lane.negotiated);
        if out.source != TrackSource::Voice && (paced.waits() || shared.pace_bps.load(Ordering::Relaxed) > 0) {
            paced.add(&shared, &lane.track, packets);
        } else {
            for packet in packets {
                // Not bound any more: the next connection gets the next picture.
                if lane.track.write_rtp(packet).await.is_err() {
                    break;
                }
            }
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let due = reported[at].is_none_or(|last| last.elapsed() >= REPORT);
        if due {
            reported[at] = Some(tokio::time::Instant::now());
            let now = monotonic_ns();
            let (packet_count, octet_count) = packetizer.sent();
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

/// On the wire.
fn bits(packet: &rtc::rtp::Packet) -> u64 {
    8 * (packet.payload.len() + HEADERS) as u64
}

/// Packets of pictures that wait for their turn.
#[derive(Default)]
struct Paced {
    waiting: VecDeque<(Arc<TrackLocalStaticRTP>, rtc::rtp::Packet)>,
    next: Option<tokio::time::Instant>,
}

impl Paced {
    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn add(&mut self, shared: &Shared, track: &Arc<TrackLocalStaticRTP>, packets: Vec<rtc::rtp::Packet>) {
        shared.paced_bits.fetch_add(packets.iter().map(bits).sum(), Ordering::Relaxed);
        self.waiting.extend(packets.into_iter().map(|packet| (track.clone(), packet)));
    }

    /// When the next one may leave; never while none waits.
    async fn due(&self) {
        if !self.waits() {
            return std::future::pending().await;
        }
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
    }

    async fn send_one(&mut self, shared: &Shared) {
        let Some((track, packet)) = self.waiting.pop_front() else { return };
        let now = tokio::time::Instant::now();
        let bits = bits(&packet);
        shared.paced_bits.fetch_sub(bits, Ordering::Relaxed);
        let bps = shared.pace_bps.load(Ordering::Relaxed);
        let takes = if bps == 0 { Duration::ZERO } else { Duration::from_secs_f64(bits as f64 / bps as f64) };
        // A program that was late makes up for it, but not for more than a moment.
        let from = self.next.map_or(now, |next| next.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        self.next = Some(from + takes);
        // Not bound any more: the next connection gets the next picture.
        let _ = track.write_rtp(packet).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_codec_is_a_new_main_track_and_nothing_else_changes() {
        let publisher = Publisher::start(Clock::start(), Codec::H264);
        let before = publisher.infos();
        assert!(!publisher.main_codec(Codec::H264));
        assert_eq!(publisher.infos(), before);
        assert!(publisher.main_codec(Codec::Vp8));
        let after = publisher.infos();
        assert_ne!(after[0].track, before[0].track);
        assert_eq!(
            (after[0].codec, after[0].rtp_base, after[0].start_us),
            (Codec::Vp8, before[0].rtp_base, before[0].start_us)
        );
        assert_eq!(after[1..], before[1..]);
        // A mark on a picture of the old track is not looked for in the ring of the new one.
        assert_eq!(publisher.source_of(before[0].track), None);
        assert_eq!(publisher.source_of(after[0].track), Some(TrackSource::Main));
    }

    #[tokio::test]
    async fn a_lane_takes_pictures_of_its_own_track_alone() {
        let publisher = Publisher::start(Clock::start(), Codec::H264);
        let lanes: Vec<Lane> = publisher.infos().into_iter().map(lane).collect();
        publisher.bind(lanes);
        let picture = |codec| Outgoing {
            source: TrackSource::Main,
            codec,
            data: Bytes::new(),
            capture_ns: monotonic_ns(),
            level: None,
        };
        let way = |codec| publisher.shared.way(&picture(codec)).is_some();
        assert!(way(Codec::H264) && !way(Codec::Vp8));
        publisher.main_codec(Codec::Vp8);
        assert!(!way(Codec::H264) && !way(Codec::Vp8), "neither the late picture nor the new one goes to the old lane");
        publisher.bind(publisher.infos().into_iter().map(lane).collect());
        assert!(way(Codec::Vp8) && !way(Codec::H264));
    }

    fn lane(info: TrackInfo) -> Lane {
        use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
        let id = info.track.to_string();
        let track = rtc::media_stream::MediaStreamTrack::new("own".into(), id.clone(), id, RtpCodecKind::Video, vec![]);
        Lane { info, track: Arc::new(TrackLocalStaticRTP::new(track)), negotiated: Negotiated::default() }
    }
}
