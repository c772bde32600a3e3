#!/bin/sh
# The guest's first process: mounts what the tests expect, loads the modules, runs what guest/plan lists, powers off.
# Lines that begin with "@@ " are for the reader of the console; "NAME| " goes before what the run of that name prints.
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

# Runs a command and tells of it. Its output goes through a pipe, so that each line says whose it is.
run() { # NAME LIMIT COMMAND...
    name=$1 limit=$2
    shift 2
    echo "@@ begin $name $limit"
    begun=$(uptime_ms)
    mkfifo "/run/$name.pipe"
    {
        sed "s/^/$name| /" < "/run/$name.pipe"
        : > "/run/$name.read"
    } &
    timeout -s KILL "$limit" "$@" < /dev/null > "/run/$name.pipe" 2>&1
    status=$?
    took=$(($(uptime_ms) - begun))
    # Until all of it is on the console, or a second: what outlived a killed command may hold the pipe open.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -e "/run/$name.read" ] || break
        sleep 0.1
    done
    printf '\n@@ end %s %s %s\n' "$name" "$status" "$took"
}

# Runs what the plan has for one lane, one after the other.
lane() { # LANE
    while read -r number name limit not_before command; do
        [ "$number" = "$1" ] || continue
        while [ "$(uptime_ms)" -lt "${not_before}000" ]; do
            sleep 0.2
        done
        # The plan's command is split into words.
        # shellcheck disable=SC2086
        run "$name" "$limit" $command
    done < /guest/plan
}

echo "@@ kernel $(uptime_ms)"
while read -r module; do
    insmod "$module" || echo "cannot load $module"
done < /modules/order
ip link set lo up
echo 1 > /proc/sys/kernel/panic_on_oops
echo "@@ up $(uptime_ms)"

lane 1 &
first=$!
lane 2 &
second=$!
wait "$first" "$second"
echo "@@ done $(uptime_ms)"
sync
poweroff -f
