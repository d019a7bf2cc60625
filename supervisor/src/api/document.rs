//! The OpenAPI document: of the routes and types themselves. `cargo xtask fix` writes it to `docs/openapi.json`.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, SecurityRequirement, Server};

/// All but the addresses and their types.
pub(super) fn frame() -> OpenApi {
    let mut info = Info::new("supervisor", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "What a supervisor shows and can be asked for. Fields may be added within v1; none is removed or changes its meaning. On the unix \
        socket no token is needed."
            .to_owned(),
    );
    info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
    let mut components = Components::new();
    let token =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("That of `api.https.token_file`"));
    components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    let mut frame = OpenApi::new(info, utoipa::openapi::Paths::new());
    frame.components = Some(components);
    frame.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    frame.servers = Some(vec![Server::new("/")]);
    frame
}

/// As it is served.
pub(super) fn text(document: &OpenApi) -> String {
    let text = document.to_pretty_json().expect("maps of texts are JSON");
    text + "\n"
}
