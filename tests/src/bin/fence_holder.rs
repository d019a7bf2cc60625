//! Holds a service as a supervisor with a lease does, to be stopped or killed at it.
//!
//! `fence_holder RUN_FOLDER NODE SUPERVISOR CRIU once|renew MILLISECONDS pid|none COMMAND...` or `... runc BUNDLE`
//!
//! It starts the service and arms its fence for so long from now on, once or again and again; each time it prints the pid and
//! the limit on both clocks. Past a limit it prints `fenced` and ends.

use std::process::ExitCode;
use std::time::Duration;

use engine::clock;
use engine::error::{Error, Result};
use engine::shim::Isolation;
use system_tests::Ground;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [run_folder, node, supervisor, criu, how, span, kind, command @ ..] = words.as_slice() else {
        eprintln!("usage: see the source");
        return ExitCode::from(2);
    };
    let ground = Ground {
        node: node.clone(),
        run_folder: run_folder.into(),
        supervisor: supervisor.into(),
        criu: criu.into(),
    };
    let span = Duration::from_millis(span.parse().expect("a number of milliseconds"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    match runtime.block_on(hold(&ground, how == "renew", span, kind, command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Fenced(_)) => {
            println!("fenced");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn hold(ground: &Ground, renews: bool, span: Duration, kind: &str, command: &[String]) -> Result<()> {
    let log = ground.run_folder.join("log");
    let service = match kind {
        "pid" => ground.process(Isolation::Pid, command, &log).await?,
        "none" => ground.process(Isolation::None, command, &log).await?,
        _ => ground.runc(command.first().map(AsRef::as_ref).expect("a bundle")).await?,
    };
    let instance = service.start().await?;
    let fence = instance.fence().await?;
    loop {
        let limit = clock::now()?.after(span);
        fence.arm(limit).await?;
        let (monotonic, boottime) = (limit.monotonic.as_nanos(), limit.boottime.as_nanos());
        println!("{} {monotonic} {boottime}", instance.handle.pid);
        if !renews {
            // Until it is ended from outside.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(span / 8).await;
    }
}
