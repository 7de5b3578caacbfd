//! The folder of one case: index and fragments, and putting them together again after a crash.
//!
//! Owns: `index.jsonl` and `fragments/`. After `kill -9` the chunks that both the index and the file vouch for become a
//! short fragment; a tail cut anywhere is dropped. Never: opens a chunk, it only counts them.
//! Elsewhere: writing (`fragment`), the event that names a fragment (`case`).

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use lotse_protocol::{
    id::{CaseId, Digest, Pseudonym, TrackId},
    item,
};
use uuid::Uuid;

use crate::{
    error::{ArchivistError, Result},
    fragment::{self, Finished},
    index::{self, Flushed, Index, Opened, Record},
    keys::Keys,
};

/// What a track needs to go on with the same unwrapped times after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    pub origin: u64,
    pub last_rtp: u64,
    pub arrival_us: i64,
    pub end_us: i64,
}

/// One case on disk.
pub struct Journal {
    pub dir: PathBuf,
    index_path: PathBuf,
    index: Index,
}

/// What a start finds.
pub struct Recovered {
    pub journal: Journal,
    /// Finished fragments whose event may not be in the log yet, in order.
    pub waiting: Vec<Finished>,
    pub resume: HashMap<TrackId, Resume>,
    /// Where the media of each person ends on disk, server UTC in µs.
    pub ends: HashMap<Pseudonym, i64>,
    /// Whose media is missing since then; filled by the owner, who knows the log.
    pub down: HashMap<Pseudonym, i64>,
}

/// Every case folder under the data folder.
pub fn cases(data: &Path) -> Vec<CaseId> {
    let Ok(entries) = std::fs::read_dir(data.join("cases")) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Does the index of a case name anything that the log may not have?
pub fn has_work(data: &Path, case: CaseId) -> bool {
    let index = data.join("cases").join(case.to_string()).join("index.jsonl");
    std::fs::metadata(index).is_ok_and(|m| m.len() > 0)
}

pub fn fragments_dir(data: &Path, case: CaseId) -> PathBuf {
    data.join("cases").join(case.to_string()).join("fragments")
}

impl Journal {
    /// Opens a case's folder, finishing what a crash left open.
    pub fn open(data: &Path, case: CaseId, keys: &Keys) -> Result<Recovered> {
        let dir = fragments_dir(data, case);
        std::fs::create_dir_all(&dir).map_err(ArchivistError::disk("the case folder", &dir))?;
        let index_path = data.join("cases").join(case.to_string()).join("index.jsonl");
        let (mut index, records) = Index::open(&index_path).map_err(ArchivistError::disk("the index", &index_path))?;

        let mut opened: Vec<Opened> = Vec::new();
        let mut flushed: HashMap<Uuid, Vec<Flushed>> = HashMap::new();
        let mut closed: HashMap<Uuid, Digest> = HashMap::new();
        let mut committed: HashSet<Digest> = HashSet::new();
        for record in records {
            match record {
                Record::Opened(o) => opened.push(*o),
                Record::Flushed(f) => flushed.entry(f.fragment).or_default().push(f),
                Record::Closed { fragment, media } => {
                    closed.insert(fragment, media);
                }
                Record::Committed { media } => {
                    committed.insert(media);
                }
            }
        }

        let mut waiting = Vec::new();
        let mut resume = HashMap::new();
        let mut ends: HashMap<Pseudonym, i64> = HashMap::new();
        let mut known: HashSet<Uuid> = HashSet::new();
        for o in opened {
            known.insert(o.fragment);
            let lines = flushed.remove(&o.fragment).unwrap_or_default();
            let done = match closed.get(&o.fragment) {
                Some(media) => finish_closed(&dir, &o, &lines, *media),
                None => rescue(&dir, &o, &lines, &mut index),
            };
            let done = done.map_err(ArchivistError::disk("a fragment in", &dir))?;
            let Some((media, size, lines)) = done else { continue };
            if let Some(last) = lines.last() {
                let end = ends.entry(o.owner).or_insert(last.end_us);
                *end = (*end).max(last.end_us);
                resume.insert(
                    o.info.track,
                    Resume {
                        origin: o.origin,
                        last_rtp: last.rtp_end,
                        arrival_us: last.arrival_us,
                        end_us: last.end_us,
                    },
                );
            }
            if committed.contains(&media) {
                continue;
            }
            match keys.unwrap(&o.wrapped) {
                Some(key) => {
                    let payload = index::payload(&o, &lines, media, size);
                    waiting.push(Finished { session: o.session, payload, key });
                }
                None => {
                    tracing::error!(%case, %media, "the key of a fragment does not open: it belongs to another key file. Restore [data] keys from a backup.")
                }
            }
        }
        remove_strays(&dir, &known);
        let journal = Self { dir, index_path, index };
        Ok(Recovered { journal, waiting, resume, ends, down: HashMap::new() })
    }

    pub fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        self.index.append(records)
    }

    /// Forgets keys and times of fragments the log has; call when no session is open.
    pub fn forget(&mut self, in_log: &[Digest]) -> std::io::Result<()> {
        let (_, records) = Index::open(&self.index_path)?;
        let mut committed: HashSet<Digest> = in_log.iter().copied().collect();
        committed.extend(records.iter().filter_map(|r| match r {
            Record::Committed { media } => Some(*media),
            _ => None,
        }));
        let settled: HashSet<Uuid> = records
            .iter()
            .filter_map(|r| match r {
                Record::Closed { fragment, media } if committed.contains(media) => Some(*fragment),
                _ => None,
            })
            .collect();
        let keep: Vec<Record> = records
            .into_iter()
            .filter(|r| match r {
                Record::Opened(o) => !settled.contains(&o.fragment),
                Record::Flushed(f) => !settled.contains(&f.fragment),
                Record::Closed { fragment, .. } => !settled.contains(fragment),
                Record::Committed { .. } => false,
            })
            .collect();
        self.index = Index::rewrite(&self.index_path, &keep)?;
        Ok(())
    }
}

type Done = Option<(Digest, u64, Vec<Flushed>)>;

fn finish_closed(dir: &Path, o: &Opened, lines: &[Flushed], media: Digest) -> std::io::Result<Done> {
    if fragment::part_path(dir, o.fragment).exists() {
        fragment::name(dir, o.fragment, &media)?;
        fragment::keep_names(dir)?;
    }
    let Ok(meta) = std::fs::metadata(fragment::path(dir, &media)) else { return Ok(None) };
    // A rescue may have cut what later lines speak of.
    let (_, keep) = vouched(lines, meta.len() as usize);
    Ok(Some((media, meta.len(), lines[..keep].to_vec())))
}

/// How many bytes and lines fit into a file of `size` bytes.
fn vouched(lines: &[Flushed], size: usize) -> (usize, usize) {
    let (mut length, mut keep) = (item::HEADER, 0);
    for line in lines {
        let next = length + line.chunks.iter().map(|c| *c as usize + item::CHUNK_OVERHEAD).sum::<usize>();
        if next > size {
            break;
        }
        (length, keep) = (next, keep + 1);
    }
    (length, keep)
}

/// Cuts an unfinished fragment to what both file and index vouch for.
fn rescue(dir: &Path, o: &Opened, lines: &[Flushed], index: &mut Index) -> std::io::Result<Done> {
    let part = fragment::part_path(dir, o.fragment);
    let Ok(bytes) = std::fs::read(&part) else { return Ok(None) };
    let (whole, _) = item::whole_chunks(&bytes);
    let (length, keep) = vouched(lines, whole);
    if keep == 0 {
        std::fs::remove_file(&part)?;
        return Ok(None);
    }
    let file = std::fs::OpenOptions::new().write(true).open(&part)?;
    file.set_len(length as u64)?;
    file.sync_all()?;
    let media = Digest::of(&bytes[..length]);
    index.append(&[Record::Closed { fragment: o.fragment, media }])?;
    fragment::name(dir, o.fragment, &media)?;
    fragment::keep_names(dir)?;
    Ok(Some((media, length as u64, lines[..keep].to_vec())))
}

/// Files begun without a line in the index hold nothing anybody could open.
fn remove_strays(dir: &Path, known: &HashSet<Uuid>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let stray = name
            .to_str()
            .and_then(|n| n.strip_suffix(".part"))
            .and_then(|n| n.parse::<Uuid>().ok())
            .is_some_and(|id| !known.contains(&id));
        if stray {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
