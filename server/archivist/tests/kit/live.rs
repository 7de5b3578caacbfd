//! A participant of the integration tests: one account or device on the live socket of a real server, and programs.

#![allow(dead_code)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use lotse_payload::case_card::{JoinedPayload, binding_text};
use lotse_protocol::{
    command::{ClientMessage, ItemRef, SentEvent, ServerMessage},
    envelope::{AuthorFields, Joined, public_key, sign},
    id::{CaseId, DeviceId, EventId, ItemKey, Pseudonym, SessionId},
    item, kind,
    policy::Role,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
use uuid::Uuid;

/// A program of ours, ended with the test.
pub(crate) struct Program {
    child: Child,
    pub(crate) url: String,
}

impl Program {
    /// Starts a program of this build and waits for its ready line.
    pub(crate) fn start(name: &str, args: &[&str], env: &[(&str, String)]) -> Self {
        let path = program(name);
        let mut child = Command::new(&path)
            .args(args)
            .envs(env.iter().map(|(k, v)| (*k, v)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; build it first: cargo build -p {name}", path.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{name} did not get ready: {e}: {line}"));
        assert_eq!(ready["ready"], name);
        Self { child, url: ready["http"].as_str().unwrap().to_owned() }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A polite end.
    pub(crate) fn stop(&mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lotse-archivist")).with_file_name(name)
}

/// How somebody proves who they are.
pub(crate) enum Proof {
    Bearer(String),
    Cookie(String),
}

pub(crate) struct Peer {
    pub(crate) url: String,
    pub(crate) device_key: SigningKey,
    pub(crate) proof: Proof,
    say: mpsc::UnboundedSender<ClientMessage>,
    heard: Arc<Mutex<Vec<ServerMessage>>>,
    case_key: SigningKey,
    device: DeviceId,
    device_seq: u64,
    enrolled: String,
    pub(crate) case: Option<CaseId>,
    pub(crate) me: Option<Pseudonym>,
}

impl Peer {
    /// Glasses: paired by code.
    pub(crate) async fn device(url: &str, code: &str) -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let pair = json!({ "code": code, "public_key": public_key(&key), "name": "test glasses" });
        let paired = post(url, "pair", pair).await;
        let device = paired["device"].as_str().unwrap().to_owned();
        let token = token(url, &key, &device).await;
        let mut peer = Self::connect(url, key, Proof::Bearer(token)).await;
        peer.enrolled = device;
        peer
    }

    /// Glasses whose server was restarted: the same device and case, everything heard anew.
    pub(crate) async fn reconnect(&mut self) {
        let token = token(&self.url, &self.device_key, &self.enrolled).await;
        let fresh = Self::connect(&self.url, self.device_key.clone(), Proof::Bearer(token)).await;
        (self.proof, self.say, self.heard) = (fresh.proof, fresh.say, fresh.heard);
        self.say(ClientMessage::OpenCase { case: self.case.unwrap(), after_seq: 0, lean: false });
    }

    /// Somebody with a password.
    pub(crate) async fn login(url: &str, user: &str) -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let body = json!({ "user": user, "password": "lotse-demo", "device_key": public_key(&key) });
        let reply =
            http_client().post(format!("{url}/api/v1/login")).header("origin", url).json(&body).send().await.unwrap();
        assert!(reply.status().is_success());
        let cookie = reply.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        Self::connect(url, key, Proof::Cookie(cookie)).await
    }

    async fn connect(url: &str, device_key: SigningKey, proof: Proof) -> Self {
        let mut request = format!("{}/api/v1/live", url.replacen("http", "ws", 1)).into_client_request().unwrap();
        match &proof {
            Proof::Bearer(token) => {
                request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            Proof::Cookie(cookie) => {
                request.headers_mut().insert("cookie", cookie.parse().unwrap());
                request.headers_mut().insert("origin", url.parse().unwrap());
            }
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let (say, mut said) = mpsc::unbounded_channel::<ClientMessage>();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let list = heard.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    frame = socket.next() => match frame {
                        Some(Ok(Message::Text(t))) => list.lock().unwrap().push(serde_json::from_str(&t).unwrap()),
                        Some(Ok(_)) => {}
                        _ => return,
                    },
                    message = said.recv() => match message {
                        Some(m) => {
                            let text = serde_json::to_string(&m).unwrap();
                            if socket.send(Message::Text(text.into())).await.is_err() {
                                return;
                            }
                        }
                        None => return,
                    },
                }
            }
        });
        let peer = Self {
            url: url.to_owned(),
            device_key,
            proof,
            say,
            heard,
            case_key: SigningKey::from_bytes(&rand::random()),
            device: DeviceId(Uuid::now_v7()),
            device_seq: 0,
            enrolled: String::new(),
            case: None,
            me: None,
        };
        peer.say(ClientMessage::Hello { language: "en".into() });
        peer
    }

    pub(crate) fn say(&self, message: ClientMessage) {
        self.say.send(message).unwrap();
    }

    /// Waits until something heard (at or after `from`) fits.
    pub(crate) async fn until<T>(&self, what: &str, mut fits: impl FnMut(&ServerMessage) -> Option<T>) -> T {
        let began = Instant::now();
        let mut looked = 0;
        loop {
            let fresh: Vec<ServerMessage> = self.heard.lock().unwrap()[looked..].to_vec();
            looked += fresh.len();
            if let Some(found) = fresh.iter().find_map(&mut fits) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{what} did not come; events: {:?}", self.kinds());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn request(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> reqwest::Response {
        let mut request = http_client().request(method, format!("{}{path}", self.url));
        request = match &self.proof {
            Proof::Bearer(token) => request.bearer_auth(token),
            Proof::Cookie(cookie) => request.header("cookie", cookie).header("origin", &self.url),
        };
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// Opens a case and binds itself to it.
    pub(crate) async fn join(&mut self, case: CaseId, role: Role, name: &str) {
        self.case = Some(case);
        self.say(ClientMessage::OpenCase { case, after_seq: 0, lean: false });
        let me = self
            .until("case_opened", |m| match m {
                ServerMessage::CaseOpened { me, .. } => Some(*me),
                _ => None,
            })
            .await;
        self.me = Some(me);
        let case_key = public_key(&self.case_key);
        let payload = JoinedPayload {
            name: name.into(),
            device: "test".into(),
            device_key: public_key(&self.device_key),
            device_sig: sign(&self.device_key, &binding_text(case, me, &case_key)),
        };
        let clear = serde_json::to_value(Joined { role, case_key }).unwrap();
        self.commit(kind::JOINED, None, Some(serde_json::to_value(payload).unwrap()), Some(clear)).await;
    }

    /// Commits an event and waits until it is durable.
    pub(crate) async fn commit(
        &mut self,
        kind: &str,
        session: Option<SessionId>,
        payload: Option<Value>,
        clear: Option<Value>,
    ) -> EventId {
        let case = self.case.unwrap();
        let sealed = payload.map(|p| item::seal(ItemKey(rand::random()), &serde_json::to_vec(&p).unwrap()));
        self.device_seq += 1;
        let id = EventId(Uuid::now_v7());
        let fields = AuthorFields {
            v: 1,
            case,
            id,
            kind: kind.into(),
            session,
            author: self.me.unwrap(),
            device: self.device,
            device_seq: self.device_seq,
            captured_at_ms: now_us() / 1000,
            item: sealed.as_ref().map(|s| s.digest),
            attachments: Vec::new(),
            clear,
        };
        let author = fields.to_bytes();
        let items = sealed
            .iter()
            .map(|s| ItemRef { digest: s.digest, key: Some(s.key), bytes: Some(STANDARD.encode(&s.bytes)) })
            .collect();
        self.say(ClientMessage::Commit { case, sig: sign(&self.case_key, &author), author, items });
        let what = format!("the commit of {kind}");
        self.until(&what, |m| match m {
            ServerMessage::Committed { id: done, .. } if *done == id => Some(()),
            ServerMessage::Refused { id: Some(no), error, .. } if *no == id => panic!("{kind}: {error:?}"),
            _ => None,
        })
        .await;
        id
    }

    /// Everything of the log seen so far.
    pub(crate) fn events(&self) -> Vec<(AuthorFields, SentEvent)> {
        let heard = self.heard.lock().unwrap();
        let event = |m: &ServerMessage| match m {
            ServerMessage::Event { event, .. } => {
                Some((AuthorFields::read(&event.event.author).unwrap(), event.clone()))
            }
            _ => None,
        };
        heard.iter().filter_map(event).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.events().into_iter().map(|(f, _)| f.kind).collect()
    }

    /// Opened payloads of all events of a kind.
    pub(crate) fn payloads<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let of_kind = self.events().into_iter().filter(|(f, _)| f.kind == kind);
        of_kind
            .map(|(f, sent)| {
                let item = sent.items.iter().find(|i| Some(i.digest) == f.item).expect("an inline payload");
                let bytes = STANDARD.decode(item.bytes.as_ref().expect("bytes")).unwrap();
                let plain = item::open_as(&item.digest, &item.key.expect("a key"), &bytes).unwrap();
                serde_json::from_slice(&plain).unwrap()
            })
            .collect()
    }

    /// Waits until the log holds at least `count` events of a kind.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) {
        let began = Instant::now();
        while self.kinds().iter().filter(|k| *k == kind).count() < count {
            assert!(began.elapsed() < Duration::from_secs(30), "{count} x {kind} did not come: {:?}", self.kinds());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn post(url: &str, path: &str, body: Value) -> Value {
    let http = http_client();
    let reply = http.post(format!("{url}/api/v1/devices/{path}")).json(&body).send().await.unwrap();
    assert!(reply.status().is_success(), "{path}: {}", reply.text().await.unwrap());
    reply.json().await.unwrap()
}

async fn token(url: &str, key: &SigningKey, device: &str) -> String {
    let nonce = post(url, "challenge", json!({ "device": device })).await["nonce"].as_str().unwrap().to_owned();
    let sig = sign(key, &format!("lotse-token-v1 {device} {nonce}"));
    let token = post(url, "token", json!({ "device": device, "nonce": nonce, "sig": sig })).await;
    token["token"].as_str().unwrap().to_owned()
}

pub(crate) fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

fn http_client() -> reqwest::Client {
    lotse_trust::use_ring();
    reqwest::Client::new()
}
