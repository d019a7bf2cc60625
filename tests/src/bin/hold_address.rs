//! A supervisor's part with one address, alone: `hold_address FOLDER take|holds|sweep [ADDRESS [DEVICE]]`, with records in FOLDER.
//!
//! `take` says `added DEVICE` or `held DEVICE`, and releases the address when its standard input closes; `sweep` keeps ADDRESS and
//! says what it removed. Errors are told as the engine tells them. A program of its own, to be run in a network namespace and killed there.

use std::io::Read;
use std::process::ExitCode;

use engine::address::{Address, Addresses};
use engine::error::{Error, Report, Result};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<()> {
    match *words {
        [folder, "take", address] => take(folder, Address::parse(address)?).await,
        [folder, "take", address, device] => take(folder, Address::parse(address)?.on(device)).await,
        [folder, "holds", address] => {
            println!("{}", Addresses::recorded_in(folder).holds(&Address::parse(address)?).await?);
            Ok(())
        }
        [folder, "sweep", ref kept @ ..] => {
            let kept: Vec<Address> = kept.iter().map(|text| Address::parse(text)).collect::<Result<_>>()?;
            for ip in Addresses::recorded_in(folder).sweep(&kept).await? {
                println!("{ip}");
            }
            Ok(())
        }
        _ => Err(Error::Invalid(Report::new("hold_address FOLDER take|holds|sweep [ADDRESS [DEVICE]]"))),
    }
}

async fn take(folder: &str, address: Address) -> Result<()> {
    let addresses = Addresses::recorded_in(folder);
    let taken = addresses.take(&address).await?;
    println!("{} {}", if taken.added { "added" } else { "held" }, taken.device);
    // Until whoever wanted it lets go, or is gone.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    addresses.release(&address).await
}
