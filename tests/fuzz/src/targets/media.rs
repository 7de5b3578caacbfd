//! Packets and frames: cut, put together, recorded, heard.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bytes::Bytes;
use lotse_archivist::{
    clock::ntp_to_us,
    depacketize::{Depacketizer, Output, Packet},
    journal::Resume,
    keys::Keys,
    track::Track,
};
use lotse_glass::packet::{MAX_PAYLOAD, Negotiated, Packetizer, Unit};
use lotse_protocol::{
    id::{Pseudonym, SessionId, TrackId},
    signal::{Codec, TrackInfo, TrackSource},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::script::Script;

const SECOND_US: i64 = 1_000_000;

fn codec(choice: u8) -> Codec {
    [Codec::Vp8, Codec::H264, Codec::Opus][usize::from(choice % 3)]
}

/// A memory disk where there is one: nothing here has to survive.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        made.expect("a temporary folder")
    };
    FOLDER.get_or_init(make).path()
}

/// The archivist's keys, made once.
pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys::open(&folder().join("keys")).expect("keys"))
}

/// A frame goes through the glasses' packetizer and comes out of the archivist's depacketizer as it was.
pub(crate) fn packetize(data: &[u8]) {
    let mut script = Script::new(data);
    let codec = codec(script.u8());
    let (seq, picture_id) = (script.u16(), script.u16());
    let frame = Bytes::copy_from_slice(script.rest());
    let to = Negotiated { ssrc: 1, payload_type: 96, mid: "0".into(), mid_id: Some(1), ..Negotiated::default() };
    let unit = Unit { data: &frame, rtp: 90_000, utc_us: 0, level: Some(30), patient: false };
    let packets = Packetizer::new(codec, seq, picture_id).packetize(&unit, &to);
    let mut reader = Depacketizer::new(codec, SECOND_US);
    let mut whole = Vec::new();
    for packet in packets {
        assert!(codec == Codec::Opus || packet.payload.len() <= MAX_PAYLOAD);
        whole.extend(reader.push(Packet {
            seq: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload,
            arrival_us: 0,
        }));
    }
    if codec == Codec::Vp8 && !frame.is_empty() {
        let [Output::Frame(back)] = &whole[..] else { panic!("{whole:?} is not one frame") };
        assert_eq!(back.data, frame);
    }
}

/// One packet as a script tells it.
fn packet(script: &mut Script<'_>, arrival_us: i64) -> Packet {
    let (seq, timestamp, flags) = (script.u16(), script.u32(), script.u8());
    Packet { seq, timestamp, marker: flags & 1 == 0, payload: Bytes::copy_from_slice(script.bytes()), arrival_us }
}

pub(crate) fn depacketize(data: &[u8]) {
    let mut script = Script::new(data);
    let mut reader = Depacketizer::new(codec(script.u8()), SECOND_US / 2);
    let (mut now, mut put_in, mut came_out) = (0, 0, 0);
    while !script.is_over() {
        let what = script.u8();
        let out = match what & 7 {
            6 => reader.tick(now),
            7 => reader.finish(),
            _ => {
                let packet = packet(&mut script, now);
                put_in += packet.payload.len();
                reader.push(packet)
            }
        };
        now += i64::from(what >> 3) * 10_000;
        for o in out {
            if let Output::Frame(frame) = o {
                came_out += frame.data.len();
            }
        }
    }
    // H.264 units get four bytes of length instead of two, or of a start of one.
    assert!(came_out <= 5 * put_in, "{came_out} bytes of frames from {put_in} of packets");
}

/// What a participant announces and sends, through to the files of fragments.
pub(crate) fn record(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.u8();
    let long = |script: &mut Script<'_>| i64::from(script.u32()) << 32 | i64::from(script.u32());
    let codec = codec(flags >> 4);
    let info = TrackInfo {
        track: TrackId(Uuid::from_u128(1)),
        source: if codec.is_video() { TrackSource::Main } else { TrackSource::Voice },
        codec,
        rtp_base: (flags & 1 != 0).then(|| script.u32()),
        start_us: (flags & 2 != 0).then(|| long(&mut script)),
        clock_offset_us: if flags & 4 != 0 { long(&mut script) } else { 0 },
        width: script.u16(),
        height: script.u16(),
    };
    // Only the archivist itself writes where it stopped.
    let resume = (flags & 8 != 0).then_some(Resume { origin: 0, last_rtp: 90_000, arrival_us: 0, end_us: SECOND_US });
    let dir: PathBuf = folder().join("record");
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut track = Track::new(SessionId(Uuid::from_u128(2)), Pseudonym(Uuid::from_u128(3)), info, resume);
    let mut now = 1_772_442_000 * SECOND_US;
    let work = |done: std::io::Result<()>| done.expect("the disk takes it");
    while !script.is_over() {
        let what = script.u8();
        match what & 7 {
            4 => track.report(script.u32(), ntp_to_us(long(&mut script) as u64), now),
            5 => work(track.tick(&dir, keys(), now)),
            6 => work(track.flush()),
            7 if what & 0x80 == 0 => work(track.stop(&dir, keys(), what & 8 == 0)),
            7 => track.abandon(),
            _ => work(track.packet(&dir, keys(), packet(&mut script, now))),
        }
        now += i64::from(what >> 3) * 50_000;
        track.take_told();
    }
    work(track.stop(&dir, keys(), true));
    drop(track);
    for entry in std::fs::read_dir(&dir).expect("a folder").flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Packets of a voice, heard by the glasses.
pub(crate) fn voice(data: &[u8]) {
    let mut script = Script::new(data);
    let mut packets = Vec::new();
    while !script.is_over() {
        let (after_ms, seq, rtp_time) = (script.u8(), script.u16(), script.u32());
        packets.push((after_ms, seq, rtp_time, Bytes::copy_from_slice(script.bytes())));
    }
    lotse_glass::voice::fuzz(&packets);
}
