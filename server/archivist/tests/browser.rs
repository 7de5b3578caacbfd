//! A real browser at both ends: recorded fragments appended to a MediaSource, played and sought without a hole; and a voice that
//! Chromium sends, whose times are found from its sender reports.

// In a test an unwrap that fails is a failed test.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use lotse_payload::recording::{SegmentPayload, StopWhy};
use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    envelope::sign,
    id::TrackId,
    kind,
    policy::Role,
    signal::{Codec, RtcAnswer, TrackInfo, TrackSource, fingerprint_text},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

mod kit;
#[path = "kit/live.rs"]
mod live;
#[path = "kit/world.rs"]
mod world;
use kit::{Stage, info, packets};
use live::Peer;
use world::World;

/// Each has Chromium and an encoder busy: beside each other they would hold one another up.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Headless Chromium, ended with the test.
struct Chromium {
    child: Child,
    _profile: tempfile::TempDir,
    url: String,
}

impl Chromium {
    fn start() -> Self {
        Self::at("about:blank")
    }

    /// With a microphone that beeps, and nobody to be asked for it.
    fn at(page: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-quic", "--mute-audio"])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .args(["--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(page)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium is installed by tests/setup.sh");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let browser = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|l| l.split_once("DevTools listening on ").map(|(_, url)| url.to_owned()))
            .expect("chromium tells its address");
        std::thread::spawn(move || lines.for_each(drop));
        let host = browser.split('/').nth(2).unwrap().to_owned();
        Self { child, _profile: profile, url: format!("http://{host}/json") }
    }

    /// Evaluates an expression in the page and gives its value.
    async fn evaluate(&self, expression: String) -> Value {
        lotse_trust::use_ring();
        let pages: Vec<Value> = reqwest::get(&self.url).await.unwrap().json().await.unwrap();
        let page = pages.iter().find(|p| p["type"] == "page").expect("chromium has a page");
        let address = page["webSocketDebuggerUrl"].as_str().unwrap();
        let settings = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (mut socket, _) =
            tokio_tungstenite::connect_async_with_config(address, Some(settings), true).await.unwrap();
        let ask = json!({ "id": 1, "method": "Runtime.evaluate", "params": {
            "expression": expression, "awaitPromise": true, "returnByValue": true } });
        socket.send(Message::Text(ask.to_string().into())).await.unwrap();
        loop {
            let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("chromium went away") };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == 1 {
                assert!(answer["result"]["exceptionDetails"].is_null(), "{answer}");
                return answer["result"]["result"]["value"].clone();
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PAGE: &str = r#"
async function run(mime, fragments, seeks) {
  const once = (t, e) => new Promise((ok, no) => {
    t.addEventListener(e, ok, { once: true }); setTimeout(() => no(new Error(e + ' never came')), 20000); });
  const v = document.createElement('video'); document.body.append(v); v.muted = true;
  const ms = new MediaSource(); v.src = URL.createObjectURL(ms); await once(ms, 'sourceopen');
  const sb = ms.addSourceBuffer(mime); const errors = [];
  sb.addEventListener('error', () => errors.push('append')); v.addEventListener('error', () => errors.push(v.error.message));
  const ranges = () => [...Array(sb.buffered.length).keys()].map(i => [sb.buffered.start(i), sb.buffered.end(i)]);
  const steps = [];
  for (const f of fragments) {
    const done = once(sb, 'updateend');
    sb.appendBuffer(Uint8Array.from(atob(f), c => c.charCodeAt(0))); await done; steps.push(ranges());
  }
  ms.endOfStream();
  const frames = [];
  const video = mime.startsWith('video');
  for (const t of seeks) {
    const shown = video ? new Promise(ok => v.requestVideoFrameCallback((_, m) => ok(m.mediaTime))) : null;
    const sought = once(v, 'seeked'); v.currentTime = t; await sought;
    if (video) frames.push(await shown);
  }
  v.currentTime = seeks[0]; v.playbackRate = 4; const ended = once(v, 'ended'); let waits = 0;
  v.addEventListener('waiting', () => waits++); await v.play(); await ended;
  const q = v.getVideoPlaybackQuality();
  return { steps, ranges: ranges(), frames, errors, waits, at: v.currentTime, corrupted: q.corruptedVideoFrames, total: q.totalVideoFrames };
}
"#;

async fn play(codec: Codec) {
    let mut packets = packets(codec, 12);
    if codec == Codec::Opus {
        // 60 ms lost: bridged, so that a player does not stop there.
        packets.drain(160..163);
    }
    let mut stage = Stage::new();
    let now = stage.feed(&info(codec), &packets);
    stage.stop(StopWhy::SessionEnded, now + 500_000);
    let segments = stage.segments();
    assert!(segments.len() >= 5);
    let fragments: Vec<String> = segments.iter().map(|s| STANDARD.encode(stage.open(s))).collect();
    let first = &segments[0].payload;
    let last = &segments[segments.len() - 1].payload;
    let rate = u64::from(codec.clock_rate());
    let length = |end: u64| (end - first.rtp_start) as f64 / rate as f64;

    // The middle of frames all over the recording.
    let times: Vec<f64> = segments
        .iter()
        .flat_map(|s| {
            let base = s.payload.media_start_ms as f64 / 1000.0;
            let ticks = &s.payload.frame_ticks;
            [ticks.first(), ticks.get(ticks.len() / 2), ticks.last()]
                .into_iter()
                .flatten()
                .map(move |t| base + f64::from(*t) / 90_000.0)
                .collect::<Vec<_>>()
        })
        .collect();
    let times = if times.is_empty() { vec![0.0, 1.0, 3.3, 7.1, 10.0] } else { times };
    let seeks: Vec<f64> = times.iter().map(|t| t + 0.016).collect();

    let chromium = Chromium::start();
    let call = format!("{PAGE}; run({}, {}, {})", json!(first.mime), json!(fragments), json!(seeks));
    let seen = tokio::time::timeout(Duration::from_secs(60), chromium.evaluate(call)).await.unwrap();
    assert_eq!(seen["errors"], json!([]), "{seen}");
    for (s, step) in segments.iter().zip(seen["steps"].as_array().unwrap()) {
        let ranges = step.as_array().unwrap();
        assert_eq!(ranges.len(), 1, "one range without a hole: {step}");
        let end = ranges[0][1].as_f64().unwrap();
        assert!((end - length(s.payload.rtp_end)).abs() < 0.002, "{end} for {}", length(s.payload.rtp_end));
    }
    if codec.is_video() {
        for (expected, shown) in times.iter().zip(seen["frames"].as_array().unwrap()) {
            let shown = shown.as_f64().unwrap();
            assert!((shown - expected).abs() < 0.002, "the picture at {expected} s, not {shown} s");
        }
        assert_eq!(seen["corrupted"], 0);
    }
    assert!((seen["at"].as_f64().unwrap() - length(last.rtp_end)).abs() < 0.03, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_fragments_append_seek_and_play_without_a_hole() {
    let _alone = ALONE.lock().await;
    play(Codec::Vp8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opus_fragments_append_seek_and_play_without_a_hole() {
    let _alone = ALONE.lock().await;
    play(Codec::Opus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_fragments_append_seek_and_play_without_a_hole() {
    let _alone = ALONE.lock().await;
    play(Codec::H264).await;
}

const VOICE: &str = r#"
async function answer(sdp, mid) {
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const connection = window.connection = new RTCPeerConnection();
  connection.createDataChannel('pointer', { negotiated: true, id: 1, ordered: false, maxRetransmits: 0 });
  await connection.setRemoteDescription({ type: 'offer', sdp });
  const line = connection.getTransceivers().find(t => t.mid === mid);
  line.direction = 'sendonly';
  await line.sender.replaceTrack(microphone.getAudioTracks()[0]);
  await connection.setLocalDescription(await connection.createAnswer());
  const gave = window.gave = [];
  setInterval(async () => {
    for (const s of (await connection.getStats()).values())
      if (s.type === 'media-source') gave.push(s.totalSamplesDuration * 1000 - s.timestamp);
  }, 100);
  return connection.localDescription.sdp;
}
"#;

/// The furthest that the microphone was behind its own clock, ms: sound it lost because the machine had no time for the browser.
/// It gives 10 ms at a time.
fn behind_ms(gave: &[f64]) -> f64 {
    let mut ahead = f64::MIN;
    let behind = gave.iter().map(|&ms| {
        ahead = ahead.max(ms);
        ahead - ms
    });
    (behind.fold(0.0, f64::max) - 10.0).max(0.0)
}

/// How much the browser speaks: 22 s of sound. Chromium reports every few seconds.
const FRAGMENTS: usize = 11;

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_a_voice_from_chromium_fit_its_sender_reports() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let (mut glasses, session) = world.caller().await;
    let case = glasses.case.unwrap();
    let mut expert = Peer::login(&world.server.url, "expert").await;
    expert.join(case, Role::Expert, "Anton Weber").await;
    expert.commit(kind::SESSION_JOINED, Some(session), None, None).await;
    for person in [&mut glasses, &mut expert] {
        person.commit(kind::CONSENT_RECORD, Some(session), None, None).await;
    }
    let voice = TrackInfo {
        track: TrackId(uuid::Uuid::now_v7()),
        source: TrackSource::Voice,
        codec: Codec::Opus,
        rtp_base: None,
        start_us: None,
        clock_offset_us: 0,
        width: 0,
        height: 0,
    };
    expert.say(ClientMessage::RtcJoin { case, session, publish: vec![voice.clone()] });
    let offer = expert
        .until("an offer", |m| match m {
            ServerMessage::RtcOffer { offer, .. } => Some(offer.clone()),
            ServerMessage::Refused { error, .. } => panic!("{error:?}"),
            _ => None,
        })
        .await;
    // A page on loopback may use the microphone; any will do.
    let page = format!("{}/healthz", world.server.url);
    let chromium = Chromium::at(&page);
    let loaded = async {
        while chromium.evaluate("document.readyState + location.href".into()).await != format!("complete{page}") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), loaded).await.expect("chromium shows the page");
    let ask = format!("{VOICE}; answer({}, {})", json!(offer.sdp), json!(offer.uplink[0].mid));
    let sdp = chromium.evaluate(ask).await.as_str().unwrap().to_owned();
    let print = sdp.lines().find_map(|l| l.trim().strip_prefix("a=fingerprint:")).unwrap().to_owned();
    let fingerprint_sig = Some(sign(&expert.device_key, &fingerprint_text(session, &print)));
    expert.say(ClientMessage::RtcAnswer {
        session,
        answer: RtcAnswer { leg: offer.leg, rev: offer.rev, sdp, fingerprint_sig },
    });

    glasses.wait_for(kind::RECORDING_STARTED, 1).await;
    for count in 1..=FRAGMENTS {
        glasses.wait_for(kind::SEGMENT, count).await;
    }
    let gave: Vec<f64> = serde_json::from_value(chromium.evaluate("gave".into()).await).unwrap();
    assert!(gave.len() >= 20, "the microphone was looked at {} times", gave.len());
    let behind = behind_ms(&gave);
    glasses.commit(kind::SESSION_ENDED, Some(session), Some(json!({ "result": "solved", "note": "" })), None).await;
    glasses.wait_for(kind::RECORDING_STOPPED, 1).await;
    drop(chromium);

    let segments: Vec<SegmentPayload> = glasses.payloads(kind::SEGMENT);
    let row: Vec<_> = segments.iter().filter(|s| s.info.track == voice.track).collect();
    let ms = |rtp: u64, from: &SegmentPayload| from.start_us as f64 / 1e3 + (rtp as f64 - from.rtp_start as f64) / 48.0;
    // Times flow from one fragment to the next, by at most 20 ms a second; only sound that was lost makes them jump.
    for pair in row.windows(2) {
        let jump = ms(pair[1].rtp_start, pair[1]) - ms(pair[1].rtp_start, pair[0]);
        let seconds = (pair[1].rtp_start - pair[0].rtp_start) as f64 / 48_000.0;
        assert!(
            pair[1].rtp_start != pair[0].rtp_end || jump.abs() < 20.0 * seconds + 5.0 + behind,
            "a jump of {jump:.1} ms after {seconds:.1} s, microphone {behind:.1} ms"
        );
    }
    // What the archive says of the time of each report, less what the browser said of it; and how long after that it came.
    let (mut off, mut path) = (Vec::new(), Vec::new());
    for (rtp, ntp_us, arrival_us) in row.iter().flat_map(|s| s.clock.iter().copied()) {
        let Some(in_it) = row.iter().find(|s| (s.rtp_start..=s.rtp_end).contains(&rtp)) else { continue };
        off.push(ms(rtp, in_it) - ntp_us as f64 / 1e3);
        path.push(arrival_us as f64 / 1e3 - ms(rtp, in_it));
    }
    off.sort_by(f64::total_cmp);
    path.sort_by(f64::total_cmp);
    eprintln!(
        "a voice from Chromium: {} fragments, archive less report {off:.1?} ms, arrival after it {path:.1?} ms, microphone behind by {behind:.1} ms",
        row.len()
    );
    assert!(row.len() >= FRAGMENTS, "{} fragments", row.len());
    assert!(off.len() >= 4, "{} sender reports", off.len());
    // What the microphone lost is in its reports.
    assert!(
        off[off.len() / 2].abs() <= 5.0 + behind,
        "the fit is beside the reports: {off:?}, microphone {behind:.1} ms"
    );
    assert!(
        off.iter().all(|ms| ms.abs() <= 20.0 + behind),
        "a report lies far from the fit: {off:?}, microphone {behind:.1} ms"
    );
}
