#!/usr/bin/env python3
"""smt_sim as a process: options, reports, the same run from the same seed; and plot-slowdown.

usage: test_smt_sim.py SMT_SIM
"""
import csv
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

SMT_SIM = pathlib.Path(sys.argv.pop(1)).resolve()
PLOT = pathlib.Path(__file__).resolve().parents[2] / "scripts/plot-slowdown"
SHORT = ["--preset", "small", "--workload", "w2", "--load", "0.5", "--warmup", "0.2", "--duration",
         "1"]


def run(*args):
    return subprocess.run([SMT_SIM, *args], capture_output=True, text=True, timeout=900,
                          stdin=subprocess.DEVNULL)


class SmtSim(unittest.TestCase):
    def report(self, *args):
        done = run(*SHORT, "--quiet", "--json", "-", *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def test_report_says_what_was_asked_for_and_came(self):
        r = self.report("--seed", "7", "--levels", "4", "--loss", "0.1")
        asked = {"preset": "small", "hosts": 16, "policy": "smt", "workload": "w2", "load": 0.5,
                 "seed": 7, "levels": 4, "loss_ppm": 1000, "rpc": False, "fifo": False,
                 "headers": "smt", "warmup_ns": 200000, "measure_ns": 1000000}
        self.assertEqual({k: r[k] for k in asked}, asked)
        self.assertEqual(len(r["deciles"]), 10)
        self.assertEqual(len(r["pairs"]), 5)
        self.assertEqual(sum(b["n"] for b in r["deciles"]), r["all"]["n"])
        self.assertEqual(sum(b["n"] for b in r["pairs"]), r["all"]["n"])
        for b in [*r["deciles"], *r["pairs"], r["all"]]:
            self.assertTrue(0.99 <= b["p50"] <= b["p99"] <= b["p999"] <= b["max"], b)
        self.assertEqual((r["failed"], r["unfinished"]), (0, 0))
        self.assertGreater(r["queues"]["host_up"]["lost"], 0)
        self.assertGreater(r["counters"]["data_packets"], 1000)
        self.assertEqual(set(r["queues"]), {"host_up", "tor_down", "tor_up", "spine_down"})

    def test_same_seed_same_run(self):
        a, b, c = self.report(), self.report(), self.report("--seed", "2")
        self.assertEqual((a["trace"], a["arrivals"]), (b["trace"], b["arrivals"]))
        self.assertNotEqual(a["trace"], c["trace"])
        self.assertNotEqual(a["arrivals"], c["arrivals"])
        other = self.report("--policy", "control")
        self.assertEqual(a["arrivals"], other["arrivals"])

    def test_csv(self):
        done = run(*SHORT, "--quiet", "--csv", "-")
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        self.assertEqual([r["decile"] for r in rows], [str(d) for d in range(1, 11)] + ["all"])
        self.assertEqual(sum(int(r["n"]) for r in rows[:-1]), int(rows[-1]["n"]))

    def test_text_for_people(self):
        done = run(*SHORT)
        self.assertEqual(done.returncode, 0)
        for words in ("small, 16 hosts, policy smt", "warm-up 0.200 ms", "goodput", "trace"):
            self.assertIn(words, done.stdout)

    def test_wrong_options_are_named(self):
        for args, word in ((["--preset", "x"], "--preset x"), (["--load", "0"], "--load 0"),
                           (["--policy", "x"], "--policy x"), (["--levels", "129"], "--levels"),
                           (["--hosts", "17"], "--hosts"), (["--flap", "1,2"], "--flap"),
                           (["--restart", "99,1"], "hosts 0 to 47"), (["more"], "more"),
                           (["--tune", "nothing=1"], "--tune"), (["--nothing"], "--nothing")):
            done = run(*args)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help_and_list(self):
        for option, word in (("--help", "--workload"), ("--list", "HomaSimulation")):
            done = run(option)
            self.assertEqual(done.returncode, 0)
            self.assertIn(word, done.stdout)

    def test_a_file_that_cannot_be_written(self):
        done = run(*SHORT, "--quiet", "--json", "/nowhere/x.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/x.json", done.stderr)

    def test_plot(self):
        with tempfile.TemporaryDirectory() as d:
            names = []
            for policy in ("smt", "control"):
                names.append(f"{d}/{policy}.json")
                self.assertEqual(run(*SHORT, "--quiet", "--policy", policy, "--json",
                                     names[-1]).returncode, 0)
            subprocess.run([PLOT, "--reference", "--out", f"{d}/a.svg", *names], check=True)
            svg = xml.etree.ElementTree.parse(f"{d}/a.svg").getroot()
            lines = [e for e in svg if e.tag.endswith("polyline")]
            words = [e.text for e in svg if e.tag.endswith("text")]
            # Two reports, the re-simulated Homa and the paper's implementation: p50 and p99 each.
            self.assertEqual(len(lines), 8)
            self.assertIn("smt", words)
            self.assertIn("W2, load 0.5, 16 hosts", words)


if __name__ == "__main__":
    unittest.main()
