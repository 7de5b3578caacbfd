//! The index of one case: an append-only file of JSON lines beside the fragments.
//!
//! Owns: what a fragment's sealed bytes do not say (track, times, wrapped key), durable before or with the bytes it
//! describes. A last line cut by a crash is dropped. Never: holds words, names or an item key in clear.
//! Elsewhere: putting index and bytes together after a crash (`journal`).

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use lotse_payload::recording::SegmentPayload;
use lotse_protocol::{
    id::{Digest, SessionId},
    signal::TrackInfo,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Sample;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Record {
    /// A fragment begins.
    Opened(Box<Opened>),
    /// These chunks are in its file, whole frames up to here.
    Flushed(Flushed),
    /// It is complete; its file is (or is about to be) named by its digest.
    Closed { fragment: Uuid, media: Digest },
    /// Its event is in the log; the key kept here is not needed any more.
    Committed { media: Digest },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub fragment: Uuid,
    pub session: SessionId,
    pub owner: lotse_protocol::id::Pseudonym,
    pub info: TrackInfo,
    pub mime: String,
    pub init_len: u32,
    pub rtp_start: u64,
    pub media_start_ms: u64,
    /// RTP time that is 0 ms in the container, for all fragments of the track.
    pub origin: u64,
    /// The item key under the archivist's own key.
    pub wrapped: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flushed {
    pub fragment: Uuid,
    /// Plain lengths of the new chunks.
    pub chunks: Vec<u32>,
    pub frames: u32,
    pub missing: u32,
    pub rtp_end: u64,
    /// Of the whole fragment, as known now.
    pub start_us: i64,
    pub end_us: i64,
    pub arrival_us: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock: Vec<Sample>,
    /// Loudness from the fragment's start, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<u8>,
}

/// The open file.
#[derive(Debug)]
pub struct Index {
    file: File,
}

impl Index {
    /// Opens or makes the file and reads every whole line.
    pub fn open(path: &Path) -> std::io::Result<(Self, Vec<Record>)> {
        let mut file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, good) = read(&bytes);
        file.set_len(good as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file }, records))
    }

    /// Appends lines and waits until the disk has them.
    pub fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let before = self.file.stream_position()?;
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // A half line would hide every later one.
            self.file.set_len(before)?;
            self.file.seek(SeekFrom::End(0))?;
        }
        written
    }

    /// Replaces the file by these records: what is committed needs no key here any more.
    pub fn rewrite(path: &Path, records: &[Record]) -> std::io::Result<Self> {
        let part = path.with_extension("new");
        let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&part)?;
        let mut index = Self { file };
        index.append(records)?;
        index.file.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(index)
    }
}

/// The whole lines at the front of an index, and how many bytes they are.
pub fn read(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let mut good = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else { break };
        let Ok(record) = serde_json::from_slice(text) else { break };
        records.push(record);
        good += line.len();
    }
    (records, good)
}

/// The payload of a fragment's event, from what the index says.
pub fn payload(opened: &Opened, flushed: &[Flushed], media: Digest, size: u64) -> SegmentPayload {
    let last = flushed.last();
    SegmentPayload {
        owner: opened.owner,
        info: opened.info.clone(),
        media,
        mime: opened.mime.clone(),
        init_len: opened.init_len,
        size,
        chunks: flushed.iter().flat_map(|f| f.chunks.iter().copied()).collect(),
        rtp_start: opened.rtp_start,
        rtp_end: last.map_or(opened.rtp_start, |f| f.rtp_end),
        start_us: last.map_or(0, |f| f.start_us),
        end_us: last.map_or(0, |f| f.end_us),
        media_start_ms: opened.media_start_ms,
        frames: flushed.iter().map(|f| f.frames).sum(),
        missing: flushed.iter().map(|f| f.missing).sum(),
        frame_ticks: flushed.iter().flat_map(|f| f.ticks.iter().copied()).collect(),
        clock: flushed.iter().flat_map(|f| f.clock.iter().copied()).collect(),
        levels: last.map(|f| f.levels.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_anywhere_leaves_the_lines_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.jsonl");
        let record = |n| Record::Flushed(Flushed { frames: n, ..Flushed::default() });
        let (mut index, none) = Index::open(&path).unwrap();
        assert!(none.is_empty());
        index.append(&[record(1), record(2)]).unwrap();
        let two = std::fs::metadata(&path).unwrap().len();
        index.append(&[record(3)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in two as usize..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut index, records) = Index::open(&path).unwrap();
            assert_eq!(records, [record(1), record(2)], "cut at {cut}");
            index.append(&[record(4)]).unwrap();
            assert_eq!(Index::open(&path).unwrap().1, [record(1), record(2), record(4)]);
        }
    }
}
