//! Somebody who takes part: an expert or manager at a desk, or a technician whose device is this test.
//!
//! Owns: login or pairing, the keys of a device, what was committed and heard. Speaks the real protocol and checks what it
//! hears as every client must: each case's log is chained, folded and opened with `lotse-protocol`.
//! Never: knows a secret of the server. Elsewhere: sound and picture (`media`).

use std::{collections::HashMap, sync::Mutex, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_payload::case_card::{JoinedPayload, binding_text};
use lotse_protocol::{
    chain::{Chain, SignedHead},
    command::{CaseSummary, ClientMessage, ItemRef, MAX_INLINE_ITEM_BYTES, SentEvent, ServerMessage},
    envelope::{self, AuthorFields, Joined},
    id::{CaseId, DeviceId, Digest, EventId, ItemKey, Pseudonym, PublicKey, SessionId, Signature},
    item, kind,
    policy::Role,
    session::{Session, Sessions},
};
use reqwest::{Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::live::{Live, Proof};

/// A refusal as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub last_device_seq: Option<u64>,
}

/// An event to be: kind and session, what is clear, what is sealed.
#[derive(Default)]
pub struct Draft {
    pub kind: &'static str,
    pub session: Option<SessionId>,
    pub clear: Option<Value>,
    pub payload: Option<Value>,
    pub attachments: Vec<Vec<u8>>,
}

impl Draft {
    pub fn of(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        self.payload = Some(serde_json::to_value(payload).unwrap());
        self
    }

    pub fn attached(mut self, bytes: Vec<u8>) -> Self {
        self.attachments.push(bytes);
        self
    }
}

/// One's place in a case.
pub struct Place {
    pub me: Pseudonym,
    pub role: Role,
    pub device: DeviceId,
    pub key: SigningKey,
    pub seq: u64,
}

pub struct Person {
    pub url: String,
    pub name: String,
    pub http: reqwest::Client,
    pub proof: Proof,
    pub live: Live,
    pub device_key: SigningKey,
    /// Known to paired devices.
    pub server_key: Option<PublicKey>,
    pub device_name: Option<String>,
    pub(crate) places: Mutex<HashMap<CaseId, Place>>,
}

impl Person {
    /// With user and password, as a browser does.
    pub async fn log_in(url: &str, user: &str, password: &str) -> Result<Self, Refusal> {
        let http = client();
        let device_key = new_key();
        let body = json!({ "user": user, "password": password, "device_key": envelope::public_key(&device_key) });
        let reply = http.post(format!("{url}/api/v1/login")).header("origin", url).json(&body).send().await.unwrap();
        let reply = fine(reply).await?;
        let cookie = reply.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let name = reply.json::<Value>().await.unwrap()["name"].as_str().unwrap().to_owned();
        let proof = Proof::Cookie(cookie);
        let live = connect(url, &proof).await;
        Ok(Self {
            url: url.into(),
            name,
            http,
            proof,
            live,
            device_key,
            server_key: None,
            device_name: None,
            places: Mutex::default(),
        })
    }

    /// With a pairing code, as glasses do.
    pub async fn pair(url: &str, code: &str, name: &str) -> Self {
        let http = client();
        let device_key = new_key();
        let body = json!({ "code": code, "public_key": envelope::public_key(&device_key), "name": name });
        let reply = http.post(format!("{url}/api/v1/devices/pair")).json(&body).send().await.unwrap();
        let paired: Value = fine(reply).await.unwrap().json().await.unwrap();
        let device = paired["device"].as_str().unwrap().to_owned();
        let token = token(&http, url, &device, &device_key).await.unwrap();
        let proof = Proof::Token(token);
        let live = connect(url, &proof).await;
        Self {
            url: url.into(),
            name: name.into(),
            http,
            proof,
            live,
            device_key,
            server_key: serde_json::from_value(paired["server_key"].clone()).ok(),
            device_name: Some(device),
            places: Mutex::default(),
        }
    }

    /// A new socket, as after a lost link; cases have to be opened again.
    pub async fn reconnect(&mut self) {
        if let Some(device) = &self.device_name {
            self.proof = Proof::Token(token(&self.http, &self.url, device, &self.device_key).await.unwrap());
        }
        self.live = connect(&self.url, &self.proof).await;
    }

    // HTTP

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.proof {
            Proof::Cookie(cookie) => request.header("cookie", cookie).header("origin", &self.url),
            Proof::Token(token) => request.bearer_auth(token),
            Proof::Nothing => request,
        }
    }

    pub async fn get(&self, path: &str) -> Result<Response, Refusal> {
        fine(self.request(reqwest::Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Response, Refusal> {
        fine(self.request(reqwest::Method::POST, path).json(body).send().await.unwrap()).await
    }

    pub async fn put_item(&self, case: CaseId, digest: Digest, bytes: Vec<u8>) -> Result<StatusCode, Refusal> {
        let path = format!("/api/v1/cases/{case}/items/{digest}");
        let reply = self.request(reqwest::Method::PUT, &path).body(bytes).send().await.unwrap();
        Ok(fine(reply).await?.status())
    }

    /// A new case of one's own, joined.
    pub async fn new_case(&self, asset: &str) -> CaseId {
        let reply = self.post("/api/v1/cases", &json!({ "asset": asset, "language": "de" })).await.unwrap();
        let summary: CaseSummary = reply.json().await.unwrap();
        self.enter(summary.case).await;
        summary.case
    }

    /// The waiting calls, as soon as there is one that fits.
    pub async fn call_waiting(
        &self,
        fits: impl Fn(&lotse_protocol::command::Call) -> bool,
    ) -> lotse_protocol::command::Call {
        self.live
            .until("a waiting call", 0, |m| match m {
                ServerMessage::Queue { calls } => calls.iter().find(|c| c.waiting && fits(c)).cloned(),
                _ => None,
            })
            .await
    }

    // The log

    /// Opens a case on the socket, from `after` on.
    pub async fn open(&self, case: CaseId, after: u64) -> Result<(Pseudonym, Role, SignedHead), Refusal> {
        let mark = self.live.mark();
        self.live.say(&ClientMessage::OpenCase { case, after_seq: after, lean: false });
        self.live
            .until("the case opens", mark, |m| match m {
                ServerMessage::CaseOpened { case: c, me, role, head } if *c == case => {
                    Some(Ok((*me, *role, head.clone())))
                }
                ServerMessage::Refused { case: Some(c), id: None, error, .. } if *c == case => {
                    Some(Err(Refusal::live(&error.code, &error.message, None)))
                }
                _ => None,
            })
            .await
    }

    /// Opens the case and joins it with a new device and case key.
    pub async fn enter(&self, case: CaseId) -> Pseudonym {
        let (me, role, _) = self.open(case, 0).await.unwrap();
        let key = new_key();
        let case_key = envelope::public_key(&key);
        let place = Place { me, role, device: DeviceId(Uuid::now_v7()), key, seq: 0 };
        self.places.lock().unwrap().insert(case, place);
        let payload = JoinedPayload {
            name: self.name.clone(),
            device: "A test".into(),
            device_key: envelope::public_key(&self.device_key),
            device_sig: envelope::sign(&self.device_key, &binding_text(case, me, &case_key)),
        };
        let clear = serde_json::to_value(Joined { role, case_key }).unwrap();
        let joined = Draft { clear: Some(clear), ..Draft::of(kind::JOINED).payload(&payload) };
        self.commit(case, joined).await.unwrap();
        me
    }

    pub fn me(&self, case: CaseId) -> Pseudonym {
        self.places.lock().unwrap()[&case].me
    }

    /// Signs, seals, uploads what is large, commits, and waits for the answer.
    pub async fn commit(&self, case: CaseId, draft: Draft) -> Result<EventId, Refusal> {
        let (fields, items) = self.prepare(case, draft).await?;
        let (author, sig) = self.sign(case, &fields);
        self.commit_raw(case, fields.id, author, sig, items).await
    }

    /// Seals a draft's items and makes its fields, with the next device number.
    pub async fn prepare(&self, case: CaseId, draft: Draft) -> Result<(AuthorFields, Vec<ItemRef>), Refusal> {
        let mut items = Vec::new();
        let mut digests = Vec::new();
        let payload = draft.payload.map(|p| serde_json::to_vec(&p).unwrap());
        let has_payload = payload.is_some();
        for plain in payload.into_iter().chain(draft.attachments) {
            let sealed = item::seal(ItemKey(rand::random()), &plain);
            digests.push(sealed.digest);
            let bytes = if sealed.bytes.len() <= MAX_INLINE_ITEM_BYTES {
                Some(STANDARD.encode(&sealed.bytes))
            } else {
                self.put_item(case, sealed.digest, sealed.bytes).await?;
                None
            };
            items.push(ItemRef { digest: sealed.digest, key: Some(sealed.key), bytes });
        }
        let mut places = self.places.lock().unwrap();
        let place = places.get_mut(&case).expect("the case was entered");
        place.seq += 1;
        let coarse = kind::has_coarse_time(draft.kind);
        let now = now_ms();
        let fields = AuthorFields {
            v: envelope::VERSION,
            case,
            id: EventId(if coarse { Uuid::new_v4() } else { Uuid::now_v7() }),
            kind: draft.kind.into(),
            session: draft.session,
            author: place.me,
            device: place.device,
            device_seq: place.seq,
            captured_at_ms: if coarse { envelope::coarse(now) } else { now },
            item: has_payload.then(|| digests.remove(0)),
            attachments: digests,
            clear: draft.clear,
        };
        Ok((fields, items))
    }

    pub fn sign(&self, case: CaseId, fields: &AuthorFields) -> (String, Signature) {
        let author = fields.to_bytes();
        let sig = envelope::sign(&self.places.lock().unwrap()[&case].key, &author);
        (author, sig)
    }

    /// Commits exactly these bytes.
    pub async fn commit_raw(
        &self,
        case: CaseId,
        id: EventId,
        author: String,
        sig: Signature,
        items: Vec<ItemRef>,
    ) -> Result<EventId, Refusal> {
        let mark = self.live.mark();
        self.live.say(&ClientMessage::Commit { case, author, sig, items });
        self.live
            .until("an answer to a commit", mark, |m| match m {
                ServerMessage::Committed { id: found, .. } if *found == id => Some(Ok(id)),
                ServerMessage::Refused { id: found, error, last_device_seq, .. }
                    if found.is_none() || *found == Some(id) =>
                {
                    Some(Err(Refusal::live(&error.code, &error.message, *last_device_seq)))
                }
                _ => None,
            })
            .await
    }

    /// The log heard so far: chained and checked, each event once.
    pub fn log(&self, case: CaseId) -> Vec<(AuthorFields, SentEvent)> {
        let mut chain = Chain::new(case);
        let mut events = Vec::new();
        for message in self.live.heard() {
            if let ServerMessage::Event { case: c, event } = message
                && c == case
            {
                let (_, fields) = chain.push(&event.event).expect("the server sends the log whole and in order");
                events.push((fields, event));
            }
        }
        events
    }

    /// Waits for an event of this kind that fits; returns the first.
    pub async fn event(
        &self,
        case: CaseId,
        kind: &str,
        fits: impl Fn(&AuthorFields) -> bool,
    ) -> (AuthorFields, SentEvent) {
        self.event_within(case, kind, crate::live::PATIENCE, fits).await
    }

    pub async fn event_within(
        &self,
        case: CaseId,
        kind: &str,
        within: std::time::Duration,
        fits: impl Fn(&AuthorFields) -> bool,
    ) -> (AuthorFields, SentEvent) {
        self.live
            .until_within(&format!("an event `{kind}`"), 0, within, |m| match m {
                ServerMessage::Event { case: c, event } if *c == case => {
                    let fields = AuthorFields::read(&event.event.author).unwrap();
                    (fields.kind == kind && fits(&fields)).then(|| (fields, event.clone()))
                }
                _ => None,
            })
            .await
    }

    pub fn sessions(&self, case: CaseId) -> Sessions {
        let mut sessions = Sessions::default();
        self.log(case).iter().for_each(|(fields, _)| sessions.apply(fields));
        sessions
    }

    /// Waits until the session is as wanted.
    pub async fn session_is(&self, case: CaseId, what: &str, fits: impl Fn(&Session) -> bool) -> Session {
        crate::eventually(what, crate::live::PATIENCE * 2, async || {
            self.sessions(case).list.last().filter(|s| fits(s)).cloned()
        })
        .await
    }

    /// The payload of an event.
    pub async fn payload<T: DeserializeOwned>(&self, case: CaseId, fields: &AuthorFields, sent: &SentEvent) -> T {
        let digest = fields.item.expect("the event has a payload");
        serde_json::from_slice(&self.item(case, digest, sent).await).unwrap()
    }

    /// An item of an event, opened.
    pub async fn item(&self, case: CaseId, digest: Digest, sent: &SentEvent) -> Vec<u8> {
        let item = sent.items.iter().find(|i| i.digest == digest).expect("each digest has its entry");
        let key = item.key.expect("a member gets the key");
        let sealed = match &item.bytes {
            Some(bytes) => STANDARD.decode(bytes).unwrap(),
            None => {
                let reply = self.get(&format!("/api/v1/cases/{case}/items/{digest}")).await.unwrap();
                reply.bytes().await.unwrap().to_vec()
            }
        };
        item::open_as(&digest, &key, &sealed).unwrap()
    }

    // What people do

    /// Calls for an expert; the new session.
    pub async fn call(&self, case: CaseId) -> SessionId {
        let session = SessionId(Uuid::now_v7());
        self.commit(case, Draft::of(kind::SESSION_CALLED).session(session)).await.unwrap();
        session
    }

    /// Enters a case's session.
    pub async fn take(&self, case: CaseId, session: SessionId) {
        self.enter(case).await;
        self.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
    }

    /// Goes from a session; the case stays open.
    pub fn leave(&self, session: SessionId) {
        self.live.say(&ClientMessage::RtcLeave { session });
    }

    pub async fn answer(&self, case: CaseId, session: SessionId, answer: &'static str) {
        self.commit(case, Draft::of(answer).session(session)).await.unwrap();
    }

    /// A grant for replay or export, after giving a reason.
    pub async fn grant(&self, case: CaseId, verb: &str, reason: &str) -> Result<String, Refusal> {
        let kind = if verb == "export" { kind::EXPORTED } else { kind::VIEWED };
        if !self.places.lock().unwrap().contains_key(&case) {
            self.enter(case).await;
        }
        let event = self.commit(case, Draft::of(kind).payload(&json!({ "reason": reason }))).await?;
        let reply =
            self.post(&format!("/api/v1/cases/{case}/grants"), &json!({ "event": event, "verb": verb })).await?;
        Ok(reply.json::<Value>().await.unwrap()["grant"].as_str().unwrap().to_owned())
    }

    /// The case bundle, as a manager downloads it.
    pub async fn bundle(&self, case: CaseId) -> Vec<u8> {
        let grant = self.grant(case, "export", "Test").await.unwrap();
        let reply = self.get(&format!("/archive/cases/{case}/bundle?grant={grant}")).await.unwrap();
        reply.bytes().await.unwrap().to_vec()
    }
}

impl Refusal {
    fn live(code: &str, message: &str, last_device_seq: Option<u64>) -> Self {
        Self { status: 0, code: code.into(), message: message.into(), last_device_seq }
    }
}

/// A fresh token of a paired device.
pub async fn token(http: &reqwest::Client, url: &str, device: &str, key: &SigningKey) -> Result<String, Refusal> {
    let challenge = json!({ "device": device });
    let reply = http.post(format!("{url}/api/v1/devices/challenge")).json(&challenge).send().await.unwrap();
    let nonce = fine(reply).await?.json::<Value>().await.unwrap()["nonce"].as_str().unwrap().to_owned();
    let sig = envelope::sign(key, &format!("lotse-token-v1 {device} {nonce}"));
    let body = json!({ "device": device, "nonce": nonce, "sig": sig });
    let reply = http.post(format!("{url}/api/v1/devices/token")).json(&body).send().await.unwrap();
    Ok(fine(reply).await?.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned())
}

pub fn client() -> reqwest::Client {
    client_with(None)
}

/// Speaks TLS with whom this pin names.
pub fn client_with(pin: Option<lotse_trust::Pin>) -> reqwest::Client {
    let tls = lotse_trust::client_config(pin).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
    builder.timeout(std::time::Duration::from_secs(60)).build().unwrap()
}

/// The reply, or the refusal it holds: every failed reply must have the one shape.
pub async fn fine(reply: Response) -> Result<Response, Refusal> {
    let status = reply.status();
    if status.is_success() {
        return Ok(reply);
    }
    let text = reply.text().await.unwrap_or_default();
    let body: lotse_protocol::error::ErrorBody =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{status} without an error body ({e}): {text}"));
    Err(Refusal { status: status.as_u16(), code: body.error.code, message: body.error.message, last_device_seq: None })
}

async fn connect(url: &str, proof: &Proof) -> Live {
    let live = Live::connect(url, proof).await.unwrap();
    live.say(&ClientMessage::Hello { language: "en".into() });
    live
}

pub fn new_key() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// What `lotse-verify` says of a bundle, with the fingerprint that the pairing gave.
pub fn verify(bundle: &[u8], server: Digest) -> lotse_verify::Report {
    let options = lotse_verify::Options { server: Some(server), heads: vec![] };
    lotse_verify::check(&mut std::io::Cursor::new(bundle), &options).unwrap()
}
