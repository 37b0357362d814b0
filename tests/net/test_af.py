#!/usr/bin/env python3
"""The device `af` between two network namespaces that this test makes: with itself, with `udp`, over a
link that goes away for a while, and where it must make do with UDP sockets."""
import os
import subprocess
import threading
import time
import unittest

import tool_runs
from tool_runs import Case, Server, load, run

HOSTS = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Af(Case):
    @classmethod
    def setUpClass(cls):
        cls.spaces = [f"smt-af-{os.getpid()}-{end}" for end in "ab"]
        cls.made = []
        try:
            for space in cls.spaces:
                ip("netns", "add", space)
                cls.made.append(space)
            a, b = cls.spaces
            ip("link", "add", "va", "netns", a, "type", "veth", "peer", "name", "vb", "netns", b)
            for space, link, end in ((a, "va", 0), (b, "vb", 1)):
                ip("-n", space, "addr", "add", HOSTS[4][end] + "/24", "dev", link)
                ip("-n", space, "addr", "add", HOSTS[6][end] + "/64", "dev", link, "nodad")
                ip("-n", space, "link", "set", link, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            cls.tearDownClass()
            raise unittest.SkipTest("no network namespaces with a veth pair here: "
                                    f"{getattr(error, 'stderr', error)}") from error

    @classmethod
    def tearDownClass(cls):
        for space in cls.made:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)

    def inside(self, end):
        return ["ip", "netns", "exec", self.spaces[end]]

    def by_sockets(self, end):
        """UDP datagrams that this end's kernel has sent from sockets."""
        text = subprocess.run([*self.inside(end), "cat", "/proc/net/snmp", "/proc/net/snmp6"],
                              check=True, capture_output=True, text=True).stdout
        names, values = [x.split() for x in text.splitlines() if x.startswith("Udp:")]
        v6 = [int(x.split()[1]) for x in text.splitlines() if x.startswith("Udp6OutDatagrams")]
        return int(values[names.index("OutDatagrams")]) + sum(v6)

    def measure(self, name, server, client, *args, family=4, server_args=()):
        s = Server(name, "-p", 0, "-d", server, "--plaintext", *server_args,
                   prefix=self.inside(1))
        self.addCleanup(self.end, s)
        host = HOSTS[family][1]
        host = f"[{host}]" if family == 6 else host
        done = run(name, "-d", client, "--plaintext", "--verify", "--json", "-", *args,
                   f"{host}:{s.port}", prefix=self.inside(0))
        self.assertEqual(done.returncode, 0, done.stderr)
        [result] = load(done.stdout)["results"]
        self.assertEqual(result["errors"], 0)
        return result

    def check_pair(self, server, client, family, *args):
        before = self.by_sockets(0), self.by_sockets(1)
        result = self.measure("smt_lat", server, client, "-s", 64, "-n", 2000, *args,
                              family=family)
        self.assertEqual(result["iterations"], 2000)
        for end, device in enumerate((client, server)):
            sent = self.by_sockets(end) - before[end]
            if device == "udp":
                self.assertGreater(sent, 2000)
            else:  # until the kernel has resolved the other end
                self.assertLess(sent, 1000, f"{device} sent by sockets")

    def test_with_itself(self):
        self.check_pair("af:vb", "af:va", 4)

    def test_with_udp(self):
        self.check_pair("udp", "af", 4)
        self.check_pair("af", "udp", 4)

    def test_ipv6(self):
        self.check_pair("af", "af", 6)
        self.check_pair("udp", "af", 6)

    def test_sleeping(self):
        before = self.by_sockets(0)
        self.measure("smt_lat", "af", "af", "-s", 64, "-n", 1000, "-e", server_args=["-e"])
        self.assertLess(self.by_sockets(0) - before, 500)

    def test_large_and_many(self):
        for server, client in (("af", "af"), ("udp", "af"), ("af", "udp")):
            self.measure("smt_bw", server, client, "-s", 100000, "-n", 100)
            self.measure("smt_bw", server, client, "-s", 64, "-n", 5000)

    def test_threads_share_a_port(self):
        for server, client in (("af", "af"), ("af", "udp"), ("udp", "af")):
            before = self.by_sockets(0), self.by_sockets(1)
            result = self.measure("smt_bw", server, client, "-s", 64, "-n", 3000, "-T", 2, "-S", 8,
                                  "-t", 32, "-e", server_args=["-T", 2, "--share-port"])
            self.assertEqual(result["iterations"], 6000)
            for end, device in enumerate((client, server)):
                if device == "af":
                    self.assertLess(self.by_sockets(end) - before[end], 1000)

    def test_the_link_comes_back(self):
        def interrupt():
            time.sleep(0.4)
            ip("-n", self.spaces[0], "link", "set", "va", "down")
            time.sleep(0.3)
            ip("-n", self.spaces[0], "link", "set", "va", "up")
        for args in ([], ["-e"]):
            other = threading.Thread(target=interrupt)
            other.start()
            before = self.by_sockets(0)
            result = self.measure("smt_lat", "af", "af", "-s", 64, "-D", 2, *args)
            other.join()
            # While it was away some went that way; on a slow machine those are most of all.
            self.assertLess(self.by_sockets(0) - before, result["iterations"] / 2 + 500)


class Refused(Case):
    def test_no_such_link(self):
        done = run("smt_lat", "-d", "af:nosuch0", "--plaintext", "-p", 0)
        self.assert_fails(done, done.returncode, "nosuch0")
        self.assertNotEqual(done.returncode, 0)

    def test_without_capability(self):
        drop = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]
        # Shared memory between the two would hide what `af` has to say.
        env = tool_runs.plain_env(SMT_SHM="0")
        s = Server("smt_lat", "-p", 0, "-d", "af", "--plaintext", "--bind", "127.0.0.1", env=env,
                   prefix=drop)
        self.addCleanup(self.end, s)
        done = run("smt_lat", "-d", "af", "--plaintext", "-v", "-n", 50, f"127.0.0.1:{s.port}",
                   env=env, prefix=drop)
        self.assertEqual(done.returncode, 0, done.stderr)
        if os.geteuid() == 0:
            self.assertRegex(done.stderr, "CAP_NET_RAW|loopback")


if __name__ == "__main__":
    tool_runs.main("__main__")
