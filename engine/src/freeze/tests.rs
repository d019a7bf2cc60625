use super::*;

const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 23 0:27 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
32 23 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn a_hybrid_host_is_understood() {
    let own = "8:freezer:/\n4:memory:/box/a\n0::/\n";
    let found = Hierarchies::from_text(HYBRID, own);
    assert_eq!(found.freezer.as_deref(), Some(Path::new("/sys/fs/cgroup/freezer/")));
    assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/box/a")));
    assert_eq!(found.mode(), "hybrid (v1 freezer)");
}

#[test]
fn what_a_criu_at_work_mounts_is_not_taken() {
    let yard = "\
90 23 0:26 / /var/tmp/work/.criu.cgyard.x/memory rw - cgroup none rw,memory
91 23 0:27 / /var/tmp/work/.criu.cgyard.x/freezer rw - cgroup none rw,freezer
92 23 0:28 / /var/tmp/work/.criu.cgyard.x/unified rw - cgroup2 none rw
";
    let own = "8:freezer:/\n4:memory:/box/a\n0::/\n";
    let found = Hierarchies::from_text(&format!("{HYBRID}{yard}"), own);
    assert_eq!(found, Hierarchies::from_text(HYBRID, own));
}

#[test]
fn a_pure_v2_host_inside_a_container_is_understood() {
    let mounts = "32 23 0:28 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let found = Hierarchies::from_text(mounts, "0::/docker/x/inner\n");
    assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/inner")));
    assert_eq!((found.freezer.as_ref(), found.mode()), (None, "v2"));
}
