"""Messages of the resolve exchange: test_ud.py GENERATOR.

The generator still gives ud.txt; a reader written from docs/wire.md alone finds in the bytes what
went in, and refuses them with any field out of its range.
"""
import os
import struct
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, 'ud.txt')
GENERATOR = None
QUERY, ANSWER, ACK = 1, 2, 3
ROCE, INFINIBAND = 1, 2


class Malformed(Exception):
    """A field that docs/wire.md does not allow."""


def need(ok, what):
    if not ok:
        raise Malformed(what)


def decode(message):
    need(len(message) == 64, 'length')
    (magic, version, kind, link, wanted, port, lid, mtu, qpn, qkey, gid, nonce, echo, number, share,
     _) = struct.unpack('>4sBBBBHHIII16sQQBB6s', message)
    need(magic == b'SMUU' and version == 1, 'magic, version')
    need(kind in (QUERY, ANSWER, ACK), 'kind')
    need(link in (ROCE, INFINIBAND), 'link')
    need(port != 0, 'port')
    need(lid == 0 if link == ROCE else 1 <= lid <= 0xbfff, 'LID')
    need(mtu in (256, 512, 1024, 2048, 4096), 'MTU')
    need(2 <= qpn <= 0xfffffe, 'QPN')
    need(qkey < 1 << 31, 'Q_Key')
    need(any(gid) and gid[0] != 0xff, 'GID')
    need(nonce != 0, 'nonce')
    need((echo == 0) == (kind == QUERY), 'echo')
    need(share != 1 and number < max(share, 1), 'number, share')
    return {'kind': str(kind), 'link': str(link), 'port': str(port), 'lid': str(lid),
            'mtu': str(mtu), 'qpn': str(qpn), 'qkey': f'{qkey:08x}', 'gid': gid.hex(),
            'nonce': f'{nonce:016x}', 'echo': f'{echo:016x}',
            'wanted': str(wanted if kind == QUERY else 0), 'number': str(number),
            'share': str(share)}


def sections(text):
    found = {}
    for line in text.splitlines():
        if line.startswith('['):
            found[line[1:-1]] = current = {}
        elif '=' in line and not line.startswith('#'):
            key, value = line.split('=')
            current[key] = value
    return found


class Vectors(unittest.TestCase):
    def setUp(self):
        with open(VECTORS, encoding='utf-8') as f:
            self.text = f.read()
        self.sections = sections(self.text)

    def test_generator(self):
        made = subprocess.run([GENERATOR], capture_output=True, text=True, check=True).stdout
        self.assertEqual(made, self.text)

    def test_fields(self):
        self.assertEqual(len(self.sections), 6)
        for fields in self.sections.values():
            want = dict(fields)
            message = bytes.fromhex(want.pop('message'))
            self.assertEqual(decode(message), want)

    def test_exchange(self):
        query, answer, ack = (self.sections[n] for n in ('query', 'answer', 'ack'))
        self.assertEqual(answer['echo'], query['nonce'])
        self.assertEqual(ack['echo'], answer['nonce'])
        self.assertEqual(ack['nonce'], query['nonce'])

    def test_share(self):
        query, answer = (self.sections[n] for n in ('query-third', 'answer-third-of-four'))
        self.assertEqual(answer['number'], query['wanted'])
        self.assertEqual(int(answer['nonce'][:2], 16), int(answer['number']))

    def test_refused(self):
        message = bytes.fromhex(self.sections['answer']['message'])
        for at, value in ((0, b'X'), (4, b'\2'), (5, b'\0'), (5, b'\1'), (6, b'\2'), (8, b'\0\0'),
                          (10, b'\0\1'), (12, b'\0\0\5\0'), (16, b'\0\0\0\1'), (20, b'\x80'),
                          (24, b'\xff'), (40, bytes(8)), (48, bytes(8)), (56, b'\1'),
                          (57, b'\1'), (56, b'\4\4')):
            bad = message[:at] + value + message[at + len(value):]
            with self.assertRaises(Malformed):
                decode(bad)


if __name__ == '__main__':
    GENERATOR = sys.argv.pop(1)
    unittest.main()
