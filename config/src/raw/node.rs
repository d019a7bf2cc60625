//! `[node]`, `[store]`, `[api]`.

use super::replica::{replica, tls};
use crate::read::Table;
use crate::settings::{Address, Api, Compression, HostShutdown, Hot, Https, KeyFile, Node, Store};
use crate::values::{address, choice, name, path, size};

pub(super) fn node(table: Table<'_>) -> Node {
    let node = Node {
        name: table.get("name", name),
        state_dir: table.get("state_dir", path).unwrap_or_default(),
        run_dir: table.get("run_dir", path).unwrap_or_default(),
        on_stop: table.get("on_stop", choice),
        on_host_shutdown: table.get("on_host_shutdown", choice).unwrap_or(HostShutdown::Leave),
    };
    table.done();
    node
}

pub(super) fn store(table: Table<'_>, node: &Node) -> Store {
    let key = table.get("encryption_key_file", path).map(KeyFile::Key);
    let passphrase = table.get("encryption_passphrase_file", path).map(KeyFile::Passphrase);
    let store = Store {
        path: table.get("path", path).unwrap_or_else(|| node.state_dir.join("images")),
        compression: table.get("compression", choice).unwrap_or(Compression::Zstd),
        min_free: table.get("min_free", size).unwrap_or_default(),
        max_total_size: table.get("max_total_size", size),
        hot: table.get("hot", choice).unwrap_or(Hot::Memory),
        hot_max_size: table.get("hot_max_size", size),
        // That both are written is a mistake of its own.
        encryption: key.or(passphrase),
        old_keys: old_keys(&table),
        replicas: table.table_list("replica").into_iter().map(replica).collect(),
    };
    table.done();
    store
}

fn old_keys(table: &Table<'_>) -> Vec<KeyFile> {
    let paths = |name| table.get(name, |cell| cell.list(path)).unwrap_or_default();
    let keys = paths("encryption_old_key_files").into_iter().map(KeyFile::Key);
    keys.chain(paths("encryption_old_passphrase_files").into_iter().map(KeyFile::Passphrase)).collect()
}

pub(super) fn api(table: Table<'_>, node: &Node) -> Api {
    let api = Api {
        socket: table.get("socket", path).unwrap_or_else(|| node.run_dir.join("api.sock")),
        listen: table.get("listen", address),
        tls: tls(&table),
        https: table.table_if_written("https").map(https),
    };
    table.done();
    api
}

fn https(table: Table<'_>) -> Https {
    let file = |name| table.get(name, path).unwrap_or_default();
    let https = Https {
        listen: table.get("listen", address).unwrap_or(Address { host: String::new(), port: 0 }),
        token_file: file("token_file"),
        cert: file("cert"),
        key: file("key"),
    };
    table.done();
    https
}
