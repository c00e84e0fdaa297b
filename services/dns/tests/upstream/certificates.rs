//! An authority of the test's own, and what it vouches for.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;

/// The name that servers of these tests prove.
pub(crate) const NAME: &str = "resolver.example";

/// A directory with `ca.pem`, and `server.pem` and `server.key` for [`NAME`] and 127.0.0.1.
pub(crate) struct Certificates {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "An authority for tests");
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let made = Self {
            directory: TempDir::new().unwrap(),
            issuer,
        };
        std::fs::write(made.path("ca.pem"), made.issuer.pem()).unwrap();
        made.issue("server", |_| {});
        made.issue("expired", |params| params.not_after = date_time_ymd(2024, 1, 1));
        made
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, file: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}
