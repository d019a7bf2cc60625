//! A terminal with a program on it: what it draws is what a person would see, what is typed is what it reads.
//!
//! Refuses to end any process but its own child.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use crate::wait::{LIMIT, wait_for, wait_until};

/// 80 columns, 24 lines.
#[derive(Debug)]
pub struct Terminal {
    /// Held open, so that its settings can be looked at when nobody else has it any more.
    slave: OwnedFd,
    master: File,
    before: Termios,
    shown: Arc<Mutex<Shown>>,
    child: Child,
}

struct Shown {
    parser: vt100::Parser,
    seen: Vec<u8>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parser.screen().contents())
    }
}

const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

impl Terminal {
    /// Starts a program on a new one.
    ///
    /// # Panics
    /// If there are no pseudo-terminals, or the program cannot be started.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let OpenptyResult { master, slave } = openpty(Some(&SIZE), None).expect("a pseudo-terminal");
        let before = tcgetattr(&slave).expect("settings of a terminal");
        let end = || slave.try_clone().expect("descriptors");
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
        // SAFETY: both are calls of the kernel, nothing else happens between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the program can be run");
        let parser = vt100::Parser::new(SIZE.ws_row, SIZE.ws_col, 0);
        let shown = Arc::new(Mutex::new(Shown { parser, seen: Vec::new() }));
        let master = File::from(master);
        let (reading, to) = (master.try_clone().expect("descriptors"), Arc::clone(&shown));
        std::thread::spawn(move || read_on(reading, &to));
        Self { slave, master, before, shown, child }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// If nobody has the terminal any more.
    pub fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// What stands on it now.
    #[must_use]
    pub fn screen(&self) -> String {
        self.shown().parser.screen().contents()
    }

    /// Waits until it shows this, and gives the whole screen.
    ///
    /// # Panics
    /// With what it shows if that does not come.
    pub fn wait_for(&self, text: &str) -> String {
        let begun = std::time::Instant::now();
        wait_for(LIMIT * 2, &format!("the screen shows {text:?}"), || {
            let screen = self.screen();
            assert!(begun.elapsed() < LIMIT, "the screen never shows {text:?}:\n{screen}");
            screen.contains(text).then_some(screen)
        })
    }

    /// The program's pid.
    ///
    /// # Panics
    /// Never: pids are small.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Waits for the program's end and all that it has drawn; the terminal must be as it was before.
    ///
    /// # Panics
    /// If it does not end, or leaves the terminal changed.
    pub fn ended(&mut self) -> ExitStatus {
        let status = wait_for(LIMIT, "the program on the terminal ends", || {
            self.child.try_wait().expect("our own child can be waited for")
        });
        wait_until(LIMIT, "the screen that was there before is back", || {
            let shown = self.shown();
            let screen = shown.parser.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        let after = tcgetattr(self.slave.as_fd()).expect("settings of a terminal");
        assert_eq!(after, self.before, "the terminal is as it was before");
        status
    }

    /// Whether these bytes have come from the program so far.
    #[must_use]
    pub fn has_seen(&self, bytes: &[u8]) -> bool {
        self.shown().seen.windows(bytes.len()).any(|window| window == bytes)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the terminal ----\n{}", self.screen());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_on(mut from: File, to: &Mutex<Shown>) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let mut shown = to.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parser.process(&buffer[..length]);
                shown.seen.extend_from_slice(&buffer[..length]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nobody has the other end any more.
            Err(_) => return,
        }
    }
}
