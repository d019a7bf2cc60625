//! Rules that concern more than one field.
//!
//! Each rule is a function that looks at values already read, points at where they stand, and says nothing
//! about values that are already known to be wrong. It refuses to look at anything outside the file: whether a
//! folder exists is the engine's business.

mod cluster;
mod containers;
mod dependencies;
mod encryption;
mod groups;
mod replicas;
mod service;
mod sidecar;
mod volumes;

use std::path::Path;
use std::time::Duration;

use crate::error::Draft;
use crate::raw::Raw;
use crate::read::Places;
use crate::settings::Hot;
use crate::values::LONGEST_SOCKET;

/// All that is wrong or doubtful across fields.
pub(crate) fn check(raw: &Raw, places: &Places) -> Vec<Draft> {
    let mut rules = Rules { places, drafts: Vec::new() };
    folders(raw, &mut rules);
    store(raw, &mut rules);
    encryption::check(raw, &mut rules);
    cluster::check(raw, &mut rules);
    containers::check(raw, &mut rules);
    dependencies::check(raw, &mut rules);
    groups::check(raw, &mut rules);
    volumes::check(raw, &mut rules);
    replicas::check(raw, &mut rules);
    sidecar::check(raw, &mut rules);
    for (name, service) in &raw.services {
        service::check(name, service, raw, &mut rules);
    }
    let nothing = raw.services.is_empty() && raw.members.is_empty() && raw.sidecar.is_none();
    if nothing && places.written("service").is_none() {
        let draft = Draft::warning(0..0, "there is no service in this file");
        rules.drafts.push(draft.hint("add `[service.NAME]`"));
    }
    rules.drafts
}

/// What the rules share.
struct Rules<'a> {
    places: &'a Places,
    drafts: Vec<Draft>,
}

impl Rules<'_> {
    /// Notes an error at a key, unless one of these keys was already found wrong.
    fn error(&mut self, at: &str, about: &[&str], message: impl Into<String>, hint: &str) {
        if self.places.sound(&[at]) && self.places.sound(about) {
            self.drafts.push(Draft::error(self.places.nearest(at), message).hint(hint));
        }
    }

    /// The same for what is only doubtful.
    fn warning(&mut self, at: &str, about: &[&str], message: impl Into<String>, hint: &str) {
        if self.places.sound(&[at]) && self.places.sound(about) {
            self.drafts.push(Draft::warning(self.places.nearest(at), message).hint(hint));
        }
    }
}

fn folders(raw: &Raw, rules: &mut Rules<'_>) {
    let folders = ["node/state_dir", "node/run_dir"];
    if raw.node.state_dir == raw.node.run_dir {
        rules.error(
            later(rules.places, folders),
            &folders,
            "`state_dir` and `run_dir` are the same folder",
            "`run_dir` is emptied at boot, and `state_dir` must not be: use two folders",
        );
    } else if raw.node.state_dir.starts_with(&raw.node.run_dir) {
        rules.error(
            later(rules.places, folders),
            &folders,
            "`state_dir` lies inside `run_dir`",
            "`run_dir` is emptied at boot, and `state_dir` must not be: put it elsewhere",
        );
    }
    let length = raw.api.socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        let message = format!("the path of the socket has {length} bytes, {LONGEST_SOCKET} are possible");
        let hint = "use a shorter `socket`, or a shorter `run_dir`";
        rules.error("api/socket", &["node/run_dir"], message, hint);
    }
}

fn store(raw: &Raw, rules: &mut Rules<'_>) {
    let store = &raw.store;
    let folders = ["store/path", "node/state_dir", "node/run_dir"];
    if store.path == raw.node.state_dir {
        rules.error(
            "store/path",
            &folders,
            "the store is the same folder as `state_dir`",
            "give it a folder of its own, as `<state_dir>/images`",
        );
    } else if store.path.starts_with(&raw.node.run_dir) && !raw.node.state_dir.starts_with(&raw.node.run_dir)
    {
        rules.warning(
            "store/path",
            &folders,
            "the store lies inside `run_dir`, which is emptied at boot",
            "put it on a disk if images are to survive a reboot",
        );
    }
    if store.hot == Hot::Disk && store.hot_max_size.is_some() {
        rules.warning(
            "store/hot_max_size",
            &["store/hot"],
            "`hot_max_size` does nothing with `hot = \"disk\"`",
            "leave it out, or write `hot = \"memory\"`",
        );
    }
}

/// Of two keys the one that stands later, for that is the one written against the other.
fn later<'p>(places: &Places, paths: [&'p str; 2]) -> &'p str {
    let start = |path| places.written(path).map(|span| span.start);
    if start(paths[1]) > start(paths[0]) { paths[1] } else { paths[0] }
}

fn human(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Whether one of these folders is the other or lies in it.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
