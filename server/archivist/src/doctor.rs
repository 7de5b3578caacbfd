//! `lotse-archivist doctor`: looks at everything a recording needs and says what is wrong, with its remedy, in German or English.
//!
//! One line per finding, `ok` or `NOT OK`; `--json` gives the same to machines. Never: changes anything but a file it writes and
//! removes to try a folder. Elsewhere: media ports and relays (`lotse-server doctor`).

use std::time::SystemTime;

use lotse_operations::doctor::{Disk, Finding, Printer, certificate, clock, failed, fine, german, listens, wrong};

use crate::{config::Config, enrol, keys::Keys};

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
