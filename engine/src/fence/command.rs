//! Fencing another node by a command of the user's (a power switch, a hypervisor, a cloud's API): STONITH.
//!
//! It has succeeded if and only if it exits with 0 within its limit; then the node is taken for dead. It refuses to guess
//! from anything else.

use std::time::Duration;

use policies::id::{Epoch, NodeName, ServiceName};

use crate::error::{Error, Report, Result};
use crate::process::command::Command;

/// Runs the command against the former holder. It is told whom by `SUPERVISOR_FENCE_NODE`, why by
/// `SUPERVISOR_FENCE_SERVICE` and `SUPERVISOR_FENCE_EPOCH` (the new one).
///
/// # Errors
/// `Unavailable` if it did not succeed in time: nothing may be restored then.
pub async fn fence_node(
    argv: &[String],
    node: &NodeName,
    service: &ServiceName,
    epoch: Epoch,
    limit: Duration,
) -> Result<()> {
    let command = Command::new(argv.to_vec())
        .env("SUPERVISOR_FENCE_NODE", node.as_str())
        .env("SUPERVISOR_FENCE_SERVICE", service.as_str())
        .env("SUPERVISOR_FENCE_EPOCH", epoch.to_string())
        .timeout(limit)
        .kill_leftovers();
    let output = command.run().await?;
    if output.success() {
        return Ok(());
    }
    let report = Report::new(format!("fence the node {node}: the command ended with {}", output.status));
    Err(Error::Unavailable(report.output(output.stderr.lines().map(str::to_owned))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fence_command_succeeds_only_by_its_exit_code() {
        let (node, service) = (NodeName::try_from("alpha").unwrap(), ServiceName::try_from("db").unwrap());
        let run = |script: &str| {
            let argv = ["sh", "-c", script].map(str::to_owned);
            let (node, service) = (node.clone(), service.clone());
            async move { fence_node(&argv, &node, &service, Epoch(7), Duration::from_secs(30)).await }
        };
        let told = "test $SUPERVISOR_FENCE_NODE = alpha && test $SUPERVISOR_FENCE_SERVICE = db && \
                    test $SUPERVISOR_FENCE_EPOCH = 7";
        run(told).await.unwrap();
        let failed = run("echo no power switch >&2; exit 3").await;
        let Err(Error::Unavailable(report)) = failed else { panic!("{failed:?}") };
        assert!(report.to_string().contains("no power switch"), "{report}");
    }
}
