# shellcheck shell=sh
# Two Soft-RoCE devices, rxe0 and rxe1, on the two ends of one veth in one network namespace (the
# kernel's rxe serves no other). Addresses of this host are local to it, so frames would go over
# loopback; the rules below send what goes to the other end's address through the veth:
#   what comes in on an end is looked up as local; what goes out is sent to the other end;
#   only then the rest of the local addresses.
# Sourced by init and by the checks.

IP0=10.9.0.1 IP1=10.9.0.2 # of va with rxe0 and vb with rxe1
LAB_MTU=4200              # room for RoCE's largest MTU of 4096

lab_links()
{
    ip link set va up mtu $LAB_MTU && ip link set vb up mtu $LAB_MTU &&
        ip route replace $IP1/32 dev va src $IP0 table 50 &&
        ip route replace $IP0/32 dev vb src $IP1 table 50
}

lab_rxe()
{
    [ -e /sys/class/infiniband/rxe0 ] || rdma link add rxe0 type rxe netdev va || return 1
    [ -e /sys/class/infiniband/rxe1 ] || rdma link add rxe1 type rxe netdev vb || return 1
    chmod 666 /dev/infiniband/uverbs*
}

lab_open()
{
    modprobe -a veth rdma_rxe ib_uverbs af_packet sch_netem &&
        ip link set lo up &&
        ip link add va type veth peer name vb &&
        for end in va vb; do
            echo 0 >/proc/sys/net/ipv4/conf/$end/rp_filter &&
                echo 1 >/proc/sys/net/ipv4/conf/$end/accept_local || return 1
        done &&
        ip address add $IP0/32 dev va && ip address add $IP1/32 dev vb &&
        ip rule add pref 10 iif va lookup local && ip rule add pref 11 iif vb lookup local &&
        ip rule add pref 50 lookup 50 && ip rule add pref 100 lookup local &&
        ip rule delete pref 0 &&
        lab_links && lab_rxe && lab_wait_active
}

# Ports follow their link with a delay.
lab_wait_active()
{
    for _ in $(seq 200); do
        if grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state &&
            grep -q ACTIVE /sys/class/infiniband/rxe1/ports/1/state; then
            return 0
        fi
        sleep 0.05
    done
    echo "a port of rxe0 or rxe1 did not become active"
    return 1
}

# Whatever the check before us did.
lab_reset()
{
    tc qdisc delete dev va root 2>/dev/null
    tc qdisc delete dev vb root 2>/dev/null
    lab_links && lab_rxe && lab_wait_active
}

# lab_loss PERCENT: lost on the way in either direction.
lab_loss()
{
    tc qdisc replace dev va root netem limit 10000 loss "$1%" &&
        tc qdisc replace dev vb root netem limit 10000 loss "$1%"
}

# Packets that an interface has sent and received.
lab_packets()
{
    echo $(($(cat "/sys/class/net/$1/statistics/tx_packets") +
        $(cat "/sys/class/net/$1/statistics/rx_packets")))
}

# lab_counter DEVICE NAME: of RDMA, such as sent_pkts.
lab_counter()
{
    cat "/sys/class/infiniband/$1/ports/1/hw_counters/$2"
}
