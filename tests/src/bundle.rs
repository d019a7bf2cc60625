//! An OCI bundle around the counter, or only its root for an image: what `runc spec` writes, a root file system of the program and the
//! libraries that it names, the host's network so that its port is reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Makes one in `folder`. The container runs `program` with these arguments.
pub fn make(folder: &Path, program: &Path, arguments: &[String]) {
    let inside = make_root(&folder.join("rootfs"), program);
    let mut argv = vec![inside.display().to_string()];
    argv.extend_from_slice(arguments);
    write_config(folder, &argv);
}

/// Makes a root file system with a program and its libraries, or adds them to one; gives the program's path inside.
pub(crate) fn make_root(root: &Path, program: &Path) -> PathBuf {
    for name in ["proc", "dev", "sys", "tmp", "etc", "bin"] {
        fs::create_dir_all(root.join(name)).expect("a folder of the container's root");
    }
    let inside = Path::new("/bin").join(program.file_name().expect("a program has a name"));
    for (from, to) in
        libraries(program).into_iter().map(|l| (l.clone(), l)).chain([(program.to_owned(), inside.clone())])
    {
        let to = root.join(to.strip_prefix("/").expect("paths are absolute"));
        fs::create_dir_all(to.parent().expect("it lies below the root")).expect("a folder for a library");
        fs::copy(&from, &to).unwrap_or_else(|e| panic!("copy {} into a bundle: {e}", from.display()));
    }
    inside
}

/// Writes the config for a root that is there, or will be.
pub(crate) fn write_config(folder: &Path, argv: &[String]) {
    let made = Command::new("runc").arg("spec").current_dir(folder).output().expect("runc can be run");
    assert!(made.status.success(), "runc spec: {}", String::from_utf8_lossy(&made.stderr));
    let path = folder.join("config.json");
    let text = fs::read(&path).expect("runc spec writes config.json");
    let mut config: Value = serde_json::from_slice(&text).expect("it is JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(argv);
    config["root"]["readonly"] = json!(false);
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a bundle has namespaces");
    namespaces.retain(|namespace| namespace["type"] != "network");
    let text = serde_json::to_vec_pretty(&config).expect("JSON can be written");
    fs::write(path, text).expect("the bundle's config is written");
}

/// Mounts a folder of the host into a bundle, `ro` or `rw`.
pub(crate) fn bind(folder: &Path, from: &Path, to: &str, mode: &str) {
    let path = folder.join("config.json");
    let text = fs::read(&path).expect("a bundle has one");
    let mut config: Value = serde_json::from_slice(&text).expect("it is JSON");
    let mount = json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", mode] });
    config["mounts"].as_array_mut().expect("a bundle has mounts").push(mount);
    fs::write(&path, config.to_string()).expect("written");
}

/// What `ldd` says that the program loads.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    paths.collect()
}
