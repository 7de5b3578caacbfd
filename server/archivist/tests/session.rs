//! Whole recordings: a real server, a real archivist, glasses that send real packets, a manager who replays and exports.

// In a test an unwrap that fails is a failed test.
#![allow(clippy::unwrap_used)]

use std::{process::Command, sync::atomic::Ordering, time::Duration};

use lotse_payload::recording::{GapPayload, GapWhy, RecordingStarted, RecordingStopped, SegmentPayload, StopWhy};
use lotse_protocol::{
    envelope::{Joined, Left},
    id::{Digest, EventId, Pseudonym, TrackId},
    item, kind,
    policy::Role,
    signal::{Codec, TrackInfo, TrackSource},
};
use serde_json::{Value, json};
use uuid::Uuid;

mod kit;
#[path = "kit/live.rs"]
mod live;
#[path = "kit/publisher.rs"]
mod publisher;
#[path = "kit/world.rs"]
mod world;

use kit::{RTP_BASE, packets};
use live::{Peer, Program, now_us};
use publisher::{Packets, Publisher};
use world::World;

fn track(codec: Codec, start_us: i64) -> TrackInfo {
    TrackInfo {
        track: TrackId(Uuid::now_v7()),
        source: if codec == Codec::Opus { TrackSource::Voice } else { TrackSource::Main },
        codec,
        rtp_base: Some(RTP_BASE),
        start_us: Some(start_us),
        clock_offset_us: 0,
        width: if codec == Codec::Opus { 0 } else { 640 },
        height: if codec == Codec::Opus { 0 } else { 360 },
    }
}

/// The packets from `from` to `to` seconds.
fn part(packets: &Packets, rate: u32, from: f64, to: f64) -> Packets {
    let at = |s: f64| (s * f64::from(rate)) as u32;
    packets.iter().filter(|p| (at(from)..at(to)).contains(&(p.1 - RTP_BASE))).cloned().collect()
}

async fn archivist_pseudonym(glasses: &Peer) -> Pseudonym {
    glasses.wait_for(kind::SESSION_JOINED, 1).await;
    let is_archivist = |f: &lotse_protocol::envelope::AuthorFields| {
        f.kind == kind::JOINED && f.clear::<Joined>().is_ok_and(|j| j.role == Role::Archivist)
    };
    glasses.events().into_iter().find(|(f, _)| is_archivist(f)).unwrap().0.author
}

/// Segments of one source follow each other without a hole; returns start and end, µs.
fn check_row(segments: &[SegmentPayload], source: TrackSource) -> (i64, i64) {
    let row: Vec<_> = segments.iter().filter(|s| s.info.source == source).collect();
    assert!(!row.is_empty(), "nothing of {source:?}");
    for pair in row.windows(2) {
        assert_eq!(pair[0].rtp_end, pair[1].rtp_start, "{source:?}");
        assert!((pair[1].start_us - pair[0].end_us).abs() < 2_000);
    }
    (row[0].start_us, row[row.len() - 1].end_us)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_recorded_after_a_yes_replayed_with_a_reason_and_proven_by_its_bundle() {
    let (picture, voice) =
        tokio::task::spawn_blocking(|| (packets(Codec::Vp8, 9), packets(Codec::Opus, 9))).await.unwrap();
    let world = World::new().await;
    let (mut glasses, session) = world.caller().await;
    let case = glasses.case.unwrap();
    let archivist = archivist_pseudonym(&glasses).await;
    glasses.commit(kind::CONSENT_CALL_ONLY, Some(session), None, None).await;

    // Media flows, and nothing is kept: the answer was CALL WITHOUT RECORDING.
    let start = now_us();
    let (main, mic) = (track(Codec::Vp8, start), track(Codec::Opus, start));
    let publisher = Publisher::connect(&glasses, session, vec![main.clone(), mic.clone()]).await;
    let before = [
        publisher.play(0, part(&picture, 90_000, 0.0, 2.0), start),
        publisher.play(1, part(&voice, 48_000, 0.0, 2.0), start),
    ];
    for p in before {
        p.await.unwrap();
    }
    assert!(!glasses.kinds().contains(&kind::RECORDING_STARTED.to_owned()));
    let folder = lotse_archivist::journal::fragments_dir(&world.dir.path().join("archive"), case);
    assert_eq!(std::fs::read_dir(&folder).map_or(0, Iterator::count), 0);

    // A yes: the rest is recorded.
    glasses.commit(kind::CONSENT_RECORD, Some(session), None, None).await;
    let rest = [
        publisher.play(0, part(&picture, 90_000, 2.0, 9.0), start),
        publisher.play(1, part(&voice, 48_000, 2.0, 9.0), start),
    ];
    for p in rest {
        p.await.unwrap();
    }
    assert!(publisher.asked.load(Ordering::Relaxed) >= 2, "key frames are asked for");
    tokio::time::sleep(Duration::from_millis(500)).await;
    glasses.commit(kind::SESSION_ENDED, Some(session), Some(json!({ "result": "solved", "note": "" })), None).await;
    publisher.close().await;
    glasses.wait_for(kind::RECORDING_STOPPED, 1).await;

    let started: Vec<RecordingStarted> = glasses.payloads(kind::RECORDING_STARTED);
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].consented, [glasses.me.unwrap()]);
    let stopped: Vec<RecordingStopped> = glasses.payloads(kind::RECORDING_STOPPED);
    assert_eq!(stopped[0].why, StopWhy::SessionEnded);
    let segments: Vec<SegmentPayload> = glasses.payloads(kind::SEGMENT);
    let gaps: Vec<GapPayload> = glasses.payloads(kind::GAP);
    assert!(gaps.is_empty(), "{gaps:?}");
    let (picture_from, picture_to) = check_row(&segments, TrackSource::Main);
    let (voice_from, voice_to) = check_row(&segments, TrackSource::Voice);
    // What was sent last before the yes begins 20 ms (voice) or 33 ms earlier; times are fitted to clock reports, so the very first may be a tick off.
    let yes = start + 2_000_000 - 1_000;
    assert!((yes..start + 5_000_000).contains(&picture_from), "begins {} after", picture_from - start);
    assert!((yes..start + 3_500_000).contains(&voice_from), "begins {} after", voice_from - start);
    assert!((picture_to - start - 9_000_000).abs() < 100_000, "ends at {}", picture_to - start);
    assert!((voice_to - start - 9_000_000).abs() < 100_000, "ends at {}", voice_to - start);
    for s in segments.iter().filter(|s| s.info.source == TrackSource::Main) {
        // On the publisher's own clock, exactly: lips stay in sync.
        let elapsed = (s.rtp_start - u64::from(RTP_BASE)) as i64 * 100 / 9;
        assert!((s.start_us - start - elapsed).abs() < 1_000);
        assert!(!s.clock.is_empty() || s.end_us - s.start_us < 1_100_000, "reports are kept: {s:?}");
    }

    // A manager gives a reason and replays.
    let mut manager = Peer::login(&world.server.url, "manager").await;
    manager.join(case, Role::Manager, "Service lead").await;
    let viewed = manager.commit(kind::VIEWED, None, Some(json!({ "reason": "warranty" })), None).await;
    let grant = async |manager: &Peer, event: EventId, verb: &str| -> String {
        let path = format!("/api/v1/cases/{case}/grants");
        let reply = manager.request(reqwest::Method::POST, &path, Some(json!({ "event": event, "verb": verb }))).await;
        reply.json::<Value>().await.unwrap()["grant"].as_str().unwrap().to_owned()
    };
    let replay = grant(&manager, viewed, "replay").await;
    manager.wait_for(kind::SEGMENT, segments.len()).await;
    let mut opened = 0;
    for (fields, sent) in manager.events().iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
        let media = fields.attachments[0];
        let path = format!("/archive/cases/{case}/media/{media}?grant={replay}");
        let reply = manager.request(reqwest::Method::GET, &path, None).await;
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
        let sealed = reply.bytes().await.unwrap();
        assert_eq!(&sealed[..], world.fragment(case, &media));
        let key = sent.items.iter().find(|i| i.digest == media).unwrap().key.expect("a key for who gave a reason");
        assert!(item::open_as(&media, &key, &sealed).unwrap().starts_with(&[0x1a, 0x45, 0xdf, 0xa3]));
        opened += 1;
    }
    assert_eq!(opened, segments.len());
    let path = |media: &Digest, grant: &str| format!("/archive/cases/{case}/media/{media}?grant={grant}");
    let get = async |manager: &Peer, path: String| manager.request(reqwest::Method::GET, &path, None).await;
    let unknown = get(&manager, path(&Digest::of(b"nothing"), &replay)).await;
    assert_eq!(unknown.status(), 404);
    let words: Value = unknown.json().await.unwrap();
    assert_eq!(words["error"]["code"], "no_such_item");
    assert_eq!(get(&manager, path(&segments[0].media, "")).await.status(), 403);
    assert_eq!(get(&manager, path(&segments[0].media, &replay[1..])).await.status(), 403);
    assert_eq!(
        get(&manager, format!("/archive/cases/{case}/bundle?grant={replay}")).await.status(),
        403,
        "a replay grant exports nothing"
    );
    assert_eq!(get(&manager, "/archive/healthz".into()).await.status(), 200);

    // The bundle, and the verifier's word on it.
    let exported = manager.commit(kind::EXPORTED, None, Some(json!({ "reason": "warranty file" })), None).await;
    let export = grant(&manager, exported, "export").await;
    let reply = get(&manager, format!("/archive/cases/{case}/bundle?grant={export}")).await;
    assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
    let tar = reply.bytes().await.unwrap();
    let file = world.dir.path().join("bundle.tar");
    std::fs::write(&file, &tar).unwrap();
    let mut reader = std::fs::File::open(&file).unwrap();
    let report = lotse_verify::check(&mut reader, &lotse_verify::Options::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let listed = Command::new("tar").arg("tf").arg(&file).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    for s in &segments {
        assert!(names.contains(&format!("items/{}.webm", s.media)), "{names}");
    }
    // One changed byte in a fragment is found and named.
    let mut changed = tar.to_vec();
    let needle = b"V_VP8";
    let at = changed.windows(needle.len()).position(|w| w == needle).unwrap();
    changed[at] ^= 1;
    let report = lotse_verify::check(&mut std::io::Cursor::new(changed), &lotse_verify::Options::default()).unwrap();
    assert!(!report.findings.is_empty());

    // The session is over: no key is left beside the fragments.
    let index = folder.parent().unwrap().join("index.jsonl");
    for _ in 0..100 {
        if std::fs::metadata(&index).unwrap().len() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(std::fs::metadata(&index).unwrap().len(), 0, "{}", std::fs::read_to_string(&index).unwrap());
    assert!(glasses.me.unwrap() != archivist);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_archivist_comes_back_saves_its_fragment_and_declares_the_gap() {
    let (picture, voice) =
        tokio::task::spawn_blocking(|| (packets(Codec::Vp8, 14), packets(Codec::Opus, 14))).await.unwrap();
    let mut world = World::new().await;
    let (mut glasses, session) = world.caller().await;
    let case = glasses.case.unwrap();
    archivist_pseudonym(&glasses).await;
    glasses.commit(kind::CONSENT_RECORD, Some(session), None, None).await;
    let start = now_us();
    let publisher =
        Publisher::connect(&glasses, session, vec![track(Codec::Vp8, start), track(Codec::Opus, start)]).await;
    let playing = [publisher.play(0, picture, start), publisher.play(1, voice, start)];
    glasses.wait_for(kind::SEGMENT, 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.archivist.kill();
    let killed_us = now_us();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.restart_archivist();
    for p in playing {
        p.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The technician takes the yes back before the end: recording stops within 2 s.
    let withdrawn_us = now_us();
    glasses.commit(kind::CONSENT_CALL_ONLY, Some(session), None, None).await;
    glasses.wait_for(kind::RECORDING_STOPPED, 2).await;
    assert!(now_us() - withdrawn_us < 2_000_000);
    glasses.commit(kind::SESSION_ENDED, Some(session), None, None).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let stopped: Vec<RecordingStopped> = glasses.payloads(kind::RECORDING_STOPPED);
    assert_eq!(stopped.iter().map(|s| s.why).collect::<Vec<_>>(), [StopWhy::ArchivistRestarted, StopWhy::NotAllowed]);
    assert_eq!(glasses.payloads::<RecordingStarted>(kind::RECORDING_STARTED).len(), 2);
    let gaps: Vec<GapPayload> = glasses.payloads(kind::GAP);
    let down: Vec<_> = gaps.iter().filter(|g| g.why == GapWhy::ArchivistDown).collect();
    assert_eq!(down.len(), 1, "{gaps:?}");
    // 33,334 µs: the last picture's own length belongs to what was kept.
    assert!(
        down[0].from_us <= killed_us + 33_334 && down[0].from_us > killed_us - 1_000_000,
        "from {}",
        down[0].from_us - killed_us
    );
    assert!(down[0].to_us > killed_us + 1_400_000 && down[0].to_us < killed_us + 8_000_000);
    assert_eq!(down[0].owner, glasses.me.unwrap());
    // Every fragment is there, opens, and none is told twice.
    let segments: Vec<SegmentPayload> = glasses.payloads(kind::SEGMENT);
    let mut seen = std::collections::HashSet::new();
    for s in &segments {
        assert!(seen.insert(s.media), "told twice");
        assert_eq!(Digest::of(&world.fragment(case, &s.media)), s.media);
        assert!(s.end_us <= down[0].from_us + 1_000 || s.start_us >= down[0].to_us - 2_100_000);
    }
    assert!(
        segments.iter().any(|s| s.end_us > killed_us - 600_000 && s.start_us < killed_us),
        "the open fragment was saved"
    );
    assert!(segments.iter().any(|s| s.start_us > killed_us), "recording went on");
    assert!(!glasses.events().iter().any(|(f, _)| f.kind == kind::SESSION_LEFT && f.clear::<Left>().is_err()));
    publisher.close().await;
    // A polite end leaves nothing open.
    world.archivist.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_costs_a_gap_and_no_fragment_is_lost_or_told_twice() {
    let (picture, voice) =
        tokio::task::spawn_blocking(|| (packets(Codec::Vp8, 6), packets(Codec::Opus, 6))).await.unwrap();
    let mut world = World::new().await;
    let (mut glasses, session) = world.caller().await;
    let case = glasses.case.unwrap();
    archivist_pseudonym(&glasses).await;
    glasses.commit(kind::CONSENT_RECORD, Some(session), None, None).await;
    let start = now_us();
    let publisher =
        Publisher::connect(&glasses, session, vec![track(Codec::Vp8, start), track(Codec::Opus, start)]).await;
    let playing = [publisher.play(0, picture.clone(), start), publisher.play(1, voice.clone(), start)];
    glasses.wait_for(kind::SEGMENT, 2).await;
    world.server.kill();
    let killed_us = now_us();
    for p in playing {
        p.await.unwrap();
    }
    world.server = Program::start("lotse-server", &["serve"], &world.server_env);
    glasses.reconnect().await;
    glasses.wait_for(kind::SESSION_JOINED, 1).await;
    let again = now_us();
    let publisher =
        Publisher::connect(&glasses, session, vec![track(Codec::Vp8, again), track(Codec::Opus, again)]).await;
    let start = now_us();
    let playing = [publisher.play(0, picture, start), publisher.play(1, voice, start)];
    for p in playing {
        p.await.unwrap();
    }
    glasses.wait_for(kind::GAP, 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    glasses.commit(kind::SESSION_ENDED, Some(session), None, None).await;
    glasses.wait_for(kind::RECORDING_STOPPED, 1).await;
    publisher.close().await;

    let segments: Vec<SegmentPayload> = glasses.payloads(kind::SEGMENT);
    let mut seen = std::collections::HashSet::new();
    for s in &segments {
        assert!(seen.insert(s.media), "told twice");
        assert_eq!(Digest::of(&world.fragment(case, &s.media)), s.media);
    }
    // What had arrived when the server died is kept, though it could be told only later.
    let last_before = segments.iter().filter(|s| s.start_us < killed_us).map(|s| s.end_us).max().unwrap();
    assert!(last_before > killed_us - 600_000, "{} µs before the kill", killed_us - last_before);
    assert!(segments.iter().any(|s| s.start_us > again), "recording went on");
    let gaps: Vec<GapPayload> = glasses.payloads(kind::GAP);
    for g in &gaps {
        assert_eq!(g.why, GapWhy::LinkLost, "{gaps:?}");
        assert!((g.from_us - killed_us).abs() < 1_000_000, "{gaps:?}");
    }
    let folder = lotse_archivist::journal::fragments_dir(&world.dir.path().join("archive"), case);
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, segments.len(), "a file for each segment and none else");
}
