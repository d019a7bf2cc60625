//! The kernel: what is asked of it is tried, since its configuration is often not readable and its version says little.

use nix::errno::Errno;

use super::Fact;
use crate::process::pidfd::PidFd;

/// Looks; on the runtime, which watches pidfds.
pub(super) fn examine() -> Vec<Fact> {
    vec![release(), checkpoint_restore(), pidfd(), userfaultfd(), pagemap_scan()]
}

fn release() -> Fact {
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let (release, machine) = (name.release().to_string_lossy(), name.machine().to_string_lossy());
            Fact::ok("kernel", format!("Linux {release}, {machine}"))
        }
        Err(error) => Fact::note("kernel", format!("does not say its release: {error}")),
    }
}

/// This call exists only in kernels with `CONFIG_CHECKPOINT_RESTORE`.
fn checkpoint_restore() -> Fact {
    const TOPIC: &str = "checkpoint/restore";
    let mut address: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: the kernel writes one pointer to where we say.
    let answer = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address, 0, 0, 0) };
    if answer == 0 {
        return Fact::ok(TOPIC, "the kernel was built with it");
    }
    let text = format!("the kernel was built without CONFIG_CHECKPOINT_RESTORE ({})", Errno::last());
    Fact::lack(TOPIC, text, "boot a kernel that has it; those of all big distributions have")
}

fn pidfd() -> Fact {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    match PidFd::open(own) {
        Ok(_) => Fact::ok("pidfd", "a service's exit is noticed at once"),
        Err(error) => {
            Fact::lack("pidfd", error.to_string(), "boot Linux 5.3 or newer, and allow pidfd_open to us")
        }
    }
}

fn userfaultfd() -> Fact {
    const TOPIC: &str = "userfaultfd";
    // SAFETY: takes flags only, gives a descriptor.
    let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    let Ok(descriptor) = Errno::result(descriptor) else {
        let text =
            format!("not to be had ({}): restoring lazily and tracking of memory need it", Errno::last());
        return Fact::note(TOPIC, text)
            .remedy("run as root, or set the sysctl vm.unprivileged_userfaultfd to 1");
    };
    // SAFETY: it is ours and nobody else's.
    unsafe { libc::close(i32::try_from(descriptor).unwrap_or(-1)) };
    Fact::ok(TOPIC, "there")
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

nix::ioctl_readwrite!(pagemap_scan_ioctl, b'f', 16, Scan);

/// Scans nothing at all: a kernel that knows the call says 0, an older one `ENOTTY`.
fn pagemap_scan() -> Fact {
    use std::os::fd::AsRawFd;
    const TOPIC: &str = "pagemap scan";
    let outcome = std::fs::File::open("/proc/self/pagemap").map_err(|e| e.to_string()).and_then(|file| {
        let mut scan = Scan { size: size_of::<Scan>() as u64, ..Scan::default() };
        // SAFETY: the structure is as the kernel wants it, and asks for no page.
        unsafe { pagemap_scan_ioctl(file.as_raw_fd(), &raw mut scan) }.map_err(|e| e.to_string())
    });
    match outcome {
        Ok(_) => Fact::ok(TOPIC, "changed memory can be found quickly"),
        Err(why) => Fact::note(TOPIC, format!("not known ({why}): every checkpoint looks at all memory"))
            .remedy("boot Linux 6.7 or newer; not needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Standing;

    #[tokio::test]
    async fn this_kernel_can_at_least_be_watched() {
        assert_eq!(size_of::<Scan>(), 96);
        assert_eq!(pidfd().standing, Standing::Ok);
        assert!(release().text.starts_with("Linux "));
    }
}
