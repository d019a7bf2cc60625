//! The configuration beside the service is one that the supervisor takes, and starts this program.
#![allow(missing_docs)]

use config::{Config, ProbeKind, Runtime};

#[test]
fn counter_toml_has_no_mistakes_and_its_probe_asks_where_it_listens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/counter.toml");
    let text = std::fs::read_to_string(path).expect("it lies beside the manifest");
    let config = Config::parse(&text, "counter.toml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());

    let service = config.services.values().next().expect("one service");
    let Runtime::Process(process) = &service.runtime else { panic!("a plain process") };
    assert_eq!(process.command.first().map(String::as_str), Some("counter"));
    let address = process.command.last().expect("the address");
    let ProbeKind::Http(probe) = &service.probes.first().expect("a probe").kind else {
        panic!("an http probe")
    };
    assert!(format!("{probe:?}").contains(address.rsplit(':').next().expect("a port")), "{probe:?}");
}
