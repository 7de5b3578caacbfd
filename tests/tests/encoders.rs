//! The encoder of the glasses fails in the middle of a call: the next of its list goes on, in the same codec and in another.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lotse_payload::recording::SegmentPayload;
use lotse_protocol::{
    id::TrackId,
    kind,
    signal::{Codec, TrackInfo, TrackSource},
};
use lotse_tests::{
    Glasses, World,
    call::{Call, PATIENCE, Part},
    clip, eventually,
    media::Got,
};
use serde_json::Value;
use tokio::sync::Mutex;

/// Each of these encodes 720p in software: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Glasses with this profile in a recorded call, and the first pictures with the expert.
async fn recorded_call(world: &World, profile: &str) -> (Glasses, Call) {
    let file = world.path("profile.toml");
    std::fs::write(&file, profile).unwrap();
    let glasses = world.glasses("helmet-1").with("LOTSE_DEVICE_PROFILE", &file.display().to_string()).start().await;
    let call = Call::recorded(world, &glasses, Part::Talks).await;
    eventually("the first pictures", PATIENCE, async || (call.pictures() > 5).then_some(())).await;
    (glasses, call)
}

/// The main tracks announced so far, and what came of each.
fn mains(call: &Call) -> Vec<(TrackInfo, Vec<Got>)> {
    let seen = call.leg.seen.lock().unwrap();
    let lines = seen.lines.iter().filter(|(_, (o, i))| *o == call.technician && i.source == TrackSource::Main);
    lines.map(|(t, (_, i))| (i.clone(), seen.packets.get(t).cloned().unwrap_or_default())).collect()
}

/// A row of VP8 pictures of this track that decodes, as the numbers in its corner by RTP time.
async fn numbers(call: &Call, world: &World, track: TrackId, least: usize) -> Vec<(u64, u64)> {
    let row = eventually("a row of pictures without a hole", PATIENCE, async || {
        let (_, packets) = mains(call).into_iter().find(|(i, _)| i.track == track)?;
        let pictures = clip::pictures(&packets);
        (pictures.len() >= least).then_some(pictures)
    })
    .await;
    let numbers = clip::numbers(&row, world.folder.path());
    let read: Vec<_> = numbers.iter().filter_map(|(t, n)| n.map(|n| (u64::from(*t), u64::from(n)))).collect();
    assert!(read.len() * 100 >= numbers.len() * 90, "{} of {} codes are readable", read.len(), numbers.len());
    read
}

/// The session ends, and the manager's bundle of the case proves itself.
async fn ends_and_is_proven(call: &Call, world: &World) {
    call.end().await;
    call.proven_bundle(world).await;
}

/// `GET /state` of the wear page.
async fn state(glasses: &Glasses) -> Value {
    let page = reqwest::get(format!("{}/state", glasses.wear)).await.unwrap();
    page.json().await.unwrap()
}

/// The encoders that were given up, once there is one of this name.
async fn gives_up(glasses: &Glasses, element: &str) -> Value {
    eventually("an encoder is replaced", PATIENCE, async || {
        let state = state(glasses).await;
        let failed = state["encoders_failed"].as_array()?.iter().any(|f| f["element"] == element);
        (failed && state["encoder"] == "vp8enc").then_some(state)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_fails_is_replaced_within_the_track() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(91).await;
    // Real VP8, then an error of GStreamer after 400 pictures: sixteen seconds.
    let profile = r#"
        encoder = [{ element = "vp8enc", codec = "vp8", bitrate_property = "target-bitrate", bitrate_unit = 1,
            settings = "deadline=1 cpu-used=16 threads=1 lag-in-frames=0 end-usage=cbr keyframe-max-dist=300 ! identity error-after=400" }]"#;
    let (glasses, call) = recorded_call(&world, profile).await;
    let before = mains(&call);
    assert_eq!(before.len(), 1);
    let track = before[0].0.track;
    let told = gives_up(&glasses, "vp8enc").await;
    let why = told["encoders_failed"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("Failed after"), "{told}");

    // The same track goes on: no new announcement, no hole in its numbers, one clock, every picture decodes.
    let at = call.pictures();
    let read = numbers(&call, &world, track, at + 40).await;
    assert_eq!(mains(&call).len(), 1, "no other track was announced");
    let offsets: BTreeSet<u64> = read.iter().map(|(t, n)| clip::offset(*t, *n)).collect();
    assert_eq!(offsets.len(), 1, "one clip, one clock: {read:?}");
    let gap = read.windows(2).map(|w| w[1].0 - w[0].0).max().unwrap() / 90;
    eprintln!("the longest wait for a picture around the change: {gap} ms of capture");
    let log = glasses.program.log();
    assert_eq!(log.matches("the next one is tried").count(), 1, "{log}");
    ends_and_is_proven(&call, &world).await;
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_of_another_codec_goes_on_in_a_track_announced_anew() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(92).await;
    let profile = r#"
        encoder = [{ element = "openh264enc", codec = "h264", bitrate_property = "bitrate", bitrate_unit = 1,
            settings = "complexity=low usage-type=camera rate-control=bitrate gop-size=300 ! identity error-after=400" }]"#;
    let (glasses, call) = recorded_call(&world, profile).await;
    let before: Vec<_> = mains(&call).into_iter().filter(|(i, _)| i.codec == Codec::H264).collect();
    assert!(before.len() == 1 && before[0].1.len() > 5, "pictures came in H.264 first");
    gives_up(&glasses, "openh264enc").await;

    let vp8 = eventually("a VP8 track is announced", PATIENCE, async || {
        mains(&call).into_iter().map(|(i, _)| i).find(|i| i.codec == Codec::Vp8)
    })
    .await;
    assert_ne!(vp8.track, before[0].0.track, "another codec, another track");
    assert_eq!(vp8.rtp_base, before[0].0.rtp_base, "on the same clock");
    let read = numbers(&call, &world, vp8.track, 40).await;
    let offsets: BTreeSet<u64> = read.iter().map(|(t, n)| clip::offset(*t, *n)).collect();
    assert_eq!(offsets.len(), 1, "one clip, one clock: {read:?}");
    let last = |info: &TrackInfo| {
        let (_, packets) = mains(&call).into_iter().find(|(i, _)| i.track == info.track).unwrap();
        (packets.first().unwrap().at, packets.last().unwrap().at)
    };
    let pause = last(&vp8).0.duration_since(last(&before[0].0).1);
    eprintln!("between the last H.264 packet and the first VP8 packet: {} ms", pause.as_millis());

    // The same recording has both.
    let mut kept = BTreeSet::new();
    eventually("fragments of both codecs in the log", PATIENCE, async || {
        for (fields, sent) in call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
            let segment: SegmentPayload = call.expert.payload(call.case, fields, sent).await;
            if segment.info.source == TrackSource::Main {
                kept.insert((segment.info.track, segment.mime.split(';').next().unwrap().to_owned()));
            }
        }
        let both = [(before[0].0.track, "video/mp4".to_owned()), (vp8.track, "video/webm".to_owned())];
        both.iter().all(|b| kept.contains(b)).then_some(())
    })
    .await;
    ends_and_is_proven(&call, &world).await;
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}
