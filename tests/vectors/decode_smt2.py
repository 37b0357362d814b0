#!/usr/bin/env python3
"""An independent decoder of profile smt2, written from docs/wire.md alone.

    decode_smt2.py [FILE]                                check a vector file (smt2.txt beside this)
    decode_smt2.py --pcap FILE --secret HEX [--port P]   decode a capture
    decode_smt2.py --pcap FILE --keylog FILE [--port P]  the same, secrets by an SSLKEYLOGFILE

With --pcap, every packet is printed, records of both directions are opened with keys derived from
the secret of epoch 1 (--secret, once per session; or found by --keylog from the handshakes in the
capture), messages are put together and printed with id,
direction, kind, length and SHA-256. Exit status 1 on any violation.

It holds senders to the letter: what docs/wire.md calls zero must be zero, even where a receiver
ignores it. It uses Python's standard library and libcrypto (AES-GCM, through ctypes), nothing of
the C code.
"""
import argparse
import hashlib
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import smt2_pcap  # noqa: E402
import smt2_tls  # noqa: E402
from smt2_format import (  # noqa: E402
    KINDS, WHAT, Message, SealBook, Violation, be, decode_header, decode_params, decode_record,
    derive_keys, need, next_secret)


def parse_sections(text):
    sections, fields, key = {}, None, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith('#'):
            continue
        if line.startswith('['):
            name = line.strip('[]')
            need(name not in sections, 'line %d: section %s twice', number, name)
            fields = sections[name] = {}
        elif line.startswith('  '):
            need(key is not None, 'line %d: nothing to go on with', number)
            fields[key] += line.strip()
        else:
            key, equals, value = line.partition('=')
            need(equals and fields is not None and key not in fields, 'line %d: %s', number, line)
            fields[key] = value
    return sections


class Vectors:
    """Derives each section's fields from its inputs and compares all of them."""
    INPUTS = {'keys': ['secret', 'key_length', 'epoch', 'previous'],
              'early-keys': ['secret', 'key_length', 'epoch'], 'params': ['block'],
              'context': ['version', 'initiator_id', 'responder_id', 'initiator_params',
                          'responder_params', 'cipher'],
              'early-context': ['version', 'initiator_id', 'initiator_params', 'cipher'],
              'packet': ['keys', 'from', 'packet'], 'burst': ['keys', 'from', 'carriage'],
              'message': ['packets']}

    def __init__(self, text):
        self.sections = parse_sections(text)
        self.book = SealBook()
        self.data = {}  # section: (numbers, data)

    def check(self, log=None):
        for name, section in self.sections.items():
            try:
                kind = section.get('type')
                need(kind in self.INPUTS, 'type %s', kind)
                want = {k: v for k, v in section.items()
                        if k not in self.INPUTS[kind] + ['type'] and k[:7] != 'packet.'}
                got = getattr(self, kind.replace('-', '_'))(name, section)
                for key in sorted(set(want) | set(got)):
                    need(want.get(key) == got.get(key), '%s is %s, expected %s', key,
                         got.get(key), want.get(key))
            except (Violation, ValueError, KeyError) as error:
                raise Violation('[%s] %s: %s' % (name, type(error).__name__, error)) from None
            if log:
                log('[%s] %s, %d fields' % (name, kind, len(got)))
        return len(self.sections)

    def keys(self, name, s):
        secret, key_len = bytes.fromhex(s['secret']), int(s['key_length'])
        need(key_len in (16, 32), 'key length')
        epoch = int(s['epoch'])
        if epoch > 1:
            previous = self.sections[s['previous']]
            need(int(previous['epoch']) == epoch - 1, 'epochs count by one')
            need(next_secret(bytes.fromhex(previous['secret'])) == secret, 'not the next secret')
        else:
            need(epoch == 1 and 'previous' not in s, 'epochs count from 1')
        out = {'next_secret': next_secret(secret).hex()}
        for key, (k, salt) in derive_keys(secret, key_len).items():
            out[key + '.key'], out[key + '.salt'] = k.hex(), salt.hex()
        return out

    def early_keys(self, name, s):
        need(s['epoch'] == '0' and s['key_length'] in ('16', '32'), 'epoch or key length')
        keys = derive_keys(bytes.fromhex(s['secret']), int(s['key_length']), ['i data'])
        k, salt = keys['i_data']
        return {'i_data.key': k.hex(), 'i_data.salt': salt.hex()}

    def params(self, name, s):
        return decode_params(bytes.fromhex(s['block']))

    def context(self, name, s):
        def block(key):
            params = self.sections[s[key + '_params']]
            need(params['session_id'] == s[key + '_id'], 'ids of block and packet')
            data = bytes.fromhex(params['block'])
            return struct.pack('>H', len(data)) + data
        early = s['type'] == 'early-context'
        text = bytes([int(s['version'])]) + bytes.fromhex(s['initiator_id'])
        if not early:
            text += bytes.fromhex(s['responder_id'])
        text += block('initiator')
        if not early:
            text += block('responder')
        text += bytes([int(s['cipher'])])
        return {'sha256': hashlib.sha256(text).hexdigest()}

    early_context = context

    def record_key(self, s, n):
        keys = self.sections[s['keys']]
        need(n['byte15'] == int(keys['epoch']) & 0xff, 'epoch byte')
        need(s['from'] in ('i', 'r'), 'from')
        which = s['from'] + ('_ctrl' if n['kind'] == 0x20 else '_data')
        return bytes.fromhex(keys[which + '.key']), bytes.fromhex(keys[which + '.salt'])

    def open(self, name, s, record, n, f):
        key, salt = self.record_key(s, n)
        data = decode_record(record, n, f, key, salt)
        need(data is not None, 'tag')
        self.book.check(key, n['number'], record)
        self.data[name] = (n, data)

    def packet(self, name, s):
        pkt = bytes.fromhex(s['packet'])
        f, n = decode_header(pkt)
        if n['kind'] in (0x10, 0x11, 0x20):
            need(n['kind'] == 0x20 or n['slice'] == n['record'], 'a slice')
            end = n['record'] if n['kind'] != 0x20 else 5 + be(pkt[31:33])
            n['end'] = n['head'] + end
            self.open(name, s, pkt[n['head']:n['end']], n, f)
        if len(pkt) > n['end']:
            f['padding'] = pkt[n['end']:].hex()
        return f

    def burst(self, name, s):
        packets = [bytes.fromhex(s['packet.%d' % i]) for i in range(int(s['slices']))]
        f, n = decode_header(packets[0])
        need(s['carriage'] in ('udp', 'ip'), 'carriage')
        for i, p in enumerate(packets):
            index = i if s['carriage'] == 'udp' else 0
            need(p[:19] + p[20:44] == packets[0][:19] + packets[0][20:44] and p[19] == index,
                 'headers differ in a burst')
        count = -(-n['record'] // n['slice'])
        need(count == len(packets), '%d packets for %d slices', len(packets), count)
        for p in packets[:-1]:
            need(len(p) == 44 + n['slice'], 'slice of %d bytes', len(p) - 44)
        record = b''.join(p[44:] for p in packets)
        need(len(record) == n['record'], 'slices have %d bytes', len(record))
        self.open(name, s, record, n, f)
        f['slices'] = str(count)
        return f

    def message(self, name, s):
        parts = [self.data[p] for p in s['packets'].split(',')]
        first = parts[0][0]
        message = Message(first)
        for n, data in parts:
            need((n['id'], n['role']) == (first['id'], first['role']), 'another message')
            message.add(n, data)
        need(message.complete(), '%d of %d bytes', message.received(), message.length)
        return {'length': str(message.length), 'sha256': hashlib.sha256(message.data).hexdigest()}


def plausible(payload, at):
    """Whether a packet of ours may begin there."""
    return (at + 28 <= len(payload) and payload[at + 13] in KINDS and payload[at + 14] == 2 and
            payload[at + 12] == KINDS[payload[at + 13]][1] // 4 << 4)


def segments(payload):
    """A captured UDP_SEGMENT super-frame is one datagram of equal segments: cuts it where headers
    with the first one's ports stand at every multiple of the segment length."""
    def fits(size):
        return all(payload[at:at + 4] == payload[:4] and plausible(payload, at)
                   for at in range(size, len(payload), size))
    at = payload.find(payload[:4], 28)
    while at != -1:
        if fits(at):
            return [payload[i:i + at] for i in range(0, len(payload), at)]
        at = payload.find(payload[:4], at + 1)
    return [payload]


class Capture:
    """Packets of a capture file in order; keys are tried until one opens, then remembered."""

    def __init__(self, secrets, port=None, out=print):
        self.secrets = [[None, s] for s in secrets]  # by epoch
        self.port, self.out = port, out
        self.keys = {}       # (secret, epoch, key length): keys
        self.owner = {}      # session id: (secret, key length, sender)
        self.early = {}      # initiator's session id: key and salt of its 0-RTT data
        self.book = SealBook()
        self.messages = {}   # (secret, sender, role, id): Message
        self.slices = {}
        self.failed = {}     # session id: violations of records that did not open
        self.violations = []
        self.packets = self.opened = 0

    def epoch_keys(self, index, epoch, key_len):
        chain = self.secrets[index]
        while len(chain) <= epoch:
            chain.append(next_secret(chain[-1]))
        name = (index, epoch, key_len)
        if name not in self.keys:
            self.keys[name] = derive_keys(chain[epoch], key_len)
        return self.keys[name]

    def candidates(self, session_id):
        if session_id in self.owner:
            yield self.owner[session_id]
        for index in range(len(self.secrets)):
            for key_len in (16, 32):
                for sender in 'ir':
                    yield index, key_len, sender

    def open(self, record, n, f):
        for index, key_len, sender in self.candidates(n['session_id']):
            keys = self.epoch_keys(index, n['byte15'] or 256, key_len)
            key, salt = keys[sender + ('_ctrl' if n['kind'] == 0x20 else '_data')]
            data = decode_record(record, n, f, key, salt)
            if data is None:
                continue
            self.owner[n['session_id']] = (index, key_len, sender)
            self.opened += 1
            self.book.check(key, n['number'], record)
            n['sender'] = sender
            if n['kind'] == 0x10:
                name = (index, sender, n['role'], n['id'])
                self.messages.setdefault(name, Message(n)).add(n, data)
            return True
        return False

    def open_early(self, pkt, n, f):
        """The same for an EARLY packet, and that it is what may go early."""
        if n['session_id'] not in self.early:
            return 'sealed with a 0-RTT key'
        key, salt = self.early[n['session_id']]
        need(len(pkt) <= 1024 and n['slice'] == n['record'], 'EARLY of more than a packet')
        record = pkt[n['head']:n['head'] + n['record']]
        data = decode_record(record, n, f, key, salt)
        need(data is not None, 'EARLY does not open')
        need(f['idempotent'] == '1' and WHAT[n['what']] != 'RESPONSE' and 'frame.0' not in f and
             len(data) == n['length'], 'EARLY of what must not go early')
        self.opened += 1
        self.book.check(key, n['number'], record)
        name = (n['session_id'], 'i', n['role'], n['id'])
        self.messages.setdefault(name, Message(n)).add(n, data)
        return 'i> early %s data=%s' % (f['what'].lower(), f['data_length'])

    def slice(self, dg, pkt, n):
        """The whole record once its last slice is there."""
        index = n['slice_index']
        if dg.carriage == 'ip':
            need(index == 0 and dg.ip_id is not None, 'over raw IP the index is the IPv4 id')
            index = n['slice_index'] = dg.ip_id
        at = index * n['slice']
        need(at < n['record'], 'slice %d of a record of %d', index, n['record'])
        size = min(n['slice'], n['record'] - at)
        need(len(pkt) - 44 >= size, 'slice of %d bytes', len(pkt) - 44)
        name = (n['session_id'], n['role'], n['id'], n['seal'])
        parts = self.slices.setdefault(name, {})
        parts[at] = pkt[44:44 + size]
        if sum(map(len, parts.values())) < n['record']:
            return None
        del self.slices[name]
        return b''.join(parts[a] for a in sorted(parts))

    def sealed(self, dg, pkt, n, f):
        """What to say about a packet with a record."""
        if n['kind'] == 0x11:
            return self.open_early(pkt, n, f)
        record = pkt[n['head']:]
        if n['kind'] == 0x10 and n['slice'] < n['record']:
            record = self.slice(dg, pkt, n)
            if record is None:
                return 'slice %d' % n['slice_index']
        elif n['kind'] == 0x10:
            record = record[:n['record']]
        else:
            record = record[:5 + be(record[3:5])]
        if not self.open(record, n, f):
            self.failed.setdefault(n['session_id'], []).append(dg.number)
            return 'does not open'
        frames = [v for k, v in f.items() if k.startswith('frame.') and v != 'PAD']
        text = 'number=%s' % f['record_number']
        if n['kind'] == 0x10:
            text = '%s data=%s' % (f['what'].lower(), f['data_length'])
        return '%s> %s%s' % (n['sender'], text, ''.join('; ' + x for x in frames))

    def packet(self, dg, pkt):
        f, n = decode_header(pkt)
        # RETRY, NO_SESSION and VERSION mirror ports that nothing has authenticated.
        if dg.carriage == 'udp' and n['kind'] <= 0x30:
            need((str(dg.sport), str(dg.dport)) == (f['sport'], f['dport']),
                 'ports %s, %s in UDP ports %d, %d', f['sport'], f['dport'], dg.sport, dg.dport)
        self.packets += 1
        text = ' '.join('%s=%s' % (k, v[:40]) for k, v in f.items()
                        if k not in ('sport', 'dport', 'kind', 'version'))
        said = self.sealed(dg, pkt, n, f) if n['kind'] in (0x10, 0x11, 0x20) else ''
        self.out('%6d %.6f %s>%s %s %s %s' % (dg.number, dg.time, f['sport'], f['dport'], f['kind'],
                                              text, said))

    def find_secrets(self, data, keylog):
        """Adds the secrets of the sessions whose handshakes are in the capture and the log."""
        handshakes = smt2_tls.Handshakes()
        for dg in smt2_pcap.datagrams(data):
            if dg.cut or not self.ours(dg):
                continue
            for pkt in segments(dg.payload) if dg.carriage == 'udp' else [dg.payload]:
                try:
                    f, n = decode_header(pkt)
                except Violation:
                    continue  # read() says so
                if n['kind'] == 0x30:
                    handshakes.packet(f, n)
        for initiator, responder, secret in handshakes.secrets(keylog):
            self.out('session %016x > %016x is in the key log' % (initiator, responder))
            self.secrets.append([None, secret])
        for initiator, secret, cipher in handshakes.early_secrets(keylog):
            self.early[initiator] = derive_keys(secret, 16 if cipher == 1 else 32)['i_data']

    def ours(self, dg):
        if dg.carriage == 'udp' and self.port is not None:
            return self.port in (dg.sport, dg.dport)
        return plausible(dg.payload, 0)

    def read(self, data):
        for dg in smt2_pcap.datagrams(data):
            if not self.ours(dg):
                continue
            try:
                need(not dg.cut, '%s', dg.cut)
                for pkt in segments(dg.payload) if dg.carriage == 'udp' else [dg.payload]:
                    self.packet(dg, pkt)
            except Violation as error:
                self.violations.append('packet %d: %s' % (dg.number, error))
        for session_id, numbers in self.failed.items():
            if session_id in self.owner:
                self.violations += ['packet %d: does not open' % i for i in numbers]
            else:
                self.out('session %016x: not ours, %d packets' % (session_id, len(numbers)))
        if not self.opened:
            self.violations.append('no packet opened (%d seen)' % self.packets)

    def report(self):
        for (index, sender, role, ident), m in self.messages.items():
            state = 'incomplete, %d bytes' % m.received()
            if m.complete():
                state = 'sha256=' + hashlib.sha256(m.data).hexdigest()
            way = 'i>r' if sender == 'i' else 'r>i'
            self.out('message id=%d %s %s length=%d %s' % (ident, way, WHAT[m.what].lower(),
                                                           m.length, state))
        for text in self.violations:
            self.out('VIOLATION ' + text)
        self.out('%d packets, %d opened, %d messages, %d violations' % (
            self.packets, self.opened, len(self.messages), len(self.violations)))


def main(argv):
    parser = argparse.ArgumentParser(description='Decodes and checks profile smt2 (docs/wire.md).')
    parser.add_argument('file', nargs='?', help='vector file')
    parser.add_argument('--pcap', metavar='FILE', help='capture to decode')
    parser.add_argument('--secret', metavar='HEX', action='append', default=[],
                        help='secret of epoch 1, 32 bytes; once per session')
    parser.add_argument('--keylog', metavar='FILE', help='what SSLKEYLOGFILE named')
    parser.add_argument('--port', type=int, help='UDP port (otherwise whatever looks like smt2)')
    parser.add_argument('--quiet', action='store_true', help='print violations and totals only')
    args = parser.parse_args(argv)
    if args.pcap is None:
        path = args.file or os.path.join(os.path.dirname(os.path.abspath(__file__)), 'smt2.txt')
        with open(path, encoding='utf-8') as f:
            text = f.read()
        try:
            count = Vectors(text).check(None if args.quiet else print)
        except Violation as error:
            print('VIOLATION', error)
            return 1
        print('%d sections agree' % count)
        return 0
    secrets = [bytes.fromhex(s) for s in args.secret]
    if not (secrets or args.keylog) or any(len(s) != 32 for s in secrets):
        parser.error('--pcap needs --secret with 64 hex digits, or --keylog')
    capture = Capture(secrets, args.port, (lambda line: None) if args.quiet else print)
    try:
        with open(args.pcap, 'rb') as f:
            data = f.read()
        if args.keylog:
            with open(args.keylog, encoding='ascii') as f:
                capture.find_secrets(data, smt2_tls.read_keylog(f.read()))
        capture.read(data)
    except (smt2_pcap.BadCapture, Violation, OSError) as error:
        print('VIOLATION %s: %s' % (args.pcap, error))
        return 1
    capture.out = print
    capture.report()
    return 1 if capture.violations else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
