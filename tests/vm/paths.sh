#!/bin/sh
# Ways to a peer on rxe other than the usual: IPv6, a GID given by index, ends of different MTU.
#
# usage: paths.sh ipv6|gid|mtu
. /lab/lab.sh
. /lab/tests/check.sh

# talk SERVER-DEVICE SERVER-ADDRESS CLIENT-DEVICE CLIENT-ADDRESS: 50 round trips; what the client
# says is in client.log.
talk()
{
    rm -f server.log
    smt_lat -e --once --plaintext -p 0 -d "$1" --bind "$2" >server.log 2>&1 &
    SERVER=$!
    wait_until 60 grep -q 'port [0-9]' server.log
    PORT=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log | head -n 1)
    smt_lat -e -v --plaintext -p "$PORT" -d "$3" --bind "$4" -s 3000 -n 50 --verify \
        --deadline 60 "$2" >client.log 2>&1 || { cat client.log server.log; fail "client"; }
    cat client.log
    server_ended
}

# What lab_open does for IPv4.
lab_ipv6()
{
    ip -6 address add $1/128 dev va nodad && ip -6 address add $2/128 dev vb nodad &&
        ip -6 rule add pref 10 iif va lookup local && ip -6 rule add pref 11 iif vb lookup local &&
        ip -6 rule add pref 50 lookup 50 && ip -6 rule add pref 100 lookup local &&
        ip -6 rule delete pref 0 &&
        ip -6 route replace $2/128 dev va src $1 table 50 &&
        ip -6 route replace $1/128 dev vb src $2 table 50
}

lab_no_ipv6()
{
    ip -6 rule add pref 0 lookup local
    for pref in 10 11 50 100; do
        ip -6 rule delete pref $pref
    done
    ip -6 route flush table 50
    ip -6 address delete $1/128 dev va
    ip -6 address delete $2/128 dev vb
}

ipv6()
{
    traffic_begin
    lab_ipv6 fd00:9::1 fd00:9::2 || fail "no IPv6 in the lab"
    trap 'lab_no_ipv6 fd00:9::1 fd00:9::2 2>/dev/null' EXIT
    talk ud:rxe0 fd00:9::1 ud:rxe1 fd00:9::2
    grep -q 'Peer  *: \[fd00:9::1\]' client.log || fail "that was not IPv6"
    traffic_through ud 100
}

gid()
{
    traffic_begin
    talk ud:rxe0,gid=1 $IP0 ud:rxe1,gid=1 $IP1
    traffic_through ud 100
}

# The smaller MTU is used, and the log says so and what helps.
mtu()
{
    traffic_begin
    ip link set vb mtu 1500
    talk ud:rxe0 $IP0 ud:rxe1 $IP1
    grep -q 'MTU  *: 1024' client.log || fail "another MTU was used"
    grep -q 'this port carries 1024 bytes in a packet, 10.9.0.1:[0-9]* 4096; 1024 are used' \
        client.log || fail "nothing was said of it"
    grep -q 'the interface at this end an MTU of 4192 or more' client.log || fail "no remedy"
    traffic_through ud 150
}

"$1"
