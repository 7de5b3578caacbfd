//! Records the data folders of one small case with the programs as they are now: the fixture that later versions must open.
//!
//! Usage: `record_data FILE.tar.gz`, e.g. `tests/fixtures/data-0.1.tar.gz`. Run it once at the end of an issue whose stored form
//! is to be kept; a recorded file is never made anew, for it would no longer be of that version.
//! Owns: what is in the case: picture, two voices, a mark with its receipts, chat with a file, answers, an end; and a second case
//! that nobody took. The accounts are the demo's, so its keys and passwords protect nothing.
#![allow(clippy::unwrap_used)]

use lotse_payload::message::FileInfo;
use lotse_protocol::{kind, signal::TrackSource};
use lotse_tests::{
    Draft, World,
    call::{Call, PATIENCE, Part},
    eventually, secs,
};
use serde_json::json;

/// Above the limit of what travels inside a message, so that it becomes a file.
const FILE_BYTES: usize = 70_000;

#[tokio::main]
async fn main() {
    let out = std::env::args().nth(1).expect("the file to write");
    let mut world = World::seeded(1).await;
    let mut glasses = world.started_glasses("helmet-1").await;
    let call = Call::recorded(&world, &glasses, Part::Talks).await;
    let Call { expert, case, session, technician, leg } = &call;
    let (case, session, technician) = (*case, *session, *technician);
    leg.speak(700.0, secs(2)).await;

    let newest = eventually("a picture", PATIENCE, async || {
        leg.packets(technician, TrackSource::Main).last().map(|p| u64::from(p.timestamp))
    })
    .await;
    let instruction = call.arrow_on(newest);
    let draft = Draft::of(kind::INSTRUCTION).session(session).payload(&instruction);
    expert.commit(case, draft).await.unwrap();
    glasses.shows("instruction").await;
    glasses.say("DONE").await;
    let said = lotse_payload::Message {
        text: "The seal, as it was delivered.".into(),
        file: Some(FileInfo {
            name: "seal.bin".into(),
            mime: "application/octet-stream".into(),
            size: FILE_BYTES as u64,
        }),
    };
    let note = Draft::of(kind::MESSAGE).session(session).payload(&said);
    let file = (0..FILE_BYTES).map(|n| (n * n / 7) as u8).collect();
    expert.commit(case, note.attached(file)).await.unwrap();
    eventually("both receipts", PATIENCE, async || {
        let log = expert.log(case);
        (log.iter().filter(|(f, _)| f.kind == kind::RECEIPT).count() >= 2).then_some(())
    })
    .await;
    call.end().await;
    let second = expert.new_case("dock-12").await;
    glasses.program.stop().await;

    let (_, report) = call.proven_bundle(&world).await;
    let fingerprint = world.server.ready["fingerprint"].as_str().unwrap().to_owned();
    assert!(report.absent.is_empty());
    expert.event(case, kind::EXPORTED, |_| true).await;
    let log = expert.log(case);
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "fingerprint": fingerprint,
        "case": case,
        "second": second,
        "events": log.len(),
        "ids": log.iter().map(|(f, _)| f.id).collect::<Vec<_>>(),
        "media": log.iter().filter(|(f, _)| f.kind == kind::SEGMENT).flat_map(|(f, _)| f.attachments.clone()).collect::<Vec<_>>(),
        "items": report.items,
    });
    world.archivist.stop().await;
    world.server.stop().await;
    world.assert_no_panic();
    std::fs::write(world.path("facts.json"), serde_json::to_string_pretty(&facts).unwrap() + "\n").unwrap();
    let folders = ["facts.json", "server", "server-keys", "archivist", "archivist-keys"];
    let tar = std::process::Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(world.folder.path())
        .args(["-czf", &out])
        .args(folders)
        .status()
        .unwrap();
    assert!(tar.success());
    println!("{}", json!({ "file": out, "bytes": std::fs::metadata(&out).unwrap().len(), "facts": facts }));
}
