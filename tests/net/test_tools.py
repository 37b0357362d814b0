#!/usr/bin/env python3
"""smt_lat, smt_bw and smt_info as processes: every mode, the JSON, and each wrong input's one line."""
import os
import random
import shutil
import socket
import subprocess
import time
import unittest

import tool_runs
from tool_runs import Case, cert_args, load, make_certs, make_short_cert, plain_env, run, tool

RESULT_KEYS = ["size", "resp_size", "depth", "sessions", "threads", "iterations", "seconds",
               "min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "avg_us", "rpc_per_s",
               "gbps", "cpu_s", "server_cpu_s", "server_messages", "errors"]
TOP_KEYS = ["tool", "version", "device", "profile", "cipher", "cipher_impl", "auth",
            "handshake_us", "results"]


class Measuring(Case):
    def check_json(self, text, tool, sizes, iterations=None):
        top = load(text)
        for key in TOP_KEYS:
            self.assertIn(key, top)
        self.assertEqual((top["tool"], top["device"], top["profile"]), (tool, "udp", "smt2"))
        self.assertGreater(top["handshake_us"], 0)
        self.assertEqual([r["size"] for r in top["results"]], sizes)
        for r in top["results"]:
            for key in RESULT_KEYS:
                self.assertIn(key, r)
            self.assertEqual(r["errors"], 0)
            self.assertGreater(r["iterations"], 0)
            if iterations is not None:
                self.assertEqual(r["iterations"], iterations)
            order = [r[k] for k in ("min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us")]
            self.assertEqual(order, sorted(order))
            self.assertTrue(r["min_us"] <= r["avg_us"] <= r["max_us"])
            self.assertAlmostEqual(r["rpc_per_s"], r["iterations"] / r["seconds"],
                                   delta=0.01 * r["rpc_per_s"])
            bits = 8 * (r["size"] + r["resp_size"])
            self.assertAlmostEqual(r["gbps"], bits * r["rpc_per_s"] / 1e9,
                                   delta=0.01 * r["gbps"] + 1e-9)
        return top

    def measure(self, server, tool, *args, creds=None, env=None):
        done = run(tool, "-p", server.port, *(self.client_args if creds is None else creds),
                   "--deadline", 60, "--json", *args, "127.0.0.1", env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_lat(self):
        server = self.serve("smt_lat", "-e")
        done = self.measure(server, "smt_lat", "-n", 200)
        top = self.check_json(done.stdout, "smt_lat", [64], 200)
        self.assertEqual(top["auth"], "cert")
        self.assertEqual(top["cipher"], "aes-128-gcm")
        self.assertIn("99.9%", done.stderr)
        done = self.measure(server, "smt_lat", "-n", 100, "-s", 0, "--resp", 3000)
        result = self.check_json(done.stdout, "smt_lat", [0], 100)["results"][0]
        self.assertEqual(result["resp_size"], 3000)

    def test_all_sizes(self):
        server = self.serve("smt_lat", "-e")
        done = self.measure(server, "smt_lat", "-a", "-n", 3, "-e")
        self.check_json(done.stdout, "smt_lat", [1 << i for i in range(1, 24)], 3)
        done = self.measure(server, "smt_lat", "--min", 100, "--max", "1K", "-n", 5, "-e")
        self.check_json(done.stdout, "smt_lat", [100, 200, 400, 800], 5)

    def test_server_sleeps_for_events(self):
        server = self.serve("smt_lat")
        done = self.measure(server, "smt_lat", "-e", "--rate", 50, "-D", 1)
        result = load(done.stdout)["results"][0]
        self.assertLess(result["server_cpu_s"], 0.3 * result["seconds"], "it polled for a client that sleeps")

    def test_polling(self):
        server = self.serve("smt_bw")
        done = self.measure(server, "smt_bw", "-s", 64, "-t", 64, "-n", 2000)
        result = self.check_json(done.stdout, "smt_bw", [64], 2000)["results"][0]
        self.assertEqual(result["depth"], 64)

    def test_duration(self):
        server = self.serve("smt_bw", "-e")
        done = self.measure(server, "smt_bw", "-D", 0.5, "-e")
        result = self.check_json(done.stdout, "smt_bw", [65536])["results"][0]
        self.assertGreater(result["seconds"], 0.45)

    def test_one_way(self):
        server = self.serve("smt_bw", "-e")
        for size, n in ((0, 500), (64, 500), (1 << 20, 20)):
            done = self.measure(server, "smt_bw", "--one-way", "-e", "-s", size, "-n", n,
                                "--verify")
            result = self.check_json(done.stdout, "smt_bw", [size], n)["results"][0]
            self.assertEqual(result["resp_size"], 0)

    def test_verify(self):
        server = self.serve("smt_bw", "-e")
        for args in (["-s", 7], ["-s", 5000], ["-s", 100, "--resp", 70000], ["-s", 0, "--resp", 1]):
            done = self.measure(server, "smt_bw", "-n", 100, "-e", "--verify", *args)
            self.check_json(done.stdout, "smt_bw", [args[1]], 100)

    def test_sessions_and_threads(self):
        server = self.serve("smt_bw", "-e", "-T", 2)
        done = self.measure(server, "smt_bw", "-n", 100, "-e", "-S", 7, "-T", 3, "-t", 20)
        result = self.check_json(done.stdout, "smt_bw", [65536], 300)["results"][0]
        self.assertEqual((result["sessions"], result["threads"]), (7, 3))

    def test_rate(self):
        server = self.serve("smt_lat", "-e")
        done = self.measure(server, "smt_lat", "--rate", 500, "-n", 300, "-e")
        result = self.check_json(done.stdout, "smt_lat", [64], 300)["results"][0]
        self.assertGreater(result["seconds"], 299 / 500 * 0.99)
        done = self.measure(server, "smt_lat", "--rate", 500, "-D", 0.5, "-e")
        result = self.check_json(done.stdout, "smt_lat", [64])["results"][0]
        self.assertLessEqual(result["iterations"], 251)

    def test_other_credentials(self):
        key = self.dir / "psk"
        key.write_text("me:" + "5a" * 32 + "\n")
        server = self.serve("smt_lat", "-e", creds=["--psk-file", key])
        done = self.measure(server, "smt_lat", "-n", 20, "-e", creds=["--psk-file", key])
        self.assertEqual(self.check_json(done.stdout, "smt_lat", [64])["auth"], "psk")
        server = self.serve("smt_lat", "-e", creds=["--plaintext"])
        done = self.measure(server, "smt_lat", "-n", 20, "-e", creds=["--plaintext"])
        top = self.check_json(done.stdout, "smt_lat", [64])
        self.assertEqual((top["auth"], top["cipher"]), ("none", "none"))
        self.assertIn("WARNING", done.stderr)

    def test_environment(self):
        c = self.certs
        server = self.serve("smt_lat", "-e", "--cipher", "aes-256-gcm")
        env = plain_env(SMT_CERT=str(c / "client.pem"), SMT_KEY=str(c / "client.key"),
                        SMT_CA=str(c / "ca.pem"), SMT_CIPHER_IMPL="openssl")
        done = self.measure(server, "smt_lat", "-n", 20, "-e", "--cipher", "aes-256-gcm",
                            creds=[], env=env)
        top = self.check_json(done.stdout, "smt_lat", [64])
        self.assertEqual((top["cipher"], top["cipher_impl"]), ("aes-256-gcm", "openssl"))

    def test_files(self):
        server = self.serve("smt_lat", "-e")
        out, hdr = self.dir / "out.json", self.dir / "out.hgrm"
        done = run("smt_lat", "-p", server.port, *self.client_args, "-n", 50, "-e", "-H", "--json",
                   out, "--hdr", hdr, "localhost")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check_json(out.read_text(), "smt_lat", [64], 50)
        self.assertIn("#bytes", done.stdout)
        counts = [int(x.split()[1]) for x in done.stdout.split("count\n")[1].splitlines()
                  if x[:1].isdigit()]
        self.assertEqual(sum(counts), 50)
        rows = [x.split() for x in hdr.read_text().splitlines() if x[:1] == " "]
        self.assertEqual(rows[0], ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
        self.assertEqual((float(rows[-1][1]), rows[-1][2]), (1.0, "50"))

    def test_json_names(self):
        server = self.serve("smt_lat", "-e")
        for args in (["--json", self.dir / "a"], [f"--json={self.dir / 'a'}"]):
            done = run("smt_lat", "-n", 5, "-e", *self.client_args, *args,
                       f"127.0.0.1:{server.port}")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.check_json((self.dir / "a").read_text(), "smt_lat", [64])
            (self.dir / "a").unlink()

    def test_once(self):
        server = self.serve("smt_lat", "-e", "--once")
        self.measure(server, "smt_lat", "-n", 20, "-e")
        self.assertEqual(server.wait(), 0)
        server.stop()

    def test_faults_on_the_way(self):
        server = self.serve("smt_bw", "-e")
        tap = "drop=0.03,dup=0.03,reorder=0.1,corrupt=0.01,seed=3"
        done = self.measure(server, "smt_bw", "-s", 20000, "-n", 200, "-t", 16, "-e", "--verify",
                            "--tap", tap)
        self.check_json(done.stdout, "smt_bw", [20000], 200)

    def test_info(self):
        done = run("smt_info")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("udp", "aes-128-gcm", "offload", "locked"):
            self.assertIn(word, done.stdout)
        info = load(run("smt_info", "--json").stdout)
        udp = [d for d in info["devices"] if d["name"] == "udp"]
        self.assertTrue(udp and udp[0]["usable"])
        self.assertTrue(any(c["works"] for c in info["ciphers"]))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "no capabilities to lose")
    def test_info_of_locked_memory(self):
        with open(tool("smt_info"), "rb") as f:
            if b"__asan_init" in f.read():
                self.skipTest("sanitizers lock no memory")
        # Still root: the checkout may lie in a home that no other user can enter.
        limited = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "prlimit")
        for limit, is_locked in ((0, False), (8 << 20, True)):
            done = run("smt_info", "--json", prefix=(*limited, f"--memlock={limit}:{limit}"))
            self.assertEqual(done.returncode, 0, done.stderr)
            info = load(done.stdout)
            self.assertEqual(info["memlock_bytes"], limit)
            self.assertEqual(info["secret_unlocked_bytes"] == 0, is_locked)

    def test_version_and_help(self):
        for name in ("smt_lat", "smt_bw", "smt_info"):
            self.assertRegex(run(name, "-V").stdout, rf"^{name} \d+\.\d+\.\d+\n$")
            self.assertIn("--json", run(name, "-h").stdout)


class BadInput(Case):
    """Every line of the issue's list: one line, an exit code, in time."""

    def client(self, *args, port, host="127.0.0.1", creds=None, deadline=60):
        return run("smt_lat", "-p", port, "-n", 5, "-e", "--deadline", deadline, *args,
                   *(self.client_args if creds is None else creds), host)

    def test_command_line(self):
        for args, words in ((["--nonsense"], ["unknown option", "nonsense"]),
                            (["-s"], ["needs an argument"]),
                            (["-s", "2G"], ["--size", "1073741824"]),
                            (["-s", "12x"], ["not a whole number"]),
                            (["-s", "-1"], ["--size"]),
                            (["-n", "5", "-D", "1"], ["exclude"]),
                            (["-T", "0"], ["--threads"]),
                            (["a", "b"], ["too many"]),
                            (["--min", "9", "--max", "3"], ["--min"]),
                            (["-p", "65536"], ["--port"]),
                            (["--json=/nonexistent/x", *map(str, self.client_args), "127.0.0.1"],
                             ["cannot write", "nonexistent"]),
                            ([*map(str, self.client_args), "[::1"], ["not understood"]),
                            ([*map(str, self.client_args), "host:0x"], ["port"])):
            with self.subTest(args=args):
                self.assert_fails(run("smt_lat", *args), 1, *words)

    def test_no_server(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", 0))  # somebody is there and says nothing
            port = s.getsockname()[1]
            self.assert_fails(self.client(port=port, deadline=2), 2, "cannot connect")
        self.assert_fails(self.client(port=port, deadline=2), 2, "cannot connect")

    def test_unknown_host(self):
        done = self.client(port=4, host="no-such-host.invalid", deadline=60)
        self.assert_fails(done, 2, "no-such-host.invalid")

    def test_missing_credentials(self):
        self.assert_fails(self.client(port=4, creds=[]), 2, "no credentials", "--cert")

    def test_malformed_files(self):
        junk = self.dir / "junk"
        junk.write_text("no certificate\n")
        psk = self.dir / "psk"
        c = self.certs
        for args in (["--psk-file", junk], ["--psk-file", self.dir / "missing"],
                     ["--cert", junk, "--key", c / "client.key", "--ca", c / "ca.pem"],
                     ["--cert", c / "client.pem", "--key", junk, "--ca", c / "ca.pem"],
                     ["--cert", c / "client.pem", "--key", c / "client.key", "--ca", junk],
                     ["--cert", c / "client.pem", "--key", c / "server.key", "--ca",
                      c / "ca.pem"],
                     ["--cert", c / "nowhere", "--key", c / "client.key", "--ca", c / "ca.pem"],
                     [*cert_args(c, "client"), "--pin", "nonsense"]):
            with self.subTest(args=args):
                self.assert_fails(self.client(port=4, creds=args), 2)
        for text in ("", "me\n", "me:\n", "me:12\n", "me:xyz" + "00" * 16 + "\n",
                     "me:" + "0" * 33 + "\n"):
            with self.subTest(psk=text):
                psk.write_text(text)
                self.assert_fails(self.client(port=4, creds=["--psk-file", psk]), 2, "psk")

    def test_wrong_names_of_things(self):
        for args, word in ((["--cipher", "rot13"], "rot13"), (["--cipher-impl", "abacus"], "abacus"),
                           (["-d", "eth77"], "eth77"), (["--tap", "drop=often"], "drop")):
            with self.subTest(args=args):
                self.assert_fails(self.client(*args, port=4), 2, word)

    def test_wrong_certificates(self):
        other = make_certs(self.dir / "other")
        server = self.serve("smt_lat", "-e")
        port = server.port
        self.assert_fails(self.client(port=port, creds=cert_args(other, "client")), 2, "certificate")
        mixed = ["--cert", other / "client.pem", "--key", other / "client.key", "--ca",
                 self.certs / "ca.pem"]
        self.assert_fails(self.client(port=port, creds=mixed), 2, "certificate|refuse")
        mixed = [*cert_args(self.certs, "client")[:4], "--ca", other / "ca.pem"]
        self.assert_fails(self.client(port=port, creds=mixed), 2, "certificate")
        self.assert_fails(self.client("--verify-name", "other.example", port=port), 2,
                          "other.example|name")
        self.assert_fails(self.client("--pin", "sha256//" + "A" * 43 + "=", port=port), 2, "pin")
        self.assert_fails(self.client(port=port, creds=["--plaintext"]), 2)
        psk = self.dir / "psk"
        psk.write_text("me:" + "11" * 16)
        self.assert_fails(self.client(port=port, creds=["--psk-file", psk]), 2)
        self.assertEqual(self.client(port=port, deadline=60).returncode, 0)

    def test_wrong_psk(self):
        a, b, c = self.dir / "a", self.dir / "b", self.dir / "c"
        a.write_text("me:" + "11" * 16)
        b.write_text("me:" + "22" * 16)
        c.write_text("you:" + "11" * 16)
        server = self.serve("smt_lat", "-e", creds=["--psk-file", a])
        for wrong in (b, c):
            done = self.client(port=server.port, creds=["--psk-file", wrong])
            self.assert_fails(done, 2, "psk|pre-shared|key")

    def test_expired(self):
        make_short_cert(self.certs, "old", -60)
        args = cert_args(self.certs, "old")
        self.assert_fails(self.client(port=4, creds=args), 2, "expired")
        self.assert_fails(run("smt_lat", "-p", 0, *args), 2, "expired")
        # Long enough for the server to begin with it.
        for seconds in (4, 30, 120):
            name = f"brief{seconds}"
            make_short_cert(self.certs, name, seconds)
            end = time.monotonic() + seconds
            try:
                server = self.serve("smt_lat", "-e", creds=cert_args(self.certs, name))
                break
            except AssertionError as e:
                self.assertIn("expired", str(e))
        time.sleep(max(0, end - time.monotonic()) + 1.5)
        self.assert_fails(self.client(port=server.port), 2, "expired")

    def test_port_in_use(self):
        server = self.serve("smt_lat", "-e")
        done = run("smt_bw", "-p", server.port, "--bind", "127.0.0.1", *self.server_args)
        self.assert_fails(done, 2, str(server.port), "in use")

    def test_not_our_server(self):
        (self.dir / "served").mkdir()
        server = self.serve("smt_cp", self.dir / "served")
        self.assert_fails(self.client(port=server.port, deadline=20), 2, "not a server")

    def test_clients_killed(self):
        """A server outlives clients that are killed at any point, and serves the next one."""
        server = self.serve("smt_bw", "-e")
        rng = random.Random(5)
        for _ in range(20):
            client = subprocess.Popen(
                [tool("smt_bw"), "-p", str(server.port), *map(str, self.client_args), "-e", "-D",
                 "30", "-s", str(rng.choice([1, 1000, 100000])), "127.0.0.1"], env=plain_env(),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * 0.4)
            client.kill()
            client.wait()
        done = run("smt_bw", "-p", server.port, *self.client_args, "-e", "-n", 50, "--verify",
                   "--deadline", 60, "--json", "127.0.0.1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(load(done.stdout)["results"][0]["errors"], 0)
        self.assertIsNone(server.process.poll())

    def test_server_killed(self):
        server = self.serve("smt_lat", "-e")
        client = subprocess.Popen(
            [tool("smt_lat"), "-p", str(server.port), *map(str, self.client_args), "-e", "-D",
             "3600", "--deadline", "5", "127.0.0.1"], env=plain_env(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while "#bytes" not in client.stdout.readline():  # the session is up
            self.assertIsNone(client.poll())
        time.sleep(0.5)
        server.kill()
        _, said = client.communicate(timeout=tool_runs.PATIENCE)
        self.assertEqual(client.returncode, 3, said)
        self.assertIn("run ended", said)


if __name__ == "__main__":
    tool_runs.main("__main__")
