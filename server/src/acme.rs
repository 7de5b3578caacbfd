//! Certificates from an ACME authority (RFC 8555), proved on our own port (TLS-ALPN-01, RFC 8737).
//!
//! Owns: the exchange with the authority, when it is tried again, and the words for what goes wrong. What it gave is kept beside
//! the other keys and used by the next start without asking. Whom we believe to be the authority, the system's roots decide, as
//! with every other server: one of the house is added there. Never: accepts a connection (`front`).

use std::{
    fmt::Display,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use lotse_trust::{Facts, Fault};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_acme::{
    AcmeConfig, AcmeState, CertCache as _, EventError, EventOk, OrderError, ResolvesServerCertAcme,
    acme::{ACME_TLS_ALPN_NAME, AcmeError, Auth},
    caches::DirCache,
    is_tls_alpn_challenge,
};
use tokio::time::timeout;

use crate::{
    config::Config,
    error::Error,
    shutdown::{Stop, stopped},
    tls::serving,
};

/// After a failure it is asked again; doubled each time up to the last. Let's Encrypt takes five failures an hour for one name:
/// these are eight in the first hour, and then one.
const AGAIN_FIRST: Duration = Duration::from_secs(15);
const AGAIN_LAST: Duration = Duration::from_secs(3600);
/// An exchange takes seconds, with an authority that looks twice a minute. Its library waits for ever for an answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// With a certificate in use this is how often it is looked at anew, so that an exchange that hangs costs a day of the month for
/// which certificates are renewed early.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A directory is one small answer.
const ASK: Duration = Duration::from_secs(20);

type Outcome = Result<EventOk, EventError<std::io::Error, std::io::Error>>;

/// What connections are served with, and what answers the authority's question.
pub(crate) struct Served {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) challenge: Arc<ServerConfig>,
}

/// Begins to ask, and goes on until the program stops.
pub(crate) fn open(config: &Config, stop: Stop) -> Result<Served, Error> {
    let kept = folder(config);
    // The library makes files as everybody may read them, and keys are among them.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept).map_err(|e| {
        Error::operator(
            format!("{}: {e}", kept.display()),
            "Give the folder data.keys to the user lotse-server runs as.",
        )
    })?;
    let shown = Arc::new(Shown::default());
    let mut challenge = ServerConfig::clone(&*serving(shown.clone())?);
    challenge.alpn_protocols = vec![ACME_TLS_ALPN_NAME.to_vec()];
    let served = Served { config: serving(shown.clone())?, challenge: Arc::new(challenge) };
    let asking =
        Asking { config: config.clone(), client: Arc::new(lotse_trust::client_config(None).map_err(trust)?), shown };
    tokio::spawn(async move {
        tokio::select! {
            () = asking.run() => {}
            () = stopped(stop) => {}
        }
    });
    Ok(served)
}

/// Names and days of the certificate that the next start would use.
pub(crate) async fn kept(config: &Config) -> Option<Facts> {
    let pem = DirCache::new(folder(config)).load_cert(&config.acme_names(), &config.tls.acme_directory).await;
    lotse_trust::first_facts(&pem.ok()??)
}

/// Does the authority answer? In words, with the remedy: English, German.
pub(crate) async fn ask(directory: &str) -> Result<(), (String, String)> {
    let trouble = |en: &dyn Display, de: &dyn Display| {
        (
            format!("{directory}: {en}. Let this machine reach it, or correct tls.acme_directory"),
            format!("{directory}: {de}. Diesen Rechner dorthin lassen oder tls.acme_directory berichtigen"),
        )
    };
    let client = lotse_trust::client_config(None).map_err(|e| trouble(&e, &e))?;
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(client).timeout(ASK).build();
    let answer = match client {
        Ok(client) => client.get(directory).send().await,
        Err(e) => Err(e),
    };
    match answer {
        Ok(answer) if answer.status().is_success() => match answer.json::<serde_json::Value>().await {
            Ok(directory) if directory["newOrder"].is_string() => Ok(()),
            _ => Err(trouble(&"no ACME directory is there", &"dort liegt kein ACME-Verzeichnis")),
        },
        Ok(answer) => {
            let status = answer.status();
            Err(trouble(&format!("it answers {status}"), &format!("die Antwort ist {status}")))
        }
        Err(e) => Err(match Fault::find(&e) {
            Some(fault) => {
                (format!("{directory}: {}", fault.sentence(false)), format!("{directory}: {}", fault.sentence(true)))
            }
            None => {
                let why = innermost(&e);
                trouble(&format!("it does not answer ({why})"), &format!("keine Antwort ({why})"))
            }
        }),
    }
}

/// The cause that says most.
fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut at = e;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn folder(config: &Config) -> PathBuf {
    config.data.keys.join("acme")
}

fn trust(e: lotse_trust::TrustError) -> Error {
    Error::operator(e, "Look at the certificates of the system (ca-certificates).")
}

struct Asking {
    config: Config,
    client: Arc<rustls::ClientConfig>,
    shown: Arc<Shown>,
}

impl Asking {
    async fn run(self) {
        let tls = &self.config.tls;
        let names = self.config.acme_names().join(", ");
        tracing::info!("certificates for {names} come from {}", tls.acme_directory);
        let mut again = AGAIN_FIRST;
        loop {
            let Err(trouble) = self.exchange(&mut again).await else { continue };
            let why = self.words(trouble).await;
            let without = match kept(&self.config).await {
                Some(facts) => {
                    format!("{} days are left on the certificate in use", facts.days_left(SystemTime::now()))
                }
                None => "nobody gets in by https until then".to_owned(),
            };
            tracing::error!("ACME: no certificate for {names}: {why}. Asked again in {} s; {without}", again.as_secs());
            tokio::time::sleep(again).await;
            again = (again * 2).min(AGAIN_LAST);
        }
    }

    /// One run of the library: what is kept, or a new one, and renewals. `Ok`: time to look anew.
    async fn exchange(&self, again: &mut Duration) -> Result<(), Trouble> {
        let tls = &self.config.tls;
        let contact = Some(format!("mailto:{}", tls.acme_email)).filter(|_| !tls.acme_email.is_empty());
        let mut state: AcmeState<std::io::Error> =
            AcmeConfig::new_with_client_config(self.config.acme_names(), self.client.clone())
                .contact(contact)
                .directory(&tls.acme_directory)
                .cache(DirCache::new(folder(&self.config)))
                .state();
        let resolver = state.resolver();
        self.shown.ask(resolver.clone());
        let mut in_use = false;
        loop {
            let patience = if in_use { LOOK_EVERY } else { PATIENCE };
            let event: Outcome = match timeout(patience, state.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(_) if in_use => return Ok(()),
                Err(_) => return Err(Trouble::Silent),
            };
            match event {
                Ok(EventOk::DeployedCachedCert) => {
                    self.shown.serve(resolver.clone());
                    in_use = true;
                }
                Ok(EventOk::DeployedNewCert) => {
                    self.shown.serve(resolver.clone());
                    (in_use, *again) = (true, AGAIN_FIRST);
                }
                Ok(EventOk::CertCacheStore) => {
                    if let Some(facts) = kept(&self.config).await {
                        let days = facts.days_left(SystemTime::now());
                        tracing::info!("ACME: certificate for {}, {days} days left", facts.names.join(", "));
                    }
                }
                Ok(EventOk::AccountCacheStore) => {}
                // What lies in the folder is damaged or unreadable: a new one is asked for, which this tells.
                Err(
                    e @ (EventError::CachedCertParse(_)
                    | EventError::CertCacheLoad(_)
                    | EventError::AccountCacheLoad(_)),
                ) => {
                    tracing::warn!("ACME: {}: {e}; asking for a new one", folder(&self.config).display());
                }
                Err(EventError::CertCacheStore(e) | EventError::AccountCacheStore(e)) => tracing::error!(
                    "ACME: {}: {e}. Without it each start asks anew, and the authority will refuse before long: let \
                     lotse-server write there",
                    folder(&self.config).display()
                ),
                Err(e @ EventError::NewCertParse(_)) => return Err(Trouble::Other(e.to_string())),
                Err(EventError::Order(e)) => return Err(Trouble::Order(e)),
            }
        }
    }

    /// What an operator can do about it.
    async fn words(&self, trouble: Trouble) -> String {
        let order = match trouble {
            Trouble::Silent => return format!("no answer within {} minutes", PATIENCE.as_secs() / 60),
            Trouble::Other(why) => return why,
            Trouble::Order(order) => order,
        };
        match order {
            OrderError::BadAuth(auth) => unproved(&auth),
            OrderError::TooManyAttemptsAuth(name) => {
                format!("the authority did not come to look at {name} in time")
            }
            OrderError::Acme(AcmeError::HttpRequest(e)) => {
                // The library's own words are its inner life.
                match ask(&self.config.tls.acme_directory).await {
                    Err((why, _)) => why,
                    Ok(()) => refused(&e.to_string()),
                }
            }
            other => other.to_string(),
        }
    }
}

enum Trouble {
    Order(OrderError),
    Silent,
    Other(String),
}

/// It looked, and did not find us.
fn unproved(auth: &Auth) -> String {
    let rustls_acme::acme::Identifier::Dns(name) = &auth.identifier;
    let said = auth.challenges.iter().find_map(|c| c.error.as_ref()?.detail.clone()).unwrap_or_default();
    format!(
        "the authority did not find this server under {name} ({said}). The name must lead to this machine, and port 443 there to \
         http.listen"
    )
}

/// What the authority said, out of the library's report of its answer: a problem document (RFC 7807), quoted once more.
fn refused(report: &str) -> String {
    let quoted = report
        .find("\"{")
        .and_then(|from| serde_json::Deserializer::from_str(&report[from..]).into_iter::<String>().next());
    let problem = quoted.and_then(Result::ok).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    match problem.as_ref().and_then(|problem| problem["detail"].as_str()) {
        Some(detail) => format!("the authority refuses: {detail}. Look at [tls] names, acme_email and its limits"),
        None => report.to_owned(),
    }
}

/// The newest exchange answers the authority's questions, the last one that came to a certificate serves people.
#[derive(Debug, Default)]
struct Shown(RwLock<[Option<Arc<ResolvesServerCertAcme>>; 2]>);

impl Shown {
    fn ask(&self, resolver: Arc<ResolvesServerCertAcme>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner)[0] = Some(resolver);
    }

    fn serve(&self, resolver: Arc<ResolvesServerCertAcme>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner)[1] = Some(resolver);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let [asking, serving] = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let resolver = if is_tls_alpn_challenge(&hello) { asking } else { serving };
        resolver?.resolve(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authoritys_own_words_are_found_in_the_librarys_report() {
        let body = "{\n \"type\": \"urn:ietf:params:acme:error:rateLimited\",\n \"detail\": \"too many failed \\\"orders\\\"\"\n}";
        let report = format!("acme error: http request error: non 2xx http status: 429 {body:?}");
        assert!(refused(&report).contains("refuses: too many failed \"orders\"."), "{}", refused(&report));
        assert_eq!(refused("non 2xx http status: 500 \"<html>\""), "non 2xx http status: 500 \"<html>\"");
    }
}
