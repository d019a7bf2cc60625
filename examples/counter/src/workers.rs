//! The threads that answer: connections hand requests to them over a queue.
//!
//! So a hang is a real one: with every worker stuck, requests are accepted and never answered, as a
//! deadlocked service does. Refuses unknown paths and methods.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::http::{Answer, Request};
use crate::state::{Refusal, State};

/// Requests that wait for a worker; connections wait for room after that.
const QUEUE: usize = 64;
const LEAK_STEP: usize = 16 << 20;

/// The way to the workers.
#[derive(Clone)]
pub(crate) struct Workers {
    queue: SyncSender<Job>,
}

struct Job {
    request: Request,
    reply: SyncSender<Answer>,
}

struct Shared {
    state: Mutex<State>,
    jobs: Mutex<Receiver<Job>>,
    hung: Mutex<bool>,
}

impl Workers {
    /// Starts them.
    pub(crate) fn start(count: usize, state: State) -> Workers {
        let (queue, jobs) = sync_channel(QUEUE);
        let shared =
            Arc::new(Shared { state: Mutex::new(state), jobs: Mutex::new(jobs), hung: Mutex::new(false) });
        for number in 1..=count {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(&shared))
                .expect("a host that can't start a few threads can't run us");
        }
        Workers { queue }
    }

    /// Waits for a worker's answer: for ever, if all of them hang.
    pub(crate) fn answer(&self, request: Request) -> Answer {
        let (reply, answer) = sync_channel(1);
        let gone = || Answer::new(500, "the workers are gone\n");
        match self.queue.send(Job { request, reply }) {
            Ok(()) => answer.recv().unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let Ok(Job { request, reply }) = lock(&shared.jobs).recv() else {
            return;
        };
        let answer = answer(shared, &request);
        while *lock(&shared.hung) {
            std::thread::park(); // nobody unparks
        }
        // The connection may be gone; the request has been carried out all the same.
        let _ = reply.send(answer);
    }
}

fn answer(shared: &Shared, request: &Request) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "POST") {
        return Answer::new(405, "GET and POST only\n");
    }
    let mut state = lock(&shared.state);
    match request.path.as_str() {
        "/increment" => counted(state.increment()),
        "/counter" => Answer::new(200, format!("{}\n", state.counter())),
        "/health" if state.is_sick() => Answer::new(503, "sick\n"),
        "/health" => Answer::new(200, "ok\n"),
        "/checksum" if state.is_whole() => Answer::new(200, "whole\n"),
        "/checksum" => Answer::new(500, "damaged\n"),
        "/state" => Answer::new(200, state.describe()),
        "/pid" => Answer::new(200, format!("{}\n", std::process::id())),
        "/hang" => {
            *lock(&shared.hung) = true;
            Answer::new(200, "never sent\n")
        }
        "/exit" => match request.number("code").map(i32::try_from) {
            None => std::process::exit(0),
            Some(Ok(code)) if code < 256 => std::process::exit(code),
            Some(_) => Answer::new(400, "code is 0 to 255\n"),
        },
        "/abort" => std::process::abort(),
        "/leak" => leak(&mut state, request.number("mib")),
        path => match path.strip_prefix("/session/") {
            Some(name) => counted(state.visit(name)),
            None => Answer::new(404, "unknown path\n"),
        },
    }
}

/// So much; or, if no amount is given, until something stops us.
fn leak(state: &mut State, mib: Option<u64>) -> Answer {
    let Some(mib) = mib else {
        loop {
            state.leak(LEAK_STEP);
        }
    };
    for _ in 0..mib {
        state.leak(1 << 20);
    }
    Answer::new(200, format!("{}\n", state.leaked()))
}

fn counted(result: Result<u64, Refusal>) -> Answer {
    match result {
        Ok(number) => Answer::new(200, format!("{number}\n")),
        Err(Refusal::BadName) => Answer::new(400, "a session's name has 1 to 64 of A-Z a-z 0-9 - _ .\n"),
        Err(Refusal::TooManySessions) => Answer::new(507, "no room for further sessions\n"),
        Err(Refusal::Journal(error)) => Answer::new(500, format!("can't write the journal: {error}\n")),
    }
}

/// A worker that panicked leaves the state as it was between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
