//! `status`: the node and its services as they are now; with `--watch` as they change.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::events::Lines;
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::words;
use crate::status::{NodeStatus, ReplicaStatus, ServiceStatus};

/// How often ages are brought up to date.
const REDRAW_EVERY: Duration = Duration::from_secs(1);
/// Cursor home, and everything below it cleared.
const CLEAR: &str = "\x1b[H\x1b[J";
/// The whole screen cleared, once.
const CLEAR_ALL: &str = "\x1b[2J";

/// Shows them once.
pub(crate) async fn status(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let node: NodeStatus = client.get("/v1/status").await?;
    if screen.is_json() { screen.json(&node) } else { screen.print(&shown(screen, &node)) }
}

/// Shows them again every second, and at once when something happens. On a terminal it waits for a supervisor that is being
/// restarted; elsewhere it ends when nobody answers.
pub(crate) async fn watch(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let redraws = screen.is_terminal() && !screen.is_json();
    if redraws {
        screen.print(CLEAR_ALL)?;
    }
    let mut news = News { client, lines: None };
    let mut reached = false;
    loop {
        let node = client.get::<NodeStatus>("/v1/status").await;
        let next = Instant::now() + REDRAW_EVERY;
        match node {
            Ok(node) if screen.is_json() => screen.json_line(&node)?,
            Ok(node) if redraws => screen.print(&format!("{CLEAR}{}", shown(screen, &node)))?,
            Ok(node) => screen.line(&shown(screen, &node))?,
            Err(failure @ Failure::Unreachable { .. }) if redraws && reached => {
                let text = screen.paint(Mood::Bad, &failure.to_string());
                screen.print(&format!("{CLEAR}{text}\n"))?;
            }
            Err(failure) => return Err(failure),
        }
        reached = true;
        news.until(next).await;
    }
}

/// What wakes a watcher before its second is over.
struct News<'a> {
    client: &'a Client,
    lines: Option<Lines>,
}

impl News<'_> {
    /// Waits for something to happen, at most until then.
    async fn until(&mut self, limit: Instant) {
        if self.lines.is_none() {
            // Without it every second has to do.
            self.lines = Lines::open(self.client, "/v1/events?follow=true&kept=false").await.ok();
        }
        let Some(lines) = &mut self.lines else { return sleep_until(limit).await };
        tokio::select! {
            line = lines.next() => if !matches!(line, Ok(Some(_))) {
                self.lines = None;
                sleep_until(limit).await;
            },
            () = sleep_until(limit) => {}
        }
    }
}

/// The node, its services, and what is wrong with them.
fn shown(screen: &Screen, node: &NodeStatus) -> String {
    let mut text = format!(
        "node {}  supervisor {}  pid {}  CRIU {}  {}\n",
        node.node, node.version, node.pid, node.criu, node.config_file
    );
    if let Some(error) = &node.config_error {
        text.push_str(&screen.paint(Mood::Bad, "the configuration file has changed and cannot be used:"));
        text.push_str(&format!("\n{error}\n"));
    }
    text.push('\n');
    if node.services.is_empty() {
        text.push_str("no services\n");
        return text;
    }
    let rows: Vec<_> = node.services.iter().map(row).collect();
    let moods: Vec<_> = node.services.iter().map(mood).collect();
    text.push_str(&screen.table(&HEADER, &rows, (STATE, &moods)));
    let notes: Vec<_> = node.services.iter().flat_map(|service| notes(screen, service)).collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n{}\n", notes.join("\n")));
    }
    text
}

const HEADER: [&str; 11] =
    ["SERVICE", "RUNTIME", "STATE", "HEALTH", "PID", "UP", "RESTARTS", "IMAGES", "NEWEST", "PAUSE", "NEXT"];
const STATE: usize = 2;

fn row(service: &ServiceStatus) -> Vec<String> {
    let checkpoint = &service.checkpoint;
    let newest = checkpoint.newest.as_ref().map(|image| {
        let kind = if image.durable { "" } else { " (hot)" };
        format!("{} ago{kind}", words::span(image.age_seconds))
    });
    let next = match (checkpoint.in_flight, checkpoint.next_seconds) {
        (true, _) => "now".to_owned(),
        (false, next) => words::or_dash(next.map(words::span)),
    };
    vec![
        service.name.clone(),
        service.runtime.clone(),
        state(service),
        words::or_dash(service.verdict.clone()),
        words::or_dash(service.pid.map(|pid| pid.to_string())),
        words::or_dash(service.running_seconds.map(words::span)),
        service.restarts.to_string(),
        checkpoint.images.to_string(),
        words::or_dash(newest),
        words::or_dash(checkpoint.last_pause_ms.map(words::milliseconds)),
        next,
    ]
}

/// Its state in a few words.
pub(super) fn state(service: &ServiceStatus) -> String {
    let mut state = service.state.clone();
    for (is_so, word) in [(service.paused, "paused"), (service.degraded.is_some(), "degraded")] {
        // The state may say so itself.
        if is_so && !state.contains(word) {
            state.push_str(&format!(", {word}"));
        }
    }
    state
}

/// What its state means to whoever looks.
pub(super) fn mood(service: &ServiceStatus) -> Mood {
    let verdict = service.verdict.as_deref();
    match service.state.as_str() {
        "failed" => Mood::Bad,
        _ if verdict == Some("unhealthy") => Mood::Bad,
        _ if service.degraded.is_some() || service.paused => Mood::Doubtful,
        "recovering" => Mood::Doubtful,
        "running" if verdict == Some("healthy") => Mood::Good,
        _ => Mood::Plain,
    }
}

fn notes(screen: &Screen, service: &ServiceStatus) -> Vec<String> {
    let note = |(mood, what, why): Note| {
        let why = why.replace('\n', "\n    ");
        format!("{}: {}: {why}", service.name, screen.paint(mood, &what))
    };
    notes_on(service).into_iter().map(note).collect()
}

/// What it is about, and what there is to know.
type Note = (Mood, String, String);

/// What is to be known of a service beside its numbers, the most urgent first.
pub(super) fn notes_on(service: &ServiceStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |mood: Mood, what: &str, why: &str| notes.push((mood, what.to_owned(), why.to_owned()));
    if let Some(says) = &service.says {
        note(Mood::Plain, "says", says);
    }
    if let Some(why) = &service.failed {
        note(Mood::Bad, "given up", why);
    }
    if let Some(why) = &service.degraded {
        note(Mood::Doubtful, "cannot be checkpointed", why);
    }
    if let Some(why) = &service.last_failure {
        note(Mood::Doubtful, "last failure", why);
    }
    if !service.waiting_for.is_empty() {
        note(Mood::Plain, "waits for", &service.waiting_for.join(", "));
    }
    if !service.members.is_empty() {
        let members: Vec<_> = service.members.iter().map(|(name, pid)| format!("{name} {pid}")).collect();
        note(Mood::Plain, "members", &members.join(", "));
    }
    if let Some(last) = &service.last_recovery {
        let image = last.image.as_ref().map(|id| format!(" from {id}")).unwrap_or_default();
        let took = words::milliseconds(last.took_ms);
        note(Mood::Plain, "last recovery", &format!("{} after {}{image}, {took}", last.rung, last.cause));
    }
    for replica in &service.replicas {
        let (mood, text) = replica_note(replica);
        note(mood, &format!("replica {}", replica.url), &text);
    }
    for probe in service.probes.iter().filter(|probe| probe.verdict == "unhealthy") {
        note(Mood::Bad, "probe fails", &probe.name);
    }
    notes
}

/// The recovery point there, and what is in its way.
fn replica_note(replica: &ReplicaStatus) -> (Mood, String) {
    let newest = replica.age_seconds.map(|age| format!("newest image {} ago", words::span(age)));
    let newest = newest.unwrap_or_else(|| "no image yet".to_owned());
    let behind = match replica.behind {
        0 => String::new(),
        behind => format!(", {} behind", words::count(behind, "image")),
    };
    let sending = replica.sending.as_ref().map(|id| format!(", sending {id}")).unwrap_or_default();
    match &replica.last_error {
        Some(error) => (Mood::Bad, format!("{newest}{behind}: {error}")),
        None => (Mood::Plain, format!("{newest}{behind}{sending}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CheckpointStatus, RecoveryStatus};

    fn node(services: Vec<ServiceStatus>) -> NodeStatus {
        NodeStatus {
            node: "alpha".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 7,
            criu: "4.2.1".to_owned(),
            started_at: "2026-11-22T20:00:00Z".to_owned(),
            config_file: "ha.toml".to_owned(),
            config_error: None,
            services,
        }
    }

    #[test]
    fn the_whole_picture() {
        let running = ServiceStatus {
            name: "counter".to_owned(),
            runtime: "process".to_owned(),
            state: "running".to_owned(),
            verdict: Some("healthy".to_owned()),
            pid: Some(4242),
            says: Some("12 customers".to_owned()),
            running_seconds: Some(61.0),
            restarts: 1,
            last_recovery: Some(RecoveryStatus {
                cause: "signal 9".to_owned(),
                rung: "restore-latest".to_owned(),
                image: Some("i1".to_owned()),
                took_ms: 35.0,
            }),
            checkpoint: CheckpointStatus { last_pause_ms: Some(8.0), images: 3, ..Default::default() },
            ..Default::default()
        };
        let failed = ServiceStatus {
            name: "a".to_owned(),
            runtime: "runc".to_owned(),
            state: "failed".to_owned(),
            failed: Some("nothing helped".to_owned()),
            degraded: Some("io_uring".to_owned()),
            ..Default::default()
        };
        let expected = "\
node alpha  supervisor 0.1.0  pid 7  CRIU 4.2.1  ha.toml

SERVICE  RUNTIME  STATE             HEALTH    PID    UP  RESTARTS  IMAGES  NEWEST   PAUSE  NEXT
counter  process  running           healthy  4242  61 s         1       3  -       8.0 ms     -
a        runc     failed, degraded  -           -     -         0       0  -            -     -

counter: says: 12 customers
counter: last recovery: restore-latest after signal 9 from i1, 35.0 ms
a: given up: nothing helped
a: cannot be checkpointed: io_uring
";
        let node = node(vec![running, failed]);
        assert_eq!(shown(&Screen::plain(), &node), expected);
        let coloured = shown(&Screen::coloured(), &node);
        assert!(
            coloured.contains("\x1b[32mrunning\x1b[0m")
                && coloured.contains("\x1b[31mfailed, degraded\x1b[0m")
        );
    }

    #[test]
    fn nothing_to_show_is_said() {
        let mut empty = node(Vec::new());
        empty.config_error = Some("ha.toml: 1 error".to_owned());
        let text = shown(&Screen::plain(), &empty);
        assert!(
            text.contains("cannot be used:\nha.toml: 1 error") && text.ends_with("no services\n"),
            "{text}"
        );
    }
}
