#!/bin/sh
# The guest's first and only process: mounts what the tests expect, loads the modules, runs what guest/plan lists, powers off.
# Lines that begin with "@@ " are for the reader of the console.
/bin/busybox --install -s /bin
export PATH=/tools:/bin HOME=/tmp TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debug /sys/kernel/debug
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/shm /run/netns

# Milliseconds since the kernel started.
uptime_ms() {
    read -r up _ < /proc/uptime
    whole=${up%.*}
    echo "$whole${up#*.}0"
}

while read -r module; do
    insmod "$module" || echo "cannot load $module"
done < /modules/order
ip link set lo up
echo 1 > /proc/sys/kernel/panic_on_oops
echo "@@ up $(uptime_ms)"

while read -r name limit not_before command; do
    while [ "$(uptime_ms)" -lt "${not_before}000" ]; do
        sleep 0.2
    done
    echo "@@ begin $name $limit"
    begun=$(uptime_ms)
    # The plan's command is split into words. Its input is not the plan's rest.
    # shellcheck disable=SC2086
    timeout -s KILL "$limit" $command < /dev/null 2>&1
    status=$?
    echo
    echo "@@ end $name $status $(($(uptime_ms) - begun))"
done < /guest/plan

echo "@@ done"
sync
poweroff -f
