"""What core sends, seen by the independent decoder: test_capture.py GEN_CAPTURE."""
import collections
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import decode_smt2  # noqa: E402

GEN_CAPTURE = None


class Simulated(unittest.TestCase):
    def run_and_decode(self, bits):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'run.pcap')
            text = subprocess.run([GEN_CAPTURE, path, bits], capture_output=True, text=True,
                                  check=True).stdout
            with open(path, 'rb') as f:
                data = f.read()
        secrets = [bytes.fromhex(s) for s in re.findall(r'^secret ([0-9a-f]{64})$', text, re.M)]
        self.assertGreaterEqual(len(secrets), 2, text)
        counts = re.search(r'^requests (\d+) messages (\d+) responses (\d+)$', text, re.M)
        lines = []
        capture = decode_smt2.Capture(secrets, None, lines.append)
        capture.read(data)
        self.assertEqual(capture.violations, [], '\n'.join(lines[-20:]))
        kinds = collections.Counter(decode_smt2.WHAT[m.what] for m in capture.messages.values())
        self.assertEqual([kinds[k] for k in ('REQUEST', 'ONEWAY', 'RESPONSE')],
                         [int(n) for n in counts.groups()])
        self.assertTrue(all(m.complete() for m in capture.messages.values()))
        epochs = {int(e) for e in re.findall(r' epoch=(\d+) ', '\n'.join(lines))}
        self.assertGreaterEqual(len(epochs), 3, epochs)

    def test_aes_128(self):
        self.run_and_decode('128')

    def test_aes_256(self):
        self.run_and_decode('256')


if __name__ == '__main__':
    GEN_CAPTURE = sys.argv.pop(1)
    unittest.main()
