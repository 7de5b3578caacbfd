//! A backup of server and archivist while a session is recorded: restored elsewhere, nothing acknowledged before it is missing.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_protocol::{id::EventId, kind};
use lotse_tests::{Draft, World, disk, person, recorded::recorded, secs};
use lotse_verify::report::Verdict;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_in_the_middle_of_a_session_brings_everything_back_elsewhere() {
    let mut world = World::seeded(93).await;
    let call = recorded(&world).await;
    let case = call.case;
    // Commits go on all the time, small ones and such that become files.
    let acknowledged: std::sync::Mutex<Vec<EventId>> = Default::default();
    let write = async {
        for n in 0u32.. {
            let note = Draft::of(kind::MESSAGE).payload(&json!({ "text": format!("note {n}") }));
            let note = if n % 5 == 0 { note.attached(vec![n as u8; 80_000]) } else { note };
            let id = call.expert.commit(case, note).await.unwrap();
            acknowledged.lock().unwrap().push(id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (server_place, archive_place) = (world.path("backup/server"), world.path("backup/archivist"));
    let story = async {
        call.segments_after(0).await;
        let before = acknowledged.lock().unwrap().clone();
        let segments: Vec<EventId> =
            call.technician.log(case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).map(|(f, _)| f.id).collect();
        for (program, place) in [(&world.server, &server_place), (&world.archivist, &archive_place)] {
            let words = ["backup", place.to_str().unwrap()];
            let (code, out, err) = program.beside("backup", &words).run_to_end().await;
            assert_eq!(code, Some(0), "{err}");
            assert!(out.contains("not in it"), "{out}");
        }
        let after = acknowledged.lock().unwrap().len();
        assert!(after > before.len(), "the session went on meanwhile");
        (before, segments)
    };
    let (before, segments) = tokio::select! {
        () = write => unreachable!(),
        out = call.talking(story) => out,
    };
    assert!(before.len() > 5);
    let fingerprint = world.fingerprint(&call.technician);
    world.server.kill9();
    world.archivist.kill9();

    // Elsewhere: other folders, the keys kept apart.
    for (program, place, folder) in
        [(&mut world.server, &server_place, "server-2"), (&mut world.archivist, &archive_place, "archivist-2")]
    {
        let dir = world.folder.path().join(folder).display().to_string();
        let over = program.beside("restore", &["restore", place.to_str().unwrap()]).run_to_end().await;
        assert!(over.0 != Some(0) && over.2.contains("is not empty"), "over the old data: {}", over.2);
        program.set("LOTSE_DATA_DIR", &dir);
        let (code, _, err) = program.beside("restore", &["restore", place.to_str().unwrap()]).run_to_end().await;
        assert_eq!(code, Some(0), "{err}");
        program.start().await;
    }
    let manager = world.person("manager").await;
    let bundle = manager.bundle(case).await;
    let report = person::verify(&bundle, fingerprint);
    assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
    assert!(report.absent.is_empty(), "{:?}", report.absent);
    manager.event(case, kind::EXPORTED, |_| true).await;
    let log: Vec<EventId> = manager.log(case).iter().map(|(f, _)| f.id).collect();
    for id in before.iter().chain(&segments) {
        assert!(log.contains(id), "an event acknowledged before the backup is lost");
    }
    // The session went on being recorded while it was copied; its open fragments were saved too.
    let back = lotse_tests::eventually("a later fragment", secs(40), async || {
        let count = manager.log(case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count();
        (count > segments.len()).then_some(count)
    })
    .await;
    assert!(back > segments.len());
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_backup_of_the_archive_is_found_and_named() {
    let world = World::planned(94);
    let archive = lotse_tests::program::root().join("tests/fixtures/data-0.1.tar.gz");
    let done = std::process::Command::new("tar").arg("-xzpf").arg(archive).arg("-C").arg(world.folder.path()).status();
    assert!(done.unwrap().success());
    let place = world.path("monday");
    let words = |verb: &'static str| [verb.to_owned(), place.display().to_string()];
    let run = async |verb, dir: &str, more: &[&str]| {
        let words = words(verb);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let mut program = world.archivist.beside(verb, &words);
        program.set("LOTSE_DATA_DIR", &world.path(dir).display().to_string());
        program.run_to_end().await
    };
    let (code, _, err) = run("backup", "archivist", &["--with-keys"]).await;
    assert_eq!(code, Some(0), "{err}");
    let files = disk::files(&place);
    assert!(files.len() >= 9, "{files:?}");
    for (n, file) in files.iter().filter(|f| disk::size(f) > 0).enumerate() {
        let good = std::fs::read(file).unwrap();
        let mut bad = good.clone();
        let at = bad.len() / 2;
        bad[at] ^= 1;
        std::fs::write(file, &bad).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let (code, _, err) = run("restore", &format!("no-{n}"), &[]).await;
        assert!(code != Some(0) && err.contains(name), "{name}: {err}");
        assert!(disk::files(&world.path(&format!("no-{n}"))).is_empty());
        std::fs::write(file, &good).unwrap();
    }
    let (code, _, err) = run("restore", "again", &[]).await;
    assert_eq!(code, Some(0), "{err}");
    // What lay damaged in the archive itself is not backed up as if it were sound.
    let fragment = disk::files(&world.path("again")).into_iter().find(|f| disk::is_media(f)).unwrap();
    let mut bytes = std::fs::read(&fragment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&fragment, bytes).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    let (code, _, err) = run("backup", "again", &[]).await;
    assert!(code != Some(0) && err.contains(fragment.file_name().unwrap().to_str().unwrap()), "{err}");
    assert!(!place.exists());
}
