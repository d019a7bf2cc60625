//! Names of hosts and users, in a program that has its C library in it.
//!
//! glibc looks names up by modules of the host's (`/etc/nsswitch.conf`), which it loads when it needs them. Where it is linked in, those are of
//! another glibc, and may end the program. So there it is told to use what it has in it: `/etc/hosts` and DNS, `/etc/passwd` and
//! `/etc/group`. It refuses everything else that a host may be set up for (mDNS, systemd-resolved's own names, LDAP).

/// To be called before any name is looked up, while the process has one thread.
pub fn look_up_by_ourselves() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, by) in [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
        (c"initgroups", c"files"),
        (c"services", c"files"),
    ] {
        // SAFETY: both are texts that live for ever, which is all that this function of glibc's (`nss.h`) asks for.
        unsafe { __nss_configure_lookup(database.as_ptr(), by.as_ptr()) };
    }
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
unsafe extern "C" {
    fn __nss_configure_lookup(
        database: *const std::ffi::c_char,
        service_line: *const std::ffi::c_char,
    ) -> std::ffi::c_int;
}
