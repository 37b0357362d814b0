#!/usr/bin/env python3
"""Our tools speak the kernel's formats to each other over raw IP sockets between two network
namespaces: all profiles, 1 to 1,000,000 bytes, 5 % loss, each end in each role, IPv4 and IPv6; and
what they say when profile, keys or privilege are wrong. TAP; 77 without root or `ip netns`.

usage: test_netns.py SMT_LAT"""
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

LAT = os.path.abspath(sys.argv[1])
FIRST_PORT = 4000
N_ALONE = 3  # tests at the beginning that change or need the whole network
AT_ONCE = 4  # most of a lossy run is waiting
LOSS = "drop=0.05"
# On each end its link: what it sends goes past the kernel's IP.
RING_A, RING_B = ["-d", "ip:va,ring"], ["-d", "ip:vb,ring"]
A4, B4, A6, B6 = "10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2"
CLIENT = "client 8DD230A77A05EB71159129BCBCF64230 87C635C8\n"
SERVER = "server 6CCF62FF4BE61485D8BA29FE2E847A7F B9FA5583\n"
OTHER = "server 0123456789ABCDEF0123456789ABCDEF B9FA5583\n"
ENV = dict(os.environ, LC_ALL="C")


def ip(*words):
    subprocess.run(["ip", *words], check=True, stderr=subprocess.PIPE)


# Each test has a thread, and each thread ports of its own.
local = threading.local()


class Net:
    """Two namespaces and a veth between them."""

    def __init__(self):
        self.a, self.b = f"smtk{os.getpid()}a", f"smtk{os.getpid()}b"

    def __enter__(self):
        try:
            ip("netns", "add", self.a)
            ip("netns", "add", self.b)
            ip("link", "add", "va", "netns", self.a, "type", "veth", "peer", "name", "vb", "netns",
               self.b)
            for ns, dev, v4, v6 in (self.a, "va", A4, A6), (self.b, "vb", B4, B6):
                ip("-n", ns, "addr", "add", v4 + "/24", "dev", dev)
                with contextlib.suppress(subprocess.CalledProcessError):
                    ip("-n", ns, "addr", "add", v6 + "/64", "dev", dev, "nodad")
                ip("-n", ns, "link", "set", dev, "up")
                ip("-n", ns, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as e:
            self.__exit__()
            print(f"1..0 # SKIP no network namespaces here: {e}")
            sys.exit(77)
        return self

    def __exit__(self, *_):
        for ns in self.a, self.b:
            subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def server(ns, *options):
    p = subprocess.Popen(["ip", "netns", "exec", ns, LAT, "-p", str(local.port), "-e", *options], env=ENV,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = p.stdout.readline()
        if "waiting" not in line:
            raise AssertionError("server: " + p.stderr.read())
        yield p
    finally:
        p.terminate()
        p.communicate(timeout=200)


def client(ns, host, *options, limit=400):
    """Exit code and all it said; a client that hangs fails the test."""
    cmd = ["ip", "netns", "exec", ns, LAT, "-p", str(local.port), "-e", *options, host]
    r = subprocess.run(cmd, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=limit)
    return r.returncode, r.stdout


def succeeds(ns, host, *options):
    code, text = client(ns, host, *options)
    assert code == 0, text
    return text


def security(profile, keys):
    return ["--profile", profile] + (["--keys", keys] if profile == "smt1" else [])


def sizes(net, profile, keys, server_ns, client_ns, host, small=True, ours=(), theirs=()):
    """All sizes of a profile between two ends, with loss in both directions."""
    common = [*security(profile, keys), "--tap", LOSS, "--deadline", "200"]
    if small:
        with server(server_ns, *common, *theirs):
            succeeds(client_ns, host, *common, *ours, "--verify", "-a", "--min", "1", "--max",
                     "524288", "-n", "2", "-t", "2")
    with server(server_ns, *common, *theirs):
        said = succeeds(client_ns, host, *common, *ours, "--verify", "-s", "1000000", "-n", "4", "-t", "4",
                        "--json", "-")
        assert f'"profile": "{profile}"' in said, said


SNIFFER = """
import signal, socket, struct, sys
def last(*_):  # what has come by now, and no more
    s.setblocking(False)
signal.signal(signal.SIGTERM, last)
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800))
s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
s.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    try:
        p = s.recv(2048)
    except BlockingIOError:
        break
    n = (p[0] & 15) * 4
    if p[9] == 1 or p[9] >= 146 and int(sys.argv[2]) in struct.unpack_from("!HH", p, n):
        print("%x %x %x %x %x" % (p[0], *struct.unpack_from("!HH", p, 4), p[8], p[9]), flush=True)
"""


@contextlib.contextmanager
def sniffer(ns, link, port, protocol=0):
    """IPv4 headers that cross the link: version and length, identification, flags, TTL, protocol; of
    ours, or of ICMP. Filled when the block ends."""
    seen = []
    p = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", SNIFFER, link,
                          str(port)], stdout=subprocess.PIPE, text=True)
    try:
        p.stdout.readline()
        yield seen
        time.sleep(0.2)
    finally:
        p.terminate()
        lines = p.communicate(timeout=200)[0].splitlines()
        seen += [x for x in lines if x.endswith(" 1") == (protocol == 1)]


def refused(ns, host, *options, word, deadline=100):
    code, text = client(ns, host, "--deadline", str(deadline), "-n", "1", *options)
    assert code != 0, text
    assert word in text, f"no word of \"{word}\" in: {text}"


def tests(net, keys, other_keys):
    def wrong_profile():
        with server(net.a, "--profile", "homa-main"):
            refused(net.b, A4, "--profile", "homa-6.1", word="no such IP protocol")
            refused(net.b, A4, "--profile", "homa-6.1", *RING_B, word="no such IP protocol")
            if os.path.exists("/proc/sys/net/ipv6"):
                refused(net.b, f"[{A6}]", "--profile", "homa-6.1", word="no such IP protocol")
    # First, and alone: no other test's socket must keep the kernel from saying it.
    yield "another profile: the network's word for it, at once", wrong_profile

    def wrong_mtu():
        ip("-n", net.a, "link", "set", "va", "mtu", "1300")
        try:
            with server(net.a, "--profile", "homa-main"):
                refused(net.b, A4, "--profile", "homa-main", "-s", "1400", word="MTU")
        finally:
            ip("-n", net.a, "link", "set", "va", "mtu", "1500")
    yield "ends of different MTU: an error that names it", wrong_mtu

    def silent():
        main = ["--profile", "homa-main"]
        with server(net.a, *main, *RING_A), sniffer(net.a, "va", local.port, protocol=1) as seen:
            succeeds(net.b, A4, *main, *RING_B, "-n", "50")
            # Nobody has this port, but the protocol has an endpoint.
            code, text = client(net.b, A4, *main, *RING_B, "-p", str(local.port + 500), "-n", "1",
                                "--deadline", "3")
            assert code != 0, text
        assert not seen, f"ICMP: {seen}"
    yield "behind a ring the kernel keeps quiet", silent

    for profile in "homa-main", "homa-6.1", "smt1":
        yield (f"{profile}: 1 to 1,000,000 bytes, 5 % loss",
               lambda p=profile: sizes(net, p, keys, net.a, net.b, A4))
        yield (f"{profile}: the ends change places",
               lambda p=profile: sizes(net, p, keys, net.b, net.a, B4, small=False))
    if os.path.exists("/proc/sys/net/ipv6"):
        yield ("homa-main over IPv6",
               lambda: sizes(net, "homa-main", keys, net.a, net.b, f"[{A6}]", small=False))

    for profile in "homa-main", "homa-6.1", "smt1":
        yield (f"{profile} by rings: 1 to 1,000,000 bytes, 5 % loss",
               lambda p=profile: sizes(net, p, keys, net.a, net.b, A4, ours=RING_B, theirs=RING_A))
    yield ("a ring at one end, raw sockets at the other",
           lambda: (sizes(net, "smt1", keys, net.a, net.b, A4, small=False, ours=RING_B),
                    sizes(net, "homa-main", keys, net.a, net.b, A4, small=False, theirs=RING_A)))
    if os.path.exists("/proc/sys/net/ipv6"):
        yield ("homa-main by rings over IPv6",
               lambda: sizes(net, "homa-main", keys, net.a, net.b, f"[{A6}]", small=False,
                             ours=RING_B, theirs=RING_A))

    def headers():
        for kind, profile, theirs, mine in (("sockets", "homa-6.1", [], []),
                                            ("rings", "smt1", RING_A, RING_B)):
            common = security(profile, keys)
            with server(net.a, *common, *theirs):
                with sniffer(net.a, "va", local.port) as seen:
                    said = succeeds(net.b, A4, *common, *mine, "-v", "-s", "20000", "-n", "30")
            assert len(seen) > 400, f"{kind}: {len(seen)} packets"
            assert set(seen) == {"45 0 4000 40 fd"}, f"{kind}: {set(seen)}"
            assert "go by raw" not in said, said
    yield "IPv4 headers: identification 0, DF, no options, no ECN", headers

    def rings_that_cannot_be():
        with server(net.a, "--profile", "homa-main", "-d", "ip:lo,ring"):
            said = succeeds(net.a, "127.0.0.1", "--profile", "homa-main", "-d", "ip:lo,ring", "-v",
                            "-n", "20")
            assert "not an Ethernet link; packets go by raw IP sockets" in said, said
        refused(net.b, A4, "--profile", "homa-main", "-d", "ip:vb,ring,tcp", word="one at a time")
        refused(net.b, A4, "--profile", "homa-main", "-d", "ip:no0,ring", word="no0")
    yield "where there can be no ring: sockets, and why", rings_that_cannot_be

    def frames():
        main = ["--profile", "homa-main"]
        for kind, more in ("echo", []), ("smt-simple", ["--resp", "300"]), ("smt-echo", []):
            mine = ["--contents", kind]
            with server(net.a, *main, *mine, *more):
                resp = ["--resp", "200"] if kind == "smt-echo" else more
                succeeds(net.b, A4, *main, *mine, *resp, "-s", "100", "-n", "20")
    yield "contents of the kernel's own programs", frames

    def wrong_keys():
        with server(net.a, "--profile", "smt1", "--keys", keys):
            refused(net.b, A4, "--profile", "smt1", "--keys", other_keys,
                    word="server does not answer", deadline=5)
    yield "another key: an error, no hang", wrong_keys

    def wrong_use():
        main = ["--profile", "homa-main"]
        with server(net.a, *main):
            refused(net.b, A4, *main, "-s", "1000001", word="1,000,000")
            refused(net.b, A4, *main, "--one-way", word="one-way")
        refused(net.b, A4, *main, "-d", "udp", word="device \"ip\"")
        refused(net.b, A6, "--profile", "smt1", "--keys", keys, word="IPv4")
    yield "what the formats cannot do is refused with a text", wrong_use

    def privilege():
        r = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all",
                            "--inh-caps=-all", LAT, "--profile", "homa-main", "-p", str(local.port)],
                           env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=200)
        assert r.returncode != 0 and "CAP_NET_RAW" in r.stdout, r.stdout
    yield "without privilege: what is missing", privilege


def outcome(index, run):
    """What went wrong, or None."""
    local.port = FIRST_PORT + index
    try:
        run()
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        return str(e) or repr(e)
    return None


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP network namespaces need root")
        sys.exit(77)
    failed = 0
    with tempfile.TemporaryDirectory() as d, Net() as net:
        keys, other_keys = os.path.join(d, "keys"), os.path.join(d, "other")
        with open(keys, "w") as f:
            f.write(CLIENT + SERVER)
        with open(other_keys, "w") as f:
            f.write(CLIENT.replace("8DD2", "0000") + OTHER)
        todo = list(tests(net, keys, other_keys))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = [outcome(i, todo[i][1]) for i in range(N_ALONE)]
            results += pool.map(lambda i: outcome(i, todo[i][1]), range(N_ALONE, len(todo)))
            for number, ((name, _), wrong) in enumerate(zip(todo, results), 1):
                failed += wrong is not None
                print(f"{'not ' if wrong else ''}ok {number} - {name}", flush=True)
                for line in (wrong or "").splitlines():
                    print("#   " + line)
        print(f"1..{len(todo)}")
    sys.exit(failed > 0)


main()
