//! Debian's Janus under the same load: its VideoRoom, driven over its HTTP API.
//!
//! Owns: a Janus process with a settings folder of its own, ended with the run. Never: any other Janus.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Loader, Plan,
    loader::{Order, PUBLISHER},
    measure, memory_kb,
};

const ROOM: u64 = 1_234;
/// With viewers and the publisher.
const PEERS: u32 = 1_000;

struct Janus {
    child: Child,
    url: String,
    http: reqwest::Client,
    session: u64,
    _settings: tempfile::TempDir,
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `loops`: threads for all peers together; without, Janus has one thread for each.
pub(crate) async fn run(plan: &Plan, loops: Option<u32>) -> Value {
    let mut loader = Loader::start(plan).await;
    let janus = Janus::start(loops).await;
    let empty = memory_kb(janus.child.id());
    let publisher = janus.attach().await;
    let create = json!({ "request": "create", "room": ROOM, "publishers": 1, "bitrate": 0, "videocodec": "vp8", "notify_joining": false });
    janus.ask(publisher, create, None).await;
    janus.ask(publisher, json!({ "request": "join", "ptype": "publisher", "room": ROOM, "id": 1 }), None).await;
    janus.event(publisher, |e| e["plugindata"]["data"]["videoroom"] == "joined").await;
    loader.tell(&Order::Offer { who: PUBLISHER }).await;
    let (_, sdp) = loader.sdp().await;
    janus.ask(publisher, json!({ "request": "configure", "video": true, "audio": false }), Some(("offer", &sdp))).await;
    let answered = janus.event(publisher, |e| e["jsep"]["type"] == "answer").await;
    loader.tell(&Order::Accept { who: PUBLISHER, sdp: sdp_of(&answered) }).await;
    janus.event(publisher, |e| e["janus"] == "webrtcup").await;
    for who in 1..=plan.viewers {
        let viewer = janus.attach().await;
        let join = json!({ "request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{ "feed": 1 }] });
        janus.ask(viewer, join, None).await;
        let offered = janus.event(viewer, |e| e["jsep"]["type"] == "offer").await;
        loader.tell(&Order::Answer { who, sdp: sdp_of(&offered) }).await;
        let (_, sdp) = loader.sdp().await;
        janus.ask(viewer, json!({ "request": "start" }), Some(("answer", &sdp))).await;
        janus.event(viewer, |e| e["janus"] == "webrtcup").await;
    }
    let pid = janus.child.id();
    measure(plan, vec![loader], || cpu_us(pid), || memory_kb(pid) - empty).await
}

fn sdp_of(event: &Value) -> String {
    event["jsep"]["sdp"].as_str().expect("a description").to_owned()
}

/// CPU time of all threads of a process, µs.
fn cpu_us(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |path: &Path| {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| of(&task.path())).sum::<u64>() / 1_000
}

impl Janus {
    async fn start(loops: Option<u32>) -> Self {
        let settings = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let loops = loops.map_or(String::new(), |n| format!("event_loops = {n}"));
        let write = |name: &str, text: String| std::fs::write(settings.path().join(name), text).expect("written");
        write(
            "janus.jcfg",
            format!(
                "general: {{ debug_level = 2\n {loops}\n }}\nnat: {{ ice_lite = true\n ice_enforce_list = \"{}\"\n }}\n\
                 plugins: {{ disable = \"libjanus_sip.so,libjanus_nosip.so,libjanus_audiobridge.so,libjanus_streaming.so,libjanus_recordplay.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so,libjanus_echotest.so,libjanus_lua.so,libjanus_duktape.so\" }}\n\
                 transports: {{ disable = \"libjanus_websockets.so,libjanus_pfunix.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_rabbitmq.so\" }}\n",
                crate::address()
            ),
        );
        write(
            "janus.transport.http.jcfg",
            format!(
                "general: {{ http = true\n ip = \"127.0.0.1\"\n port = {port}\n https = false\n json = \"compact\" }}\nadmin: {{ admin_http = false }}\n"
            ),
        );
        write("janus.plugin.videoroom.jcfg", "general: { }\n".into());
        let child = Command::new("janus")
            .arg("-F")
            .arg(settings.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("janus is installed: apt-get install janus");
        lotse_trust::use_ring();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://127.0.0.1:{port}/janus");
        let mut janus = Self { child, url, http, session: 0, _settings: settings };
        for _ in 0..100 {
            if janus.http.get(format!("{}/info", janus.url)).send().await.is_ok() {
                janus.session =
                    janus.post("", json!({ "janus": "create" })).await["data"]["id"].as_u64().expect("a session");
                return janus;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("janus does not answer");
    }

    async fn post(&self, path: &str, mut body: Value) -> Value {
        body["transaction"] = json!("bench");
        let sent = self.http.post(format!("{}{path}", self.url)).json(&body).send().await;
        let said: Value = sent.expect("janus answers").json().await.expect("JSON");
        assert_ne!(said["janus"], "error", "{said}");
        said
    }

    async fn attach(&self) -> u64 {
        let body = json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" });
        self.post(&format!("/{}", self.session), body).await["data"]["id"].as_u64().expect("a handle")
    }

    async fn ask(&self, handle: u64, body: Value, jsep: Option<(&str, &str)>) {
        let mut message = json!({ "janus": "message", "body": body });
        if let Some((kind, sdp)) = jsep {
            message["jsep"] = json!({ "type": kind, "sdp": sdp });
        }
        self.post(&format!("/{}/{handle}", self.session), message).await;
    }

    /// The next event of a handle that fits; others are left out.
    async fn event(&self, handle: u64, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..PEERS {
            let got = self.http.get(format!("{}/{}", self.url, self.session)).send().await.expect("janus answers");
            let event: Value = got.json().await.expect("JSON");
            assert!(event["plugindata"]["data"]["error"].is_null() && event["janus"] != "error", "{event}");
            if event["sender"] == handle && fits(&event) {
                return event;
            }
        }
        panic!("the event does not come");
    }
}
