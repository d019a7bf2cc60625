//! The terminal, taken and given back: after `q`, an error, a signal or a panic it is as it was.

use std::io::{self, Stdout};
use std::sync::Once;

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// A terminal that is ours until this is dropped.
pub(super) struct Seized {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    _released: Released,
}

impl Seized {
    /// Takes it: keys come one by one, and what was on the screen is covered.
    pub(super) fn seize() -> io::Result<Self> {
        release_on_panic();
        // From here on whatever goes wrong gives it back.
        let released = Released;
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, _released: released })
    }

    /// Draws anew what has changed.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(drop)
    }

    /// The next time all is drawn anew: somebody else may have written there.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }
}

struct Released;

impl Drop for Released {
    fn drop(&mut self) {
        release();
    }
}

fn release() {
    // There is nobody left to tell if it does not work.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// The message of a panic belongs onto the screen that was there before.
fn release_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            release();
            usual(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    const PLAYS_THE_PART: &str = "SUPERVISOR_TEST_PANICS_ON_A_TERMINAL";

    #[test]
    fn a_panic_gives_it_back_before_it_speaks() {
        if std::env::var_os(PLAYS_THE_PART).is_some() {
            let _seized = Seized::seize().expect("a terminal");
            panic!("as agreed");
        }
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("its settings");
        let end = || pty.slave.try_clone().expect("descriptors");
        let mut itself = std::process::Command::new(std::env::current_exe().expect("our own program"));
        let name = "cli::top::terminal::tests::a_panic_gives_it_back_before_it_speaks";
        itself.args(["--exact", name, "--nocapture"]).env(PLAYS_THE_PART, "1");
        itself.stdin(end()).stdout(end()).stderr(end());
        let mut child = itself.spawn().expect("it can be run");
        let mut master = File::from(pty.master);
        let mut drawn = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&drawn).contains("as agreed") {
            let length = master.read(&mut buffer).expect("it says something");
            drawn.extend_from_slice(&buffer[..length]);
        }
        assert!(!child.wait().expect("our own child").success());
        let drawn = String::from_utf8_lossy(&drawn).into_owned();
        let at = |text: &str| drawn.find(text).unwrap_or_else(|| panic!("no {text:?} in {drawn:?}"));
        let (taken, given_back) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(taken < given_back && given_back < at("as agreed"), "{drawn:?}");
        assert_eq!(tcgetattr(&pty.slave).expect("its settings"), before);
    }
}
