"""Processes, credentials and servers for the tests of the tools (standard library only)."""
import json
import os
import pathlib
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Sanitizer builds on a busy machine: what takes 1 s alone may take a minute.
PATIENCE = 400

PATHS = {"tools": None, "examples": None}


def tool(name):
    where = "tools" if name in ("smt_lat", "smt_bw", "smt_info") else "examples"
    return str(PATHS[where] / name)


def plain_env(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("SMT_")}
    env.update(more)
    return env


def run(name, *args, env=None, timeout=PATIENCE, prefix=(), **more):
    """Runs a tool to its end, by the command `prefix` if any."""
    return subprocess.run([*prefix, tool(name), *map(str, args)], env=env or plain_env(), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, **more)


class Server:
    """A tool in its own process that says "port N" when it is ready."""

    def __init__(self, name, *args, env=None, port=0, prefix=()):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*prefix, tool(name), *map(str, args)], env=env or plain_env(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        self.port = port or self.read_port()

    def read_port(self):
        text = ""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if not select.select([self.process.stdout], [], [], 1)[0]:
                continue
            line = self.process.stdout.readline()
            text += line
            found = re.search(r"port (\d+)", line)
            if found:
                return int(found.group(1))
            if not line:
                break
        raise AssertionError("server did not start: " + text + self.errors())

    def errors(self):
        self.log.seek(0)
        return self.log.read()

    def wait(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def stop(self):
        """SIGTERM; the exit code. Anything but an orderly end fails the test that uses it."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.said = self.errors()
        self.process.stdout.close()
        self.log.close()
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True, text=True)


def make_certs(where):
    subprocess.run([str(ROOT / "scripts/make-certs"), str(where)], check=True, capture_output=True,
                   text=True)
    return where


def make_short_cert(certs, name, seconds):
    """A certificate for localhost by the CA in `certs` that ends in so many seconds (or has ended)."""
    work = certs / ("ca-" + name)
    work.mkdir()
    (work / "index").write_text("")
    (work / "serial").write_text("7000\n")
    (work / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndir=.\ndatabase=./index\nserial=./serial\nnew_certs_dir=.\n"
        "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        "[e]\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")

    def stamp(t):
        return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"../{name}.key", "-out", "csr.pem", "-subj", f"/CN={name}", cwd=work)
    openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-extensions", "e", "-cert",
            "../ca.pem", "-keyfile", "../ca.key", "-in", "csr.pem", "-out", f"../{name}.pem",
            "-startdate", stamp(time.time() - 86400), "-enddate", stamp(time.time() + seconds),
            cwd=work)


def cert_args(certs, name, ca="ca.pem"):
    return ["--cert", certs / f"{name}.pem", "--key", certs / f"{name}.key", "--ca", certs / ca]


class Case(unittest.TestCase):
    """Credentials once per class, a scratch directory per test, servers that end with the test."""

    @classmethod
    def setUpClass(cls):
        cls.dir_of_class = tempfile.TemporaryDirectory()
        base = pathlib.Path(cls.dir_of_class.name)
        cls.certs = make_certs(base / "certs")
        cls.server_args = cert_args(cls.certs, "server")
        cls.client_args = cert_args(cls.certs, "client")

    @classmethod
    def tearDownClass(cls):
        cls.dir_of_class.cleanup()

    def setUp(self):
        dir_of_test = tempfile.TemporaryDirectory()
        self.addCleanup(dir_of_test.cleanup)
        self.dir = pathlib.Path(dir_of_test.name)
        self.servers = []

    def serve(self, name, *args, creds=None, env=None):
        before = ["serve"] if name == "smt_cp" else []
        server = Server(name, *before, "-p", 0, "--bind", "127.0.0.1",
                        *(self.server_args if creds is None else creds), *args, env=env)
        self.addCleanup(self.end, server)
        return server

    def end(self, server):
        if server.process.returncode is None:
            code = server.stop()
            self.assertEqual(code, 0, server.said)

    def assert_fails(self, done, code, *words):
        """One line on standard error that holds the words, and the exit code."""
        lines = [x for x in done.stderr.splitlines() if x and not x.startswith("***")]
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertRegex(lines[0].lower(), word.lower())


def load(text):
    return json.loads(text)


def main(module):
    """test_x.py TOOLS_DIR EXAMPLES_DIR [unittest arguments]"""
    PATHS["tools"] = pathlib.Path(sys.argv[1]).resolve()
    PATHS["examples"] = pathlib.Path(sys.argv[2]).resolve()
    unittest.main(module=module, argv=[sys.argv[0], "-v", *sys.argv[3:]])
