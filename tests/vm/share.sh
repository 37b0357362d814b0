#!/bin/sh
# A server of two threads on one port, a queue pair each. Sessions choose between them by chance, and
# a packet that went to the wrong one would be lost: all calls of 16 sessions are answered.
. /lab/lab.sh
. /lab/tests/check.sh

N=100
sessions=8 threads=2

qps_of()
{
    rdma resource show qp | grep -c "link $1/.*type UD"
}

traffic_begin
serve ud smt_lat -e -T $threads --share-port --once
[ "$(qps_of rxe0)" = $threads ] || fail "the server has not $threads queue pairs"
client ud smt_lat -e -T $threads -S $sessions -s 4096 -n $N --verify --json=result.json ||
    fail "the client's exit code is $?"
server_ended
grep -q '"errors": 0' result.json || { cat result.json; fail "calls failed"; }
traffic_through ud $((2 * N * threads))
