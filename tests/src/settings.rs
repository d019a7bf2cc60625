//! The configuration of a node, as text: what a person would write, key by key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// A plain process in a pid namespace of its own.
    Process,
    /// A container of runc.
    Runc,
}

/// Tables by their names (`store.replica#0` is the first of a list), keys (dotted ones too) by theirs, values as TOML.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

/// What tests of recovery want: checkpoints when asked for and not else, quick probes, hardly any backoff.
const DEFAULTS: [(&str, &str); 10] = [
    ("stop_timeout", "\"2s\""),
    ("checkpoint.interval", "\"never\""),
    ("checkpoint.trial", "false"),
    ("checkpoint.on", "[]"),
    ("probe.health.interval", "\"500ms\""),
    ("probe.health.timeout", "\"500ms\""),
    ("probe.health.failure_threshold", "3"),
    ("probe.health.start_period", "\"15s\""),
    ("restart.backoff_initial", "\"50ms\""),
    ("restart.backoff_max", "\"200ms\""),
];

impl Settings {
    /// A node without services.
    pub(crate) fn new(name: &str, state: &Path, run: &Path) -> Self {
        let mut settings = Self::default();
        settings.set("node", "name", &text(name));
        settings.set("node", "state_dir", &text(&state.display().to_string()));
        settings.set("node", "run_dir", &text(&run.display().to_string()));
        settings.set("store", "compression", "\"lz4\"");
        settings.set("store", "min_free", "\"16MiB\"");
        settings
    }

    /// One key; it replaces an earlier one.
    pub(crate) fn set(&mut self, table: &str, key: &str, value: &str) {
        self.tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// Takes a key away again, and everything below it.
    pub(crate) fn unset(&mut self, table: &str, key: &str) {
        let below = format!("{key}.");
        if let Some(keys) = self.tables.get_mut(table) {
            keys.retain(|name, _| name != key && !name.starts_with(&below));
        }
    }

    /// What every service of a test has, with a probe of that port.
    pub(crate) fn add_service(&mut self, service: &str, port: u16) {
        let table = format!("service.{service}");
        for (key, value) in DEFAULTS {
            self.set(&table, key, value);
        }
        self.set(&table, "probe.health.http.url", &text(&format!("http://127.0.0.1:{port}/health")));
    }

    /// The services' names.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().filter_map(|table| table.strip_prefix("service."))
    }

    /// Takes a whole table away.
    pub(crate) fn remove(&mut self, table: &str) {
        self.tables.remove(table);
    }

    /// The file.
    pub(crate) fn toml(&self) -> String {
        let mut toml = String::new();
        for (table, keys) in &self.tables {
            // A list of tables is told by the number at its end.
            let _ = match table.rsplit_once('#') {
                Some((list, _)) => writeln!(toml, "[[{list}]]"),
                None => writeln!(toml, "[{table}]"),
            };
            for (key, value) in keys {
                let _ = writeln!(toml, "{key} = {value}");
            }
            toml.push('\n');
        }
        toml
    }
}

/// A text as TOML writes it; quotes and backslashes of TOML and JSON are the same.
pub(crate) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// A list of texts as TOML writes it.
pub(crate) fn list(values: &[String]) -> String {
    serde_json::Value::from(values.to_vec()).to_string()
}
