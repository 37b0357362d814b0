#!/bin/sh
# What people are told: smt_info explains each device, and every environment in which `ud` cannot
# work has its sentence with the remedy in it.
#
# usage: env.sh info|refused|limits|no-answer
. /lab/lab.sh
. /lab/tests/check.sh

# says WORDS COMMAND...: the command fails and WORDS stand in what it says.
says()
{
    local words=$1
    shift
    if "$@" >said 2>&1; then
        cat said
        fail "this did not fail: $*"
    fi
    cat said
    grep -qF -- "$words" said || fail "\"$words\" is not what was said by: $*"
}

# As somebody who is not root.
nobody()
{
    su nobody -s /bin/sh -c "$*"
}

info()
{
    smt_info >info || fail "smt_info"
    sed -n '/^devices/,/^$/p' info
    for end in 0 1; do
        local dev=va
        [ $end = 0 ] || dev=vb
        grep -q "^  ud:rxe$end  *usable  *RoCE, .*port 1 active on $dev, 4096 bytes" info ||
            fail "rxe$end is not explained"
        grep -q "1 10\.9\.0\.$((end + 1)) (RoCE v2, used)" info || fail "GID of rxe$end"
    done
    grep -q '"ud" takes this: the first usable one' info || fail "which one is plain ud"
    ip link set vb down
    smt_info >info
    sed -n '/^  ud:rxe1/,/^  ud:rxe0/p' info
    grep -q "^  ud:rxe1  *not usable" info || fail "a port that is down is usable"
    grep -q "ip link set vb up" info || fail "no remedy"
}

lat()
{
    timeout 20 smt_lat --plaintext -p 0 "$@"
}

lab_again()
{
    ip address replace $IP0/32 dev va
    [ -e /dev/infiniband ] || mv /dev/elsewhere /dev/infiniband
    lab_reset
}

refused()
{
    says 'no RDMA device or network interface "nothing"; there is: rxe' lat -d ud:nothing
    says 'rxe0 (va)' lat -d ud:nothing
    says 'network interface "lo" carries no RDMA port' lat -d ud:lo
    says 'GID 9 is empty' lat -d ud:rxe0 -x 9
    says 'no GID of type RoCE v2 for the local address 10.9.0.77' lat -d ud --bind 10.9.0.77
    says 'the device udp knows one option' lat -x 1

    trap lab_again EXIT
    ip link set va mtu 1000
    says 'carries 512 bytes in a packet, 1024 are needed' lat -d ud:rxe0
    says 'ip link set va mtu 1500' lat -d ud:rxe0
    ip link set va down
    says 'ip link set va up' lat -d ud:rxe0
    lab_links && lab_wait_active
    ip address flush dev va
    says 'the interface has no address: ip addr add' lat -d ud:rxe0
    ip address add $IP0/32 dev va && lab_links

    chmod 600 /dev/infiniband/uverbs*
    says 'no permission on /dev/infiniband/uverbs' nobody smt_lat --plaintext -p 0 -d ud:rxe0
    mv /dev/infiniband /dev/elsewhere
    says 'no /dev/infiniband/uverbs*; modprobe ib_uverbs, and in a container pass' lat -d ud:rxe0
    mv /dev/elsewhere /dev/infiniband
    chmod 666 /dev/infiniband/uverbs*
    modprobe -r rdma_rxe 2>/dev/null || rdma link delete rxe0
    rdma link delete rxe1 2>/dev/null
    says 'modprobe rdma_rxe; rdma link add' lat -d ud
    lab_again || fail "the lab does not come back"
}

# Locked memory: small is enough for less, too small says how much is needed.
limits()
{
    local limit
    says 'LimitMEMLOCK=infinity' nobody "ulimit -l 64; smt_lat --plaintext -p 0 -d ud:rxe0"
    says '--ulimit memlock=-1' nobody "ulimit -l 64; smt_lat --plaintext -p 0 -d ud:rxe0"
    says 'this process may lock 64 kB' nobody "ulimit -l 64; smt_lat --plaintext -p 0 -d ud:rxe0"
    for limit in 2048 8192; do
        rm -f server.log
        nobody "ulimit -l $limit; exec smt_lat --plaintext -p 0 -d ud:rxe0 --once" \
            >server.log 2>&1 &
        SERVER=$!
        wait_until 60 grep -q 'port [0-9]' server.log
        PORT=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log | head -n 1)
        nobody "ulimit -l $limit; smt_lat --plaintext -e -d ud:rxe1 -p $PORT -s 3000 -n 50 \
            --deadline 60 $IP0" || fail "with $limit kB"
        wait $SERVER || { cat server.log; fail "server with $limit kB"; }
    done
}

# A peer on udp does not answer the queries of ud, and the user is told.
no_answer()
{
    smt_lat --plaintext -e -p 0 --bind $IP0 >server.log 2>&1 &
    SERVER=$!
    wait_until 60 grep -q 'port [0-9]' server.log
    PORT=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log | head -n 1)
    says 'resolve queries (UDP)' smt_lat --plaintext -e -d ud:rxe1 -p "$PORT" -n 1 --deadline 10 $IP0
    says 'a udp peer does not answer' smt_lat --plaintext -e -d ud:rxe1 -p "$PORT" -n 1 \
        --deadline 10 $IP0
    kill $SERVER
}

"$(echo "$1" | tr - _)"
