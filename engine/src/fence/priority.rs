//! Real-time priority for those who keep a limit and sleep otherwise.

use crate::error::{Error, Report, Result};

/// Low among the real-time priorities: ahead of everything ordinary is enough.
const PRIORITY: i32 = 10;

/// Puts the calling thread ahead of everything that is not real-time; what it forks is not. Needs CAP_SYS_NICE, and a cgroup that has
/// real-time bandwidth.
pub(crate) fn become_real_time() -> Result<()> {
    let priority = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const priority) };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Error::Refused(Report::new("take real-time priority").because(error)))
}
