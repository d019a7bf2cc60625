//! The further processes: started by the first, each with memory of its own, asked over pipes.
//!
//! Refuses to outlive the first process: a child whose pipe is closed ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::memory::{self, Memory};
use crate::options::Options;

const READY: &str = "ready";
const CHECK: &str = "check";
const WHOLE: &str = "whole";
const DAMAGED: &str = "damaged";

/// The first process's side.
#[derive(Default)]
pub(crate) struct Children {
    children: Vec<Conversation>,
}

struct Conversation {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts them all; they write their memory at the same time as we do ours.
pub(crate) fn start(options: &Options) -> Result<Children> {
    let program = std::env::current_exe().context("can't find our own program")?;
    let children = (1..=options.children).map(|task| {
        let mut process = Command::new(&program)
            .args(options.for_child(task))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start child {task}"))?;
        let questions = process.stdin.take().expect("asked for a pipe");
        let answers = BufReader::new(process.stdout.take().expect("asked for a pipe"));
        Ok(Conversation { process, questions, answers })
    });
    Ok(Children { children: children.collect::<Result<_>>()? })
}

impl Children {
    /// Returns when each has written its memory.
    pub(crate) fn wait_until_ready(mut self) -> Result<Children> {
        for child in &mut self.children {
            match child.answer()?.as_str() {
                READY => {}
                other => bail!("child {} said `{other}` instead of `{READY}`", child.process.id()),
            }
        }
        Ok(self)
    }

    /// Whether each child's memory is whole.
    pub(crate) fn are_whole(&mut self) -> Result<bool> {
        for child in &mut self.children {
            writeln!(child.questions, "{CHECK}").and_then(|()| child.questions.flush())?;
        }
        let mut whole = true;
        for child in &mut self.children {
            whole &= child.answer()? == WHOLE;
        }
        Ok(whole)
    }
}

impl Conversation {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("can't read a child's answer")? == 0 {
            bail!("child {} is gone", self.process.id());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// The child's side, until the first process is gone.
pub(crate) fn serve(options: &Options, task: u32) -> Result<()> {
    let memory = Arc::new(Mutex::new(Memory::new(options.memory, options.mode, options.seed, task)));
    memory::keep_writing(&memory, options.dirty_rate);
    say(READY)?;
    for question in std::io::stdin().lines() {
        match question.context("can't read a question")?.as_str() {
            CHECK => {
                let whole = memory.lock().unwrap_or_else(PoisonError::into_inner).is_whole();
                say(if whole { WHOLE } else { DAMAGED })?;
            }
            other => bail!("unknown question `{other}`"),
        }
    }
    Ok(())
}

fn say(word: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).context("can't answer")
}
