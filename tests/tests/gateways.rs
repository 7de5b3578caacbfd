//! Foreign clients: aiortc's and GStreamer's own WebRTC publish into a session by WHIP and watch it by WHEP, known to everybody there.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use lotse_payload::recording::SegmentPayload;
use lotse_protocol::{
    envelope::{GatewayWay, LeftWhy},
    id::{CaseId, Pseudonym, SessionId},
    kind,
    policy::Role,
    signal::{Codec, TrackSource},
};
use lotse_tests::{Draft, Person, World, clip, eventually, media::Leg, person, program::root};
use lotse_verify::report::Verdict;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Two video codecs in software and two foreign programs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Encodes and decodes 720p: one after the other.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A foreign program: what it said, line by line.
struct Foreign {
    name: &'static str,
    child: tokio::process::Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Foreign {
    /// `aiortc` or `gst`, with the Python that Debian's packages belong to.
    fn start(name: &'static str, verb: &str, token: &Value, url: &str) -> Self {
        Self::start_with(name, verb, token, url, &[])
    }

    fn start_with(name: &'static str, verb: &str, token: &Value, url: &str, more: &[&str]) -> Self {
        let folder = root().join("tests/gateways");
        let end = if verb == "publish" { "whip" } else { "whep" };
        let address = format!("{url}/api/v1/cases/{}/{end}", token["case"].as_str().unwrap());
        let mut child = tokio::process::Command::new("/usr/bin/python3")
            .arg(folder.join(format!("{name}_client.py")))
            .args([verb, &address, token["token"].as_str().unwrap()])
            .arg(root().join("tests/footage/workshop.mp4"))
            .args(more)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("tests/setup.sh installs it");
        let (said, mut lines) =
            (Arc::<Mutex<Vec<Value>>>::default(), BufReader::new(child.stdout.take().unwrap()).lines());
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{name}: {e}: {line}")));
            }
        });
        Self { name, child, said }
    }

    async fn says<T>(&self, what: &str, fits: impl Fn(&Value) -> Option<T>) -> T {
        let what = format!("{}: {what}", self.name);
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (found, last) = {
                let said = self.said.lock().unwrap();
                (said.iter().find_map(&fits), said.last().cloned())
            };
            if let Some(found) = found {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "{what}. It last said {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_connected(&self) {
        self.says("connected", |line| (line["state"] == "connected").then_some(())).await;
    }

    /// Numbers of the clip's pictures that it saw.
    fn pictures(&self) -> BTreeSet<u64> {
        self.said.lock().unwrap().iter().filter_map(|line| line["picture"].as_u64()).collect()
    }

    fn saw_anything(&self) -> bool {
        self.said.lock().unwrap().iter().any(|line| line["width"].is_u64() || line["voice"].as_u64().unwrap_or(0) > 0)
    }

    /// It says DELETE and ends.
    async fn stop(mut self) {
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(b"stop\n").await.unwrap();
        self.says("its DELETE was taken", |line| (line["deleted"] == 200).then_some(())).await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(ended.success(), "{}: {ended}", self.name);
    }
}

/// A new token, as an administrator gets it.
async fn token(world: &World, case: CaseId, verb: &str, name: &str) -> Value {
    token_for(world, case, verb, name, 12).await
}

async fn token_for(world: &World, case: CaseId, verb: &str, name: &str, hours: u32) -> Value {
    let (case, hours) = (case.to_string(), hours.to_string());
    let words = ["issue-token", "--case", &case, "--verb", verb, "--name", name, "--hours", &hours];
    serde_json::from_str(world.admin(&words).await.trim()).unwrap()
}

/// An offer to `whip` or `whep` as a program sends it.
fn post(world: &World, case: CaseId, end: &str, token: &Value, body: &str) -> reqwest::RequestBuilder {
    person::client()
        .post(format!("{}/api/v1/cases/{case}/{end}", world.url))
        .bearer_auth(token["token"].as_str().unwrap_or("lgw_made_up"))
        .header("content-type", "application/sdp")
        .body(body.to_owned())
}

/// The refusal's status and code; it has a whole sentence for people.
async fn refused(request: reqwest::RequestBuilder) -> (u16, String) {
    let refusal = person::fine(request.send().await.unwrap()).await.unwrap_err();
    assert!(refusal.message.len() > 30, "{refusal:?}");
    (refusal.status, refusal.code)
}

/// A technician who called and an expert who came, and the archivist. Nobody has answered.
struct Call {
    world: World,
    technician: Person,
    expert: Person,
    case: CaseId,
    session: SessionId,
}

async fn call(seed: u64) -> Call {
    call_in(World::seeded(seed).await).await
}

async fn call_in(world: World) -> Call {
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    expert.call_waiting(|c| c.session == session).await;
    expert.take(case, session).await;
    let archivist =
        |s: &lotse_protocol::session::Session| s.participants.values().any(|p| p.role == Role::Archivist && p.present);
    expert.session_is(case, "the archivist comes", archivist).await;
    Call { world, technician, expert, case, session }
}

impl Call {
    async fn answered(&self) {
        for one in [&self.technician, &self.expert] {
            one.answer(self.case, self.session, kind::CONSENT_RECORD).await;
        }
    }

    /// The gateway of this name as the expert's roster has it.
    async fn in_roster(&self, name: &str, way: GatewayWay) -> Pseudonym {
        let session = self
            .expert
            .session_is(self.case, &format!("{name} is in the roster"), |s| {
                s.participants.values().any(|p| p.name.as_deref() == Some(name) && p.present)
            })
            .await;
        let (who, p) = session.participants.iter().find(|(_, p)| p.name.as_deref() == Some(name)).unwrap();
        assert_eq!((p.role, p.way), (Role::Gateway, Some(way)));
        *who
    }

    async fn is_gone(&self, who: Pseudonym, why: LeftWhy) {
        let left = |f: &lotse_protocol::envelope::AuthorFields| {
            f.clear::<lotse_protocol::envelope::Left>().is_ok_and(|left| left.who == who && left.why == why)
        };
        self.expert.event_within(self.case, kind::SESSION_LEFT, PATIENCE, left).await;
    }
}

impl Call {
    /// The bundle of the case after its session.
    async fn ended_and_verified(&self) -> Vec<u8> {
        self.expert.commit(self.case, Draft::of(kind::SESSION_ENDED).session(self.session)).await.unwrap();
        self.expert.event_within(self.case, kind::RECORDING_STOPPED, PATIENCE, |_| true).await;
        let bundle = self.world.person("manager").await.bundle(self.case).await;
        let fingerprint = self.world.server.ready["fingerprint"].as_str().unwrap().parse().unwrap();
        let report = person::verify(&bundle, fingerprint);
        assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
        bundle
    }

    /// What is recorded of this participant's picture so far.
    async fn segments(&self, who: Pseudonym) -> Vec<SegmentPayload> {
        let mut found = Vec::new();
        for (fields, sent) in self.expert.log(self.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
            let segment: SegmentPayload = self.expert.payload(self.case, fields, sent).await;
            if segment.owner == who && segment.info.source == TrackSource::Main {
                found.push(segment);
            }
        }
        found
    }
}

/// The clip's own pictures, decoded from what the expert got.
async fn seen(leg: &Leg, owner: Pseudonym, folder: &Path) -> BTreeSet<u32> {
    let pictures = eventually("a row of whole pictures", PATIENCE, async || {
        let pictures = clip::pictures(&leg.packets(owner, TrackSource::Main));
        (pictures.len() >= 10).then_some(pictures)
    })
    .await;
    clip::numbers(&pictures, folder).into_values().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_foreign_cameras_publish_are_seen_by_all_recorded_and_go_by_delete() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let c = call(401).await;
    let leg = c.expert.connect_media(c.case, c.session, false).await;
    leg.connected().await;
    let cameras = [("aiortc", "Hall camera 3"), ("gst", "Hall camera 4")];
    let mut running = Vec::new();
    for (program, name) in cameras {
        let token = token(&c.world, c.case, "publish", name).await;
        let foreign = Foreign::start(program, "publish", &token, &c.world.url);
        foreign.is_connected().await;
        running.push((foreign, c.in_roster(name, GatewayWay::Publish).await, name));
    }
    assert_eq!(leg.total(), 0, "seen before anybody answered");
    c.answered().await;
    for (foreign, who, name) in &running {
        let numbers = seen(&leg, *who, &c.world.path("")).await;
        assert!(numbers.len() >= 8, "{}: read {numbers:?}", foreign.name);
        eventually(&format!("the voice of {name}"), PATIENCE, async || {
            (leg.packets(*who, TrackSource::Voice).len() > 50).then_some(())
        })
        .await;
    }
    for (_, who, name) in &running {
        // Recorded like any other picture.
        eventually(&format!("a recorded picture of {name}"), PATIENCE, async || {
            let segment = c.segments(*who).await.into_iter().find(|segment| segment.frames > 0)?;
            assert_eq!((segment.info.width, segment.info.height), (1280, 720));
            Some(())
        })
        .await;
    }
    let owners: Vec<Pseudonym> = running.iter().map(|(_, who, _)| *who).collect();
    for (foreign, who, _) in running {
        foreign.stop().await;
        c.is_gone(who, LeftWhy::Left).await;
    }
    let bundle = c.ended_and_verified().await;
    for (fields, sent) in c.expert.log(c.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
        let segment: SegmentPayload = c.expert.payload(c.case, fields, sent).await;
        if owners.contains(&segment.owner) {
            let file = format!("items/{}", segment.media);
            assert!(bundle.windows(file.len()).any(|w| w == file.as_bytes()), "{file} is in the bundle");
        }
    }
    c.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_foreign_watchers_see_and_hear_the_glasses_once_everybody_knows() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::seeded(402).await;
    let glasses = world.started_glasses("helmet-1").await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    let (case, session) = (waiting.summary.case, waiting.session);
    expert.take(case, session).await;
    let first = token(&world, case, "watch", "Control room").await;
    let aiortc = Foreign::start("aiortc", "watch", &first, &world.url);
    aiortc.is_connected().await;
    expert.session_is(case, "the watcher is in the roster", |s| s.participants.values().any(|p| p.way.is_some())).await;
    // The glasses' notice names it before the wearer answers.
    eventually("the notice names the watcher", PATIENCE, async || {
        for (fields, sent) in expert.log(case).iter().filter(|(f, _)| f.kind == kind::NOTICE_SHOWN) {
            let notice: lotse_payload::consent::NoticeShown = expert.payload(case, fields, sent).await;
            if notice.text.contains("Control room") {
                return Some(());
            }
        }
        None
    })
    .await;
    assert!(!aiortc.saw_anything(), "media before any answer");
    glasses.shows("consent").await;
    glasses.say("YES_RECORD").await;
    expert.answer(case, session, kind::CONSENT_RECORD).await;
    eventually("aiortc reads the clip's numbers", PATIENCE, async || (aiortc.pictures().len() >= 8).then_some(()))
        .await;
    aiortc.says("it hears the wearer", |line| (line["voice"].as_u64()? > 300).then_some(())).await;

    // One that comes later gets nothing before each of them has been shown so. The glasses show it by themselves.
    let second = token(&world, case, "watch", "Supplier").await;
    let gst = Foreign::start("gst", "watch", &second, &world.url);
    gst.is_connected().await;
    let shown = |f: &lotse_protocol::envelope::AuthorFields| f.author != expert.me(case);
    let joined =
        |s: &lotse_protocol::session::Session| s.participants.values().any(|p| p.name.as_deref() == Some("Supplier"));
    expert.session_is(case, "the second is in the roster", joined).await;
    let technician_knows = |s: &lotse_protocol::session::Session| {
        s.participants.iter().all(|(who, p)| *who == expert.me(case) || !p.unaware)
    };
    expert.event(case, kind::NOTICE_SHOWN, shown).await;
    expert.session_is(case, "the wearer has been shown it", technician_knows).await;
    // A watcher stops all watchers until everybody knows: the first gets nothing either.
    assert!(!gst.saw_anything(), "seen before the expert knew");
    expert.commit(case, Draft::of(kind::NOTICE_SHOWN).session(session)).await.unwrap();
    eventually("GStreamer reads the clip's numbers", PATIENCE, async || (gst.pictures().len() >= 8).then_some(()))
        .await;
    gst.says("it hears the wearer", |line| (line["voice"].as_u64()? > 300).then_some(())).await;
    let read = |line: &Value, text: &str| line["texts"].to_string().contains(text);
    assert!(glasses.shown().iter().any(|line| read(line, "Supplier")), "the wearer read its name");
    eventually("the status line counts expert and both watchers", PATIENCE, async || {
        read(&glasses.state(), "3 watching").then_some(())
    })
    .await;

    // Revoked: it ends within its time, and the log says so.
    let revoked = second["id"].as_str().unwrap();
    let gone = |name: &'static str| {
        move |s: &lotse_protocol::session::Session| {
            s.participants.values().any(|p| p.name.as_deref() == Some(name) && !p.present)
        }
    };
    world.admin(&["revoke-token", revoked]).await;
    expert.session_is(case, "the revoked one is gone", gone("Supplier")).await;
    aiortc.stop().await;
    expert.session_is(case, "the other is gone", gone("Control room")).await;
    world.assert_no_panic();
}

/// An offer as clients write it, without anybody behind it.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
    a=fingerprint:sha-256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:x\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_offers_that_do_not_fit_are_refused_in_words() {
    let c = call(403).await;
    let http = person::client();
    let publish = token(&c.world, c.case, "publish", "Hall camera 3").await;
    let watch = token(&c.world, c.case, "watch", "Control room").await;
    let other_case = c.technician.new_case("p-204").await;
    let other = token(&c.world, other_case, "publish", "Elsewhere").await;
    let address = |case: CaseId, end: &str| format!("{}/api/v1/cases/{case}/{end}", c.world.url);
    let post = |case: CaseId, end: &'static str, token: &Value, body: &str| post(&c.world, case, end, token, body);
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(post(c.case, "whip", &Value::Null, OFFER)).await, is(401, "bad_gateway_token"));
    assert_eq!(refused(http.post(address(c.case, "whip")).body(OFFER)).await, is(401, "not_logged_in"));
    assert_eq!(refused(post(c.case, "whip", &watch, OFFER)).await, is(403, "other_way"));
    assert_eq!(refused(post(c.case, "whip", &other, OFFER)).await, is(404, "no_such_case"));
    assert_eq!(refused(post(other_case, "whip", &other, OFFER)).await, is(409, "no_open_session"));
    assert_eq!(refused(post(c.case, "whip", &publish, "hello")).await, is(400, "bad_offer"));
    let twice = OFFER.replace("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 speex/8000");
    assert_eq!(refused(post(c.case, "whip", &publish, &twice)).await, is(406, "offer_refused"));
    let json = http.post(address(c.case, "whip")).bearer_auth(publish["token"].as_str().unwrap()).json(&OFFER);
    assert_eq!(refused(json).await, is(415, "not_sdp"));
    assert_eq!(refused(post(c.case, "whip", &publish, &"v=0\r\n".repeat(20_000))).await, is(413, "too_large"));
    assert_eq!(refused(http.put(address(c.case, "whip")).body(OFFER)).await, is(405, "wrong_method"));
    // Nothing of all this is in the log.
    assert!(c.expert.log(c.case).iter().all(|(f, _)| f.kind != kind::GATEWAY_JOINED));

    // A page of another site may ask, and gets what the RFC names.
    let foreign = post(c.case, "whip", &publish, OFFER).header("origin", "https://camera.example");
    let reply = person::fine(foreign.send().await.unwrap()).await.unwrap();
    assert_eq!(reply.status(), 201);
    assert_eq!(reply.headers()["access-control-allow-origin"], "*");
    assert!(reply.headers().contains_key("etag"));
    let resource = reply.headers()["location"].to_str().unwrap().to_owned();
    let answer = reply.text().await.unwrap();
    for needed in ["a=setup:passive", "a=ice-lite", "a=recvonly", "a=candidate:", "a=rtpmap:111 opus/48000/2"] {
        assert!(answer.contains(needed), "{needed} in {answer}");
    }
    let asked = http.request(reqwest::Method::OPTIONS, address(c.case, "whip")).send().await.unwrap();
    assert_eq!((asked.status().as_u16(), &asked.headers()["accept-post"]), (200, &"application/sdp".parse().unwrap()));
    let resource = format!("{}{resource}", c.world.url);
    let with = |request: reqwest::RequestBuilder, token: &Value| request.bearer_auth(token["token"].as_str().unwrap());
    assert_eq!(refused(with(http.patch(&resource), &publish)).await, is(501, "no_trickle"));
    assert_eq!(refused(with(http.delete(&resource), &watch)).await, is(403, "other_way"));
    let who = c.in_roster("Hall camera 3", GatewayWay::Publish).await;
    person::fine(with(http.delete(&resource), &publish).send().await.unwrap()).await.unwrap();
    c.is_gone(who, LeftWhy::Left).await;
    assert_eq!(refused(with(http.delete(&resource), &publish)).await, is(404, "no_such_resource"));

    // A token is listed, revoked once, and then no good.
    let listed = c.world.admin(&["list-tokens"]).await;
    assert!(listed.contains("Hall camera 3") && !listed.contains(publish["token"].as_str().unwrap()), "{listed}");
    c.world.admin(&["revoke-token", publish["id"].as_str().unwrap()]).await;
    assert_eq!(refused(post(c.case, "whip", &publish, OFFER)).await, is(401, "bad_gateway_token"));
    c.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_camera_with_h264_alone_is_seen_watched_recorded_and_played_from_the_bundle() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let c = call(405).await;
    let leg = c.expert.connect_media(c.case, c.session, false).await;
    leg.connected().await;
    let publish = token(&c.world, c.case, "publish", "Crane camera").await;
    let camera = Foreign::start_with("gst", "publish", &publish, &c.world.url, &["h264"]);
    camera.is_connected().await;
    let who = c.in_roster("Crane camera", GatewayWay::Publish).await;
    let watch = token(&c.world, c.case, "watch", "Control room").await;
    let watcher = Foreign::start_with("gst", "watch", &watch, &c.world.url, &["h264"]);
    watcher.is_connected().await;
    c.answered().await;

    let stream = eventually("a row of whole pictures", PATIENCE, async || {
        let (stream, count) = clip::h264(&leg.packets(who, TrackSource::Main));
        (count >= 10).then_some(stream)
    })
    .await;
    assert_eq!(leg.track(who, TrackSource::Main).unwrap().codec, Codec::H264);
    let file = c.world.path("received.h264");
    std::fs::write(&file, stream).unwrap();
    let numbers: BTreeSet<u32> = clip::numbers_of_file(&file).into_iter().flatten().collect();
    assert!(numbers.len() >= 8, "read {numbers:?}");
    eventually("the watcher reads its numbers too", PATIENCE, async || (watcher.pictures().len() >= 8).then_some(()))
        .await;

    // GStreamer's client checks its path no more once it has one: it must not be given up for that, which the WebRTC core would do after
    // 30 s, nor for the few reports of one that only watches.
    eventually("more than half a minute of record", PATIENCE, async || {
        let segments = c.segments(who).await;
        (segments.last()?.end_us - segments.first()?.start_us > 36_000_000).then_some(())
    })
    .await;
    for foreign in [camera, watcher] {
        foreign.stop().await;
    }
    c.is_gone(who, LeftWhy::Left).await;
    let bundle = c.world.path("case.tar");
    std::fs::write(&bundle, c.ended_and_verified().await).unwrap();
    let out = c.world.path("unpacked");
    std::fs::create_dir(&out).unwrap();
    let tar = std::process::Command::new("tar").arg("-xf").arg(&bundle).arg("-C").arg(&out).status().unwrap();
    assert!(tar.success());
    let mut played = BTreeSet::new();
    for segment in c.segments(who).await {
        assert_eq!((segment.info.codec, segment.info.width, segment.info.height), (Codec::H264, 1280, 720));
        assert!(segment.mime.starts_with("video/mp4; codecs=\"avc1.42"), "{}", segment.mime);
        let file = out.join(format!("items/{}.mp4", segment.media));
        let numbers = clip::numbers_of_file(&file);
        assert_eq!(numbers.len(), segment.frames as usize, "every picture of {} decodes", file.display());
        played.extend(numbers.into_iter().flatten());
    }
    assert!(played.len() >= 8, "read {played:?}");
    c.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_its_connection_with_it() {
    let (world, server, _archivist) = World::with_faults(406).await;
    let c = call_in(world).await;
    let short = token_for(&c.world, c.case, "publish", "Hall camera 3", 1).await;
    let long = token_for(&c.world, c.case, "publish", "Hall camera 4", 2).await;
    person::fine(post(&c.world, c.case, "whip", &short, OFFER).send().await.unwrap()).await.unwrap();
    let who = c.in_roster("Hall camera 3", GatewayWay::Publish).await;
    server.shift_clock(3_600 + 60);
    // A leg that nobody connects would be lost after 15 s; its token is looked at after 10.
    c.is_gone(who, LeftWhy::Left).await;
    assert_eq!(refused(post(&c.world, c.case, "whip", &short, OFFER)).await, (401, "bad_gateway_token".to_owned()));
    let reply = post(&c.world, c.case, "whip", &long, OFFER).send().await.unwrap();
    assert_eq!(reply.status(), 201, "the other one is still good");
    assert!(server.clocked() > 0, "the server was told the later time");
    c.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_is_told_the_relays_with_credentials_that_they_take() {
    let urls = ["turn:127.0.0.1:3478?transport=udp", "turns:turn.example.org:443?transport=tcp"];
    let mut world = World::planned(407);
    world.server.set("LOTSE_TURN_URLS", &urls.join(","));
    world.seed_demo().await;
    world.server.start().await;
    let technician = world.technician("helmet-1").await;
    let case = technician.new_case("p-204").await;
    technician.call(case).await;
    let camera = token(&world, case, "publish", "Hall camera 3").await;
    let reply = person::fine(post(&world, case, "whip", &camera, OFFER).send().await.unwrap()).await.unwrap();
    assert_eq!(reply.status(), 201);
    let links: Vec<&str> = reply.headers().get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert_eq!(links.len(), urls.len(), "{links:?}");
    for (link, url) in links.iter().zip(urls) {
        // RFC 9725, 4.6: <URI>; rel="ice-server"; username="…"; credential="…"; credential-type="password"
        let (target, parameters) = link.split_once("; ").unwrap();
        assert_eq!(target, format!("<{url}>"));
        let value = |name: &str| {
            let found =
                parameters.split("; ").find_map(|p| p.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'));
            found.unwrap_or_else(|| panic!("{name} in {link}"))
        };
        assert_eq!((value("rel"), value("credential-type")), ("ice-server", "password"));
        let username = value("username");
        let ends_s: i64 = username.split(':').next().unwrap().parse().unwrap();
        let hours = (ends_s - person::now_ms() / 1000) as f64 / 3600.0;
        assert!((11.9..=12.1).contains(&hours), "good for {hours} h");
        assert_eq!(value("credential"), hmac_sha1(&world.path("server-keys/turn.secret"), username));
    }
    world.assert_no_panic();
}

/// What coturn computes under `use-auth-secret`, by Python's own library.
fn hmac_sha1(secret: &Path, text: &str) -> String {
    let program = "import base64, hmac, sys\nkey = open(sys.argv[1]).read().strip().encode()\n\
        print(base64.b64encode(hmac.digest(key, sys.argv[2].encode(), 'sha1')).decode(), end='')";
    let out = std::process::Command::new("python3").args(["-c", program]).arg(secret).arg(text).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
