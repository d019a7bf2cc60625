//! What we may have put on this host's devices: one small file an address, written before the act and removed after it was undone.
//!
//! It refuses to keep more than the next supervisor needs to undo it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Address;
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::runtime::boot_id;

const VERSION: u32 = 1;

/// One address on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    address: IpAddr,
    prefix: u8,
    pub(super) device: String,
    boot_id: String,
}

/// The folder of them.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Record {
    pub(super) fn of(address: &Address, device: &str) -> Result<Self> {
        let Address { ip, prefix, .. } = *address;
        Ok(Self { version: VERSION, address: ip, prefix, device: device.to_owned(), boot_id: boot_id()? })
    }

    /// Addresses end with the boot that they were added in.
    pub(super) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
    }
}

impl Records {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        durable::create_dir_all(&self.folder)?;
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::Internal(Report::new("write down an address").because(e)))?;
        // Worthless after a reboot.
        durable::atomic_write_volatile(&self.path(record.address), &bytes, durable::FILE_MODE)
    }

    pub(super) fn read(&self, ip: IpAddr) -> Result<Option<Record>> {
        let path = self.path(ip);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(durable::failed("read", &path, e)),
        };
        let damaged = |report: Report| {
            let remedy =
                format!("see that no device has {ip} (ip address show to {ip}), then remove the file");
            Error::Corrupt(report.remedy(remedy))
        };
        let report = || Report::new(format!("understand the record of an address in {}", path.display()));
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(report().because(e)))?;
        if record.version != VERSION || record.address != ip {
            return Err(damaged(report()));
        }
        Ok(Some(record))
    }

    pub(super) fn remove(&self, ip: IpAddr) -> Result<()> {
        durable::remove_file(&self.path(ip))
    }

    /// The addresses that there are records of.
    pub(super) fn list(&self) -> Result<Vec<IpAddr>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(durable::failed("list", &self.folder, e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| durable::failed("list", &self.folder, e))?.file_name();
            // What is half-written was never acted upon.
            let ip: Option<IpAddr> =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|ip| ip.parse().ok());
            found.extend(ip);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.folder.join(format!("{ip}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_again_until_it_is_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let records = Records::new(folder.path().join("addresses"));
        assert_eq!(records.list().expect("list"), Vec::<IpAddr>::new());
        let address = Address::parse("2001:db8::10/64").expect("address");
        let record = Record::of(&address, "eth0").expect("record");
        records.write(&record).expect("write");
        records.write(&record).expect("write again");
        assert_eq!(records.list().expect("list"), [address.ip()]);
        assert_eq!(records.read(address.ip()).expect("read"), Some(record.clone()));
        assert!(record.is_of_this_boot());
        assert!(!Record { boot_id: "another".into(), ..record }.is_of_this_boot());
        records.remove(address.ip()).expect("remove");
        assert_eq!(records.read(address.ip()).expect("read"), None);
    }

    #[test]
    fn a_damaged_record_says_what_to_do() {
        let folder = tempfile::tempdir().expect("folder");
        let records = Records::new(folder.path().to_owned());
        let ip = IpAddr::from([10, 0, 0, 10]);
        durable::atomic_write_volatile(&records.path(ip), b"{", 0o600).expect("write");
        let error = records.read(ip).expect_err("damaged");
        assert_eq!(error.kind(), "corrupt");
        assert!(error.report().remedy_text().is_some_and(|remedy| remedy.contains("10.0.0.10")), "{error}");
    }
}
