//! `docs/metrics.md` says what the table says; `docs/grafana.json` and `docs/alerts.yml` name nothing else.
//!
//! `cargo xtask fix` (or `UPDATE_DOCS=1`) writes the table of the document.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use prometheus_client::metrics::MetricType;

use crate::metrics::table::{ALL, Metric};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(docs(name)).unwrap_or_else(|e| panic!("docs/{name}: {e}"))
}

const BEGIN: &str = "<!-- made from the code by `cargo xtask fix` -->\n";

#[test]
fn the_document_is_the_generated_one() {
    let present = read("metrics.md");
    let (before, _) = present.split_once(BEGIN).expect("the place of the table");
    let mut table = String::from("\n| metric | type | labels | what |\n| --- | --- | --- | --- |\n");
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (metric.kind.as_str(), labels.join(", "));
        writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help).expect("memory");
    }
    let wanted = format!("{before}{BEGIN}{table}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(docs("metrics.md"), &wanted).expect("the document is written");
    }
    assert!(read("metrics.md") == wanted, "docs/metrics.md is out of date: run `cargo xtask fix`");
}

/// A dashboard or a rule over a metric that is not there would be empty, and silent, for ever.
#[test]
fn dashboard_and_rules_name_only_metrics_and_labels_that_exist() {
    for name in ["grafana.json", "alerts.yml"] {
        let text = read(name);
        let found = named(&text);
        assert!(found.len() > 10, "{name} names only {found:?}");
        for metric in found {
            assert!(ALL.iter().any(|known| exposes(known, metric)), "docs/{name}: there is no {metric}");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana.json")).expect("it is JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 8));
    let everywhere = read("grafana.json") + &read("alerts.yml");
    let used = named(&everywhere);
    let unused = ALL.iter().filter(|known| !used.iter().any(|metric| exposes(known, metric)));
    let unused: Vec<_> = unused.map(|metric| metric.name).collect();
    assert!(unused.len() < ALL.len() / 2, "hardly anything is looked at: {unused:?}");
}

fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("supervisor_") || word.starts_with("process_")).collect()
}

fn exposes(metric: &Metric, name: &str) -> bool {
    let rest = name.strip_prefix(metric.name);
    match rest {
        Some("") => !matches!(metric.kind, MetricType::Histogram),
        Some("_bucket" | "_sum" | "_count") => matches!(metric.kind, MetricType::Histogram),
        Some(_) | None => false,
    }
}
