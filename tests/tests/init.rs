//! `init`: a configuration of the containers that run, which can be used as it is written.
#![allow(missing_docs)]

use std::process::{Command, Stdio};

use system_tests::{Containers, Engine, engines};

engines! {
    containers_that_run_become_services => super::init;
}

fn init(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let bind = folder.path().join("bound");
    std::fs::create_dir(&bind).expect("room");
    let mount = format!("{}:/bound", bind.display());
    let arguments = ["--listen", "0.0.0.0:8080"];
    let container =
        containers.create("found", &["--publish", "127.0.0.1::8080", "--volume", &mount], &arguments);
    let idle = containers.create("idle", &[], &arguments);
    container.start();

    let file = folder.path().join("deep/ha.toml");
    let supervisor = |arguments: &[&str]| {
        let mut command = Command::new(&containers.host().supervisor);
        command.arg("--config").arg(&file).args(arguments).stdin(Stdio::null());
        let place = containers.place();
        match engine {
            Engine::Docker => command.env("DOCKER_HOST", format!("unix://{}", place.display())),
            Engine::Podman => {
                let folder = place.parent().expect("the script lies in a folder").display().to_string();
                let path = std::env::var("PATH").expect("there is a PATH");
                command.env("PATH", format!("{folder}:{path}"))
            }
        };
        let output = command.output().expect("the supervisor's program can be run");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let said = supervisor(&["init"]);
    assert_eq!(said.0, Some(0), "{said:?}");

    let text = std::fs::read_to_string(&file).expect("it is written");
    assert!(text.contains(&format!("container = \"{}\"", container.name())), "{text}");
    assert!(!text.contains(idle.name()), "only those that run: {text}");
    assert!(text.contains(&format!("# volumes = [\"{}\"]", bind.display())), "{text}");
    let ports = &containers.inspect(container.name())["NetworkSettings"]["Ports"]["8080/tcp"];
    let port = ports[0]["HostPort"].as_str().expect("it is published");
    assert!(text.contains(&format!("tcp = {{ address = \"127.0.0.1:{port}\" }}")), "{text}");
    if engine == Engine::Docker {
        assert!(text.contains(&format!("socket = \"{}\"", containers.place().display())), "{text}");
    }

    let checked = supervisor(&["check"]);
    assert_eq!(checked.0, Some(0), "{checked:?}");
    assert!(
        checked.1.contains(&format!("the container {}, which must exist", container.name())),
        "{checked:?}"
    );
    let again = supervisor(&["init"]);
    assert!(again.0 == Some(4) && again.1.contains("is there already"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), text);
}
