//! The workload as its clients see it: HTTP, one request a connection.
//!
//! What counts as a good answer after a restore: it comes from the restored process (its counter says so), never from the one
//! that is dying, and never from one that was started from scratch. Refuses to take damaged memory for restored.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::processes::check_interrupted;

/// How often a service that is away is asked.
const POLL: Duration = Duration::from_micros(500);
/// How long one request of these may hang: the listener is restored before the process runs.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// The checksum of 1 GiB takes 0.3 s.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long starts and restores may take.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// So many requests lie between an image and the fault: who answers afterwards can be told from the number.
const STEP: u64 = 50;
/// Below the range that the kernel gives to clients: a client that polls a free port in it would one day connect to
/// itself.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// One instance of the workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    address: SocketAddr,
}

/// What the counter said when the image was taken and before the fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    image: u64,
    last: u64,
}

impl Service {
    /// One that is going to listen on a free port.
    pub(crate) fn new() -> Result<Self> {
        let count = PORTS.end() - PORTS.start() + 1;
        let offset = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
        for _ in 0..count {
            let next = NEXT_PORT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset) % count;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start() + next));
            if TcpListener::bind(address).is_ok() {
                return Ok(Self { address });
            }
        }
        bail!("no port between {} and {} is free", PORTS.start(), PORTS.end())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a new one answers; `check` finds out whether it still can.
    pub(crate) fn wait_until_up(&self, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        self.poll(Instant::now(), &mut check, |service| {
            Ok(matches!(service.get("/health", POLL_TIMEOUT), Ok((200, _))))
        })
        .map(drop)
    }

    /// Counts up and begins a new period of the ticker; what comes next is to be in the image.
    pub(crate) fn before_checkpoint(&self) -> Result<u64> {
        let image = self.count()?;
        self.get("/pause?reset=1", TIMEOUT).context("begin to watch for pauses")?;
        Ok(image)
    }

    /// The longest time that it stood still since [`Self::before_checkpoint`].
    pub(crate) fn pause(&self) -> Result<Duration> {
        let (_, body) = self.get("/pause", TIMEOUT).context("ask for the pause")?;
        let gap = serde_json::from_str::<serde_json::Value>(&body)
            .ok()
            .and_then(|answer| answer["longest_gap_us"].as_u64())
            .with_context(|| format!("no pause in `{}`", body.trim_end()))?;
        Ok(Duration::from_micros(gap))
    }

    /// Moves on from the image, so that a restored state can be told from this one.
    pub(crate) fn move_on(&self, image: u64) -> Result<Known> {
        let mut last = image;
        while last < image + STEP {
            last = self.count()?;
        }
        Ok(Known { image, last })
    }

    /// Polls until the restored state answers; gives the time since then.
    pub(crate) fn wait_until_back(
        &self,
        since: Instant,
        known: Known,
        mut check: impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        self.poll(since, &mut check, |service| {
            let Ok((200, body)) = service.get("/counter", POLL_TIMEOUT) else { return Ok(false) };
            judge(&body, known)
        })
    }

    /// All memory of all processes is as it was written.
    pub(crate) fn check_whole(&self) -> Result<()> {
        match self.get("/checksum", TIMEOUT).context("ask for the checksum")? {
            (200, _) => Ok(()),
            (_, body) => bail!("restored, but {}", body.trim_end()),
        }
    }

    fn count(&self) -> Result<u64> {
        let (_, body) = self.get("/counter", TIMEOUT).context("ask for the counter")?;
        body.trim().parse().with_context(|| format!("no number: `{}`", body.trim_end()))
    }

    fn poll(
        &self,
        since: Instant,
        check: &mut dyn FnMut() -> Result<()>,
        good: impl Fn(&Self) -> Result<bool>,
    ) -> Result<Duration> {
        let mut glance = Instant::now();
        loop {
            let asked = Instant::now();
            if good(self)? {
                return Ok(since.elapsed());
            }
            if glance.elapsed() > Duration::from_millis(50) {
                glance = Instant::now();
                check_interrupted()?;
                check()?;
                if since.elapsed() > AWAY_MAX {
                    bail!("{} did not answer within {AWAY_MAX:?}", self.address);
                }
            }
            std::thread::sleep(POLL.saturating_sub(asked.elapsed()));
        }
    }

    fn get(&self, target: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
        let mut connection = TcpStream::connect_timeout(&self.address, timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_nodelay(true)?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        // To the end: then the service has closed it, and no checkpoint finds it open.
        connection.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status.zip(body).ok_or_else(|| std::io::Error::from(ErrorKind::InvalidData))
    }
}

/// Whose answer it was: that of the restored state is above the image's, for it counts on, and not above the last one.
fn judge(body: &str, known: Known) -> Result<bool> {
    let number: u64 = body.trim().parse().with_context(|| format!("no number: `{}`", body.trim_end()))?;
    if number <= known.image {
        bail!("it came back without its state: the counter is {number}, the image had {}", known.image);
    }
    Ok(number <= known.last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_restored_state_is_a_good_answer() {
        let known = Known { image: 3, last: 53 };
        assert!(judge("4\n", known).expect("restored"));
        assert!(judge("9\n", known).expect("restored, some answers lost"));
        assert!(!judge("54\n", known).expect("the dying one"));
        assert!(judge("1\n", known).is_err(), "started from scratch");
        assert!(judge("x", known).is_err());
    }

    #[test]
    fn a_service_that_cannot_come_is_not_waited_for() {
        let service = Service::new().expect("a port is free");
        let error = service.wait_until_up(|| bail!("it is dead")).expect_err("nobody listens");
        assert_eq!(error.to_string(), "it is dead");
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let service = Service { address: listener.local_addr().expect("bound") };
        let server = std::thread::spawn(move || {
            for body in ["{\"longest_gap_us\":1500,\"ticks\":7}\n", "7\n"] {
                let (mut connection, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let length = connection.read(&mut request).expect("a request");
                assert!(request[..length].ends_with(b"\r\n\r\n"), "in one piece");
                let answer = format!("HTTP/1.1 200 \r\nContent-Length: {}\r\n\r\n{body}", body.len());
                connection.write_all(answer.as_bytes()).expect("sent");
            }
        });
        assert_eq!(service.pause().expect("read"), Duration::from_micros(1500));
        assert_eq!(service.count().expect("read"), 7);
        server.join().expect("both were asked");
    }
}
