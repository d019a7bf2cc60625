//! Is there room? Asked before anything big is written, so that a full disk or a host out of memory is an answer
//! and not an accident.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use policies::id::{ImageId, ServiceName};

use super::places::{Places, Spill, bytes_in};
use crate::durable::{failed, free_space};
use crate::error::{Error, Report, Result};

/// What stays free besides an estimate: the estimate is one, and others allocate too.
const MEMORY_RESERVE: u64 = 64 << 20;

/// Where a hot copy may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Memory,
    Disk,
}

/// Chooses memory if `bytes` fit there with room to spare, else the disk if that is allowed.
pub(super) fn place_for(
    places: &Places,
    bytes: u64,
    hot_max_size: Option<u64>,
    min_free: u64,
) -> Result<Place> {
    let fits = match &places.memory {
        Some(memory) => fits_in_memory(memory, bytes)? && within(places, bytes, hot_max_size)?,
        None => false,
    };
    if fits {
        return Ok(Place::Memory);
    }
    if places.spill == Spill::Never {
        let text = format!("not enough memory for {bytes} bytes of a hot image");
        let remedy = "with encryption none may lie on disk: raise store.hot_max_size or the size of /dev/shm, or give the \
            host more memory";
        return Err(Error::Unavailable(Report::new(text).remedy(remedy)));
    }
    disk_has(&places.store, bytes, min_free).map(|()| Place::Disk)
}

/// That after writing `bytes` the disk still has `min_free`.
pub(super) fn disk_has(store: &Path, bytes: u64, min_free: u64) -> Result<()> {
    let free = free_space(store)?;
    if free >= bytes.saturating_add(min_free) {
        return Ok(());
    }
    let text = format!(
        "not enough space in {}: {free} bytes free, {bytes} needed, {min_free} to stay free",
        store.display()
    );
    Err(Error::Unavailable(Report::new(text).remedy("free space, or lower max_checkpoints or min_free")))
}

/// Bytes of all hot copies in memory.
pub(super) fn hot_bytes(places: &Places) -> Result<u64> {
    let mut sum = 0;
    for service in places.services()? {
        for id in places.hot_images(&service)? {
            sum += hot_bytes_of(places, &service, &id)?;
        }
    }
    Ok(sum)
}

/// Bytes of one hot copy, as far as it lies in memory.
pub(super) fn hot_bytes_of(places: &Places, service: &ServiceName, id: &ImageId) -> Result<u64> {
    let criu = places.hot_in_memory(service, id).map(|folder| folder.join("criu"));
    let folders = criu.into_iter().chain(places.files_in_memory(service, id));
    folders.map(|folder| bytes_in(&folder)).sum()
}

/// That a folder lies in memory.
pub(super) fn is_in_memory(folder: &Path) -> Result<bool> {
    let found = statfs(folder).map_err(|e| failed("look at", folder, e.into()))?;
    Ok(found.filesystem_type() == TMPFS_MAGIC)
}

/// Bytes of all durable images.
pub(super) fn durable_bytes(places: &Places) -> Result<u64> {
    let mut sum = 0;
    for service in places.services()? {
        for id in places.images(&service)? {
            sum += bytes_in(&places.image(&service, &id))?;
        }
    }
    Ok(sum)
}

fn within(places: &Places, bytes: u64, hot_max_size: Option<u64>) -> Result<bool> {
    hot_max_size.map_or(Ok(true), |max| Ok(hot_bytes(places)?.saturating_add(bytes) <= max))
}

fn fits_in_memory(memory: &Path, bytes: u64) -> Result<bool> {
    // A dump is a little more than the memory in it; an eighth covers CRIU's own files.
    let wanted = bytes.saturating_add(bytes / 8);
    if free_space(memory)? < wanted {
        return Ok(false);
    }
    // What isn't tmpfs takes no memory, whatever the folder is called.
    Ok(!is_in_memory(memory)?
        || memory_available().is_none_or(|available| available >= wanted.saturating_add(MEMORY_RESERVE)))
}

/// `None` if the kernel doesn't say.
fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_chosen_while_it_suffices_then_the_disk_then_nothing() {
        let (store, memory) = (tempfile::tempdir(), tempfile::tempdir_in("/dev/shm"));
        let (store, memory) = (store.expect("a folder"), memory.expect("a folder in memory"));
        let places =
            Places { store: store.path().into(), memory: Some(memory.path().into()), spill: Spill::ToDisk };
        let kept = Places { spill: Spill::Never, ..places.clone() };
        let without = Places { memory: None, ..places.clone() };
        assert!(memory_available().expect("this kernel says") > 0);
        assert_eq!(place_for(&places, 1000, None, 0).expect("room"), Place::Memory);
        assert_eq!(place_for(&places, 1000, Some(999), 0).expect("room"), Place::Disk);
        assert_eq!(place_for(&without, 1000, None, 0).expect("room"), Place::Disk);
        assert_eq!(place_for(&kept, 1000, None, 0).expect("room"), Place::Memory);
        let error = place_for(&kept, 1000, Some(999), 0).expect_err("not on disk");
        assert!(error.kind() == "unavailable" && error.report().remedy_text().is_some(), "{error}");
        let error = place_for(&places, u64::MAX / 2, None, 0).expect_err("no disk is that big");
        assert!(error.kind() == "unavailable" && error.report().remedy_text().is_some(), "{error}");
        assert!(place_for(&places, 0, Some(0), u64::MAX).is_ok(), "memory needs no free disk");
        assert!(place_for(&without, 0, None, u64::MAX).is_err());
    }
}
