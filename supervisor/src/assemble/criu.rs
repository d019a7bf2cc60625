//! CRIU's options of a service.

use std::path::PathBuf;

use config as words;
use engine::criu::{Network, Options, Tcp};

pub(super) fn criu_options(service: &words::Service) -> Options {
    let (plan, criu) = (&service.checkpoint, &service.checkpoint.criu);
    let texts = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    Options {
        tcp: match plan.tcp {
            words::Tcp::Established => Tcp::Established,
            words::Tcp::Close => Tcp::Close,
            words::Tcp::SkipInFlight => Tcp::SkipInFlight,
        },
        network_lock: match criu.network_lock {
            Some(words::NetworkLock::Iptables) => Network::Iptables,
            Some(words::NetworkLock::Nftables) => Network::Nftables,
            Some(words::NetworkLock::Skip) => Network::Skip,
            None => Network::AsNeeded,
        },
        file_locks: criu.file_locks,
        link_remap: criu.link_remap,
        ghost_limit: criu.ghost_limit,
        shell_job: criu.shell_job,
        // It may hold a connection to the socket that it was given.
        ext_unix_sk: criu.ext_unix_sk || service.notify().is_some(),
        external: criu.external.clone(),
        force_irmap: criu.force_irmap,
        irmap_scan_paths: texts(&criu.irmap_scan_paths),
        evasive_devices: criu.evasive_devices,
        skip_mnt: texts(&criu.skip_mnt),
        enable_fs: criu.enable_fs.clone(),
        auto_ext_mnt: criu.auto_ext_mnt,
        ext_sharing: criu.ext_sharing,
        ext_masters: criu.ext_masters,
        mntns_compat_mode: criu.mntns_compat_mode,
        weak_sysctls: criu.weak_sysctls,
        orphan_pts_master: criu.orphan_pts_master,
        skip_file_rwx_check: criu.skip_file_rwx_check,
        cgroup_dump_controller: criu.cgroup_dump_controller.clone(),
        manage_cgroups_mode: criu.manage_cgroups_mode.map(cgroup_mode),
        cpu_cap: cpu_cap(&criu.cpu_cap),
        lsm_profile: criu.lsm_profile.clone(),
        lsm_mount_context: criu.lsm_mount_context.clone(),
        log_level: criu.log_level,
    }
}

/// CRIU's numbers for its cgroup modes.
fn cgroup_mode(mode: words::CgroupMode) -> i32 {
    match mode {
        words::CgroupMode::Ignore => 0,
        words::CgroupMode::None => 1,
        words::CgroupMode::Props => 2,
        words::CgroupMode::Soft => 3,
        words::CgroupMode::Full => 4,
        words::CgroupMode::Strict => 5,
    }
}

/// CRIU's bits for what of the processor must agree; none: CRIU's default.
fn cpu_cap(caps: &[words::CpuCap]) -> Option<u32> {
    let bit = |cap: &words::CpuCap| match cap {
        words::CpuCap::None => 0,
        words::CpuCap::Fpu => 1,
        words::CpuCap::Cpu => 2,
        words::CpuCap::Ins => 4,
        words::CpuCap::All => 7,
    };
    (!caps.is_empty()).then(|| caps.iter().map(bit).fold(0, |all, b| all | b))
}
