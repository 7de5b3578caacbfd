//! From a clip through encoder and ring back to pixels: the number in the picture is the number that was captured.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use lotse_glass::{
    capture::{
        self, Outlets, RawFrame, Source,
        clip::Clip,
        decode::Decoder,
        encode::{Encoded, Rate},
        encoders::Encoders,
        pattern,
        pattern::read_number,
    },
    clock::{RtpClock, monotonic_ns},
    profile::EncoderChoice,
    ring::{EncodedFrame, Match, Ring},
};

const RATE: RtpClock = RtpClock { base: 77_000, epoch_ns: 0, rate: 90_000 };

struct Run {
    ring: Ring,
    /// RTP time to the number read from the raw picture.
    numbers: BTreeMap<u64, u16>,
    bytes: usize,
}

/// Runs a source through an encoder, for `seconds` at each of these sizes: is it the half one?
fn run(source: Box<dyn Source>, choices: &[EncoderChoice], seconds: u64, sizes: &[bool]) -> Run {
    capture::init().expect("gstreamer");
    let clock = RtpClock { epoch_ns: monotonic_ns(), ..RATE };
    let (tx, rx) = mpsc::channel();
    let codec =
        if choices.is_empty() { lotse_protocol::signal::Codec::Vp8 } else { lotse_protocol::signal::Codec::H264 };
    let deliver = move |e: Encoded| {
        let rtp = clock.unwrapped(e.capture_ns);
        let _ = tx.send(EncodedFrame { codec: e.codec, capture_ns: e.capture_ns, rtp, key: e.key, data: e.data });
    };
    let encoder = Arc::new(Encoders::new(choices).start(Arc::new(deliver)).expect("encoder"));
    assert_eq!(encoder.codec(), codec);
    let numbers = Arc::new(Mutex::new(BTreeMap::new()));
    let outlets = {
        let (numbers, encoder) = (numbers.clone(), encoder.clone());
        Outlets {
            picture: Arc::new(move |frame: RawFrame| {
                let map = frame.picture.map_readable().expect("readable");
                let number = read_number(&map, 1280, 1280).expect("bar code in the raw picture");
                drop(map);
                numbers.lock().expect("lock").insert(clock.unwrapped(frame.capture_ns), number);
                encoder.push(&frame);
            }),
            sound: Arc::new(|_| {}),
            trouble: Arc::new(|t| panic!("{t:?}")),
        }
    };
    let running = source.start(outlets).expect("source");
    let mut ring = Ring::default();
    let mut bytes = 0;
    for half in sizes {
        encoder.follow(Rate { half: *half, ..Rate::FULL });
        let end = Instant::now() + Duration::from_secs(seconds);
        while let Ok(frame) = rx.recv_timeout(end.saturating_duration_since(Instant::now())) {
            bytes += frame.data.len();
            ring.push(frame);
        }
    }
    drop(running);
    let numbers = numbers.lock().expect("lock").clone();
    Run { ring, numbers, bytes }
}

/// Of each that is there: how many had to be decoded, how long that took, how wide it is.
fn all_are_found(run: &Run) -> Vec<(usize, Duration, usize)> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for (&rtp, &number) in run.numbers.iter().step_by(7) {
        let Some(frames) = run.ring.find(rtp, Match::Exact) else { continue };
        let started = Instant::now();
        let picture = decoder.last_of(&frames).expect("decodes");
        let width = picture.width;
        found.push((frames.len(), started.elapsed(), width));
        assert!(matches!((width, picture.height), (1280, 720) | (640, 360)), "{width}");
        assert_eq!(read_number(&picture.data, width, width), Some(number), "frame {rtp} of {width}");
    }
    found
}

fn workshop() -> Box<Clip> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/footage/workshop.mp4");
    Box::new(Clip { path, with_sound: true })
}

#[test]
fn every_frame_of_the_workshop_clip_comes_back_with_its_number() {
    let run = run(workshop(), &[], 7, &[false]);
    let found = all_are_found(&run);
    // 25 pictures a second, every seventh asked for; a busy machine may drop some, but not most.
    assert!(found.len() >= 12, "only {} of {} frames encoded", found.len(), run.numbers.len() / 7);
    let kbps = run.bytes * 8 / 7 / 1000;
    assert!((150..2_500).contains(&kbps), "{kbps} kbit/s");
    let worst = found.iter().max_by_key(|f| f.1);
    println!(
        "{} raw, {:?} in ring, {kbps} kbit/s, slowest decode (frames, time) {worst:?}",
        run.numbers.len(),
        run.ring.size()
    );
}

#[test]
fn h264_frames_come_back_too_where_an_encoder_is_installed() {
    let choice = EncoderChoice {
        element: "x264enc".into(),
        codec: "h264".into(),
        settings: "speed-preset=ultrafast tune=zerolatency threads=1 key-int-max=900".into(),
        output: String::new(),
        bitrate_property: "bitrate".into(),
        bitrate_unit: 1000,
        resizes: true,
    };
    let missing = EncoderChoice { element: "nosuchenc".into(), ..choice.clone() };
    let run = run(Box::new(pattern::Picture), &[missing, choice], 2, &[false, true, false]);
    each_size_comes_back(&run, &[1280, 640, 1280]);
}

#[test]
fn frames_of_half_the_size_and_the_whole_ones_before_and_after_come_back() {
    let run = run(workshop(), &[], 2, &[false, true, false]);
    each_size_comes_back(&run, &[1280, 640, 1280]);
}

fn each_size_comes_back(run: &Run, widths: &[usize]) {
    let found = all_are_found(run);
    assert!(found.len() >= 8, "only {} frames", found.len());
    let mut seen: Vec<usize> = found.iter().map(|f| f.2).collect();
    seen.dedup();
    assert_eq!(seen, widths);
}

#[test]
fn a_clip_that_is_not_there_is_named() {
    capture::init().expect("gstreamer");
    let clip = Box::new(Clip { path: "/nowhere/clip.mp4".into(), with_sound: false });
    let outlets = Outlets { picture: Arc::new(|_| {}), sound: Arc::new(|_| {}), trouble: Arc::new(|_| {}) };
    let error = clip.start(outlets).err().expect("no clip").to_string();
    assert!(error.contains("/nowhere/clip.mp4"), "{error}");
}
