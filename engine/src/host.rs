//! What this host can do: looked at, never changed, with a remedy for whatever is missing.
//!
//! It tries things where trying is harmless (open a pidfd, scan one page) and reads what the kernel says where it is not; names
//! and versions alone prove little. It refuses to mend anything, and to fail: what cannot be found out is a fact too.

pub mod containers;
mod criu;
mod encryption;
mod folders;
mod kernel;
mod rights;
mod runtimes;

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Report;
use crate::images::Keyring;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// CRIU: a path, or a name to be found in `PATH`.
    pub criu: PathBuf,
    /// The supervisor's folder for what need not survive a reboot.
    pub run_dir: PathBuf,
    /// The folder of images; it need not exist yet.
    pub store: PathBuf,
    /// The keys of its images, or why there are none.
    pub keys: Result<Keyring, Report>,
}

/// One thing about this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about, as one word or two.
    pub topic: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// For people; one line, but for the last lines of a program that failed.
    pub text: String,
    /// How to mend it.
    pub remedy: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Worth knowing; not needed.
    Note,
    /// Needed and missing.
    Lack,
}

impl Standing {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Lack => "lack",
        }
    }
}

impl Fact {
    fn ok(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, standing: Standing::Ok, text: text.into(), remedy: None }
    }

    fn note(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, standing: Standing::Note, text: text.into(), remedy: None }
    }

    fn lack(topic: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { topic, standing: Standing::Lack, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at everything. Takes about a second, most of it CRIU's own check.
pub async fn examine(places: &Places) -> Vec<Fact> {
    let (criu, mut facts) = criu::examine(&places.criu).await;
    facts.extend(kernel::examine());
    facts.extend(rights::examine());
    facts.extend(runtimes::examine(criu.as_ref()).await);
    facts.extend(folders::examine(places));
    facts.push(encryption::examine(places));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_fact_is_whole_and_every_lack_has_a_remedy() {
        let store = tempfile::tempdir().expect("a folder");
        let places = Places {
            criu: std::env::var_os("SUPERVISOR_CRIU").map_or("criu".into(), PathBuf::from),
            run_dir: store.path().join("run"),
            store: store.path().join("not/there/yet"),
            keys: Ok(Keyring::none()),
        };
        let facts = examine(&places).await;
        for fact in &facts {
            let lack = fact.standing == Standing::Lack;
            assert!(!fact.text.is_empty() && (!lack || fact.remedy.is_some()), "{fact:?}");
        }
        let topics: Vec<_> = facts.iter().map(|fact| fact.topic).collect();
        for topic in ["criu", "kernel", "pidfd", "cgroups", "capabilities", "runc", "docker", "/run", "store"]
        {
            assert!(topics.contains(&topic), "{topic} is not in {topics:?}");
        }
        let entries = std::fs::read_dir(store.path()).expect("it is there").count();
        assert_eq!(entries, 0, "looking leaves nothing behind");
        if std::env::var_os("SUPERVISOR_CRIU").is_some() {
            let of = |topic| facts.iter().find(|fact| fact.topic == topic).expect("it was looked at");
            assert_eq!(of("criu").standing, Standing::Ok, "{facts:?}");
            assert_eq!(of("criu check").standing, Standing::Ok, "{facts:?}");
        } else {
            eprintln!("SKIPPED in part: SUPERVISOR_CRIU names no CRIU that fits this kernel");
        }
    }
}
