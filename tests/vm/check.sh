# shellcheck shell=sh
# What the checks in the guest share; after /lab/lab.sh.

fail()
{
    echo "failed: $*"
    exit 1
}

skip()
{
    echo "skip: $*"
    exit 77
}

# wait_until SECONDS COMMAND...: the seconds are those of a machine that has nothing else to do.
wait_until()
{
    local end=$(($(date +%s) + 4 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $end ] || fail "waited in vain for: $*"
        sleep 0.1
    done
}

listening()
{
    netstat -lnt | grep -q ":$1 "
}

wait_listening()
{
    wait_until 30 listening "$1"
}

# at DEVICE END: the device's name for the tools at that end (0 or 1) of the veth.
at()
{
    case $1 in
    ud) echo "ud:rxe$2" ;;
    *) echo "$1" ;;
    esac
}

# Programs that poll leave the kernel's receiving thread no CPU until the scheduler insists, 4 ms
# later; lowest priority makes them yield at once.
paced()
{
    case $1 in
    polling) echo "nice -n 19" ;;
    events) echo "" ;;
    esac
}

credentials()
{
    echo "--cert /lab/certs/$1.pem --key /lab/certs/$1.key --ca /lab/certs/ca.pem"
}

# serve DEVICE COMMAND...: a server at end 0 in the background; its number in $SERVER, its port in
# $PORT, what it says in server.log.
serve()
{
    local device
    device=$(at "$1" 0)
    shift
    rm -f server.log # of an earlier server
    "$@" -d "$device" -p 0 --bind $IP0 $(credentials server) >server.log 2>&1 &
    SERVER=$!
    PORT=
    for _ in $(seq 600); do
        PORT=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log | head -n 1)
        [ -z "$PORT" ] || return 0
        kill -0 $SERVER 2>/dev/null || break
        sleep 0.1
    done
    cat server.log
    fail "the server did not start"
}

# client DEVICE COMMAND...: a client at end 1 of the server.
client()
{
    local device
    device=$(at "$1" 1)
    shift
    "$@" -d "$device" -p $PORT --bind $IP1 $(credentials client) --deadline 60 $IP0
}

server_ended()
{
    local code=0
    wait $SERVER || code=$?
    [ $code = 0 ] || { cat server.log; fail "the server's exit code is $code"; }
}

# What the interfaces carry until traffic_through.
traffic_begin()
{
    LO_BEFORE=$(lab_packets lo) VA_BEFORE=$(lab_packets va)
    RXE_BEFORE=$(($(lab_counter rxe0 rcvd_pkts) + $(lab_counter rxe1 rcvd_pkts)))
}

# traffic_through DEVICE N: at least N packets crossed the veth, by RDMA if that is the device, and
# loopback stayed still.
traffic_through()
{
    local lo=$(($(lab_packets lo) - LO_BEFORE)) va=$(($(lab_packets va) - VA_BEFORE))
    local rxe=$(($(lab_counter rxe0 rcvd_pkts) + $(lab_counter rxe1 rcvd_pkts) - RXE_BEFORE))
    echo "packets: $rxe received by rxe0 and rxe1, $va over the veth, $lo over lo"
    if [ "$1" = ud ]; then
        [ $rxe -ge "$2" ] || fail "only $rxe packets came in at the RDMA devices"
        [ $va -ge "$2" ] || fail "only $va packets crossed the veth"
    else
        # The kernel carries many datagrams of one flow as one packet.
        [ $rxe -eq 0 ] || fail "$rxe packets came in at the RDMA devices"
        [ $va -ge $(($2 / 20)) ] || fail "only $va packets crossed the veth"
    fi
    [ $lo -eq 0 ] || fail "$lo packets went over loopback"
}
