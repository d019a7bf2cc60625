//! The command line: what it understands, one file a command.
//!
//! Commands talk to the running supervisor over its socket, or to one elsewhere over HTTPS; only `run`, `check`, `doctor` and what prepares
//! a host need none. It refuses to decide or to touch a service or the store: that is for the supervisor at the other end.

mod act;
mod cert;
mod check;
mod client;
mod doctor;
mod events;
mod export;
mod failure;
mod generated;
mod images;
mod import;
mod init;
mod install_unit;
mod nodes;
mod rekey;
mod remote;
mod replica;
mod run;
mod screen;
mod sidecar;
mod status;
mod top;
mod unit;
mod waiting;
pub(crate) mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use client::Client;
use failure::Failure;
use remote::Remote;
use screen::Screen;

use crate::api::ActionBody;
use crate::daemon::Standing;

/// Where the socket is if neither an option nor a configuration says so.
const SOCKET: &str = "/run/supervisor/api.sock";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or the configuration is not valid
  3  the supervisor cannot be reached
  4  denied, or there is no such service or image
  5  accepted, but not finished in the time given
  6  something is not in order: doctor found a lack, verify, export or import found damage";

/// Keeps stateful services alive with their state: checkpoints them with CRIU and restores them after crashes and hangs
#[derive(Debug, Parser)]
#[command(name = "supervisor", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Globals {
    /// The configuration file
    #[arg(long, global = true, env = "SUPERVISOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The running supervisor's socket [default: that of the configuration, else /run/supervisor/api.sock]
    #[arg(long, global = true, env = "SUPERVISOR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A supervisor on another host, as https://HOST:PORT (its `api.https`), instead of a socket
    #[arg(
        long,
        global = true,
        env = "SUPERVISOR_URL",
        value_name = "URL",
        conflicts_with = "socket",
        requires = "token_file"
    )]
    url: Option<remote::Url>,
    /// The file with its token, mode 0600
    #[arg(long, global = true, env = "SUPERVISOR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Who has signed its certificate (PEM) [default: the authorities that this system knows]
    #[arg(long, global = true, env = "SUPERVISOR_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For people or for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables for people.
    Table,
    /// JSON; one document, or one line for each event.
    Json,
}

/// What is to be done; nothing means run.
#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Run the supervisor (the same as no command)
    Run,
    /// Find every mistake in the configuration, and say what would be done; starts nothing
    Check {
        /// Print the JSON Schema of the configuration for editors, and nothing else
        #[arg(long)]
        print_schema: bool,
    },
    /// Write a configuration to begin with, of the containers that run here [default file: /etc/supervisor/ha.toml]
    Init,
    /// Write a unit for systemd that runs the supervisor with the configuration; enables nothing unless asked to
    InstallUnit(install_unit::Wanted),
    /// Say what this host can do, or whether a service can be checkpointed, and how to mend what can't
    Doctor {
        /// A service, on which a checkpoint is tried; it runs on
        service: Option<String>,
    },
    /// Probe an application in a pod or container beside it: answer /livez, /readyz and /metrics, tell the node's supervisor
    Sidecar,
    /// Show the services as they are now
    Status {
        /// Go on showing
        #[arg(long, short, conflicts_with = "cluster")]
        watch: bool,
        /// All nodes, and what each says of the services that several may run
        #[arg(long)]
        cluster: bool,
    },
    /// Show services and events on the whole terminal, live; ? lists the keys
    Top,
    /// Show what happened
    Events {
        /// Go on with what happens
        #[arg(long, short)]
        follow: bool,
        /// Only what is not older: a span like 1h, or a time like 2026-01-31T12:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = events::parse_since)]
        since: Option<events::Since>,
        /// Only what concerns this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
    },
    /// Take a checkpoint of a service now
    Checkpoint(Target),
    /// Bring a service back from an image
    Restore {
        #[command(flatten)]
        target: Target,
        /// The image [default: the newest that can be trusted]
        #[arg(long, value_name = "ID")]
        image: Option<String>,
    },
    /// List images
    Images {
        /// Only those of this service
        service: Option<String>,
        /// Those of a replica: its URL, or its number in the configuration, from 0
        #[arg(long, value_name = "REPLICA")]
        replica: Option<String>,
    },
    /// Bring an image back from a replica into the local store; works without a running supervisor too
    Fetch {
        /// The image
        id: String,
        /// The replica: its URL, or its number in the configuration, from 0
        #[arg(long, value_name = "REPLICA")]
        from: String,
    },
    /// Make certificates for nodes that are each other's peers
    Cert {
        #[command(subcommand)]
        action: cert::Action,
    },
    /// Read images whole and compare every checksum
    Verify {
        /// The image [default: all that are on disk]
        id: Option<String>,
    },
    /// Keep an image whatever retention says
    Pin {
        /// The image
        id: String,
    },
    /// Let retention decide about an image again
    Unpin {
        /// The image
        id: String,
    },
    /// Write an image into one archive
    Export(export::Wanted),
    /// Make an archive an image again; it is pinned
    Import {
        /// An archive that `export` or `podman container checkpoint --export` wrote; - is standard input
        file: PathBuf,
        /// Whose image it is to be; an archive of podman's does not say
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
    },
    /// Encrypt the data keys of all images under the present key, so that former keys are not needed any more
    Rekey,
    /// Stop a service; it stays stopped until it is started
    Stop(Target),
    /// Start a service
    Start(Target),
    /// Put a service into an image and end it; it does not run until it is resumed
    Suspend(Target),
    /// Bring a suspended service back, as it was
    Resume(Target),
    /// Move a service to its best standby, in the state of its last moment
    FailOver(Target),
    /// Move a service to another node, in the state of its last moment; on any failure it goes on here
    Migrate {
        #[command(flatten)]
        target: Target,
        /// The node
        node: String,
    },
    /// Move all services of this node to their standbys, and take nothing over until `undrain`
    Drain {
        /// How long to wait for the end of it; it goes on after that
        #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = parse_wait)]
        wait: Duration,
    },
    /// Let this node take services over again
    Undrain,
    /// Show a node no more that is gone for good
    Forget {
        /// The node
        node: String,
    },
    /// Hold a service's policies: it runs on, and is neither checkpointed nor recovered
    Pause(Target),
    /// Let a service's policies go on
    Unpause(Target),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// The folder; made if it is not there
        folder: PathBuf,
    },
}

/// A service, and how long to wait.
#[derive(Debug, PartialEq, Args)]
pub(crate) struct Target {
    /// The service
    service: String,
    /// How long to wait for the end of it; it goes on after that
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_wait)]
    wait: Duration,
}

/// Reads the command line; what is wrong with it ends the process with code 2 here, help and version with 0.
pub(crate) fn parse() -> Cli {
    let cli = Cli::parse();
    if cli.is_run() && cli.globals.config.is_none() {
        let text = "to run, name a configuration: supervisor --config FILE (--help lists the other commands)";
        Cli::command().error(ErrorKind::MissingRequiredArgument, text).exit();
    }
    cli
}

impl Cli {
    /// Whether it goes on until it is told to stop, as process 1 of a container does.
    pub(crate) fn lasts(&self) -> bool {
        self.is_run() || matches!(self.command, Some(Command::Sidecar))
    }

    fn is_run(&self) -> bool {
        matches!(self.command, None | Some(Command::Run))
    }
}

/// Does what was asked for; the exit code says how it went.
pub(crate) async fn execute(cli: Cli, standing: Standing) -> ExitCode {
    match dispatch(cli, standing).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn dispatch(cli: Cli, standing: Standing) -> Result<(), Failure> {
    let Cli { globals, command } = cli;
    let screen = Screen::new(globals.output);
    let config = globals.config.as_deref();
    let client = || client(&globals);
    // What cannot be had from a supervisor elsewhere is not done here instead.
    let own = config.filter(|_| globals.url.is_none());
    match command {
        None | Some(Command::Run) => run::run(globals.config.unwrap_or_default(), standing).await,
        Some(Command::Check { print_schema: true }) => screen.print(&config::schema()),
        Some(Command::Check { print_schema: false }) => check::check(&screen, config).await,
        Some(Command::Init) => init::init(&screen, config).await,
        Some(Command::InstallUnit(wanted)) => install_unit::install_unit(&screen, config, &wanted).await,
        Some(Command::Completions { shell }) => generated::completions(&screen, shell),
        Some(Command::Man { folder }) => generated::man(&screen, &folder),
        Some(Command::Doctor { service: None }) => doctor::doctor(&screen, config).await,
        Some(Command::Doctor { service: Some(service) }) => {
            doctor::service(&screen, &client()?, service).await
        }
        Some(Command::Sidecar) => sidecar::sidecar(config).await,
        Some(Command::Status { cluster: true, .. }) => nodes::status(&screen, &client()?).await,
        Some(Command::Status { watch: false, .. }) => status::status(&screen, &client()?).await,
        Some(Command::Status { watch: true, .. }) => status::watch(&screen, &client()?).await,
        Some(Command::Top) => top::top(&screen, &client()?).await,
        Some(Command::Events { follow, since, service }) => {
            events::events(&screen, &client()?, events::Wanted { follow, since, service }).await
        }
        Some(Command::Images { service, replica: None }) => {
            images::list(&screen, &client()?, service.as_deref()).await
        }
        Some(Command::Images { service, replica: Some(replica) }) => {
            replica::images(&screen, (&client()?, own), &replica, service.as_deref()).await
        }
        Some(Command::Fetch { id, from }) => replica::fetch(&screen, (&client()?, own), &from, &id).await,
        Some(Command::Cert { action }) => cert::cert(&screen, action),
        Some(Command::Verify { id }) => images::verify(&screen, &client()?, id).await,
        Some(Command::Pin { id }) => images::mark(&screen, &client()?, &id, "pin").await,
        Some(Command::Unpin { id }) => images::mark(&screen, &client()?, &id, "unpin").await,
        Some(Command::Rekey) => rekey::rekey(&screen, &client()?).await,
        Some(Command::Export(wanted)) => export::export(&screen, &client()?, &wanted).await,
        Some(Command::Import { file, service }) => {
            import::import(&screen, &client()?, &file, service.as_deref()).await
        }
        Some(Command::Drain { wait }) => nodes::drain(&screen, &client()?, wait).await,
        Some(Command::Undrain) => nodes::undrain(&screen, &client()?).await,
        Some(Command::Forget { node }) => nodes::forget(&screen, &client()?, &node).await,
        Some(Command::Restore { target, image }) => {
            let what = ActionBody { image, ..ActionBody::default() };
            act::act(&screen, &client()?, "restore", &target, what).await
        }
        Some(Command::Migrate { target, node }) => {
            let what = ActionBody { node: Some(node), ..ActionBody::default() };
            act::act(&screen, &client()?, "migrate", &target, what).await
        }
        Some(Command::Checkpoint(target)) => plain(&screen, &client()?, "checkpoint", &target).await,
        Some(Command::Stop(target)) => plain(&screen, &client()?, "stop", &target).await,
        Some(Command::Start(target)) => plain(&screen, &client()?, "start", &target).await,
        Some(Command::Suspend(target)) => plain(&screen, &client()?, "suspend", &target).await,
        Some(Command::Resume(target)) => plain(&screen, &client()?, "resume", &target).await,
        Some(Command::FailOver(target)) => plain(&screen, &client()?, "fail-over", &target).await,
        Some(Command::Pause(target)) => plain(&screen, &client()?, "pause", &target).await,
        Some(Command::Unpause(target)) => plain(&screen, &client()?, "unpause", &target).await,
    }
}

async fn plain(screen: &Screen, client: &Client, action: &str, target: &Target) -> Result<(), Failure> {
    act::act(screen, client, action, target, ActionBody::default()).await
}

/// Over HTTPS if a URL is named, else over the socket.
fn client(globals: &Globals) -> Result<Client, Failure> {
    let (Some(url), Some(file)) = (&globals.url, &globals.token_file) else {
        return Ok(Client::new(socket(globals)));
    };
    let token = engine::https::Token::new(file.clone()).and_then(|token| token.read());
    let token = token.map_err(|e| Failure::Invalid(e.to_string()))?;
    Ok(Client::remote(Remote { url: url.clone(), token, ca: globals.ca.clone() }))
}

/// The option, else what the configuration says, else the usual place. A configuration with mistakes must not keep anybody from
/// looking at a supervisor that runs on with an older one.
fn socket(globals: &Globals) -> PathBuf {
    let named = globals.socket.clone();
    let from_file = || {
        let file = globals.config.as_deref()?;
        match check::read(file) {
            Ok(config) => Some(config.api.socket),
            Err(_) => {
                eprintln!(
                    "supervisor: {} cannot be used to find the socket; see supervisor check",
                    file.display()
                );
                None
            }
        }
    };
    named.or_else(from_file).unwrap_or_else(|| PathBuf::from(SOCKET))
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if wait <= Duration::from_secs(3600) { Ok(wait) } else { Err("more than an hour".to_owned()) }
}

#[cfg(test)]
pub(crate) mod tests;
