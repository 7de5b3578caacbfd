//! One fragment while it grows: container bytes, sealed in chunks, appended to its file.
//!
//! Owns: the open file, the seal and the counts of one fragment. A chunk is sealed once and never rewritten, and a flush
//! ends on a whole frame, so the file is its own journal. Never: decides when a fragment begins or ends (`track`).
//! Elsewhere: what a crash left (`journal`), the lines beside it (`index`).

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use lotse_payload::recording::SegmentPayload;
use lotse_protocol::{
    id::{Digest, ItemKey, Pseudonym, SessionId},
    item::{CHUNK, Sealer},
    signal::{Codec, TrackInfo},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    clock::Sample,
    depacketize::ParameterSets,
    index::{self, Flushed, Opened, Record},
    keys::{self, Keys},
    mp4, webm,
};

/// Loudness is told once per this time, ms.
pub const LEVEL_MS: u64 = 250;

/// What is known when a fragment begins.
#[derive(Debug, Clone)]
pub struct Begin<'a> {
    pub session: SessionId,
    pub owner: Pseudonym,
    pub info: &'a TrackInfo,
    pub rtp_start: u64,
    /// RTP time that is 0 in the container.
    pub origin: u64,
    pub parameters: &'a ParameterSets,
}

/// One frame with its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    pub rtp: u64,
    pub duration: u32,
    pub key: bool,
    pub data: Vec<u8>,
}

enum Container {
    Video { cluster_ms: u64 },
    Voice { cluster_ms: u64 },
    Mp4 { pieces: u32, start: Option<u64>, samples: Vec<mp4::Sample> },
}

/// A finished fragment, its file named by its digest.
#[derive(Debug, Clone)]
pub struct Finished {
    pub session: SessionId,
    pub payload: SegmentPayload,
    pub key: ItemKey,
}

/// A fragment being written.
pub struct Fragment {
    opened: Opened,
    flushed: Vec<Flushed>,
    next: Flushed,
    container: Container,
    /// Plain bytes that are no chunk yet.
    pending: Vec<u8>,
    sealer: Sealer,
    hash: Sha256,
    size: u64,
    /// How much of the file the index vouches for.
    flushed_size: u64,
    file: File,
    dir: PathBuf,
    rate: u64,
}

impl Fragment {
    /// Makes the file; nothing is in it before the first flush. `None` where the codec's parameters are not known yet.
    pub fn begin(dir: &Path, keys: &Keys, begin: Begin<'_>) -> std::io::Result<Option<(Self, Record)>> {
        let rate = u64::from(begin.info.codec.clock_rate());
        let media_start_ms = ms(begin.rtp_start, begin.origin, rate);
        let (info, parameters) = (begin.info, begin.parameters);
        let made = match info.codec {
            Codec::Vp8 => Some((
                webm::video_init(info.width, info.height),
                "video/webm; codecs=\"vp8\"".to_owned(),
                Container::Video { cluster_ms: media_start_ms },
            )),
            Codec::Opus => Some((
                webm::voice_init(),
                "audio/webm; codecs=\"opus\"".to_owned(),
                Container::Voice { cluster_ms: media_start_ms },
            )),
            Codec::H264 => {
                mp4::init(info.width, info.height, parameters).zip(mp4::codec_name(parameters)).map(|(init, codec)| {
                    let mime = format!("video/mp4; codecs=\"{codec}\"");
                    (init, mime, Container::Mp4 { pieces: 0, start: None, samples: Vec::new() })
                })
            }
        };
        let Some((init, mime, container)) = made else { return Ok(None) };
        let key = keys::item_key();
        let opened = Opened {
            fragment: Uuid::new_v4(),
            session: begin.session,
            owner: begin.owner,
            info: info.clone(),
            mime,
            init_len: init.len() as u32,
            rtp_start: begin.rtp_start,
            media_start_ms,
            origin: begin.origin,
            wrapped: keys.wrap(&key),
        };
        let file = File::create_new(part_path(dir, opened.fragment))?;
        let mut pending = init;
        if !matches!(container, Container::Mp4 { .. }) {
            webm::cluster(&mut pending, media_start_ms);
        }
        let record = Record::Opened(Box::new(opened.clone()));
        let fragment = Self {
            next: Flushed { fragment: opened.fragment, rtp_end: opened.rtp_start, ..Flushed::default() },
            opened,
            flushed: Vec::new(),
            container,
            pending,
            sealer: Sealer::new(key),
            hash: Sha256::new(),
            size: 0,
            flushed_size: 0,
            file,
            dir: dir.to_owned(),
            rate,
        };
        Ok(Some((fragment, record)))
    }

    pub fn rtp_start(&self) -> u64 {
        self.opened.rtp_start
    }

    /// Where the last frame added ends.
    pub fn rtp_end(&self) -> u64 {
        self.next.rtp_end
    }

    /// Adds a whole frame. Bytes that no longer fit into the pending chunk are sealed and written.
    pub fn add(&mut self, frame: Timed) -> std::io::Result<()> {
        let offset = ms(frame.rtp, self.opened.origin, self.rate);
        let end = ms(frame.rtp + u64::from(frame.duration), self.opened.origin, self.rate);
        let mut bytes = Vec::new();
        match &mut self.container {
            Container::Video { cluster_ms } => {
                webm::block(&mut bytes, offset.saturating_sub(*cluster_ms), end - offset, frame.key, &frame.data);
            }
            Container::Voice { cluster_ms } => {
                webm::simple_block(&mut bytes, offset.saturating_sub(*cluster_ms), &frame.data);
            }
            Container::Mp4 { start, samples, .. } => {
                start.get_or_insert(frame.rtp - self.opened.origin);
                let sample = mp4::Sample { duration: frame.duration, key: frame.key, data: frame.data };
                samples.push(sample);
                let waiting: usize = samples.iter().map(|s| s.data.len() + 12).sum();
                if waiting + self.pending.len() + 256 > CHUNK {
                    self.close_piece();
                }
            }
        }
        self.next.frames += 1;
        self.next.rtp_end = frame.rtp + u64::from(frame.duration);
        if self.opened.info.codec.is_video() {
            self.next.ticks.push((frame.rtp - self.opened.rtp_start) as u32);
        }
        if self.pending.len() + bytes.len() > CHUNK {
            self.seal_pending()?;
        }
        self.pending.extend_from_slice(&bytes);
        if self.pending.len() > CHUNK { self.seal_pending() } else { Ok(()) }
    }

    /// Frames or packets known to be missing here.
    pub fn add_missing(&mut self, count: u32) {
        self.next.missing = self.next.missing.saturating_add(count);
    }

    /// Loudness (0 silence to 127) at an RTP time inside the fragment.
    pub fn add_level(&mut self, rtp: u64, level: u8) {
        let slot = (rtp.saturating_sub(self.opened.rtp_start) * 1000 / self.rate / LEVEL_MS) as usize;
        // A fragment is seconds long; anything else is a broken clock.
        if slot < 256 {
            if self.next.levels.len() <= slot {
                self.next.levels.resize(slot + 1, 0);
            }
            let value = &mut self.next.levels[slot];
            *value = (*value).max(level);
        }
    }

    pub fn add_clock(&mut self, samples: impl IntoIterator<Item = Sample>) {
        self.next.clock.extend(samples);
    }

    /// Seals what is pending, waits for the disk, and gives the line that vouches for it. `None`: nothing new.
    pub fn flush(&mut self, start_us: i64, end_us: i64, arrival_us: i64) -> std::io::Result<Option<Record>> {
        self.close_piece();
        if self.next.frames == 0 {
            return Ok(None);
        }
        self.seal_pending()?;
        self.file.sync_data()?;
        self.flushed_size = self.size;
        let fresh = Flushed {
            fragment: self.opened.fragment,
            rtp_end: self.next.rtp_end,
            levels: self.next.levels.clone(),
            ..Flushed::default()
        };
        let mut done = std::mem::replace(&mut self.next, fresh);
        (done.start_us, done.end_us, done.arrival_us) = (start_us, end_us, arrival_us);
        self.flushed.push(done.clone());
        Ok(Some(Record::Flushed(done)))
    }

    /// Ends the fragment after its last flush. What was added and not flushed is dropped.
    /// The line must be in the index before [`name`] gives the file its final name.
    pub fn close(self) -> std::io::Result<Option<(Finished, Record)>> {
        let part = part_path(&self.dir, self.opened.fragment);
        if self.flushed.is_empty() {
            std::fs::remove_file(part)?;
            return Ok(None);
        }
        let media = if self.size == self.flushed_size {
            Digest(self.hash.finalize().into())
        } else {
            // Sealed but never vouched for: cut off.
            self.file.set_len(self.flushed_size)?;
            self.file.sync_all()?;
            Digest::of(&std::fs::read(part)?)
        };
        let payload = index::payload(&self.opened, &self.flushed, media, self.flushed_size);
        let finished = Finished { session: self.opened.session, payload, key: self.sealer.key() };
        Ok(Some((finished, Record::Closed { fragment: self.opened.fragment, media })))
    }

    pub fn id(&self) -> Uuid {
        self.opened.fragment
    }

    fn close_piece(&mut self) {
        if let Container::Mp4 { pieces, start, samples } = &mut self.container
            && let Some(at) = start.take()
        {
            *pieces += 1;
            let piece = mp4::piece(*pieces, at, samples);
            samples.clear();
            self.pending.extend_from_slice(&piece);
        }
    }

    fn seal_pending(&mut self) -> std::io::Result<()> {
        let bytes = std::mem::take(&mut self.pending);
        bytes.chunks(CHUNK).try_for_each(|chunk| self.write_chunk(chunk))
    }

    fn write_chunk(&mut self, plain: &[u8]) -> std::io::Result<()> {
        let sealed = self.sealer.chunk(plain).map_err(std::io::Error::other)?;
        if let Err(e) = self.file.write_all(&sealed) {
            // Part of a chunk is of no use, and a full disk may have taken part of it.
            self.file.set_len(self.size)?;
            return Err(e);
        }
        self.hash.update(&sealed);
        self.size += sealed.len() as u64;
        self.next.chunks.push(plain.len() as u32);
        Ok(())
    }
}

/// Container time of an RTP time, ms, rounded.
pub fn ms(rtp: u64, origin: u64, rate: u64) -> u64 {
    (rtp.saturating_sub(origin) * 1000 + rate / 2) / rate
}

/// The file of a fragment that grows.
pub fn part_path(dir: &Path, fragment: Uuid) -> PathBuf {
    dir.join(format!("{fragment}.part"))
}

/// The file of a finished fragment.
pub fn path(dir: &Path, media: &Digest) -> PathBuf {
    dir.join(media.to_string())
}

/// Gives a finished fragment its final name, which [`keep_names`] makes last. May be asked again after either failed.
pub fn name(dir: &Path, fragment: Uuid, media: &Digest) -> std::io::Result<()> {
    let (part, whole) = (part_path(dir, fragment), path(dir, media));
    match std::fs::rename(part, &whole) {
        // Renamed before, when only the folder could not be synced.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && whole.exists() => {}
        renamed => renamed?,
    }
    Ok(())
}

/// The names themselves must survive a power cut too. Once for many: each wait for a slow disk counts.
pub fn keep_names(dir: &Path) -> std::io::Result<()> {
    lotse_operations::disk::sync_folder(dir)
}
