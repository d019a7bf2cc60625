//! The user's OCI bundle, read and never written.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Report, Result};

/// A bundle's `config.json`.
pub(super) struct Bundle {
    folder: PathBuf,
    config: Value,
}

impl Bundle {
    /// Reads it and says what cannot work.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let invalid = |why: String, remedy: &str| {
            Error::Invalid(
                Report::new(format!("use {} as an OCI bundle: {why}", folder.display())).remedy(remedy),
            )
        };
        let text = std::fs::read(&path).map_err(|e| {
            invalid(
                format!("read {}: {e}", path.display()),
                "make one with `runc spec` beside a rootfs folder",
            )
        })?;
        let config: Value = serde_json::from_slice(&text).map_err(|e| {
            invalid(format!("{} is not JSON: {e}", path.display()), "make one with `runc spec`")
        })?;
        let bundle = Self { folder: folder.to_owned(), config };
        if bundle.config["process"]["terminal"].as_bool() == Some(true) {
            return Err(Error::Refused(
                Report::new(format!("use {} as an OCI bundle: it wants a terminal", folder.display()))
                    .remedy("set process.terminal to false in its config.json: nobody sits at a supervised service"),
            ));
        }
        let root = bundle.root();
        if !root.is_dir() {
            let why = format!("its root folder {} is not there", root.display());
            return Err(invalid(why, "unpack the container's root file system there"));
        }
        Ok(bundle)
    }

    /// The config as runc gets it: paths absolute, CRIU's options named, in our cgroup unless it names one.
    pub(super) fn edited(&self, cgroup: &str, criu_config: &Path) -> Result<Vec<u8>> {
        let mut config = self.config.clone();
        config["root"]["path"] = json!(self.root());
        config["annotations"]["org.criu.config"] = json!(criu_config);
        if config["linux"]["cgroupsPath"].as_str().is_none_or(str::is_empty) {
            config["linux"]["cgroupsPath"] = json!(cgroup);
        }
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            self.make_source_absolute(mount);
        }
        serde_json::to_vec_pretty(&config)
            .map_err(|e| Error::Internal(Report::new("write a bundle's config").because(e)))
    }

    /// Names what is run.
    pub(super) fn digest(&self) -> String {
        blake3::hash(self.config.to_string().as_bytes()).to_hex().to_string()
    }

    /// The root folder, if the container may write to it.
    pub(super) fn writable_root(&self) -> Option<PathBuf> {
        (self.config["root"]["readonly"].as_bool() != Some(true)).then(|| self.root())
    }

    fn root(&self) -> PathBuf {
        self.folder.join(self.config["root"]["path"].as_str().unwrap_or("rootfs"))
    }

    /// Sources of bind mounts may be relative to the bundle, which is elsewhere for runc.
    fn make_source_absolute(&self, mount: &mut Value) {
        let is_bind = mount["type"].as_str() == Some("bind")
            || mount["options"].as_array().is_some_and(|o| o.iter().any(|o| o == "bind" || o == "rbind"));
        if let (true, Some(source)) = (is_bind, mount["source"].as_str()) {
            mount["source"] = json!(self.folder.join(source));
        }
    }
}
