//! `[service.NAME.docker]` and `[service.NAME.podman]`.

use crate::error::Draft;
use crate::read::Table;
use crate::settings::{Docker, Podman, Recipe};
use crate::values::{ContainerRuntime, arguments, container, create_args, image, program, socket};

pub(super) fn docker(table: Table<'_>) -> Docker {
    let docker = Docker {
        container: table
            .get("container", |cell| container(cell, ContainerRuntime::Docker))
            .unwrap_or_default(),
        recipe: recipe(&table, ContainerRuntime::Docker),
        socket: table.get("socket", socket).unwrap_or_default(),
    };
    table.done();
    docker
}

pub(super) fn podman(table: Table<'_>) -> Podman {
    let podman = Podman {
        container: table
            .get("container", |cell| container(cell, ContainerRuntime::Podman))
            .unwrap_or_default(),
        recipe: recipe(&table, ContainerRuntime::Podman),
        program: table.get("program", program).unwrap_or_default(),
        options: table.get("options", arguments).unwrap_or_default(),
    };
    table.done();
    podman
}

fn recipe(table: &Table<'_>, runtime: ContainerRuntime) -> Option<Recipe> {
    let image = table.get("image", image);
    let create_args = table.get("create_args", |cell| create_args(cell, runtime)).unwrap_or_default();
    let command = table.get("command", arguments).unwrap_or_default();
    refuse_without_image(table);
    image.map(|image| Recipe { image, create_args, command })
}

/// An existing container keeps what it was created with: to pass over these keys would deceive.
fn refuse_without_image(table: &Table<'_>) {
    if table.has("image") || table.is_misspelled("image") {
        return;
    }
    for key in ["create_args", "command"] {
        if let Some(span) = table.key_span(key) {
            let message = format!("`{key}` does nothing without `image`: no container is created");
            let hint = "add `image = \"...\"`; a container that exists keeps what it was created with";
            table.context.note(Draft::error(span, message).hint(hint));
        }
    }
}
