//! The words of the supervisor's TOML file.
//!
//! Text goes in by one door, [`Config::parse`], and comes out as checked settings, or as all mistakes at once,
//! each with its line, a marked excerpt and a hint. One table of keys is behind the reader, the JSON Schema
//! ([`schema`]), the reference for people ([`reference()`]) and the hints about unknown keys.
//!
//! ```text
//! text -> toml (syntax) -> raw (field by field, by the key table) -> check (across fields) -> Config
//! ```
//!
//! It refuses to touch files, clocks and processes: the environment comes in as a function, so the same text
//! always gives the same answer, and any text at all may be thrown at it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod diff;
mod error;
mod expand;
mod keys;
mod kinds;
mod near;
mod raw;
mod read;
mod reference;
mod schema;
mod settings;
mod values;
mod words;

use std::collections::BTreeMap;

use policies::id::ServiceName;
use toml::de::DeTable;

pub use diff::{Change, Diff, Part, diff};
pub use error::{Errors, Mistake, Severity};
pub use kinds::EVENT_KINDS;
pub use reference::reference;
pub use schema::schema;
pub use settings::{
    Address, Api, CgroupMode, CheckpointPlan, Cluster, ClusterTls, Compression, CpuCap, CriuOptions, Docker,
    ExecProbe, Failback, Failover, GrpcProbe, Hooks, HostShutdown, Hot, HttpProbe, HttpTarget, Https,
    Isolation, KeyFile, Lease, Member, NetworkAddress, NetworkLock, Node, Notify, OnStop, Otlp, Output,
    Podman, Probe, ProbeKind, ProbeTls, Process, Recipe, Replica, ReplicaPlace, Report, Runc, Runtime,
    Service, Sidecar, StartFrom, Store, Systemd, Tcp, Tls, Webhook,
};

use crate::error::Draft;
use crate::read::Context;

/// A configuration without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[store]`
    pub store: Store,
    /// `[api]`
    pub api: Api,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[hooks]`
    pub hooks: Option<Hooks>,
    /// `[telemetry.otlp]`
    pub otlp: Option<Otlp>,
    /// `[service.NAME]` and `[group.NAME]`; the members of groups are in these.
    pub services: BTreeMap<ServiceName, Service>,
    /// `[sidecar]`
    pub sidecar: Option<Sidecar>,
    warnings: Vec<Mistake>,
}

impl Config {
    /// Parses the text of a configuration file.
    ///
    /// `origin` is the file's name for messages; `env` answers for `${VAR}`.
    ///
    /// # Errors
    ///
    /// All mistakes of the text at once, warnings among them; of its syntax, which hides the rest, the first.
    pub fn parse(text: &str, origin: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let draft = syntax(text, &error);
                return Err(Errors {
                    origin: origin.to_owned(),
                    mistakes: error::draw(origin, text, vec![draft]),
                });
            }
        };
        let context = Context::new(text, env);
        let raw = raw::read(&context, document.get_ref());
        let (mut drafts, places) = context.finish();
        drafts.extend(check::check(&raw, &places));
        let mistakes = error::draw(origin, text, drafts);
        if mistakes.iter().any(|mistake| mistake.severity == Severity::Error) {
            return Err(Errors { origin: origin.to_owned(), mistakes });
        }
        let raw::Raw { node, store, api, cluster, hooks, otlp, services, members: _, sidecar } = raw;
        Ok(Self { node, store, api, cluster, hooks, otlp, services, sidecar, warnings: mistakes })
    }

    /// What is doubtful about the file, though it can be used.
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Draft {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message: Vec<_> = error.message().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let hint = if error.message().contains("duplicate key") {
        "a key or table can be written once only: leave one of them out"
    } else {
        "texts need quotes, lists brackets; see https://toml.io"
    };
    Draft::error(span, "this is not TOML").label(message.join("; ")).hint(hint)
}
