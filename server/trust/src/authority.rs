//! The own certificate authority: for networks where no public one issues certificates.
//!
//! Owns: `tls-ca.key` (0600) and `tls-ca.crt` beside the server's other keys, and the leaves signed by them.
//! Never: signs for names outside its constraints. People put this authority on their phones, so it is bound to the names it
//! was made for and to private addresses (RFC 5280 4.2.1.10): a stolen key cannot stand in for anybody else.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::{Pin, TrustError};

const KEY_FILE: &str = "tls-ca.key";
const CERTIFICATE_FILE: &str = "tls-ca.crt";
/// As long as a machine is in service; changing it means a visit to every phone.
const AUTHORITY_LIFE: Duration = Duration::days(3_650);
/// Renewed by itself after two thirds; short, because nothing but a restart is needed for a new one.
const LEAF_LIFE: Duration = Duration::days(30);
/// Clocks of phones and glasses are wrong by minutes.
const EARLIER: Duration = Duration::hours(24);
/// Addresses that lead out of no company (RFC 1918, 3927, 4193, 4291, and loopback).
const PRIVATE: [(IpAddr, u8); 8] = [
    (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128),
];

/// See the module.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// A certificate of the server, with its authority's behind it.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// When the next one is due.
    pub renew_at: SystemTime,
}

impl Leaf {
    /// Certificate and authority as a file.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem_text("CERTIFICATE", der)).collect()
    }

    /// The key as a file.
    pub fn key_pem(&self) -> String {
        pem_text("PRIVATE KEY", self.key.secret_der())
    }
}

/// RFC 7468.
fn pem_text(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {kind}-----\n");
    for at in (0..text.len()).step_by(64) {
        out.push_str(&text[at..text.len().min(at + 64)]);
        out.push('\n');
    }
    out + &format!("-----END {kind}-----\n")
}

fn broken(e: impl std::fmt::Display) -> TrustError {
    TrustError::Tls(e.to_string())
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> TrustError {
    let path = path.display().to_string();
    move |e| TrustError::File { path: path.clone(), why: e.to_string() }
}

impl Authority {
    /// Makes a new one for `names` (DNS names and addresses).
    pub fn make(names: &[String], now: SystemTime) -> Result<Self, TrustError> {
        let now = OffsetDateTime::from(now);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // The name or address that people type, rather than `localhost`, which is always among them.
        let title = names.iter().find(|n| n.as_str() != "localhost" && n.parse::<IpAddr>().is_err());
        let address = |n: &&String| n.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback());
        let title = title.or_else(|| names.iter().find(address)).or(names.first());
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Lotse CA {}", title.map_or("localhost", String::as_str)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - EARLIER;
        params.not_after = now + AUTHORITY_LIFE;
        let mut permitted = vec![GeneralSubtree::DnsName("localhost".into())];
        permitted
            .extend(PRIVATE.map(|(ip, prefix)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, prefix))));
        for name in names {
            permitted.push(match name.parse::<IpAddr>() {
                Ok(ip) => {
                    let whole = if ip.is_ipv4() { 32 } else { 128 };
                    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, whole))
                }
                Err(_) => GeneralSubtree::DnsName(name.clone()),
            });
        }
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
        let key = KeyPair::generate().map_err(broken)?;
        let made = params.self_signed(&key).map_err(broken)?;
        Ok(Self { certificate: made.der().clone(), pem: made.pem(), key })
    }

    /// Writes key and certificate. An older authority in that folder is replaced.
    pub fn save(&self, dir: &Path) -> Result<(), TrustError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
        for (name, text, mode) in
            [(KEY_FILE, self.key.serialize_pem(), 0o600), (CERTIFICATE_FILE, self.pem.clone(), 0o644)]
        {
            let path = dir.join(name);
            let beside = dir.join(format!("{name}.new"));
            let write = || {
                // What a crash left must not lend its permissions.
                let _ = fs::remove_file(&beside);
                let mut out = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
                out.write_all(text.as_bytes())?;
                out.sync_all()?;
                fs::rename(&beside, &path)
            };
            write().map_err(file(&path))?;
        }
        Ok(())
    }

    /// Reads the one in `dir`; `None` when there is none.
    pub fn open(dir: &Path) -> Result<Option<Self>, TrustError> {
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let text = match fs::read_to_string(&key_path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(file(&key_path)(e)),
        };
        let mode = fs::metadata(&key_path).map_err(file(&key_path))?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = key_path.display().to_string();
            return Err(TrustError::File { why: format!("other users may read it (run: chmod 600 {path})"), path });
        }
        let pem = fs::read_to_string(&certificate_path).map_err(file(&certificate_path))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| TrustError::NotACertificate(certificate_path.display().to_string()))?;
        Ok(Some(Self { certificate, pem, key: KeyPair::from_pem(&text).map_err(broken)? }))
    }

    /// What travels in the pairing code.
    pub fn pin(&self) -> Result<Pin, TrustError> {
        Pin::of(&self.certificate)
    }

    /// The certificate, for a person to install.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the whole certificate, as phones show it: `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        let bytes = Sha256::digest(&self.certificate);
        bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    }

    /// A fresh certificate for `names` with a fresh key.
    pub fn leaf(&self, names: &[String], now: SystemTime) -> Result<Leaf, TrustError> {
        self.leaf_for(names, now, LEAF_LIFE)
    }

    fn leaf_for(&self, names: &[String], now: SystemTime, life: Duration) -> Result<Leaf, TrustError> {
        let start = OffsetDateTime::from(now);
        let mut params = CertificateParams::new(names.to_vec()).map_err(broken)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "lotse-server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = start - EARLIER;
        params.not_after = start + life;
        let key = KeyPair::generate().map_err(broken)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(broken)?;
        let made = params.signed_by(&key, &issuer).map_err(broken)?;
        Ok(Leaf {
            chain: vec![made.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            renew_at: SystemTime::from(start + life * 2 / 3),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::{Facts, Fault, client::verifier};

    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    /// What a device with this pin says of a leaf, asked for `name` at `now`.
    fn judge(pin: Pin, leaf: &Leaf, name: &str, now: SystemTime) -> Result<(), Fault> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).expect("after 1970"));
        let verifier: Arc<dyn rustls::client::danger::ServerCertVerifier> = verifier(Some(pin)).expect("a verifier");
        let judged = verifier.verify_server_cert(&leaf.chain[0], &leaf.chain[1..], &name, &[], now);
        judged.map(|_| ()).map_err(|e| Fault::of(&e))
    }

    #[test]
    fn only_the_pinned_authority_counts_and_only_for_its_names_and_dates() {
        let now = SystemTime::now();
        let list = names(&["lotse.example.org", "192.168.7.20", "203.0.113.9"]);
        let (ours, other) = (Authority::make(&list, now).expect("made"), Authority::make(&list, now).expect("made"));
        let (pin, leaf) = (ours.pin().expect("a pin"), ours.leaf(&list, now).expect("a leaf"));
        for name in &list {
            assert_eq!(judge(pin, &leaf, name, now), Ok(()), "{name}");
        }
        assert_eq!(judge(pin, &leaf, "192.168.7.21", now), Err(Fault::OtherName));
        assert_eq!(judge(pin, &leaf, "lotse.example.org", now + 31 * DAY), Err(Fault::Expired));
        assert_eq!(judge(pin, &leaf, "lotse.example.org", now - 2 * DAY), Err(Fault::NotYetValid));
        let foreign = other.leaf(&list, now).expect("a leaf");
        let shown = other.pin().ok();
        assert_eq!(judge(pin, &foreign, "lotse.example.org", now), Err(Fault::OtherAuthority { shown }));
        // The right authority put behind a foreign leaf proves nothing.
        let mixed = Leaf { chain: vec![foreign.chain[0].clone(), leaf.chain[1].clone()], ..leaf };
        assert!(judge(pin, &mixed, "lotse.example.org", now).is_err());
    }

    #[test]
    fn a_stolen_authority_key_cannot_stand_in_for_others() {
        let now = SystemTime::now();
        let ours = Authority::make(&names(&["lotse.example.org"]), now).expect("made");
        let pin = ours.pin().expect("a pin");
        for foreign in ["bank.example.com", "198.51.100.1"] {
            let leaf = ours.leaf(&names(&[foreign]), now).expect("signed, as a thief would");
            assert!(judge(pin, &leaf, foreign, now).is_err(), "{foreign}");
        }
        let moved = ours.leaf(&names(&["10.1.2.3", "localhost"]), now).expect("a leaf");
        assert_eq!(judge(pin, &moved, "10.1.2.3", now), Ok(()), "a new private address needs no new authority");
    }

    #[test]
    fn it_is_kept_from_others_and_read_again_as_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(Authority::open(dir.path()).expect("readable").is_none());
        let now = SystemTime::now();
        let made = Authority::make(&names(&["10.0.0.5"]), now).expect("made");
        made.save(dir.path()).expect("saved");
        let key = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
        let read = Authority::open(dir.path()).expect("readable").expect("there");
        assert_eq!(read.pin().expect("pin"), made.pin().expect("pin"));
        assert_eq!(
            judge(made.pin().expect("pin"), &read.leaf(&names(&["10.0.0.5"]), now).expect("leaf"), "10.0.0.5", now),
            Ok(())
        );
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Authority::open(dir.path()).err().expect("refused").to_string().contains("chmod 600"));
    }

    #[test]
    fn facts_name_what_a_leaf_is_for_and_how_long() {
        let now = SystemTime::now();
        let list = names(&["lotse.example.org", "192.168.7.20", "fd00::7"]);
        let authority = Authority::make(&list, now).expect("made");
        let leaf = authority.leaf(&list, now).expect("a leaf");
        let facts = Facts::of(&leaf.chain[0]).expect("readable");
        assert_eq!(facts.names, list);
        assert!((29..=30).contains(&facts.days_left(now)), "{}", facts.days_left(now));
        assert!(facts.is_for("LOTSE.example.org") && !facts.is_for("example.org"));
        assert!(!facts.is_authority && Facts::of(&leaf.chain[1]).expect("readable").is_authority);
        assert!(leaf.renew_at > now + 19 * DAY && leaf.renew_at < now + 21 * DAY);
    }
}
