"""What scripts/demo says of RDMA, from what smt_info says of devices."""
import subprocess
import sys

LIB = sys.argv[1]
UDP = ("libsmt-verbs 0.1.0, profile smt2, OpenSSL 3, Linux 6.1\n\ndevices\n"
       "  udp          usable     UDP sockets, IPv6 and IPv4\n"
       "               offload    kernel: segmentation yes; the CPU seals\n")
NONE = "  ud           not usable RDMA by libibverbs\n               why        no RDMA device\n"
DOWN = ("  ud:mlx5_1    not usable RoCE, driver mlx5_core, port 1 down on eth1\n"
        "               GIDs       0 fe80::1 (RoCE v1), 1 192.0.2.9 (RoCE v2)\n"
        "               why        port 1 is down\n")
RXE = ("  ud:rxe0      usable     RoCE, driver rxe, port 1 active on va, 1024 bytes a packet\n"
       "               offload    none\n"
       "               GIDs       0 fe80::1 (RoCE v2, not an address), 1 {} (RoCE v2, used)\n")
IB = ("  ud:mlx4_0,port=2 usable     InfiniBand, driver mlx4, port 2 active on ib1, LID 7\n"
      "               GIDs       0 fe80::2:c903:1:2 (InfiniBand, used)\n")
REST = "\nciphers\n  aes-128-gcm  openssl    works\n"
CASES = [
    (UDP + NONE + REST, None, None),
    (UDP + DOWN + REST, None, None),
    (UDP + RXE.format("192.0.2.1") + REST, "ud:rxe0", "192.0.2.1"),
    (UDP + DOWN + RXE.format("2001:db8::5") + REST, "ud:rxe0", "2001:db8::5"),
    (UDP + IB + RXE.format("192.0.2.1") + REST, "ud:mlx4_0,port=2", "ADDRESS"),
    ("", None, None),
]

failed = 0
for text, device, host in CASES:
    said = subprocess.run(["bash", "-euc", '. "$0"; rdma_hint /b/tools', LIB], input=text,
                          text=True, capture_output=True, check=True).stdout
    lines = said.splitlines()
    if device is None:
        good = said == ""
    else:
        good = (f"There is RDMA: {device}" in lines[0] and lines[2].endswith(f"-n {host} certs")
                and f"/b/tools/smt_bw -d {device} --cert certs/server" in lines[3]
                and lines[4].endswith(f" {host}") and len(lines) == 5)
    if not good:
        failed += 1
        print(f"--- of\n{text}--- it says\n{said}")
sys.exit(failed > 0)
