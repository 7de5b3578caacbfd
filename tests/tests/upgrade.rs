//! Data that an earlier version wrote: opened, brought forward, verified, gone on with. And data of a later one: left alone.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use lotse_protocol::{
    id::{CaseId, Digest, EventId},
    kind,
};
use lotse_tests::{
    Draft, World, disk, person,
    program::{binary, root},
    secs,
};
use lotse_verify::report::Verdict;
use serde_json::{Value, json};

/// Every recorded version; a new one is added at the end of an issue, and none is ever made anew.
const RECORDED: [&str; 1] = ["data-0.1.tar.gz"];

struct Recorded {
    world: World,
    facts: Value,
}

/// The recorded folders in a world of their own, nothing running.
fn unpacked(file: &str, seed: u64) -> Recorded {
    let world = World::planned(seed);
    let archive = root().join("tests/fixtures").join(file);
    let done = Command::new("tar").arg("-xzpf").arg(archive).arg("-C").arg(world.folder.path()).status().unwrap();
    assert!(done.success());
    let facts = serde_json::from_slice(&std::fs::read(world.path("facts.json")).unwrap()).unwrap();
    Recorded { world, facts }
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_every_recorded_version_opens_verifies_and_goes_on() {
    for (n, file) in RECORDED.iter().enumerate() {
        let Recorded { mut world, facts } = unpacked(file, 91 + n as u64);
        world.server.start().await;
        world.archivist.start().await;
        assert_eq!(world.server.ready["fingerprint"], facts["fingerprint"], "{file}");
        let (code, out, err) = world.server.beside("doctor", &["doctor"]).run_to_end().await;
        assert_eq!(code, Some(0), "{file}: {err}");
        assert!(out.contains("2 cases verify"), "{file}: {out}");

        let (case, second): (CaseId, CaseId) = (read(&facts["case"]), read(&facts["second"]));
        let expert = world.person("expert").await;
        let ids: Vec<EventId> = read(&facts["ids"]);
        for (case, least) in [(case, ids.len()), (second, 2)] {
            expert.enter(case).await;
            // Its own `joined` comes after everything older.
            let me = expert.me(case);
            let mut joined = 0;
            lotse_tests::eventually("the whole log", secs(20), async || {
                joined = expert.log(case).iter().filter(|(f, _)| f.author == me && f.kind == kind::JOINED).count();
                (joined > 0 && expert.log(case).len() > least).then_some(())
            })
            .await;
        }
        let log: Vec<EventId> = expert.log(case).iter().map(|(f, _)| f.id).collect();
        assert_eq!(log[..ids.len()], ids[..], "{file}: the same events in the same order");

        // It goes on: a new event with a file, durable and told.
        let said = Draft::of(kind::MESSAGE).payload(&json!({ "text": "Still here." })).attached(vec![7; 90_000]);
        let new = expert.commit(case, said).await.unwrap();
        expert.event(case, kind::MESSAGE, |f| f.id == new).await;

        // Replay bytes are served as they were recorded.
        let manager = world.person("manager").await;
        let grant = manager.grant(case, "replay", "upgrade test").await.unwrap();
        let media: Vec<Digest> = read(&facts["media"]);
        assert!(!media.is_empty());
        for digest in media {
            let path = format!("/archive/cases/{case}/media/{digest}?grant={grant}");
            let bytes = manager.get(&path).await.unwrap().bytes().await.unwrap();
            assert_eq!(Digest::of(&bytes), digest, "{file}");
        }

        // And the case proves itself, to the library and to the program. (The archivist knows only cases that had a session; the
        // second one's chain was checked above, event by event, and by the doctor.)
        let bundle = manager.bundle(case).await;
        let report = person::verify(&bundle, read(&facts["fingerprint"]));
        assert_eq!(report.verdict(), Verdict::Authentic, "{file}: {}", report.to_text(lotse_verify::Language::En));
        assert!(report.absent.is_empty(), "{file}: {:?}", report.absent);
        let items = facts["items"].as_u64().unwrap();
        assert!(report.items as u64 >= items, "{file}: {} of {items} items", report.items);
        let path = world.path("case.tar");
        std::fs::write(&path, &bundle).unwrap();
        let key = facts["fingerprint"].as_str().unwrap();
        let ran = Command::new(binary("lotse-verify")).arg(&path).args(["--org-key", key]).output().unwrap();
        assert!(ran.status.success(), "{file}: {}", String::from_utf8_lossy(&ran.stdout));
        assert!(world.path("archivist/format.json").exists(), "{file}: the archive is marked from now on");
        world.assert_no_panic();
    }
}

/// Every file below a folder with its bytes.
fn all(world: &World, folder: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    disk::files(&world.path(folder)).into_iter().map(|f| (f.clone(), std::fs::read(&f).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_a_later_version_is_refused_with_a_remedy_and_not_touched() {
    let Recorded { world, .. } = unpacked(RECORDED[0], 97);
    let mark = json!({ "program": "lotse-archivist", "format": 900, "other": "things" }).to_string();
    std::fs::write(world.path("archivist/format.json"), mark).unwrap();
    let before = all(&world, "archivist");
    for words in [&["serve"][..], &["backup", "/nowhere/backup"]] {
        let (code, _, err) = world.archivist.beside("later", words).run_to_end().await;
        assert_ne!(code, Some(0));
        assert!(err.contains("newer lotse-archivist (format 900") && err.contains("restore a backup"), "{err}");
    }
    assert_eq!(all(&world, "archivist"), before);
}
