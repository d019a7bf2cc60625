#!/bin/sh
# Boots a machine: a systemd as process 1 in namespaces of its own, on a pure cgroup v2.
#
#     boot.sh ROOT FOLDER CGROUP SHARED
#
# ROOT is a Debian, which is not written to; FOLDER an empty folder, on which everything is mounted; CGROUP an empty cgroup (v2), below
# which the machine has all of its own; SHARED a folder for its /srv, or nothing. All is gone with the namespaces, when process 1 is.
set -eu
root=$1 folder=$2 cgroup=$3 shared=$4

if [ "${5-}" != inside ]; then
    echo $$ > "$cgroup/cgroup.procs"
    exec unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child sh "$0" "$@" inside
fi

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$folder"
cd "$folder"
mkdir upper work root
mount -t overlay -o "lowerdir=$root,upperdir=upper,workdir=work" overlay root
cd root

mount -t proc proc proc
# Settings of the kernel that are the host's; systemd would change some. CRIU writes to one of the others.
for settings in proc/sys/fs proc/sys/vm; do
    mount --bind $settings $settings
    mount -o remount,bind,ro $settings
done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
    mknod -m 666 "dev/${device% *}" c 1 "${device#* }"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/net dev/pts dev/shm
mknod -m 666 dev/net/tun c 10 200
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
[ -z "$shared" ] || mount --bind "$shared" srv

echo machine > etc/hostname
mkdir old
pivot_root . old
umount -l old
rmdir old
exec env -i container=supervisor-test PATH=/usr/sbin:/usr/bin /sbin/init
