#!/bin/sh
# That the lab itself is sound, by other people's programs: rxe devices, frames over the veth.
. /lab/lab.sh
. /lab/tests/check.sh

devices()
{
    local dev
    for dev in rxe0 rxe1; do
        ibv_devinfo -v -d $dev >$dev.txt || fail "ibv_devinfo -d $dev"
        grep -E 'state:|active_mtu|link_layer|GID\[' $dev.txt
        grep -q 'state:.*PORT_ACTIVE' $dev.txt || fail "$dev is not active"
        grep -q 'active_mtu:.*4096' $dev.txt || fail "$dev has not the MTU of 4096"
        grep -q 'GID\[ *1\].*::ffff:10.9.0.*RoCE v2' $dev.txt || fail "GID 1 is not the address"
    done
}

pingpong()
{
    traffic_begin
    ibv_ud_pingpong -d rxe0 -g 1 -s 1024 -n 200 &
    wait_listening 18515
    ibv_ud_pingpong -d rxe1 -g 1 -s 1024 -n 200 $IP0 || fail "client"
    wait $! || fail "server"
    traffic_through ud 400
}

perftest()
{
    traffic_begin
    ib_send_lat -d rxe0 -x 1 -c UD -s 1024 -n 200 &
    wait_listening 18515
    ib_send_lat -d rxe1 -x 1 -c UD -s 1024 -n 200 $IP0 || fail "client"
    wait $! || fail "server"
    traffic_through ud 400
}

"$@"
