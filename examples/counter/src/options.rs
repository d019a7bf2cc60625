//! The command line. Refuses what it does not know.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: counter [options]
  --listen ADDRESS:PORT   default 127.0.0.1:8080; port 0 takes a free one and prints it
  --memory BYTES          of the checksummed block (default 1048576)
  --workers N             threads that answer (default 4)
  --journal FILE          append each counter value there before it is answered
  --sick-after N          /health fails once the counter is N or more
  --sick-while FILE       /health fails while FILE exists";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) memory: usize,
    pub(crate) workers: usize,
    pub(crate) journal: Option<PathBuf>,
    pub(crate) sick_after: Option<u64>,
    pub(crate) sick_while: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            memory: 1 << 20,
            workers: 4,
            journal: None,
            sick_after: None,
            sick_while: None,
        }
    }
}

impl Options {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value, or isn't known"))?;
            match name.as_str() {
                "--listen" => options.listen = number(&name, &value)?,
                "--memory" => options.memory = number(&name, &value)?,
                "--workers" => options.workers = number(&name, &value)?,
                "--journal" => options.journal = Some(value.into()),
                "--sick-after" => options.sick_after = Some(number(&name, &value)?),
                "--sick-while" => options.sick_while = Some(value.into()),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if !(1..=256).contains(&options.workers) {
            return Err(format!("--workers must be 1 to 256, not {}", options.workers));
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{name} can't be `{value}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_is_read_and_none_is_needed() {
        assert_eq!(parse(""), Ok(Options::default()));
        let options =
            parse("--listen 127.0.0.1:1 --memory 8 --workers 2 --journal /j --sick-after 9 --sick-while /s")
                .expect("all are known");
        assert_eq!((options.listen.port(), options.memory, options.workers), (1, 8, 2));
        assert_eq!((options.journal, options.sick_after), (Some("/j".into()), Some(9)));
        assert_eq!(options.sick_while, Some("/s".into()));
    }

    #[test]
    fn mistakes_are_refused() {
        for line in ["--port 1", "--memory", "--memory much", "--workers 0", "--workers 257", "--listen x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
