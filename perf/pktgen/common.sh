# shellcheck shell=sh
# What the pktgen scripts share: messages, what the kernel must have, the path from pktgen to GENEVE, and its removal.
#
# pktgen cannot write a GENEVE header, and it refuses a tunnel device that has no Ethernet header. So it sends plain
# Ethernet/IPv4/UDP into a dummy device, and the traffic control behind it does the rest:
#
#   pktgen -> dummy tgpgN -> egress: pedit (template), tunnel_key (outer header, GENEVE options) -> mirred
#          -> geneve tggnv, which inherits the inner protocol, so mirred strips the Ethernet header -> the real interface
#
# Sourced by the scripts beside it, whose flags are the variables that no line here sets.
# shellcheck disable=SC2154

PGDIR=/proc/net/pktgen
# The dummy devices, one for each thread of the generator: pktgen's threads would share one device's filter otherwise.
PG_PREFIX=tgpg
GENEVE_DEVICE=tggnv
# The filter that counts what comes back; nobody else's filters are numbered like this.
RETURN_PREF=49151

# Whatever was made by now and has to go.
made_devices=''
made_filter=''
made_clsact=''
made_neighbour='' old_mac=''
generator='' sleeper=''

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# A wrong flag: usage is what helps.
misuse() {
    echo "${0##*/}: $* (--help tells more)" >&2
    exit 2
}

need_number() { # FLAG VALUE LEAST MOST
    case $2 in
        '' | *[!0-9]*) misuse "$1 takes a whole number, not '$2'" ;;
    esac
    # Longer numbers do not fit the shell's arithmetic.
    if [ "${#2}" -gt 12 ] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        misuse "$1 takes $3 to $4, not $2"
    fi
}

need_address() { # FLAG VALUE
    echo "$2" | awk -F. '{ bad = NF != 4; for (i = 1; i <= NF; i++) if ($i !~ /^[0-9]+$/ || $i > 255) bad = 1; exit bad }' ||
        misuse "$1 takes an IPv4 address, not '$2'"
}

need_mac() { # FLAG VALUE
    echo "$2" | grep -Eqi '^([0-9a-f]{2}:){5}[0-9a-f]{2}$' || misuse "$1 takes an Ethernet address, not '$2'"
}

need_hex() { # FLAG VALUE DIGITS
    echo "$2" | grep -Eqi "^[0-9a-f]{$3}\$" || misuse "$1 takes $3 hexadecimal digits, not '$2'"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root: it loads modules, makes devices and drives pktgen"
}

need_tools() {
    for tool in "$@"; do
        command -v "$tool" > /dev/null || die "$tool is missing (Debian and Ubuntu: iproute2; Amazon Linux: iproute, iproute-tc)"
    done
    ip link help geneve 2>&1 | grep -q innerprotoinherit ||
        die "this ip cannot make a geneve device that inherits the inner protocol: iproute2 5.18 or later is needed"
}

# Loaded, built in, or to be loaded now.
need_modules() {
    for module in "$@"; do
        [ -d "/sys/module/$module" ] || modprobe -q "$module" 2> /dev/null ||
            die "the kernel has no module $module (Amazon Linux: look in kernel-modules-extra; clouds' own kernels may lack it)"
    done
    [ -d "$PGDIR" ] || die "pktgen is loaded and $PGDIR is not there: is this a container?"
}

# The GWLB options of RFC 8926's form: class 0x0108, endpoint id, attachment id, flow cookie.
geneve_options() { # ENDPOINT ATTACHMENT COOKIE
    echo "0108:01:$1,0108:02:$2,0108:03:$3"
}

# The pedit words that turn pktgen's payload into a template's. Offsets count from the inner IPv4 header; the payload begins at 28.
# pktgen's own header is 0xbe9be955, its sequence number, and the time in seconds and in microseconds, 32 bits each; zeros follow.
template_pedit() { # TEMPLATE
    case $1 in
        any) ;;
        rtp-ts)
            # Version 2, payload type 33, sequence number 1; the time stamp stays pktgen's sequence number; then the sender.
            printf 'munge offset 28 u32 set 0x80210001 munge offset 36 u32 set 0x54494445'
            template_ts 40
            ;;
        srt)
            # A data packet, sequence number 1; a whole message, whose number's lower 26 bits stay pktgen's sequence number;
            # time stamp 0; a destination socket.
            printf 'munge offset 28 u32 set 0x00000001 munge offset 32 u32 set 0xc0000000 retain 0xfc000000'
            printf ' munge offset 36 u32 set 0 munge offset 40 u32 set 0x54494445'
            template_ts 44
            ;;
    esac
}

# Seven null packets (PID 0x1fff), whose continuity counters mean nothing and need not move (ISO/IEC 13818-1 2.4.3.3).
template_ts() { # OFFSET
    offset=$1
    for _ in 1 2 3 4 5 6 7; do
        printf ' munge offset %d u32 set 0x471fff10' "$offset"
        offset=$((offset + 188))
    done
}

# Bytes of the inner IPv4 packet that a template needs; nothing where any size will do.
template_size() { # TEMPLATE
    case $1 in
        rtp-ts) echo $((20 + 8 + 12 + 7 * 188)) ;;
        srt) echo $((20 + 8 + 16 + 7 * 188)) ;;
    esac
}

pg() { # FILE COMMAND...
    file=$1
    shift
    # The file may be written and the command refused: pktgen tells in what it shows, under Result.
    { echo "$*" > "$PGDIR/$file"; } 2> /dev/null || die "pktgen refuses '$*' on $file: $(pg_result "$file")"
}

pg_result() { # FILE
    awk '/^Result:/ { sub(/^Result: */, ""); print }' "$PGDIR/$1" 2> /dev/null
}

# A number behind a word in what pktgen shows of a device.
pg_value() { # DEVICE WORD
    awk -v word="$2:" '{ for (i = 1; i < NF; i++) if ($i == word) { print $(i + 1) + 0; exit } }' "$PGDIR/$1"
}

# Makes the geneve device and the way out. Reads: interface from_ip to_ip to_mac geneve_port.
setup_tunnel() {
    for device in "$GENEVE_DEVICE" "${PG_PREFIX}0"; do
        [ ! -e "/sys/class/net/$device" ] ||
            die "$device is there: another run is under way, or one was killed (remove it with: ip link del $device)"
    done
    ip link add "$GENEVE_DEVICE" type geneve dstport "$geneve_port" external innerprotoinherit ||
        die "cannot make a geneve device on port $geneve_port: is there another one on it?"
    made_devices=$GENEVE_DEVICE
    ip link set "$GENEVE_DEVICE" mtu 9000 up
    if [ -n "$to_mac" ]; then
        # What somebody set by hand is put back at the end; what was learnt is learnt again.
        old_mac=$(ip neigh show "$to_ip" dev "$interface" nud permanent | awk '$1 == "lladdr" || $2 == "lladdr" { print $(NF - 1) }')
        ip neigh replace "$to_ip" lladdr "$to_mac" dev "$interface" nud permanent
        made_neighbour=$to_ip
    fi
    route=$(ip -o route get "$to_ip" from "$from_ip" 2> /dev/null) || route=''
    case "$route " in
        *" dev $interface "*) ;;
        *) die "$to_ip is not reached through $interface from $from_ip but: ${route:-not at all}" ;;
    esac
    # Counts what comes back and ends it there, or the geneve device would hand it to this machine's own network stack.
    if tc qdisc add dev "$interface" clsact 2> /dev/null; then
        made_clsact=yes
    fi
    tc filter add dev "$interface" ingress pref "$RETURN_PREF" protocol ip flower \
        ip_proto udp src_ip "$to_ip" dst_port "$geneve_port" action drop ||
        die "cannot count what comes back on $interface"
    made_filter=yes
}

# Makes one thread's device and its way into the tunnel. Reads: from_ip to_ip geneve_port options template.
setup_device() { # DEVICE
    ip link add "$1" type dummy || die "cannot make a dummy device"
    made_devices="$made_devices $1"
    # Its own chatter (router solicitations) would be wrapped and counted too.
    echo 1 > "/proc/sys/net/ipv6/conf/$1/disable_ipv6" 2> /dev/null || :
    ip link set "$1" mtu 9000 up
    tc qdisc add dev "$1" clsact
    pedit=$(template_pedit "$template")
    # Unquoted: words for tc.
    # shellcheck disable=SC2086
    tc filter add dev "$1" egress protocol ip matchall \
        ${pedit:+action pedit $pedit pipe} \
        action tunnel_key set src_ip "$from_ip" dst_ip "$to_ip" dst_port "$geneve_port" id 0 ttl 64 nocsum \
        geneve_opts "$options" pipe \
        action mirred egress redirect dev "$GENEVE_DEVICE" ||
        die "tc refuses the way from pktgen to GENEVE"
}

# How many packets came back.
returned() {
    tc -s filter show dev "$interface" ingress pref "$RETURN_PREF" |
        awk '$1 == "Sent" && $5 ~ /^pkt/ { print $4; found = 1; exit } END { if (!found) print 0 }'
}

# A counter of the real interface.
statistic() { # NAME
    cat "/sys/class/net/$interface/statistics/$1"
}

# Removes what was made, whatever of it is there, in an order in which nothing sends any more.
cleanup() {
    trap '' INT TERM HUP
    [ -z "$sleeper" ] || kill "$sleeper" 2> /dev/null
    if [ -n "$generator" ]; then
        echo stop > "$PGDIR/pgctrl" 2> /dev/null
        wait "$generator" 2> /dev/null
        generator=''
    fi
    case $made_devices in
        *"$PG_PREFIX"*) echo reset > "$PGDIR/pgctrl" 2> /dev/null ;;
    esac
    for device in $made_devices; do
        ip link del "$device" 2> /dev/null
    done
    if [ -n "$made_clsact" ]; then
        tc qdisc del dev "$interface" clsact 2> /dev/null
    elif [ -n "$made_filter" ]; then
        tc filter del dev "$interface" ingress pref "$RETURN_PREF" 2> /dev/null
    fi
    if [ -n "$made_neighbour" ] && [ -n "$old_mac" ]; then
        ip neigh replace "$made_neighbour" lladdr "$old_mac" dev "$interface" nud permanent
    elif [ -n "$made_neighbour" ]; then
        ip neigh del "$made_neighbour" dev "$interface" 2> /dev/null
    fi
    made_devices='' made_filter='' made_clsact='' made_neighbour=''
}

# Removes what a run left that was killed outright. A clsact on the interface stays: it may be somebody else's.
clean_leftovers() {
    made_filter=yes
    for path in /sys/class/net/"$PG_PREFIX"[0-9]* "/sys/class/net/$GENEVE_DEVICE"; do
        [ ! -e "$path" ] || made_devices="$made_devices ${path##*/}"
    done
    cleanup
}

# From here on whatever ends the script removes what it made.
clean_up_at_the_end() {
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
