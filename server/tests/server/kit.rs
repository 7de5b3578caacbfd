//! The kit: a server in its own folder, people who log in, devices that pair, sockets that speak the contract.
//!
//! Everything here goes over real sockets to the real program. Waiting is for an answer, never for a time.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use lotse_protocol::{
    command::{ClientMessage, ItemRef, SentEvent, ServerMessage},
    envelope::{self, AuthorFields, Joined, Left, LeftWhy},
    error::{ApiError, ErrorBody},
    id::{CaseId, DeviceId, EventId, ItemKey, Pseudonym, SessionId, Signature},
    item::{self, Sealed},
    kind,
    policy::Role,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};
use uuid::Uuid;

/// Longest wait for an answer. A lost participant takes 20 s; all else is far quicker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const DEMO_PASSWORD: &str = "lotse-demo";

/// A running server with the demo's people.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    pub(crate) seed: Vec<Value>,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further settings as `LOTSE_…` variables.
    pub(crate) async fn with(more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut env: Vec<(String, String)> = vec![
            ("LOTSE_DATA_DIR".into(), dir.path().join("data").display().to_string()),
            ("LOTSE_DATA_KEYS".into(), dir.path().join("keys").display().to_string()),
            ("LOTSE_HTTP_LISTEN".into(), "127.0.0.1:0".into()),
            ("LOTSE_MEDIA_UDP_PORT".into(), "0".into()),
            ("LOTSE_MEDIA_WORKERS".into(), "1".into()),
        ];
        env.extend(more.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        let mut world = Self { dir, url: String::new(), seed: vec![], env, child: None };
        let seeded = world.program(&["admin", "seed-demo"]).output().expect("the program runs");
        assert!(seeded.status.success(), "{}", String::from_utf8_lossy(&seeded.stderr));
        world.seed = lines(&seeded.stdout);
        world.serve();
        world
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lotse-server"));
        command.args(arguments).envs(self.env.iter().cloned()).env("LOTSE_LOG", "warn");
        command
    }

    pub(crate) fn serve(&mut self) {
        let mut child = self.program(&["serve"]).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a ready line");
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        assert_eq!(ready["ready"], "lotse-server");
        // Not how people reach it: a test may name a public address that nobody has.
        self.url = format!("http://{}", ready["listen"].as_str().expect("an address"));
        self.child = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.take().expect("running").wait().expect("it ends")
    }

    pub(crate) fn code(&self, device: &str) -> String {
        let found = self.seed.iter().find(|l| l["kind"] == "pairing" && l["name"] == device);
        found.expect("a code of that name")["code"].as_str().expect("text").to_owned()
    }

    pub(crate) async fn login(&self, user: &str) -> Person {
        let response = self.post("/api/v1/login", json!({ "user": user, "password": DEMO_PASSWORD })).await;
        assert_eq!(response.status(), StatusCode::OK, "{user} logs in");
        Person { url: self.url.clone(), proof: Proof::Cookie(cookie_of(&response)), key: None }
    }

    /// Pairs a device of the demo and proves its key.
    pub(crate) async fn pair(&self, device: &str) -> Person {
        let key = fresh_key();
        let body = json!({ "code": self.code(device), "public_key": envelope::public_key(&key), "name": device });
        let response = self.post("/api/v1/devices/pair", body).await;
        assert_eq!(response.status(), StatusCode::OK, "{device} pairs");
        let id = json_of(response).await["device"].as_str().expect("an id").to_owned();
        let token = self.token(&id, &key).await;
        Person { url: self.url.clone(), proof: Proof::Token(token), key: Some((id, key)) }
    }

    pub(crate) async fn token(&self, device: &str, key: &SigningKey) -> String {
        let nonce = json_of(self.post("/api/v1/devices/challenge", json!({ "device": device })).await).await;
        let nonce = nonce["nonce"].as_str().expect("a nonce");
        let sig = envelope::sign(key, &format!("lotse-token-v1 {device} {nonce}"));
        let body = json!({ "device": device, "nonce": nonce, "sig": sig });
        let response = self.post("/api/v1/devices/token", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        json_of(response).await["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        http().post(format!("{}{path}", self.url)).json(&body).send().await.expect("an answer")
    }

    /// A case opened by this technician, with nobody in it yet.
    pub(crate) async fn case(&self, opener: &Person) -> CaseId {
        let response = opener.request(Method::POST, "/api/v1/cases").json(&json!({ "language": "de" })).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), StatusCode::CREATED);
        json_of(response).await["case"].as_str().expect("an id").parse().expect("a case id")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) enum Proof {
    Cookie(String),
    Token(String),
}

/// Somebody who is logged in or paired.
pub(crate) struct Person {
    pub(crate) url: String,
    pub(crate) proof: Proof,
    /// A device's id and key.
    pub(crate) key: Option<(String, SigningKey)>,
}

impl Person {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = http().request(method, format!("{}{path}", self.url));
        match &self.proof {
            Proof::Cookie(cookie) => {
                request.header("cookie", format!("lotse_session={cookie}")).header("origin", &self.url)
            }
            Proof::Token(token) => request.bearer_auth(token),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await.expect("an answer")
    }

    /// A live socket that said hello.
    pub(crate) async fn connect(&self) -> Live {
        let mut live = self.try_connect(Some(&self.url)).await.expect("the socket opens");
        live.say(&ClientMessage::Hello { language: "en".into() }).await;
        live
    }

    /// A live socket as a page of `origin` would open it. `Err`: the HTTP status.
    pub(crate) async fn try_connect(&self, origin: Option<&str>) -> Result<Live, u16> {
        let address = format!("{}/api/v1/live", self.url.replace("http://", "ws://"));
        let mut request = address.into_client_request().expect("an address");
        let header = |text: &str| HeaderValue::from_str(text).expect("a header value");
        match &self.proof {
            Proof::Cookie(cookie) => {
                request.headers_mut().insert("cookie", header(&format!("lotse_session={cookie}")));
                if let Some(origin) = origin {
                    request.headers_mut().insert("origin", header(origin));
                }
            }
            Proof::Token(token) => {
                request.headers_mut().insert("authorization", header(&format!("Bearer {token}")));
            }
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((ws, _)) => Ok(Live { ws, seen: vec![] }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(e) => panic!("no socket: {e}"),
        }
    }
}

/// A live socket.
pub(crate) struct Live {
    pub(crate) ws: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    /// Passed over while waiting for something else.
    pub(crate) seen: Vec<ServerMessage>,
}

impl Live {
    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        let text = serde_json::to_string(message).expect("serialises");
        self.ws.send(Message::text(text)).await.expect("it is sent");
    }

    /// The next message; `None`: closed.
    pub(crate) async fn next(&mut self) -> Option<ServerMessage> {
        let next = async {
            loop {
                match self.ws.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")));
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a message in time")
    }

    /// Waits for the first message of which `pick` makes something.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(&ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the socket is open");
            let picked = pick(&message);
            self.seen.push(message);
            if let Some(picked) = picked {
                return picked;
            }
        }
    }

    /// Why the server closed the socket.
    pub(crate) async fn close_reason(&mut self) -> String {
        let closed = async {
            loop {
                match self.ws.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
                    Some(Ok(_)) => {}
                    other => panic!("no reason was given: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("closed in time")
    }

    /// Opens a case from the start and becomes somebody in it.
    pub(crate) async fn open(&mut self, case: CaseId) -> Author {
        let (me, role) = self.open_after(case, 0).await;
        Author::new(case, me, role)
    }

    pub(crate) async fn open_after(&mut self, case: CaseId, after_seq: u64) -> (Pseudonym, Role) {
        self.say(&ClientMessage::OpenCase { case, after_seq, lean: false }).await;
        self.until(|m| match m {
            ServerMessage::CaseOpened { case: c, me, role, .. } if *c == case => Some((*me, *role)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn caught_up(&mut self) -> u64 {
        self.until(|m| if let ServerMessage::CaughtUp { head, .. } = m { Some(head.seq) } else { None }).await
    }

    /// Opens, joins, and takes this author from there.
    pub(crate) async fn enter(&mut self, case: CaseId) -> Author {
        let mut author = self.open(case).await;
        let joined = author.joined();
        self.commit(&joined).await.expect("joined");
        author
    }

    /// Sends a commit and waits for its fate.
    pub(crate) async fn commit(&mut self, event: &Event) -> Result<u64, ApiError> {
        self.say(&event.message()).await;
        self.fate(event.id).await
    }

    pub(crate) async fn fate(&mut self, id: EventId) -> Result<u64, ApiError> {
        self.until(|m| match m {
            ServerMessage::Committed { id: i, seq, .. } if *i == id => Some(Ok(*seq)),
            ServerMessage::Refused { id: Some(i), error, .. } if *i == id => Some(Err(error.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> ApiError {
        self.until(|m| if let ServerMessage::Refused { error, .. } = m { Some(error.clone()) } else { None }).await
    }

    /// The next event of this kind.
    pub(crate) async fn event(&mut self, kind: &str) -> (AuthorFields, SentEvent) {
        self.until(|m| match m {
            ServerMessage::Event { event, .. } => {
                let fields = AuthorFields::read(&event.event.author).expect("author bytes");
                (fields.kind == kind).then(|| (fields, event.clone()))
            }
            _ => None,
        })
        .await
    }

    /// Who left, and why.
    pub(crate) async fn left(&mut self) -> (Pseudonym, LeftWhy) {
        let left: Left = self.event(kind::SESSION_LEFT).await.0.clear().expect("clear fields");
        (left.who, left.why)
    }

    /// Everything that comes before the answer to a ping sent now: what would have come has come.
    pub(crate) async fn settled(&mut self) -> Vec<ServerMessage> {
        let from = self.seen.len();
        let mark = self.seen.len() as i64 + 7_000_000;
        self.say(&ClientMessage::Ping { t0_us: mark }).await;
        self.until(|m| matches!(m, ServerMessage::Pong { t0_us, .. } if *t0_us == mark).then_some(())).await;
        self.seen[from..].to_vec()
    }
}

/// A signed event with its items, as it is sent.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) case: CaseId,
    pub(crate) id: EventId,
    pub(crate) author: String,
    pub(crate) sig: Signature,
    pub(crate) items: Vec<ItemRef>,
}

impl Event {
    pub(crate) fn message(&self) -> ClientMessage {
        let Event { case, author, sig, items, .. } = self.clone();
        ClientMessage::Commit { case, author, sig, items }
    }
}

/// Somebody in a case: a pseudonym, a device, its case key and its counter.
pub(crate) struct Author {
    pub(crate) case: CaseId,
    pub(crate) me: Pseudonym,
    pub(crate) role: Role,
    pub(crate) device: DeviceId,
    pub(crate) key: SigningKey,
    pub(crate) seq: u64,
}

impl Author {
    pub(crate) fn new(case: CaseId, me: Pseudonym, role: Role) -> Self {
        Self { case, me, role, device: DeviceId(Uuid::new_v4()), key: fresh_key(), seq: 0 }
    }

    pub(crate) fn joined(&mut self) -> Event {
        let clear = Joined { role: self.role, case_key: envelope::public_key(&self.key) };
        let clear = serde_json::to_value(clear).expect("serialises");
        self.make(kind::JOINED, None, Some(b"somebody's name"), &[], Some(clear))
    }

    /// An event with a sealed payload.
    pub(crate) fn say(&mut self, kind: &str, session: Option<SessionId>, payload: &[u8]) -> Event {
        self.make(kind, session, Some(payload), &[], None)
    }

    /// An event without a payload.
    pub(crate) fn bare(&mut self, kind: &str, session: Option<SessionId>) -> Event {
        self.make(kind, session, None, &[], None)
    }

    pub(crate) fn make(
        &mut self,
        kind: &str,
        session: Option<SessionId>,
        payload: Option<&[u8]>,
        attachments: &[&Sealed],
        clear: Option<Value>,
    ) -> Event {
        let sealed = payload.map(|p| item::seal(fresh_item_key(), p));
        let mut items: Vec<ItemRef> = sealed.iter().map(inline).collect();
        items.extend(attachments.iter().map(|s| ItemRef { digest: s.digest, key: Some(s.key), bytes: None }));
        let fields = self.fields(kind, session, sealed.as_ref(), attachments, clear);
        self.sign(fields, items)
    }

    pub(crate) fn fields(
        &mut self,
        kind: &str,
        session: Option<SessionId>,
        payload: Option<&Sealed>,
        attachments: &[&Sealed],
        clear: Option<Value>,
    ) -> AuthorFields {
        self.seq += 1;
        let coarse = kind::has_coarse_time(kind);
        let now = now_ms();
        AuthorFields {
            v: 1,
            case: self.case,
            id: EventId(if coarse { Uuid::new_v4() } else { Uuid::now_v7() }),
            kind: kind.into(),
            session,
            author: self.me,
            device: self.device,
            device_seq: self.seq,
            captured_at_ms: if coarse { envelope::coarse(now) } else { now },
            item: payload.map(|s| s.digest),
            attachments: attachments.iter().map(|s| s.digest).collect(),
            clear,
        }
    }

    pub(crate) fn sign(&self, fields: AuthorFields, items: Vec<ItemRef>) -> Event {
        let author = fields.to_bytes();
        let sig = envelope::sign(&self.key, &author);
        Event { case: fields.case, id: fields.id, author, sig, items }
    }
}

pub(crate) fn inline(sealed: &Sealed) -> ItemRef {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    ItemRef { digest: sealed.digest, key: Some(sealed.key), bytes: Some(STANDARD.encode(&sealed.bytes)) }
}

/// Technician, expert and archivist of one session, all present and consenting.
pub(crate) struct Scene {
    pub(crate) case: CaseId,
    pub(crate) session: SessionId,
    pub(crate) technician: (Live, Author),
    pub(crate) expert: (Live, Author),
    pub(crate) archivist: (Live, Author),
    pub(crate) archivist_person: Person,
    pub(crate) technician_person: Person,
}

impl Scene {
    pub(crate) async fn recorded(world: &World) -> Self {
        let mut scene = Self::called(world).await;
        let session = Some(scene.session);
        for (live, author) in [&mut scene.technician, &mut scene.expert] {
            let yes = author.say(kind::CONSENT_RECORD, session, b"yes");
            live.commit(&yes).await.expect("consent");
        }
        scene
    }

    /// Called, taken and attended; nobody has answered yet.
    pub(crate) async fn called(world: &World) -> Self {
        let glasses = world.pair("helmet-1").await;
        let case = world.case(&glasses).await;
        let session = SessionId(Uuid::new_v4());
        let mut technician = glasses.connect().await;
        let mut t = technician.enter(case).await;
        let called = t.bare(kind::SESSION_CALLED, Some(session));
        technician.commit(&called).await.expect("called");
        let archivist_person = world.pair("archivist").await;
        let mut archivist = archivist_person.connect().await;
        let mut expert = world.login("expert").await.connect().await;
        let (mut a, mut e) = (archivist.enter(case).await, expert.enter(case).await);
        for (live, author) in [(&mut archivist, &mut a), (&mut expert, &mut e)] {
            let joined = author.bare(kind::SESSION_JOINED, Some(session));
            live.commit(&joined).await.expect("joined the session");
        }
        Self {
            case,
            session,
            technician: (technician, t),
            expert: (expert, e),
            archivist: (archivist, a),
            archivist_person,
            technician_person: glasses,
        }
    }
}

pub(crate) fn http() -> reqwest::Client {
    lotse_trust::use_ring();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

pub(crate) async fn json_of(response: Response) -> Value {
    response.json().await.expect("a JSON body")
}

/// Status and error of a refused request.
pub(crate) async fn error_of(response: Response) -> (u16, ApiError) {
    let status = response.status().as_u16();
    (status, response.json::<ErrorBody>().await.expect("an error body").error)
}

pub(crate) fn cookie_of(response: &Response) -> String {
    let set = response.headers().get("set-cookie").expect("a cookie").to_str().expect("text");
    let (name, value) = set.split(';').next().and_then(|p| p.split_once('=')).expect("name and value");
    assert_eq!(name, "lotse_session");
    value.to_owned()
}

pub(crate) fn lines(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(bytes).lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect()
}

pub(crate) fn fresh_key() -> SigningKey {
    SigningKey::from_bytes(&random())
}

pub(crate) fn fresh_item_key() -> ItemKey {
    ItemKey(random())
}

pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

/// Every file below a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
