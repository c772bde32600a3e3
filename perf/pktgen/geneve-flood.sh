#!/bin/sh
# Sends GENEVE as a load balancer does, from the kernel's pktgen, and counts what comes back. See README.md beside it for what
# that can show and what it cannot.
set -u
# The longest a run may take, seconds: a day.
MOST_SECONDS=86400
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
Sends GENEVE-wrapped UDP from the kernel's pktgen to an appliance and counts what the appliance returns.

  geneve-flood.sh --interface IF --to-ip ADDR (--count N | --seconds N) [flags]
  geneve-flood.sh --clean IF     removes what a run left that was killed outright

where to
  --interface IF            the interface through which the appliance is reached
  --to-ip ADDR              the appliance's address
  --to-mac MAC              its Ethernet address, where nobody answers ARP (removed at the end)
  --from-ip ADDR            this side's address (default: the interface's first)
  --geneve-port N           UDP port of GENEVE (6081)
how much
  --count N                 packets in all
  --seconds N               or so long
  --rate N                  packets a second in all; 0 is flat out (0)
  --threads N               generator threads, one on each processor from the first (1)
what
  --template NAME           any: pktgen's own payload; rtp-ts, srt: a header and seven null TS packets (any)
  --size N                  bytes of the inner IPv4 packet, 44 to 8500 (1356; fixed by the templates)
  --flows N                 inner flows, told apart by their source port, 1 to 50000 (1)
  --inner-source ADDR[-ADDR]   inner source; a range is walked packet by packet (10.1.0.1)
  --inner-destination ADDR  (10.2.0.1)
  --inner-port N            inner destination port (5000)
  --endpoint HEX            GWLB endpoint id, 16 digits (00000000000000e1)

Prints one line `key=value ...` at the end: sent, sent_pps, errors, interface_tx, returned. Exit 0 when pktgen sent what it was told
to, whatever came back; 1 when it could not, 2 for a wrong flag.
TEXT
}

read_flags() {
    interface='' to_ip='' to_mac='' from_ip='' geneve_port=6081
    count='' seconds='' rate=0 threads=1
    template=any size='' flows=1
    inner_source=10.1.0.1 inner_destination=10.2.0.1 inner_port=5000 endpoint=00000000000000e1
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
        esac
        [ $# -ge 2 ] || misuse "$1 takes a value, or is no flag"
        case $1 in
            --interface) interface=$2 ;;
            --to-ip) to_ip=$2 ;;
            --to-mac) to_mac=$2 ;;
            --from-ip) from_ip=$2 ;;
            --geneve-port) geneve_port=$2 ;;
            --count) count=$2 ;;
            --seconds) seconds=$2 ;;
            --rate) rate=$2 ;;
            --threads) threads=$2 ;;
            --template) template=$2 ;;
            --size) size=$2 ;;
            --flows) flows=$2 ;;
            --inner-source) inner_source=$2 ;;
            --inner-destination) inner_destination=$2 ;;
            --inner-port) inner_port=$2 ;;
            --endpoint) endpoint=$2 ;;
            --clean)
                interface=$2
                clean_leftovers
                exit 0
                ;;
            *) misuse "no flag $1" ;;
        esac
        shift 2
    done
}

check_flags() {
    [ -n "$interface" ] || misuse "--interface is missing"
    [ -e "/sys/class/net/$interface" ] || die "there is no interface $interface"
    [ -n "$to_ip" ] || misuse "--to-ip is missing"
    need_address --to-ip "$to_ip"
    [ -z "$to_mac" ] || need_mac --to-mac "$to_mac"
    [ -n "$from_ip" ] || from_ip=$(ip -4 -o address show dev "$interface" | awk '{ sub(/\/.*/, "", $4); print $4; exit }')
    [ -n "$from_ip" ] || die "$interface has no IPv4 address; give one with --from-ip"
    need_address --from-ip "$from_ip"
    case "$count:$seconds" in
        : | ?*:?*) misuse "give one of --count and --seconds" ;;
        :*) need_number --seconds "$seconds" 1 "$MOST_SECONDS" ;;
        *) need_number --count "$count" 1 999999999999 ;;
    esac
    need_number --geneve-port "$geneve_port" 1 65535
    need_number --rate "$rate" 0 1000000000
    need_number --flows "$flows" 1 50000
    need_number --inner-port "$inner_port" 1 65535
    need_number --threads "$threads" 1 "$(grep -c '^processor' /proc/cpuinfo)"
    need_hex --endpoint "$endpoint" 16
    need_address --inner-source "${inner_source%-*}"
    need_address --inner-source "${inner_source#*-}"
    need_address --inner-destination "$inner_destination"
    check_size
    # Each thread has a share of the flows, of the packets and of the rate.
    [ "$threads" -le "$flows" ] || misuse "$flows flows cannot be shared by $threads threads"
    [ -z "$count" ] || [ "$threads" -le "$count" ] || misuse "$count packets cannot be shared by $threads threads"
    [ "$rate" -eq 0 ] || [ "$threads" -le "$rate" ] || misuse "$rate packets a second cannot be shared by $threads threads"
}

check_size() {
    case $template in
        any | rtp-ts | srt) ;;
        *) misuse "no template $template: any, rtp-ts or srt" ;;
    esac
    fixed=$(template_size "$template")
    if [ -n "$fixed" ]; then
        [ -z "$size" ] || [ "$size" = "$fixed" ] || misuse "template $template has packets of $fixed bytes"
        size=$fixed
    fi
    size=${size:-1356}
    # An IPv4 and a UDP header and the 16 bytes that pktgen writes.
    need_number --size "$size" 44 8500
    # Outer IPv4, UDP, GENEVE with the load balancer's options.
    mtu=$(cat "/sys/class/net/$interface/mtu")
    [ $((size + 20 + 8 + 8 + 32)) -le "$mtu" ] || die "$size bytes and 68 of encapsulation exceed the MTU of $interface, $mtu"
}

# One thread's share of a total: the remainder goes to the first ones.
share() { # TOTAL THREAD
    echo $(($1 / threads + ($2 < $1 % threads ? 1 : 0)))
}

setup_thread() { # THREAD FIRST_PORT
    device=$PG_PREFIX$1
    setup_device "$device"
    pg "kpktgend_$1" add_device "$device"
    ports=$(share "$flows" "$1")
    # Through the traffic control of the device, without which nothing wraps the packets. That rules out clone_skb and burst.
    pg "$device" xmit_mode queue_xmit
    if [ -n "$count" ]; then
        pg "$device" count "$(share "$count" "$1")"
    else
        pg "$device" count 0
    fi
    pg "$device" pkt_size $((size + 14))
    # A new packet each time, or the ranges would stand still.
    pg "$device" clone_skb 0
    pg "$device" delay 0
    [ "$rate" -eq 0 ] || pg "$device" ratep "$(share "$rate" "$1")"
    pg "$device" dst_mac 02:00:00:00:00:02
    pg "$device" src_min "${inner_source%-*}"
    pg "$device" src_max "${inner_source#*-}"
    pg "$device" dst_min "$inner_destination"
    pg "$device" dst_max "$inner_destination"
    pg "$device" udp_src_min "$2"
    # pktgen walks up to this, and not to it, unless both ends are the same.
    pg "$device" udp_src_max $(($2 + (ports > 1 ? ports : 0)))
    pg "$device" udp_dst_min "$inner_port"
    pg "$device" udp_dst_max "$inner_port"
}

# Runs until pktgen has sent its count, or for the time.
send() {
    # The writer waits for the end, so it must not be this shell, which has signals to answer.
    (echo start > "$PGDIR/pgctrl") &
    generator=$!
    if [ -n "$seconds" ]; then
        sleep "$seconds" &
        sleeper=$!
        wait "$sleeper"
        sleeper=''
        echo stop > "$PGDIR/pgctrl"
    fi
    wait "$generator"
    generator=''
}

summarise() {
    sent=0 errors=0 pps=0 thread=0
    while [ "$thread" -lt "$threads" ]; do
        device=$PG_PREFIX$thread
        sent=$((sent + $(pg_value "$device" pkts-sofar)))
        errors=$((errors + $(pg_value "$device" errors)))
        pps=$((pps + $(awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+pps$/) { print $i + 0; exit } }' "$PGDIR/$device")))
        thread=$((thread + 1))
    done
    # What is still on its way back: wait until the count stands still, two seconds at most.
    before=-1 came=$(returned) looks=0
    while [ "$came" -ne "$before" ] && [ "$came" -lt "$sent" ] && [ "$looks" -lt 8 ]; do
        before=$came looks=$((looks + 1))
        sleep 0.25
        came=$(returned)
    done
    echo "sent=$sent sent_pps=$pps errors=$errors interface_tx=$(($(statistic tx_packets) - tx_before)) returned=$came"
    [ "$sent" -gt 0 ] && { [ -z "$count" ] || [ "$sent" -ge "$count" ]; }
}

main() {
    read_flags "$@"
    need_root
    need_tools ip tc awk
    check_flags
    need_modules pktgen dummy geneve sch_ingress cls_matchall cls_flower act_gact act_mirred act_pedit act_tunnel_key
    options=$(geneve_options "$endpoint" 00000000000000a1 000000c1)
    clean_up_at_the_end
    setup_tunnel
    thread=0 port=10000
    while [ "$thread" -lt "$threads" ]; do
        setup_thread "$thread" "$port"
        port=$((port + $(share "$flows" "$thread")))
        thread=$((thread + 1))
    done
    tx_before=$(statistic tx_packets)
    send
    summarise || die "pktgen did not send what it was told to"
}

main "$@"
