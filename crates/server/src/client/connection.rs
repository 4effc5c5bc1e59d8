//! Connecting to a server: plain or encrypted, with a token where the server asks for one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::reload::FileError;
use crate::tls;

/// A connection that sends the caller's token with each call.
pub type Link = InterceptedService<Channel, Bearer>;

/// How a server is reached that does not let everybody in.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// PEM file of the authority that signed the server's certificate [default: those of the system]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file of this client's certificate, for a server that asks for one
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file of the key of --certificate
    #[arg(long, global = true, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// File that holds the token to send
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Adds `authorization: Bearer <token>`, where there is a token.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A server that cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one.
    #[error(
        "'{server}' is not a server's address; write it as http://127.0.0.1:8500 or https://ranking:8500"
    )]
    Address {
        /// The address as given.
        server: String,
    },
    /// Nobody answers, or not as agreed.
    #[error("no server answers at {server}: is it running, and is this its gRPC port?")]
    Unreachable {
        /// The address as given.
        server: String,
        /// The transport's error.
        source: tonic::transport::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Opens one connection to `server`, such as `http://127.0.0.1:8500`.
///
/// # Errors
/// An address that is not one, or that nobody answers at.
pub async fn connect(server: &str) -> Result<Link, ConnectError> {
    connect_with(server, &Access::default()).await
}

/// Opens one connection to `server`; at `https://` it is encrypted, and the server must prove its name.
///
/// # Errors
/// As [`connect`], and files that cannot be used.
pub async fn connect_with(server: &str, access: &Access) -> Result<Link, ConnectError> {
    let wrong = || ConnectError::Address { server: server.to_owned() };
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|_| wrong())?;
    let authority = endpoint.uri().authority().cloned().ok_or_else(wrong)?;
    // Without TCP_NODELAY a small message waits for the acknowledgement of the one before.
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(5));
    let channel = match endpoint.uri().scheme_str() {
        Some("http") => endpoint.connect().await,
        Some("https") => {
            let name = authority.host().trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name).map_err(|_| wrong())?;
            let identity = access.certificate.as_deref().zip(access.key.as_deref());
            let connector = TlsConnector::from(Arc::new(tls::client(access.ca.as_deref(), identity)?));
            endpoint
                .connect_with_connector(tower::service_fn(move |uri: Uri| {
                    let (connector, name) = (connector.clone(), name.clone());
                    async move {
                        let address = (
                            uri.host().unwrap_or_default().trim_matches(['[', ']']),
                            uri.port_u16().unwrap_or(443),
                        );
                        let stream = TcpStream::connect(address).await?;
                        stream.set_nodelay(true)?;
                        connector.connect(name, stream).await.map(TokioIo::new)
                    }
                }))
                .await
        }
        _ => return Err(wrong()),
    };
    let channel =
        channel.map_err(|source| ConnectError::Unreachable { server: server.to_owned(), source })?;
    Ok(InterceptedService::new(channel, bearer(access)?))
}

fn bearer(access: &Access) -> Result<Bearer, FileError> {
    let Some(file) = &access.token_file else { return Ok(Bearer::default()) };
    let token = std::fs::read_to_string(file)
        .map_err(|error| FileError::new(file, format!("cannot be read: {error}")))?;
    let value = format!("Bearer {}", token.trim());
    let mut value: MetadataValue<Ascii> =
        value.parse().map_err(|_| FileError::new(file, "holds no token: it must be one line of ASCII"))?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}
