//! The glasses in a call: voices both ways, every picture known by its number, marks and receipts, power cuts, bad networks, missing devices.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, time::Duration};

use lotse_payload::{
    receipt::{ReceiptPayload, ReceiptState},
    recording::{GapPayload, SegmentPayload},
};
use lotse_protocol::{envelope::AuthorFields, kind, signal::TrackSource};
use lotse_tests::{
    Draft, World,
    call::{Call, PATIENCE, Part},
    clip,
    disk::Full,
    eventually,
    glasses::tone,
    network::Faults,
    secs,
};
use tokio::sync::Mutex;

/// Each of these encodes 720p in software and is timed: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// So many pictures without a hole between them. The kit's expert asks for nothing that was lost: a hole lasts until a key frame.
async fn row(call: &Call, least: usize) -> Vec<(u32, Vec<u8>)> {
    eventually("a row of pictures without a hole", PATIENCE, async || {
        let pictures = clip::pictures(&call.leg.packets(call.technician, TrackSource::Main));
        (pictures.len() >= least).then_some(pictures)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn voices_pictures_marks_and_receipts_reach_their_people() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(61).await;
    let glasses = world.started_glasses("helmet-1").await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    tokio::time::sleep(secs(2)).await;
    assert_eq!(call.leg.total(), 0, "no media before the answers");
    assert_eq!(world.media_bytes(), 0);
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    glasses.shows("live").await;

    // The technician hears the expert: a tone comes out of the glasses' speaker.
    let before = glasses.heard().len();
    call.leg.speak(700.0, secs(5)).await;
    eventually("the tone in the glasses' speaker", secs(10), async || {
        let heard = glasses.heard();
        (tone(&heard[before.min(heard.len())..], 700.0) > 0.5).then_some(())
    })
    .await;
    assert!(tone(&glasses.heard()[..before], 700.0) < 0.2, "it was not there before");
    assert!(call.leg.packets(call.technician, TrackSource::Voice).len() > 50, "the expert hears the technician");

    // Every picture carries its number; the number is told by the RTP time alone.
    call.sees(PATIENCE).await;
    let numbers = clip::numbers(&row(&call, 40).await, world.folder.path());
    let read: Vec<(u64, u64)> = numbers.iter().filter_map(|(t, n)| n.map(|n| (u64::from(*t), u64::from(n)))).collect();
    assert!(read.len() * 100 >= numbers.len() * 98, "{} of {} codes are readable", read.len(), numbers.len());
    let offsets: BTreeSet<u64> = read.iter().map(|(t, n)| clip::offset(*t, *n)).collect();
    assert_eq!(offsets.len(), 1, "one clip, one clock: {read:?}");
    let live_offset = *offsets.first().unwrap();

    // A mark on one of them: shown on its own picture, from the ring, with its number in the corner.
    let (newest, _) = *read.last().unwrap();
    let instruction = call.arrow_on(newest);
    let draft = Draft::of(kind::INSTRUCTION).session(call.session).payload(&instruction);
    let asked = call.expert.commit(call.case, draft).await.unwrap();
    let shown = glasses.shows("instruction").await;
    assert_eq!(shown["instruction"], asked.to_string());
    eventually("the marked picture comes from the ring", secs(10), async || {
        (glasses.state()["picture"] == "ring").then_some(())
    })
    .await;
    glasses.say("DONE").await;
    let mut states = Vec::new();
    for state in [ReceiptState::Shown, ReceiptState::Done] {
        let expert = &call.expert;
        let found = eventually("a receipt", PATIENCE, async || {
            for (fields, sent) in expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::RECEIPT) {
                let receipt: ReceiptPayload = expert.payload(call.case, fields, sent).await;
                if receipt.instruction == asked && receipt.state == state {
                    return Some((fields.clone(), receipt));
                }
            }
            None
        })
        .await;
        assert_eq!(found.0.captured_at_ms % 60_000, 0);
        states.push(found.1.at_ms);
    }
    assert!(states.is_sorted());

    // The clip claps every ten seconds; one of them has to be in the recording, with what is heard around it.
    eventually("eleven seconds of pictures", secs(30), async || {
        let packets = call.leg.packets(call.technician, TrackSource::Main);
        let (first, last) = (packets.first()?.timestamp, packets.last()?.timestamp);
        (last.wrapping_sub(first) > 11 * 90_000).then_some(())
    })
    .await;

    // The archive has the same pictures under the same times.
    call.end().await;
    let (bundle, _) = call.proven_bundle(&world).await;
    let archived = archived(&world, &call, &bundle).await;
    assert!(archived.count > 50, "{} archived pictures", archived.count);
    assert_eq!(archived.offsets, BTreeSet::from([live_offset]), "archive and live agree on every picture");

    // Where the flash is seen, the click is heard: by the archive's own times.
    let claps: Vec<(f64, f32)> = archived.flashes.iter().filter_map(|at| archived.click(*at)).collect();
    let late: Vec<f64> = claps.iter().filter(|(_, peak)| *peak > 0.4).map(|(late, _)| *late).collect();
    eprintln!("claps in the archive: the click is later than its flash by {late:.1?} ms");
    assert!(!late.is_empty(), "no clap is both seen and heard: {claps:?}");
    assert!(late.iter().all(|ms| ms.abs() <= 40.0), "sound against picture: {late:?} ms");
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

/// What the recorded fragments of the glasses show and let hear.
#[derive(Default)]
struct Archived {
    /// Of the pictures whose number is readable.
    offsets: BTreeSet<u64>,
    count: usize,
    /// When the first picture of a flash was taken, UTC in µs.
    flashes: Vec<i64>,
    /// The voice: since when, and its samples at 48 kHz.
    sound: Vec<(i64, Vec<f32>)>,
}

impl Archived {
    /// Around a flash, where no word is spoken: how much later than it the click begins, ms, and how loud it is.
    fn click(&self, flash_us: i64) -> Option<(f64, f32)> {
        let near: Vec<(f64, f32)> = self
            .sound
            .iter()
            .flat_map(|(from, samples)| {
                let start_ms = (from - flash_us) as f64 / 1e3;
                samples.iter().enumerate().map(move |(n, s)| (start_ms + n as f64 / 48.0, s.abs()))
            })
            .filter(|(ms, _)| ms.abs() < 250.0)
            .collect();
        let peak = near.iter().map(|(_, s)| *s).fold(0.0, f32::max);
        near.iter().find(|(_, s)| *s > 0.3 * peak).map(|(ms, _)| (*ms, peak))
    }
}

/// Decodes the recorded fragments of camera and microphone.
async fn archived(world: &World, call: &Call, bundle: &[u8]) -> Archived {
    let folder = world.path("unpacked");
    std::fs::create_dir_all(&folder).unwrap();
    let tar = folder.join("case.tar");
    std::fs::write(&tar, bundle).unwrap();
    let unpacked = std::process::Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&folder).status().unwrap();
    assert!(unpacked.success(), "any tar reads a bundle");
    let mut archived = Archived::default();
    for (fields, sent) in call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
        let segment: SegmentPayload = call.expert.payload(call.case, fields, sent).await;
        let file = folder.join(format!("items/{}.webm", segment.media));
        if segment.info.source == TrackSource::Voice && segment.owner == call.technician {
            archived.sound.push((segment.start_us, clip::sound_of_file(&file)));
        }
        if segment.info.source != TrackSource::Main {
            continue;
        }
        let numbers = clip::numbers_of_file(&file);
        assert_eq!(numbers.len(), segment.frame_ticks.len(), "each picture has its time");
        for (ticks, number) in segment.frame_ticks.iter().zip(numbers) {
            if let Some(number) = number {
                archived.count += 1;
                archived.offsets.insert(clip::offset(segment.rtp_start + u64::from(*ticks), u64::from(number)));
                if clip::FLASHES.contains(&number) {
                    archived.flashes.push(segment.start_us + i64::from(*ticks) * 100 / 9);
                }
            }
        }
    }
    archived
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_battery_swap_the_glasses_are_back_in_the_same_session() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(62).await;
    let mut glasses = world.started_glasses("helmet-1").await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    tokio::time::sleep(secs(4)).await;
    glasses.program.kill9();
    tokio::time::sleep(secs(3)).await;
    glasses.program.start().await;
    // By themselves: same case, same session, the answer given before stands.
    call.sees(PATIENCE).await;
    let sessions = call.expert.sessions(call.case);
    assert_eq!(sessions.list.len(), 1, "the same session goes on");
    assert!(sessions.open().unwrap().may_record());
    let (fields, sent) = call.expert.event_within(call.case, kind::GAP, PATIENCE, |_| true).await;
    let gap: GapPayload = call.expert.payload(call.case, &fields, &sent).await;
    assert_eq!(gap.owner, call.technician);
    assert!(gap.to_us - gap.from_us > 2_000_000, "{gap:?}");
    call.end().await;
    call.proven_bundle(&world).await;
    glasses.program.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_of_the_server_the_glasses_come_back_by_themselves() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut world = World::seeded(63).await;
    let glasses = world.started_glasses("helmet-1").await;
    let mut call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    tokio::time::sleep(secs(3)).await;
    world.server.kill9();
    tokio::time::sleep(secs(3)).await;
    world.server.start().await;
    call.expert.reconnect().await;
    call.expert.open(call.case, 0).await.unwrap();
    call.expert.commit(call.case, Draft::of(kind::SESSION_JOINED).session(call.session)).await.unwrap();
    call.leg = call.expert.connect_media(call.case, call.session, true).await;
    call.sees(PATIENCE).await;
    let sessions = call.expert.sessions(call.case);
    assert_eq!(sessions.list.len(), 1);
    call.expert.event_within(call.case, kind::GAP, PATIENCE, |_| true).await;
    call.end().await;
    call.proven_bundle(&world).await;
    glasses.program.assert_no_panic();
}

/// Both sides give up their connection meanwhile, and what the server says of the old one comes late.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_server_that_stood_still_both_see_and_hear_each_other_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(65).await;
    let glasses = world.started_glasses("helmet-1").await;
    let mut call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    for _ in 0..2 {
        world.server.signal(libc::SIGSTOP);
        tokio::time::sleep(secs(16)).await;
        world.server.signal(libc::SIGCONT);
        call.expert.reconnect().await;
        call.expert.open(call.case, 0).await.unwrap();
        call.expert.commit(call.case, Draft::of(kind::SESSION_JOINED).session(call.session)).await.unwrap();
        call.leg = call.expert.connect_media(call.case, call.session, true).await;
        call.sees(PATIENCE).await;
        let before = glasses.heard().len();
        eventually("the expert in the glasses' speaker", PATIENCE, async || {
            call.leg.speak(700.0, secs(2)).await;
            let heard = glasses.heard();
            (tone(&heard[before.min(heard.len())..], 700.0) > 0.3).then_some(())
        })
        .await;
        let heard = call.leg.packets(call.technician, TrackSource::Voice).len();
        eventually("the technician's voice", PATIENCE, async || {
            (call.leg.packets(call.technician, TrackSource::Voice).len() > heard + 50).then_some(())
        })
        .await;
    }
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn expert_gets_picture_back_after_five_second_wifi_gap() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(64).await;
    let link = world.link().await;
    let glasses = world.glasses("helmet-1").behind(&link).start().await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    eventually("media goes through the link", PATIENCE, async || (link.datagrams() > 100).then_some(())).await;

    // A poor link first: lost and late packets cost pictures, not the call.
    link.set(Faults {
        loss_pct: 5.0,
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(20),
        ..Faults::default()
    });
    call.sees(secs(20)).await;
    link.set(Faults::default());

    link.cut_for(secs(5)).await;
    call.sees(secs(30)).await;
    let sessions = call.expert.sessions(call.case);
    assert_eq!(sessions.list.len(), 1, "still the same session");
    assert!(sessions.open().is_some());
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_loses_everything_while_media_connects_costs_that_time_and_not_more() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(69).await;
    let link = world.link().await;
    link.set(Faults { loss_pct: 100.0, ..Faults::default() });
    let glasses = world.glasses("helmet-1").behind(&link).start().await;
    // Signalling works: the glasses call, join the media and look for a way that is not there.
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    tokio::time::sleep(secs(3)).await;
    link.set(Faults::default());
    glasses.say("CALL_ONLY").await;
    call.expert.answer(call.case, call.session, kind::CONSENT_CALL_ONLY).await;
    call.sees(secs(15)).await;
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_technician_says_while_the_servers_disk_is_full_counts_once_there_is_space() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut world = World::planned(70);
    let data = world.path("server");
    world.server.on_small_disk(&data, 12);
    world.start().await;
    let glasses = world.started_glasses("helmet-1").await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    let full = Full::fill(&world.server.path_inside(&data));
    // What still fits into pages that are there is taken; then nothing is, not even an answer.
    let note = || Draft::of(kind::MESSAGE).payload(&serde_json::json!({ "text": "x".repeat(10_000) }));
    while call.expert.commit(call.case, note()).await.is_ok() {}
    let answer = || Draft::of(kind::CONSENT_CALL_ONLY).session(call.session);
    while call.expert.commit(call.case, answer()).await.is_ok() {}
    glasses.say("CALL_ONLY").await;
    eventually("the display says what to do", PATIENCE, async || {
        glasses.shown().iter().any(|l| l["texts"].to_string().contains("cannot store it")).then_some(())
    })
    .await;
    let technicians = |f: &AuthorFields| f.author == call.technician;
    let log = call.expert.log(call.case);
    assert!(!log.iter().any(|(f, _)| f.kind == kind::CONSENT_CALL_ONLY && technicians(f)), "the disk was not full");
    drop(full);
    call.expert.event_within(call.case, kind::CONSENT_CALL_ONLY, PATIENCE, technicians).await;
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_recording_leaves_no_picture_on_any_disk() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(67).await;
    let glasses = world.started_glasses("helmet-1").await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    glasses.say("CALL_ONLY").await;
    call.expert.answer(call.case, call.session, kind::CONSENT_RECORD).await;
    call.sees(PATIENCE).await;
    let pictures = row(&call, 40).await;
    call.expert.commit(call.case, Draft::of(kind::SESSION_ENDED).session(call.session)).await.unwrap();
    glasses.shows("ended").await;
    tokio::time::sleep(secs(2)).await;
    assert_eq!(world.media_bytes(), 0);
    for kind in [kind::RECORDING_STARTED, kind::SEGMENT, kind::SNAPSHOT] {
        assert_eq!(call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind).count(), 0, "{kind}");
    }
    // No encoded picture lies on any disk: server, archivist, or the glasses themselves.
    let needles: Vec<&[u8]> =
        pictures.iter().filter(|(_, b)| b.len() > 500).map(|(_, b)| &b[200..260]).take(20).collect();
    assert!(!needles.is_empty());
    for folder in ["server", "archivist", "helmet-1/data"] {
        assert_eq!(lotse_tests::disk::holding(&world.path(folder), &needles), [], "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_recording_on_the_glasses_stops_it_within_two_seconds_and_the_call_goes_on() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(68).await;
    let glasses = world.started_glasses("helmet-1").await;
    let call = Call::taken(&world, &glasses, Part::Talks).await;
    call.both_say_yes(&glasses).await;
    call.sees(PATIENCE).await;
    call.expert.event_within(call.case, kind::SEGMENT, PATIENCE, |_| true).await;
    assert!(world.media_bytes() > 0);
    let said = std::time::Instant::now();
    glasses.say("STOP_RECORDING").await;
    call.expert.event_within(call.case, kind::RECORDING_STOPPED, PATIENCE, |_| true).await;
    assert!(said.elapsed() < secs(2), "stopped only after {:?}", said.elapsed());
    tokio::time::sleep(secs(1)).await;
    let kept = world.media_bytes();
    call.sees(secs(20)).await;
    tokio::time::sleep(secs(2)).await;
    assert_eq!(world.media_bytes(), kept, "kept after the withdrawal");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_camera_and_sound_the_call_still_works_and_says_what_is_missing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(65).await;
    let glasses = world
        .glasses("helmet-1")
        .with("LOTSE_CAMERA_SOURCE", "v4l2:/dev/video97")
        .with("LOTSE_SOUND_MICROPHONE", "auto")
        .with("LOTSE_SOUND_SPEAKER", "auto")
        .start()
        .await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    expert.take(waiting.summary.case, waiting.session).await;
    eventually("the display names the camera", PATIENCE, async || {
        glasses.shown().iter().any(|l| l["texts"].to_string().to_lowercase().contains("camera")).then_some(())
    })
    .await;
    let message = Draft::of(kind::MESSAGE).payload(&serde_json::json!({ "text": "Check the cable." }));
    expert.commit(waiting.summary.case, message).await.unwrap();
    expert.event(waiting.summary.case, kind::MESSAGE, |_| true).await;
    assert!(expert.sessions(waiting.summary.case).open().is_some());
    glasses.program.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_and_codes_are_named_with_their_remedy() {
    let world = World::with_server(66).await;
    for (key, value) in [
        ("LOTSE_CAMERA_SOURCE", "nonsense"),
        ("LOTSE_SOUND_MICROPHONE", "loud"),
        ("LOTSE_HUD_DISPLAYS", "paper:1"),
        ("LOTSE_HUD_LANGUAGE", "fr"),
    ] {
        let (code, _, said) = world.glasses("helmet-2").with(key, value).refused().await;
        assert_ne!(code, Some(0), "{key} = {value}");
        assert!(said.contains(value.rsplit(':').next().unwrap()) || said.contains(value), "{key} = {value}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // A wrong code is shown on the display, because glasses have no other screen.
    let glasses = world.glasses("helmet-2").with("LOTSE_SERVER_PAIRING_CODE", "WRONG-CODE").start().await;
    glasses.shows("not-paired").await;
}
