//! Recorded fragments against real encoders and real decoders: ffmpeg makes the packets, ffprobe and ffmpeg read back.

// In a test an unwrap that fails is a failed test.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use lotse_archivist::{depacketize::Packet, fragment, journal::Journal, recorder::Out};
use lotse_payload::recording::{GapPayload, GapWhy, StopWhy};
use lotse_protocol::{id::TrackId, item, signal::Codec};

mod kit;
use kit::{RTP_BASE, START, Stage, info, open, packets};

/// pts (ms) and key flag of each frame as ffprobe decodes them.
fn probe(file: &Path) -> Vec<(i64, bool)> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "frame=pts_time,key_frame", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && errors.trim().is_empty(), "{}: {errors}", file.display());
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|l| !l.is_empty())
        .map(|l| {
            let mut parts = l.split(',');
            let key = parts.next().unwrap() == "1";
            let pts: f64 = parts.next().unwrap().parse().unwrap();
            ((pts * 1000.0).round() as i64, key)
        })
        .collect()
}

/// Matrix, transfer and primaries that a player is told.
fn colours(file: &Path) -> String {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=color_range,color_space,color_transfer,color_primaries"])
        .args(["-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Decodes everything; returns the complaints.
fn decode(file: &Path) -> String {
    let out = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(file).args(["-f", "null", "-"]).output().unwrap();
    assert!(out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn check_video(codec: Codec, ext: &str) {
    let packets = packets(codec, 8);
    let frames_in = packets.iter().filter(|p| p.2).count();
    let mut stage = Stage::new();
    let info = info(codec);
    let now = stage.feed(&info, &packets);
    stage.stop(StopWhy::SessionEnded, now + 1_000_000);
    let segments = stage.segments();
    assert!(segments.len() >= 4, "{} fragments", segments.len());
    assert_eq!(segments.iter().map(|s| s.payload.frames as usize).sum::<usize>(), frames_in);
    for pair in segments.windows(2) {
        let (a, b) = (&pair[0].payload, &pair[1].payload);
        assert_eq!(a.rtp_end, b.rtp_start, "no hole between fragments");
        assert!((a.end_us - b.start_us).abs() <= 1, "{} then {}", a.end_us, b.start_us);
    }
    for (i, s) in segments.iter().enumerate() {
        let p = &s.payload;
        assert!(p.end_us - p.start_us <= 2_050_000, "fragment {i} lasts {} µs", p.end_us - p.start_us);
        let expected = START + (p.rtp_start - u64::from(RTP_BASE)) as i64 * 100 / 9;
        assert!((p.start_us - expected).abs() <= 1);
        assert_eq!(p.frame_ticks.len(), p.frames as usize);
        let file = stage.dir.path().join(format!("{i}.{ext}"));
        std::fs::write(&file, stage.open(s)).unwrap();
        let seen = probe(&file);
        assert_eq!(seen.len(), p.frames as usize, "fragment {i} alone");
        assert!(seen[0].1, "fragment {i} begins with a key frame");
        for (tick, (pts, _)) in p.frame_ticks.iter().zip(&seen) {
            let expected = p.media_start_ms as i64 + i64::from(*tick) / 90;
            assert!((pts - expected).abs() <= 1, "fragment {i}: {pts} for {expected}");
        }
        assert_eq!(decode(&file), "");
    }
    assert!(stage.out.iter().any(|o| matches!(o, Out::Started { .. })));
    assert!(stage.out.iter().any(|o| matches!(o, Out::Stopped { why: StopWhy::SessionEnded, .. })));
    assert!(!stage.out.iter().any(|o| matches!(o, Out::Gap(_))));
    assert!(stage.out.iter().any(|o| matches!(o, Out::KeyFrame(t) if *t == info.track)), "asks for key frames");
    // One after the other: the first initialisation part, then the media of each.
    let file = stage.dir.path().join(format!("all.{ext}"));
    let mut all = Vec::new();
    for (i, s) in segments.iter().enumerate() {
        let plain = stage.open(s);
        all.extend_from_slice(if i == 0 { &plain } else { &plain[s.payload.init_len as usize..] });
    }
    std::fs::write(&file, all).unwrap();
    assert_eq!(probe(&file).len(), frames_in);
    assert_eq!(decode(&file), "");
    if ext == "webm" {
        assert_eq!(colours(&file), "tv,smpte170m,smpte170m,smpte170m", "as browsers show VP8 live");
    }
}

#[test]
fn vp8_fragments_play_alone_and_one_after_the_other() {
    check_video(Codec::Vp8, "webm");
}

#[test]
fn h264_fragments_play_alone_and_one_after_the_other() {
    check_video(Codec::H264, "mp4");
}

/// A publisher that makes a key frame only when asked, `kbit` at second n; the lengths of its fragments, s.
fn fragments_when_asked(kbit: impl Fn(u32) -> u32) -> Vec<f64> {
    let mut stage = Stage::new();
    let info = info(Codec::Vp8);
    stage.recorder.announce(&[(stage.owner, info.clone())]);
    stage.recorder.allow(true, StopWhy::NotAllowed, START);
    let (mut seq, mut asked, mut now) = (0u16, true, START);
    for frame in 0..40 * 25u32 {
        let key = std::mem::take(&mut asked);
        // RFC 7741 and RFC 6386, 9.1: a picture begins; a key frame of 640x360, or not one.
        let mut rest = if key { vec![0x10, 0, 9, 9, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1] } else { vec![0x10, 1, 9, 9] };
        rest.resize(if key { 60_000 } else { kbit(frame / 25) as usize * 5 }, 7);
        let parts = rest.chunks(1_100).count();
        for (n, part) in rest.chunks(1_100).enumerate() {
            let mut payload = if n == 0 { vec![] } else { vec![0] };
            payload.extend_from_slice(part);
            let packet = Packet {
                seq,
                timestamp: RTP_BASE + frame * 3_600,
                marker: n + 1 == parts,
                payload: payload.into(),
                arrival_us: now,
            };
            stage.recorder.packet(info.track, packet);
            seq = seq.wrapping_add(1);
        }
        now += 40_000;
        stage.recorder.tick(now);
        for out in stage.recorder.take_out() {
            asked |= matches!(out, Out::KeyFrame(_));
            stage.out.push(out);
        }
    }
    stage.stop(StopWhy::SessionEnded, now);
    assert!(!stage.out.iter().any(|o| matches!(o, Out::Gap(_))));
    stage.segments().iter().map(|s| (s.payload.rtp_end - s.payload.rtp_start) as f64 / 90_000.0).collect()
}

#[test]
fn key_frames_are_asked_for_every_two_seconds_above_a_megabit_and_every_ten_below() {
    let good = fragments_when_asked(|_| 2_000);
    let (_last, whole) = good.split_last().unwrap();
    assert!(whole.len() >= 18 && whole.iter().all(|s| (1.5..=2.0).contains(s)), "{good:?}");
    // The first fragment ends before the rate is known.
    let poor = fragments_when_asked(|_| 500);
    let (_last, whole) = poor.split_last().unwrap();
    assert!(whole.len() >= 3 && whole[1..].iter().all(|s| (9.5..=10.0).contains(s)), "{poor:?}");
    // A line that gets better at 20 s: asked as soon as that is known, not ten seconds later.
    let better = fragments_when_asked(|second| if second < 20 { 500 } else { 2_000 });
    let ends: Vec<f64> = (1..=better.len()).map(|n| better[..n].iter().sum()).collect();
    assert!(ends.iter().any(|end| (20.0..=24.5).contains(end)), "{ends:?}");
    assert!(better.iter().rev().skip(1).take(5).all(|s| *s <= 2.0), "{better:?}");
}

#[test]
fn opus_fragments_play_alone_and_bridge_lost_packets() {
    let mut packets = packets(Codec::Opus, 8);
    let whole = packets.len();
    // 100 ms lost here; nothing is sent again for voices.
    packets.drain(150..155);
    let mut stage = Stage::new();
    let now = stage.feed(&info(Codec::Opus), &packets);
    stage.stop(StopWhy::SessionEnded, now + 500_000);
    let segments = stage.segments();
    assert!(segments.len() >= 4);
    assert_eq!(segments.iter().map(|s| s.payload.missing).sum::<u32>(), 5);
    // Concealed packets keep the time going.
    assert_eq!(segments.iter().map(|s| s.payload.frames as usize).sum::<usize>(), whole);
    for (i, s) in segments.iter().enumerate() {
        let p = &s.payload;
        assert_eq!(p.rtp_end - p.rtp_start, u64::from(p.frames) * 960);
        assert!(p.frame_ticks.is_empty());
        assert_eq!(p.levels.len(), ((p.rtp_end - p.rtp_start).div_ceil(12_000)) as usize);
        // ffmpeg's sine has an amplitude of 1/8: −21 dB.
        let loud = p.levels.iter().filter(|l| (100..112).contains(*l)).count();
        assert!(loud * 10 >= p.levels.len() * 9, "{:?}", p.levels);
        let file = stage.dir.path().join(format!("{i}.webm"));
        std::fs::write(&file, stage.open(s)).unwrap();
        let seen = probe(&file);
        assert!(seen.len() + 1 >= p.frames as usize, "{} of {}", seen.len(), p.frames);
        assert!((seen[0].0 - p.media_start_ms as i64).abs() <= 1);
    }
    assert!(!stage.out.iter().any(|o| matches!(o, Out::Gap(_))));
}

#[test]
fn lost_pictures_are_missing_and_a_long_loss_is_a_gap() {
    let packets = packets(Codec::Vp8, 10);
    let rtp = |s: u32| RTP_BASE + s * 9_000;
    // One packet at 1 s; everything between 4.0 and 5.5 s (2 s of silence would be a lost link).
    let one = packets.iter().position(|p| p.1 >= rtp(10) && !p.2).unwrap();
    let kept: Vec<_> = packets
        .iter()
        .enumerate()
        .filter(|(i, p)| *i != one && !(rtp(40)..rtp(55)).contains(&p.1))
        .map(|(_, p)| p.clone())
        .collect();
    let mut stage = Stage::new();
    let now = stage.feed(&info(Codec::Vp8), &kept);
    stage.stop(StopWhy::SessionEnded, now + 500_000);
    let gaps: Vec<_> =
        stage.out.iter().filter_map(|o| if let Out::Gap(g) = o { Some(g.clone()) } else { None }).collect();
    assert!(
        gaps.iter()
            .any(|g| g.why == GapWhy::PacketsLost && g.from_us >= START + 3_900_000 && g.from_us <= START + 4_100_000),
        "{gaps:?}"
    );
    assert!(stage.segments().iter().map(|s| s.payload.missing).sum::<u32>() > 0);
    for (i, s) in stage.segments().iter().enumerate() {
        let file = stage.dir.path().join(format!("{i}.webm"));
        std::fs::write(&file, stage.open(s)).unwrap();
        assert_eq!(decode(&file), "", "fragment {i} holds no broken picture");
    }
}

#[test]
fn nothing_is_kept_before_a_yes_or_after_a_withdrawal() {
    let packets = packets(Codec::Opus, 4);
    let mut stage = Stage::new();
    let info = info(Codec::Opus);
    stage.recorder.announce(&[(stage.owner, info.clone())]);
    let packet = |p: &(u16, u32, bool, Vec<u8>), at| Packet {
        seq: p.0,
        timestamp: p.1,
        marker: p.2,
        payload: p.3.clone().into(),
        arrival_us: at,
    };
    for (i, p) in packets[..50].iter().enumerate() {
        stage.recorder.packet(info.track, packet(p, START + i as i64 * 20_000));
        stage.recorder.tick(START + i as i64 * 20_000);
    }
    assert!(stage.recorder.take_out().is_empty());
    assert_eq!(std::fs::read_dir(stage.folder()).unwrap().count(), 0);

    stage.recorder.allow(true, StopWhy::NotAllowed, START + 1_000_000);
    for (i, p) in packets[50..100].iter().enumerate() {
        let at = START + 1_000_000 + i as i64 * 20_000;
        stage.recorder.packet(info.track, packet(p, at));
        stage.recorder.tick(at);
    }
    stage.recorder.allow(false, StopWhy::NotAllowed, START + 2_000_000);
    let size = |stage: &Stage| -> u64 {
        std::fs::read_dir(stage.folder()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum()
    };
    let kept = size(&stage);
    assert!(kept > 0);
    for (i, p) in packets[100..].iter().enumerate() {
        let at = START + 2_000_000 + i as i64 * 20_000;
        stage.recorder.packet(info.track, packet(p, at));
        stage.recorder.tick(at);
    }
    stage.out = stage.recorder.take_out();
    assert_eq!(size(&stage), kept);
    assert!(stage.out.iter().any(|o| matches!(o, Out::Stopped { why: StopWhy::NotAllowed, .. })));
    for s in stage.segments() {
        assert!(s.payload.end_us <= START + 2_000_000);
        stage.open(&s);
    }
}

#[test]
fn after_a_crash_every_whole_chunk_is_a_short_fragment_wherever_the_tail_was_cut() {
    let packets = packets(Codec::Vp8, 2);
    let mut stage = Stage::new();
    let info = info(Codec::Vp8);
    // No stop: the program dies here.
    stage.feed(&info, &packets[..packets.len() * 3 / 4]);
    let folder = stage.folder();
    let part =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some()).unwrap();
    let index = folder.parent().unwrap().join("index.jsonl");
    let (bytes, lines) = (std::fs::read(&part).unwrap(), std::fs::read(&index).unwrap());
    let (whole, chunks) = item::whole_chunks(&bytes);
    assert!(chunks >= 4, "{chunks} chunks");
    let third = {
        // Where the second to last chunk begins.
        let mut at = item::HEADER;
        let mut starts = Vec::new();
        while at < whole {
            starts.push(at);
            at += 4 + u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        }
        starts[starts.len() - 2]
    };
    let mut lengths = std::collections::BTreeSet::new();
    // Every byte of the last 3,000 and around the chunk borders, and samples between.
    let near = |cut: usize| cut + 3_000 > bytes.len() || cut < third + 100 || cut.is_multiple_of(211);
    for cut in (third..=bytes.len()).rev().filter(|c| near(*c)) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(&part, &bytes[..cut]).unwrap();
        std::fs::write(&index, &lines).unwrap();
        let found = Journal::open(&stage.dir.path().join("data"), stage.case, &stage.keys).unwrap();
        assert_eq!(found.waiting.len(), 1, "cut at {cut}");
        let finished = &found.waiting[0];
        let plain = open(&folder, finished);
        lengths.insert(plain.len());
        assert_eq!(found.resume[&info.track].last_rtp, finished.payload.rtp_end);
        // A second start finds the same.
        let again = Journal::open(&stage.dir.path().join("data"), stage.case, &stage.keys).unwrap();
        assert_eq!(again.waiting[0].payload, finished.payload);
        if cut == bytes.len() || cut == third {
            let file = stage.dir.path().join("rescued.webm");
            std::fs::write(&file, plain).unwrap();
            assert_eq!(probe(&file).len(), finished.payload.frames as usize);
            assert_eq!(decode(&file), "");
        }
    }
    assert_eq!(lengths.len(), 3, "each of the last two chunks is kept or not: {lengths:?}");

    // What the log has is forgotten, keys and all.
    let mut found = Journal::open(&stage.dir.path().join("data"), stage.case, &stage.keys).unwrap();
    let media = found.waiting[0].payload.media;
    found.journal.forget(&[media]).unwrap();
    assert_eq!(std::fs::metadata(&index).unwrap().len(), 0);
    assert!(fragment::path(&folder, &media).exists());
}

#[test]
fn an_unwritable_folder_costs_a_gap_and_never_a_panic() {
    let packets = packets(Codec::Opus, 6);
    let mut stage = Stage::new();
    let info = info(Codec::Opus);
    stage.feed(&info, &packets[..100]);
    // Not rights (the tests may run as root): the folder is gone.
    let (folder, away) = (stage.folder(), stage.dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    stage.feed(&info, &packets[..220]);
    assert!(stage.out.iter().any(|o| matches!(o, Out::Trouble(t) if !t.is_empty())));
    std::fs::rename(&away, &folder).unwrap();
    let now = stage.feed(&info, &packets[220..]);
    stage.stop(StopWhy::SessionEnded, now + 100_000);
    let gaps: Vec<_> = stage.out.iter().filter_map(|o| if let Out::Gap(g) = o { Some(g.why) } else { None }).collect();
    assert!(gaps.contains(&GapWhy::Disk), "{gaps:?}");
    assert!(stage.out.iter().any(|o| matches!(o, Out::Trouble(t) if t.is_empty())), "it says when it works again");
}

/// Feeds `packets` between two times of the recording, shifted by `shift` seconds of real time; ticks all the way.
fn feed_at(
    stage: &mut Stage,
    track: TrackId,
    packets: &[(u16, u32, bool, Vec<u8>)],
    shift_us: i64,
    until_us: i64,
    from_us: i64,
) {
    let mut now = from_us;
    let mut rest = packets.iter().peekable();
    while now < until_us {
        now += 50_000;
        while let Some(p) = rest.peek() {
            let at = START + i64::from(p.1 - RTP_BASE) * 1_000_000 / 48_000 + shift_us;
            if at > now {
                break;
            }
            let packet = Packet { seq: p.0, timestamp: p.1, marker: p.2, payload: p.3.clone().into(), arrival_us: at };
            stage.recorder.packet(track, packet);
            rest.next();
        }
        stage.recorder.tick(now);
        stage.out.extend(stage.recorder.take_out());
    }
}

fn gaps(stage: &Stage) -> Vec<GapPayload> {
    stage.out.iter().filter_map(|o| if let Out::Gap(g) = o { Some(g.clone()) } else { None }).collect()
}

#[test]
fn a_publisher_that_was_away_leaves_a_gap_also_when_it_returns_as_another_track() {
    let packets = packets(Codec::Opus, 8);
    let cut = |from: u32, to: u32| -> Vec<_> {
        packets.iter().filter(|p| (from * 48_000..to * 48_000).contains(&(p.1 - RTP_BASE))).cloned().collect()
    };
    let mut stage = Stage::new();
    let first = info(Codec::Opus);
    let line = (stage.owner, first.clone());
    stage.recorder.announce(&[line]);
    stage.recorder.allow(true, StopWhy::NotAllowed, START);
    feed_at(&mut stage, first.track, &cut(0, 2), 20_000, START + 5_000_000, START);
    assert!(gaps(&stage).is_empty(), "not over yet");
    // The same track goes on, its clock never stopped.
    feed_at(&mut stage, first.track, &cut(5, 6), 20_000, START + 6_500_000, START + 5_000_000);
    let found = gaps(&stage);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].why, GapWhy::LinkLost);
    assert!(
        (found[0].from_us - START - 2_000_000).abs() < 50_000 && (found[0].to_us - START - 5_000_000).abs() < 50_000,
        "{found:?}"
    );

    // A restarted publisher: another track, announced with another start.
    let mut second = info(Codec::Opus);
    second.start_us = Some(START + 8_000_000);
    let line = (stage.owner, second.clone());
    stage.recorder.announce(&[line]);
    feed_at(&mut stage, second.track, &cut(0, 2), 8_020_000, START + 10_500_000, START + 6_500_000);
    let found = gaps(&stage);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        (found[1].from_us - START - 6_000_000).abs() < 50_000 && (found[1].to_us - START - 8_000_000).abs() < 50_000,
        "{found:?}"
    );
}

#[test]
fn after_sixty_seconds_without_media_recording_is_suspended_and_goes_on_by_itself() {
    let packets = packets(Codec::Opus, 4);
    let mut stage = Stage::new();
    let voice = info(Codec::Opus);
    let line = (stage.owner, voice.clone());
    stage.recorder.announce(&[line]);
    stage.recorder.allow(true, StopWhy::NotAllowed, START);
    feed_at(&mut stage, voice.track, &packets[..100], 20_000, START + 70_000_000, START);
    let stopped = |stage: &Stage| -> Vec<i64> {
        stage
            .out
            .iter()
            .filter_map(|o| if let Out::Stopped { at_us, why: StopWhy::NoMedia } = o { Some(*at_us) } else { None })
            .collect()
    };
    let at = stopped(&stage);
    assert_eq!(at.len(), 1);
    assert!((at[0] - START - 62_000_000).abs() < 300_000, "{}", at[0] - START);
    let found = gaps(&stage);
    assert_eq!(
        (found.len(), found[0].why, found[0].to_us),
        (1, GapWhy::LinkLost, at[0]),
        "the silence before is a gap"
    );
    // Media again: a second beginning, and no gap for what nobody recorded.
    let later: Vec<_> = packets[100..].iter().map(|p| (p.0, p.1 + 78 * 48_000, p.2, p.3.clone())).collect();
    feed_at(&mut stage, voice.track, &later, 20_000, START + 84_000_000, START + 70_000_000);
    assert_eq!(stage.out.iter().filter(|o| matches!(o, Out::Started { .. })).count(), 2);
    assert_eq!(gaps(&stage).len(), 1);
}
