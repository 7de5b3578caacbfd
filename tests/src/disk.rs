//! Looks at what the programs left on the disk, and fills one up.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// A file that takes all the space there is, until it is dropped.
pub struct Full(PathBuf);

impl Full {
    /// Fills the disk that `folder` lies on: only ever a small one of a test.
    pub fn fill(folder: &Path) -> Self {
        let path = folder.join("filler");
        let mut file = File::create(&path).unwrap();
        for block in [1 << 16, 1 << 12, 1] {
            let zeros = vec![0u8; block];
            // 64 MB: whoever calls this for a real disk has made a mistake.
            let full = (0..(64 << 20) / block).find_map(|_| file.write_all(&zeros).err());
            assert_eq!(full.expect("a small disk").kind(), ErrorKind::StorageFull);
        }
        Self(path)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

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
