#!/bin/sh
# 1,000 sessions between two processes over one queue pair at each end.
. /lab/lab.sh
. /lab/tests/check.sh

N=1000
echo "us:00112233445566778899aabbccddeeff" >psk
export SMT_PSK_FILE=psk

qps_of()
{
    rdma resource show qp | grep -c "link $1/.*type UD"
}

traffic_begin
vm_echo serve ud:rxe0 $IP0 0 >server.log 2>&1 &
SERVER=$!
wait_until 60 grep -q '^port' server.log
PORT=$(sed -n 's/^port //p' server.log)
vm_echo call ud:rxe1 $IP1 $IP0:"$PORT" $N $N >caller.log 2>&1 &
CALLER=$!
wait_until 300 grep -q '^up' caller.log
rdma resource show qp
[ "$(qps_of rxe0)" = 1 ] && [ "$(qps_of rxe1)" = 1 ] || fail "more than one queue pair is in use"
wait $CALLER || { r=$?; cat caller.log; fail "the caller's exit code is $r"; }
cat caller.log
kill -USR1 $SERVER
wait_until 30 grep -q '^counters end' server.log
grep -E 'handshakes_ok|dev_tx_calls|dev_tx_packets' server.log
grep -q "^counter handshakes_ok $N\$" server.log || fail "not $N handshakes"
kill -TERM $SERVER
wait $SERVER || fail "the server's exit code is $?"
traffic_through ud $((6 * N))
