//! A sidecar beside a service of a node: the real program, with a configuration of its own.

use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::counter::Counter;
use crate::node::Node;
use crate::wait::{LIMIT, wait_for};

/// One that runs; dropped, it is killed.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    answers: Counter,
}

impl Sidecar {
    /// Starts one that asks a counter for its health and reports to the node, all of it quickly.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn beside(node: &mut Node, service: &str) -> Self {
        let (port, asked) = (node.take_port(), node.counter(service).port());
        let file = node.folder().join(format!("sidecar-{port}.toml"));
        let socket = node.run_dir().join("api.sock").display().to_string();
        let text = format!(
            "[sidecar]\nlisten = \"127.0.0.1:{port}\"\n\
             [sidecar.report]\nsocket = {socket:?}\nservice = {service:?}\ninterval = \"200ms\"\n\
             [sidecar.probe.health]\nhttp.url = \"http://127.0.0.1:{asked}/health\"\n\
             interval = \"200ms\"\ntimeout = \"200ms\"\nfailure_threshold = 2\n"
        );
        fs::write(&file, text).expect("room");
        let mut command = Command::new(&node.host().supervisor);
        command.arg("sidecar").arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the supervisor's program can be run");
        Self { child, answers: Counter::at(port) }
    }

    /// The status code of an address, once it is this.
    pub fn wait_for(&self, path: &str, status: u16) -> String {
        wait_for(LIMIT, &format!("{path} answers {status}"), || match self.answers.get(path) {
            Ok((found, body)) if found == status => Some(body),
            Ok(_) | Err(_) => None,
        })
    }

    /// Kills it: it falls silent.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Asks it to end, which it must do well.
    ///
    /// # Panics
    /// If it does not.
    pub fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pids are small"));
        kill(pid, Signal::SIGTERM).expect("our own child");
        let status = wait_for(LIMIT, "the sidecar ends", || self.child.try_wait().expect("our own child"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
