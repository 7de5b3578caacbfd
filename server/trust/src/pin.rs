//! A pin: SHA-256 of a certificate's public key (SPKI), and the pairing code that carries it.
//!
//! The key is pinned and not the certificate, so that a CA certificate renewed for the same key stays trusted.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::TrustError;

/// SHA-256 of a SubjectPublicKeyInfo; written as 43 letters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Result<Self, TrustError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|e| TrustError::NotACertificate(e.to_string()))?;
        Ok(Self(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = TrustError;
    fn from_str(text: &str) -> Result<Self, TrustError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| TrustError::BadPin)?;
        Ok(Self(bytes.try_into().map_err(|_| TrustError::BadPin)?))
    }
}

/// Takes a pairing code apart: `ABCD-EFGH`, or `ABCD-EFGH.PIN` from a server with its own CA.
pub fn split_code(code: &str) -> Result<(&str, Option<Pin>), TrustError> {
    match code.trim().split_once('.') {
        None => Ok((code.trim(), None)),
        Some((code, pin)) => Ok((code, Some(pin.parse()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_with_a_pin_comes_apart_and_a_damaged_pin_is_refused() {
        let pin = Pin([7; 32]);
        let code = format!(" ABCD-EFGH.{pin}\n");
        assert_eq!(split_code(&code).expect("whole"), ("ABCD-EFGH", Some(pin)));
        assert_eq!(split_code("ABCD-EFGH").expect("plain"), ("ABCD-EFGH", None));
        assert_eq!(pin.to_string().len(), 43);
        for damaged in ["ABCD-EFGH.", "ABCD-EFGH.abc", &code.trim()[..40], "ABCD-EFGH.ü"] {
            assert!(split_code(damaged).is_err(), "{damaged}");
        }
    }
}
