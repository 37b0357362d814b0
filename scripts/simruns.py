"""Runs of smt_sim, two at a time, and what their reports say. Used by sim-accept and sim-paper."""
import concurrent.futures
import csv
import json
import math
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "src/sim/data/reference"
WORKLOADS = ["w1", "w2", "w3", "w4", "w5"]
# The library, on hosts that can buffer what is in flight to them, as a NIC with a ring of 512
# buffers can.
SMT = ["--policy", "smt", "--tune", f"rx_window={1 << 20}"]
# reference/sim.md 3.5: 144 hosts re-simulated, times 1.10 (W5 1.25), p99 by decile at load 0.8.
CAPS = {
    "w1": [1.94, 1.96, 1.98, 1.99, 2.12, 2.12, 2.18, 2.30, 2.67, 6.9],
    "w2": [2.09, 2.11, 2.11, 2.06, 2.02, 2.20, 2.26, 2.62, 2.73, 5.0],
    "w3": [2.28, 2.24, 2.22, 2.19, 2.13, 2.09, 2.06, 2.11, 1.99, 4.7],
    "w4": [2.21, 2.10, 2.05, 1.99, 1.97, 1.90, 1.74, 2.40, 2.86, 11.8],
    "w5": [1.83, 1.82, 2.09, 2.28, 2.12, 2.27, 2.88, 3.48, 5.1, 16.6],
}


def find_smt_sim(given):
    """The program: the one named, or the newest in a build directory of the checkout."""
    if given:
        return pathlib.Path(given).resolve()
    found = sorted(ROOT.glob("build*/src/sim/smt_sim"), key=lambda p: p.stat().st_mtime)
    if not found:
        sys.exit("smt_sim is not built: meson setup build && ninja -C build, or --smt-sim PATH")
    return found[-1]


def number(v):
    """A slowdown of a report: null stands for an unfinished message."""
    return math.inf if v is None else v


class Runs:
    """Reports by name; each is run once and kept as NAME.json in `out`."""

    def __init__(self, smt_sim, out, jobs=2, quiet=False, keep=False):
        """keep: reports of the same options that lie in `out` already are taken as they are."""
        self.smt_sim, self.out, self.jobs, self.quiet = smt_sim, pathlib.Path(out), jobs, quiet
        self.keep = keep
        self.out.mkdir(parents=True, exist_ok=True)
        self.wanted, self.reports = {}, {}

    def want(self, name, *options):
        self.wanted.setdefault(name, [str(o) for o in options])
        return name

    def _run(self, name):
        path, said = self.out / f"{name}.json", self.out / f"{name}.options"
        begin = time.monotonic()
        options = " ".join(self.wanted[name]) + "\n"
        if self.keep and said.exists() and said.read_text() == options:
            return json.loads(path.read_text()), 0.0
        said.unlink(missing_ok=True)
        done = subprocess.run([self.smt_sim, "--quiet", "--json", path, *self.wanted[name]],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: smt_sim {' '.join(self.wanted[name])}: "
                               f"exit {done.returncode}: {done.stderr.strip()}")
        report = json.loads(path.read_text())
        said.write_text(options)
        return report, time.monotonic() - begin

    def run(self):
        """Whatever was wanted and has not been run, the longest first."""
        names = [n for n in self.wanted if n not in self.reports]
        weight = {"w1": 1, "w2": 2, "w3": 4, "w4": 8, "w5": 16}
        names.sort(key=lambda n: -max([weight[w] for w in WORKLOADS if w in n] or [0]))
        broken = []
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._run, n): n for n in names}
            for count, f in enumerate(concurrent.futures.as_completed(futures), 1):
                name = futures[f]
                try:
                    self.reports[name], seconds = f.result()
                except RuntimeError as e:
                    broken.append(str(e))
                    continue
                if not self.quiet:
                    rate = self.reports[name]["events_per_second"] / 1e6
                    print(f"[{count}/{len(names)}] {name}: {seconds:.1f} s, "
                          f"{rate:.2f} M events/s", file=sys.stderr, flush=True)
        if broken:
            sys.exit("\n".join(broken))

    def __getitem__(self, name):
        return self.reports[name]


def deciles(report, key="p99", bins="deciles"):
    """That figure of each tenth; None where no message fell into it."""
    return [number(b[key]) if b["n"] else None for b in report[bins]]


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if len(values) % 2 else \
        (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2


def over_seeds(reports, key="p99", bins="deciles"):
    """Median over seeds of that figure of each tenth."""
    columns = zip(*(deciles(r, key, bins) for r in reports))
    return [None if None in c else median(c) for c in columns]


def down_queue(report):
    return report["queues"]["tor_down"]["max_bytes"]


def text(values):
    return " ".join("  -  " if v is None else "  inf" if math.isinf(v) else f"{v:5.2f}"
                    for v in values)


def references(workload, load):
    """(name, p50, p99 by tenth) of what others measured with this workload at the nearest load: the
    re-simulated Homa, and the paper's implementation, where messages are echoed."""
    def nearest(rows, key):
        best = min((key(r) for r in rows), key=lambda v: abs(v - load), default=None)
        return [r for r in rows if key(r) == best]

    def rows_of(name):
        with (REFERENCE / name).open() as f:
            return [r for r in csv.DictReader(f) if r["workload"].lower() == workload]

    def column(rows, key):
        return [float(r[key]) for r in rows]
    out = []
    again = nearest([r for r in rows_of("resimulated.csv") if r["kind"] == "repro_homa"],
                    lambda r: float(r["load"]))
    if again:
        out.append((f"Homa re-simulated, load {float(again[0]['load']):g}", column(again, "p50"),
                    column(again, "p99")))
    real = nearest(rows_of("implementation.csv"), lambda r: float(r["load_label"]) / 95)
    if real:
        gbps = float(real[0]["load_label"]) / 10
        out.append((f"Homa implemented (echo, {gbps:g} Gb/s)", column(real, "p50_weighted"),
                    column(real, "p99_weighted")))
    return out
