//! Who may connect and call: TLS, tokens, numbers of connections, encodings of messages. What is said
//! to whom is in the table of `refusals`.

use std::path::{Path, PathBuf};

use gatefold_proto::inference as oip;
use gatefold_proto::ranking::v1 as wire;
use gatefold_server::client::{self, Access, ConnectError};
use gatefold_server::settings::{Encoding, Settings};
use oip::grpc_inference_service_client::GrpcInferenceServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use wire::admin_client::AdminClient;

use crate::support::{Running, eventually, request};

/// A tokens file of `feed`, who may score, and `operator`, who may do everything.
pub(crate) fn tokens(folder: &Path) -> PathBuf {
    let mut text = String::new();
    for (name, token, rights) in
        [("feed", "feed-token", r#"["score"]"#), ("operator", "operator-token", r#"["score", "admin"]"#)]
    {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("[[caller]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nrights = {rights}\n");
    }
    let file = folder.join("tokens.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A request of the caller with this `authorization`, where there is one.
pub(crate) fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        let value: MetadataValue<_> = value.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_need_a_token_with_the_right() {
    let folder = TempDir::new().unwrap();
    let file = tokens(folder.path());
    let running = Running::start(|settings| {
        settings.tokens = Some(file.clone());
        settings.admin_token = true;
    })
    .await;
    let mut client = running.client().await;
    for token in ["Bearer feed-token", "bearer operator-token"] {
        client.score(with(request(&[1.0]), Some(token))).await.unwrap();
    }
    for token in [None, Some("feed-token"), Some("Bearer feed-tokem")] {
        let error = client.score(with(request(&[1.0]), token)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{token:?}: {error}");
    }
    // What changes the models needs another right, in both protocols.
    let address = format!("http://{}", running.address);
    let mut admin = AdminClient::new(client::connect(&address).await.unwrap());
    let rollback = || wire::RollbackRequest { model: "demo".into() };
    let denied = admin.rollback(with(rollback(), Some("Bearer feed-token"))).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let refused = admin.rollback(with(rollback(), Some("Bearer operator-token"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut inference = GrpcInferenceServiceClient::new(client::connect(&address).await.unwrap());
    let load = oip::RepositoryModelLoadRequest { model_name: "demo".into(), ..Default::default() };
    let denied = inference.repository_model_load(with(load, Some("Bearer feed-token"))).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    // Health needs none.
    inference.server_live(oip::ServerLiveRequest {}).await.unwrap();
    let mut health = HealthClient::new(client::connect(&address).await.unwrap());
    health.check(HealthCheckRequest { service: String::new() }).await.unwrap();

    // The admin port: probes are free, metrics are not.
    assert!(running.get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(running.get("/metrics").await.starts_with("HTTP/1.1 401"));
    let metrics = running.get_with("/metrics", "authorization: Bearer feed-token\r\n").await;
    assert!(metrics.starts_with("HTTP/1.1 403"), "{metrics}");
    let metrics = running.get_with("/metrics", "authorization: Bearer operator-token\r\n").await;
    assert!(metrics.contains("gatefold_calls_total{caller=\"feed\"} 1\n"), "{metrics}");
    // Of the refused calls only those that wanted scores are requests without scores.
    for line in [
        "gatefold_rejections_total{model=\"\",version=\"0\",reason=\"auth\"} 3",
        "gatefold_calls_refused_total{right=\"score\"} 3",
        // Rollback, RepositoryModelLoad, and metrics twice.
        "gatefold_calls_refused_total{right=\"admin\"} 4",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("-token"), "{metrics}");

    // A caller that is taken out of the file is a caller no more; a broken file changes nothing.
    std::fs::write(&file, "[[caller]]\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    client.score(with(request(&[1.0]), Some("Bearer feed-token"))).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut stream = running.client().await;
    let replies = stream.score_stream(with(requests, Some("Bearer feed-token"))).await;
    let mut replies = replies.unwrap().into_inner();
    sender.send(request(&[1.0])).await.unwrap();
    assert!(replies.message().await.unwrap().is_some());
    let text = std::fs::read_to_string(tokens(folder.path())).unwrap();
    let (_, operator) = text.rsplit_once("[[caller]]").unwrap();
    std::fs::write(&file, format!("[[caller]]{operator}")).unwrap();
    eventually(async || {
        let result = client.score(with(request(&[1.0]), Some("Bearer feed-token"))).await;
        result.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    client.score(with(request(&[1.0]), Some("Bearer operator-token"))).await.unwrap();
    // Its streams end with the next request.
    sender.send(request(&[1.0])).await.unwrap();
    let end = replies.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated, "{end}");
}

/// An authority and what it has signed, as PEM files.
struct Certificates {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { folder: TempDir::new().unwrap(), authority };
        std::fs::write(certificates.file("ca.pem"), certificates.authority.pem()).unwrap();
        certificates
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key` of a certificate for 127.0.0.1 with this serial number.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
    }

    fn serve(&self, settings: &mut Settings) {
        settings.tls.certificate = Some(self.file("server.pem"));
        settings.tls.key = Some(self.file("server.key"));
    }

    fn access(&self) -> Access {
        Access { ca: Some(self.file("ca.pem")), ..Access::default() }
    }
}

async fn score(running: &Running, access: &Access) -> Result<(), String> {
    let link = client::connect_with(&format!("https://{}", running.address), access).await;
    let link = link.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    client::Client::new(link).score(request(&[1.0])).await.map(|_| ()).map_err(|status| status.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_its_certificate_followed() {
    let certificates = Certificates::new();
    certificates.issue("server", |_| {});
    let folder = TempDir::new().unwrap();
    let file = tokens(folder.path());
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "feed-token\n").unwrap();
    let running = Running::start(|settings| {
        certificates.serve(settings);
        settings.tokens = Some(file);
    })
    .await;
    let access = Access { token_file: Some(token_file), ..certificates.access() };
    score(&running, &access).await.unwrap();
    // In plain text, or trusting another authority, nobody is heard.
    let plain = client::connect(&format!("http://{}", running.address)).await;
    if let Ok(link) = plain {
        client::Client::new(link).score(request(&[1.0])).await.unwrap_err();
    }
    let others = Certificates::new();
    let error = score(&running, &others.access()).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    eventually(async || {
        running.get("/metrics").await.contains("gatefold_connections_turned_away_total{reason=\"handshake\"}")
    })
    .await;

    // Another authority's certificate, its key a moment later: the one before is used until then.
    others.issue("server", |_| {});
    std::fs::copy(others.file("server.pem"), certificates.file("server.pem")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    score(&running, &access).await.unwrap();
    std::fs::copy(others.file("server.key"), certificates.file("server.key")).unwrap();
    let renewed = Access { ca: Some(others.file("ca.pem")), ..access };
    eventually(async || score(&running, &renewed).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_asks_clients_for_a_certificate() {
    let certificates = Certificates::new();
    certificates.issue("server", |_| {});
    certificates.issue("client", |_| {});
    let running = Running::start(|settings| {
        certificates.serve(settings);
        settings.tls.client_ca = Some(certificates.file("ca.pem"));
    })
    .await;
    let known = Access {
        certificate: Some(certificates.file("client.pem")),
        key: Some(certificates.file("client.key")),
        ..certificates.access()
    };
    score(&running, &known).await.unwrap();
    score(&running, &certificates.access()).await.expect_err("no certificate");
    let others = Certificates::new();
    others.issue("client", |_| {});
    let unknown = Access {
        certificate: Some(others.file("client.pem")),
        key: Some(others.file("client.key")),
        ..known
    };
    score(&running, &unknown).await.expect_err("of another authority");
}

/// What is done to a server's files before it starts, and what it says.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named() {
    type Spoil = fn(&Certificates);
    let cases: &[(Spoil, &str)] = &[
        (
            |files| std::fs::remove_file(files.file("server.pem")).unwrap(),
            "server.pem: cannot be read: No such file",
        ),
        (
            |files| std::fs::write(files.file("server.pem"), "x").unwrap(),
            "server.pem: holds no certificate in PEM form",
        ),
        (
            |files| std::fs::write(files.file("server.key"), "x").unwrap(),
            "server.key: holds no private key in PEM form",
        ),
        (
            |files| {
                std::fs::copy(files.file("ca.pem"), files.file("server.key")).unwrap();
            },
            "server.key: holds no private key in PEM form",
        ),
        (
            |files| {
                files.issue("other", |_| {});
                std::fs::copy(files.file("other.key"), files.file("server.key")).unwrap();
            },
            "server.key: is not the key of the certificate in ",
        ),
        (
            |files| files.issue("server", |params| params.not_after = rcgen::date_time_ymd(2020, 2, 29)),
            "server.pem: the certificate has expired (2020-02-29)",
        ),
        (
            |files| files.issue("server", |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1)),
            "server.pem: the certificate is not valid yet (3000-01-01)",
        ),
        (
            |files| std::fs::write(files.file("ca.pem"), "").unwrap(),
            "ca.pem: holds no certificate in PEM form",
        ),
    ];
    for (spoil, expected) in cases {
        let certificates = Certificates::new();
        certificates.issue("server", |_| {});
        spoil(&certificates);
        let running = Running::start_in(TempDir::new().unwrap(), |settings| {
            certificates.serve(settings);
            settings.tls.client_ca = Some(certificates.file("ca.pem"));
        })
        .await;
        let message = format!("{:#}", running.ended().await.unwrap_err());
        assert!(message.starts_with("TLS: ") && message.contains(expected), "{expected}: {message}");
    }
    let missing = Access { ca: Some("/nowhere/ca.pem".into()), ..Access::default() };
    let error = client::connect_with("https://127.0.0.1:1", &missing).await.unwrap_err();
    assert!(matches!(&error, ConnectError::File(_)), "{error}");
    assert!(error.to_string().starts_with("/nowhere/ca.pem: cannot be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let running = Running::start(|settings| settings.limits.connections = 2).await;
    let first = running.client().await;
    let mut second = running.client().await;
    second.score(request(&[1.0])).await.unwrap();
    let third = async || match client::connect(&format!("http://{}", running.address)).await {
        Ok(link) => client::Client::new(link).score(request(&[1.0])).await.is_ok(),
        Err(_) => false,
    };
    assert!(!third().await, "two are open");
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("gatefold_connections 2\n"), "{metrics}");
    assert!(metrics.contains("gatefold_connections_turned_away_total{reason=\"too_many\"}"), "{metrics}");
    drop(first);
    eventually(third).await;
    second.score(request(&[1.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_compressed_as_both_sides_agree() {
    let running = Running::start(|settings| settings.compression.reply = vec![Encoding::Zstd]).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = running.client().await.send_compressed(encoding);
        let reply = client.score(request(&[1.0; 500])).await.unwrap();
        assert_eq!(reply.metadata().get("grpc-encoding"), None, "it does not accept any");
        let mut client = client.accept_compressed(CompressionEncoding::Zstd);
        let reply = client.score(request(&[1.0; 500])).await.unwrap();
        assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "zstd");
        assert_eq!(reply.into_inner().outputs[0].scores.len(), 500);
    }
}
