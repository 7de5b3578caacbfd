//! The certificate of our own port: from files, or from the own authority.
//!
//! Owns: the TLS settings of the port and their renewal. A certificate in use stays until a better one is there: a broken new
//! file never closes the door. Never: accepts a connection (`front`), makes the authority (`admin make-ca`).
//! Elsewhere: certificates of an ACME authority (`acme`).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use lotse_trust::{Authority, Facts, Pin};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    acme,
    config::{Config, TlsFrom},
    error::Error,
    shutdown::{Stop, stopped},
};

/// Files and dates are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Said in the log when fewer days are left, at start and then daily.
const WARN_DAYS: i64 = 14;
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a connection is served with.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    /// Answers an ACME authority's question (TLS-ALPN-01, RFC 8737).
    pub challenge: Option<Arc<ServerConfig>>,
    pub authority: Option<Arc<Published>>,
}

/// What others may know of the own authority.
pub struct Published {
    pub pem: String,
    /// SHA-256 of the certificate, as phones show it.
    pub fingerprint: String,
    pub pin: Pin,
}

/// The own authority as it may be told, where [tls] from says so.
pub fn published(config: &Config) -> Result<Option<Published>, Error> {
    if config.tls.from != TlsFrom::OwnCa {
        return Ok(None);
    }
    let authority = authority(config)?;
    let pin = authority.pin().map_err(key_trouble)?;
    Ok(Some(Published { pem: authority.pem().to_owned(), fingerprint: authority.fingerprint(), pin }))
}

/// Opens what [tls] says and keeps it fresh until the program stops.
pub fn open(config: &Config, stop: Stop) -> Result<Option<Tls>, Error> {
    let source: Box<dyn Source> = match config.tls.from {
        TlsFrom::None => return Ok(None),
        TlsFrom::Acme => {
            let acme::Served { config, challenge } = acme::open(config, stop)?;
            return Ok(Some(Tls { config, challenge: Some(challenge), authority: None }));
        }
        TlsFrom::Files => Box::new(Files::new(&config.tls.cert, &config.tls.key)),
        TlsFrom::OwnCa => {
            Box::new(Own { authority: authority(config)?, names: config.names(), renew_at: SystemTime::UNIX_EPOCH })
        }
    };
    let mut certificates = Kept::new(source)?;
    let tls = Tls {
        config: serving(certificates.shown.clone())?,
        challenge: None,
        authority: published(config)?.map(Arc::new),
    };
    tokio::spawn(async move {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = every.tick() => certificates.refresh(SystemTime::now()),
                () = stopped(stop.clone()) => return,
            }
        }
    });
    Ok(Some(tls))
}

fn authority(config: &Config) -> Result<Authority, Error> {
    Authority::open(&config.data.keys).map_err(key_trouble)?.ok_or_else(|| {
        Error::operator(
            format!("tls.from = own-ca: there is no authority in {}", config.data.keys.display()),
            "Make it once: lotse-server admin make-ca.",
        )
    })
}

pub(crate) fn key_trouble(e: lotse_trust::TrustError) -> Error {
    Error::operator(e, "Look at the files in data.keys; lotse-server admin make-ca --replace makes a new authority.")
}

/// Settings of the port with certificates from there.
pub(crate) fn serving(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(lotse_trust::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Us(format!("TLS: {e}")))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    // Live sockets begin as HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Where the next certificate comes from.
trait Source: Send {
    /// A newer certificate than the one given last, if there is one.
    fn newer(&mut self, now: SystemTime) -> Result<Option<CertifiedKey>, Error>;
}

/// Hands out the newest.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Kept {
    source: Box<dyn Source>,
    shown: Arc<Shown>,
    not_after: SystemTime,
    warned: Option<SystemTime>,
}

impl Kept {
    fn new(source: Box<dyn Source>) -> Result<Self, Error> {
        let mut kept =
            Self { source, shown: Arc::new(Shown::default()), not_after: SystemTime::UNIX_EPOCH, warned: None };
        let first = kept.source.newer(SystemTime::now())?;
        kept.show(first.ok_or_else(|| Error::Us("no certificate".into()))?);
        Ok(kept)
    }

    fn show(&mut self, key: CertifiedKey) {
        let facts = key.cert.first().and_then(|der| Facts::of(der).ok());
        let ends = facts.as_ref().map_or(0, |f| u64::try_from(f.not_after).unwrap_or(0));
        (self.not_after, self.warned) = (SystemTime::UNIX_EPOCH + Duration::from_secs(ends), None);
        if let Some(facts) = facts {
            tracing::info!(
                "certificate for {}, {} days left",
                facts.names.join(", "),
                facts.days_left(SystemTime::now())
            );
        }
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }

    fn refresh(&mut self, now: SystemTime) {
        match self.source.newer(now) {
            Ok(Some(key)) => self.show(key),
            Ok(None) => {}
            Err(e) => tracing::error!("the new certificate is not used, the old one stays: {e}"),
        }
        let left = self.not_after.duration_since(now).unwrap_or_default();
        let quiet = self.warned.is_some_and(|at| now < at + WARN_EVERY);
        if left < Duration::from_secs(WARN_DAYS as u64 * 24 * 3600) && !quiet {
            self.warned = Some(now);
            tracing::warn!("the certificate runs out in {} days; renew it", left.as_secs() / (24 * 3600));
        }
    }
}

struct Own {
    authority: Authority,
    names: Vec<String>,
    renew_at: SystemTime,
}

impl Source for Own {
    fn newer(&mut self, now: SystemTime) -> Result<Option<CertifiedKey>, Error> {
        if now < self.renew_at {
            return Ok(None);
        }
        let leaf = self.authority.leaf(&self.names, now).map_err(key_trouble)?;
        self.renew_at = leaf.renew_at;
        certified(leaf.chain, leaf.key).map(Some)
    }
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// Dates and lengths as last seen, whether they were usable or not: trouble is told once.
    seen: Option<[(SystemTime, u64); 2]>,
}

impl Files {
    fn new(cert: &Path, key: &Path) -> Self {
        Self { cert: cert.to_owned(), key: key.to_owned(), seen: None }
    }
}

impl Source for Files {
    fn newer(&mut self, _: SystemTime) -> Result<Option<CertifiedKey>, Error> {
        let unreadable = |key: &str, path: &Path, e: &dyn std::fmt::Display| {
            Error::operator(
                format!("{key} = {}: {e}", path.display()),
                "Name a PEM file that this user may read: the certificate with those it depends on, and its key.",
            )
        };
        let look = |key: &str, path: &Path| {
            let found = std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len())));
            found.map_err(|e| unreadable(key, path, &e))
        };
        let seen = [look("tls.cert", &self.cert)?, look("tls.key", &self.key)?];
        if self.seen.replace(seen) == Some(seen) {
            return Ok(None);
        }
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| unreadable("tls.cert", &self.cert, &e))?;
        if chain.is_empty() {
            return Err(unreadable("tls.cert", &self.cert, &"holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| unreadable("tls.key", &self.key, &e))?;
        certified(chain, key).map(Some)
    }
}

/// Key and certificate, which must belong together.
fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key, &lotse_trust::provider()).map_err(|e| {
        Error::operator(
            format!("tls.cert and tls.key: {e}"),
            "Name the key that the certificate was made with. While both are being replaced this passes by itself.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn leaf_of(kept: &Kept) -> Vec<u8> {
        let shown = kept.shown.0.read().expect("not poisoned");
        shown.as_ref().expect("a certificate").cert[0].to_vec()
    }

    fn authority() -> Authority {
        Authority::make(&["10.0.0.5".to_owned()], SystemTime::now()).expect("made")
    }

    #[test]
    fn the_own_leaf_is_renewed_after_two_thirds_of_its_life() {
        let now = SystemTime::now();
        let own = Own { authority: authority(), names: vec!["10.0.0.5".into()], renew_at: SystemTime::UNIX_EPOCH };
        let mut kept = Kept::new(Box::new(own)).expect("kept");
        let first = leaf_of(&kept);
        kept.refresh(now + 19 * DAY);
        assert_eq!(leaf_of(&kept), first, "too early");
        kept.refresh(now + 21 * DAY);
        let second = leaf_of(&kept);
        assert_ne!(second, first);
        assert!(Facts::of(&second).expect("readable").days_left(now + 21 * DAY) >= 29);
        kept.refresh(now + 22 * DAY);
        assert_eq!(leaf_of(&kept), second);
    }

    #[test]
    fn changed_files_are_taken_and_broken_ones_leave_the_old_certificate() {
        let dir = tempfile::tempdir().expect("a folder");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let write = |name: &str| {
            let made = pair(name);
            std::fs::write(&cert, made.0).expect("written");
            std::fs::write(&key, made.1).expect("written");
        };
        assert!(Kept::new(Box::new(Files::new(&cert, &key))).err().expect("missing").to_string().contains("tls.cert"));
        write("one.example.org");
        let mut kept = Kept::new(Box::new(Files::new(&cert, &key))).expect("kept");
        let names = |kept: &Kept| Facts::of(&leaf_of(kept)).expect("readable").names;
        assert_eq!(names(&kept), ["one.example.org"]);
        let now = SystemTime::now();
        std::fs::write(&cert, "-----BEGIN NONSENSE").expect("written");
        kept.refresh(now);
        assert_eq!(names(&kept), ["one.example.org"]);
        // Half replaced: the key does not fit yet.
        std::fs::write(&cert, pair("half.example.org").0).expect("written");
        kept.refresh(now);
        assert_eq!(names(&kept), ["one.example.org"]);
        write("second.example.org");
        kept.refresh(now);
        assert_eq!(names(&kept), ["second.example.org"]);
        std::fs::remove_file(&key).expect("removed");
        kept.refresh(now);
        assert_eq!(names(&kept), ["second.example.org"]);
    }

    /// Certificate and key in PEM.
    fn pair(name: &str) -> (String, String) {
        let authority = Authority::make(&[name.to_owned()], SystemTime::now()).expect("made");
        let leaf = authority.leaf(&[name.to_owned()], SystemTime::now()).expect("a leaf");
        (leaf.chain_pem(), leaf.key_pem())
    }
}
