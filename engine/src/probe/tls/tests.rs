//! Against a real TLS server with real certificates.

use std::path::Path;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::certificates::{Issued, Node, init, issue};
use crate::probe::{Http, Outcome, Probe};

/// Long enough for anything here on a busy machine.
const PLENTY: Duration = Duration::from_secs(20);

fn certificate(folder: &Path, address: &str) -> Issued {
    init(folder).expect("an authority");
    let addresses = vec![address.to_owned()];
    issue(folder, &Node { name: "shop".to_owned(), addresses, days: 1 }).expect("a certificate")
}

/// Says that it is well, to whoever speaks TLS.
async fn server(files: &Issued) -> u16 {
    let chain = CertificateDer::pem_file_iter(&files.cert).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not believe us goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell").await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn ask(port: u16, host: &str, trust: Trust) -> Outcome {
    let http = Http::new(&format!("http://{host}/healthz")).expect("a url");
    let http = http.connecting_to("127.0.0.1", port).wanting("well").over_tls(trust);
    Probe::Http(http).run(PLENTY).await
}

#[tokio::test]
async fn a_certificate_is_believed_if_its_authority_is_and_its_name_is_the_hosts() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let port = server(&certificate(folder.path(), "127.0.0.1")).await;
    let stranger = init(other.path()).expect("an authority");
    let ca = Trust::Authority(folder.path().join("ca.crt"));

    for host in ["127.0.0.1:8443", "shop"] {
        let outcome = ask(port, host, ca.clone()).await;
        assert!(outcome.passed, "{host}: {}", outcome.detail);
    }
    let anybody = ask(port, "elsewhere.example.org", Trust::Anybody).await;
    assert!(anybody.passed, "{}", anybody.detail);

    for (host, trust) in
        [("elsewhere.example.org", ca), ("shop", Trust::Authority(stranger)), ("shop", Trust::Host)]
    {
        let outcome = ask(port, host, trust.clone()).await;
        assert!(!outcome.passed, "{host} {trust:?}");
        assert!(outcome.detail.starts_with("cannot speak tls: "), "{}", outcome.detail);
    }
}

#[tokio::test]
async fn a_missing_authority_or_a_server_without_tls_fails_the_probe() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = server(&certificate(folder.path(), "127.0.0.1")).await;
    let missing = folder.path().join("no.crt");
    let outcome = ask(port, "shop", Trust::Authority(missing.clone())).await;
    assert!(!outcome.passed && outcome.detail.contains(&missing.display().to_string()), "{}", outcome.detail);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let plain = listener.local_addr().expect("address").port();
    let answering = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Speak plainly\r\n\r\n").await.expect("writable");
        stream
    };
    let (outcome, _stream) = tokio::join!(ask(plain, "shop", Trust::Anybody), answering);
    assert!(!outcome.passed && outcome.detail.starts_with("cannot speak tls: "), "{}", outcome.detail);
}
