//! Who is believed when a server proves its name.

use std::{collections::HashMap, path::Path, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::definition::{Definition, Transport};

/// TLS settings by what they depend on: the authorities and the protocol. Sessions are resumed within one of them.
#[derive(Debug, Default)]
pub(crate) struct TlsSettings {
    made: HashMap<(Option<std::path::PathBuf>, Transport), Arc<ClientConfig>>,
    system: Option<Arc<RootCertStore>>,
}

impl TlsSettings {
    /// The settings for a server.
    ///
    /// # Errors
    /// When there are no authorities to believe: the system has none, or its own file cannot be read.
    pub(crate) fn of(&mut self, server: &Definition) -> anyhow::Result<Arc<ClientConfig>> {
        let key = (server.ca_file.clone(), server.transport);
        if let Some(made) = self.made.get(&key) {
            return Ok(Arc::clone(made));
        }
        let roots = match &server.ca_file {
            Some(path) => Arc::new(from_file(path)?),
            None => self.system_roots()?,
        };
        let made = Arc::new(settings(roots, server.transport)?);
        self.made.insert(key, Arc::clone(&made));
        Ok(made)
    }

    fn system_roots(&mut self) -> anyhow::Result<Arc<RootCertStore>> {
        if let Some(roots) = &self.system {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!(
                "find certificate authorities of the system: none; install the package ca-certificates, or name a `ca_file`"
            );
        }
        Ok(Arc::clone(self.system.insert(Arc::new(roots))))
    }
}

fn from_file(path: &Path) -> anyhow::Result<RootCertStore> {
    let what = || format!("read certificate authorities from {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(what)? {
        roots.add(certificate.with_context(what)?).with_context(what)?;
    }
    if roots.is_empty() {
        bail!("{}: there is none in it; it holds them in PEM form", what());
    }
    Ok(roots)
}

fn settings(roots: Arc<RootCertStore>, transport: Transport) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match transport {
        Transport::Quic | Transport::H3 => &[&rustls::version::TLS13],
        _ => rustls::DEFAULT_VERSIONS,
    };
    let mut made = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .context("set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    made.alpn_protocols = match transport {
        Transport::Tls => vec![b"dot".to_vec()],
        Transport::Https => vec![b"h2".to_vec()],
        Transport::H3 => vec![b"h3".to_vec()],
        Transport::Quic => vec![b"doq".to_vec()],
        Transport::Udp | Transport::Tcp => Vec::new(),
    };
    Ok(made)
}
