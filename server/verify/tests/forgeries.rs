//! What somebody with a key of their own could try: the archivist's, another server's, an older head.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Cursor;

use ed25519_dalek::SigningKey;
use lotse_protocol::{
    chain::sign_head,
    id::{Digest, ItemKey},
    item,
};
use lotse_verify::{
    Options, Report,
    bundle::{self, Keys},
    check,
    check::GivenHead,
    report::Verdict,
};
use support::{Case, archivist_key, put_together, server_key, take_apart, verify};

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|f| f.trouble.code()).collect()
}

fn with(bytes: &[u8], options: Options) -> Report {
    check(&mut Cursor::new(bytes), &options).unwrap()
}

fn given(head: &lotse_protocol::chain::SignedHead) -> Vec<GivenHead> {
    vec![GivenHead { name: "kept.json".into(), text: serde_json::to_string(head).unwrap() }]
}

#[test]
fn an_untouched_bundle_is_consistent_and_with_the_right_key_authentic() {
    let case = Case::whole();
    let bytes = case.bundle();
    let report = verify(&bytes);
    assert_eq!(report.verdict(), Verdict::Consistent, "{:?}", report.findings);
    assert_eq!(report.events, case.events.len() as u64);
    assert_eq!(report.items, case.items.len() as u64);
    assert!(report.absent.is_empty());
    assert_eq!((report.gaps, report.missing_us), (1, 20_000_000), "what the archivist declared missing");
    assert_eq!(report.number, "2026-0001");

    let report = with(&bytes, Options { server: Some(case.server_fingerprint), heads: given(&case.head()) });
    assert_eq!(report.verdict(), Verdict::Authentic, "{:?}", report.findings);
    assert_eq!(report.heads, 1);

    let report = with(&bytes, Options { server: Some(Digest::of(b"another")), heads: vec![] });
    assert_eq!(codes(&report), ["other_server"]);
}

#[test]
fn making_it_again_gives_the_same_bytes_and_any_tar_reads_it() {
    let case = Case::whole();
    let bytes = case.bundle();
    assert!(bytes == case.bundle());
    let mut archive = tar::Archive::new(Cursor::new(&bytes));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o644);
        assert_eq!(entry.header().mtime().unwrap(), 0);
        assert!(!content.is_empty(), "{name}");
        names.push(name);
    }
    assert_eq!(names[..4], [bundle::MANIFEST, bundle::LOG, bundle::HEAD, bundle::KEYS]);
    assert_eq!(names.last().unwrap(), bundle::SIGNATURE);
    assert_eq!(names.len(), 5 + case.items.len());
}

#[test]
fn an_item_that_nobody_can_open_is_reported_and_no_fault() {
    let case = Case::whole();
    let mut draft = lotse_verify::Draft::new("2026-0001", case.head()).unwrap();
    case.events.iter().for_each(|e| draft.event(e).unwrap());
    let gone = case.items.iter().find(|(_, i)| i.kind == lotse_verify::ItemKind::Media).map(|(d, _)| *d).unwrap();
    for (digest, i) in &case.items {
        if *digest == gone {
            draft.absent(*digest, i.kind);
        } else {
            draft.item(*digest, i.kind, i.key, &i.sealed, "bin").unwrap();
        }
    }
    let bundle = draft.finish(&archivist_key()).unwrap();
    let mut out = Vec::new();
    bundle.write(&mut out, |d| Ok(case.items[d].sealed.clone())).unwrap();
    let report = verify(&out);
    assert_eq!(report.verdict(), Verdict::Consistent, "{:?}", report.findings);
    assert_eq!(report.absent, [gone]);
}

#[test]
fn a_log_cut_with_an_older_head_is_found_by_a_newer_head_somebody_kept() {
    let whole = Case::whole();
    let mut cut = Case::golden(20);
    // The archivist's own bundle of the shorter case: consistent in itself.
    cut.items.retain(|_, _| true);
    let bytes = cut.bundle();
    assert_eq!(verify(&bytes).verdict(), Verdict::Consistent);
    let report = with(&bytes, Options { server: None, heads: given(&whole.head()) });
    assert_eq!(codes(&report), ["given_head"]);
    let text = report.to_text(lotse_verify::Language::En);
    assert!(text.contains(&format!("proves {}", whole.events.len())), "{text}");
    // The other way round, an older head agrees with the longer log.
    let report = with(&whole.bundle(), Options { server: None, heads: given(&cut.head()) });
    assert_eq!((report.verdict(), report.heads), (Verdict::Consistent, 1));
}

#[test]
fn a_head_of_another_case_or_server_is_refused() {
    let case = Case::whole();
    let other = sign_head(&SigningKey::from_bytes(&[50; 32]), case.chain().head(), 0);
    let report = with(&case.bundle(), Options { server: None, heads: given(&other) });
    assert_eq!(codes(&report), ["head_signature"]);
    let mut head = case.chain().head();
    head.hash = Digest::of(b"another history");
    let report = with(&case.bundle(), Options { server: None, heads: given(&sign_head(&server_key(), head, 0)) });
    assert_eq!(codes(&report), ["given_head"]);
    let report =
        with(&case.bundle(), Options { server: None, heads: vec![GivenHead { name: "x".into(), text: "{".into() }] });
    assert_eq!(codes(&report), ["given_head_unreadable"]);
}

#[test]
fn the_archivist_cannot_exchange_an_item_even_with_its_own_key() {
    let (manifest, mut files) = take_apart(&Case::whole().bundle());
    let (name, content) = files.iter_mut().find(|(n, _)| n.ends_with(".webm")).unwrap();
    content[40] ^= 1;
    let name = name.clone();
    let report = verify(&put_together(manifest, &files, &archivist_key()));
    assert_eq!(codes(&report), ["item_changed"]);
    assert_eq!(report.findings[0].file, name);
    let event = report.findings[0].event.as_ref().unwrap();
    assert_eq!((event.seq, event.kind.as_str()), (14, "segment"));
}

#[test]
fn another_key_for_the_same_bytes_is_found() {
    let (manifest, mut files) = take_apart(&Case::whole().bundle());
    let mut keys: Keys = serde_json::from_slice(&files[2].1).unwrap();
    let digest = *keys.keys().nth(3).unwrap();
    keys.get_mut(&digest).unwrap().key = Some(ItemKey([9; 32]));
    files[2].1 = serde_json::to_vec(&keys).unwrap();
    let report = verify(&put_together(manifest, &files, &archivist_key()));
    assert_eq!(codes(&report), ["item_changed"]);
    assert!(report.findings[0].file.contains(&digest.to_string()));
}

/// Under GCM alone one ciphertext can be made to open under two keys. The commitment at its front excludes that.
#[test]
fn bytes_open_under_one_key_only() {
    let key = ItemKey([1; 32]);
    let sealed = item::seal(key, b"the pump was sound");
    let mut forged = sealed.bytes.clone();
    forged[..item::HEADER].copy_from_slice(&item::commitment(&ItemKey([2; 32])));
    assert_ne!(Digest::of(&forged), sealed.digest);
    assert_eq!(item::open(&ItemKey([2; 32]), &sealed.bytes).unwrap_err(), lotse_protocol::ProtocolError::WrongKey);
}

#[test]
fn leaving_out_adding_and_reordering_are_found() {
    let good = Case::whole().bundle();
    // An item left out of files and keys.
    let (manifest, mut files) = take_apart(&good);
    let (name, _) = files.remove(6);
    let digest: Digest = name[6..70].parse().unwrap();
    let mut keys: Keys = serde_json::from_slice(&files[2].1).unwrap();
    keys.remove(&digest);
    files[2].1 = serde_json::to_vec(&keys).unwrap();
    let report = verify(&put_together(manifest, &files, &archivist_key()));
    assert!(codes(&report).contains(&"key_absent"), "{:?}", codes(&report));

    // An item of nobody's.
    let (manifest, mut files) = take_apart(&good);
    files.push((format!("items/{}.txt", "f".repeat(64)), b"hello".to_vec()));
    let report = verify(&put_together(manifest, &files, &archivist_key()));
    assert_eq!(codes(&report), ["not_in_log"]);

    // Two items in the other order; a file with a strange name; a missing file.
    let (manifest, files) = take_apart(&good);
    for change in [
        (|f: &mut Vec<(String, Vec<u8>)>| f.swap(4, 5)) as fn(&mut Vec<_>),
        |f| f[5].0 = "items/../../etc/passwd".into(),
        |f| f[5].0 = f[5].0.to_uppercase(),
        |f| drop(f.remove(1)),
        |f| f.insert(3, ("extra.txt".into(), b"x".to_vec())),
    ] {
        let mut files = files.clone();
        change(&mut files);
        let report = verify(&put_together(manifest.clone(), &files, &archivist_key()));
        assert_eq!(codes(&report), ["file_list"]);
    }
}

#[test]
fn events_cannot_be_dropped_swapped_or_repeated_and_the_place_is_named() {
    let good = Case::whole().bundle();
    let (manifest, files) = take_apart(&good);
    let lines: Vec<&[u8]> = files[0].1.split_inclusive(|b| *b == b'\n').collect();
    let n = lines.len();
    let changed: Vec<(u64, Vec<&[u8]>)> = vec![
        (10, [&lines[..9], &lines[10..]].concat()),
        (12, [&lines[..11], &[lines[12], lines[11]], &lines[13..]].concat()),
        (8, [&lines[..7], &[lines[6]], &lines[7..]].concat()),
    ];
    for (seq, lines) in changed {
        let mut files = files.clone();
        files[0].1 = lines.concat();
        let report = verify(&put_together(manifest.clone(), &files, &archivist_key()));
        let named = report.findings.iter().find_map(|f| f.event.as_ref()).unwrap();
        assert_eq!((named.seq, codes(&report)[0]), (seq, "chain"));
    }
    // The last one dropped: only the head shows it.
    let mut shorter = files.clone();
    shorter[0].1 = lines[..n - 1].concat();
    let report = verify(&put_together(manifest, &shorter, &archivist_key()));
    assert!(report.findings.iter().any(|f| f.file == bundle::HEAD && f.trouble.code() == "chain"));
}

#[test]
fn a_stranger_cannot_sign_a_bundle() {
    let (manifest, files) = take_apart(&Case::whole().bundle());
    let report = verify(&put_together(manifest, &files, &SigningKey::from_bytes(&[77; 32])));
    assert_eq!(codes(&report), ["archivist_unknown"]);
}

#[test]
fn a_made_up_case_is_consistent_at_best_never_authentic() {
    // Everything signed by a server of the forger's own: the chain holds, the fingerprint does not.
    let case = Case::whole();
    let report = with(&case.bundle(), Options { server: Some(Digest::of(b"ours")), heads: vec![] });
    assert_eq!(report.verdict(), Verdict::Changed);
    assert!(report.to_text(lotse_verify::Language::De).contains("anderen Server"));
}
