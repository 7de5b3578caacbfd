//! What operators see: figures that name nobody, the dashboard and the alerts that use them, readiness, and a log nobody can flood.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use lotse_protocol::kind;
use lotse_tests::{World, eventually, person, program::root, recorded::recorded, secs};
use serde_json::{Value, json};

/// Labels there may be. Each has few values, known beforehand; none says who, which device or which case.
const LABELS: [&str; 8] = ["direction", "worker", "why", "code", "level", "le", "program", "version"];

/// One line of the text format: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (what, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = what.split_once('{').unwrap_or((what, ""));
            let labels = labels.trim_end_matches('}').split("\",").filter(|l| !l.is_empty()).map(|l| {
                let (key, value) = l.split_once("=\"").expect("a label");
                (key.to_owned(), value.trim_end_matches('"').to_owned())
            });
            (name.to_owned(), labels.collect(), value.parse().expect("a number"))
        })
        .collect()
}

/// The name that `# HELP` and documents use.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Every name of ours in a document.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|w| {
        ["lotse_", "process_"].iter().any(|p| w.starts_with(p)) && !["lotse_archivist", "lotse_operations"].contains(w)
    });
    ours.map(|w| base(w).to_owned()).collect()
}

async fn read(address: &Value) -> String {
    let url = format!("http://{}/metrics", address.as_str().expect("an address"));
    person::client().get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_of_work_and_of_nobody_and_dashboard_alerts_and_docs_name_what_is_there() {
    let mut world = World::planned(95);
    world.server.set("LOTSE_METRICS_LISTEN", "127.0.0.1:0");
    world.archivist.set("LOTSE_METRICS_LISTEN", "127.0.0.1:0");
    world.start().await;

    let call = recorded(&world).await;
    assert!(lotse_tests::Person::log_in(&world.url, "expert", "a wrong password").await.is_err());
    call.talking(call.technician.event_within(call.case, kind::SEGMENT, secs(40), |_| true)).await;
    let (server, archivist) = eventually("what is looked at once a second", secs(10), async || {
        let both = (read(&world.server.ready["metrics"]).await, read(&world.archivist.ready["metrics"]).await);
        let legs = samples(&both.0).iter().any(|(n, _, v)| n == "lotse_media_legs" && *v >= 3.0);
        let open = samples(&both.1).iter().any(|(n, _, v)| n == "lotse_archivist_recordings" && *v >= 1.0);
        (legs && open).then_some(both)
    })
    .await;
    let sum = |text: &str, name: &str| samples(text).iter().filter(|s| s.0 == name).map(|s| s.2).sum::<f64>();
    for (text, name, least) in [
        (&server, "lotse_media_packets_total", 50.0),
        (&server, "lotse_media_bytes_total", 2_000.0),
        (&server, "lotse_log_events_total", 8.0),
        (&server, "lotse_log_commit_seconds_count", 8.0),
        (&server, "lotse_sessions", 1.0),
        (&server, "lotse_sockets", 3.0),
        (&server, "lotse_archivists", 1.0),
        (&server, "lotse_logins_refused_total", 1.0),
        (&server, "lotse_refusals_total", 1.0),
        (&server, "lotse_data_free_bytes", 1.0),
        (&server, "process_open_fds", 5.0),
        (&archivist, "lotse_archivist_fragments_total", 1.0),
        (&archivist, "lotse_archivist_fragment_bytes_total", 100.0),
        (&archivist, "lotse_archivist_fragment_lag_seconds_count", 1.0),
        (&archivist, "lotse_archivist_linked", 1.0),
        (&archivist, "process_resident_memory_bytes", 1e6),
    ] {
        assert!(sum(text, name) >= least, "{name} is {}", sum(text, name));
    }

    // Every label and value of both, by the list above; and nothing that anybody or any case is called.
    let mut secrets: Vec<String> =
        ["expert", "Anton", "Weber", "technician", "Mara", "helmet", "127.0.0.1", "p-204"].map(str::to_owned).into();
    secrets.extend([
        call.case.to_string(),
        call.session.to_string(),
        call.technician.me(call.case).to_string(),
        call.expert.me(call.case).to_string(),
    ]);
    let mut walked = 0;
    for text in [&server, &archivist] {
        for (name, labels, _) in samples(text) {
            for (label, value) in labels {
                walked += 1;
                assert!(LABELS.contains(&label.as_str()), "{name} has the label {label}");
                assert!(value.parse::<uuid::Uuid>().is_err(), "{name}{{{label}={value}}}");
            }
        }
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} stands in the figures");
        }
    }
    assert!(walked > 50);

    // Names as Prometheus has them, each described, each in the manual; and nobody asks for what is not there.
    let mut exported = BTreeSet::new();
    for text in [&server, &archivist] {
        for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
            exported.insert(name.to_owned());
        }
    }
    let page = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let manual = named(&page("docs/OPERATIONS.md"));
    assert_eq!(manual, exported, "docs/OPERATIONS.md lists the figures there are, all of them and no others");
    for path in ["docs/dashboards/lotse.json", "docs/dashboards/lotse-alerts.yml"] {
        let used = named(&page(path));
        let missing: Vec<_> = used.difference(&exported).collect();
        assert!(missing.is_empty() && used.len() > 8, "{path} asks for {missing:?}");
    }
    serde_json::from_str::<Value>(&page("docs/dashboards/lotse.json")).unwrap();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_what_is_wrong_and_figures_are_for_this_machine_only() {
    let mut world = World::seeded(96).await;
    let get = async |url: String| {
        let reply = person::client().get(url).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    let json_of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let ready = eventually("everything is ready", secs(20), async || {
        let (status, text) = get(format!("{}/readyz", world.url)).await;
        let report = json_of(&text);
        (status == 200 && report["archivist"] == "ok").then_some(report)
    })
    .await;
    let well = json!({ "ready": true, "database": "ok", "disk": "ok", "workers": "ok", "archivist": "ok" });
    assert_eq!(ready, well);
    let archive = world.archivist.ready["http"].as_str().unwrap().to_owned();
    assert_eq!(get(format!("{archive}/healthz")).await, (200, "alive".into()));
    eventually("the archivist is ready", secs(20), async || {
        let (status, text) = get(format!("{archive}/readyz")).await;
        let well = json!({ "ready": true, "recording": "ok", "disk": "ok", "server": "ok", "media": "none yet" });
        (status == 200 && json_of(&text) == well).then_some(())
    })
    .await;

    // Without the archivist the server still is, and says so; without the server the archivist is not.
    world.archivist.stop().await;
    let told = eventually("the missing archivist is told", secs(20), async || {
        let (status, text) = get(format!("{}/readyz", world.url)).await;
        (json_of(&text)["archivist"] != "ok").then_some((status, json_of(&text)["ready"].clone()))
    })
    .await;
    assert_eq!(told, (200, json!(true)));
    world.archivist.start().await;
    world.server.stop().await;
    eventually("the missing server is told", secs(30), async || {
        let (status, text) = get(format!("{archive}/readyz")).await;
        (status == 503 && json_of(&text)["server"] == "no link").then_some(())
    })
    .await;

    // A disk with little room.
    let small = world.path("server");
    world.server.on_small_disk(&small, 40);
    world.server.start().await;
    let (status, text) = get(format!("{}/readyz", world.url)).await;
    assert_eq!((status, &json_of(&text)["disk"]), (503, &json!("nearly full")));
    assert_eq!(get(format!("{}/healthz", world.url)).await.0, 200);

    // Figures are off by default, and are never told to others.
    assert!(world.server.ready["metrics"].is_null() && world.archivist.ready["metrics"].is_null());
    assert_eq!(get(format!("{archive}/metrics")).await.0, 404);
    for program in [&world.server, &world.archivist] {
        let mut open = program.beside("open", &["serve"]);
        open.set("LOTSE_METRICS_LISTEN", "0.0.0.0:0");
        let (code, _, err) = open.run_to_end().await;
        assert!(code != Some(0) && err.contains("metrics.listen") && err.contains("127.0.0.1"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_bad_requests_are_a_few_lines_and_the_whole_count() {
    const REQUESTS: usize = 10_000;
    // No archivist runs, so that each of these is worth a line.
    let world = World::with_server(98).await;
    let client = person::client();
    let url = format!("{}/archive/healthz", world.url);
    let began = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, url) = (client.clone(), url.clone());
        tasks.spawn(async move {
            for _ in 0..REQUESTS / 20 {
                assert_eq!(client.get(&url).send().await.unwrap().status(), 503);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let lasted = began.elapsed().as_secs() as usize;
    let lines = || -> Vec<String> {
        world.server.log().lines().filter(|l| l.contains("the archivist does not answer")).map(str::to_owned).collect()
    };
    // A line that tells of many ends with their number.
    let count = |line: &String| {
        let number = line.rsplit_once("times=").map(|(_, n)| n.trim().parse::<usize>().expect("a number"));
        number.unwrap_or(1)
    };
    eventually("every one is counted in the log", secs(10), async || {
        (lines().iter().map(count).sum::<usize>() == REQUESTS).then_some(())
    })
    .await;
    let told = lines().len();
    assert!(told <= 2 * (lasted + 3), "{told} lines in {lasted} s");
    assert!(told >= 2, "one at once, and the count");
    world.assert_no_panic();
}
