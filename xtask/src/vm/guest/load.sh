#!/bin/sh
# The load: pktgen on one virtio card, the appliance on the other, in namespaces of their own on one wire. Every packet that was
# sent must be one that the appliance saw, and every one that it saw returned or dropped for a reason. Prints a check a line.
set -u
cd /tmp || exit 1

GENERATOR_MAC=52:54:00:00:00:01
APPLIANCE_MAC=52:54:00:00:00:02
GENERATOR=10.254.0.1
APPLIANCE=10.254.0.2
# Packets of each load: together they go round the rings, and they are few enough for emulation.
COUNT=1000
# Packets a second: far below what emulation forwards, so that a loss is a fault.
RATE=1000

# With a /sys that shows the namespace's own devices.
in_generator() { ip netns exec generator "$@"; }
# Without a mount namespace of its own, in which pins would vanish.
in_appliance() { nsenter --net=/run/netns/appliance -- "$@"; }

check() { # WHAT LEFT RELATION RIGHT
    # What is no number is an error of test's, and so a failure.
    if test "$2" "$3" "$4"; then
        echo "ok - $1: $2"
    else
        echo "not ok - $1: $2 $3 $4 does not hold"
        failed=1
    fi
}

# Moves the card with this address into a namespace, as eth0.
place() { # NAMESPACE MAC ADDRESS PEER PEER_MAC
    ip netns add "$1"
    for card in /sys/class/net/*; do
        [ "$(cat "$card/address")" != "$2" ] || ip link set "${card##*/}" name "tmp$1" netns "$1"
    done
    nsenter --net="/run/netns/$1" -- sh -e -c "
        ip link set lo up
        echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
        ip link set 'tmp$1' name eth0
        ip address add '$3/24' dev eth0
        ip link set eth0 up
        ip neigh replace '$4' lladdr '$5' dev eth0 nud permanent
    "
}

# The heartbeat is as patient as it can be: a host that is busy takes the emulated processors away for seconds.
start() { # FLAGS...
    # Not by the function: the process must be the appliance itself and not a shell before it.
    nsenter --net=/run/netns/appliance -- /guest/tidegate run --interface eth0 --policy /tmp/policy.toml --xdp-mode native --bind copy \
        --frames 8192 --ring-size 4096 --cores none --heartbeat 10s "$@" > /tmp/tidegate.log 2>&1 &
    process=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        in_appliance wget -q -O - http://127.0.0.1/health > /dev/null 2>&1 && return
        sleep 0.3
    done
    echo "not ok - the appliance becomes healthy"
    cat /tmp/tidegate.log
    exit 1
}

stop() {
    kill "$process"
    wait "$process"
    sed 's/^/  /' /tmp/tidegate.log
    check "the appliance accounts for every packet and frame" \
        "$(grep -c 'every packet and every frame accounted for: yes' /tmp/tidegate.log)" -eq 1
}

# What the appliance's metrics say: for each beginning the sum over all lines that begin so.
metrics() { # BEGINNING...
    awk -v beginnings="$*" 'BEGIN { count = split(beginnings, beginning, " ") }
        { for (i = 1; i <= count; i++) if (index($0, beginning[i]) == 1) sum[i] += $NF }
        END { for (i = 1; i <= count; i++) printf "%d%s", sum[i], i < count ? " " : "\n" }' /tmp/metrics
}

read_metrics() {
    in_appliance wget -q -O /tmp/metrics http://127.0.0.1:9090/metrics
}

# Remembers what the appliance has counted by now.
mark() {
    # What is decided is decided at once; the worker's figures are published within a tenth of a second.
    sleep 0.3
    read_metrics
    marked=$(metrics tidegate_kernel_seen_packets_total tidegate_worker_seen_packets_total tidegate_worker_returned_packets_total \
        tidegate_worker_dropped_packets_total tidegate_kernel_dropped_packets_total tidegate_flows_created_total \
        tidegate_streams_created_total)
}

# Sends a load. Leaves pktgen's last line in `line`.
send() { # NAME FLAGS...
    name=$1
    shift
    echo "# geneve-flood.sh $*"
    read -r begun _ < /proc/uptime
    line=$(in_generator sh /pktgen/geneve-flood.sh --interface eth0 --to-ip "$APPLIANCE" --rate "$RATE" --count "$COUNT" "$@")
    read -r ended _ < /proc/uptime
    echo "@@ fact load $name: $line ($(echo "$begun $ended" | awk '{ printf "%.1f", $2 - $1 }') s)"
    check "$name: sent is what was asked for" "$(value sent)" -eq "$COUNT"
    check "$name: sent is what left the card" "$(value interface_tx)" -eq "$COUNT"
}

# Sends a load and compares it with what the appliance counted since the last one.
flood() { # NAME RETURNED KERNEL_DROPPED WORKER_DROPPED FLAGS...
    name=$1 returns=$2 kernel_drops=$3 worker_drops=$4
    shift 4
    send "$name" "$@"
    before=$marked
    mark
    read -r seen worker_seen worker_returned worker_dropped kernel_dropped created streams <<DIFFERENCE
$(echo "$before $marked" | awk '{ for (i = 1; i <= NF / 2; i++) printf "%d ", $(i + NF / 2) - $i }')
DIFFERENCE
    check "$name: sent is seen" "$seen" -eq "$COUNT"
    check "$name: seen by the worker is what the kernel did not drop" "$worker_seen" -eq $((COUNT - kernel_drops))
    check "$name: returned and dropped are seen" $((worker_returned + worker_dropped + kernel_dropped)) -eq "$COUNT"
    check "$name: returned by the worker" "$worker_returned" -eq "$returns"
    check "$name: returned is back at the generator" "$(value returned)" -eq "$returns"
    check "$name: dropped in the kernel" "$kernel_dropped" -eq "$kernel_drops"
    check "$name: dropped by the worker" "$worker_dropped" -eq "$worker_drops"
}

# Sends a load past an appliance that was killed: what its program in the kernel makes of it alone.
flood_unattended() { # NAME RETURNED FLAGS...
    name=$1 returns=$2
    shift 2
    send "$name" "$@"
    check "$name: returned is back at the generator" "$(value returned)" -eq "$returns"
}

value() { # KEY
    rest=" $line "
    rest=${rest#* "$1"=}
    echo "${rest%% *}"
}

nothing_lost() {
    for metric in socket_rx_dropped_packets socket_rx_ring_full_packets tx_full_packets worker_stalls bypass_packets \
        socket_rx_invalid_descriptors socket_tx_invalid_descriptors; do
        check "$metric" "$(metrics "tidegate_${metric}_total")" -eq 0
    done
}

busy_polled() {
    # The second line of the pair has the numbers.
    # shellcheck disable=SC2016
    in_appliance awk '$1 == "TcpExt:" { if (!named) { for (i = 2; i <= NF; i++) if ($i == "BusyPollRxPackets") at = i; named = 1 }
        else print $at }' /proc/net/netstat
}

cat > /tmp/policy.toml <<'POLICY'
version = 1
default_action = "drop"

[[rule]]
name = "any"
protocol = "any"
source = ["10.1.0.0/16"]
destination = ["10.2.0.1"]
destination_port = [5000]

[[rule]]
name = "rtp"
protocol = "rtp"
source = ["10.1.0.0/16"]
destination = ["10.2.0.1"]
destination_port = [5004]

[[rule]]
name = "srt"
protocol = "srt"
source = ["10.1.0.0/16"]
destination = ["10.2.0.1"]
destination_port = [9000]

[[rule]]
name = "drops-on-failure"
protocol = "any"
source = ["10.4.0.0/16"]
destination = ["10.2.0.1"]
destination_port = [5000]
on_failure = "drop"
POLICY

failed=0
echo "@@ fact $COUNT packets a load, $RATE a second"
place generator "$GENERATOR_MAC" "$GENERATOR" "$APPLIANCE" "$APPLIANCE_MAC"
place appliance "$APPLIANCE_MAC" "$APPLIANCE" "$GENERATOR" "$GENERATOR_MAC"

start --wait adaptive
mark
check "native XDP" "$(metrics 'tidegate_xdp_mode{interface="eth0",mode="native"')" -eq 1
check "AF_XDP in copy mode" "$(metrics 'tidegate_socket_mode{queue="0",bind="copy"')" -eq 1
polled=$(busy_polled)

flood any "$COUNT" 0 0 --flows 100
check "any: flows" "$created" -eq 100
flood unlisted 0 "$COUNT" 0 --inner-source 192.0.2.1-192.0.2.250 --flows 100
check "unlisted: flows" "$created" -eq 0
check "unlisted: for the reason" "$(metrics 'tidegate_kernel_dropped_packets_total{reason="source-not-listed"}')" -eq "$COUNT"
flood flow-table "$COUNT" 0 0 --flows "$COUNT" --inner-source 10.1.9.1 --size 200
check "flow-table: flows" "$created" -eq "$COUNT"
flood pktgen-is-no-rtp 0 0 "$COUNT" --inner-port 5004 --flows 10
check "pktgen-is-no-rtp: for the reason" "$(metrics 'tidegate_worker_dropped_packets_total{queue="0",reason="not-rtp"}')" -eq "$COUNT"
flood rtp-template "$COUNT" 0 0 --inner-port 5004 --flows 10 --template rtp-ts --inner-source 10.1.2.1
check "rtp-template: streams" "$streams" -eq 10
flood srt-template "$COUNT" 0 0 --inner-port 9000 --flows 10 --template srt --inner-source 10.1.3.1
in_appliance wget -q -O /tmp/streams http://127.0.0.1:9090/api/v1/streams
# What the judge makes of each template, for whoever reads the log.
for protocol in rtp srt; do
    sed 's/{"bytes"/\n&/g' /tmp/streams | grep "\"protocol\":\"$protocol\"" | head -n 1 | sed "s/^/# $protocol: /"
done
check "every stream has the endpoint that the GENEVE option told" \
    "$(grep -o '"endpoint":"[^"]*"' /tmp/streams | sort -u | tr -d '\n')" = '"endpoint":"0x00000000000000e1"'
nothing_lost
check "without --busy-poll nothing is busy polled" "$(busy_polled)" -eq "$polled"
stop

# Interrupts wait for the poller, as the documentation of SO_PREFER_BUSY_POLL has it; otherwise it is chance whether they are
# always first.
ip netns exec appliance sh -e -c 'echo 2 > /sys/class/net/eth0/napi_defer_hard_irqs; echo 2000000 > /sys/class/net/eth0/gro_flush_timeout'
start --wait spin --busy-poll 50us
mark
polled=$(busy_polled)
flood busy-poll "$COUNT" 0 0 --flows 10
nothing_lost
echo "@@ fact busy polled: $(($(busy_polled) - polled)) of $COUNT packets with --busy-poll, none without"
check "with --busy-poll packets are busy polled" $(($(busy_polled) - polled)) -gt 0
stop

start --wait adaptive
kill -KILL "$process"
wait "$process"
flood_unattended killed "$COUNT" --flows 10
flood_unattended killed-of-a-rule-that-drops 0 --flows 10 --inner-source 10.4.0.1
in_appliance /guest/tidegate detach --interface eth0
check "what a killed appliance left is detached" $? -eq 0
check "no program is left on the card" "$(in_appliance ip link show eth0 | grep -c xdp)" -eq 0
check "the generator left nothing behind" "$(in_generator ip -o link | grep -c 'tgpg\|tggnv')" -eq 0
exit "$failed"
