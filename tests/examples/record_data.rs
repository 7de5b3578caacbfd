//! Records the data folders of one small case with the programs as they are now: the fixture that later versions must open.
//!
//! Usage: `record_data FILE.tar.gz`, e.g. `tests/fixtures/data-0.1.tar.gz`. Run it once at the end of an issue whose stored form
//! is to be kept; a recorded file is never made anew, for it would no longer be of that version.
//! Owns: what is in the case: picture, two voices, a mark with its receipts, chat with a file, answers, an end; and a second case
//! that nobody took. The accounts are the demo's, so its keys and passwords protect nothing.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_payload::{
    annotation::{Annotation, Colour, FrameConfidence, Instruction, Mark},
    geometry::PictureCoord,
    message::FileInfo,
};
use lotse_protocol::{id::FrameId, kind, policy::Role, signal::TrackSource};
use lotse_tests::{Draft, World, eventually, person, secs};
use lotse_verify::report::Verdict;
use serde_json::json;

/// A cold start of encoder and call on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Above the limit of what travels inside a message, so that it becomes a file.
const FILE_BYTES: usize = 70_000;

#[tokio::main]
async fn main() {
    let out = std::env::args().nth(1).expect("the file to write");
    let mut world = World::seeded(1).await;
    let mut glasses = world.started_glasses("helmet-1").await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    let (case, session) = (waiting.summary.case, waiting.session);
    expert.take(case, session).await;
    let leg = expert.connect_media(case, session, true).await;
    leg.connected().await;
    glasses.shows("consent").await;
    let s = expert.session_is(case, "the archivist comes", |s| s.participants.len() >= 3).await;
    let technician = *s.participants.iter().find(|(_, p)| p.role == Role::Technician).unwrap().0;
    glasses.say("YES_RECORD").await;
    expert.answer(case, session, kind::CONSENT_RECORD).await;
    expert.event_within(case, kind::RECORDING_STARTED, PATIENCE, |_| true).await;
    leg.speak(700.0, secs(2)).await;

    let newest = eventually("a picture", PATIENCE, async || {
        leg.packets(technician, TrackSource::Main).last().map(|p| u64::from(p.timestamp))
    })
    .await;
    let info = leg.track(technician, TrackSource::Main).unwrap();
    let instruction = Instruction {
        frame: FrameId { track: info.track, rtp: newest },
        confidence: FrameConfidence::Exact,
        width: info.width,
        height: info.height,
        at_ms: person::now_ms(),
        text: "Loosen this first".into(),
        marks: vec![Annotation {
            mark: Mark::Arrow {
                tail: PictureCoord { x: 50_000, y: 20_000 },
                tip: PictureCoord { x: 32_768, y: 32_768 },
            },
            colour: Colour::Yellow,
            width: 600,
        }],
        replaces: None,
    };
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
    expert.commit(case, Draft::of(kind::SESSION_ENDED).session(session)).await.unwrap();
    expert.event_within(case, kind::RECORDING_STOPPED, PATIENCE, |_| true).await;
    let second = expert.new_case("dock-12").await;
    glasses.program.stop().await;

    let manager = world.person("manager").await;
    let bundle = manager.bundle(case).await;
    let fingerprint = world.server.ready["fingerprint"].as_str().unwrap().to_owned();
    let report = person::verify(&bundle, fingerprint.parse().unwrap());
    assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
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
