//! `completions` and `man`: what is made of the command line's definition, so that it cannot say anything else.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use engine::durable;
use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::screen::Screen;

const NAME: &str = "supervisor";
const PAGE_MODE: u32 = 0o644;

/// Prints a shell's completions.
pub(crate) fn completions(screen: &Screen, shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
    screen.print(&String::from_utf8_lossy(&text))
}

/// Writes a page for every command into a folder.
pub(crate) fn man(screen: &Screen, folder: &Path) -> Result<(), Failure> {
    let pages = pages()?;
    durable::create_dir_all(folder).map_err(|e| Failure::Failed(e.to_string()))?;
    for (name, page) in &pages {
        durable::atomic_write(&folder.join(name), page, PAGE_MODE)
            .map_err(|e| Failure::Failed(e.to_string()))?;
    }
    match screen.is_json() {
        true => screen.json(&json!({ "folder": folder, "pages": pages.len() })),
        false => screen.line(&format!("{}: {} pages", folder.display(), pages.len())),
    }
}

type Page = (String, Vec<u8>);

fn pages() -> Result<Vec<Page>, Failure> {
    // Without it there would be pages of `help` for every command.
    let mut command = Cli::command().disable_help_subcommand(true);
    // Gives each command its whole name.
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages).map_err(|e| Failure::Failed(format!("cannot make a page: {e}")))?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<Page>) -> std::io::Result<()> {
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(source);
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| add(sub, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_the_first_has_the_exit_codes() {
        let folder = tempfile::tempdir().expect("a folder");
        man(&Screen::plain(), &folder.path().join("man1")).expect("written");
        let read = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name)).expect(name);
        let first = read("supervisor.1");
        assert!(first.contains("the supervisor cannot be reached"), "{first}");
        let mut command = Cli::command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let page = read(&format!("supervisor-{}.1", sub.get_name()));
            let about = sub.get_about().expect("every command says what it does").to_string();
            let word = about.split(' ').next().expect("a word");
            assert!(page.contains(".TH ") && page.contains(word), "{page}");
        }
        assert!(read("supervisor-cert-issue.1").contains("node"));
    }
}
