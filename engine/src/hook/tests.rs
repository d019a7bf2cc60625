//! Real commands and a real receiver.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{HookCommand, Webhook};
use crate::error::{Error, Result};

/// Long enough for anything here on a busy machine.
const PLENTY: Duration = Duration::from_secs(20);
/// For what never ends.
const SHORT: Duration = Duration::from_millis(150);

async fn run(script: String, limit: Duration, input: &[u8]) -> Result<()> {
    let argv = ["/bin/sh".to_owned(), "-c".to_owned(), script];
    HookCommand::new(argv.to_vec(), limit).tell(&[("TOLD", "so much".to_owned())], input.to_vec()).await
}

#[tokio::test]
async fn a_command_has_the_message_on_its_input_and_in_its_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("heard");
    // More than a pipe holds.
    let long = vec![b'x'; 300_000];
    let script = format!("cat > {0} && printf '%s' \"$TOLD\" >> {0}", file.display());
    run(script, PLENTY, &long).await.expect("it is told");
    assert_eq!(std::fs::read(&file).expect("it wrote"), [&long[..], b"so much"].concat());
    run("exit 0".to_owned(), PLENTY, &long).await.expect("a command need not read");
}

#[tokio::test]
async fn a_command_that_fails_says_how() {
    let failed = run("echo no mail server >&2; exit 3".to_owned(), PLENTY, b"").await;
    let Err(Error::Refused(report)) = failed else { panic!("{failed:?}") };
    let said = report.to_string();
    assert!(said.ends_with("it ended with exit status: 3\n    | no mail server"), "{said}");
    let missing = HookCommand::new(vec!["/no/such/hook".to_owned()], PLENTY).tell(&[], Vec::new()).await;
    assert!(matches!(missing, Err(Error::Invalid(_))), "{missing:?}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_what_it_has_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let pids = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
    // The limit is for the command; this one has written by then, or is asked again.
    let limits = (0..8).map(|doubled| SHORT * (1 << doubled));
    for limit in limits {
        let hung = run(script.clone(), limit, b"").await;
        assert!(matches!(hung, Err(Error::Unavailable(_))), "{hung:?}");
        let written = std::fs::read_to_string(&pids).unwrap_or_default();
        if written.lines().count() == 2 {
            return written.lines().for_each(assert_gone);
        }
    }
    panic!("the command never came to write");
}

/// Killed, if not reaped yet: whoever takes over the orphan does that. On a busy machine it takes a moment to die.
fn assert_gone(pid: &str) {
    let begun = Instant::now();
    loop {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if state.is_empty() || state.starts_with('Z') {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{pid} still runs: {stat}");
        std::thread::yield_now();
    }
}

/// Answers each connection with the next of these statuses, and tells what was asked.
async fn receiver(statuses: &'static [&'static str]) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/hook?token=secret", listener.local_addr().expect("address"));
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.expect("readable") > 0 {}
            tell.send(String::from_utf8(request).expect("text")).expect("somebody reads");
            let answer = format!(
                "HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.expect("writable");
        }
    });
    (url, told)
}

fn webhook(url: &str, limit: Duration) -> Webhook {
    let headers = [("Authorization".to_owned(), "Bearer abc".to_owned())];
    Webhook::new(url, headers, None, limit).expect("a webhook")
}

#[tokio::test]
async fn a_webhook_posts_json_with_its_headers() {
    let (url, mut told) = receiver(&["204 No Content"]).await;
    webhook(&url, PLENTY).tell(Bytes::from_static(b"{\"kind\":\"recovered\"}")).await.expect("told");
    let request = told.recv().await.expect("a request").to_lowercase();
    assert!(request.starts_with("post /hook?token=secret http/1.1\r\n"), "{request}");
    for line in ["authorization: bearer abc", "content-type: application/json", "content-length: 20"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"kind\":\"recovered\"}"), "{request}");
}

#[tokio::test]
async fn what_may_be_tried_again_is_told_from_what_may_not() {
    let (url, _told) =
        receiver(&["503 Busy", "429 Slowly", "408 Late", "302 Elsewhere", "404 Nothing"]).await;
    let webhook = webhook(&url, PLENTY);
    for status in ["503", "429", "408", "302", "404"] {
        let error = webhook.tell(Bytes::from_static(b"{}")).await.expect_err(status);
        let again = matches!(error, Error::Unavailable(_));
        assert_eq!(again, !matches!(status, "302" | "404"), "{error}");
        assert!(error.to_string().contains(status), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_away_or_silent_is_no_secret_and_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/hook?token=secret", listener.local_addr().expect("address"));
    // It accepts by its backlog, and never answers.
    let silent = webhook(&url, SHORT).tell(Bytes::from_static(b"{}")).await.expect_err("silence");
    drop(listener);
    let away = webhook(&url, PLENTY).tell(Bytes::from_static(b"{}")).await.expect_err("nobody there");
    for error in [silent, away] {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
