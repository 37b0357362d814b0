/* The device `mlx5` over the model of a NIC (LD_PRELOAD): all devices on one port that also hears
 * itself, over an interface of the private network. */
#include <stdlib.h>

#include "conform/conform.h"

/* An Ethernet interface in the private network: the model takes MAC and addresses from it. */
static void veth(void)
{
    static bool is_there;
    if (!is_there && system("ip link add mx0 type veth peer name mx1 && "
                            "ip addr add 10.98.0.1/24 dev mx0 && "
                            "ip addr add fd98::1/64 dev mx0 nodad && "
                            "ip link set mx0 up && ip link set mx1 up") != 0)
        abort();
    is_there = true;
}

const struct conform_row conform_rows[] = {
    {.name = "mlx5-model",
     .n_rx = 4,
     .prepare = veth,
     .address = "10.98.0.1",
     .spec = "mlx5",
     .bind_host = "10.98.0.1"},
    {.name = "mlx5-model-v6", .n_rx = 4, .prepare = veth, .address = "fd98::1", .spec = "mlx5:mx0"},
    {.name = "tap-mlx5-model",
     .n_rx = 4,
     .prepare = veth,
     .address = "10.98.0.1",
     .spec = "mlx5:,crypto=cpu",
     .bind_host = "10.98.0.1",
     .tap = "seed=7"},
    /* Packets of another profile begin with their ports. */
    {.name = "mlx5-model-ip",
     .n_rx = 4,
     .prepare = veth,
     .open = conform_ip_open,
     .ip_protocol = 146,
     .address = "10.98.0.1",
     .spec = "mlx5",
     .bind_host = "10.98.0.1",
     .faults = conform_ip_faults,
     .n_faults = CONFORM_IP_FAULTS},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);
