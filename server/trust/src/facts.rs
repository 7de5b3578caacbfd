//! What stands in a certificate, and what a server shows when somebody knocks. For `doctor` and for tests.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::{Fault, Pin, TrustError, client::verifier, provider};

/// Longest wait for a server that was knocked at.
const PATIENCE: Duration = Duration::from_secs(8);

/// Names and dates of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// DNS names and addresses it is for.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub is_authority: bool,
}

impl Facts {
    /// Reads a certificate in DER.
    pub fn of(certificate: &[u8]) -> Result<Self, TrustError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|e| TrustError::NotACertificate(e.to_string()))?;
        let mut names = Vec::new();
        if let Ok(Some(listed)) = parsed.subject_alternative_name() {
            for name in &listed.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => names.extend(address(bytes).map(|a| a.to_string())),
                    _ => {}
                }
            }
        }
        Ok(Self {
            names,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_authority: parsed.is_ca(),
        })
    }

    /// Whole days until it runs out; negative afterwards.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        (self.not_after - now).div_euclid(24 * 3600)
    }

    /// Whether it is for this host; a leading `*.` stands for one label.
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| {
            let rest = name.strip_prefix("*.").zip(host.split_once('.'));
            name.eq_ignore_ascii_case(host) || rest.is_some_and(|(name, (_, host))| name.eq_ignore_ascii_case(host))
        })
    }
}

/// The first certificate of a PEM file.
pub fn first_facts(pem: &[u8]) -> Option<Facts> {
    use rustls::pki_types::pem::PemObject as _;
    Facts::of(&CertificateDer::from_pem_slice(pem).ok()?).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a server showed.
#[derive(Debug)]
pub struct Seen {
    /// Its own certificate; absent when none came.
    pub facts: Option<Facts>,
    /// Why it is not believed; absent when it is.
    pub fault: Option<Fault>,
}

/// Knocks at `host:port` and looks at the certificate. `Err`: nobody answered there.
pub async fn look_at(host: &str, port: u16, pin: Option<Pin>) -> std::io::Result<Seen> {
    let verifier = verifier(pin).map_err(std::io::Error::other)?;
    let recorder = Arc::new(Recorder { verifier, seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 8 s");
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(std::io::Error::other)?;
    let stream =
        tokio::time::timeout(PATIENCE, TcpStream::connect((bare.as_str(), port))).await.map_err(|_| late())??;
    let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    let fault = match tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| late())? {
        Ok(_) => None,
        Err(e) => Some(Fault::find(&e).unwrap_or_else(|| Fault::Other(e.to_string()))),
    };
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Seen { facts: seen.and_then(|der| Facts::of(&der).ok()), fault })
}

/// Facts of the certificate at an address; `None` where it is not `https`, nobody answers, or something is wrong with it.
pub async fn sound_facts(url: &str, pin: Option<Pin>) -> Option<Facts> {
    let authority = url.strip_prefix("https://")?.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(443)),
        _ => (authority, 443),
    };
    let seen = look_at(host, port, pin).await.ok()?;
    seen.facts.filter(|_| seen.fault.is_none())
}

/// Keeps what was shown and leaves the judgement to another.
#[derive(Debug)]
struct Recorder {
    verifier: Arc<dyn ServerCertVerifier>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
