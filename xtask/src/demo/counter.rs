//! The demonstration's own service: killed, hung, and its newest image damaged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Client;
use super::stage::{Stage, free_port};
use super::table::Row;
use crate::prepare::Prepared;

const PATIENCE: Duration = Duration::from_secs(60);

/// All scenes with the counter.
pub(super) fn play(prepared: &Prepared) -> Result<Vec<Row>> {
    println!(
        "\n== a counter with 64 MiB of checksummed memory, several threads, and a client that counts up =="
    );
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let program = prepared.binaries.join("counter");
    let stage = Stage::set(prepared, "counter", &configuration(&program.display().to_string(), address))?;
    stage.watch.wait_for("checkpoint-taken", PATIENCE)?;
    let client = Client::start(Box::new(move || number(&get(address, "/increment")?)));
    let mut rows = Vec::new();

    println!("\n-- it is killed (SIGKILL) --");
    stage.fresh_durable_image()?;
    rows.push(scene(&stage, &client, address, "killed by SIGKILL", || stage.signal("KILL"))?);

    println!("\n-- it is hung (SIGSTOP): it lives, but answers nobody --");
    stage.fresh_durable_image()?;
    rows.push(scene(&stage, &client, address, "hung (SIGSTOP), noticed by its probe", || {
        stage.signal("STOP")
    })?);

    println!("\n-- its newest image is damaged, on disk and in memory; then it is killed --");
    stage.fresh_durable_image()?;
    stage.fresh_durable_image()?;
    rows.push(scene(&stage, &client, address, "newest image damaged, then SIGKILL", || {
        let newest = stage.images()?.first().cloned().context("there is no image")?;
        stage.damage(newest["id"].as_str().unwrap_or_default())?;
        stage.signal("KILL")
    })?);
    Ok(rows)
}

fn scene(
    stage: &Stage<'_>,
    client: &Client,
    address: SocketAddr,
    name: &'static str,
    fault: impl FnOnce() -> Result<()>,
) -> Result<Row> {
    client.forget_gap();
    stage.watch.forget();
    println!("    the client has counted to {}", client.last());
    fault()?;
    let back = stage.watch.wait_for("recovered", PATIENCE)?;
    let gap = client.gap(PATIENCE).context("the client saw no silence")?;
    println!(
        "    the client had no answer for {:.0} ms; the counter stood at {} before and at {} after",
        gap.silence.as_secs_f64() * 1e3,
        gap.before,
        gap.after
    );
    let whole = get(address, "/checksum").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    Ok(Row {
        scene: name,
        rung: rung(&back),
        recovery_ms: back["took_ms"].as_f64().unwrap_or_default(),
        silence_ms: gap.silence.as_secs_f64() * 1e3,
        before: gap.before,
        after: gap.after,
        whole,
    })
}

/// `back by restore-latest from image ...`
pub(super) fn rung(recovered: &serde_json::Value) -> String {
    let text = recovered["text"].as_str().unwrap_or_default();
    text.split_whitespace().nth(2).unwrap_or("?").to_owned()
}

fn configuration(program: &str, address: SocketAddr) -> String {
    format!(
        "\
[service.counter]
process = {{ command = [\"{program}\", \"--listen\", \"{address}\", \"--memory\", \"67108864\"] }}

[service.counter.checkpoint]
interval = \"2s\"
max_checkpoints = 5

[service.counter.restart]
stable_after = \"1s\"

[service.counter.probe.health]
http = {{ url = \"http://{address}/health\" }}
interval = \"250ms\"
timeout = \"200ms\"
failure_threshold = 3
"
    )
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1").then_some(answer)
}

fn number(answer: &str) -> Option<u64> {
    answer.split("\r\n\r\n").nth(1)?.trim().parse().ok()
}
