//! `lotse-archivist doctor`: looks at everything a recording needs and says what is wrong, with its remedy, in German or English.
//!
//! One line per finding, `ok` or `NOT OK`; `--json` gives the same to machines. Never: changes anything but a file it writes and
//! removes to try a folder. Elsewhere: media ports and relays, asked from any machine (`lotse-server doctor`).

use std::time::{Duration, SystemTime};

use lotse_operations::doctor::{Disk, Finding, Printer, certificate, clock, failed, fine, german, listens, wrong};

use crate::{config::Config, enrol, keys::Keys};

/// For the archivist itself, on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
const DISK: Disk = Disk {
    program: "lotse-archivist",
    // Below this a recording of a day may not fit: 10 GiB.
    little: 10 << 30,
    slow_en: "Recordings will have gaps",
    slow_de: "Aufzeichnungen bekommen Lücken",
};

/// Prints one line for each thing looked at; `as_json`: one object. Returns whether all is well.
pub async fn run(config: &Config, as_json: bool) -> bool {
    let mut printer = Printer::new(german(|name| std::env::var(name).ok()), as_json);
    for finding in [DISK.look_at(&config.data), pairing(config), http(config).await] {
        printer.say(&finding);
    }
    server(config).await.iter().for_each(|finding| printer.say(finding));
    printer.say(&media(config).await);
    printer.well
}

fn pairing(config: &Config) -> Finding {
    match Keys::open(&config.keys).and_then(|k| k.enrolment()) {
        Ok(Some(e)) => {
            fine("keys", format!("paired as device {}", e.device), format!("gekoppelt als Gerät {}", e.device))
        }
        Ok(None) if config.pairing_code.is_empty() => wrong(
            "keys",
            "not paired. Ask an administrator for a pairing code and set [server] pairing_code for one start",
            "nicht gekoppelt. Kopplungscode bei der Administration holen und für einen Start in [server] pairing_code eintragen",
        ),
        Ok(None) => {
            fine("keys", "not paired yet; a pairing code is set", "noch nicht gekoppelt; ein Kopplungscode ist gesetzt")
        }
        Err(e) => failed("keys", &e),
    }
}

async fn http(config: &Config) -> Finding {
    let at = config.listen;
    let bound = tokio::net::TcpListener::bind(at).await.map(drop);
    listens("http", bound, &at, "lotse-archivist", "[http] listen", "Rechners")
}

/// By which way media came last, as the running archivist says: nobody learns the server's media ports outside of a session.
async fn media(config: &Config) -> Finding {
    let mut at = config.listen;
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
    }
    let asked = async {
        lotse_trust::use_ring();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        client.get(format!("http://{at}/readyz")).send().await?.json::<serde_json::Value>().await
    };
    let ready = asked.await.ok();
    way(ready.as_ref().and_then(|ready| ready["media"].as_str()))
}

fn way(said: Option<&str>) -> Finding {
    match said {
        Some("UDP") => fine("media", "came by UDP in the newest session", "kamen in der jüngsten Sitzung über UDP"),
        Some("TCP") => fine(
            "media",
            "came over TCP in the newest session: no UDP gets from here to the server. Recording works; on a bad line it has fewer gaps by UDP, for which the ports from media.udp_port on must be open",
            "kamen in der jüngsten Sitzung über TCP: UDP gelangt von hier nicht zum Server. Die Aufzeichnung läuft; über UDP hat sie auf schlechter Leitung weniger Lücken, dafür müssen die Ports ab media.udp_port offen sein",
        ),
        Some(_) => fine(
            "media",
            "lotse-archivist has been in no session since its start, so no way is known yet. Let somebody call, then ask again",
            "lotse-archivist war seit seinem Start in keiner Sitzung, also ist noch kein Weg bekannt. Einen Anruf führen, dann noch einmal fragen",
        ),
        None => fine(
            "media",
            "start lotse-archivist, let somebody call, then ask again: it says by which way media come",
            "lotse-archivist starten, einen Anruf führen und noch einmal fragen: er sagt, auf welchem Weg Bild und Ton kommen",
        ),
    }
}

/// Whether it answers, what its certificate is worth, and what time it has.
async fn server(config: &Config) -> Vec<Finding> {
    let url = &config.server_url;
    let client = Keys::open(&config.keys).and_then(|keys| enrol::client(enrol::tls(config, &keys)?, config));
    let answer = match client {
        Ok(client) => client.get(format!("{url}/healthz")).send().await.map_err(|e| enrol::trouble(config, &e)),
        Err(e) => Err(e),
    };
    let reply = match answer {
        Ok(reply) => reply,
        Err(e) => return vec![failed("server", &e), clock(SystemTime::now(), None)],
    };
    let date = reply.headers().get(reqwest::header::DATE).and_then(|d| d.to_str().ok());
    let date = date.and_then(|d| jiff::fmt::rfc2822::parse(d).ok()).map(|d| d.timestamp().as_second());
    let mut found = vec![if reply.status().is_success() {
        fine("server", format!("{url} answers"), format!("{url} antwortet"))
    } else {
        let status = reply.status();
        wrong(
            "server",
            format!("{url}: {status}. Look at the server's log"),
            format!("{url}: {status}. Ins Protokoll des Servers sehen"),
        )
    }];
    found.push(clock(SystemTime::now(), date));
    let pin = Keys::open(&config.keys).and_then(|keys| enrol::pin(config, &keys)).ok().flatten();
    // What is wrong with it was said by "server" above.
    if let Some(facts) = lotse_trust::sound_facts(url, pin).await {
        found.push(certificate(facts.days_left(SystemTime::now()), &facts.names));
    }
    found
}
