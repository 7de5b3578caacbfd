//! Makes the case bundle: the whole log, every item opened, media from the own disk, signed by this archivist.
//!
//! Owns: collecting. The items are spooled sealed into a temporary folder, so one at a time is in memory.
//! Never: changes an item. Elsewhere: the layout of the tar (`lotse_verify::bundle`), who may have it (`grant`).

use std::{
    collections::HashSet,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_protocol::{
    chain::SignedHead,
    command::{ItemRef, SentEvent},
    envelope::{AuthorFields, Opened},
    id::{CaseId, Digest, ItemKey},
    item, kind,
};
use lotse_verify::bundle::{Draft, ItemKind, ending_of};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{
    archivist,
    config::Config,
    enrol,
    error::{ArchivistError, Result},
    fragment, journal,
    keys::{Enrolment, Keys},
};

/// Joining a case is two events; a slow disk of the server may take seconds for each.
const JOIN_WITHIN: Duration = Duration::from_secs(20);
/// A log above this is not fetched: some 100,000 events.
const MAX_LOG: usize = 512 * 1024 * 1024;

/// What is needed to speak to the server and find media.
pub struct Maker {
    pub config: Config,
    pub keys: Arc<Keys>,
    pub enrolment: Enrolment,
    pub http: reqwest::Client,
    /// Asks the archivist to join a case it is not in yet.
    pub wants: mpsc::Sender<archivist::Wanted>,
}

#[derive(Deserialize)]
struct LastLine {
    head: SignedHead,
}

/// An item the log names.
struct Wanted {
    digest: Digest,
    kind: ItemKind,
    key: Option<ItemKey>,
    bytes: Option<Vec<u8>>,
    ext: &'static str,
}

/// A file that is removed when dropped.
pub struct Spool(PathBuf);

impl Spool {
    fn new(data: &Path) -> Result<Self> {
        let dir = data.join("spool").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&dir).map_err(ArchivistError::disk("the spool folder", &dir))?;
        Ok(Self(dir))
    }

    fn item(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }

    pub fn tar(&self) -> PathBuf {
        self.0.join("bundle.tar")
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what an interrupted export left.
pub fn clean(data: &Path) {
    let _ = std::fs::remove_dir_all(data.join("spool"));
}

impl Maker {
    /// Writes the bundle of a case into a temporary file; it goes with the returned [`Spool`].
    /// Also gives the case's number, for the file name.
    pub async fn make(self: Arc<Self>, case: CaseId) -> Result<(Spool, String)> {
        let token = enrol::token(&self.http, &self.config, &self.keys.device_key(), &self.enrolment.device).await?;
        let spool = Spool::new(&self.config.data)?;
        let text = match self.get(&token, case, "bundle-log").await? {
            Some(text) => text,
            // No session has brought us there.
            None => {
                self.join(case).await?;
                let text = self.get(&token, case, "bundle-log").await?;
                text.ok_or_else(|| wrong("the server knows no such case"))?
            }
        };
        if text.len() > MAX_LOG {
            return Err(wrong("the log is too long for one bundle"));
        }
        let (events, head) = parse(&text)?;
        let (number, wanted) = list(&events)?;

        let mut draft = Draft::new(&number, head).map_err(|e| wrong(&e.to_string()))?;
        for event in &events {
            draft.event(&event.event).map_err(|e| wrong(&e.to_string()))?;
        }
        drop(events);
        for w in wanted {
            let sealed = match (w.key, w.bytes, w.kind) {
                (None, ..) => None,
                (Some(_), Some(bytes), _) => Some(bytes),
                (Some(_), None, ItemKind::Media) => {
                    let path = fragment::path(&journal::fragments_dir(&self.config.data, case), &w.digest);
                    tokio::fs::read(path).await.ok()
                }
                (Some(_), None, _) => self.get(&token, case, &format!("items/{}", w.digest)).await?,
            };
            let Some((sealed, key)) = sealed.zip(w.key) else {
                tracing::warn!(%case, digest = %w.digest, "an item is not in the bundle: its key or bytes are gone");
                draft.absent(w.digest, w.kind);
                continue;
            };
            let path = spool.item(&w.digest);
            draft = tokio::task::spawn_blocking(move || {
                draft.item(w.digest, w.kind, key, &sealed, w.ext).map_err(|e| wrong(&e.to_string()))?;
                std::fs::write(&path, sealed).map_err(ArchivistError::disk("the spool folder", path))?;
                Ok::<_, ArchivistError>(draft)
            })
            .await
            .map_err(|e| wrong(&e.to_string()))??;
        }

        let key = self.keys.device_key();
        let spool = tokio::task::spawn_blocking(move || {
            let bundle = draft.finish(&key).map_err(|e| wrong(&e.to_string()))?;
            let path = spool.tar();
            let write = || -> std::result::Result<(), lotse_verify::BundleError> {
                let mut out = std::io::BufWriter::new(std::fs::File::create(&path)?);
                bundle.write(&mut out, |digest| std::fs::read(spool.item(digest)))?;
                Ok(out.flush()?)
            };
            write().map_err(|e| wrong(&e.to_string()))?;
            Ok::<_, ArchivistError>(spool)
        })
        .await
        .map_err(|e| wrong(&e.to_string()))??;
        Ok((spool, number))
    }

    /// Until this archivist stands in the case, for everybody to see.
    async fn join(&self, case: CaseId) -> Result<()> {
        let (done, joined) = oneshot::channel();
        let late = || wrong("the case could not be joined: the server does not answer");
        self.wants.send((case, done)).await.map_err(|_| late())?;
        tokio::time::timeout(JOIN_WITHIN, joined).await.map_err(|_| late())?.map_err(|_| late())
    }

    /// `None`: the server says there is no such thing (any more), or not for us.
    async fn get(&self, token: &str, case: CaseId, what: &str) -> Result<Option<Vec<u8>>> {
        let fail = |why: String| ArchivistError::Server { url: self.config.server_url.clone(), why };
        let url = format!("{}/api/v1/cases/{case}/{what}", self.config.server_url);
        let reply = self.http.get(url).bearer_auth(token).send().await.map_err(|e| fail(e.to_string()))?;
        match reply.status().as_u16() {
            200 => Ok(Some(reply.bytes().await.map_err(|e| fail(e.to_string()))?.to_vec())),
            403 | 404 | 410 => Ok(None),
            other => Err(fail(format!("{what}: status {other}"))),
        }
    }
}

fn parse(text: &[u8]) -> Result<(Vec<SentEvent>, SignedHead)> {
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    let (last, events) = lines.split_last().ok_or_else(|| wrong("the server sent an empty log"))?;
    let last: LastLine = serde_json::from_slice(last).map_err(|e| wrong(&format!("the log's end: {e}")))?;
    let events = events
        .iter()
        .map(|l| serde_json::from_slice(l).map_err(|e| wrong(&format!("the log: {e}"))))
        .collect::<Result<_>>()?;
    Ok((events, last.head))
}

/// The case's number and every item, once.
fn list(events: &[SentEvent]) -> Result<(String, Vec<Wanted>)> {
    let mut number = String::new();
    let mut wanted = Vec::new();
    let mut seen = HashSet::new();
    for sent in events {
        let fields = AuthorFields::read(&sent.event.author)?;
        if fields.kind == kind::OPENED {
            number = fields.clear::<Opened>()?.number;
        }
        let given = |digest: &Digest| sent.items.iter().find(|i| i.digest == *digest);
        let bytes = |i: &ItemRef| i.bytes.as_ref().and_then(|b| STANDARD.decode(b).ok());
        let payload: Option<Value> = fields.item.as_ref().and_then(given).and_then(|i| {
            let (plain, _) = item::open(&i.key?, &bytes(i)?).ok()?;
            serde_json::from_slice(&plain).ok()
        });
        let ext = payload.as_ref().and_then(mime).map_or("bin", ending_of);
        let media = kind::attachments_are_media(&fields.kind);
        for (at, digest) in fields.items().enumerate() {
            if !seen.insert(*digest) {
                continue;
            }
            let is_payload = at == 0 && fields.item.is_some();
            let item = given(digest);
            wanted.push(Wanted {
                digest: *digest,
                kind: match (is_payload, media) {
                    (true, _) => ItemKind::Payload,
                    (false, true) => ItemKind::Media,
                    (false, false) => ItemKind::Attachment,
                },
                key: item.and_then(|i| i.key),
                bytes: item.and_then(bytes),
                ext: if is_payload { "json" } else { ext },
            });
        }
    }
    Ok((number, wanted))
}

/// The first `mime` in a payload.
fn mime(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) => map.get("mime").and_then(Value::as_str).or_else(|| map.values().find_map(mime)),
        Value::Array(list) => list.iter().find_map(mime),
        _ => None,
    }
}

fn wrong(why: &str) -> ArchivistError {
    ArchivistError::Bundle(why.to_owned())
}
