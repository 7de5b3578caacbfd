//! The form of a backup: a folder of plain files and `backup.json`, which names every one with its size and SHA-256.
//!
//! Owns: writing it beside its name and renaming it when everything is on the disk, so that a folder of that name is whole;
//! finding what was changed. Never: compresses or encrypts (the items in it are sealed already), overwrites anything.
//! Elsewhere: which files, and whether they make sense (the programs).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, disk};

/// Of this form. A newer one is refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "backup.json";
/// The list's own SHA-256, so that a change in it is found too.
const SEAL: &str = "backup.sha256";
/// Lies in a backup that is being written, and is what allows a later one to remove it.
const UNFINISHED: &str = "unfinished";
/// What the folder's name ends with until the backup is whole.
const PARTIAL: &str = "partial";
/// Read and written at once, bytes.
const PIECE: usize = 256 * 1024;
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Files only their owner may read: all of it, for keys may be among them.
const MODE: u32 = 0o600;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub bytes: u64,
    pub sha256: String,
}

/// `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// `lotse-server` or `lotse-archivist`.
    pub program: String,
    pub version: String,
    /// UTC, ms since 1970: when it was begun. All that was acknowledged before is in it.
    pub begun_ms: i64,
    pub with_keys: bool,
    /// What the program says about it: counts, names of keys.
    pub facts: serde_json::Value,
    /// By path below the folder, with `/`.
    pub files: BTreeMap<String, Stored>,
}

/// Says on stderr how far it is, once a second, so that long work is seen to go on.
pub struct Progress {
    what: &'static str,
    files: u64,
    bytes: u64,
    told: Instant,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Self { what, files: 0, bytes: 0, told: Instant::now() }
    }

    pub fn file(&mut self) {
        self.files += 1;
        self.add(0);
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            eprintln!("{}: {} files, {} MiB so far", self.what, self.files, self.bytes >> 20);
        }
    }
}

fn unfinished(dir: &Path) -> Error {
    Error::new(format!("{}: this backup was never finished", dir.display()), "Choose another one; remove this one.")
}

/// A backup being written.
pub struct Writer {
    /// Where it will be.
    place: PathBuf,
    /// Where it is until then.
    part: PathBuf,
    manifest: Manifest,
    progress: Progress,
}

impl Writer {
    /// `place` must not exist, or be an empty folder.
    pub fn begin(place: &Path, program: &str, version: &str, with_keys: bool, now_ms: i64) -> Result<Self, Error> {
        refuse_filled(place, "Name a folder that does not exist yet: a backup never overwrites one.")?;
        let name = place
            .file_name()
            .ok_or_else(|| Error::new(format!("{}: is no name for a folder", place.display()), "Name a new folder."))?;
        let mut part = name.to_owned();
        part.push(".");
        part.push(PARTIAL);
        let part = place.with_file_name(part);
        // Killed before its end, or just before it got its name.
        if part.join(UNFINISHED).exists() || part.join(MANIFEST).exists() {
            fs::remove_dir_all(&part).map_err(|e| Error::file(&part, &e))?;
        }
        refuse_filled(&part, "Remove it: backups are written there until they are whole.")?;
        make_folder(&part)?;
        File::create(part.join(UNFINISHED)).and_then(|f| f.sync_all()).map_err(|e| Error::file(&part, &e))?;
        let manifest = Manifest {
            format: FORMAT,
            program: program.to_owned(),
            version: version.to_owned(),
            begun_ms: now_ms,
            with_keys,
            facts: serde_json::Value::Null,
            files: BTreeMap::new(),
        };
        Ok(Self { place: place.to_owned(), part, manifest, progress: Progress::new("backup") })
    }

    /// The folder that is being filled.
    pub fn folder(&self) -> &Path {
        &self.part
    }

    /// Copies a file. Returns its SHA-256.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<[u8; 32], Error> {
        self.copy_part(from, to, u64::MAX)
    }

    /// Copies at most the first `most` bytes of a file that may still grow.
    pub fn copy_part(&mut self, from: &Path, to: &str, most: u64) -> Result<[u8; 32], Error> {
        let target = self.part.join(to);
        make_folder(target.parent().unwrap_or(&self.part))?;
        let (bytes, hash) = copy(from, &target, most, &mut self.progress)?;
        self.note(to, bytes, hash);
        Ok(hash)
    }

    /// Stores a small file.
    pub fn write(&mut self, to: &str, bytes: &[u8]) -> Result<(), Error> {
        let target = self.part.join(to);
        make_folder(target.parent().unwrap_or(&self.part))?;
        create(&target)
            .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
            .map_err(|e| Error::file(&target, &e))?;
        self.note(to, bytes.len() as u64, Sha256::digest(bytes).into());
        Ok(())
    }

    /// Takes in a file that the program wrote into [`Writer::folder`] itself.
    pub fn adopt(&mut self, name: &str) -> Result<(), Error> {
        let path = self.part.join(name);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(MODE))
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|e| Error::file(&path, &e))?;
        let (bytes, hash) = digest(&path, &mut self.progress)?;
        self.note(name, bytes, hash);
        Ok(())
    }

    /// Is this file in it already?
    pub fn has(&self, name: &str) -> bool {
        self.manifest.files.contains_key(name)
    }

    fn note(&mut self, to: &str, bytes: u64, hash: [u8; 32]) {
        self.progress.file();
        self.manifest.files.insert(to.to_owned(), Stored { bytes, sha256: hex(&hash) });
    }

    /// Reads everything back from the disk, and only then gives the folder its name.
    pub fn finish(mut self, facts: serde_json::Value) -> Result<Manifest, Error> {
        self.manifest.facts = facts;
        let path = self.part.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(|e| Error::new(e, "Report this."))?;
        create(&path)
            .and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()))
            .map_err(|e| Error::file(&path, &e))?;
        let seal = self.part.join(SEAL);
        create(&seal)
            .and_then(|mut f| f.write_all(seal_of(&text).as_bytes()).and_then(|()| f.sync_all()))
            .map_err(|e| Error::file(&seal, &e))?;
        let failed = |e: &std::io::Error| Error::file(&self.part, e);
        fs::remove_file(self.part.join(UNFINISHED)).map_err(|e| failed(&e))?;
        Reader::open_any(&self.part, &self.manifest.program)?.check()?;
        for folder in folders(&self.part)? {
            disk::sync_folder(&folder).map_err(|e| failed(&e))?;
        }
        fs::rename(&self.part, &self.place).map_err(|e| Error::file(&self.place, &e))?;
        let above = self.place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk::sync_folder(above).map_err(|e| Error::file(above, &e))?;
        Ok(self.manifest)
    }
}

/// A whole backup.
pub struct Reader {
    dir: PathBuf,
    pub manifest: Manifest,
}

impl Reader {
    /// Reads what it says of itself.
    pub fn open(dir: &Path, program: &str) -> Result<Self, Error> {
        if dir.extension().is_some_and(|last| last == PARTIAL) {
            return Err(unfinished(dir));
        }
        Self::open_any(dir, program)
    }

    /// Also one that has not got its name yet.
    fn open_any(dir: &Path, program: &str) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        if dir.join(UNFINISHED).exists() {
            return Err(unfinished(dir));
        }
        let text = fs::read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(
                format!("{}: is no finished backup: it has no {MANIFEST}", dir.display()),
                "Name the folder that `backup` made.",
            ),
            _ => Error::file(&path, &e),
        })?;
        let damaged =
            |why: String| Error::new(format!("{}: is damaged: {why}", path.display()), "Choose another backup.");
        if fs::read(dir.join(SEAL)).ok().as_deref() != Some(seal_of(&text).as_bytes()) {
            return Err(damaged(format!("{SEAL} does not fit it")));
        }
        let any: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if any["format"].as_u64().is_some_and(|f| f > u64::from(FORMAT)) {
            return Err(Error::new(
                format!("{}: was made by a newer version (format {})", dir.display(), any["format"]),
                "Restore it with the version that made it, or a later one.",
            ));
        }
        let manifest: Manifest = serde_json::from_value(any).map_err(|e| damaged(e.to_string()))?;
        if manifest.program != program {
            return Err(Error::new(
                format!("{}: is a backup of {}", dir.display(), manifest.program),
                format!("Restore it with `{} restore`.", manifest.program),
            ));
        }
        if let Some(odd) = manifest.files.keys().find(|name| !is_below(name)) {
            return Err(damaged(format!("it names {odd}")));
        }
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Compares every file with the list, and the list with the folder. The message names each file that differs.
    pub fn check(&self) -> Result<(), Error> {
        let mut progress = Progress::new("verify");
        let mut wrong = Vec::new();
        for (name, stored) in &self.manifest.files {
            match digest(&self.path(name), &mut progress) {
                Ok((bytes, hash)) if bytes == stored.bytes && hex(&hash) == stored.sha256 => {}
                Ok((bytes, _)) if bytes != stored.bytes => {
                    wrong.push(format!("{name} has {bytes} bytes instead of {}", stored.bytes));
                }
                Ok(_) => wrong.push(format!("{name} was changed")),
                Err(e) => wrong.push(e.what),
            }
            progress.file();
        }
        for path in folders(&self.dir)?.iter().flat_map(|f| fs::read_dir(f).into_iter().flatten().flatten()) {
            let name = path.path().strip_prefix(&self.dir).unwrap_or(&path.path()).to_string_lossy().into_owned();
            let is_folder = path.file_type().is_ok_and(|t| t.is_dir());
            if !is_folder && name != MANIFEST && name != SEAL && !self.manifest.files.contains_key(&name) {
                wrong.push(format!("{name} does not belong to it"));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            format!("{}: this backup is damaged: {}", self.dir.display(), wrong.join("; ")),
            "Choose another backup, and look at the disk this one lies on.",
        ))
    }

    /// Copies every file below `from` in the backup to `to`, and compares what was written with the list.
    pub fn unpack(&self, from: &str, to: &Path) -> Result<(), Error> {
        let mut progress = Progress::new("restore");
        make_folder(to)?;
        for (name, stored) in &self.manifest.files {
            let Some(rest) = name.strip_prefix(from) else { continue };
            let target = to.join(rest);
            make_folder(target.parent().unwrap_or(to))?;
            copy(&self.path(name), &target, u64::MAX, &mut progress)?;
            let (bytes, hash) = digest(&target, &mut progress)?;
            if bytes != stored.bytes || hex(&hash) != stored.sha256 {
                return Err(Error::new(
                    format!("{name}: what was written is not what was read"),
                    "Look at the disks, then restore again into an empty folder.",
                ));
            }
            progress.file();
        }
        for folder in folders(to)? {
            disk::sync_folder(&folder).map_err(|e| Error::file(&folder, &e))?;
        }
        Ok(())
    }
}

/// A folder that has anything in it is an error with this remedy.
pub fn refuse_filled(dir: &Path, remedy: &str) -> Result<(), Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("{}: is not empty", dir.display()), remedy)),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::file(dir, &e)),
    }
}

/// Below a folder, without a way out.
fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty() && parts.all(|p| matches!(p, Component::Normal(_)))
}

fn make_folder(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::file(dir, &e))
}

fn create(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// This folder and all below it.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(folder) = found.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(&folder).map_err(|e| Error::file(&folder, &e))? {
            let entry = entry.map_err(|e| Error::file(&folder, &e))?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path, most: u64, progress: &mut Progress) -> Result<(u64, [u8; 32]), Error> {
    let source = File::open(from).map_err(|e| Error::file(from, &e))?;
    let mut target = create(to).map_err(|e| Error::file(to, &e))?;
    let copied =
        pieces(source, from, most, progress, |piece| target.write_all(piece).map_err(|e| Error::file(to, &e)))?;
    target.sync_all().map_err(|e| Error::file(to, &e))?;
    Ok(copied)
}

/// Size and SHA-256 of a file.
pub fn digest(path: &Path, progress: &mut Progress) -> Result<(u64, [u8; 32]), Error> {
    let file = File::open(path).map_err(|e| Error::file(path, &e))?;
    pieces(file, path, u64::MAX, progress, |_| Ok(()))
}

fn pieces(
    source: File,
    path: &Path,
    most: u64,
    progress: &mut Progress,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(u64, [u8; 32]), Error> {
    let mut source = source.take(most);
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece).map_err(|e| Error::file(path, &e))? {
            0 => return Ok((size, hash.finalize().into())),
            n => {
                hash.update(&piece[..n]);
                take(&piece[..n])?;
                size += n as u64;
                progress.add(n as u64);
            }
        }
    }
}

/// As sha256sum(1) writes it.
fn seal_of(text: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", hex(&Sha256::digest(text)))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path) -> PathBuf {
        let source = dir.join("source");
        fs::write(&source, b"sealed bytes").unwrap();
        let place = dir.join("monday");
        let mut writer = Writer::begin(&place, "lotse-test", "1", false, 7).unwrap();
        writer.copy(&source, "blobs/a").unwrap();
        writer.write("index", b"lines").unwrap();
        assert!(!place.exists(), "nothing of that name before it is whole");
        writer.finish(serde_json::json!({ "cases": 1 })).unwrap();
        place
    }

    #[test]
    fn a_backup_comes_back_byte_for_byte_and_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = made(dir.path());
        let reader = Reader::open(&place, "lotse-test").unwrap();
        reader.check().unwrap();
        let out = dir.path().join("out");
        reader.unpack("", &out).unwrap();
        assert_eq!(fs::read(out.join("blobs/a")).unwrap(), b"sealed bytes");
        assert!(reader.unpack("", &out).unwrap_err().to_string().contains("exists"));
        assert!(Writer::begin(&place, "lotse-test", "1", false, 7).err().unwrap().to_string().contains("not empty"));
        assert!(Reader::open(&place, "lotse-other").err().unwrap().to_string().contains("lotse-test restore"));
    }

    #[test]
    fn every_flipped_missing_or_added_byte_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let place = made(dir.path());
        let check = || Reader::open(&place, "lotse-test").unwrap().check();
        for (file, bytes) in [("blobs/a", &b"sealed_bytes"[..]), ("index", b"line")] {
            let before = fs::read(place.join(file)).unwrap();
            fs::write(place.join(file), bytes).unwrap();
            assert!(check().unwrap_err().to_string().contains(file));
            fs::write(place.join(file), before).unwrap();
            check().unwrap();
        }
        fs::write(place.join("blobs/b"), b"").unwrap();
        assert!(check().unwrap_err().to_string().contains("blobs/b does not belong"));
        fs::remove_file(place.join("blobs/b")).unwrap();
        fs::remove_file(place.join("blobs/a")).unwrap();
        assert!(check().unwrap_err().to_string().contains("blobs/a"));
    }

    #[test]
    fn one_cut_off_looks_like_none_and_the_next_one_clears_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("monday");
        let mut writer = Writer::begin(&place, "lotse-test", "1", false, 7).unwrap();
        writer.write("index", b"lines").unwrap();
        let part = writer.folder().to_owned();
        drop(writer);
        assert!(!place.exists() && part.exists());
        assert!(Reader::open(&part, "lotse-test").err().unwrap().to_string().contains("never finished"));
        made(dir.path());
        assert!(!part.exists());
    }

    #[test]
    fn a_list_that_leads_elsewhere_or_is_newer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = made(dir.path());
        let path = place.join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to, word) in [
            ("\"index\"", "\"../index\"", "../index"),
            ("\"index\"", "\"/etc/passwd\"", "/etc/passwd"),
            ("\"format\": 1", "\"format\": 2", "newer version"),
            ("\"files\"", "\"fles\"", "damaged"),
        ] {
            assert!(text.contains(from));
            let changed = text.replace(from, to);
            fs::write(&path, &changed).unwrap();
            let said = Reader::open(&place, "lotse-test").err().unwrap().to_string();
            assert!(said.contains("damaged: backup.sha256"), "{said}");
            fs::write(place.join(SEAL), seal_of(changed.as_bytes())).unwrap();
            let said = Reader::open(&place, "lotse-test").err().unwrap().to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
