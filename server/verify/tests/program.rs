//! The program as people call it: exit codes, languages, JSON, little memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{Case, seal};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lotse-verify")).env_remove("LC_ALL").env("LANG", "C").args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn says_consistent_authentic_changed_and_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::whole();
    let bytes = case.bundle();
    let good = dir.path().join("case.tar");
    std::fs::write(&good, &bytes).unwrap();

    let out = run(&[text(&good)]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.starts_with("CONSISTENT"), "{said}");
    assert!(said.contains("2026-03-02T09:00:01.500Z"), "{said}");

    // As people copy fingerprints: capitals, colons.
    let org = case.server_fingerprint.to_string().to_uppercase();
    let org: Vec<&str> = (0..32).map(|i| &org[2 * i..2 * i + 2]).collect();
    let head = dir.path().join("head.json");
    std::fs::write(&head, serde_json::to_string(&case.head()).unwrap()).unwrap();
    let out = run(&[text(&good), "--org-key", &org.join(":"), "--head", text(&head), "--language", "de"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.starts_with("ECHT"), "{said}");

    let mut changed = bytes.clone();
    let region =
        support::regions(&bytes).into_iter().find(|r| r.file.ends_with(".webm") && r.part == "content").unwrap();
    changed[region.from + 9] ^= 4;
    let bad = dir.path().join("bad.tar");
    std::fs::write(&bad, &changed).unwrap();
    let out = run(&[text(&bad)]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(&region.file) && said.contains("event 14 segment, 2026-"), "{said}");

    let out = run(&[text(&bad), "--json", "--language", "de"]);
    assert_eq!(out.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["verdict"], "changed");
    assert_eq!(json["findings"][0]["code"], "item_changed");
    assert_eq!(json["findings"][0]["event"]["seq"], 14);
    assert!(json["findings"][0]["message"].as_str().unwrap().contains("Neu versiegelt"));

    for args in
        [vec![text(&head), "--nonsense"], vec!["/nowhere/case.tar"], vec![text(&good), "--org-key", "12"], vec![]]
    {
        assert_eq!(run(&args).status.code(), Some(2), "{args:?}");
    }
    let out = run(&[text(&good), "--head", "/nowhere/head.json"]);
    assert!(String::from_utf8(out.stderr).unwrap().contains("/nowhere/head.json cannot be read"));
}

/// 160 MiB of items under a limit of 96 MiB of address space: they cannot have been in memory.
#[test]
fn a_large_bundle_is_read_in_pieces() {
    const FRAGMENTS: u32 = 160;
    let fragment = |n: u32| vec![n as u8; 1024 * 1024];
    let mut case = Case::golden(13);
    let named = (0..FRAGMENTS)
        .map(|n| {
            let (digest, item) = seal(n, &fragment(n));
            (digest, item.key)
        })
        .collect::<Vec<_>>();
    case.record(named.clone());

    let mut draft = lotse_verify::Draft::new("2026-0001", case.head()).unwrap();
    case.events.iter().for_each(|e| draft.event(e).unwrap());
    for (digest, i) in &case.items {
        draft.item(*digest, i.kind, i.key, &i.sealed, "json").unwrap();
    }
    for n in 0..FRAGMENTS {
        let (digest, i) = seal(n, &fragment(n));
        draft.item(digest, i.kind, i.key, &i.sealed, "webm").unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.tar");
    let mut out = BufWriter::new(File::create(&path).unwrap());
    let bundle = draft.finish(&support::archivist_key()).unwrap();
    bundle
        .write(&mut out, |d| {
            Ok(match named.iter().position(|(digest, _)| digest == d) {
                Some(n) => seal(n as u32, &fragment(n as u32)).1.sealed,
                None => case.items[d].sealed.clone(),
            })
        })
        .unwrap();
    out.flush().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 160 * 1024 * 1024);

    let script = format!("ulimit -v 98304; exec '{}' '{}'", env!("CARGO_BIN_EXE_lotse-verify"), text(&path));
    let out = Command::new("sh").args(["-c", &script]).env("LANG", "C").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said} {}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains(&format!("{}, ", FRAGMENTS + case.items.len() as u32)), "{said}");
}
