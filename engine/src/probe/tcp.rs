//! Opens a connection and closes it: the service listens. It says nothing and reads nothing, and refuses to take
//! an open port for more than that.

use tokio::net::TcpStream;

use super::Answer;

/// Passes if a connection can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    host: String,
    port: u16,
}

impl Tcp {
    /// `host` is a name or an IP address without brackets; every address that a name has is tried.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    pub(super) async fn ask(&self) -> Answer {
        connect(&self.host, self.port).await.map(|_| "connected".to_owned())
    }
}

/// Opens a connection, or says why not.
pub(super) async fn connect(host: &str, port: u16) -> std::result::Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|e| {
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        format!("cannot connect to {shown}: {e}")
    })
}
