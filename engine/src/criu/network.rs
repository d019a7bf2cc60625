//! The rules with which CRIU holds established connections still while their service is in an image.
//!
//! A restore of the image removes them. If there is none, nobody would: they would block whoever takes the service's place, and stay on the host.
//! CRIU names its table of nftables after the run that made it, cut to what fits, and notes that run in the image.

use std::path::Path;

use super::file;
use crate::error::{Error, Report, Result};
use crate::process::command::Command;

const NAME: &str = "inventory.img";
const MAGIC: [u32; 2] = [0x5456_4319, 0x5831_3116];
const TABLE: &str = "table inet CRIU-";
/// What is left of a run's name in a table's.
const NAME_MIN: usize = 12;

/// `inventory_entry`.
#[derive(Clone, PartialEq, prost::Message)]
struct Inventory {
    #[prost(string, optional, tag = "13")]
    run: Option<String>,
}

/// The run that made an image, as CRIU names it.
pub(crate) fn run_of(images: &Path) -> Option<String> {
    file::read::<Inventory>(&images.join(NAME), MAGIC)?.run.filter(|run| run.len() >= NAME_MIN)
}

/// Removes the rules of a run from our network namespace, if they are there.
pub(crate) async fn unlock(run: &str) -> Result<()> {
    // Without nft there are no rules of it.
    let Ok(tables) = nft(&["list", "tables"]).run().await else { return Ok(()) };
    for name in tables.stdout.lines().filter_map(|line| is_of(line, run)) {
        let deleted = nft(&["delete", "table", "inet", &name]).run().await?;
        if !deleted.success() {
            let report = Report::new(format!("remove the packet filter's table {name} that CRIU left"));
            return Err(Error::Unavailable(report.output(deleted.stderr.lines().map(str::to_owned))));
        }
    }
    Ok(())
}

fn is_of(line: &str, run: &str) -> Option<String> {
    let name = line.trim().strip_prefix(TABLE)?;
    (name.len() >= NAME_MIN && run.starts_with(name)).then(|| format!("CRIU-{name}"))
}

fn nft(arguments: &[&str]) -> Command {
    Command::new(std::iter::once("nft").chain(arguments.iter().copied()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_the_run_are_meant() {
        let run = "d0a15638-4e88-486c-ab45-0231c718cd94";
        let named = |line| is_of(line, run);
        assert_eq!(
            named("table inet CRIU-d0a15638-4e88-486c-ab").as_deref(),
            Some("CRIU-d0a15638-4e88-486c-ab")
        );
        assert_eq!(named("table inet CRIU-d0a15638-4e88-486c-ac"), None);
        assert_eq!(named("table inet CRIU-d0a"), None);
        assert_eq!(named("table ip filter"), None);
    }
}
