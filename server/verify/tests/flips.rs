//! No byte of a bundle can change unseen, and the file it belongs to is named.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::LazyLock;

use lotse_verify::{bundle, report::Verdict};
use proptest::prelude::*;
use support::{Case, Region, regions, verify};

/// The whole golden case; a check of it takes some milliseconds.
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| Case::whole().bundle());

/// Does the report name the file of this region? List and signature vouch for each other: either may be named.
fn is_named(file: &str, found: &[String]) -> bool {
    match file {
        "" => !found.is_empty(),
        bundle::SIGNATURE | bundle::MANIFEST => found.iter().any(|f| f.contains(file)),
        _ => found.iter().any(|f| f == file),
    }
}

fn assert_found(bytes: &[u8], region: &Region, what: &str) {
    let report = verify(bytes);
    let found: Vec<String> = report.findings.iter().map(|f| f.file.clone()).collect();
    let Region { file, part, .. } = region;
    assert_eq!(report.verdict(), Verdict::Changed, "{what} in the {part} of '{file}' was not found");
    assert!(is_named(file, &found), "{what} in the {part} of '{file}' was found elsewhere: {found:?}");
    if file.starts_with(bundle::ITEMS) && *part == "content" {
        let finding = report.findings.iter().find(|f| f.file == *file).unwrap();
        assert!(finding.event.is_some(), "{what} in '{file}': the event that names it is not given");
    }
}

#[test]
fn a_flip_in_any_region_is_found_and_its_file_named() {
    // A short case, so that many positions can be tried: opened to the first segment.
    let good = Case::golden(14).bundle();
    assert_eq!(verify(&good).verdict(), Verdict::Consistent, "{:?}", verify(&good).findings);
    let mut tried = 0;
    for (n, region) in regions(&good).iter().enumerate() {
        // About 60 places in each part of each file, never the same ones.
        let step = ((region.to - region.from) / 60).max(1);
        for at in (region.from + n % step..region.to).step_by(step) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            assert_found(&bytes, region, &format!("a flip at {at}"));
            tried += 1;
        }
    }
    assert!(tried > 2_000, "only {tried} places tried");
}

#[test]
fn every_byte_of_list_signature_and_end_counts() {
    let good = Case::golden(6).bundle();
    for region in regions(&good) {
        if ![bundle::MANIFEST, bundle::SIGNATURE, bundle::HEAD, ""].contains(&region.file.as_str()) {
            continue;
        }
        for at in region.from..region.to {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            assert_found(&bytes, &region, &format!("a flip at {at}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_flips_are_found_and_named(at in 0..WHOLE.len(), change in 1u8..) {
        let mut bytes = WHOLE.clone();
        bytes[at] ^= change;
        let all = regions(&WHOLE);
        let region = all.iter().find(|r| (r.from..r.to).contains(&at)).unwrap();
        assert_found(&bytes, region, &format!("a change at {at}"));
    }

    #[test]
    fn a_cut_is_found(length in 0..WHOLE.len()) {
        let report = verify(&WHOLE[..length]);
        prop_assert_eq!(report.verdict(), Verdict::Changed);
    }

    #[test]
    fn something_added_is_found(tail in proptest::collection::vec(any::<u8>(), 1..2_000)) {
        let bytes = [&WHOLE[..], &tail].concat();
        prop_assert_eq!(verify(&bytes).verdict(), Verdict::Changed);
    }

    #[test]
    fn a_piece_moved_within_the_bundle_is_found(from in 0..WHOLE.len(), to in 0..WHOLE.len(), n in 1usize..4_000) {
        let mut bytes = WHOLE.clone();
        let n = n.min(bytes.len() - from.max(to));
        bytes.copy_within(from..from + n, to);
        prop_assume!(bytes != *WHOLE);
        prop_assert_eq!(verify(&bytes).verdict(), Verdict::Changed);
    }

    #[test]
    fn any_bytes_at_all_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4_000)) {
        prop_assert_eq!(verify(&bytes).verdict(), Verdict::Changed);
    }
}
