# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Process 1 in User-Mode Linux. / is the host's, read-only (hostfs); /tmp and /run are fresh; the run directory of umlrun,
# the only thing of the host that can be written, is /run/host. Modules can be loaded by name. The command's output
# goes to a file and its status to another, written last: a guest that dies leaves none.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm

for word in $(cat /proc/cmdline); do
    case $word in
    umlrun.run=*) run=${word#*=} ;;
    umlrun.uml=*) uml=${word#*=} ;;
    esac
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 1777 /run/lock
mkdir /run/host /run/uml /run/keep
mount -t hostfs -o "$run" none /run/host
mount -t hostfs -o "$uml" none /run/uml

# Directories of the host that the fresh /tmp or /run would hide
mount -t tmpfs -o mode=1777 tmpfs /tmp
while read -r directory; do
    [ -d "$directory" ] && continue
    mkdir -p "$directory"
    mount -t hostfs -o "$directory" -r none "$directory"
done </run/host/directories

printf '#!/bin/sh\nexec modprobe -d /run/uml "$@"\n' >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
ip link set lo up

exec </dev/null >>/run/host/output 2>&1
if [ -e /run/host/uptime ]; then
    echo 'guest.sh: the guest has started a second time'
    rm -f /run/host/status
    echo o >/proc/sysrq-trigger
    exec sleep 5
fi
cut -d' ' -f1 /proc/uptime >/run/host/uptime
bash /run/host/command
echo $? >/run/host/status.new
mv /run/host/status.new /run/host/status
sync
echo o >/proc/sysrq-trigger
exec sleep 5
