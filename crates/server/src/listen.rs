//! Binding ports, with errors that say what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (setting `{setting}`): {reason}")]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    reason: String,
}

/// Binds `address`, which the setting `setting` holds.
///
/// # Errors
/// When the address is in use, not this machine's, or needs rights that the process lacks.
pub async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "the port is in use; stop the program that holds it (`ss -ltnp 'sport = :{}'` names it) or \
                 give another port",
                address.port()
            ),
            ErrorKind::PermissionDenied => {
                "permission denied; ports below 1024 need extra rights, give a higher one".to_owned()
            }
            ErrorKind::AddrNotAvailable => {
                "no network interface of this machine has this address; give 127.0.0.1, 0.0.0.0 or one it has"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        BindError { setting, address, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_setting_and_a_remedy() {
        let first = bind("listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let message = bind("admin", address).await.unwrap_err().to_string();
        let start = format!("cannot listen on {address} (setting `admin`): the port is in use; stop");
        assert!(message.starts_with(&start), "{message}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let message = bind("listen", "192.0.2.1:0".parse().unwrap()).await.unwrap_err().to_string();
        assert!(message.contains("no network interface"), "{message}");
    }
}
