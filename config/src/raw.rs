//! The document, field by field.
//!
//! Each table of the file has a function here that fills its struct. A field that is wrong has been noted and
//! gets any value at all: with a mistake noted, no configuration leaves the crate. It refuses rules that
//! concern more than one field; those are in `check`.

mod checkpoint;
mod cluster;
mod container;
mod group;
mod hooks;
mod node;
mod probe;
mod replica;
mod restart;
mod service;
mod sidecar;
mod telemetry;

use std::collections::BTreeMap;

use policies::id::ServiceName;
use toml::de::DeTable;

pub(crate) use checkpoint::Occasion;
pub(crate) use service::Written;

use crate::error::Draft;
use crate::keys::ROOT;
use crate::read::{Context, Named, Table};
use crate::settings::{Api, Cluster, Hooks, Node, Otlp, Runtime, Service, Sidecar, Store};

/// All of a file, read but not yet checked across fields.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
    pub(crate) hooks: Option<Hooks>,
    pub(crate) otlp: Option<Otlp>,
    /// Services that stand alone, and groups.
    pub(crate) services: BTreeMap<ServiceName, Service>,
    /// Members of groups, as they are written.
    pub(crate) members: BTreeMap<ServiceName, Written>,
    pub(crate) sidecar: Option<Sidecar>,
}

impl Raw {
    /// Where a service or group is written.
    pub(crate) fn place(&self, name: &ServiceName) -> String {
        let is_group =
            self.services.get(name).is_some_and(|service| matches!(service.runtime, Runtime::Group(_)));
        if is_group { format!("group/{name}") } else { format!("service/{name}") }
    }
}

/// Reads the document; what is wrong with it is noted in the context.
pub(crate) fn read(context: &Context<'_>, document: &DeTable<'_>) -> Raw {
    let root = Table::root(context, &ROOT, document);
    let node = node::node(root.table("node"));
    let store = node::store(root.table("store"), &node);
    let api = node::api(root.table("api"), &node);
    let cluster = cluster::cluster(root.table("cluster"));
    let hooks = root.table_if_written("hooks").map(hooks::hooks);
    let otlp = telemetry::telemetry(root.table("telemetry"));
    let sidecar = root.table_if_written("sidecar").map(sidecar::sidecar);
    let written = named(context, "service", root.named_tables("service"), |table, name| {
        service::service(table, name, &node)
    });
    let groups = named(context, "group", root.named_tables("group"), |table, _| group::group(table));
    root.done();
    let (services, members) = group::join(written, groups);
    Raw { node, store, api, cluster, hooks, otlp, services, members, sidecar }
}

/// Each of these tables, by its name.
fn named<'a, T>(
    context: &Context<'_>,
    what: &str,
    tables: Vec<Named<'a>>,
    read: impl Fn(Table<'a>, &str) -> T,
) -> BTreeMap<ServiceName, T> {
    let mut all = BTreeMap::new();
    for named in tables {
        let name = ServiceName::try_from(named.name);
        let value = read(named.table, named.name);
        match name {
            Ok(name) => drop(all.insert(name, value)),
            Err(_) => {
                let message = format!("`{}` cannot be the name of a {what}", named.name);
                let hint = "names are made of `a-z 0-9 _ . -`, begin with a letter or digit, and have at \
                most 63 characters";
                context.note(Draft::error(named.name_span, message).hint(hint));
            }
        }
    }
    all
}
