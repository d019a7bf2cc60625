//! Leases in memory, for tests and simulations: real logic over a store whose faults and time are data.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Keeper;
use super::document::Expires;
use super::swap::{Cell, Cells, Clock, Swap, SwapKeeper};
use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// What may go wrong with one request to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not reach the store.
    Unreachable,
    /// It takes effect, and its answer is lost.
    AnswerLost,
    /// Neither answer nor error comes.
    Frozen,
}

/// A store that several keepers may share.
#[derive(Debug, Clone, Default)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    cells: BTreeMap<String, Vec<u8>>,
    now_ns: u64,
    faults: VecDeque<Option<Fault>>,
    down: Option<Fault>,
}

impl Store {
    /// A keeper of this store; each call ends within `limit`.
    pub fn keeper(&self, limit: Duration) -> Arc<dyn Keeper> {
        let clock: Arc<dyn Clock> = Arc::new(self.clone());
        Arc::new(SwapKeeper { cells: self.clone(), clock: Some(clock), limit })
    }

    /// A keeper of this store that has no clock, as a bucket has none.
    pub fn keeper_without_clock(&self, limit: Duration) -> Arc<dyn Keeper> {
        Arc::new(SwapKeeper { cells: self.clone(), clock: None, limit })
    }

    /// Lets the store's time go on.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let mut inner = self.inner();
        inner.now_ns = inner.now_ns.saturating_add(by);
    }

    /// What happens to the next requests, one each; `None`: nothing.
    pub fn next_requests(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.inner().faults.extend(faults);
    }

    /// What happens to every request from now on, until [`Store::mend`].
    pub fn fail(&self, fault: Fault) {
        self.inner().down = Some(fault);
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        let mut inner = self.inner();
        inner.down = None;
        inner.faults.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> Result<T> {
        let lost = || Err(Error::Unavailable(Report::new("ask the store: the connection broke off")));
        let fault = {
            let mut inner = self.inner();
            inner.faults.pop_front().flatten().or(inner.down)
        };
        match fault {
            None => Ok(work(&mut self.inner())),
            Some(Fault::Unreachable) => lost(),
            Some(Fault::AnswerLost) => {
                work(&mut self.inner());
                lost()
            }
            Some(Fault::Frozen) => std::future::pending().await,
        }
    }
}

impl Cells for Store {
    fn load<'a>(&'a self, name: &'a str) -> Effect<'a, Option<Cell>> {
        Box::pin(
            self.ask(|inner| inner.cells.get(name).map(|bytes| Cell { bytes: bytes.clone(), tag: None })),
        )
    }

    fn swap<'a>(&'a self, name: &'a str, expected: Option<&'a Cell>, bytes: Vec<u8>) -> Effect<'a, Swap> {
        Box::pin(self.ask(move |inner| {
            if inner.cells.get(name) != expected.map(|cell| &cell.bytes) {
                return Swap::Changed;
            }
            inner.cells.insert(name.to_owned(), bytes);
            Swap::Done
        }))
    }

    fn remove<'a>(&'a self, name: &'a str) -> Effect<'a, ()> {
        Box::pin(self.ask(move |inner| drop(inner.cells.remove(name))))
    }

    fn names<'a>(&'a self, beginning: &'a str) -> Effect<'a, Vec<String>> {
        Box::pin(self.ask(move |inner| {
            inner.cells.keys().filter(|name| name.starts_with(beginning)).cloned().collect()
        }))
    }

    fn check(&self) -> Effect<'_, ()> {
        Box::pin(self.ask(|_| ()))
    }

    fn place(&self, name: &str) -> String {
        format!("memory, {name}")
    }
}

impl Clock for Store {
    fn now(&self) -> Result<Expires> {
        Ok(Expires { era: "one".to_owned(), at_ns: self.inner().now_ns })
    }
}
