//! Certificates for nodes that are each other's peers, made by the supervisor under test.

use std::path::Path;

use crate::Node;
use crate::pair::quoted;

/// An authority in the folder, and a certificate for each name, on loopback.
pub fn certificates(node: &Node, folder: &Path, names: &[&str]) {
    certificates_at(node, folder, &names.iter().map(|name| (*name, "127.0.0.1")).collect::<Vec<_>>());
}

/// The same, each at an address of its own.
pub fn certificates_at(node: &Node, folder: &Path, nodes: &[(&str, &str)]) {
    let folder = folder.display().to_string();
    node.write_config();
    node.json(&["cert", "init", &folder]);
    for (name, address) in nodes {
        node.json(&["cert", "issue", &folder, "--node", name, "--address", address]);
    }
}

/// The value of `api.tls` for one of them.
#[must_use]
pub fn tls(folder: &Path, name: &str) -> String {
    let file = |name: String| quoted(&folder.join(name).display().to_string());
    let (ca, cert, key) =
        (file("ca.crt".to_owned()), file(format!("{name}.crt")), file(format!("{name}.key")));
    format!("{{ ca = {ca}, cert = {cert}, key = {key} }}")
}
