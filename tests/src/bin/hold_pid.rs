//! Takes one pid, the one that is named, for as long as its standard input is open: `hold_pid PID`.
//!
//! Says `held` once it has it. Needs CAP_CHECKPOINT_RESTORE. A program of its own, since what forks must have one thread.

use std::io::Read;
use std::process::ExitCode;

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn main() -> ExitCode {
    let Some(pid) = std::env::args().nth(1).and_then(|word| word.parse::<i32>().ok()) else {
        eprintln!("usage: hold_pid PID");
        return ExitCode::from(2);
    };
    let wanted = [pid];
    let arguments = CloneArguments {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: wanted.as_ptr() as u64,
        set_tid_size: 1,
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM this is a fork; there is one thread, and the child only waits to be killed.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    if child == 0 {
        loop {
            // SAFETY: waits for a signal, no more.
            unsafe { libc::pause() };
        }
    }
    if child != i64::from(pid) {
        eprintln!("hold_pid: {}", std::io::Error::last_os_error());
        return ExitCode::FAILURE;
    }
    println!("held");
    // Until whoever wanted it lets go, or is gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    // SAFETY: our own child, not waited for yet, so the pid is still its.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: no status is wanted.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    ExitCode::SUCCESS
}
