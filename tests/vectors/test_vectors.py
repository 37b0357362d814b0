"""The vectors and their decoder: test_vectors.py GENERATOR.

The generator still gives the committed file, the decoder accepts it, refuses corrupted copies, and
reads captures made of the same packets.
"""
import hashlib
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import decode_smt2  # noqa: E402
from smt2_format import Violation  # noqa: E402

GENERATOR = None
VECTORS = os.path.join(HERE, 'smt2.txt')
DOCUMENT = os.path.join(HERE, '..', '..', 'docs', 'wire.md')
N_CORRUPT = 150
HEX = '0123456789abcdef'


def read_vectors():
    with open(VECTORS, encoding='utf-8') as f:
        return f.read()


def run_decoder(*args):
    return subprocess.run([sys.executable, '-B', os.path.join(HERE, 'decode_smt2.py'), *args],
                          capture_output=True, text=True, check=False)


def udp(sport, dport, payload):
    return struct.pack('>HHHH', sport, dport, 8 + len(payload), 0) + payload


def ipv4(proto, body, ident=0, frag=0x4000):
    return struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(body), ident, frag, 64, proto, 0,
                       b'\x0a\0\0\x01', b'\x0a\0\0\x02') + body


def ipv6(proto, body):
    return struct.pack('>IHBB', 6 << 28, len(body), proto, 64) + bytes(32) + body


def pcap(link, frames, order='<', magic=0xa1b2c3d4):
    out = struct.pack(order + 'IHHiIII', magic, 2, 4, 0, 0, 262144, link)
    for i, frame in enumerate(frames):
        out += struct.pack(order + 'IIII', 1000, i, len(frame), len(frame)) + frame
    return out


def ethernet(ip, vlan=False):
    tag = b'\x81\0\0\x05' if vlan else b''
    return bytes(12) + tag + (b'\x08\0' if ip[0] >> 4 == 4 else b'\x86\xdd') + ip


class VectorFile(unittest.TestCase):
    def test_generator_gives_the_committed_file(self):
        made = subprocess.run([GENERATOR], capture_output=True, check=True).stdout
        with open(VECTORS, 'rb') as f:
            self.assertEqual(made, f.read(), 'smt2.txt is not what %s writes' % GENERATOR)

    def test_decoder_accepts_it(self):
        done = run_decoder(VECTORS)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn('42 sections agree', done.stdout)

    def test_corrupted_copy_fails_the_program(self):
        text = read_vectors()
        at = text.index('packet=\n') + 100
        with tempfile.NamedTemporaryFile('w', suffix='.txt') as f:
            f.write(text[:at] + ('0' if text[at] != '0' else '1') + text[at + 1:])
            f.flush()
            done = run_decoder(f.name)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn('VIOLATION', done.stdout)

    def test_any_changed_digit_is_found(self):
        text = read_vectors()
        digits, comment = [], False
        for at, char in enumerate(text):
            if at == 0 or text[at - 1] == '\n':
                value = char == ' '
                comment = char in '#['
            elif char == '=':
                value = True
            if value and not comment and char in HEX:
                digits.append(at)
        rng = random.Random(2)
        for at in rng.sample(digits, N_CORRUPT):
            other = rng.choice(HEX.replace(text[at], ''))
            with self.assertRaises((Violation, ValueError), msg='%d: %s' % (at, text[at - 30:at])):
                decode_smt2.Vectors(text[:at] + other + text[at + 1:]).check()

    def test_document_quotes_the_file(self):
        with open(DOCUMENT, encoding='utf-8') as f:
            blocks = re.findall(r'```\n(.*?)```', f.read().split('## 9. Vectors')[1], re.S)
        quoted = re.findall(r'\b[0-9a-f]{8,}\b', ''.join(blocks))
        self.assertGreater(len(quoted), 30)
        known = set(re.findall(r'\b[0-9a-f]{8,}\b', read_vectors()))
        self.assertEqual([q for q in quoted if q not in known], [])

    def test_missing_and_repeated_lines_are_found(self):
        text = read_vectors()
        for line in ('role=0\n', 'version=2\n', 'done=0000000000000002\n', 'length=64\n'):
            self.assertIn(line, text)
            with self.assertRaises(Violation):
                decode_smt2.Vectors(text.replace(line, '', 1)).check()
            with self.assertRaises(Violation):
                decode_smt2.Vectors(text.replace(line, line + line, 1)).check()


class Captures(unittest.TestCase):
    def setUp(self):
        self.sections = decode_smt2.parse_sections(read_vectors())
        self.secret = bytes.fromhex(self.sections['keys-128']['secret'])

    def bytes_of(self, name, key='packet'):
        return bytes.fromhex(self.sections[name][key])

    def udp_of(self, name, pkt=None):
        pkt = pkt or self.bytes_of(name)
        return udp(*struct.unpack('>HH', pkt[:4]), pkt)

    def decode(self, data, port=18515, secret=None):
        lines = []
        capture = decode_smt2.Capture([secret or self.secret], port, lines.append)
        capture.read(data)
        capture.report()
        return capture, '\n'.join(lines)

    def names(self):
        return [n for n, s in self.sections.items() if s['type'] == 'packet'
                and s.get('keys') in (None, 'keys-128', 'keys-128-epoch-2')]

    def assert_message(self, text, ident, way, what, name):
        section = self.sections[name]
        line = 'message id=%d %s %s length=%s sha256=%s' % (ident, way, what, section['length'],
                                                            section['sha256'])
        self.assertIn(line, text)

    def test_every_link_type(self):
        packets = [self.udp_of(n) for n in self.names()]
        four = [ipv4(17, p) for p in packets]
        files = [pcap(1, [ethernet(p) for p in four]),
                 pcap(1, [ethernet(p, vlan=True) for p in four], '>'),
                 pcap(1, [ethernet(ipv6(17, p)) for p in packets], '<', 0xa1b23c4d),
                 pcap(101, four),
                 pcap(113, [bytes(14) + b'\x08\0' + p for p in four]),
                 pcap(276, [b'\x08\0' + bytes(18) + p for p in four])]
        for data in files:
            capture, text = self.decode(data)
            self.assertEqual(capture.violations, [], text)
            self.assertEqual(capture.packets, len(packets))
            self.assert_message(text, 5, 'i>r', 'request', 'message-request-64')
            self.assert_message(text, 5, 'r>i', 'response', 'message-response-100')
            self.assert_message(text, 1, 'r>i', 'oneway', 'message-oneway-0')
            self.assert_message(text, 6, 'i>r', 'oneway', 'message-oneway-1000')
            self.assertIn('GRANT id=8000000000000007', text)

    def test_burst_over_raw_ip(self):
        parts = [self.bytes_of('burst-1200', 'packet.%d' % i) for i in range(3)]
        frames = [ipv4(254, p, ident=i) for i, p in enumerate(parts)]
        for order in ((0, 1, 2), (2, 0, 1)):
            capture, text = self.decode(pcap(101, [frames[i] for i in order]))
            self.assertEqual(capture.violations, [], text)
            self.assert_message(text, 7, 'r>i', 'response', 'message-burst-1200')
        capture, text = self.decode(pcap(101, frames[:2] + [ipv4(254, parts[2], ident=3)]))
        self.assertIn('slice 3', text)
        capture, text = self.decode(pcap(101, [ipv6(254, p) for p in parts]))
        self.assertIn('the index is the IPv4 id', text)

    def test_slices_over_udp(self):
        parts = [self.bytes_of('slices-1500', 'packet.%d' % i) for i in range(4)]
        for ip in (ipv4, ipv6):
            for order in ((0, 1, 2, 3), (3, 1, 0, 2), (0, 1, 1, 2, 3)):
                frames = [ip(17, self.udp_of(None, parts[i])) for i in order]
                capture, text = self.decode(pcap(101, frames))
                self.assertEqual(capture.violations, [], text)
                self.assert_message(text, 9, 'i>r', 'request', 'message-slices-1500')
        joined = b''.join(parts)
        capture, text = self.decode(pcap(101, [ipv4(17, self.udp_of(None, joined))]))
        self.assertEqual(capture.violations, [], text)
        self.assert_message(text, 9, 'i>r', 'request', 'message-slices-1500')
        beyond = parts[3][:19] + b'\4' + parts[3][20:]
        capture, text = self.decode(pcap(101, [ipv4(17, self.udp_of(None, p))
                                               for p in parts[:3] + [beyond]]))
        self.assertIn('slice 4', text)
        whole = self.bytes_of('request-64')
        capture, text = self.decode(pcap(101, [
            ipv4(17, self.udp_of(None, whole)),
            ipv4(17, self.udp_of(None, whole[:19] + b'\1' + whole[20:]))]))
        self.assertIn('slice index of a whole record', text)

    def test_segmented_super_frame(self):
        both = self.bytes_of('oneway-1000-a') + self.bytes_of('oneway-1000-b')
        frames = [ipv4(17, self.udp_of(None, both)), ipv4(17, self.udp_of('oneway-1000-c'))]
        capture, text = self.decode(pcap(101, frames))
        self.assertEqual(capture.violations, [], text)
        self.assertEqual(capture.packets, 3)
        self.assert_message(text, 6, 'i>r', 'oneway', 'message-oneway-1000')

    def test_incomplete_message_is_no_violation(self):
        capture, text = self.decode(pcap(101, [ipv4(17, self.udp_of('oneway-1000-c'))]))
        self.assertEqual(capture.violations, [])
        self.assertIn('message id=6 i>r oneway length=1000 incomplete, 200 bytes', text)

    def test_violations(self):
        request = self.bytes_of('request-64')
        good = ipv4(17, self.udp_of('response-100')), ipv4(17, self.udp_of('oneway-1000-a'))

        def violations(*frames, **kwargs):
            return self.decode(pcap(101, good + frames), **kwargs)[0].violations

        def changed(at, value):
            return ipv4(17, self.udp_of(None, request[:at] + bytes([value]) + request[at + 1:]))
        self.assertEqual(violations(), [])
        self.assertEqual(len(violations(changed(100, 1))), 1)    # ciphertext
        self.assertEqual(len(violations(changed(12, 0xb1))), 1)  # low nibble of doff
        self.assertEqual(len(violations(changed(19, 1))), 1)     # zero word
        self.assertEqual(len(violations(changed(39, 1))), 1)     # seal, so the record number
        self.assertEqual(len(violations(changed(11, 65))), 1)    # message length differs inside
        other_port = ipv4(17, udp(49153, 18516, request))
        self.assertEqual(violations(other_port, port=18515), [])  # not asked for
        self.assertEqual(len(violations(other_port, port=None)), 1)
        self.assertEqual(len(violations(ipv4(17, self.udp_of(None, request[:100])))), 1)
        self.assertEqual(len(violations(ipv4(17, self.udp_of('request-64'), frag=0x2000))), 1)
        self.assertEqual(violations(changed(20, 9)), [])         # another session, said not counted
        self.assertIn('no packet opened', violations(secret=hashlib.sha256().digest())[0])

    def test_one_number_seals_once(self):
        sealed = self.bytes_of('oneway-1000-b')
        book = decode_smt2.SealBook()
        book.check(b'key', 1, sealed)
        book.check(b'key', 1, sealed)
        book.check(b'key', 2, sealed + b'x')
        book.check(b'other', 1, sealed + b'x')
        with self.assertRaises(Violation):
            book.check(b'key', 1, sealed + b'x')

    def test_program(self):
        with tempfile.NamedTemporaryFile(suffix='.pcap') as f:
            f.write(pcap(101, [ipv4(17, self.udp_of('request-64'))]))
            f.flush()
            done = run_decoder('--pcap', f.name, '--secret', self.secret.hex(), '--port', '18515')
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(self.sections['message-request-64']['sha256'], done.stdout)
            done = run_decoder('--pcap', f.name, '--secret', '00' * 32)
            self.assertEqual(done.returncode, 1)
            f.write(b'x')
            f.flush()
            done = run_decoder('--pcap', f.name, '--secret', self.secret.hex())
            self.assertEqual(done.returncode, 1)


if __name__ == '__main__':
    GENERATOR = sys.argv.pop(1)
    unittest.main()
