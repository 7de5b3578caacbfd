//! TLS as glasses and archivist speak it: by pin where the pairing code carried one, else by the roots of the system.
//!
//! A pin narrows trust: exactly the authority with that key counts, and still the certificate must be in date and for the name
//! that was asked for. Never: accepts a certificate because nothing was configured.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{Fault, Pin, TrustError, provider};

/// Settings for connections to the server.
pub fn client_config(pin: Option<Pin>) -> Result<ClientConfig, TrustError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TrustError::Tls(e.to_string()))?;
    let config = builder.dangerous().with_custom_certificate_verifier(verifier(pin)?).with_no_client_auth();
    Ok(config)
}

pub(crate) fn verifier(pin: Option<Pin>) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    if let Some(pin) = pin {
        return Ok(Arc::new(Pinned { pin, provider: provider() }));
    }
    let mut roots = RootCertStore::empty();
    // One unreadable root among hundreds is no reason to trust nobody.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        // Loopback without TLS works all the same; a TLS server is then refused as unknown.
        return Ok(Arc::new(Nobody { provider: provider() }));
    }
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
        .build()
        .map(|v| v as Arc<dyn ServerCertVerifier>)
        .map_err(|e| TrustError::Tls(e.to_string()))
}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

/// A system without any root certificates.
#[derive(Debug)]
struct Nobody {
    provider: Arc<CryptoProvider>,
}

macro_rules! signatures_by_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = intermediates.iter().find(|c| Pin::of(c).is_ok_and(|p| p == self.pin)) else {
            let shown = intermediates.last().and_then(|c| Pin::of(c).ok());
            let fault = OtherError(Arc::new(Fault::OtherAuthority { shown }));
            return Err(CertificateError::Other(fault).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let checked = WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        checked.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    signatures_by_provider!();
}

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    signatures_by_provider!();
}
