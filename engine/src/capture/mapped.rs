//! Files that a process has mapped writable and shared.
//!
//! A write to such a page changes the file's time stamps only at the first fault after the page was last cleaned, so an
//! unchanged stamp proves nothing. These files are always copied, and always compared by content.

use std::collections::HashSet;
use std::path::Path;

use crate::durable::failed;
use crate::error::Result;

/// The inode numbers of all files that the process has mapped so. Devices are not told apart (overlayfs reports
/// another one here than by `stat`): a number too many costs a copy, one too few would cost the data.
///
/// # Errors
/// `Invalid` if there is no such process, `Refused` if we may not look.
pub fn mapped_writable(pid: i32) -> Result<HashSet<u64>> {
    let path = format!("/proc/{pid}/maps");
    let maps = std::fs::read(&path).map_err(|e| failed("read", Path::new(&path), e))?;
    Ok(maps.split(|b| *b == b'\n').filter_map(inode_of).collect())
}

/// `7f0a-7f0b rw-s 00000000 fe:00 1234  /path`; inode 0 is no file.
fn inode_of(line: &[u8]) -> Option<u64> {
    let mut fields = line.split(|b| *b == b' ').filter(|field| !field.is_empty());
    let permissions = fields.nth(1)?;
    if permissions.get(1) != Some(&b'w') || permissions.get(3) != Some(&b's') {
        return None;
    }
    let inode = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
    (inode != 0).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::inode_of;

    #[test]
    fn only_writable_shared_files_count() {
        assert_eq!(inode_of(b"7f00-7f01 rw-s 00000000 fe:00 1234       /data/db"), Some(1234));
        for other in [
            &b"7f00-7f01 rw-p 00000000 fe:00 1234 /data/db"[..],
            b"7f00-7f01 r--s 00000000 fe:00 1234 /data/db",
            b"7f00-7f01 rw-s 00000000 00:00 0",
            b"7f00-7f01 rw-p 00000000 00:00 0 [heap]",
            b"",
        ] {
            assert_eq!(inode_of(other), None);
        }
    }
}
