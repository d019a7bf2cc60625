//! What a service says of itself, in the words of sd_notify(3): what of them is heard, and what they come to.
//!
//! It refuses to keep more than the last word on each thing, and passes over words that only an init system has a use for (`MAINPID`,
//! `FDSTORE`, `EXTEND_TIMEOUT_USEC`, ...).

use serde::{Deserialize, Serialize};

/// How much of a `STATUS=` is kept, in characters.
const STATUS_MAX: usize = 200;

/// What one run of a service has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// Grows with every message that says something, and with every new run.
    pub changes: u64,
    /// `READY=1`, by this run or by the one that its image is of, and neither `RELOADING=1` nor `STOPPING=1` since.
    pub ready: bool,
    /// How often it has given a sign of life: `WATCHDOG=1` or `READY=1`.
    pub alive: u64,
    /// `WATCHDOG=trigger`: it wants to be recovered.
    pub sick: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// The last `STATUS=`.
    pub status: String,
}

impl Said {
    /// Forgets it all, for another run; `ready`: what it comes back from had said that already.
    pub(super) fn begin(&mut self, ready: bool) {
        *self = Self { changes: self.changes + 1, ready, ..Self::default() };
    }

    /// Takes one message in.
    pub(super) fn hear(&mut self, message: &[u8]) {
        let heard = message.split(|byte| *byte == b'\n').filter(|line| self.hear_line(line)).count();
        self.changes += u64::from(heard > 0);
    }

    /// Whether it is one of the words that count.
    fn hear_line(&mut self, line: &[u8]) -> bool {
        match line {
            b"READY=1" => {
                (self.ready, self.stopping) = (true, false);
                self.alive += 1;
            }
            b"RELOADING=1" => self.ready = false,
            b"STOPPING=1" => (self.ready, self.stopping) = (false, true),
            b"WATCHDOG=1" => self.alive += 1,
            b"WATCHDOG=trigger" => self.sick = true,
            _ => match line.strip_prefix(b"STATUS=") {
                Some(status) => self.status = shown(status),
                None => return false,
            },
        }
        true
    }
}

/// It comes to terminals and pages.
fn shown(status: &[u8]) -> String {
    let text = String::from_utf8_lossy(status);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().chars().take(STATUS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(messages: &[&[u8]]) -> Said {
        let mut said = Said::default();
        messages.iter().for_each(|message| said.hear(message));
        said
    }

    #[test]
    fn the_last_word_on_each_thing_counts() {
        let up = after(&[b"STATUS=loading", b"READY=1\nSTATUS=serving\nMAINPID=7\n"]);
        assert_eq!((up.ready, up.alive, up.status.as_str(), up.changes), (true, 1, "serving", 2));
        assert!(!after(&[b"READY=1", b"RELOADING=1"]).ready);
        assert!(after(&[b"READY=1", b"RELOADING=1", b"READY=1"]).ready);
        let down = after(&[b"READY=1", b"STOPPING=1"]);
        assert_eq!((down.ready, down.stopping), (false, true));
        assert_eq!(after(&[b"WATCHDOG=1", b"WATCHDOG=1"]).alive, 2);
        assert!(after(&[b"WATCHDOG=trigger"]).sick);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        for words in
            ["", "\n\n", "READY=0", "READY=10", "ready=1", "WATCHDOG=2", "FDSTORE=1", "WATCHDOG_USEC=5"]
        {
            assert_eq!(after(&[words.as_bytes()]), Said::default(), "{words:?}");
        }
    }

    #[test]
    fn a_status_is_one_short_line_of_characters() {
        let said = after(&[b"STATUS=  \x1b[31mred\xff\t "]);
        assert_eq!(said.status, "[31mred\u{fffd}");
        assert_eq!(after(&[format!("STATUS={}", "x".repeat(4000)).as_bytes()]).status.len(), STATUS_MAX);
    }

    #[test]
    fn another_run_begins_anew_but_is_told_apart() {
        let mut said = after(&[b"READY=1\nSTATUS=x", b"WATCHDOG=trigger"]);
        said.begin(true);
        assert_eq!(said, Said { changes: 3, ready: true, ..Said::default() });
    }
}
