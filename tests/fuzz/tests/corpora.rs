//! Replays every committed corpus through its target, on stable and in seconds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use lotse_fuzz::{MAX_INPUT, TARGETS};

/// All corpora together, bytes: they are in everybody's clone.
const MAX_TOTAL: u64 = 1_500_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}. Every target has a corpus.", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

#[test]
fn every_target_survives_its_corpus() {
    for target in &TARGETS {
        let inputs = entries(&corpus().join(target.name));
        assert!(!inputs.is_empty(), "{}: its corpus is empty", target.name);
        for input in inputs {
            let data = std::fs::read(&input).expect("a file");
            // The name of an input that fails stands right above the panic's own words.
            let done = std::panic::catch_unwind(|| target.run(&data));
            assert!(done.is_ok(), "{}", input.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target_and_all_are_small() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|t| t.name).collect();
    let mut total = 0;
    for dir in entries(&corpus()) {
        let name = dir.file_name().expect("a name").to_string_lossy();
        assert!(known.contains(&*name), "{} belongs to no target", dir.display());
        for input in entries(&dir) {
            let size = std::fs::metadata(&input).expect("a file").len();
            assert!(size <= MAX_INPUT as u64, "{} has {size} bytes", input.display());
            total += size;
        }
    }
    assert!(
        total <= MAX_TOTAL,
        "the corpora have {total} bytes. `tests/fuzz/fuzz.sh minimise` keeps what reaches more code."
    );
}
