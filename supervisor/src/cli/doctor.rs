//! `doctor`: what this host can do, whether a service can be checkpointed, and how to mend what can't.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::host::{self, Fact, Places, Standing};
use engine::images::Keyring;

use super::client::Client;
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::{Target, act, cert, check, words};
use crate::api::ActionBody;
use crate::assemble;

/// How long a trial may take.
const TRIAL_MAX: Duration = Duration::from_secs(300);
/// The folders of a configuration that says nothing about them.
const RUN_DIR: &str = "/run/supervisor";
const STORE: &str = "/var/lib/supervisor/images";

/// Looks and tells.
pub(crate) async fn doctor(screen: &Screen, config: Option<&Path>) -> Result<(), Failure> {
    let mut facts = host::examine(&places(config)?).await;
    facts.extend(certificates(config)?);
    if screen.is_json() {
        screen.json(&facts)?;
    } else {
        screen.print(&shown(screen, &facts))?;
    }
    match facts.iter().filter(|fact| fact.standing == Standing::Lack).count() {
        0 => Ok(()),
        lacks => Err(Failure::Unhealthy(format!("{} found", words::count(lacks, "lack")))),
    }
}

/// Tries a checkpoint, which is kept like any other: what the service cannot have is said with its remedy.
pub(crate) async fn service(screen: &Screen, client: &Client, service: String) -> Result<(), Failure> {
    let target = Target { service, wait: TRIAL_MAX };
    act::act(screen, client, "checkpoint", &target, ActionBody::default()).await.map_err(|failure| {
        match failure {
            Failure::Failed(text) => Failure::Unhealthy(text),
            other => other,
        }
    })
}

fn places(config: Option<&Path>) -> Result<Places, Failure> {
    let criu = std::env::var_os("SUPERVISOR_CRIU").map_or_else(|| PathBuf::from("criu"), PathBuf::from);
    let config = config.map(check::read).transpose()?;
    let (run_dir, store, keys) = match config {
        Some(config) => {
            (config.node.run_dir.clone(), config.store.path.clone(), assemble::keys(&config.store))
        }
        None => (PathBuf::from(RUN_DIR), PathBuf::from(STORE), Ok(Keyring::none())),
    };
    Ok(Places { criu, run_dir, store, keys: keys.map_err(|e| e.report().clone()) })
}

/// Certificates that end soon, have ended or cannot be read.
fn certificates(config: Option<&Path>) -> Result<Vec<Fact>, Failure> {
    let Some(config) = config else { return Ok(Vec::new()) };
    let fact = |text: String| Fact {
        topic: "certificates",
        standing: Standing::Lack,
        text,
        remedy: Some("make a new one: supervisor cert issue DIR --node NAME".to_owned()),
    };
    Ok(cert::doubts(&check::read(config)?).into_iter().map(fact).collect())
}

fn shown(screen: &Screen, facts: &[Fact]) -> String {
    let width = facts.iter().map(|fact| fact.topic.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Fact { topic, standing, text: what, remedy } in facts {
        let mood = match standing {
            Standing::Ok => Mood::Good,
            Standing::Note => Mood::Doubtful,
            Standing::Lack => Mood::Bad,
        };
        let word = screen.paint(mood, &format!("{:<4}", standing.name()));
        text.push_str(&format!("{word}  {topic:<width$}  {}\n", what.replace('\n', "\n        ")));
        if let Some(remedy) = remedy {
            text.push_str(&format!("      {:width$}  -> {remedy}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_line_up_with_their_remedies() {
        let fact = |topic, standing, remedy: Option<&str>| Fact {
            topic,
            standing,
            text: "text".to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let facts = [fact("criu", Standing::Ok, None), fact("cgroups", Standing::Lack, Some("mount them"))];
        let expected = "ok    criu     text\nlack  cgroups  text\n               -> mount them\n";
        assert_eq!(shown(&Screen::plain(), &facts), expected);
    }

    #[test]
    fn folders_come_from_the_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ha.toml");
        std::fs::write(&file, "[store]\npath = \"/images\"\n").expect("room");
        assert_eq!(places(Some(&file)).expect("no mistakes").store, Path::new("/images"));
        assert_eq!(places(None).expect("no file").run_dir, Path::new(RUN_DIR));
        assert_eq!(places(Some(Path::new("/nonexistent"))).expect_err("no file").exit_code(), 2);
    }
}
