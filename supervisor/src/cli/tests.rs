//! What the command line understands.

use std::path::Path;

use super::*;
use crate::api::tests::Fixture;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_has_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_means_run() {
    for line in
        ["supervisor --config ha.toml", "supervisor run --config ha.toml", "supervisor --config ha.toml run"]
    {
        let cli = parsed(line).expect(line);
        assert!(cli.is_run() && cli.globals.config.as_deref() == Some(Path::new("ha.toml")), "{line}");
    }
    assert!(!parsed("supervisor status").expect("a command").is_run());
}

#[test]
fn every_command_is_understood() {
    let export =
        |file: &str, format| Command::Export(export::Wanted { id: "i1".into(), file: file.into(), format });
    let target = |wait| Target { service: "redis".to_owned(), wait: Duration::from_secs(wait) };
    let table = [
        ("check --print-schema", Command::Check { print_schema: true }),
        ("doctor", Command::Doctor { service: None }),
        ("doctor web", Command::Doctor { service: Some("web".to_owned()) }),
        ("status -w", Command::Status { watch: true, cluster: false }),
        ("status --cluster", Command::Status { watch: false, cluster: true }),
        ("top", Command::Top),
        ("checkpoint redis", Command::Checkpoint(target(60))),
        (
            "restore redis --image i1 --wait 2m",
            Command::Restore { target: target(120), image: Some("i1".into()) },
        ),
        ("images redis", Command::Images { service: Some("redis".into()), replica: None }),
        ("images --replica 0", Command::Images { service: None, replica: Some("0".into()) }),
        ("fetch i1 --from 0", Command::Fetch { id: "i1".into(), from: "0".into() }),
        ("verify", Command::Verify { id: None }),
        ("pin i1", Command::Pin { id: "i1".into() }),
        ("unpin i1", Command::Unpin { id: "i1".into() }),
        ("export i1 -", export("-", export::Format::Native)),
        ("export i1 a --format oci", export("a", export::Format::Oci)),
        ("export i1 a --format podman", export("a", export::Format::Podman)),
        ("import a", Command::Import { file: "a".into(), service: None }),
        ("import - --service redis", Command::Import { file: "-".into(), service: Some("redis".into()) }),
        ("stop redis", Command::Stop(target(60))),
        ("start redis", Command::Start(target(60))),
        ("pause redis", Command::Pause(target(60))),
        ("unpause redis --wait 0s", Command::Unpause(target(0))),
    ];
    for (line, expected) in table {
        let cli = parsed(&format!("supervisor {line}")).expect(line);
        assert_eq!(cli.command, Some(expected), "{line}");
    }
    let since = Some(events::Since::Ago(Duration::from_secs(3600)));
    let expected = Command::Events { follow: true, since, service: Some("a".into()) };
    let cli = parsed("supervisor events -f --since 1h --service a --output json").expect("a command");
    assert_eq!((cli.command, cli.globals.output), (Some(expected), Output::Json));
}

#[test]
fn what_is_not_understood_ends_with_two() {
    for line in [
        "supervisor stop",
        "supervisor stopp x",
        "supervisor stop x --wait 2h",
        "supervisor events --since noon",
    ] {
        assert_eq!(parsed(line).expect_err(line).exit_code(), 2, "{line}");
    }
    let help = parsed("supervisor --help").expect_err("help").to_string();
    assert!(help.contains("3  the supervisor cannot be reached"), "{help}");
}

#[test]
fn the_socket_is_named_or_configured_or_the_usual_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, bad) = (folder.path().join("good.toml"), folder.path().join("bad.toml"));
    std::fs::write(&good, "[api]\nsocket = \"/run/other.sock\"\n").expect("room");
    std::fs::write(&bad, "[api\n").expect("room");
    let found = |socket: Option<&str>, config: Option<&PathBuf>| {
        socket_of(socket, config.cloned()).display().to_string()
    };
    assert_eq!(found(Some("/s"), Some(&good)), "/s");
    assert_eq!(found(None, Some(&good)), "/run/other.sock");
    assert_eq!(found(None, Some(&bad)), SOCKET, "a running supervisor can still be asked");
    assert_eq!(found(None, None), SOCKET);
}

fn socket_of(socket: Option<&str>, config: Option<PathBuf>) -> PathBuf {
    let socket = socket.map(PathBuf::from);
    super::socket(&Globals { config, socket, url: None, token_file: None, ca: None, output: Output::Table })
}

#[tokio::test]
async fn nobody_at_the_socket_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let screen = Screen::plain();
    let failure = status::status(&screen, &Client::new(socket.clone())).await.expect_err("nobody");
    let text = failure.to_string();
    assert_eq!(failure.exit_code(), 3);
    assert!(text.contains(&socket.display().to_string()) && text.contains("is it running?"), "{text}");
}

/// Runs a command against a served API and gives its exit code.
async fn exit_code(fixture: &Fixture, line: &str) -> u8 {
    run(&format!("supervisor --socket {} {line}", fixture.socket().display())).await
}

/// Runs a command line and gives its exit code.
pub(crate) async fn run(line: &str) -> u8 {
    dispatch(parsed(line).expect("a command"), Standing::Host)
        .await
        .map_or_else(|failure| failure.exit_code(), |()| 0)
}

#[tokio::test]
async fn exit_codes_are_as_documented() {
    let fixture = Fixture::new().await;
    let damaged = fixture.keep("i1").await;
    fixture.keep("i2").await;
    fixture.control.events().record(crate::events::plain(None, "node-started", "it runs"));
    let folder = fixture.folder.path().display();
    let table = [
        ("status".to_owned(), 0),
        ("status --output json".to_owned(), 0),
        ("events".to_owned(), 0),
        ("events --since 1h --service web --output json".to_owned(), 0),
        ("images".to_owned(), 0),
        ("images web --output json".to_owned(), 0),
        ("images nobody".to_owned(), 4),
        ("checkpoint web".to_owned(), 0),
        ("pause web --output json".to_owned(), 0),
        ("unpause web".to_owned(), 0),
        ("stop web".to_owned(), 4),
        ("stop nobody".to_owned(), 4),
        ("stop ../web".to_owned(), 4),
        ("restore web --image i1".to_owned(), 1),
        ("start web --wait 10ms".to_owned(), 5),
        ("pin i1".to_owned(), 0),
        ("unpin i1 --output json".to_owned(), 0),
        ("pin i9".to_owned(), 4),
        ("verify".to_owned(), 0),
        ("verify i1".to_owned(), 0),
        ("verify i9".to_owned(), 4),
        (format!("export i1 {folder}/a.image"), 0),
        (format!("export i1 {folder}/a.image"), 2),
        (format!("export i9 {folder}/b.image"), 4),
        ("check".to_owned(), 2),
        ("check --print-schema".to_owned(), 0),
    ];
    for (line, expected) in table {
        assert_eq!(exit_code(&fixture, &line).await, expected, "{line}");
    }
    let length = std::fs::metadata(fixture.folder.path().join("a.image")).expect("it is there").len();
    assert!(length > 600_000 && !fixture.folder.path().join("b.image").exists());
    fixture.damage(&damaged);
    assert_eq!(exit_code(&fixture, "verify i2").await, 0);
    assert_eq!(exit_code(&fixture, "verify").await, 6, "one of them is damaged");
    assert_eq!(exit_code(&fixture, &format!("export i1 {folder}/c.image")).await, 6);
    let names = std::fs::read_dir(fixture.folder.path()).expect("it is there");
    let names: Vec<_> = names.map(|entry| entry.expect("it is there").file_name().into_string()).collect();
    assert!(!names.iter().flatten().any(|name| name.contains("c.image")), "nothing is left: {names:?}");
}

#[tokio::test]
async fn an_image_goes_from_one_supervisor_to_another() {
    let (from, to) = (Fixture::new().await, Fixture::new().await);
    from.keep("i1").await;
    let folder = from.folder.path().display().to_string();
    let other = from.folder.path().join("other");
    std::fs::write(&other, vec![b'x'; 4 << 20]).expect("room");
    assert_eq!(exit_code(&from, &format!("export i1 {folder}/p --format podman")).await, 4, "not podman's");
    assert_eq!(exit_code(&from, &format!("export i1 {folder}/a --format native")).await, 0);
    for (line, expected) in
        [("other", 4), ("nothing", 2), ("a --service nobody", 4), ("a --service web", 0), ("a", 4)]
    {
        assert_eq!(exit_code(&to, &format!("import {folder}/{line}")).await, expected, "{line}");
    }
    let (_, images) = to.get("/v1/images").await;
    assert_eq!((&images[0]["id"], &images[0]["pinned"]), (&"i1".into(), &true.into()), "{images}");
    let (status, answer) = to.get("/v1/images/i1/export?format=zip").await;
    assert_eq!((status, &answer["kind"]), (400, &"bad-request".into()));
}

#[tokio::test]
async fn following_ends_with_a_word_when_the_supervisor_stops() {
    let fixture = Fixture::new().await;
    let stop = fixture.stop.clone();
    let follow = exit_code(&fixture, "events --follow");
    let end = async {
        // Following has begun when somebody holds the live end; a stop before that is one, too.
        tokio::task::yield_now().await;
        stop.cancel();
    };
    let (code, ()) = tokio::join!(follow, end);
    assert!([1, 3].contains(&code), "{code}");
}
