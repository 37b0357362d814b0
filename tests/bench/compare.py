#!/usr/bin/env python3
"""Measures smt_lat and smt_bw against their peers in one interleaved run on loopback.

usage: tests/bench/compare.py --build DIR [--rounds N] [--seconds S] [--json FILE]

Each round runs, one after the other, on the same two CPUs, polling on both sides of all of them:
  lat  smt_lat -s 64         against a TLS 1.3 TCP_NODELAY ping-pong           (tls_peer lat)
  rps  smt_bw -s 64 -t 64    against 64 TLS connections, one RPC in flight each (tls_peer rps -t 64)
                             and the limit of UDP and AES-GCM: batches of up to 64 messages as
                             ../shared/peers sends them, and of 32, which is faster
A machine drifts over minutes, so a ratio is taken inside a round and the median of the rounds is
what counts. As root, the runs step ahead of other work on the machine (autogroup nice).

Targets (issue 2): lat ratio > 1, rps against TLS >= 4, rps against the limit >= 0.35. Never gates:
the exit code only says whether the programs ran.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def step_ahead():
    """In the child: a session of its own, put before other autogroups where that is allowed."""
    os.setsid()
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-19")
    except OSError:
        pass


def run(command, env=None, timeout=60):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env,
                          timeout=timeout, preexec_fn=step_ahead, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench:
    def __init__(self, args, certs):
        self.args = args
        self.tools = args.build / "src" / "tools"
        self.peers = args.build / "tests" / "bench"
        self.certs = certs

    def creds(self, who):
        return ["--cert", self.certs / f"{who}.pem", "--key", self.certs / f"{who}.key",
                "--ca", self.certs / "ca.pem", "--cipher", "aes-128-gcm"]

    def smt(self, tool, extra):
        """One run of a tool: a fresh server, a client, the client's JSON."""
        port = free_port()
        pinned = ["taskset", "-c"]
        server = subprocess.Popen(
            [str(c) for c in pinned + [self.args.cpus[0], self.tools / tool, "-p", port,
                                       "--bind", "127.0.0.1"] + self.creds("server")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            preexec_fn=step_ahead)
        try:
            time.sleep(0.2)
            return run(pinned + [self.args.cpus[1], self.tools / tool, "-p", port, "-D",
                                 self.args.seconds, "--json"] + extra + self.creds("client") +
                       ["127.0.0.1"])
        finally:
            server.kill()
            server.wait()

    def peer(self, name, mode, extra=()):
        return run([self.peers / name, mode, "-D", self.args.seconds, "-C", self.args.cpus[0],
                    "-c", self.args.cpus[1], *extra])

    def round(self):
        lat = self.smt("smt_lat", ["-s", 64])["results"][0]
        tls_lat = self.peer("tls_peer", "lat")
        bw = self.smt("smt_bw", ["-s", 64, "-t", 64])["results"][0]
        tls_rps = self.peer("tls_peer", "rps", ["-t", 64])
        udp_rps = self.peer("udp_gcm_limit", "rps", ["-t", 64])
        udp_best = self.peer("udp_gcm_limit", "rps", ["-t", 64, "-b", 32])
        return {
            "smt_lat_p50_us": lat["p50_us"], "smt_lat_p99_us": lat["p99_us"],
            "tls_lat_p50_us": tls_lat["p50_us"], "tls_lat_p99_us": tls_lat["p99_us"],
            "smt_rpc_per_s": bw["rpc_per_s"], "tls_rpc_per_s": tls_rps["rpc_per_s"],
            "udp_gcm_rpc_per_s": udp_rps["rpc_per_s"], "udp_gcm_crypto": udp_rps["crypto"],
            "udp_gcm_b32_rpc_per_s": udp_best["rpc_per_s"],
            "errors": lat["errors"] + bw["errors"],
            "lat_tls_over_smt": tls_lat["p50_us"] / lat["p50_us"],
            "rps_smt_over_tls": bw["rpc_per_s"] / tls_rps["rpc_per_s"],
            "rps_smt_over_udp_gcm": bw["rpc_per_s"] / udp_rps["rpc_per_s"],
            "rps_smt_over_udp_gcm_b32": bw["rpc_per_s"] / udp_best["rpc_per_s"],
        }


ROWS = [
    ("smt_lat_p50_us", "smt_lat -s 64, p50", "µs", None),
    ("tls_lat_p50_us", "TLS ping-pong, p50", "µs", None),
    ("lat_tls_over_smt", "  TLS / smt", "×", 1),
    ("smt_rpc_per_s", "smt_bw -s 64 -t 64", "RPC/s", None),
    ("tls_rpc_per_s", "64 TLS connections", "RPC/s", None),
    ("rps_smt_over_tls", "  smt / TLS", "×", 4),
    ("udp_gcm_rpc_per_s", "UDP + AES-GCM limit", "RPC/s", None),
    ("rps_smt_over_udp_gcm", "  smt / limit", "×", 0.35),
    ("udp_gcm_b32_rpc_per_s", "  same, batches of 32", "RPC/s", None),
    ("rps_smt_over_udp_gcm_b32", "  smt / limit", "×", None),
]


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def summary(rounds):
    out = {}
    print(f"\n{'':26}{'median':>12}{'min':>12}{'max':>12}  unit    target")
    for key, title, unit, target in ROWS:
        values = [r[key] for r in rounds]
        median = statistics.median(values)
        out[key] = {"median": median, "min": min(values), "max": max(values)}
        verdict = ""
        if target is not None:
            out[key].update(target=target, met=median >= target)
            verdict = f">= {target} {'met' if median >= target else 'MISSED'}"
        print(f"{title:26}{number(median):>12}{number(min(values)):>12}"
              f"{number(max(values)):>12}  {unit:7} {verdict}")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build directory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--cpus", default="0,1", help="server's and client's CPU")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.cpus = [int(c) for c in args.cpus.split(",")]
    with tempfile.TemporaryDirectory(prefix="smt-compare.") as certs:
        subprocess.run([str(ROOT / "scripts" / "make-certs"), certs], check=True,
                       stdout=subprocess.DEVNULL)
        bench = Bench(args, pathlib.Path(certs))
        rounds = []
        for number_of in range(1, args.rounds + 1):
            r = bench.round()
            rounds.append(r)
            print(f"round {number_of}: latency ×{r['lat_tls_over_smt']:.2f} of TLS, "
                  f"rate ×{r['rps_smt_over_tls']:.2f} of TLS, "
                  f"×{r['rps_smt_over_udp_gcm']:.2f} of the limit", flush=True)
    result = {"rounds": rounds, "summary": summary(rounds), "load": os.getloadavg(),
              "errors": sum(r["errors"] for r in rounds)}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
