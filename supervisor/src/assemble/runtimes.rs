//! What each runtime wants to know of a service.

use config as words;
use engine::error::{Error, Report};
use engine::runtime::{Recipe, docker, podman, process};
use engine::shim::{Isolation, Output, User};
use policies::id::ServiceName;

pub(super) fn process_spec(name: &ServiceName, spec: &words::Process) -> engine::Result<process::Spec> {
    Ok(process::Spec {
        command: spec.command.clone(),
        env: spec.env.clone().into_iter().collect(),
        cwd: Some(spec.cwd.clone()),
        user: spec.user.as_deref().map(user).transpose()?,
        isolation: match spec.isolation {
            words::Isolation::Pid => Isolation::Pid,
            words::Isolation::None => Isolation::None,
        },
        stdout: output(name, &spec.stdout),
        stderr: output(name, &spec.stderr),
        notify: None,
    })
}

pub(super) fn docker_spec(spec: &words::Docker) -> docker::Spec {
    docker::Spec {
        container: spec.container.clone(),
        recipe: spec.recipe.as_ref().map(recipe),
        socket: spec.socket.clone(),
    }
}

pub(super) fn podman_spec(spec: &words::Podman) -> podman::Spec {
    podman::Spec {
        container: spec.container.clone(),
        recipe: spec.recipe.as_ref().map(recipe),
        program: spec.program.clone(),
        options: spec.options.clone(),
    }
}

fn recipe(recipe: &words::Recipe) -> Recipe {
    let words::Recipe { image, create_args, command } = recipe.clone();
    Recipe { image, create_args, command }
}

fn output(name: &ServiceName, output: &words::Output) -> Output {
    match output {
        words::Output::File(path) => Output::File(path.clone()),
        words::Output::Journal => Output::Journal(name.to_string()),
    }
}

/// `name`, `uid` or `uid:gid`.
fn user(text: &str) -> engine::Result<User> {
    let unknown = || {
        Error::Invalid(
            Report::new(format!("find the user {text}"))
                .remedy("name an existing user, a uid, or uid:gid in process.user"),
        )
    };
    if let Some((uid, gid)) = text.split_once(':') {
        let (uid, gid) = (uid.parse().map_err(|_| unknown())?, gid.parse().map_err(|_| unknown())?);
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let found = match text.parse() {
        Ok(uid) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)),
        Err(_) => nix::unistd::User::from_name(text),
    };
    match (found.ok().flatten(), text.parse()) {
        (Some(user), _) => {
            let name = std::ffi::CString::new(user.name).map_err(|_| unknown())?;
            let groups = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
            let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
            Ok(User { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
        }
        (None, Ok(uid)) => Ok(User { uid, gid: uid, groups: Vec::new() }),
        (None, Err(_)) => Err(unknown()),
    }
}
