//! Checks a bundle: container, signature, chain, heads, items.
//!
//! Owns: the order of the check. The list of files and its signature come first, so that later findings can name their
//! file; then every file at the place the list gives it, item by item, 64 KiB at a time.
//! Never: stops at the first trouble where it can go on; trusts a length before comparing it with the file's.
//! Elsewhere: the log's own rules (`lotse_protocol::chain`), words (`trouble`), layout (`report`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use lotse_payload::recording::GapPayload;
use lotse_protocol::{
    chain::{self, Head, SignedHead},
    envelope,
    id::Digest,
    item::{CHUNK, Sealer},
};
use sha2::{Digest as _, Sha256};

use crate::{
    bundle::{self, FileEntry, ItemEntry, Keys, Manifest},
    log::LogReader,
    report::{Finding, Report},
    trouble::Trouble,
    ustar,
};

/// A list of files above this is not read: 300,000 items are 40 MiB.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;
/// Item keys above this are not read.
const MAX_KEYS: u64 = 512 * 1024 * 1024;
/// A signed head above this is not read.
const MAX_HEAD: u64 = 64 * 1024;
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// What to compare a bundle with.
#[derive(Debug, Default)]
pub struct Options {
    /// Fingerprint of the server's key, from a trusted source.
    pub server: Option<Digest>,
    /// Heads people kept.
    pub heads: Vec<GivenHead>,
}

/// The text of a [`SignedHead`] and the name it goes by.
#[derive(Debug)]
pub struct GivenHead {
    pub name: String,
    pub text: String,
}

/// Checks a whole bundle. An error means that it could not be read at all; everything else is in the report.
pub fn check<F: Read + Seek>(file: &mut F, options: &Options) -> io::Result<Report> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut check = Check { file: BufReader::with_capacity(PIECE, file), length, report: Report::default() };
    check.run(options)?;
    Ok(check.report)
}

struct Check<F: Read + Seek> {
    file: BufReader<F>,
    length: u64,
    report: Report,
}

impl<F: Read + Seek> Check<F> {
    fn run(&mut self, options: &Options) -> io::Result<()> {
        let Some((text, manifest)) = self.manifest()? else {
            return Ok(());
        };
        self.report.case = Some(manifest.case);
        self.report.number = manifest.number.clone();
        self.report.archivist = Some(envelope::fingerprint(&manifest.archivist));
        let total = total_size(&text, &manifest);
        if total != Some(self.length) {
            let expected = total.unwrap_or(u64::MAX);
            self.wrong("", Trouble::Length { expected, found: self.length });
        }
        self.signature(&text, &manifest, total)?;
        if let Some((name, expected)) = wrong_list(&manifest.files) {
            self.wrong(&name, Trouble::FileList { expected });
            return Ok(());
        }

        // The files, where the list says they are.
        let mut at = ustar::footprint(text.len() as u64);
        let mut files = manifest.files.iter();
        let mut next = || files.next();
        let (Some(log), Some(head), Some(keys)) = (next(), next(), next()) else {
            return Ok(());
        };
        let mut reader = LogReader::new(manifest.case);
        let whole = self.content(&mut at, log, |piece| reader.take(piece))?;
        reader.finish();
        self.take_log(&reader, &manifest, whole);
        if !whole {
            return Ok(());
        }

        let head = self.small(&mut at, head, MAX_HEAD)?;
        self.head(head.as_deref(), &reader, &manifest, options);
        if head.is_none() {
            return Ok(());
        }
        let keys = match self.small(&mut at, keys, MAX_KEYS)?.as_deref().map(serde_json::from_slice::<Keys>) {
            Some(Ok(keys)) => keys,
            Some(Err(e)) => {
                self.wrong(bundle::KEYS, Trouble::KeysUnreadable { why: e.to_string() });
                Keys::new()
            }
            None => return Ok(()),
        };
        self.key_list(&keys, &reader, &manifest);
        let mut opened = BTreeMap::new();
        for file in files {
            if !self.item(&mut at, file, &keys, &reader, &mut opened)? {
                return Ok(());
            }
        }
        self.end(at)?;
        self.vouchers(&reader, &opened, &manifest);
        self.gaps(&reader, &opened);
        Ok(())
    }

    /// Reads the list of files. `None`: nothing after it can be found.
    fn manifest(&mut self) -> io::Result<Option<(Vec<u8>, Manifest)>> {
        let mut header = [0; ustar::BLOCK as usize];
        if self.length < ustar::BLOCK {
            self.wrong("", Trouble::Length { expected: ustar::BLOCK, found: self.length });
            return Ok(None);
        }
        self.file.read_exact(&mut header)?;
        let size = ustar::size_of(&header).filter(|size| *size <= MAX_MANIFEST);
        if size.and_then(|size| ustar::header(bundle::MANIFEST, size)) != Some(header) {
            self.wrong(bundle::MANIFEST, Trouble::TarHeader);
        }
        let Some(size) = size else { return Ok(None) };
        if ustar::footprint(size) > self.length {
            self.wrong(bundle::MANIFEST, Trouble::Length { expected: ustar::footprint(size), found: self.length });
            return Ok(None);
        }
        let mut text = vec![0; size as usize];
        self.file.read_exact(&mut text)?;
        self.zeros(bundle::MANIFEST, ustar::padding(size), Trouble::TarPadding)?;
        match serde_json::from_slice::<Manifest>(&text) {
            Ok(manifest) if manifest.v != bundle::VERSION => {
                let why = format!("version {} is newer than this program understands; update it", manifest.v);
                self.wrong(bundle::MANIFEST, Trouble::Manifest { why });
                Ok(None)
            }
            Ok(manifest) => Ok(Some((text, manifest))),
            Err(e) => {
                self.wrong(bundle::MANIFEST, Trouble::Manifest { why: e.to_string() });
                Ok(None)
            }
        }
    }

    /// Looks for a good signature where the list puts it and, should the list's sizes be wrong, where the file ends.
    fn signature(&mut self, text: &[u8], manifest: &Manifest, total: Option<u64>) -> io::Result<()> {
        let from_end = ustar::END + ustar::footprint(bundle::SIGNATURE_SIZE) - ustar::BLOCK;
        let mut places: Vec<u64> =
            [total, Some(self.length)].into_iter().flatten().filter_map(|end| end.checked_sub(from_end)).collect();
        places.dedup();
        let back = self.file.stream_position()?;
        let mut good = false;
        for at in places {
            if at + bundle::SIGNATURE_SIZE > self.length {
                continue;
            }
            self.file.seek(SeekFrom::Start(at))?;
            let mut bytes = vec![0; bundle::SIGNATURE_SIZE as usize];
            self.file.read_exact(&mut bytes)?;
            let sig = String::from_utf8(bytes).ok().and_then(|t| t.parse().ok());
            good |= sig.is_some_and(|sig| {
                std::str::from_utf8(text).is_ok_and(|text| envelope::verify(&manifest.archivist, text, &sig).is_ok())
            });
        }
        if !good {
            self.wrong(&format!("{}, {}", bundle::MANIFEST, bundle::SIGNATURE), Trouble::Signature);
        }
        self.file.seek(SeekFrom::Start(back))?;
        Ok(())
    }

    /// Reads one file at its place, handing its content on in pieces. False when the bundle ends before it does.
    fn content(&mut self, at: &mut u64, file: &FileEntry, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let hash = self.raw(at, &file.name, file.size, &mut take)?;
        if hash.is_some_and(|h| h != file.sha256) {
            self.wrong(&file.name, Trouble::FileHash);
        }
        Ok(hash.is_some())
    }

    /// Header, content and padding of one file. Returns the hash of its content; `None` when the bundle ends before.
    fn raw(&mut self, at: &mut u64, name: &str, size: u64, take: &mut impl FnMut(&[u8])) -> io::Result<Option<Digest>> {
        let end = at.saturating_add(ustar::footprint(size));
        let cut = end > self.length;
        if at.saturating_add(ustar::BLOCK) > self.length {
            self.wrong(name, Trouble::Length { expected: end, found: self.length });
            return Ok(None);
        }
        let mut header = [0; ustar::BLOCK as usize];
        self.file.read_exact(&mut header)?;
        if ustar::header(name, size) != Some(header) {
            self.wrong(name, Trouble::TarHeader);
        }
        let mut hash = Sha256::new();
        let mut rest = if cut { (self.length - *at - ustar::BLOCK).min(size) } else { size };
        let mut piece = vec![0; PIECE];
        while rest > 0 {
            let n = rest.min(PIECE as u64) as usize;
            self.file.read_exact(&mut piece[..n])?;
            hash.update(&piece[..n]);
            take(&piece[..n]);
            rest -= n as u64;
        }
        if cut {
            self.wrong(name, Trouble::Length { expected: end, found: self.length });
            return Ok(None);
        }
        self.zeros(name, ustar::padding(size), Trouble::TarPadding)?;
        *at = end;
        Ok(Some(Digest(hash.finalize().into())))
    }

    fn small(&mut self, at: &mut u64, file: &FileEntry, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let whole = self.content(at, file, |piece| {
            if bytes.len() as u64 <= limit {
                bytes.extend_from_slice(piece);
            }
        })?;
        Ok(whole.then_some(bytes))
    }

    fn take_log(&mut self, log: &LogReader, manifest: &Manifest, whole: bool) {
        self.report.events = log.hashes.len() as u64;
        self.report.from_ms = log.from_ms;
        self.report.to_ms = log.to_ms;
        self.report.server = log.chain.server_key().map(|k| envelope::fingerprint(&k));
        for (event, trouble) in &log.troubles {
            // A log that ends inside a line is the cut already reported.
            if whole || !matches!(trouble, Trouble::LogLine { .. }) {
                self.report.findings.push(Finding {
                    file: bundle::LOG.into(),
                    event: event.clone(),
                    trouble: trouble.clone(),
                });
            }
        }
        if log.number.as_ref().is_some_and(|n| *n != manifest.number) {
            self.wrong(bundle::MANIFEST, Trouble::Number);
        }
    }

    fn head(&mut self, bytes: Option<&[u8]>, log: &LogReader, manifest: &Manifest, options: &Options) {
        if let (Some(asked), Some(found)) = (options.server, self.report.server) {
            if asked == found {
                self.report.server_known = true;
            } else {
                self.wrong("", Trouble::OtherServer { found });
            }
        }
        if let Some(bytes) = bytes {
            match self.read_head(bytes, log) {
                Err(trouble) => self.wrong(bundle::HEAD, trouble),
                Ok(head) => {
                    if head != manifest.head {
                        self.wrong(bundle::HEAD, Trouble::ManifestHead);
                    }
                    let events = log.hashes.len() as u64;
                    match chain::check_head(manifest.case, &log.hashes, &head) {
                        // A broken log was reported at its event; its hashes end there.
                        _ if log.is_broken() => {}
                        Err(e) => self.wrong(bundle::HEAD, Trouble::Chain(e)),
                        Ok(()) if head.seq < events => {
                            self.wrong(bundle::HEAD, Trouble::Unproven { proven: head.seq, events });
                        }
                        Ok(()) => {}
                    }
                }
            }
        }
        for given in &options.heads {
            match self.read_head(given.text.as_bytes(), log) {
                Err(Trouble::HeadWrong { why }) => self.wrong(&given.name, Trouble::GivenHead { why }),
                Err(trouble) => self.wrong(&given.name, trouble),
                Ok(head) => match chain::check_head(manifest.case, &log.hashes, &head) {
                    Ok(()) => self.report.heads += 1,
                    Err(e) => self.wrong(&given.name, Trouble::GivenHeadDisagrees(e)),
                },
            }
        }
    }

    fn read_head(&self, bytes: &[u8], log: &LogReader) -> Result<Head, Trouble> {
        let signed: SignedHead =
            serde_json::from_slice(bytes).map_err(|e| Trouble::HeadWrong { why: e.to_string() })?;
        let key = log.chain.server_key().ok_or(Trouble::HeadSignature)?;
        match chain::read_head(&signed, &key) {
            Ok(fields) => Ok(fields.head),
            Err(lotse_protocol::ProtocolError::BadSignature) => Err(Trouble::HeadSignature),
            Err(e) => Err(Trouble::HeadWrong { why: e.to_string() }),
        }
    }

    /// Keys, log and list must speak of the same items.
    fn key_list(&mut self, keys: &Keys, log: &LogReader, manifest: &Manifest) {
        let files: BTreeSet<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
        for (digest, entry) in keys {
            if !log.is_broken() && !log.items.contains_key(digest) {
                self.wrong(&digest.to_string(), Trouble::NotInLog);
            }
            match (&entry.file, entry.key) {
                (Some(file), Some(_)) if files.contains(file.as_str()) => {}
                (None, None) => self.report.absent.push(*digest),
                _ => {
                    let why = format!("item {digest} needs both a key and a file of the bundle, or neither");
                    self.wrong(bundle::KEYS, Trouble::KeysUnreadable { why });
                }
            }
        }
        for (digest, event) in &log.items {
            if !keys.contains_key(digest) {
                self.report.findings.push(Finding {
                    file: digest.to_string(),
                    event: Some(event.clone()),
                    trouble: Trouble::KeyAbsent,
                });
            }
        }
    }

    /// Seals one item again and compares with the log. False when the bundle ends inside it.
    fn item(
        &mut self,
        at: &mut u64,
        file: &FileEntry,
        keys: &Keys,
        log: &LogReader,
        opened: &mut BTreeMap<Digest, Vec<u8>>,
    ) -> io::Result<bool> {
        let digest = digest_of(&file.name);
        let entry = digest.and_then(|d| keys.get(&d)).filter(|e| e.file.as_deref() == Some(&file.name));
        let event = digest.and_then(|d| log.items.get(&d)).cloned();
        let (Some(digest), Some(ItemEntry { key: Some(key), chunks, .. })) = (digest, entry) else {
            self.wrong(&file.name, Trouble::NotInLog);
            return Ok(self.raw(at, &file.name, file.size, &mut |_| {})?.is_some());
        };
        let mut again = Resealed::new(*key, chunks);
        let wanted = log.vouchers.contains_key(&digest) || log.gaps.contains(&digest);
        let mut plain = Vec::new();
        let hash = self.raw(at, &file.name, file.size, &mut |piece| {
            again.take(piece);
            if wanted && plain.len() < CHUNK {
                plain.extend_from_slice(piece);
            }
        })?;
        let Some(hash) = hash else { return Ok(false) };
        let trouble = match again.finish() {
            None => Some(Trouble::ItemLength),
            Some(found) if found != digest => Some(Trouble::ItemChanged { digest: found }),
            Some(_) if hash != file.sha256 => Some(Trouble::FileHash),
            Some(_) => None,
        };
        match trouble {
            None => {
                self.report.items += 1;
                self.report.item_bytes += file.size;
                if wanted {
                    opened.insert(digest, plain);
                }
            }
            Some(trouble) => self.report.findings.push(Finding { file: file.name.clone(), event, trouble }),
        }
        Ok(true)
    }

    /// The signature's file (its content was checked before), and the end mark.
    fn end(&mut self, mut at: u64) -> io::Result<()> {
        if self.raw(&mut at, bundle::SIGNATURE, bundle::SIGNATURE_SIZE, &mut |_| {})?.is_none() {
            return Ok(());
        }
        let rest = ustar::END.min(self.length.saturating_sub(at));
        self.zeros("", rest, Trouble::TarEnd)
    }

    /// Each `joined` vouches for its case key; one of the archivists among them made the bundle.
    fn vouchers(&mut self, log: &LogReader, opened: &BTreeMap<Digest, Vec<u8>>, manifest: &Manifest) {
        let mut archivist_known = false;
        let mut unseen = false;
        for (digest, joined) in &log.vouchers {
            let Some(plain) = opened.get(digest) else {
                unseen = true;
                continue;
            };
            match joined.vouched_by(plain) {
                Some(key) => archivist_known |= joined.is_archivist() && key == manifest.archivist,
                None => self.report.findings.push(Finding {
                    file: bundle::LOG.into(),
                    event: Some(joined.event.clone()),
                    trouble: Trouble::Vouch,
                }),
            }
        }
        // With a payload missing or changed (reported above, or erased) it may be that one.
        if !archivist_known && !unseen && !log.is_broken() {
            self.wrong(bundle::SIGNATURE, Trouble::ArchivistUnknown);
        }
    }

    /// What the archivist itself says is missing: no forgery, and yet who judges the recording should know.
    fn gaps(&mut self, log: &LogReader, opened: &BTreeMap<Digest, Vec<u8>>) {
        for gap in log.gaps.iter().filter_map(|digest| opened.get(digest)) {
            if let Ok(gap) = serde_json::from_slice::<GapPayload>(gap) {
                self.report.gaps += 1;
                let us = u64::try_from(gap.to_us.saturating_sub(gap.from_us)).unwrap_or(0);
                self.report.missing_us = self.report.missing_us.saturating_add(us);
            }
        }
    }

    fn zeros(&mut self, name: &str, length: u64, trouble: Trouble) -> io::Result<()> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        if bytes.iter().any(|b| *b != 0) {
            self.wrong(name, trouble);
        }
        Ok(())
    }

    fn wrong(&mut self, file: &str, trouble: Trouble) {
        self.report.findings.push(Finding { file: file.into(), event: None, trouble });
    }
}

/// Seals plain bytes again as they come, in the given chunks.
struct Resealed<'a> {
    sealer: Sealer,
    hash: Sha256,
    chunks: std::slice::Iter<'a, u32>,
    /// Plain length of the chunk being gathered; `None` when no more are due.
    due: Option<usize>,
    chunk: Vec<u8>,
    failed: bool,
}

impl<'a> Resealed<'a> {
    fn new(key: lotse_protocol::id::ItemKey, chunks: &'a [u32]) -> Self {
        let mut chunks = chunks.iter();
        let due = chunks.next().map(|n| *n as usize);
        Self { sealer: Sealer::new(key), hash: Sha256::new(), chunks, due, chunk: Vec::new(), failed: false }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !self.failed && !bytes.is_empty() {
            let Some(due) = self.due.filter(|d| *d <= CHUNK) else {
                self.failed = true;
                return;
            };
            let n = (due - self.chunk.len()).min(bytes.len());
            self.chunk.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.seal_if_full();
        }
    }

    fn seal_if_full(&mut self) {
        while self.due == Some(self.chunk.len()) && !self.failed {
            match self.sealer.chunk(&self.chunk) {
                Ok(sealed) => self.hash.update(&sealed),
                Err(_) => self.failed = true,
            }
            self.chunk.clear();
            self.due = self.chunks.next().map(|n| *n as usize);
        }
    }

    /// The digest of the sealed item. `None` when the lengths do not fit.
    fn finish(mut self) -> Option<Digest> {
        self.seal_if_full();
        let whole = !self.failed && self.due.is_none() && self.sealer.chunks() > 0;
        whole.then(|| Digest(self.hash.finalize().into()))
    }
}

/// Length of the whole file by its list; `None` when it does not fit into a number.
fn total_size(text: &[u8], manifest: &Manifest) -> Option<u64> {
    let sizes = manifest.files.iter().map(|f| f.size).chain([text.len() as u64, bundle::SIGNATURE_SIZE]);
    sizes.into_iter().try_fold(ustar::END, |sum, size| {
        if size > ustar::MAX_SIZE { None } else { sum.checked_add(ustar::footprint(size)) }
    })
}

/// The first name that is not where a bundle has it, and what should stand there.
fn wrong_list(files: &[FileEntry]) -> Option<(String, String)> {
    for (i, expected) in [bundle::LOG, bundle::HEAD, bundle::KEYS].iter().enumerate() {
        match files.get(i) {
            Some(f) if f.name == *expected => {}
            other => {
                return Some((other.map(|f| f.name.clone()).unwrap_or_default(), expected.to_string()));
            }
        }
    }
    let mut last = None;
    for file in files.iter().skip(3) {
        match digest_of(&file.name) {
            Some(digest) if last.is_none_or(|l| l < digest) => last = Some(digest),
            _ => {
                return Some((file.name.clone(), format!("{}<digest>.<ending>", bundle::ITEMS)));
            }
        }
    }
    None
}

fn digest_of(name: &str) -> Option<Digest> {
    let (digest, ending) = name.strip_prefix(bundle::ITEMS)?.split_once('.')?;
    if bundle::is_ending(ending) { digest.parse().ok() } else { None }
}
