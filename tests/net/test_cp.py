#!/usr/bin/env python3
"""smt_cp and the echo examples as processes: whole trees, resuming, takeover, and no way out."""
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import subprocess
import time

import tool_runs
from tool_runs import Case, plain_env, run, tool


def describe(top):
    """Everything a copy has to keep, by relative path."""
    found = {}
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            path = pathlib.Path(where, name)
            st = path.lstat()
            key = os.fsencode(path.relative_to(top))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            elif path.is_dir():
                found[key] = ("dir", stat.S_IMODE(st.st_mode), st.st_mtime_ns)
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[key] = (digest, stat.S_IMODE(st.st_mode), st.st_mtime_ns)
    return found


class Copy(Case):
    def setUp(self):
        super().setUp()
        self.src, self.dst = self.dir / "src", self.dir / "dst"
        self.src.mkdir()
        self.dst.mkdir()

    def serve_dst(self, *args):
        return self.serve("smt_cp", *args, self.dst)

    def send(self, server, *args, dest="", **more):
        return run("smt_cp", "send", *self.client_args, *args, f"127.0.0.1:{server.port}:{dest}",
                   **more)

    def sent_ok(self, done):
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        found = re.search(r"([\d.]+) (k|M|G|)B sent", done.stdout)
        return float(found.group(1)) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found.group(2)]

    def big(self, name, size):
        path = self.src / name
        path.write_bytes(random.Random(name).randbytes(size))
        return path

    def make_tree(self):
        src = self.src
        rng = random.Random(1)
        for i in range(150):
            place = src / f"d{i % 7}" / f"e{i % 3}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"f{i}").write_bytes(rng.randbytes(rng.choice([0, 1, 100, 5000, 65536])))
        (src / "empty").mkdir()
        (src / "large").write_bytes(rng.randbytes(5_000_003))
        (src / "block").write_bytes(rng.randbytes(1 << 20))
        (src / "just more").write_bytes(rng.randbytes(65537))
        (src / "späte Datei\nmit Umbruch").write_text("x")
        (src / "tool").write_text("#!/bin/sh\n")
        (src / "tool").chmod(0o755)
        (src / "secret").write_text("x")
        (src / "secret").chmod(0o600)
        (src / "d0" / "link").symlink_to("../large")
        (src / "dangling").symlink_to("nowhere")
        (src / "dir link").symlink_to("d1")
        deep = src
        for i in range(120):
            deep = deep / ("deep%d" % i)
        deep.mkdir(parents=True)
        (deep / "bottom").write_text("bottom")
        (src / "d2").chmod(0o500)
        self.addCleanup((src / "d2").chmod, 0o700)
        os.utime(src / "large", ns=(1, 1_000_000_001_000_000_002))
        os.utime(src / "empty", ns=(1, -5_000_000_000))

    def test_tree(self):
        self.make_tree()
        server = self.serve_dst()
        self.sent_ok(self.send(server, self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))
        (self.dst / "src" / "d2").chmod(0o700)
        self.sent_ok(self.send(server, f"{self.src}/", dest="other/place"))
        self.assertEqual(describe(self.dst / "other/place"), describe(self.src))
        (self.dst / "other/place/d2").chmod(0o700)

    def test_again_sends_little(self):
        self.big("a", 4 << 20)
        server = self.serve_dst()
        self.assertGreater(self.sent_ok(self.send(server, self.src)), 4e6)
        done = self.send(server, self.src)
        self.assertEqual(self.sent_ok(done), 0)
        self.assertIn("1 unchanged", done.stdout)
        changed = self.big("a", 4 << 20)
        with open(changed, "r+b") as f:
            f.seek(3 << 20)
            f.write(b"different")
        self.sent_ok(self.send(server, self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))

    def test_one_file(self):
        path = self.big("one", 300_000)
        server = self.serve_dst()
        self.sent_ok(self.send(server, path, dest="./in/there/"))
        self.assertEqual((self.dst / "in/there/one").read_bytes(), path.read_bytes())

    def interrupted_send(self, at_least, whom):
        """Starts a server and a sender and kills one of them when so many bytes are in the partial
        file; both. Loss keeps the sender slow; who was done all the same gets more of it."""
        for loss in (0.01, 0.03, 0.1, 0.2, 0.3):
            server = self.serve_dst()
            sender = self.partial_send(server, at_least, f"drop={loss}")
            victim = {"sender": sender, "server": server.process}[whom]
            victim.kill()
            victim.wait()
            if not (self.dst / "src/file").exists():
                return server, sender
            sender.kill()
            sender.wait()
            server.kill()
            shutil.rmtree(self.dst / "src")
        self.fail("it was too fast to be killed")

    def partial_send(self, server, at_least, tap):
        sender = subprocess.Popen(
            [tool("smt_cp"), "send", *map(str, self.client_args), "--tap", tap, str(self.src),
             f"127.0.0.1:{server.port}:"], env=plain_env(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + tool_runs.PATIENCE
        while time.monotonic() < end and sender.poll() is None:
            parts = list(self.dst.glob("**/.smt_cp-*"))
            try:
                if parts and parts[0].stat().st_blocks * 512 >= at_least:
                    break
            except FileNotFoundError:
                pass
            time.sleep(0.002)
        return sender

    def test_killed_sender(self):
        self.big("file", 96 << 20)
        server, _ = self.interrupted_send(24 << 20, "sender")
        sent = self.sent_ok(self.send(server, self.src))
        self.assertLess(sent, 80e6)
        self.assertEqual(describe(self.dst), {b"src": describe(self.dst)[b"src"],
                                              b"src/file": describe(self.src)[b"file"]})

    def test_partial_is_not_believed(self):
        self.big("file", 64 << 20)
        server, _ = self.interrupted_send(24 << 20, "sender")
        part = next(self.dst.glob("**/.smt_cp-*"))
        with open(part, "r+b") as f:
            f.seek(5_000_000)
            f.write(b"rotten")
        self.sent_ok(self.send(server, self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))

    def test_killed_server(self):
        self.big("file", 96 << 20)
        server, sender = self.interrupted_send(16 << 20, "server")
        server.kill()
        self.assertEqual(sender.wait(tool_runs.PATIENCE), 2)
        self.sent_ok(self.send(self.serve_dst(), self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))

    def test_unreadable(self):
        (self.src / "good").write_text("good")
        (self.src / "bad").write_text("bad")
        (self.src / "bad").chmod(0)
        os.mkfifo(self.src / "pipe")
        server = self.serve_dst()
        more, expected = {}, 2
        if os.geteuid() == 0:  # root reads everything: be somebody else
            for path in (self.dir, self.certs, self.certs.parent, *self.certs.iterdir()):
                path.chmod(path.stat().st_mode | 0o755)
            more = {"user": 65534}
            probe = subprocess.run([tool("smt_cp"), "-V"], capture_output=True, env=plain_env(),
                                   **more) if self.may_run(more) else None
            if probe is None or probe.returncode != 0:
                more, expected = {}, 1
        done = self.send(server, self.src, **more)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), expected, done.stderr)
        self.assertIn(f"{expected} errors", done.stdout)
        self.assertEqual((self.dst / "src/good").read_text(), "good")
        self.assertFalse((self.dst / "src/pipe").exists())

    @staticmethod
    def may_run(more):
        try:
            subprocess.run([tool("smt_cp"), "-V"], capture_output=True, env=plain_env(), **more)
            return True
        except OSError:
            return False

    def test_no_way_out(self):
        outside = self.dir / "outside"
        outside.mkdir()
        (self.src / "file").write_text("evil")
        (self.dst / "planted").symlink_to(outside)
        server = self.serve_dst()
        for dest, word in (("../outside", r"\.\."), (str(outside), "absolute"),
                           ("planted", "symbolic link"), ("planted/x", "symbolic link"),
                           ("a/../../outside", r"\.\.")):
            with self.subTest(dest=dest):
                self.assert_fails(self.send(server, self.src, dest=dest), 3, word)
        (self.src / "planted").mkdir()
        (self.src / "planted" / "inner").write_text("evil")
        done = self.send(server, f"{self.src}/")
        self.assertEqual(done.returncode, 3)
        self.assertIn("symbolic link", done.stderr)
        self.assertEqual((self.dst / "file").read_text(), "evil")
        self.assertEqual(list(outside.iterdir()), [])

    def test_hostile_sender(self):
        outside = self.dir / "outside"
        outside.mkdir()
        (self.dst / "planted").symlink_to(outside)
        (self.dst / "a").mkdir()
        server = self.serve_dst()
        c = self.certs
        done = subprocess.run(
            [str(tool_runs.PATHS["examples"].parent / "tests/net/cp_hostile"),
             f"127.0.0.1:{server.port}", c / "client.pem", c / "client.key", c / "ca.pem"],
            capture_output=True, text=True, timeout=tool_runs.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(list(outside.iterdir()), [])
        self.assertEqual({p.name for p in self.dir.iterdir()}, {"src", "dst", "outside"})
        names = {p.name for p in self.dst.rglob("*") if not p.name.startswith(".smt_cp-")}
        self.assertLessEqual(names, {"planted", "a", "sub"})

    def test_links_that_leave(self):
        (self.src / "abs").symlink_to("/etc/hostname")
        (self.src / "up").symlink_to("../../elsewhere")
        (self.src / "in").symlink_to("here")
        server = self.serve_dst()
        done = self.send(server, self.src)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(len(done.stderr.splitlines()), 2, done.stderr)
        self.assertEqual(set(describe(self.dst / "src")), {b"in"})
        server = self.serve_dst("--all-links")
        self.sent_ok(self.send(server, self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))

    def test_two_senders(self):
        for i in range(30):
            self.big(f"f{i}", 100_000 + i)
        server = self.serve_dst()
        senders = [subprocess.Popen(
            [tool("smt_cp"), "send", *map(str, self.client_args), str(self.src),
             f"127.0.0.1:{server.port}:{name}"], env=plain_env(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL) for name in "ab"]
        self.assertEqual([s.wait(tool_runs.PATIENCE) for s in senders], [0, 0])
        for name in "ab":
            self.assertEqual(describe(self.dst / name / "src"), describe(self.src))

    def test_faults_on_the_way(self):
        self.make_tree()
        server = self.serve_dst()
        self.sent_ok(self.send(server, "--tap",
                               "drop=0.02,dup=0.02,reorder=0.1,corrupt=0.01,seed=9", self.src))
        self.assertEqual(describe(self.dst / "src"), describe(self.src))
        (self.dst / "src/d2").chmod(0o700)

    def capture(self, creds, target):
        """The bytes on the wire of a copy, as the sender's tap wrote them."""
        target.mkdir()
        server = self.serve("smt_cp", target, creds=creds[0])
        done = run("smt_cp", "send", *creds[1], "--tap", f"pcap={self.dir / 'wire.pcap'}",
                   self.src, f"127.0.0.1:{server.port}:")
        self.assertEqual(done.returncode, 0, done.stderr)
        return (self.dir / "wire.pcap").read_bytes()

    def test_capture_holds_no_plaintext(self):
        known = b"nobody on the path may read this line\n"
        (self.src / "small-file-name").write_bytes(known * 3)
        (self.src / "large-file-name").write_bytes(known * 30000)
        secrets = (known[:16], known[10:26], b"small-file-name", b"large-file-name")
        sealed = self.capture((self.server_args, self.client_args), self.dir / "sealed")
        self.assertGreater(len(sealed), len(known) * 30000)
        self.assertEqual([x for x in secrets if x in sealed], [])
        # The same look at an endpoint without security finds all of it, so it would find a leak.
        plain = self.capture((["--plaintext"], ["--plaintext"]), self.dir / "open")
        self.assertEqual([x for x in secrets if x not in plain], [])

    def test_bad_input(self):
        for args, code, words in (
                ([], 1, ["serve", "send"]), (["send", "x"], 1, ["send"]),
                (["serve", "--nonsense", "x"], 1, ["nonsense"]),
                (["serve", *self.server_args, "/nonexistent"], 1, ["nonexistent"]),
                (["send", *self.client_args, self.src, "localhost"], 1, ["host:dir"]),
                (["send", *self.client_args, self.src, "localhost:99"], 1, ["host:port:"]),
                (["send", self.src, "localhost:x"], 2, ["credential"]),
                (["send", "--deadline", "1", *self.client_args, self.src, "127.0.0.1:4:x"], 2,
                 ["cannot connect"])):
            with self.subTest(args=args):
                self.assert_fails(run("smt_cp", *args), code, *words)
        server = self.serve_dst()
        done = self.send(server, self.src / "missing")
        self.assertEqual(done.returncode, 3)
        self.assertIn("missing", done.stderr)
        done = run("smt_cp", "serve", "-p", server.port, "--bind", "127.0.0.1", *self.server_args,
                   self.dst)
        self.assert_fails(done, 2, "in use")


class Echo(Case):
    def env(self, who):
        c = self.certs
        return plain_env(SMT_CERT=str(c / f"{who}.pem"), SMT_KEY=str(c / f"{who}.key"),
                         SMT_CA=str(c / "ca.pem"))

    def check(self, name, ends_well):
        server = tool_runs.Server(name, 0, env=self.env("server"))
        try:
            for text in ("hello", "", "x" * 4000):
                done = run("echo_client", f"localhost:{server.port}", text, env=self.env("client"))
                self.assertEqual((done.returncode, done.stdout), (0, text + "\n"), done.stderr)
            done = run("echo_client", "localhost:4", "x", env=self.env("client"))
            self.assertEqual(done.returncode, 1)
            self.assertIn("echo_client: ", done.stderr)
        finally:
            if ends_well:
                server.process.send_signal(signal.SIGINT)
                self.assertEqual(server.wait(), 0)
                server.stop()
            else:
                server.kill()

    def test_echo_server(self):
        self.check("echo_server", False)

    def test_event_server(self):
        self.check("event_server", True)


if __name__ == "__main__":
    tool_runs.main("__main__")
