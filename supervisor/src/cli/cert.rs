//! `cert init`, `cert issue`: certificates for nodes that are each other's peers; and how soon one ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use config::Config;
use engine::certificates::{self, Issued, Node};
use serde_json::json;

use super::failure::Failure;
use super::screen::Screen;

/// An end that is nearer than this is said.
const NEAR: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is to be made.
#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Action {
    /// Make an authority: ca.crt, for every node, and ca.key, which stays where it is
    Init {
        /// A folder; made if it is not there
        folder: PathBuf,
    },
    /// Make a node's certificate and key, signed by that authority
    Issue {
        /// The authority's folder
        folder: PathBuf,
        /// The node's name
        #[arg(long)]
        node: String,
        /// A name or an IP address by which peers call the node; may be given several times
        #[arg(long = "address", value_name = "ADDRESS")]
        addresses: Vec<String>,
        /// How long it is believed
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

/// Makes it.
pub(crate) fn cert(screen: &Screen, action: Action) -> Result<(), Failure> {
    match action {
        Action::Init { folder } => init(screen, &folder),
        Action::Issue { folder, node, addresses, days } => {
            issue(screen, &folder, Node { name: node, addresses, days })
        }
    }
}

/// What is to be said of the certificates that a configuration names: those that end soon, have ended, or cannot be read.
pub(crate) fn doubts(config: &Config) -> Vec<String> {
    let of_replicas = config.store.replicas.iter().filter_map(|replica| replica.tls.as_ref());
    let files = config.api.tls.iter().chain(of_replicas).flat_map(|tls| [&tls.ca, &tls.cert]);
    let files = files.chain(config.api.https.as_ref().map(|https| &https.cert));
    let mut known = std::collections::BTreeSet::new();
    files.filter(|file| known.insert(*file)).filter_map(|file| doubt(file, engine::clock::wall())).collect()
}

fn doubt(file: &Path, now: SystemTime) -> Option<String> {
    let shown = file.display();
    let ends = match certificates::expires(file) {
        Ok(ends) => ends,
        Err(error) => return Some(error.to_string()),
    };
    let day = humantime::format_rfc3339_seconds(ends);
    match ends.duration_since(now) {
        Err(_) => Some(format!("the certificate {shown} has ended on {day}: nobody believes it")),
        Ok(left) if left < NEAR => {
            Some(format!("the certificate {shown} ends in {} days, on {day}", left.as_secs() / (24 * 3600)))
        }
        Ok(_) => None,
    }
}

fn init(screen: &Screen, folder: &Path) -> Result<(), Failure> {
    let ca = certificates::init(folder).map_err(failed)?;
    if screen.is_json() {
        return screen.json(&json!({ "ca": ca, "key": folder.join("ca.key") }));
    }
    let (ca, key) = (ca.display(), folder.join("ca.key"));
    screen.line(&format!(
        "{ca}: give it to every node\n{}: keep it where it is; whoever has it can be any node",
        key.display()
    ))
}

fn issue(screen: &Screen, folder: &Path, node: Node) -> Result<(), Failure> {
    if node.name.is_empty()
        || !node.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        || node.name == "ca"
    {
        return Err(Failure::Invalid(format!("no name of a node: {}", node.name)));
    }
    let Issued { cert, key } = certificates::issue(folder, &node).map_err(failed)?;
    if screen.is_json() {
        return screen.json(&json!({ "cert": cert, "key": key, "ca": folder.join("ca.crt") }));
    }
    let ca = folder.join("ca.crt");
    screen.line(&format!(
        "{}, {} and {}: copy them to {}, and name them in its [api] tls",
        ca.display(),
        cert.display(),
        key.display(),
        node.name
    ))
}

fn failed(error: engine::Error) -> Failure {
    match error {
        engine::Error::Invalid(_) => Failure::Invalid(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        certificates::init(path).expect("made");
        let node = Node { name: "alpha".to_owned(), addresses: Vec::new(), days: 40 };
        let cert = certificates::issue(path, &node).expect("issued").cert;
        let day = Duration::from_secs(24 * 3600);
        let (now, soon, late) =
            (engine::clock::wall(), engine::clock::wall() + day * 20, engine::clock::wall() + day * 50);
        assert_eq!(doubt(&cert, now), None);
        assert!(doubt(&cert, soon).is_some_and(|text| text.contains("ends in 19 days")));
        assert!(doubt(&cert, late).is_some_and(|text| text.contains("has ended on")));
        assert!(doubt(&path.join("absent.crt"), now).is_some());
        let odd = Action::Issue {
            folder: path.to_owned(),
            node: "../x".to_owned(),
            addresses: Vec::new(),
            days: 1,
        };
        assert_eq!(cert_code(odd), 2);
    }

    fn cert_code(action: Action) -> u8 {
        cert(&Screen::plain(), action).expect_err("refused").exit_code()
    }
}
