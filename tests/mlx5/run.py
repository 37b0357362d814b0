#!/usr/bin/env python3
"""The device mlx5 over the model of a NIC: two processes in two network namespaces, joined by a
veth (for the kernel's addresses, routes and ARP) and by the model's own wire (for frames).

usage: run.py --build DIR [--seed N] [--scale P] SCENARIO...
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77
HANG_S = 600  # nothing here takes so long on any machine

# Profiles of the model that open, and who must seal then; what `sealing` must say if not the NIC. (If
# it does, the text is of one moment: a context may just have been lost.)
FALLBACKS = [
    ("full", "nic", None),
    ("no-sync-dek", "nic", None),
    ("128-only", "nic", None),
    ("tls12-only", "nic", None),
    ("small-dek", "nic", None),
    ("small-tis", "nic", None),
    ("no-devx", "cpu", "DevX"),
    ("no-tls-tx", "cpu", "tls_tx 0"),
    ("tls-off", "cpu", "tls_tx 0"),
    ("no-dek-object", "cpu", "encryption keys"),
    ("no-dek", "cpu", "encryption keys"),
    ("no-suites", "cpu", "no TLS 1.2"),
    ("tls13-only", "cpu", "no TLS 1.2"),
    ("selftest-failed", "cpu", "self-test"),
    ("no-tso", "cpu", "TSO"),
    ("td-refused", "cpu", "refused (command 0x816"),
    ("tis-refused", "cpu", "refused (command 0x912"),
    ("dek-refused", "cpu", "refused (command 0xa00"),
]
# Profiles that cannot open, and a word of the sentence that says why.
REFUSALS = [
    ("no-device", "no RDMA device"),
    ("not-mlx5", "mlx5"),
    ("port-down", "down"),
    ("infiniband", "Ethernet"),
    ("open-eperm", "permission"),
    ("eperm", "CAP_NET_RAW"),
    ("flow-eperm", "CAP_NET_RAW"),
    ("memlock", "memory region"),
    ("no-raw-wqe", "queue pair"),
    ("no-uar", "queue pair"),
]


class Failed(Exception):
    pass


def check(what, text):
    if not what:
        raise Failed(text)


def wait_until(what, name):
    for _ in range(1000):
        if what():
            return
        time.sleep(0.1)
    raise Failed("waited for %s in vain" % name)


class Lab:
    """Two namespaces a and b, 10.99.0.1 and .2, and a directory that is the wire."""

    def __init__(self, build, seed):
        self.build, self.seed = os.path.abspath(build), seed
        self.tag = "smtm%d" % os.getpid()
        self.dir = tempfile.mkdtemp(prefix="smt-mlx5-", dir="/dev/shm")
        self.model = os.path.join(self.build, "tests/mlx5-model/libmlx5-model.so")
        self.made = []
        self.n_wires = 0

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True, stderr=subprocess.PIPE)

    def up(self):
        for side in "ab":
            self.ip("netns", "add", self.tag + side)
            self.made.append(self.tag + side)
        self.ip("link", "add", "mx0", "netns", self.tag + "a", "type", "veth", "peer", "name",
                "mx0", "netns", self.tag + "b")
        for side, host in (("a", 1), ("b", 2)):
            ns = ["-n", self.tag + side]
            self.ip(*ns, "addr", "add", "10.99.0.%d/24" % host, "dev", "mx0")
            self.ip(*ns, "addr", "add", "fd99::%d/64" % host, "dev", "mx0", "nodad")
            self.ip(*ns, "link", "set", "mx0", "up")
            self.ip(*ns, "link", "set", "lo", "up")
        with open(os.path.join(self.dir, "psk"), "w") as f:
            f.write("test:" + "5a" * 32 + "\n")
        with open(os.path.join(self.dir, "keys"), "w") as f:
            f.write("client 8DD230A77A05EB71159129BCBCF64230 87C635C8\n"
                    "server 6CCF62FF4BE61485D8BA29FE2E847A7F B9FA5583\n")

    def down(self):
        for ns in self.made:
            subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def wire(self):
        self.n_wires += 1
        path = os.path.join(self.dir, "w%d" % self.n_wires)
        os.mkdir(path)
        return path

    def start(self, side, wire, profile, tool, *args, stats=None):
        knobs = "%s,dir=%s,netdev=mx0,seed=%d" % (profile, wire, self.seed + ord(side))
        if stats:
            knobs += ",stats=" + stats
        env = {"LD_PRELOAD": self.model, "MLX5_MODEL": knobs,
               "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
        if "--profile" not in args:
            env["SMT_PSK_FILE"] = os.path.join(self.dir, "psk")
        words = ["ip", "netns", "exec", self.tag + side, "env"]
        words += ["%s=%s" % i for i in env.items()]
        where = "examples" if tool == "smt_cp" else "src/tools"
        words += [os.path.join(self.build, where, tool), *args]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pair(self, client, server, tool="smt_lat", spec="mlx5", args=(), during=None,
             host="10.99.0.2"):
        """A client against a server; the client's JSON, the model's counters of the client."""
        wire = self.wire()
        common = ["-d", spec, "--deadline", "200", *args]
        s = self.start("b", wire, server, tool, "--once", "-e", *common, stats=wire + "/stats-b")
        c = None
        try:
            line = s.stdout.readline()
            check("waiting" in line, "server: %s%s" % (line, s.stderr.read() if not line else ""))
            c = self.start("a", wire, client, tool, "--json", "--verify", *common, host,
                           stats=wire + "/stats-a")
            if during:
                during(wire, c)
            out, err = c.communicate(timeout=HANG_S)
            check(c.returncode == 0, "client: exit %s\n%s\n%s" % (c.returncode, err,
                                                               self.complaints(wire)))
            sout, serr = s.communicate(timeout=HANG_S)
            check(s.returncode == 0, "server: exit %s\n%s%s\n%s" % (s.returncode, sout, serr,
                                                                  self.complaints(wire)))
        finally:
            for p in (c, s):
                if p is not None and p.poll() is None:
                    p.kill()
                    p.wait()
        check(not os.path.exists(wire + "/PLAINTEXT"), "plaintext on the wire")
        check(self.complaints(wire) == "", self.complaints(wire))
        counters = {}
        for side in "ab":
            with open(wire + "/stats-" + side) as f:
                for line in f:
                    name, value = line.split()
                    counters[name] = counters.get(name, 0) + int(value)
        return json.loads(out), counters

    def complaints(self, wire):
        try:
            with open(wire + "/COMPLAINTS") as f:
                return f.read()
        except FileNotFoundError:
            return ""


def check_statics(c):
    """None when consecutive records follow; so at most one for each burst of a message."""
    check(c["wqe_static"] > 0, "no static")
    check(c["static_needless"] == 0, "%d needless statics" % c["static_needless"])


def tally(report):
    return ("%(records_sealed_nic)d of %(records_sealed)d records by the NIC, by the CPU "
            "%(nic_not_ready)d before its test, %(nic_not_again)d after a loss, %(nic_not_worth)d "
            "short" % report)


def check_sealers(report):
    """Whatever the NIC did not seal has a reason. How much that is depends on the machine: a starved
    one asks again for what is under way."""
    cpu = report["records_sealed"] - report["records_sealed_nic"]
    why = report["nic_not_ready"] + report["nic_not_again"] + report["nic_not_worth"]
    check(cpu == why, "%s: %d without a reason" % (tally(report), cpu - why))
    check(report["records_sealed_nic"] > report["nic_tests"], tally(report) + ": tests only")


# ---- scenarios ----

def sizes(lab, scale):
    """1 B to 8 MB, polling and events, with loss and reordering; sealed by the model only."""
    for mode in ([], ["-e"]):
        for link in ("", ",loss=0.02,reorder=0.05,dup=0.01"):
            n = str(max(1, 4 * scale // 100))
            top = "8388608"
            report, c = lab.pair("full" + link, "full" + link, spec="mlx5,crypto=nic",
                                 args=[*mode, "-n", n, "-a", "--min", "1", "--max", top])
            check(report["crypto"] == "nic", "crypto is " + report["crypto"])
            print("    %s%s: %s, %d static" % ("events" if mode else "polling", link,
                                                tally(report), c["wqe_static"]))
            check_sealers(report)
            check(report["nic_not_worth"] == 0, "%(nic_not_worth)d records too short" % report)
            check_statics(c)


def ciphers(lab, scale):
    """Both keys lengths, IPv6 (which has no index: the CPU seals), a NIC on one side only."""
    for cipher in ("aes-128-gcm", "aes-256-gcm"):
        report, _ = lab.pair("full", "full",
                             args=["-e", "-n", "20", "-s", "50000", "--cipher", cipher])
        check(report["cipher"] == cipher and report["crypto"] == "nic", str(report))
    report, _ = lab.pair("128-only", "full",
                         args=["-e", "-n", "20", "-s", "50000", "--cipher", "aes-256-gcm"])
    check(report["crypto"] == "cpu", "128-only sealed 256")
    check("cipher" in report["sealing"], report["sealing"])
    report, _ = lab.pair("full", "full", args=["-e", "-n", "20", "-s", "50000"], host="fd99::2")
    check(report["crypto"] == "cpu" and "IPv4" in report["sealing"], report["sealing"])


def profiles(lab, scale):
    """Each lack ends in the documented fallback, with traffic and the reason shown."""
    for profile, crypto, words in FALLBACKS:
        report, _ = lab.pair(profile, "full", args=["-e", "-n", "20", "-s", "30000"])
        check(report["crypto"] == crypto, "%s: %s (%s)" % (profile, report["crypto"],
                                                         report["sealing"]))
        if crypto == "nic":
            check_sealers(report)
        else:
            check(words in report["sealing"], "%s: says \"%s\"" % (profile, report["sealing"]))
        print("    %s: %s" % (profile, report["sealing"]))


def refusals(lab, scale):
    """What cannot work says so in one line, and what helps."""
    for profile, words in REFUSALS:
        p = lab.start("a", lab.wire(), profile, "smt_lat", "-d", "mlx5", "10.99.0.2")
        out, err = p.communicate(timeout=HANG_S)
        check(p.returncode not in (0, -6, -11), "%s: exit %s" % (profile, p.returncode))
        check(words in err, "%s: says \"%s\"" % (profile, err.strip()))
        print("    %s: %s" % (profile, err.strip()))


PLAIN = b"plaintext marker"


def faults(lab, scale):
    """Errors of every kind at random, while a file is copied whose every 16 bytes the model looks
    for in every frame: no plaintext, no hang, nothing lost."""
    kinds = ["cqe-length", "cqe-protection", "cqe-flush", "dek-error", "dek-garbage", "tis-error",
             "tis-garbage", "qp-error"]
    source = os.path.join(lab.dir, "source")
    with open(source, "wb") as f:
        f.write(PLAIN * (scale * 20000))
    injected = tls = rounds = 0
    began = time.time()
    while injected < 10 * scale and time.time() - began < 2 * HANG_S:
        # Often: recovery after recovery. Seldom: the NIC gets to seal in between.
        chance = (0.002, 0.01)[rounds % 2]
        profile = "full,plain=%s,inject=%s" % (PLAIN.hex(), "+".join("%s:%g" % (k, chance)
                                                                      for k in kinds))
        wire = lab.wire()
        target = wire + "/target"
        os.mkdir(target)
        s = lab.start("b", wire, profile, "smt_cp", "serve", "-d", "mlx5,crypto=nic", "--once",
                      "-q", target, stats=wire + "/stats-b")
        wait_until(lambda: os.path.exists("%s/control.%d.0" % (wire, s.pid)), "the server")
        time.sleep(0.3)
        lab.seed += 1
        c = lab.start("a", wire, profile, "smt_cp", "send", "-d", "mlx5,crypto=nic", "-q", source,
                      "10.99.0.2:.", stats=wire + "/stats-a")
        try:
            out, err = c.communicate(timeout=HANG_S)
            check(c.returncode == 0, "client: exit %s %s%s\n%s" % (c.returncode, out, err,
                                                                  lab.complaints(wire)))
            # The farewell may have been lost: then the server waits for the next client.
            try:
                out, err = s.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                s.send_signal(signal.SIGINT)
                out, err = s.communicate(timeout=HANG_S)
            check(s.returncode >= 0 and lab.complaints(wire) == "",
                  "server: exit %s %s%s\n%s" % (s.returncode, out, err, lab.complaints(wire)))
        finally:
            for p in (c, s):
                if p.poll() is None:
                    p.kill()
                    p.wait()
        check(not os.path.exists(wire + "/PLAINTEXT"), "plaintext on the wire")
        with open(source, "rb") as f, open(target + "/source", "rb") as g:
            check(f.read() == g.read(), "the copy differs")
        for side in "ab":
            if not os.path.exists(wire + "/stats-" + side):
                continue
            with open(wire + "/stats-" + side) as f:
                counters = dict(line.split() for line in f)
            injected += int(counters.get("injected", 0))
            tls += int(counters["tls_records"])
        rounds += 1
        shutil.rmtree(wire)
    print("    %d faults, %d records by the NIC, %d copies" % (injected, tls, rounds))
    check(injected >= 10 * scale, "%d faults only" % injected)


def late(lab, scale):
    """A NIC that reads memory long after the doorbell, completions that come late and in lots, and
    receive queues without PAUSE: memory given back too early would be a complaint."""
    knobs = "full,lazy_us=300,cqe_batch=8,cqe_delay_us=500,rq_drop=1,loss=0.01"
    for mode in ([], ["-e"]):
        report, _ = lab.pair(knobs, knobs, tool="smt_bw",
                             args=[*mode, "-n", str(max(4, 40 * scale // 100)), "-t", "4", "-s",
                                   "300000"])
        print("    " + tally(report))
        check_sealers(report)


def reset(lab, scale):
    """The part is pulled out: the program ends with an error and does not hang."""
    for mode in ([], ["-e"]):
        wire = lab.wire()
        s = lab.start("b", wire, "full", "smt_bw", "-e", "-d", "mlx5")
        c = None
        try:
            check("waiting" in s.stdout.readline(), "no server")
            c = lab.start("a", wire, "full", "smt_bw", *mode, "-d", "mlx5", "-s", "100000", "-D",
                          "60", "10.99.0.2")
            control = "%s/control.%d.0" % (wire, c.pid)
            wait_until(lambda: os.path.exists(control), "the device")
            time.sleep(1)
            with open(control, "w") as f:
                f.write("reset\n")
            out, err = c.communicate(timeout=HANG_S)
            check(c.returncode > 0, "exit %s\n%s%s" % (c.returncode, out, err))
            print("    " + err.strip().splitlines()[-1])
        finally:
            for p in (c, s):
                if p is not None and p.poll() is None:
                    p.kill()
                    p.wait()
        check(lab.complaints(wire) == "", lab.complaints(wire))


def sessions(lab, scale):
    """Many sessions, messages interleaved: how often a context is programmed anew."""
    n = max(10, 500 * scale // 100)
    report, c = lab.pair("full", "full", tool="smt_bw",
                         args=["-e", "-S", str(n), "-t", str(min(n, 64)), "-n", str(8 * n), "-s", "60000"])
    records = c["tls_records"]
    print("    %d sessions: %d records by the NIC of %d, %d static: %.3f a record; %d contexts" %
          (n, records, report["records_sealed"], c["wqe_static"], c["wqe_static"] / records,
           c["tises"]))
    check(c["wqe_static"] < records, "a static a record")
    check_statics(c)


def of_profile(lab, profile):
    keys = ["--keys", os.path.join(lab.dir, "keys")] if profile == "smt1" else []
    return ["--profile", profile, *keys]


def kernel(lab, scale):
    """The kernel's formats by IP itself: 1 B to 1,000,000 B, 5 % loss, IPv6; what is refused."""
    n = str(max(2, 8 * scale // 100))
    for profile in ("homa-main", "homa-6.1", "smt1"):
        args = of_profile(lab, profile)
        for link, more in (("", []), (",loss=0.05", ["-t", "2"])):
            every = [*args, *more, "-a", "--min", "1", "--max", "524288", "-n", n]
            report, _ = lab.pair("full" + link, "full" + link, args=every)
            check(report["profile"] == profile and report["crypto"] != "nic", str(report))
            lab.pair("full" + link, "full" + link, args=[*args, "-s", "1000000", "-n", n, "-t", "4"])
    lab.pair("full,loss=0.05", "full,loss=0.05", host="fd99::2",
             args=[*of_profile(lab, "homa-main"), "-s", "1000000", "-n", n])
    for profile, spec, words in (("full,flow_error=95", "mlx5", "flow rule for IP protocol 146"),
                                 ("flow-eperm", "mlx5", "CAP_NET_RAW"),
                                 ("full", "mlx5:,crypto=nic", "only records of smt2")):
        p = lab.start("a", lab.wire(), profile, "smt_lat", "-d", spec, "--profile", "homa-main",
                      "10.99.0.2")
        _, err = p.communicate(timeout=HANG_S)
        check(p.returncode not in (0, -6, -11) and words in err, "%s: says \"%s\"" % (profile, err))
        print("    %s" % err.strip().splitlines()[-1])


SCENARIOS = {f.__name__: f for f in (sizes, ciphers, profiles, refusals, faults, late, reset,
                                     sessions, kernel)}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--scale", type=int, default=100)
    p.add_argument("scenario", nargs="+", choices=sorted(SCENARIOS))
    o = p.parse_args()
    if shutil.which("ip") is None or os.geteuid() != 0:
        print("skipped: network namespaces take root and iproute2")
        return SKIP
    if os.environ.get("SMT_TEST_ALL") == "1":
        o.scale = 100
    lab = Lab(o.build, o.seed)
    try:
        try:
            lab.up()
        except subprocess.CalledProcessError as e:
            print("skipped: no network namespaces: %s" % e.stderr.decode().strip())
            return SKIP
        for name in o.scenario:
            began = time.time()
            SCENARIOS[name](lab, o.scale)
            print("%s: ok, %.1f s" % (name, time.time() - began))
    except Failed as e:
        print("%s: FAILED: %s" % (name, e))
        return 1
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
