//! What tests of the recorder share: real packets from ffmpeg, and a recorder in a temporary folder.

#![allow(dead_code)]

use std::{
    collections::HashMap,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use lotse_archivist::{
    depacketize::Packet,
    fragment::{self, Finished},
    journal::Journal,
    keys::Keys,
    recorder::{Out, Recorder},
};
use lotse_payload::recording::StopWhy;
use lotse_protocol::{
    id::{CaseId, Digest, Pseudonym, SessionId, TrackId},
    item,
    signal::{Codec, TrackInfo, TrackSource},
};
use uuid::Uuid;

pub(crate) const START: i64 = 1_790_000_000_000_000;
pub(crate) const RTP_BASE: u32 = 2_000_000_000;

/// Real RTP packets of `seconds` of a test picture or tone, from ffmpeg.
pub(crate) fn packets(codec: Codec, seconds: u32) -> Vec<(u16, u32, bool, Vec<u8>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = format!("rtp://{}?pkt_size=1200", socket.local_addr().unwrap());
    let seconds = seconds.to_string();
    let mut args = vec!["-v", "error", "-readrate", "8", "-f", "lavfi"];
    match codec {
        Codec::Vp8 => args.extend([
            "-i",
            "testsrc2=size=640x360:rate=30",
            "-t",
            &seconds,
            "-c:v",
            "libvpx",
            "-b:v",
            "400k",
            "-deadline",
            "realtime",
            "-g",
            "55",
        ]),
        Codec::H264 => args.extend([
            "-i",
            "testsrc2=size=640x360:rate=30",
            "-t",
            &seconds,
            "-c:v",
            "libx264",
            "-profile:v",
            "baseline",
            "-tune",
            "zerolatency",
            "-g",
            "55",
            "-bsf:v",
            "dump_extra",
        ]),
        Codec::Opus => args.extend([
            "-i",
            "sine=frequency=440:sample_rate=48000",
            "-t",
            &seconds,
            "-c:a",
            "libopus",
            "-b:a",
            "32k",
            "-ac",
            "1",
        ]),
    }
    args.extend(["-f", "rtp", &to]);
    let mut ffmpeg = Command::new("ffmpeg").args(&args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut out = Vec::new();
    let mut buffer = [0u8; 2048];
    while let Ok(len) = socket.recv(&mut buffer) {
        if ffmpeg.try_wait().unwrap().is_some() {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        let p = &buffer[..len];
        // Reports come to the same port when it is all we listen on; payload types below 72 or above 76 are media.
        if len < 12 || (72..=76).contains(&(p[1] & 0x7f)) {
            continue;
        }
        let seq = u16::from_be_bytes([p[2], p[3]]);
        let timestamp = u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
        out.push((seq, timestamp, p[1] & 0x80 != 0, p[12..].to_vec()));
    }
    assert!(ffmpeg.wait().unwrap().success());
    assert!(out.len() > 50, "only {} packets from ffmpeg", out.len());
    let first = out[0].1;
    // On our base, so that a publisher's announcement can be tried.
    for p in &mut out {
        p.1 = RTP_BASE.wrapping_add(p.1.wrapping_sub(first));
    }
    out
}

pub(crate) fn info(codec: Codec) -> TrackInfo {
    TrackInfo {
        track: TrackId(Uuid::now_v7()),
        source: if codec == Codec::Opus { TrackSource::Voice } else { TrackSource::Main },
        codec,
        rtp_base: Some(RTP_BASE),
        start_us: Some(START),
        clock_offset_us: 0,
        width: if codec == Codec::Opus { 0 } else { 640 },
        height: if codec == Codec::Opus { 0 } else { 360 },
    }
}

pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) keys: Arc<Keys>,
    pub(crate) case: CaseId,
    pub(crate) owner: Pseudonym,
    pub(crate) recorder: Recorder,
    pub(crate) out: Vec<Out>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).unwrap());
        let case = CaseId(Uuid::now_v7());
        let found = Journal::open(&dir.path().join("data"), case, &keys).unwrap();
        let session = SessionId(Uuid::now_v7());
        let recorder = Recorder::new(session, keys.clone(), found.journal, HashMap::new(), HashMap::new());
        Self { dir, keys, case, owner: Pseudonym(Uuid::now_v7()), recorder, out: Vec::new() }
    }

    pub(crate) fn feed(&mut self, info: &TrackInfo, packets: &[(u16, u32, bool, Vec<u8>)]) -> i64 {
        self.recorder.announce(&[(self.owner, info.clone())]);
        self.recorder.allow(true, StopWhy::NotAllowed, START);
        let rate = i64::from(info.codec.clock_rate());
        let mut now = START;
        for (seq, timestamp, marker, payload) in packets {
            let elapsed = i64::from(timestamp.wrapping_sub(RTP_BASE));
            let at = START + elapsed * 1_000_000 / rate + 20_000;
            while now + 50_000 <= at {
                now += 50_000;
                self.recorder.tick(now);
            }
            let packet = Packet {
                seq: *seq,
                timestamp: *timestamp,
                marker: *marker,
                payload: payload.clone().into(),
                arrival_us: at,
            };
            self.recorder.packet(info.track, packet);
            self.out.extend(self.recorder.take_out());
        }
        now
    }

    pub(crate) fn stop(&mut self, why: StopWhy, now: i64) {
        self.recorder.allow(false, why, now);
        self.recorder.tick(now);
        self.out.extend(self.recorder.take_out());
    }

    pub(crate) fn segments(&self) -> Vec<Finished> {
        let one = |o: &Out| if let Out::Segment(f) = o { Some((**f).clone()) } else { None };
        self.out.iter().filter_map(one).collect()
    }

    pub(crate) fn folder(&self) -> std::path::PathBuf {
        lotse_archivist::journal::fragments_dir(&self.dir.path().join("data"), self.case)
    }

    pub(crate) fn open(&self, f: &Finished) -> Vec<u8> {
        open(&self.folder(), f)
    }
}

/// Reads a fragment back and checks everything its event says about its bytes.
pub(crate) fn open(folder: &Path, f: &Finished) -> Vec<u8> {
    let sealed = std::fs::read(fragment::path(folder, &f.payload.media)).unwrap();
    assert_eq!(Digest::of(&sealed), f.payload.media);
    assert_eq!(sealed.len() as u64, f.payload.size);
    let (plain, chunks) = item::open(&f.key, &sealed).unwrap();
    assert_eq!(chunks.iter().map(|c| *c as u32).collect::<Vec<_>>(), f.payload.chunks);
    assert!((f.payload.init_len as usize) < plain.len());
    plain
}
