#!/bin/sh
# Hand-made RoCE v2 frames at an endpoint with a live session: nothing changes but counters of what
# was dropped, and calls go on meanwhile. roce_kernel has shown that such frames arrive.
. /lab/lab.sh
. /lab/tests/check.sh

export SMT_CERT=/lab/certs/server.pem SMT_KEY=/lab/certs/server.key SMT_CA=/lab/certs/ca.pem

logs()
{
    grep -v ^counter server.log | tail -n 20
    grep -v ^counter caller.log | tail -n 20
}
trap logs EXIT

n_tellings()
{
    grep -c '^counters end' "$1"
}

told_more()
{
    [ "$(n_tellings "$1")" -gt "$2" ]
}

# counters PID LOG FILE: what the process counts now.
counters()
{
    local before
    before=$(n_tellings "$2")
    kill -USR1 "$1"
    wait_until 30 told_more "$2" "$before"
    awk '/^counters end/ { last = now; now = ""; next } /^counter|^total/ { now = now $0 "\n" }
        END { printf "%s", last }' "$2" >"$3"
}

value()
{
    sed -n "s/^counter $1 //p" "$2"
}

n_ok()
{
    counters "$CALLER" caller.log ok
    sed -n 's/^total \([0-9]*\) .*/\1/p' ok
}

# quiet GROUP N: what the server counts while its peer says nothing and N frames of each kind come.
quiet()
{
    counters $SERVER server.log before
    rcvd=$(lab_counter rxe0 rcvd_pkts)
    roce_smt "$PORT" "$CALLER_PORT" "$2" "$1" || fail "roce_smt"
    sleep 2
    counters $SERVER server.log after
    echo "rxe0 received $(($(lab_counter rxe0 rcvd_pkts) - rcvd)) of them"
    diff before after | sed -n 's/^\([-+]\)counter /\1 /p' | sort -k2 >changed
    cat changed
}

vm_echo serve ud:rxe0 $IP0 0 >server.log 2>&1 &
SERVER=$!
wait_until 60 grep -q '^port' server.log
PORT=$(sed -n 's/^port //p' server.log)
SMT_CERT=/lab/certs/client.pem SMT_KEY=/lab/certs/client.key \
    vm_echo call ud:rxe1 $IP1 $IP0:"$PORT" >caller.log 2>&1 &
CALLER=$!
wait_until 60 grep -q '^calls succeed' caller.log
CALLER_PORT=$(sed -n 's/^port //p' caller.log)
sleep 3

kill -USR2 $CALLER
sleep 2
quiet dies 20
! grep -v -E ' dev_rx_calls ' changed | grep . || fail "the device has noticed these"
quiet arrives 20
# Received, and dropped or counted as such: no session, no reply, no handshake.
! grep -v -E ' (dev_rx_[a-z]*|bytes_rcvd|drop_[a-z_]*) ' changed | grep . ||
    fail "more than counters of received and dropped packets has changed"
grep -q -E ' (dev_rx_dropped|drop_[a-z_]*) ' changed || fail "nothing was counted"
# The queue pair is reset, and what had been sent last without being heard of is counted too. Now
# and then the kernel's completion queue overflows at this, and all queues are made anew.
quiet breaks 5
! grep -v -E ' (dev_rx_[a-z]*|bytes_rcvd|drop_[a-z_]*|dev_tx_errors|dev_rebuilds) ' changed | grep . ||
    fail "more than counters has changed"
kill -USR2 $CALLER

# The same during calls.
OK=$(n_ok)
for _ in 1 2 3 4 5; do
    roce_smt "$PORT" "$CALLER_PORT" 20 dies || fail "roce_smt"
    roce_smt "$PORT" "$CALLER_PORT" 20 arrives || fail "roce_smt"
    roce_smt "$PORT" "$CALLER_PORT" 1 breaks || fail "roce_smt"
    sleep 1
done
sleep 3
counters $CALLER caller.log ok
grep ^total ok
[ "$(sed -n 's/^total \([0-9]*\) .*/\1/p' ok)" -ge $((OK + 50)) ] || fail "calls came to a halt"
grep -q '^total [0-9]* 0$' ok || fail "calls have failed"
counters $SERVER server.log after
[ "$(value handshakes_ok after)" = 1 ] || fail "another handshake"
[ "$(value sessions after)" = 1 ] || fail "another session"
kill -TERM $CALLER
wait $CALLER || fail "the caller"
kill -TERM $SERVER
wait $SERVER || fail "the server"
