//! A TCP connection with both ends in the service.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::Holder;

pub(super) struct Connection {
    client: TcpStream,
}

/// Asks for what is there instead of putting something.
const ASK: u64 = u64::MAX;

impl Connection {
    pub(super) fn open() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (mut server, _) = listener.accept()?;
        std::thread::spawn(move || -> io::Result<()> {
            let mut number = [0; 8];
            loop {
                let mut said = [0; 8];
                server.read_exact(&mut said)?;
                if u64::from_ne_bytes(said) != ASK {
                    number = said;
                }
                server.write_all(&number)?;
            }
        });
        Ok(Self { client })
    }

    fn ask(&mut self, said: u64) -> io::Result<u64> {
        self.client.write_all(&said.to_ne_bytes())?;
        let mut answer = [0; 8];
        self.client.read_exact(&mut answer)?;
        Ok(u64::from_ne_bytes(answer))
    }
}

impl Holder for Connection {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.ask(number).map(drop)
    }

    fn get(&mut self) -> io::Result<u64> {
        self.ask(ASK)
    }
}
