//! `lotse-server doctor`: looks at settings, folders, keys, every stored log, ports, certificate and clock, and says what to mend.
//!
//! One line per finding, `ok` or `NOT OK` with the next step, in German or English; `--json` gives the same to machines.
//! Works beside a running server and without one. Never: changes anything but a file it writes and removes to try a disk.

use std::{net::SocketAddr, time::SystemTime};

use lotse_operations::doctor::{Disk, Finding, Printer, certificate_is_fine, clock, failed, fine, listens, wrong};
use lotse_protocol::id::CaseId;
use lotse_trust::{Facts, look_at};
use sqlx::Row as _;

use crate::{
    acme,
    config::{Config, TlsFrom},
    error::Error,
    reach::language,
    refusal::Language,
    store::{Store, case::CaseState, keys::ServerKeys, organisation, stored},
    tls,
};

const DISK: Disk = Disk {
    program: "lotse-server",
    // Less than this and a day of sealed items may not fit: 2 GiB.
    little: 2 << 30,
    slow_en: "Marks and messages will lag",
    slow_de: "Markierungen und Nachrichten hinken nach",
};
/// Fewer days on a certificate that nobody renews by itself.
const FEW_DAYS: i64 = 14;
const STUN_PORT_DEFAULT: u16 = 3478;

/// Prints all findings. `false`: something must be mended.
pub async fn run(config: &Config, as_json: bool) -> bool {
    let mut printer = Printer::new(language() == Language::De, as_json);
    printer.say(&clock(SystemTime::now(), None));
    printer.say(&DISK.look_at(&config.data.dir));
    let mut say = |findings: Vec<Finding>| findings.iter().for_each(|finding| printer.say(finding));
    say(stored_things(config).await);
    let bound = tokio::net::TcpListener::bind(config.http.listen).await.map(drop);
    let runs = bound.is_err();
    say(vec![listens("http", bound, &config.http.listen, "lotse-server", "http.listen", "Rechners")]);
    say(certificate(config, runs).await);
    if config.tls.from == TlsFrom::Acme {
        let directory = &config.tls.acme_directory;
        say(vec![match acme::ask(directory).await {
            Ok(()) => fine("acme", format!("{directory} answers"), format!("{directory} antwortet")),
            Err((en, de)) => wrong("acme", en, de),
        }]);
    }
    say(media(config, runs).await);
    say(relays(config).await);
    printer.well
}

/// Keys, database, and every log. The first thing that is broken ends this part: what follows would only repeat it.
async fn stored_things(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(e) = look_into(config, &mut found).await {
        found.push(failed("data", &e));
    }
    found
}

async fn look_into(config: &Config, found: &mut Vec<Finding>) -> Result<(), Error> {
    let store = Store::open(config).await?;
    let keys = ServerKeys::open(config, &store.pool).await?;
    let (dir, key) = (config.data.keys.display(), keys.public());
    found.push(fine(
        "keys",
        format!("{dir} belongs to this data; the server's key is {key}"),
        format!("{dir} gehört zu diesen Daten; der Schlüssel des Servers ist {key}"),
    ));
    let sound: String = sqlx::query("pragma quick_check").fetch_one(&store.pool).await?.try_get(0)?;
    if sound != "ok" {
        return Err(Error::operator(format!("the database is damaged: {sound}"), "Restore a backup."));
    }
    let facts = organisation::verify(&store.pool, &keys).await?;
    let rows = sqlx::query("select id, number from cases order by id").fetch_all(&store.pool).await?;
    for row in &rows {
        let id: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let mut db = store.pool.acquire().await?;
        CaseState::load(&mut db, id).await.map_err(|e| {
            Error::operator(e, "Compare with a backup; keep this folder as it is for whoever examines it.")
        })?;
    }
    let cases = rows.len();
    found.push(fine(
        "logs",
        format!("database is sound; {facts} entries of the organisation and {cases} cases verify"),
        format!("Datenbank in Ordnung; {facts} Einträge der Organisation und {cases} Fälle sind stimmig"),
    ));
    Ok(())
}

/// Names and days of the certificate: as shown on the public address when the server runs, else as it would be shown.
async fn certificate(config: &Config, runs: bool) -> Vec<Finding> {
    let url = config.url(config.http.listen);
    let Some(rest) = url.strip_prefix("https://") else { return Vec::new() };
    let host = crate::config::host_of(&url).to_owned();
    let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    let published = match tls::published(config) {
        Ok(published) => published,
        Err(e) => return vec![failed("certificate", &e)],
    };
    let kept = if config.tls.from == TlsFrom::Acme { acme::kept(config).await } else { None };
    if config.tls.from == TlsFrom::Acme && kept.is_none() {
        return vec![wrong(
            "certificate",
            "the ACME authority has given none yet. Start lotse-server; its log says what is missing (lines with ACME)",
            "die ACME-Stelle hat noch keines ausgestellt. lotse-server starten; sein Protokoll sagt, was fehlt (Zeilen mit ACME)",
        )];
    }
    let facts = if runs || config.tls.from == TlsFrom::None {
        match look_at(&host, port, published.as_ref().map(|p| p.pin)).await {
            Err(e) => {
                return vec![wrong(
                    "certificate",
                    format!("{url} does not answer: {e}. Forward that port to http.listen, and let the name lead here"),
                    format!(
                        "{url} antwortet nicht: {e}. Den Port auf http.listen weiterleiten, den Namen hierher zeigen lassen"
                    ),
                )];
            }
            // Whether the certificate is trusted by those who use it, a machine with its own authority file knows best.
            Ok(seen) => match seen.fault {
                Some(fault) => {
                    return vec![wrong(
                        "certificate",
                        format!("{url}: {fault}"),
                        format!("{url}: {}", fault.sentence(true)),
                    )];
                }
                None => seen.facts,
            },
        }
    } else if config.tls.from == TlsFrom::Files {
        match std::fs::read(&config.tls.cert).ok().and_then(|pem| lotse_trust::first_facts(&pem)) {
            Some(facts) => Some(facts),
            None => {
                let path = config.tls.cert.display();
                return vec![wrong(
                    "certificate",
                    format!(
                        "tls.cert = {path}: holds no certificate that can be read. Name a PEM file that this user may read"
                    ),
                    format!(
                        "tls.cert = {path}: enthält kein lesbares Zertifikat. Eine PEM-Datei nennen, die dieser Benutzer lesen darf"
                    ),
                )];
            }
        }
    } else {
        kept
    };
    facts.map(|facts| judge(&facts, &host, config.tls.from)).into_iter().collect()
}

fn judge(facts: &Facts, host: &str, from: TlsFrom) -> Finding {
    let (days, names) = (facts.days_left(SystemTime::now()), facts.names.join(", "));
    if days < 0 {
        return wrong("certificate", "has run out. Renew it", "ist abgelaufen. Erneuern");
    }
    if !facts.is_for(host) {
        return wrong(
            "certificate",
            format!("is for {names}, but people ask for {host}. Get one for that name, or correct http.public_url"),
            format!(
                "gilt für {names}, gefragt wird aber nach {host}. Eines für diesen Namen besorgen oder http.public_url berichtigen"
            ),
        );
    }
    // Renewed when a third of its life is left; some authorities give a week.
    let late = days * 4 < (facts.not_after - facts.not_before).div_euclid(24 * 3600);
    if from == TlsFrom::Acme && late {
        return wrong(
            "certificate",
            format!("runs out in {days} days and was not renewed. The server's log says why (lines with ACME)"),
            format!(
                "läuft in {days} Tagen ab und wurde nicht erneuert. Das Protokoll des Servers sagt, warum (Zeilen mit ACME)"
            ),
        );
    }
    if days < FEW_DAYS && matches!(from, TlsFrom::None | TlsFrom::Files) {
        return wrong(
            "certificate",
            format!("runs out in {days} days. Renew it; new files are taken by themselves"),
            format!("läuft in {days} Tagen ab. Erneuern; neue Dateien werden von selbst übernommen"),
        );
    }
    certificate_is_fine(days, &facts.names)
}

/// Each media port, asked by its public address.
async fn media(config: &Config, runs: bool) -> Vec<Finding> {
    let first = config.media.udp_port;
    if first == 0 {
        return vec![fine(
            "media",
            "udp_port = 0: any free port, so none can be asked",
            "udp_port = 0: irgendein freier Port, keiner prüfbar",
        )];
    }
    if !runs {
        return vec![fine(
            "media",
            "start lotse-server, then ask again: its ports answer only while it runs",
            "lotse-server starten und noch einmal fragen: die Ports antworten nur, während er läuft",
        )];
    }
    let workers = match config.media.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let mut found = Vec::new();
    for ip in &config.media.public_ip {
        for port in (first..=u16::MAX).take(workers) {
            let at = SocketAddr::new(*ip, port);
            let asked = tokio::task::spawn_blocking(move || lotse_sfu::probe(at)).await;
            found.push(match asked {
                Ok(Ok(())) => fine("media", format!("UDP {at} answers"), format!("UDP {at} antwortet")),
                Ok(Err(e)) => wrong(
                    "media",
                    format!("UDP {at}: {e}. Open and forward that port to this machine; media over TCP must do until then"),
                    format!("UDP {at}: {e}. Den Port öffnen und hierher weiterleiten; bis dahin muss Bild und Ton über TCP gehen"),
                ),
                Err(e) => wrong("media", e.to_string(), e.to_string()),
            });
        }
    }
    found
}

/// Each coturn, asked whether it is there.
async fn relays(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for url in config.turn.urls.iter().filter(|url| url.starts_with("turn:")) {
        let place = url.trim_start_matches("turn:").split('?').next().unwrap_or_default().to_owned();
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(STUN_PORT_DEFAULT)),
            None => (place.clone(), STUN_PORT_DEFAULT),
        };
        let asked = match tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await.map(|mut all| all.next())
        {
            Ok(Some(at)) => tokio::task::spawn_blocking(move || lotse_sfu::probe(at))
                .await
                .unwrap_or_else(|e| Err(std::io::Error::other(e))),
            Ok(None) => Err(std::io::Error::other("the name leads nowhere")),
            Err(e) => Err(e),
        };
        found.push(match asked {
            Ok(()) => fine("turn", format!("{url} answers"), format!("{url} antwortet")),
            Err(e) => wrong(
                "turn",
                format!("{url}: {e}. Start coturn with the settings of `lotse-server admin turn-config`, and open its port"),
                format!("{url}: {e}. coturn mit den Einstellungen von `lotse-server admin turn-config` starten und seinen Port öffnen"),
            ),
        });
    }
    found
}
