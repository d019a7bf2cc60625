//! Stands between a keeper and its store, and loses what it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of one connection; keepers make one for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Pass,
    /// The request arrives; the connection is closed once the answer begins.
    LoseAnswer,
    /// It is accepted, and nothing follows.
    Freeze,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    plan: Arc<Mutex<Plan>>,
}

struct Plan {
    next: VecDeque<Mode>,
    rest: Mode,
    lost: usize,
}

impl Proxy {
    pub(super) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new(Plan { next: VecDeque::new(), rest: Mode::Pass, lost: 0 }));
        let planned = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = {
                    let mut plan = planned.lock().unwrap();
                    plan.next.pop_front().unwrap_or(plan.rest)
                };
                tokio::spawn(serve(client, to, mode, Arc::clone(&planned)));
            }
        });
        Self { port, plan }
    }

    pub(super) fn next(&self, modes: &[Mode]) {
        self.plan.lock().unwrap().next.extend(modes);
    }

    pub(super) fn all(&self, mode: Mode) {
        self.plan.lock().unwrap().rest = mode;
    }

    /// How many answers were lost.
    pub(super) fn lost(&self) -> usize {
        self.plan.lock().unwrap().lost
    }
}

async fn serve(mut client: TcpStream, to: u16, mode: Mode, plan: Arc<Mutex<Plan>>) {
    if mode == Mode::Freeze {
        return std::future::pending().await;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    if mode == Mode::Pass {
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut from_client, _to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut first = [0];
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        read = from_server.read(&mut first) => {
            assert!(read.is_ok());
            plan.lock().unwrap().lost += 1;
        }
    }
}
