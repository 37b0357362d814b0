#!/usr/bin/env python3
"""What the README shows works: its example compiles and runs, its commands run as they stand.

The commands run in a network namespace of their own, because they use the default port."""
import re
import shutil
import subprocess

import tool_runs
from tool_runs import ROOT, Case, Server, plain_env

LONG = ("scripts/demo", "scripts/test", "apt-get", "meson setup", "cc -o hello")
NAMESPACE = ["unshare", "--map-root-user", "--net", "sh", "-ec",
             'ip link set lo up; exec bash -eu "$0"']


class Readme(Case):
    def setUp(self):
        super().setUp()
        self.text = (ROOT / "README.md").read_text()
        self.build = tool_runs.PATHS["examples"].parent
        (self.dir / "build").symlink_to(self.build)
        (self.dir / "scripts").symlink_to(ROOT / "scripts")

    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.S)

    def test_example(self):
        (code,) = self.blocks("c")
        self.assertLessEqual(len(code.splitlines()), 26)
        server = Server("echo_server", 0, env=plain_env(
            SMT_CERT=str(self.certs / "server.pem"), SMT_KEY=str(self.certs / "server.key"),
            SMT_CA=str(self.certs / "ca.pem")))
        self.addCleanup(server.kill)
        (self.dir / "certs").symlink_to(self.certs)
        (self.dir / "hello.c").write_text(code.replace('"localhost"', f'"localhost:{server.port}"'))
        lib = self.build / "src"
        sanitize = self.sanitizers(lib / "libsmt-verbs.so")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", *sanitize, "-o", "hello", "hello.c",
                        f"-I{ROOT / 'include'}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lsmt-verbs"],
                       cwd=self.dir, check=True)
        done = subprocess.run(["./hello"], cwd=self.dir, capture_output=True, text=True,
                              timeout=tool_runs.PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (0, "hello\n"), done.stderr)

    @staticmethod
    def sanitizers(library):
        """A sanitized library wants the program sanitized as well."""
        return ["-fsanitize=address,undefined"] if b"__asan_init" in library.read_bytes() else []

    def test_commands(self):
        if shutil.which("unshare") is None or subprocess.run(
                [*NAMESPACE, "/dev/null"], capture_output=True).returncode != 0:
            self.skipTest("no network namespaces here")
        n_run = 0
        for block in self.blocks("sh"):
            if any(word in block for word in LONG):
                continue
            done = subprocess.run(
                [*NAMESPACE, "/dev/stdin"], input=block, cwd=self.dir, env=plain_env(), text=True,
                capture_output=True, timeout=tool_runs.PATIENCE)
            self.assertEqual(done.returncode, 0, block + done.stdout + done.stderr)
            n_run += 1
        self.assertGreaterEqual(n_run, 3)
        self.assertTrue((self.dir / "received/certs/ca.pem").exists())

    def test_packages(self):
        lib = (ROOT / "scripts/lib.sh").read_text()
        packages = re.search(r'BUILD_PACKAGES="(.*?)"', lib, re.S).group(1).split()
        shown = re.search(r"apt-get install (.*)", self.text).group(1).split()
        self.assertLessEqual(set(packages), set(shown))

    def test_names(self):
        """Every path that is named exists."""
        for path in re.findall(r"`((?:src|docs|tests|examples|scripts|include)/[\w./-]*)`",
                               self.text) + re.findall(r"\]\(([\w./]+)\)", self.text):
            self.assertTrue((ROOT / path).exists(), path)
        layers = {p.name for p in (ROOT / "src").iterdir() if p.is_dir()}
        named = set(re.findall(r"`src/(\w+)/`", self.text))
        self.assertEqual(named, layers)


if __name__ == "__main__":
    tool_runs.main("__main__")
