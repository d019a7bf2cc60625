//! The command line. Refuses what it does not know, so that a measurement never measures something else.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
usage: memhog --listen 127.0.0.1:PORT [options]
  --memory SIZE         of each task, such as 64MiB (default 1MiB)
  --mode MODE           mapped: memory is asked for, not touched; dirtied: written (default)
  --children N          further processes, each with that much memory (default 0)
  --dirty-rate SIZE/s   rewritten by each task while it runs (default 0)
  --ticker              watch for pauses with a thread that ticks every 100 us
  --seed NUMBER         of the memory's content (default 1)
  --log FILE            leave the terminal and write there";

/// Whether memory is written at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Mapped,
    Dirtied,
}

/// Which of the processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    First,
    /// Counted from 1; given by the first process, not by people.
    Child(u32),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) memory: u64,
    pub(crate) mode: Mode,
    pub(crate) children: u32,
    /// Bytes per second, each task.
    pub(crate) dirty_rate: u64,
    pub(crate) ticker: bool,
    pub(crate) seed: u64,
    pub(crate) log: Option<PathBuf>,
    pub(crate) role: Role,
}

impl Options {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            memory: 1 << 20,
            mode: Mode::Dirtied,
            children: 0,
            dirty_rate: 0,
            ticker: false,
            seed: 1,
            log: None,
            role: Role::First,
        };
        let mut listen = None;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--ticker" {
                options.ticker = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value, or isn't known"))?;
            let number = || format!("{word} can't be `{value}`");
            match word.as_str() {
                "--listen" => listen = Some(value.parse().with_context(number)?),
                "--memory" => options.memory = size(&value).with_context(number)?,
                "--mode" => options.mode = mode(&value)?,
                "--children" => options.children = value.parse().with_context(number)?,
                "--dirty-rate" => {
                    options.dirty_rate =
                        size(value.strip_suffix("/s").unwrap_or(&value)).with_context(number)?;
                }
                "--seed" => options.seed = value.parse().with_context(number)?,
                "--log" => options.log = Some(value.into()),
                "--child" => options.role = Role::Child(value.parse().with_context(number)?),
                _ => bail!("unknown option {word}"),
            }
        }
        match (listen, options.role) {
            (Some(listen), _) => options.listen = listen,
            (None, Role::Child(_)) => {}
            (None, Role::First) => bail!("--listen is needed"),
        }
        Ok(options)
    }

    /// The words that make a child of the same kind.
    pub(crate) fn for_child(&self, task: u32) -> Vec<String> {
        let mode = match self.mode {
            Mode::Mapped => "mapped",
            Mode::Dirtied => "dirtied",
        };
        let words = [
            ("--child", task.to_string()),
            ("--memory", self.memory.to_string()),
            ("--mode", mode.to_owned()),
            ("--dirty-rate", self.dirty_rate.to_string()),
            ("--seed", self.seed.to_string()),
        ];
        words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

fn mode(text: &str) -> Result<Mode> {
    match text {
        "mapped" => Ok(Mode::Mapped),
        "dirtied" => Ok(Mode::Dirtied),
        _ => bail!("--mode is `mapped` or `dirtied`, not `{text}`"),
    }
}

/// `4096`, `64MiB`, `10MB`.
fn size(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().context("not a number of bytes")?;
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => bail!("unit is one of B, KiB, MiB, GiB, kB, MB, GB, not `{unit}`"),
    };
    number.checked_mul(unit).context("too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_is_read() {
        let options = parse(
            "--memory 64MiB --children 3 --mode mapped --dirty-rate 10MB/s --listen 127.0.0.1:8000 \
             --ticker --seed 7 --log /l",
        )
        .expect("all are known");
        assert_eq!((options.memory, options.children, options.mode), (64 << 20, 3, Mode::Mapped));
        assert_eq!((options.dirty_rate, options.seed, options.ticker), (10_000_000, 7, true));
        assert_eq!(options.listen.port(), 8000);
        assert_eq!(options.log, Some("/l".into()));
    }

    #[test]
    fn child_gets_the_same_task() {
        let parent =
            parse("--memory 5KiB --mode mapped --dirty-rate 9 --seed 3 --listen 127.0.0.1:1 --ticker")
                .expect("valid");
        let child = Options::parse(parent.for_child(2)).expect("valid too");
        assert_eq!(child.role, Role::Child(2));
        assert_eq!(
            (child.memory, child.mode, child.dirty_rate, child.seed, child.ticker),
            (5120, Mode::Mapped, 9, 3, false)
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "",
            "--memory 1MiB",
            "--listen 127.0.0.1:1 --memory 1XB",
            "--listen 127.0.0.1:1 --memory 99999999999GiB",
            "--listen 127.0.0.1:1 --mode both",
            "--listen 127.0.0.1:1 --what 1",
            "--listen 127.0.0.1:1 --seed",
            "--listen nowhere",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
