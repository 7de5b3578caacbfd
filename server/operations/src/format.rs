//! The version mark of a data folder that is no database: a file `format.json` beside what it speaks of.
//!
//! Owns: reading and writing the mark. A folder without one was written before there were marks and counts as version 1.
//! Never: changes a folder of a newer version. Elsewhere: the server's database has its own versions (`server/migrations`).

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{Error, disk};

const FILE: &str = "format.json";

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    program: String,
    format: u32,
}

/// The version of a folder, 1 when it has no mark. A newer one than `known`, or another program's, is an error.
pub fn check(folder: &Path, program: &str, known: u32) -> Result<u32, Error> {
    let path = folder.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(1),
        Err(e) => return Err(Error::file(&path, &e)),
    };
    let mark: Mark = serde_json::from_slice(&text).map_err(|e| {
        Error::new(
            format!("{}: is not readable: {e}", path.display()),
            "Restore this file from a backup of the folder.",
        )
    })?;
    if mark.program != program {
        return Err(Error::new(
            format!("{} belongs to {}", folder.display(), mark.program),
            format!("Name the data folder of {program}."),
        ));
    }
    if mark.format > known {
        return Err(Error::new(
            format!(
                "{} was written by a newer {program} (format {}; this one knows up to {known}) and was not touched",
                folder.display(),
                mark.format
            ),
            format!("Start the newer {program} again, or restore a backup made by this version."),
        ));
    }
    Ok(mark.format)
}

/// Checks, and marks a folder that has no mark yet.
pub fn open(folder: &Path, program: &str, known: u32) -> Result<(), Error> {
    let path = folder.join(FILE);
    check(folder, program, known)?;
    if path.exists() {
        return Ok(());
    }
    let mark = Mark { program: program.to_owned(), format: known };
    // A plain struct of text and number: serialising it cannot fail.
    let text = serde_json::to_vec(&mark).unwrap_or_default();
    let part = folder.join("format.part");
    fs::File::create(&part)
        .and_then(|mut f| f.write_all(&text).and_then(|()| f.write_all(b"\n")).and_then(|()| f.sync_all()))
        .and_then(|()| fs::rename(&part, &path))
        .and_then(|()| disk::sync_folder(folder))
        .map_err(|e| Error::file(&path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_marked_once_and_a_newer_one_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path(), "lotse-test", 1).unwrap(), 1);
        open(dir.path(), "lotse-test", 1).unwrap();
        open(dir.path(), "lotse-test", 1).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"program\":\"lotse-test\",\"format\":1}\n");

        let newer = "{\"program\":\"lotse-test\",\"format\":7,\"more\":true}";
        fs::write(&path, newer).unwrap();
        let said = open(dir.path(), "lotse-test", 1).unwrap_err().to_string();
        assert!(said.contains("newer lotse-test (format 7") && said.contains("restore a backup"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
        assert!(open(dir.path(), "lotse-other", 9).unwrap_err().to_string().contains("belongs to lotse-test"));
        fs::write(&path, "{").unwrap();
        assert!(open(dir.path(), "lotse-test", 1).unwrap_err().to_string().contains("not readable"));
    }
}
