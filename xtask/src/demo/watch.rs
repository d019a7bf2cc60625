//! Following the supervisor's events and showing them as they come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The live view.
pub(super) struct Watch {
    child: Child,
    events: Receiver<Value>,
}

impl Watch {
    /// Follows the events by the supervisor's own command.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("can't follow the supervisor's events")?;
        let output = child.stdout.take().context("can't read the supervisor's events")?;
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    show(&event);
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { child, events })
    }

    /// Waits for an event of this kind. What came before is passed over.
    pub(super) fn wait_for(&self, kind: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["kind"] == kind => return Ok(event),
                Ok(event) if event["kind"] == "gave-up" => bail!("the supervisor gave up: {}", event["text"]),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no event `{kind}` within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the supervisor has gone"),
            }
        }
    }

    /// Passes over what has come so far.
    pub(super) fn forget(&self) {
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended with the supervisor.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show(event: &Value) {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let time = text("at");
    let time = time.get(11..23).unwrap_or_default();
    let mark = match text("kind").as_str() {
        "noticed" | "gave-up" => "✗",
        "recovered" => "✓",
        "rung-taken" => "→",
        "rung-failed" | "image-skipped" | "degraded" | "checkpoint-failed" => "!",
        _ => "·",
    };
    let line = text("text");
    println!("    {time} {mark} {}", line.lines().next().unwrap_or_default());
}
