//! Keys, as the model knows them.

use std::io;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;

/// What somebody pressed, or did with the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    First,
    Last,
    Enter,
    Back,
    Character(char),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L.
    Refresh,
    /// The window has another size; any key that means nothing.
    Nothing,
}

/// The stream of them.
pub(super) struct Keys {
    stream: EventStream,
}

impl Keys {
    /// Begins to read.
    pub(super) fn read() -> Self {
        Self { stream: EventStream::new() }
    }

    /// The next one; nothing when the terminal is gone. Safe to drop.
    pub(super) async fn next(&mut self) -> io::Result<Option<Key>> {
        match self.stream.next().await {
            Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => Ok(Some(known(key))),
            Some(Ok(_)) => Ok(Some(Key::Nothing)),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }
}

fn known(key: KeyEvent) -> Key {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Char('c'), true) => Key::Interrupt,
        (KeyCode::Char('l'), true) => Key::Refresh,
        (KeyCode::Char(_), true) => Key::Nothing,
        (KeyCode::Char(character), false) => Key::Character(character),
        (KeyCode::Up, _) => Key::Up,
        (KeyCode::Down, _) => Key::Down,
        (KeyCode::Home | KeyCode::PageUp, _) => Key::First,
        (KeyCode::End | KeyCode::PageDown, _) => Key::Last,
        (KeyCode::Enter | KeyCode::Right, _) => Key::Enter,
        (KeyCode::Esc | KeyCode::Left | KeyCode::Backspace, _) => Key::Back,
        // A closed set elsewhere, and not ours.
        _ => Key::Nothing,
    }
}
