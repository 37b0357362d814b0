#!/bin/sh
# What a session over rxe outlives: its peer killed and started again with a new queue pair, the
# link down and up, completion queues that fail at both ends; and how it ends when its device is
# removed under traffic.
#
# usage: life.sh restart|link|queues|removed-here|removed-there
. /lab/lab.sh
. /lab/tests/check.sh

export SMT_CERT=/lab/certs/server.pem SMT_KEY=/lab/certs/server.key SMT_CA=/lab/certs/ca.pem
FIXED_PORT=28515
ECHO=vm_echo

server_begin()
{
    $ECHO serve ud:rxe0 $IP0 $FIXED_PORT >server.log 2>&1 &
    SERVER=$!
    wait_until 60 grep -q '^port' server.log
}

caller_begin()
{
    SMT_CERT=/lab/certs/client.pem SMT_KEY=/lab/certs/client.key \
        $ECHO call ud:rxe1 $IP1 $IP0:$FIXED_PORT >caller.log 2>&1 &
    CALLER=$!
    wait_until 60 grep -q '^calls succeed' caller.log
}

logs()
{
    tail -n 40 server.log caller.log
}
trap logs EXIT

# How often the caller's log has a line.
n_lines()
{
    grep -c "^$1" caller.log
}

more_than()
{
    [ "$(n_lines "$2")" -gt "$1" ]
}

# Calls that have succeeded so far.
n_ok()
{
    : >caller.told
    local before
    before=$(n_lines 'counters end')
    kill -USR1 $CALLER
    wait_until 30 more_than "$before" 'counters end'
    grep '^total' caller.log | tail -n 1 | cut -d' ' -f2
}

# progress SECONDS: ten more calls succeed within that time.
ten_more()
{
    [ "$(n_ok)" -ge $((OK_BEFORE + 10)) ]
}

progress()
{
    OK_BEFORE=$(n_ok)
    wait_until "$1" ten_more
}

end_caller()
{
    kill -TERM $CALLER
    wait $CALLER || fail "the caller's exit code is $?"
    grep '^failed' caller.log && fail "the caller"
    return 0
}

end_server()
{
    kill -TERM $SERVER
    wait $SERVER || fail "the server's exit code is $?"
}

restart()
{
    traffic_begin
    server_begin
    caller_begin
    for _ in 1 2 3; do
        progress 60
        kill -KILL $SERVER
        wait $SERVER
        server_begin
        progress 120
    done
    end_caller
    end_server
    traffic_through ud 100
}

link()
{
    server_begin
    caller_begin
    progress 60
    ip link set va down
    wait_until 60 grep -q '^event DEVICE_DOWN' caller.log server.log
    sleep 1
    lab_links
    lab_wait_active
    wait_until 60 grep -q '^event DEVICE_UP' caller.log server.log
    progress 120
    # The other end, and only for a moment.
    ip link set vb down
    lab_links
    lab_wait_active
    progress 120
    end_caller
    end_server
}

# How often the process PID, which writes to LOG, has made its queues anew.
n_rebuilds()
{
    local before
    before=$(grep -c '^counters end' "$2")
    kill -USR1 "$1"
    wait_until 30 told_more "$2" "$before"
    grep '^counter dev_rebuilds' "$2" | tail -n 1 | cut -d' ' -f3
}

told_more()
{
    [ "$(grep -c '^counters end' "$1")" -gt "$2" ]
}

rebuilt_thrice()
{
    [ "$(n_rebuilds "$1" "$2")" -ge 3 ]
}

queues()
{
    ECHO=vm_echo_cq_error
    export VM_CQ_ERROR_MS=3000 # time for something to arrive, or the device might be given up
    server_begin
    caller_begin
    wait_until 60 rebuilt_thrice $SERVER server.log
    wait_until 60 rebuilt_thrice $CALLER caller.log
    progress 60
    end_caller
    end_server
    ! grep -E '^event (SESSION_DOWN|DEVICE)' caller.log server.log || fail "somebody was told of it"
    grep -q '^total [0-9]* 0$' caller.log || fail "calls have failed"
}

gone()
{
    ! kill -0 "$1"
}

# remove DEVICE USER: Soft-RoCE cannot take a device from a process, so the command sleeps, deaf to
# signals, until its user has noticed and closed it.
remove()
{
    rdma link delete "$1" &
    DELETE=$!
    wait_until 60 gone "$2"
    wait_until 60 gone $DELETE
}

# The server's device goes: the server ends with a clear word, the caller goes on with the next
# server on a new device of the same name.
removed_there()
{
    server_begin
    caller_begin
    progress 60
    remove rxe0 $SERVER
    wait $SERVER
    [ $? = 4 ] || fail "the server's exit code is not that of a lost device"
    grep -q '^event DEVICE_LOST' server.log || fail "the server has not said DEVICE_LOST"
    lab_rxe
    lab_wait_active
    server_begin
    progress 120
    end_caller
    end_server
}

removed_here()
{
    server_begin
    caller_begin
    progress 60
    remove rxe1 $CALLER
    wait $CALLER
    [ $? = 4 ] || fail "the caller's exit code is not that of a lost device"
    grep -q '^event DEVICE_LOST' caller.log || fail "the caller has not said DEVICE_LOST"
    grep '^lost:' caller.log
    lab_rxe
    lab_wait_active
    caller_begin
    progress 60
    end_caller
    end_server
}

"$(echo "$1" | tr - _)"
