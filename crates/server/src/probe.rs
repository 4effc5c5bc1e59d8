//! Asking a running server whether it is ready: the health check of a container that holds nothing but
//! the server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::settings::Settings;

/// How long the server may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `/readyz` of the server with these settings, on this machine, answers when it is ready.
///
/// # Errors
/// No answer, and one that says that the server is not ready.
pub fn probe(settings: &Settings) -> anyhow::Result<String> {
    let address = here(settings.admin);
    let answer = ask(address)
        .with_context(|| format!("no answer from the admin port (setting `admin`) at {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) != Some("200") {
        bail!("{}", if body.is_empty() { head } else { body }.trim_end());
    }
    Ok(body.to_owned())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: a server that answers after the first line may have closed before a second comes.
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The address at which this machine reaches a server that listens on `address`.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What the probe says of a server that answers with `answer`.
    fn probed(answer: &'static str) -> Result<String, String> {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let settings = Settings { admin: listener.local_addr().unwrap(), ..Settings::default() };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let result = probe(&settings).map_err(|error| format!("{error:#}"));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        result
    }

    #[test]
    fn a_server_that_is_ready_says_so() {
        assert_eq!(probed("HTTP/1.1 200 OK\r\n\r\nready\n"), Ok("ready\n".into()));
    }

    #[test]
    fn what_is_missing_is_told() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\n\r\nstopping\ndemo/1: draining\n";
        assert_eq!(probed(answer), Err("stopping\ndemo/1: draining".into()));
        assert_eq!(probed("HTTP/1.1 404 Not Found\r\n\r\n"), Err("HTTP/1.1 404 Not Found".into()));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let message = format!("{:#}", probe(&Settings { admin: free, ..Settings::default() }).unwrap_err());
        assert!(message.contains(&format!("(setting `admin`) at {free}")), "{message}");
    }
}
