#!/usr/bin/env python3
"""smt_pcap as a process: on the captures of real kernels, on copies with one thing damaged, and on
each wrong input.

usage: test_smt_pcap.py SMT_PCAP DATA_DIR"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

TOOL, DATA = "", pathlib.Path()
KEYS = ("client 8DD230A77A05EB71159129BCBCF64230 87C635C8  # the bench's\n\n"
        "server 6ccf62ff4be61485d8ba29fe2e847a7f b9fa5583\n")
PROFILES = {"homa61": "homa-6.1", "homamain": "homa-main", "smt": "smt1"}
ETHER, IP = 14, 20


def packets(name):
    """The packets of a capture as [16-byte head, frame], and the file's head."""
    raw = (DATA / f"{name}.pcap").read_bytes()
    out, at = [], 24
    while at < len(raw):
        n = struct.unpack_from("<I", raw, at + 8)[0]
        out.append([raw[at:at + 16], bytearray(raw[at + 16:at + 16 + n])])
        at += 16 + n
    return raw[:24], out


class Case(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="smt_pcap.")
        self.dir = pathlib.Path(self.scratch.name)
        self.keys = self.dir / "keys"
        self.keys.write_text(KEYS)

    def tearDown(self):
        self.scratch.cleanup()

    def run_tool(self, *args):
        return subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, timeout=900)

    def inspect(self, file, profile, *args):
        """The JSON of a run, and its exit code."""
        done = self.run_tool(file, "--profile", profile, "--json", *args)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout), done.returncode

    def write(self, head, frames):
        path = self.dir / "damaged.pcap"
        with path.open("wb") as out:
            out.write(head)
            for record, frame in frames:
                record = record[:8] + struct.pack("<II", len(frame), len(frame))
                out.write(record + frame)
        return path

    def damage(self, name, change, *args):
        """A copy whose packets `change` has altered: its faults as {number: text}, the messages."""
        head, frames = packets(name)
        frames = change(frames) or frames
        top, code = self.inspect(self.write(head, frames), PROFILES[name.split("_")[0]], *args)
        faults = {p["number"]: p["fault"] for p in top["packets"] if "fault" in p}
        self.assertEqual(code, 1 if faults else 0)
        self.assertEqual(top["broken"], len(faults))
        return faults, top["messages"]


class Whole(Case):
    def test_every_capture(self):
        for file in sorted(DATA.glob("*.pcap")):
            family = file.stem.split("_")[0]
            if family not in PROFILES:
                continue
            keys = ["--keys", self.keys] if family == "smt" else []
            with self.subTest(file.stem):
                top, code = self.inspect(file, PROFILES[family], *keys)
                self.assertEqual((code, top["broken"]), (0, 0))
                self.assertTrue(all(m["complete"] for m in top["messages"]))
                shas = {m["sha256"] for m in top["messages"] if m["length"] == 64}
                self.assertLessEqual(len(shas), 1)
                ids = {m["id"] for m in top["messages"]}
                self.assertEqual(ids, {i ^ 1 for i in ids})

    def test_text(self):
        done = self.run_tool(DATA / "smt_16KB.pcap", "-p", "smt1", "-k", self.keys)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 78 + 6 + 1)
        self.assertIn("78 packets, 78 of smt1, 0 against the rules; 6 messages, 6 complete",
                      lines[-1])
        self.assertIn("rpc 1354 request port 32770 > 2003: 16384 bytes in 12 packets, sha256 85e1",
                      lines[78])
        quiet = self.run_tool(DATA / "smt_16KB.pcap", "-q", "-p", "smt1", "-k", self.keys)
        self.assertEqual(quiet.stdout.splitlines(), lines[78:])

    def test_without_keys_nothing_is_claimed(self):
        top, code = self.inspect(DATA / "smt_64B.pcap", "smt1")
        self.assertEqual(code, 0)
        for m in top["messages"]:
            self.assertEqual((m["complete"], m["sha256"], m["seen"]), (False, "", 64))
        one = self.dir / "one"
        one.write_text(KEYS.splitlines()[0])
        top, code = self.inspect(DATA / "smt_64B.pcap", "smt1", "--keys", one)
        self.assertEqual([m["complete"] for m in top["messages"]], [True, False] * 3)

    def test_others_are_named(self):
        top, code = self.inspect(DATA / "homa61_loss10_mtu1500.pcap", "homa-6.1")
        names = {p["text"].split(" type")[0] for p in top["packets"] if not p["ours"]}
        self.assertEqual((code, names), (0, {"ARP", "ICMP"}))
        top, code = self.inspect(DATA / "roce_ud_and_rc_small.pcap", "homa-main")
        self.assertEqual((code, {p["text"] for p in top["packets"]}), (0, {"RoCE v2"}))
        top, code = self.inspect(DATA / "homamain_64B.pcap", "homa-6.1")
        self.assertEqual((code, top["ours"], top["packets"][0]["text"]), (0, 0, "IP protocol 146"))


class Damaged(Case):
    """Each change is found at its packet and nowhere else."""

    def one(self, name, number, text, *args, edit):
        def change(frames):
            edit(frames[number - 1][1])
        faults, messages = self.damage(name, change, *args)
        self.assertEqual(list(faults), [number], faults)
        self.assertIn(text, faults[number])
        return messages

    def set(self, at, value):
        def edit(frame):
            frame[ETHER + at:ETHER + at + len(value)] = value
        return edit

    def l4(self, at, value):
        return self.set(IP + at, value)

    def cut(self, n):
        def edit(frame):
            frame[ETHER + 2:ETHER + 4] = struct.pack(">H", IP + n)
        return edit

    def test_packets(self):
        main, v61 = "homamain_1500B", "homa61_20KB"
        self.one(main, 7, "unknown type 0x1f", edit=self.l4(11, b"\x1f"))
        self.one(main, 7, "RESEND of 36 bytes, needs 37", edit=self.cut(36))
        self.one(main, 7, "27 bytes, shorter than any", edit=self.cut(27))
        self.one(main, 7, "priority 8", edit=self.l4(36, b"\x08"))
        self.one(main, 7, "offset 1501 of a message of 1500",
                 edit=self.l4(28, struct.pack(">I", 1501)))
        self.one(main, 12, "6 acks", edit=self.l4(28, b"\0\6"))
        self.one(main, 15, "an ack of 7", edit=self.l4(36, struct.pack(">Q", 7)))
        self.one(main, 1, "announces 1501 bytes", edit=self.l4(32, struct.pack(">I", 1501)))
        self.one(main, 1, "DF is not set", edit=self.set(6, b"\0\0"))
        self.one(main, 1, "a fragment", edit=self.set(6, b"\x60\0"))
        self.one(v61, 9, "offset 20001 of a message of 20000",
                 edit=self.l4(28, struct.pack(">I", 20001)))
        self.one("homa61_loss10_mtu1500", 19, "asks for all",
                 edit=self.l4(32, b"\xff\xff\xff\xff"))

    def test_messages(self):
        main, v61 = "homamain_1500B", "homa61_20KB"
        self.one(main, 1, "a message of 0 bytes", edit=self.l4(28, bytes(4)))
        self.one(main, 1, "a message of 1000001", edit=self.l4(28, struct.pack(">I", 1000001)))
        self.one(main, 2, "76 bytes at 1425 of a message of 1500",
                 edit=self.l4(4, struct.pack(">I", 1425)))
        self.one(main, 2, "packet 1 said 1500", edit=self.l4(28, struct.pack(">I", 1501)))
        self.one(main, 8, "differ from those of an earlier", edit=self.l4(100, b"\xee"))
        # Six bytes on: the gap is left open, and the next packet overlaps.
        faults, messages = self.damage(
            v61, lambda f: self.l4(52, struct.pack(">I", 1430))(f[1][1]))
        self.assertEqual(list(faults), [3])
        self.assertFalse(messages[0]["complete"])
        self.assertTrue(all(m["complete"] for m in messages[1:]))

    def test_lost_packet(self):
        faults, messages = self.damage("homa61_20KB", lambda f: f[:3] + f[4:])
        self.assertEqual(faults, {})
        self.assertEqual([m["complete"] for m in messages], [False, True, True, True])
        self.assertEqual(messages[0]["seen"], 20000 - 1424)
        self.assertEqual(messages[0]["sha256"], "")

    def test_order_does_not_matter(self):
        _, want = self.damage("smt_16KB", lambda f: None, "--keys", self.keys)
        faults, got = self.damage("smt_16KB", lambda f: list(reversed(f)), "--keys", self.keys)
        self.assertEqual(faults, {})
        self.assertEqual({m["id"]: m["sha256"] for m in got}, {m["id"]: m["sha256"] for m in want})

    def test_records(self):
        keys = ("--keys", self.keys)
        name = "smt_16KB"
        # A bit of a record is found when its last packet comes.
        for at in (60, 1479):
            faults, messages = self.damage(
                name, lambda f, at=at: self.l4(at, bytes([f[2][1][ETHER + IP + at] ^ 1]))(f[2][1]),
                *keys)
            self.assertEqual(list(faults), [6])
            self.assertIn("record 0 at offset 0 does not open", faults[6])
            self.assertEqual([m["complete"] for m in messages], [False] + [True] * 5)
        # The number in the clear must be the RPC's.
        faults, _ = self.damage(name, lambda f: self.l4(45, bytes(8))(f[0][1]), *keys)
        self.assertEqual(list(faults), [6])
        self.assertIn("is not of this RPC", faults[6])
        # The place of a packet is its IPv4 id.
        faults, messages = self.damage(name, lambda f: self.set(4, b"\0\3")(f[2][1]), *keys)
        self.assertEqual(list(faults), [4])
        self.assertFalse(messages[0]["complete"])
        self.one(name, 3, "number 60", *keys, edit=self.set(4, b"\0\x3c"))
        self.one(name, 1, "no record", *keys, edit=self.l4(40, b"\x16"))
        self.one(name, 12, "a slice of 841 bytes", *keys, edit=self.cut(881))
        # Records of a message change places: each opens, but their order is not that of the bytes.
        keys_other = self.dir / "other"
        keys_other.write_text(KEYS.replace("8DD2", "8DD3"))
        faults, messages = self.damage("smt_64B", lambda f: None, "--keys", keys_other)
        self.assertEqual(list(faults), [1, 7, 9])
        self.assertEqual([m["complete"] for m in messages], [False, True] * 3)

    def test_mtu(self):
        faults, messages = self.damage("smt_16KB", lambda f: None, "--keys", self.keys,
                                       "--mtu", 1400)
        self.assertGreater(len(faults), 30)
        self.assertFalse(any(m["complete"] for m in messages))

    def test_damaged_file(self):
        raw = (DATA / "homamain_64B.pcap").read_bytes()
        path = self.dir / "x.pcap"
        for cut, text in ((10, "shorter than the head"), (100, "ends inside a packet")):
            path.write_bytes(raw[:cut])
            done = self.run_tool(path, "-p", "homa-main")
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)
        path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(60))
        self.assertIn("pcapng", self.run_tool(path, "-p", "homa-main").stderr)
        # Whatever the bytes are, it ends, and by itself.
        step = 7
        for at in range(24, len(raw), step):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 0xff]) + raw[at + 1:])
            self.assertIn(self.run_tool(path, "-p", "homa-main", "-q").returncode, (0, 1, 2))


class Usage(Case):
    def fails(self, text, *args):
        done = self.run_tool(*args)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(text, done.stderr)

    def test_wrong_use(self):
        file = DATA / "smt_64B.pcap"
        self.fails("one file is wanted", "-p", "smt1")
        self.fails("--profile is", file)
        self.fails("--profile is", file, "-p", "homa")
        self.fails("MTU", file, "-p", "smt1", "--mtu", "x")
        self.fails("invalid argument", file, "-p", "smt1", "--mtu", "100")
        self.fails("of use for profile smt1 alone", file, "-p", "homa-main", "-k", self.keys)
        self.fails("No such file", self.dir / "none", "-p", "smt1")
        self.assertEqual(self.run_tool("--help").returncode, 0)

    def test_key_files(self):
        bad = [("client 00 87C635C8\n", "line 1 has a key that is not 32"),
               (KEYS.replace("87C635C8", "87C635"), "line 1 has a salt that is not 8"),
               ("\nfriend 0 0\n", "line 2 begins with neither"),
               ("client 00\n", "line 1 is not a key and a salt"),
               (KEYS + KEYS, "gives a second key"),
               ("# nothing\n", "there was no key")]
        for text, want in bad:
            self.keys.write_text(text)
            with self.subTest(want):
                self.fails(want, DATA / "smt_64B.pcap", "-p", "smt1", "-k", self.keys)
        self.fails("No such file", DATA / "smt_64B.pcap", "-p", "smt1", "-k", self.dir / "none")


if __name__ == "__main__":
    TOOL, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
    del sys.argv[1:3]
    unittest.main()
