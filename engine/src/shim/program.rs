//! Starting one program from a shim: fork, set up, exec. The shim has one thread, so its child may do what it
//! likes between the two.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{ForkResult, Gid, Pid, Uid, execve, fork, pipe2, setgid, setgroups, setsid, setuid};

use super::protocol::{Output, Program, User};
use super::sandbox;

/// A program that runs.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// The read ends of pipes, and where their content goes.
    pub(super) pumps: Vec<(OwnedFd, Output)>,
    /// The program's descriptor and CRIU's name of the pipe behind it.
    pub(super) pipes: Vec<(i32, String)>,
}

/// Why a program does not run.
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    pub(crate) message: String,
}

/// Starts a program; `descriptors` become its 3, 4, ... The process must have one thread.
pub(crate) fn start(
    program: &Program,
    descriptors: &[OwnedFd],
    in_own_mounts: bool,
) -> Result<Started, Failure> {
    let plan = Plan::new(program, in_own_mounts)?;
    let (result_read, result_write) = pipe2(OFlag::O_CLOEXEC).map_err(failure("make a pipe"))?;
    let (stdout, stderr) = (Sink::new(&program.stdout)?, Sink::new(&program.stderr)?);
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();

    // SAFETY: a shim has one thread, so the child's memory is whole.
    match unsafe { fork() }.map_err(failure("fork"))? {
        ForkResult::Child => {
            // Out of the way of the low numbers, which become the program's.
            let result = lift(result_write.as_raw_fd());
            let Err(problem) = plan.become_program(&stdout, &stderr, &descriptors);
            if let Ok(result) = result {
                report(result, &problem);
            }
            // SAFETY: the child of a fork that failed to exec leaves without running the parent's destructors.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(result_write);
            if let Some(problem) = read_report(result_read) {
                let _ = nix::sys::wait::waitpid(child, None);
                return Err(problem);
            }
            let mut started = Started { pid: child, pumps: Vec::new(), pipes: Vec::new() };
            for (number, sink) in [(1, stdout), (2, stderr)] {
                sink.into_pump(number, &mut started);
            }
            Ok(started)
        }
    }
}

/// All that can fail for want of sense is worked out before the fork.
struct Plan<'a> {
    program: &'a Program,
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    in_own_mounts: bool,
}

impl<'a> Plan<'a> {
    fn new(program: &'a Program, in_own_mounts: bool) -> Result<Self, Failure> {
        let text = |s: &str| {
            CString::new(s).map_err(|_| Failure {
                errno: Errno::EINVAL,
                message: format!("a zero byte stands in the command or environment: {s:?}"),
            })
        };
        let argv: Vec<CString> = program.argv.iter().map(|a| text(a)).collect::<Result<_, _>>()?;
        let env =
            program.env.iter().map(|(k, v)| text(&format!("{k}={v}"))).collect::<Result<Vec<_>, _>>()?;
        let name = program
            .argv
            .first()
            .ok_or_else(|| Failure { errno: Errno::EINVAL, message: "the command is empty".to_owned() })?;
        let path = find(name, &program.env).ok_or_else(|| Failure {
            errno: Errno::ENOENT,
            message: format!("find the command {name} in PATH"),
        })?;
        Ok(Self { program, path: text(&path.to_string_lossy())?, argv, env, in_own_mounts })
    }

    fn become_program(
        &self,
        stdout: &Sink,
        stderr: &Sink,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Infallible, Failure> {
        let program = self.program;
        let _ = setsid();
        reset_signals();
        for file in &program.cgroups {
            join_cgroup(file)?;
        }
        if self.in_own_mounts {
            sandbox::own_mounts().map_err(failure("make a mount namespace"))?;
            if let Some(cache) = &program.private_feature_cache {
                // Without the cache CRIU is slower, not wrong.
                let _ = sandbox::show_feature_cache(cache);
            }
        }
        arrange_descriptors(stdout, stderr, descriptors)?;
        if let Some(cwd) = &program.cwd {
            nix::unistd::chdir(cwd)
                .map_err(failure(&format!("enter the working directory {}", cwd.display())))?;
        }
        if let Some(user) = &program.user {
            become_user(user)?;
        }
        execve(&self.path, &self.argv, &self.env)
            .map_err(failure(&format!("run {}", self.path.to_string_lossy())))
    }
}

/// 0, 1, 2 as the program asks, the given ones from 3 on, everything else closed by the exec.
fn arrange_descriptors(stdout: &Sink, stderr: &Sink, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    // Opened here and not in the shim's parent: CRIU refuses descriptors of a mount namespace it does not know.
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failure("open /dev/null"))?;
    let mut sources = vec![lift(null.as_raw_fd())?];
    for sink in [stdout, stderr] {
        sources.push(match sink {
            Sink::Null => lift(null.as_raw_fd())?,
            Sink::File(path) => lift(open_log(path)?.as_raw_fd())?,
            Sink::Pipe { write, .. } => lift(write.as_raw_fd())?,
        });
    }
    for descriptor in descriptors {
        sources.push(lift(descriptor.as_raw_fd())?);
    }
    for (number, source) in sources.iter().enumerate() {
        // SAFETY: both are descriptors of this process; the target is replaced on purpose and belongs to the
        // program to come.
        Errno::result(unsafe { libc::dup2(*source, number as RawFd) })
            .map_err(failure("arrange descriptors"))?;
    }
    // SAFETY: only flags of descriptors change.
    let done = unsafe { libc::close_range(sources.len() as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    Errno::result(done).map(drop).map_err(failure("close descriptors"))
}

/// Where one output goes, ready for a fork.
enum Sink {
    Null,
    File(PathBuf),
    Pipe { read: OwnedFd, write: OwnedFd, output: Output },
}

impl Sink {
    fn new(output: &Output) -> Result<Self, Failure> {
        Ok(match output {
            Output::Null => Self::Null,
            Output::File(path) => Self::File(path.clone()),
            Output::Pumped(_) | Output::Journal(_) => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failure("make a pipe"))?;
                Self::Pipe { read, write, output: output.clone() }
            }
        })
    }

    fn into_pump(self, number: i32, started: &mut Started) {
        if let Self::Pipe { read, write, output } = self {
            if let Ok(status) = fstat(&write) {
                started.pipes.push((number, format!("pipe:[{}]", status.st_ino)));
            }
            started.pumps.push((read, output));
        }
    }
}

fn open_log(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open(path, flags, Mode::from_bits_truncate(0o640))
        .map_err(failure(&format!("open the log file {}", path.display())))
}

/// A copy of the descriptor well above those that the program will have.
fn lift(descriptor: RawFd) -> Result<RawFd, Failure> {
    // SAFETY: the caller holds this descriptor open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl(borrowed, FcntlArg::F_DUPFD_CLOEXEC(64)).map_err(failure("copy a descriptor"))
}

fn join_cgroup(file: &Path) -> Result<(), Failure> {
    let attempt = open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|fd| nix::unistd::write(&fd, b"0").map(drop));
    attempt.map_err(failure(&format!("join the cgroup {}", file.display())))
}

fn become_user(user: &User) -> Result<(), Failure> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(failure("set the groups"))?;
    setgid(Gid::from_raw(user.gid)).map_err(failure("set the group"))?;
    setuid(Uid::from_raw(user.uid)).map_err(failure("set the user"))
}

/// Handlers and masks are inherited through exec; a service starts with none of the shim's.
fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action has no code of ours.
            let _ = unsafe { sigaction(signal, &default) };
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// As a shell would: a name with a slash stands for itself, another is looked for in the program's own PATH.
fn find(name: &str, env: &[(String, String)]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str());
    std::env::split_paths(path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
        .map(|folder| folder.join(name))
        .find(|candidate| nix::unistd::access(candidate, nix::unistd::AccessFlags::X_OK).is_ok())
}

pub(super) fn failure(tried: &str) -> impl FnOnce(Errno) -> Failure + use<'_> {
    move |errno| Failure { errno, message: tried.to_owned() }
}

fn report(pipe: RawFd, problem: &Failure) {
    let mut bytes = (problem.errno as i32).to_le_bytes().to_vec();
    bytes.extend_from_slice(problem.message.as_bytes());
    // SAFETY: the pipe is this process's own, and the process ends right after.
    let _ = nix::unistd::write(unsafe { BorrowedFd::borrow_raw(pipe) }, &bytes);
}

/// Nothing in the pipe means that the exec happened.
fn read_report(pipe: OwnedFd) -> Option<Failure> {
    let mut bytes = Vec::new();
    std::fs::File::from(pipe).read_to_end(&mut bytes).ok()?;
    let (errno, message) = bytes.split_first_chunk::<4>()?;
    Some(Failure {
        errno: Errno::from_raw(i32::from_le_bytes(*errno)),
        message: String::from_utf8_lossy(message).into_owned(),
    })
}
