//! Connections to the gRPC port: accepted up to a limit, encrypted where certificates are given.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics::{Metrics, Turned};
use crate::reload::Reloaded;

/// Time that a client has to agree on the encryption.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause where no connection can be accepted, as when files run out.
const PAUSE: Duration = Duration::from_millis(50);

/// One open connection.
pub struct Connection {
    io: Box<dyn Io>,
    info: TcpConnectInfo,
    _place: Place,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A place among the open connections, free again once dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.edge.connections(1);
        Self { _permit: permit, metrics }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.edge.connections(-1);
    }
}

/// What connections are accepted under.
pub struct Terms {
    /// Connections that may be open at once; further ones are closed at once.
    pub most: usize,
    /// Certificate and key, where connections are encrypted.
    pub tls: Option<Arc<Reloaded<ServerConfig>>>,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

/// Accepts connections until `stopping` says true; the port is closed then.
pub fn accept(
    listener: TcpListener,
    terms: Terms,
    mut stopping: watch::Receiver<bool>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(terms.most));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // The sender gone means a stop as well.
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = places.clone().try_acquire_owned() else {
                terms.metrics.edge.turned_away(Turned::TooMany);
                tracing::debug!(most = terms.most, "a connection beyond limits.connections is closed");
                continue;
            };
            let place = Place::new(permit, terms.metrics.clone());
            // A small message would wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection has gone");
                continue;
            }
            match &terms.tls {
                None => {
                    let info = stream.connect_info();
                    let connection = Connection { io: Box::new(stream), info, _place: place };
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Some(tls) => {
                    let acceptor = TlsAcceptor::from(tls.get());
                    tokio::spawn(encrypt(acceptor, stream, place, sender.clone()));
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Agrees on the encryption, on a task of its own, so that a slow client keeps no other waiting.
async fn encrypt(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    place: Place,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let info = stream.connect_info();
    let problem = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let connection = Connection { io: Box::new(stream), info, _place: place };
            // The port may be closed by now.
            let _ = sender.send(Ok(connection)).await;
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE.as_secs()),
    };
    place.metrics.edge.turned_away(Turned::Handshake);
    tracing::debug!(peer = ?info.remote_addr, problem, "a connection is not encrypted as agreed");
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
