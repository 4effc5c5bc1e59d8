//! Certificates and keys: from PEM files to what connections are encrypted with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use crate::reload::{FileError, Reloaded};
use crate::settings::Tls;

mod validity;

/// HTTP/2, as gRPC speaks it.
const PROTOCOL: &[u8] = b"h2";

/// What the port encrypts with, following its files; `None` where the settings name none.
///
/// # Errors
/// When a file is missing, not PEM, expired, or the key belongs to another certificate.
pub fn follow(tls: &Tls) -> Result<Option<Arc<Reloaded<ServerConfig>>>, FileError> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(None) };
    let files: Vec<PathBuf> = [certificate, key].into_iter().chain(&tls.client_ca).cloned().collect();
    let names = files.clone();
    let made = move |contents: &[Vec<u8>]| {
        let client_ca = names.get(2).zip(contents.get(2));
        server((&names[0], &contents[0]), (&names[1], &contents[1]), client_ca)
    };
    Reloaded::follow("the certificate", files, made).map(Some)
}

type File<'a> = (&'a PathBuf, &'a Vec<u8>);

fn server(
    certificate: File<'_>,
    key: File<'_>,
    client_ca: Option<File<'_>>,
) -> Result<ServerConfig, FileError> {
    let refuse = |error: Error| FileError::new(certificate.0, format!("cannot be used: {error}"));
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(refuse)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider.clone())
                    .build()
                    .map_err(|error| FileError::new(file.0, format!("cannot be used: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let identity = identity(certificate, key, &provider)?;
    let mut config = builder
        .with_single_cert(identity.0, identity.1)
        .map_err(|error| FileError::new(certificate.0, format!("cannot be used: {error}")))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// What a client encrypts with: the authorities it trusts (those of the system where none is given)
/// and, for mutual TLS, its own certificate and key.
///
/// # Errors
/// As [`follow`].
pub fn client(ca: Option<&Path>, identity_files: Option<(&Path, &Path)>) -> Result<ClientConfig, FileError> {
    let provider = Arc::new(ring::default_provider());
    let roots = match ca {
        Some(file) => roots((&file.to_owned(), &read(file)?))?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let refuse = |error: Error| {
        FileError::new(ca.unwrap_or(Path::new("the system's certificates")), error.to_string())
    };
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(refuse)?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity_files {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let files = (certificate.to_owned(), key.to_owned());
            let identity = identity((&files.0, &read(certificate)?), (&files.1, &read(key)?), &provider)?;
            builder.with_client_auth_cert(identity.0, identity.1).map_err(refuse)?
        }
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(file).map_err(|error| FileError::new(file, format!("cannot be read: {error}")))
}

/// A certificate chain and its key, which belong together and are valid now.
fn identity(
    certificate: File<'_>,
    key: File<'_>,
    provider: &CryptoProvider,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), FileError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(key.1).map_err(|_| {
        FileError::new(key.0, "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    })?;
    let pair = CertifiedKey::from_der(chain.clone(), private.clone_key(), provider);
    pair.map_err(|error| match error {
        Error::InconsistentKeys(_) => FileError::new(
            key.0,
            format!(
                "is not the key of the certificate in {}: give the two that belong together",
                certificate.0.display()
            ),
        ),
        Error::InvalidCertificate(_) => FileError::new(certificate.0, format!("cannot be used: {error}")),
        error => FileError::new(key.0, format!("cannot be used: {error}")),
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // What cannot be read of it is left to those who connect to judge.
    if let Some(validity) = validity::of(&chain[0]) {
        let refuse = |word: &str, at: &str| {
            Err(FileError::new(certificate.0, format!("the certificate {word} ({at}); give a valid one")))
        };
        if now > validity.until.seconds {
            return refuse("has expired", &validity.until.text);
        }
        if now < validity.from.seconds {
            return refuse("is not valid yet", &validity.from.text);
        }
    }
    Ok((chain, private))
}

fn certificates(file: File<'_>) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file.1).collect();
    certificates.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        FileError::new(file.0, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    })
}

fn roots(file: File<'_>) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| {
            FileError::new(file.0, format!("holds a certificate that cannot be used: {error}"))
        })?;
    }
    Ok(roots)
}
