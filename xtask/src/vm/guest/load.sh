#!/bin/sh
# The load: pktgen on one virtio card, the appliance on the other, in namespaces of their own on one wire. Every packet that was
# sent must be one that the appliance saw, and every one that it saw returned or dropped for a reason. Prints a check a line.
set -u
cd /tmp || exit 1

GENERATOR_MAC=52:54:00:00:00:01
APPLIANCE_MAC=52:54:00:00:00:02
GENERATOR=10.254.0.1
APPLIANCE=10.254.0.2
# Packets of each load: enough to go round the rings, few enough for emulation.
COUNT=2000
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
        sleep 0.5
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

# What the appliance's metrics say, the sum over all lines of this beginning.
metric() { # BEGINNING
    awk -v beginning="$1" 'index($0, beginning) == 1 { sum += $NF } END { printf "%d\n", sum }' /tmp/metrics
}

read_metrics() {
    in_appliance wget -q -O /tmp/metrics http://127.0.0.1:9090/metrics
}

# Remembers what the appliance counted before a load.
mark() {
    # What is decided is decided at once; the worker's figures are published within a tenth of a second.
    sleep 0.3
    read_metrics
    seen=$(metric tidegate_kernel_seen_packets_total)
    worker_seen=$(metric tidegate_worker_seen_packets_total)
    worker_returned=$(metric tidegate_worker_returned_packets_total)
    worker_dropped=$(metric tidegate_worker_dropped_packets_total)
    kernel_dropped=$(metric tidegate_kernel_dropped_packets_total)
    created=$(metric tidegate_flows_created_total)
    streams=$(metric tidegate_streams_created_total)
}

# Sends a load and compares it with what the appliance counted.
flood() { # NAME RETURNED KERNEL_DROPPED WORKER_DROPPED FLAGS...
    name=$1 returns=$2 kernel_drops=$3 worker_drops=$4
    shift 4
    mark
    echo "# geneve-flood.sh $*"
    line=$(in_generator sh /pktgen/geneve-flood.sh --interface eth0 --to-ip "$APPLIANCE" --rate "$RATE" "$@")
    echo "@@ fact load $name: $line"
    sent=$(value sent) back=$(value returned)
    (set -- "$seen" "$worker_seen" "$worker_returned" "$worker_dropped" "$kernel_dropped" "$created" "$streams"
        mark
        echo "$((seen - $1)) $((worker_seen - $2)) $((worker_returned - $3)) $((worker_dropped - $4))" \
            "$((kernel_dropped - $5)) $((created - $6)) $((streams - $7))") > /tmp/difference
    read -r seen worker_seen worker_returned worker_dropped kernel_dropped created streams < /tmp/difference
    check "$name: sent is what was asked for" "$sent" -eq "$COUNT"
    check "$name: sent is what left the card" "$(value interface_tx)" -eq "$COUNT"
    check "$name: sent is seen" "$seen" -eq "$COUNT"
    check "$name: returned and dropped are seen" $((worker_returned + worker_dropped + kernel_dropped)) -eq "$COUNT"
    check "$name: returned by the worker" "$worker_returned" -eq "$returns"
    check "$name: returned is back at the generator" "$back" -eq "$returns"
    check "$name: dropped in the kernel" "$kernel_dropped" -eq "$kernel_drops"
    check "$name: dropped by the worker" "$worker_dropped" -eq "$worker_drops"
}

value() { # KEY
    echo "$line" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

nothing_lost() {
    read_metrics
    for metric in socket_rx_dropped_packets socket_rx_ring_full_packets tx_full_packets worker_stalls bypass_packets \
        socket_rx_invalid_descriptors socket_tx_invalid_descriptors; do
        check "$metric" "$(metric tidegate_${metric}_total)" -eq 0
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
POLICY

failed=0
echo "@@ fact $COUNT packets a load, $RATE a second"
place generator "$GENERATOR_MAC" "$GENERATOR" "$APPLIANCE" "$APPLIANCE_MAC"
place appliance "$APPLIANCE_MAC" "$APPLIANCE" "$GENERATOR" "$GENERATOR_MAC"

start --wait adaptive
read_metrics
check "native XDP" "$(metric 'tidegate_xdp_mode{interface="eth0",mode="native"')" -eq 1
check "AF_XDP in copy mode" "$(metric 'tidegate_socket_mode{queue="0",bind="copy"')" -eq 1
polled=$(busy_polled)

flood any "$COUNT" 0 0 --count "$COUNT" --flows 100
check "any: flows" "$created" -eq 100
flood unlisted 0 "$COUNT" 0 --count "$COUNT" --inner-source 192.0.2.1-192.0.2.250 --flows 100
check "unlisted: flows" "$created" -eq 0
check "unlisted: for the reason" "$(metric 'tidegate_kernel_dropped_packets_total{reason="source-not-listed"}')" -eq "$COUNT"
flood flow-table "$COUNT" 0 0 --count "$COUNT" --flows "$COUNT" --inner-source 10.1.9.1 --size 200
check "flow-table: flows" "$created" -eq "$COUNT"
flood pktgen-is-no-rtp 0 0 "$COUNT" --count "$COUNT" --inner-port 5004 --flows 10
check "pktgen-is-no-rtp: for the reason" "$(metric 'tidegate_worker_dropped_packets_total{queue="0",reason="not-rtp"}')" -eq "$COUNT"
flood rtp-template "$COUNT" 0 0 --count "$COUNT" --inner-port 5004 --flows 10 --template rtp-ts --inner-source 10.1.2.1
check "rtp-template: streams" "$streams" -eq 10
flood srt-template "$COUNT" 0 0 --count "$COUNT" --inner-port 9000 --flows 10 --template srt --inner-source 10.1.3.1
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

start --wait spin --busy-poll 50us
polled=$(busy_polled)
flood busy-poll "$COUNT" 0 0 --count "$COUNT" --flows 10
nothing_lost
echo "@@ fact busy polled: $(($(busy_polled) - polled)) of $COUNT packets with --busy-poll, none without"
check "with --busy-poll packets are busy polled" $(($(busy_polled) - polled)) -gt 0
stop
check "the generator left nothing behind" "$(in_generator ip -o link | grep -c 'tgpg\|tggnv')" -eq 0
exit "$failed"
