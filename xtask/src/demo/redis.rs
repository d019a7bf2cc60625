//! A real service that nobody prepared for this: redis with 100 MB in memory and no persistence of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::client::Client;
use super::counter::rung;
use super::stage::{Stage, free_port, program};
use super::table::Row;
use crate::prepare::Prepared;

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: usize = 1000;
const VALUE: usize = 100_000;

/// All scenes with redis.
pub(super) fn play(prepared: &Prepared) -> Result<Vec<Row>> {
    println!("\n== redis-server with 100 MB in memory and no persistence ==");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let server = program(prepared, "redis-server")?;
    let stage = Stage::set(prepared, "redis", &configuration(&server.display().to_string(), address))?;
    stage.watch.wait_for("checkpoint-taken", PATIENCE)?;
    println!("    filling it with {KEYS} values of {VALUE} bytes");
    fill(address)?;
    let client = Client::start(Box::new({
        let mut connection = None;
        move || increment(&mut connection, address)
    }));
    let mut rows = Vec::new();
    for (name, signal) in
        [("redis, 100 MB: killed by SIGKILL", "KILL"), ("redis, 100 MB: hung (SIGSTOP)", "STOP")]
    {
        println!("\n-- {name} --");
        stage.fresh_durable_image()?;
        stage.fresh_durable_image()?;
        client.forget_gap();
        stage.watch.forget();
        println!("    the client has counted to {}", client.last());
        stage.signal(signal)?;
        let back = stage.watch.wait_for("recovered", PATIENCE)?;
        let gap = client.gap(PATIENCE).context("the client saw no silence")?;
        let whole = is_whole(address).unwrap_or(false);
        println!(
            "    no answer for {:.0} ms; the count stood at {} before and at {} after; all {KEYS} values are {}",
            gap.silence.as_secs_f64() * 1e3,
            gap.before,
            gap.after,
            if whole { "whole" } else { "NOT whole" }
        );
        rows.push(Row {
            scene: name,
            rung: rung(&back),
            recovery_ms: back["took_ms"].as_f64().unwrap_or_default(),
            silence_ms: gap.silence.as_secs_f64() * 1e3,
            before: gap.before,
            after: gap.after,
            whole,
        });
    }
    Ok(rows)
}

fn configuration(server: &str, address: SocketAddr) -> String {
    let port = address.port();
    format!(
        "\
[service.redis]
process = {{ command = [\"{server}\", \"--port\", \"{port}\", \"--bind\", \"127.0.0.1\", \"--save\", \"\", \"--appendonly\", \"no\"] }}

[service.redis.checkpoint]
interval = \"4s\"
max_checkpoints = 3

[service.redis.restart]
stable_after = \"1s\"

[service.redis.probe.port]
tcp = {{ address = \"{address}\" }}
interval = \"500ms\"
timeout = \"300ms\"

[service.redis.probe.answers]
exec = {{ command = [\"bash\", \"-c\", \"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'PING\\\\r\\\\n' >&3 && IFS= read -r -t 1 answer <&3 && [[ $answer == +PONG* ]]\"] }}
interval = \"500ms\"
timeout = \"400ms\"
"
    )
}

fn fill(address: SocketAddr) -> Result<()> {
    let mut connection = connect(address).context("can't connect to redis")?;
    for key in 0..KEYS {
        let value = value(key);
        let key = format!("key:{key}");
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE}\r\n", key.len());
        let stream = connection.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&value)?;
        stream.write_all(b"\r\n")?;
        if line(&mut connection).as_deref() != Some("+OK") {
            bail!("redis refused a value");
        }
    }
    Ok(())
}

fn is_whole(address: SocketAddr) -> Option<bool> {
    let mut connection = connect(address)?;
    for key in 0..KEYS {
        let name = format!("key:{key}");
        let question = format!("*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len());
        connection.get_mut().write_all(question.as_bytes()).ok()?;
        if line(&mut connection)? != format!("${VALUE}") {
            return Some(false);
        }
        let mut found = vec![0; VALUE + 2];
        connection.read_exact(&mut found).ok()?;
        if found[..VALUE] != value(key) {
            return Some(false);
        }
    }
    Some(true)
}

fn increment(connection: &mut Option<BufReader<TcpStream>>, address: SocketAddr) -> Option<u64> {
    // A connection of before the crash is gone with it, as for any client.
    let mut open = connection.take().or_else(|| connect(address))?;
    open.get_mut().write_all(b"*2\r\n$4\r\nINCR\r\n$7\r\ncounted\r\n").ok()?;
    let number = line(&mut open)?.strip_prefix(':')?.parse().ok()?;
    *connection = Some(open);
    Some(number)
}

fn connect(address: SocketAddr) -> Option<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(1000))).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(BufReader::new(stream))
}

fn line(connection: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    (!line.is_empty()).then(|| line.trim_end().to_owned())
}

/// Not compressible, and known again.
fn value(key: usize) -> Vec<u8> {
    let mut state = key as u64 + 1;
    let mut bytes = Vec::with_capacity(VALUE + 8);
    while bytes.len() < VALUE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    bytes.truncate(VALUE);
    bytes
}
