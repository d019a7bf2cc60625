//! The document, field by field.
//!
//! Each table of the file has a function here that fills its struct. A field that is wrong has been noted and
//! gets any value at all: with a mistake noted, no configuration leaves the crate. It refuses rules that
//! concern more than one field; those are in `check`.

mod checkpoint;
mod cluster;
mod container;
mod hooks;
mod node;
mod probe;
mod replica;
mod restart;
mod service;

use std::collections::BTreeMap;

use policies::id::ServiceName;
use toml::de::DeTable;

pub(crate) use checkpoint::Occasion;

use crate::error::Draft;
use crate::keys::ROOT;
use crate::read::{Context, Table};
use crate::settings::{Api, Cluster, Hooks, Node, Service, Store};

/// All of a file, read but not yet checked across fields.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
    pub(crate) hooks: Option<Hooks>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
}

/// Reads the document; what is wrong with it is noted in the context.
pub(crate) fn read(context: &Context<'_>, document: &DeTable<'_>) -> Raw {
    let root = Table::root(context, &ROOT, document);
    let node = node::node(root.table("node"));
    let store = node::store(root.table("store"), &node);
    let api = node::api(root.table("api"), &node);
    let cluster = cluster::cluster(root.table("cluster"));
    let hooks = root.table_if_written("hooks").map(hooks::hooks);
    let mut services = BTreeMap::new();
    for named in root.named_tables("service") {
        let name = ServiceName::try_from(named.name);
        let service = service::service(named.table, named.name, &node);
        match name {
            Ok(name) => drop(services.insert(name, service)),
            Err(_) => {
                let message = format!("`{}` cannot be the name of a service", named.name);
                let hint = "names are made of `a-z 0-9 _ . -`, begin with a letter or digit, and have at \
                most 63 characters";
                context.note(Draft::error(named.name_span, message).hint(hint));
            }
        }
    }
    root.done();
    Raw { node, store, api, cluster, hooks, services }
}
