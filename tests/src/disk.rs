//! Looks at what the programs left on the disk.

use std::path::{Path, PathBuf};

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

pub fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map(|m| m.len()).unwrap_or(0)
}

/// Does this file of the archivist hold recorded media, finished or growing, or a bundle being made?
pub fn is_media(file: &Path) -> bool {
    file.components().any(|c| matches!(c.as_os_str().to_str(), Some("fragments" | "spool")))
}

/// Files below `folder` that hold one of these byte strings.
pub fn holding(folder: &Path, needles: &[&[u8]]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for file in files(folder) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        for needle in needles.iter().filter(|n| !n.is_empty()) {
            if bytes.windows(needle.len()).any(|w| w == *needle) {
                found.push((file.clone(), String::from_utf8_lossy(needle).into_owned()));
            }
        }
    }
    found
}
