//! Whom TLS trusts: the host's CA bundle and the directories of certificates that docker and podman have for each registry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::Settings;
use super::url::Origin;
use crate::error::{Error, Result};

/// Where distributions keep their bundle.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest bundle is some hundred kB.
const MAX_FILE: u64 = 4 << 20;

/// What lies in a directory of certificates: `*.crt` to trust, `*.cert` and `*.key` to be known by.
#[derive(Default)]
struct Own {
    trusted: Vec<CertificateDer<'static>>,
    client: Option<Known>,
}

/// A certificate to be known by, and its key.
struct Known {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: Vec<u8>,
}

/// The configuration for one origin. Only the registry itself is shown a client's certificate, never whom it redirects to.
pub(crate) fn config(settings: &Settings, origin: &Origin, itself: bool) -> Result<TlsConfig> {
    let mut own = Own::default();
    for directory in directories(settings, origin) {
        read_directory(&directory, &mut own)?;
    }
    if let Some(directory) = &settings.cert_dir {
        if !directory.is_dir() {
            return Err(Error::refused(
                directory.display(),
                "is no directory",
                "name one with *.crt files in it: --cert-dir DIR",
            ));
        }
        read_directory(directory, &mut own)?;
    }
    let mut trusted = own.trusted;
    trusted.extend(bundle(settings)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = None;
    if let Some(known) = own.client.filter(|_| itself) {
        // A key that does not fit is found here: the HTTP client takes for granted that it does.
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_root_certificates(RootCertStore::empty())
                    .with_client_auth_cert(known.chain.clone(), known.key.clone_key())
            })
            .map_err(|error| {
                Error::refused(
                    format!("the client certificate for {origin}"),
                    error.to_string(),
                    "put a *.cert and the *.key that belongs to it into the directory",
                )
            })?;
        client = Some(client_cert(&known, origin)?);
    }
    let roots: Vec<Certificate<'static>> = trusted
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(client)
        .build())
}

fn client_cert(known: &Known, origin: &Origin) -> Result<ClientCert> {
    let chain: Vec<Certificate<'static>> = known
        .chain
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    let key = PrivateKey::from_pem(&known.pem).map_err(|_| {
        Error::refused(
            format!("the client key for {origin}"),
            "is no private key in PEM",
            "put a *.cert and the *.key that belongs to it into the directory",
        )
    })?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// `certs.d` of podman and docker, for this host and port.
fn directories(settings: &Settings, origin: &Origin) -> Vec<PathBuf> {
    let home = (settings.env)("HOME").filter(|home| !home.is_empty());
    let own = home.map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    let with_port = format!("{}:{}", origin.host, origin.port);
    let names = [origin.authority(), with_port];
    let mut found: Vec<PathBuf> = own
        .into_iter()
        .chain(shared)
        .flat_map(|root| names.clone().map(|name| root.join(name)))
        .filter(|directory| directory.is_dir())
        .collect();
    found.dedup();
    found
}

fn read_directory(directory: &Path, own: &mut Own) -> Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        paths.push(entry.map_err(Error::io(directory))?.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => own.trusted.extend(certificates(&path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                let pem = read(&key)?;
                let key = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|_| bad(&key, "holds no private key in PEM"))?;
                let chain = certificates(&path)?;
                own.client = Some(Known { chain, key, pem });
            }
            _ => {}
        }
    }
    Ok(())
}

fn bundle(settings: &Settings) -> Result<Vec<CertificateDer<'static>>> {
    // As OpenSSL and Go read it.
    if let Some(named) = (settings.env)("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        return certificates(Path::new(&named));
    }
    for path in BUNDLES.map(Path::new) {
        match fs::metadata(path) {
            Ok(_) => return certificates(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
    Ok(Vec::new())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(bad(path, "holds no certificates in PEM")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    crate::store::open_regular(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(Error::io(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(path, "is larger than 4 MiB"));
    }
    Ok(bytes)
}

fn bad(path: &Path, problem: &str) -> Error {
    Error::refused(
        path.display(),
        problem,
        "put PEM files there: *.crt to trust, *.cert with its *.key to be known by",
    )
}
