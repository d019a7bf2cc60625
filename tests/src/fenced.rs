//! Services that a test, or a program of a test, runs through the engine itself, without a supervisor around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::criu::{Criu, SharedOptions};
use engine::error::Result;
use engine::freeze::Hierarchies;
use engine::runtime::{Place, Runtime, process, runc};
use engine::shim::{Isolation, Output};

/// What one service's runtime is made of.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The node's name, in which its cgroups are found.
    pub node: String,
    /// Where sockets and logs go.
    pub run_folder: PathBuf,
    /// The program that is also the shim's.
    pub supervisor: PathBuf,
    /// A CRIU that works.
    pub criu: PathBuf,
}

impl Ground {
    /// The service's place on the host.
    ///
    /// # Errors
    /// Without CRIU or cgroups.
    pub async fn place(&self, service: &str) -> Result<Place> {
        Ok(Place {
            service: service.to_owned(),
            node: self.node.clone(),
            program: self.supervisor.clone(),
            run_folder: self.run_folder.clone(),
            hierarchies: Hierarchies::find()?,
            criu: Arc::new(Criu::find(&self.criu, &self.run_folder).await?),
            options: SharedOptions::default(),
        })
    }

    /// A plain process, its output read by the shim to a file.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub async fn process(
        &self,
        isolation: Isolation,
        command: &[String],
        log: &Path,
    ) -> Result<Box<dyn Runtime>> {
        let spec = process::Spec {
            command: command.to_vec(),
            env: Vec::new(),
            cwd: None,
            user: None,
            isolation,
            stdout: Output::Pumped(log.to_owned()),
            stderr: Output::Null,
            notify: None,
        };
        Ok(Box::new(process::Process::new(self.place("fenced").await?, spec)))
    }

    /// A container of runc.
    ///
    /// # Errors
    /// As [`Self::place`], and if the bundle is none.
    pub async fn runc(&self, bundle: &Path) -> Result<Box<dyn Runtime>> {
        let spec = runc::Spec {
            bundle: bundle.to_owned(),
            program: "runc".into(),
            version: "any".to_owned(),
            root: self.run_folder.join("runc"),
            log: self.run_folder.join("log"),
        };
        Ok(Box::new(runc::Runc::new(self.place("fenced").await?, spec)?))
    }

    /// Where the shim listens.
    #[must_use]
    pub fn shim_socket(&self) -> PathBuf {
        self.run_folder.join("shim.sock")
    }
}
