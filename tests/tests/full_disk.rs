//! A disk that is really full: what was acknowledged stays, people are told what to do, the call goes on, and everything works
//! again once there is space, without a restart.
#![allow(clippy::unwrap_used)]

use lotse_payload::recording::{GapWhy, RecordingStopped, StopWhy};
use lotse_protocol::{id::ItemKey, item, kind};
use lotse_tests::{World, disk::Full, eventually, live::PATIENCE, recorded::recorded, secs};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_refuses_keeps_what_it_acknowledged_and_goes_on_when_there_is_space() {
    let mut world = World::planned(55);
    let data = world.path("server");
    world.server.on_small_disk(&data, 12);
    world.start().await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        for n in 0..5 {
            acknowledged.push(call.note(format!("before {n}")).await.unwrap());
        }
        let full = Full::fill(&world.server.path_inside(&data));
        // What still fits into pages that are there is taken; then nothing is.
        let refusal = loop {
            match call.note("x".repeat(10_000)).await {
                Ok(id) => acknowledged.push(id),
                Err(refusal) => break refusal,
            }
            assert!(acknowledged.len() < 2_000, "the disk is not full");
        };
        assert_eq!(refusal.code, "storage");
        assert!(refusal.message.contains("free space on its disk"), "{}", refusal.message);
        let sealed = item::seal(ItemKey([5; 32]), &[9; 200_000]);
        let refusal = call.technician.put_item(call.case, sealed.digest, sealed.bytes.clone()).await.unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (503, "storage"));
        // The call does not notice.
        call.hear_each_other().await;
        assert!(world.server.log().contains("Free space where [data] dir lies"), "the operator is told");

        drop(full);
        acknowledged.push(call.note("after".into()).await.unwrap());
        call.technician.put_item(call.case, sealed.digest, sealed.bytes).await.unwrap();
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    assert!(world.server.is_running());
    call.has_all(&acknowledged).await;
    call.ends_and_verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_archivist_stops_the_recording_and_it_begins_again_by_itself() {
    let mut world = World::with_server(56).await;
    let data = world.path("archivist");
    world.archivist.on_small_disk(&data, 12);
    world.archivist.start().await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        let full = Full::fill(&world.archivist.path_inside(&data));
        // Everybody sees that nothing is recorded, and why.
        let (fields, sent) = call.expert.event_within(call.case, kind::RECORDING_STOPPED, secs(20), |_| true).await;
        let stopped: RecordingStopped = call.expert.payload(call.case, &fields, &sent).await;
        assert_eq!(stopped.why, StopWhy::Disk);
        let health = reqwest::get(format!("{}/archive/healthz", world.url)).await.unwrap();
        assert_eq!(health.status(), 503);
        let said = health.text().await.unwrap();
        assert!(said.contains("Free space") && said.contains("by itself"), "{said}");
        call.hear_each_other().await;

        drop(full);
        eventually("the recording begins again", PATIENCE, async || {
            let log = call.expert.log(call.case);
            (log.iter().filter(|(f, _)| f.kind == kind::RECORDING_STARTED).count() == 2).then_some(())
        })
        .await;
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    assert!(world.archivist.is_running());
    let health = reqwest::get(format!("{}/archive/healthz", world.url)).await.unwrap();
    assert_eq!(health.status(), 200, "well again");
    call.ends_and_verifies(&world).await;

    let gaps = call.kept_or_declared().await;
    for person in [&call.technician, &call.expert] {
        let me = person.me(call.case);
        let disk: Vec<_> = gaps.iter().filter(|g| g.owner == me && g.why == GapWhy::Disk).collect();
        assert_eq!(disk.len(), 1, "{gaps:?}");
        assert!(disk[0].to_us - disk[0].from_us > 1_000_000, "{disk:?}");
    }
}
