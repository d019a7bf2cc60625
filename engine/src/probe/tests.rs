//! Probes against real servers and real commands.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::{Exec, Http, Outcome, Probe, Tcp};

/// Long enough for anything here on a busy machine.
const PLENTY: Duration = Duration::from_secs(20);
/// For what never answers.
const SHORT: Duration = Duration::from_millis(150);

/// Answers every connection with `answer`, word for word; `then` says whether it closes.
async fn server(answer: &'static [u8], then: Then) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                match then {
                    Then::Close => {}
                    Then::Hold => while stream.read(&mut request).await.is_ok_and(|n| n > 0) {},
                    Then::Drip => {
                        let mut pace = tokio::time::interval(Duration::from_millis(5));
                        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                            pace.tick().await;
                        }
                    }
                }
            });
        }
    });
    port
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Hold,
    Drip,
}

async fn get(port: u16, timeout: Duration) -> Outcome {
    let http = Http::new(&format!("http://127.0.0.1:{port}/healthz?full=1")).expect("url");
    Probe::Http(http).run(timeout).await
}

#[tokio::test]
async fn a_listening_port_passes_and_a_closed_one_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let probe = Probe::Tcp(Tcp::new("127.0.0.1", port));
    let outcome = probe.run(PLENTY).await;
    assert!(outcome.passed, "{}", outcome.detail);
    drop(listener);
    let outcome = probe.run(PLENTY).await;
    assert!(!outcome.passed);
    assert!(
        outcome.detail.contains("refused") && outcome.detail.contains(&port.to_string()),
        "{}",
        outcome.detail
    );
}

#[tokio::test]
async fn an_http_answer_is_judged_by_its_status() {
    let good = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close).await;
    let outcome = get(good, PLENTY).await;
    assert!(outcome.passed, "{}", outcome.detail);
    assert_eq!(outcome.detail, "http status 200 OK");

    let moved = server(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Then::Hold).await;
    assert!(get(moved, PLENTY).await.passed, "a redirect is an answer");

    let bad = server(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 14\r\n\r\nno  database\r\n",
        Then::Close,
    )
    .await;
    let outcome = get(bad, PLENTY).await;
    assert!(!outcome.passed);
    assert_eq!(outcome.detail, "http status 500 Internal Server Error: no database");
}

#[tokio::test]
async fn the_wanted_status_codes_can_be_named() {
    let port = server(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Then::Close).await;
    let url = format!("http://127.0.0.1:{port}/");
    let both = Http::new(&url).expect("url").passing(200..=200).passing(503..=503);
    assert!(Probe::Http(both).run(PLENTY).await.passed);
    let other = Http::new(&url).expect("url").passing(200..=200);
    assert!(!Probe::Http(other).run(PLENTY).await.passed);
}

#[tokio::test]
async fn a_server_that_never_answers_costs_no_more_than_the_timeout() {
    let port = server(b"", Then::Hold).await;
    let outcome = get(port, SHORT).await;
    assert!(!outcome.passed);
    assert_eq!(outcome.detail, "no answer within 150ms");
    assert!(outcome.took >= SHORT && outcome.took < SHORT + Duration::from_secs(5), "{:?}", outcome.took);
}

#[tokio::test]
async fn a_body_that_drips_for_ever_fails() {
    let port = server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Then::Drip).await;
    let outcome = get(port, SHORT).await;
    assert!(!outcome.passed);
    assert!(outcome.took < SHORT + Duration::from_secs(5));
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        // An answer before the question is no http.
        let asked = stream.read(&mut [0; 4096]).await.expect("read");
        assert!(asked > 0);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let mut sent = 0_u64;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    let outcome = get(port, PLENTY).await;
    assert!(outcome.passed, "{}", outcome.detail);
    // The server notices that the connection was closed, which is the proof that it was.
    let sent = tokio::time::timeout(PLENTY, server).await.expect("closed").expect("no panic");
    assert!(sent >= 4096);
}

#[tokio::test]
async fn what_is_not_http_or_breaks_off_fails() {
    for answer in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"]
    {
        let port = server(answer, Then::Close).await;
        let outcome = get(port, PLENTY).await;
        assert!(!outcome.passed, "{answer:?}: {}", outcome.detail);
        assert!(!outcome.detail.starts_with("no answer within"), "{}", outcome.detail);
    }
}

#[tokio::test]
async fn the_request_is_what_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.expect("read");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("write");
        // Closed by the probe.
        assert_eq!(stream.read(&mut [0; 16]).await.expect("read"), 0);
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let http = Http::new(&format!("http://127.0.0.1:{port}/a/b?c=d")).expect("url");
    let http =
        http.header("X-Key", "secret").expect("header").header("Host", "counter.example").expect("header");
    assert!(Probe::Http(http).run(PLENTY).await.passed);
    let request = server.await.expect("server").to_lowercase();
    assert!(request.starts_with("get /a/b?c=d http/1.1\r\n"), "{request}");
    for line in ["host: counter.example", "x-key: secret", "connection: close"] {
        assert!(request.contains(line), "{line} is not in {request}");
    }
    assert_eq!(request.matches("host:").count(), 1);
}

#[tokio::test]
async fn http_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("api.sock");
    let probe = Probe::Http(Http::over_socket(&path, "http://localhost/livez").expect("url"));
    let outcome = probe.run(PLENTY).await;
    assert!(!outcome.passed && outcome.detail.contains("api.sock"), "{}", outcome.detail);

    let listener = UnixListener::bind(&path).expect("bind");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    });
    let outcome = probe.run(PLENTY).await;
    assert!(outcome.passed, "{}", outcome.detail);
}

#[tokio::test]
async fn the_body_can_be_asked_for_a_text() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
    let port = server(answer, Then::Close).await;
    let wanting = |text: &str| {
        let http = Http::new(&format!("http://127.0.0.1:{port}/")).expect("url").wanting(text);
        async move { Probe::Http(http).run(PLENTY).await }
    };
    let outcome = wanting("\"status\":\"ok\"").await;
    assert!(outcome.passed, "{}", outcome.detail);
    let outcome = wanting("\"status\":\"OK\"").await;
    assert!(!outcome.passed);
    assert!(outcome.detail.contains("200 OK, but its body lacks"), "{}", outcome.detail);
    assert!(outcome.detail.ends_with(": {\"status\":\"ok\"}"), "{}", outcome.detail);
}

#[test]
fn urls_that_cannot_be_asked_are_refused() {
    for url in [
        "https://localhost/",
        "localhost:80",
        "ftp://h/",
        "http://",
        "http:///x",
        "http://h:/",
        "http://h:0/",
        "http://h:99999/",
        "http://user:pass@h/",
        "/healthz",
        "",
    ] {
        assert!(matches!(Http::new(url), Err(crate::Error::Invalid(_))), "{url}");
    }
    for url in ["http://h", "http://h:8080", "http://[::1]:80/x?y", "http://10.0.0.1/"] {
        assert!(Http::new(url).is_ok(), "{url}");
    }
    assert!(Http::new("http://h").expect("url").header("bad name", "x").is_err());
    assert!(Http::new("http://h").expect("url").header("x", "line\nbreak").is_err());
}

fn shell(script: &str) -> Exec {
    Exec::new(["/bin/sh", "-c", script])
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit_code() {
    let outcome = Probe::Exec(shell("echo fine")).run(PLENTY).await;
    assert_eq!((outcome.passed, outcome.detail.as_str()), (true, "exit code 0: fine"));
    let outcome = Probe::Exec(shell("echo so; echo not so >&2; exit 3")).run(PLENTY).await;
    assert_eq!((outcome.passed, outcome.detail.as_str()), (false, "exit code 3: not so"));
    let outcome = Probe::Exec(shell("kill -KILL $$")).run(PLENTY).await;
    assert_eq!((outcome.passed, outcome.detail.as_str()), (false, "killed by signal 9"));
    let outcome = Probe::Exec(shell("exit $CODE").env("CODE", "7")).run(PLENTY).await;
    assert_eq!(outcome.detail, "exit code 7");
}

#[tokio::test]
async fn a_command_inside_of_a_service_needs_one_that_runs() {
    let probe = Probe::Exec(Exec::new(["true"]).inside());
    for probe in [probe.clone(), probe.of_run(None)] {
        let outcome = probe.run(PLENTY).await;
        assert!(!outcome.passed);
        assert_eq!(outcome.detail, "the service does not run");
    }
    assert!(Probe::Exec(Exec::new(["true"])).of_run(None).run(PLENTY).await.passed, "on the host it is run");
}

#[tokio::test]
async fn a_command_that_does_not_exist_fails_and_says_so() {
    let outcome = Probe::Exec(Exec::new(["/does/not/exist", "x"])).run(PLENTY).await;
    assert!(!outcome.passed);
    assert!(
        outcome.detail.contains("/does/not/exist") && outcome.detail.contains("No such file"),
        "{}",
        outcome.detail
    );
    let outcome = Probe::Exec(Exec::new(Vec::<String>::new())).run(PLENTY).await;
    assert!(!outcome.passed && outcome.detail.contains("empty"), "{}", outcome.detail);
}

/// The pid that a script has written to `file`.
async fn pid_in(file: &Path) -> i32 {
    let limit = Instant::now() + PLENTY;
    loop {
        if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        assert!(Instant::now() < limit, "the script has not written {}", file.display());
        tokio::task::yield_now().await;
    }
}

async fn assert_dead(pid: i32) {
    let limit = Instant::now() + PLENTY;
    // A zombie counts as dead: only pid 1 can reap a grandchild.
    while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X')) {
            return;
        }
        assert!(Instant::now() < limit, "process {pid} still lives: {stat}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hanging_command_dies_with_its_grandchild() {
    let folder = tempfile::tempdir().expect("folder");
    let (child, grandchild) = (folder.path().join("child"), folder.path().join("grandchild"));
    let script = format!(
        "echo hanging; echo $$ > {}; sh -c 'echo $$ > {}; sleep 600' & wait",
        child.display(),
        grandchild.display()
    );
    // Long enough for both to have written their pids; a slower machine fails in `pid_in`, not silently.
    let outcome = Probe::Exec(shell(&script)).run(Duration::from_secs(1)).await;
    assert!(!outcome.passed);
    assert!(outcome.detail.contains("did not finish within 1s"), "{}", outcome.detail);
    assert!(outcome.detail.contains("hanging"), "{}", outcome.detail);
    assert!(outcome.took < Duration::from_secs(6));
    let pid = pid_in(&child).await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the command itself was not reaped");
    assert_dead(pid_in(&grandchild).await).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_dies_with_it() {
    let folder = tempfile::tempdir().expect("folder");
    let grandchild = folder.path().join("grandchild");
    let script = format!(
        "sh -c 'echo $$ > {0}; exec sleep 600' & while ! [ -s {0} ]; do :; done",
        grandchild.display()
    );
    let outcome = Probe::Exec(shell(&script)).run(PLENTY).await;
    assert!(outcome.passed, "{}", outcome.detail);
    assert!(outcome.took < PLENTY, "it waited for the grandchild that holds its output");
    assert_dead(pid_in(&grandchild).await).await;
}

#[tokio::test]
async fn a_dropped_probe_leaves_no_process() {
    let folder = tempfile::tempdir().expect("folder");
    let grandchild = folder.path().join("grandchild");
    let probe = Probe::Exec(shell(&format!("sh -c 'echo $$ > {}; sleep 600' & wait", grandchild.display())));
    let running = tokio::spawn(async move { probe.run(PLENTY).await });
    let pid = pid_in(&grandchild).await;
    running.abort();
    assert!(running.await.expect_err("it was aborted").is_cancelled());
    assert_dead(pid).await;
}

#[tokio::test]
async fn long_output_is_cut_to_its_end() {
    let script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exit 1";
    let outcome = Probe::Exec(shell(script)).run(PLENTY).await;
    assert!(outcome.detail.ends_with("line 39999") && outcome.detail.len() < 400, "{}", outcome.detail);
}
