//! What the command line understands.

use std::path::Path;

use super::*;

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
    let target = |wait| Target { service: "redis".to_owned(), wait: Duration::from_secs(wait) };
    let table = [
        ("check --print-schema", Command::Check { print_schema: true }),
        ("doctor", Command::Doctor),
        ("status -w", Command::Status { watch: true }),
        ("checkpoint redis", Command::Checkpoint(target(60))),
        (
            "restore redis --image i1 --wait 2m",
            Command::Restore { target: target(120), image: Some("i1".into()) },
        ),
        ("images redis", Command::Images { service: Some("redis".into()) }),
        ("verify", Command::Verify { id: None }),
        ("pin i1", Command::Pin { id: "i1".into() }),
        ("unpin i1", Command::Unpin { id: "i1".into() }),
        ("export i1 -", Command::Export { id: "i1".into(), file: "-".into() }),
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
    super::socket(&Globals { config, socket: socket.map(PathBuf::from), output: Output::Table })
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
