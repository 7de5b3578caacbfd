//! `lotse-archivist backup` and `restore`: index and fragments of every case, checked before anybody relies on them.
//!
//! Owns: the order in which a case is copied while it grows: the index first, then what it speaks of, so that a copied index never
//! vouches for bytes that are not there. A fragment still open is copied as far as it is; a start after the restore finishes it, as
//! after a power cut. Never: stops a recording, takes the keys along unless told to.
//! Elsewhere: the form of a backup (`lotse_operations::backup`), putting a case together (`journal`).

use std::{
    collections::{HashMap, HashSet},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use lotse_operations::{
    Error, backup,
    backup::{Progress, Reader, Writer, hex},
    format,
};
use lotse_protocol::id::{CaseId, Digest};
use serde_json::json;
use uuid::Uuid;

use crate::{
    config::Config,
    error::{ArchivistError, Result},
    fragment,
    index::{self, Record},
    journal,
    keys::{self, Keys},
};

pub const PROGRAM: &str = "lotse-archivist";
/// Of the data folder: `cases/<case>/index.jsonl` and `cases/<case>/fragments/`.
pub const FORMAT: u32 = 1;
/// There while a restore has not finished.
const RESTORING: &str = ".restoring";
/// Folders in a backup.
const DATA: &str = "data";
const KEYS: &str = "keys";
/// A fragment may end while its case is copied; then the index is read again. It does so every two seconds at most.
const TRIES: usize = 20;

/// Opens the data folder's version mark; a newer folder, or one half restored, is refused untouched.
pub fn check_folder(data: &Path) -> Result<()> {
    refuse_half_restored(data)?;
    std::fs::create_dir_all(data).map_err(ArchivistError::disk("the data folder", data))?;
    Ok(format::open(data, PROGRAM, FORMAT)?)
}

fn refuse_half_restored(data: &Path) -> Result<()> {
    if !data.join(RESTORING).exists() {
        return Ok(());
    }
    Err(Error::new(
        format!("{}: a restore into this folder was not finished", data.display()),
        "Empty the folder and run `lotse-archivist restore` again.",
    )
    .into())
}

/// What was found sound.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Sound {
    cases: usize,
    fragments: usize,
    /// Not finished when they were copied.
    open: usize,
}

/// Makes a backup in `place`. Works beside a running archivist.
pub fn make(config: &Config, place: &Path, with_keys: bool) -> Result<()> {
    refuse_half_restored(&config.data)?;
    let known = format::check(&config.data, PROGRAM, FORMAT)?;
    if !config.data.is_dir() {
        return Err(Error::new(
            format!("{}: is no folder", config.data.display()),
            "Name the archivist's data folder in [data] dir (LOTSE_DATA_DIR).",
        )
        .into());
    }
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut writer = Writer::begin(place, PROGRAM, env!("CARGO_PKG_VERSION"), with_keys, now_ms)?;
    for case in journal::cases(&config.data) {
        copy_case(&mut writer, &config.data, case)?;
    }
    if with_keys {
        for name in keys::FILES {
            writer.copy(&config.keys.join(name), &format!("{KEYS}/{name}"))?;
        }
    }
    let sound = examine(&writer.folder().join(DATA))?;
    let manifest = writer.finish(json!({ "format": known, "sound": sound }))?;
    let bytes: u64 = manifest.files.values().map(|f| f.bytes).sum();
    let about_keys = if with_keys {
        "The keys are in it: keep it like the keys.".to_owned()
    } else {
        format!(
            "The keys are not in it: keep a copy of {} in another place. Without them fragments that were open cannot be saved, and this archivist has to be paired anew.",
            config.keys.display()
        )
    };
    println!(
        "{}",
        json!({ "kind": "backup", "folder": place, "files": manifest.files.len(), "bytes": bytes, "with_keys": with_keys, "keys": about_keys, "sound": sound })
    );
    Ok(())
}

/// Puts a backup into the empty data folder of these settings.
pub fn restore(config: &Config, from: &Path) -> Result<()> {
    let reader = Reader::open(from, PROGRAM)?;
    let data = &config.data;
    backup::refuse_filled(
        data,
        "Restore into an empty folder: set [data] dir (LOTSE_DATA_DIR) to one, or move this one away.",
    )?;
    let stored = reader.manifest.facts["format"].as_u64().unwrap_or(1);
    if stored > u64::from(FORMAT) {
        return Err(Error::new(
            format!("{}: holds data of a newer lotse-archivist (format {stored})", from.display()),
            "Restore it with that version.",
        )
        .into());
    }
    reader.check()?;
    let has_keys = keys::FILES.iter().any(|name| config.keys.join(name).exists());
    if reader.manifest.with_keys && !has_keys {
        reader.unpack(&format!("{KEYS}/"), &config.keys)?;
    }
    let half = data.join(RESTORING);
    reader.unpack(&format!("{DATA}/"), &half)?;
    // An index may be empty in all cases; the folder of cases is still there.
    let cases = half.join("cases");
    std::fs::create_dir_all(&cases).map_err(ArchivistError::disk("the case folder", &cases))?;
    let sound = examine(&half)?;
    if config.keys.join(keys::FILES[0]).exists() {
        examine_keys(&half, &Keys::open(&config.keys)?)?;
    }
    let moved = || -> std::io::Result<()> {
        std::fs::rename(&cases, data.join("cases"))?;
        lotse_operations::disk::sync_folder(data)?;
        // Its end says that everything is in place.
        std::fs::remove_dir_all(&half)?;
        lotse_operations::disk::sync_folder(data)
    };
    moved().map_err(ArchivistError::disk("the data folder", data))?;
    format::open(data, PROGRAM, FORMAT)?;
    println!("{}", json!({ "kind": "restored", "folder": data, "begun_ms": reader.manifest.begun_ms, "sound": sound }));
    Ok(())
}

/// One state of an index: its bytes up to the last whole line, and what they speak of.
struct Seen {
    text: Vec<u8>,
    open: HashSet<Uuid>,
    closed: HashMap<Uuid, Digest>,
}

fn read_index(path: &Path) -> std::result::Result<Seen, Error> {
    let mut text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::file(path, &e)),
    };
    // A line that is being written is not there yet.
    text.truncate(text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    let mut seen = Seen { text: Vec::new(), open: HashSet::new(), closed: HashMap::new() };
    for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let record: Record = serde_json::from_slice(line).map_err(|e| {
            Error::new(
                format!("{}: a line is not readable: {e}", path.display()),
                "Keep this folder as it is, and restore a backup elsewhere to compare.",
            )
        })?;
        match record {
            Record::Opened(o) => {
                seen.open.insert(o.fragment);
            }
            Record::Closed { fragment, media } => {
                seen.open.remove(&fragment);
                seen.closed.insert(fragment, media);
            }
            Record::Flushed(_) | Record::Committed { .. } => {}
        }
    }
    seen.text = text;
    Ok(seen)
}

fn copy_case(writer: &mut Writer, data: &Path, case: CaseId) -> std::result::Result<(), Error> {
    let index = data.join("cases").join(case.to_string()).join("index.jsonl");
    let fragments = journal::fragments_dir(data, case);
    let below = format!("{DATA}/cases/{case}");
    // What the log names by its digest never changes again.
    let finished = |writer: &mut Writer| -> std::result::Result<(), Error> {
        for name in names(&fragments)? {
            if let Ok(media) = name.parse::<Digest>() {
                copy_media(writer, &fragments.join(&name), &below, &media)?;
            }
        }
        Ok(())
    };
    for _ in 0..TRIES {
        let seen = read_index(&index)?;
        finished(writer)?;
        let mut whole = true;
        for (fragment, media) in &seen.closed {
            if writer.has(&format!("{below}/fragments/{media}")) {
                continue;
            }
            // Complete, but not yet named: take it from either name. Gone from both: an older index rewritten since.
            let part = fragment::part_path(&fragments, *fragment);
            let named = fragment::path(&fragments, media);
            match [&named, &part].into_iter().find(|p| p.exists()) {
                Some(path) if copy_media(writer, path, &below, media).is_ok() => {}
                Some(_) => whole = false,
                // The journal knows such fragments: nothing of them was ever on the disk.
                None => {}
            }
        }
        let mut growing = Vec::new();
        for fragment in &seen.open {
            let part = fragment::part_path(&fragments, *fragment);
            match std::fs::read(&part) {
                Ok(bytes) => growing.push((part, bytes)),
                Err(e) if e.kind() == ErrorKind::NotFound => whole = false,
                Err(e) => return Err(Error::file(&part, &e)),
            }
        }
        if !whole && read_index(&index)?.text != seen.text {
            continue;
        }
        for (part, bytes) in growing {
            let name = part.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            writer.write(&format!("{below}/fragments/{name}"), &bytes)?;
        }
        return writer.write(&format!("{below}/index.jsonl"), &seen.text);
    }
    Err(Error::new(
        format!("{}: changes faster than it can be copied", index.display()),
        "Make the backup again; to a faster disk if it stays.",
    ))
}

/// A finished fragment: its name is its digest.
fn copy_media(writer: &mut Writer, from: &Path, below: &str, media: &Digest) -> std::result::Result<(), Error> {
    let name = format!("{below}/fragments/{media}");
    if writer.has(&name) {
        return Ok(());
    }
    let hash = writer.copy(from, &name)?;
    if hash == media.0 {
        return Ok(());
    }
    Err(Error::new(
        format!("{}: its bytes have another digest; nothing was backed up", from.display()),
        "Keep this folder as it is, and take that file from an earlier backup.",
    ))
}

/// Names in a folder; none where there is no folder.
fn names(dir: &Path) -> std::result::Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file(dir, &e)),
    };
    Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

/// Every index is readable, and every finished fragment has the digest that is its name.
fn examine(data: &Path) -> std::result::Result<Sound, Error> {
    let mut sound = Sound::default();
    let mut progress = Progress::new("examine");
    for case in journal::cases(data) {
        read_index(&index_of(data, case))?;
        let dir = journal::fragments_dir(data, case);
        for name in names(&dir)? {
            let path = dir.join(&name);
            match name.parse::<Digest>() {
                Ok(media) => {
                    if backup::digest(&path, &mut progress)?.1 != media.0 {
                        return Err(Error::new(
                            format!(
                                "{}: its bytes have another digest ({} was expected)",
                                path.display(),
                                hex(&media.0)
                            ),
                            "Choose another backup.",
                        ));
                    }
                    sound.fragments += 1;
                }
                Err(_) => sound.open += 1,
            }
            progress.file();
        }
        sound.cases += 1;
    }
    Ok(sound)
}

/// The keys of fragments that the log may not have yet open under these keys.
fn examine_keys(data: &Path, keys: &Keys) -> std::result::Result<(), Error> {
    for case in journal::cases(data) {
        let path = index_of(data, case);
        let text = std::fs::read(&path).map_err(|e| Error::file(&path, &e))?;
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            if let Ok(index::Record::Opened(o)) = serde_json::from_slice(line)
                && keys.unwrap(&o.wrapped).is_none()
            {
                return Err(Error::new(
                    format!("case {case}: a fragment's key does not open with the keys in [data] keys"),
                    "Restore the keys that were made together with this archive first.",
                ));
            }
        }
    }
    Ok(())
}

fn index_of(data: &Path, case: CaseId) -> PathBuf {
    data.join("cases").join(case.to_string()).join("index.jsonl")
}
