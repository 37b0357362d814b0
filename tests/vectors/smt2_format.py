"""The format of profile smt2 for decode_smt2.py: keys, headers, records, frames, parameters.

Everything is decoded into text by name of field, the way smt2.txt writes it; what does not follow
docs/wire.md raises Violation.
"""
import ctypes
import ctypes.util
import hashlib
import hmac
import struct

KINDS = {  # kind: name, header length, shortest packet
    0x10: ('DATA', 44, 45), 0x11: ('EARLY', 44, 45), 0x20: ('CTRL', 28, 57),
    0x30: ('HANDSHAKE', 44, 44), 0x31: ('RETRY', 28, 60), 0x32: ('NO_SESSION', 28, 28),
    0x33: ('VERSION', 28, 29)}
WHAT = {1: 'REQUEST', 2: 'RESPONSE', 3: 'ONEWAY', 4: 'TEST'}
RECORD_HEAD, TAG, MAX_PLAIN, MAX_MESSAGE = 13, 16, 16384, 1 << 30

# type: name, fields. A field is its name and width; a width of '8x' is printed in hex.
FRAMES = {
    0x00: ('PAD', ''), 0x01: ('PING', 'token:8x'), 0x02: ('PONG', 'token:8x'),
    0x03: ('MARK', 'seq:4 packets:4 bytes:4'), 0x04: ('SEEN', 'seq:4 packets:4 bytes:4 ce:4'),
    0x05: ('PROBE', 'token:4x'), 0x06: ('PROBE_ACK', 'token:4x length:2'),
    0x07: ('PATH_CHALLENGE', 'token:8x'), 0x08: ('PATH_RESPONSE', 'token:8x'),
    0x11: ('GRANT', 'id:8x offset:4 received:4 priority:1'),
    0x12: ('RESEND', 'id:8x offset:4 length:4 priority:1 flags:1'),
    0x13: ('UNKNOWN', 'id:8x flags:1'), 0x14: ('BUSY', 'id:8x'),
    0x15: ('CUTOFFS', 'version:2 limit:4 cutoffs:4*7'), 0x17: ('NEED_ACK', 'id:8x'),
    0x18: ('ACK', 'id:8x'), 0x19: ('ABORT', 'id:8x code:2'),
    0x1a: ('DONE', 'low_water:8x bitmap:8x'), 0x1b: ('CREDIT', 'open:4 bytes:8'),
    0x1c: ('CLOSE', 'code:2'), 0x1d: ('REKEY', '')}

PARAMS = {  # id: shortest value, fields (widths as above, 'h' the rest of the value in hex)
    1: (8, 'session_id:8x'), 2: (1, 'versions:h'), 3: (1, 'carriages:1'), 4: (1, 'record_forms:1'),
    5: (1, 'ciphers:h'), 6: (2, 'largest_packet:2'),
    7: (16, 'open_rpcs:4 unfinished_bytes:8 largest_message:4'), 8: (4, 'in_flight:4'),
    9: (4, 'unscheduled:4'), 10: (4, 'idle_timeout:4')}
PARAM_DEFAULTS = {
    'carriages': '1', 'record_forms': '1', 'largest_packet': '1024', 'open_rpcs': '4096',
    'unfinished_bytes': '67108864', 'largest_message': '1073741824', 'in_flight': '131072',
    'unscheduled': '10000', 'idle_timeout': '0'}


class Violation(Exception):
    """The bytes are not what docs/wire.md says."""


def need(condition, text, *args):
    if not condition:
        raise Violation(text % args if args else text)


def be(data):
    return int.from_bytes(data, 'big')


class Gcm:
    """AES-GCM open by libcrypto's EVP."""
    _lib = None

    @classmethod
    def lib(cls):
        if cls._lib is None:
            lib = ctypes.CDLL(ctypes.util.find_library('crypto') or 'libcrypto.so.3')
            for name in ('EVP_CIPHER_CTX_new', 'EVP_aes_128_gcm', 'EVP_aes_256_gcm'):
                getattr(lib, name).restype = ctypes.c_void_p
            pointer, number = ctypes.c_void_p, ctypes.c_int
            lib.EVP_CIPHER_CTX_free.argtypes = [pointer]
            lib.EVP_DecryptInit_ex.argtypes = [pointer, pointer, pointer, ctypes.c_char_p,
                                               ctypes.c_char_p]
            lib.EVP_DecryptUpdate.argtypes = [pointer, pointer, pointer, ctypes.c_char_p, number]
            lib.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, number, number, pointer]
            lib.EVP_DecryptFinal_ex.argtypes = [pointer, pointer, pointer]
            cls._lib = lib
        return cls._lib

    @classmethod
    def open(cls, key, nonce, aad, sealed, tag):
        """The plaintext, or None when the tag is wrong."""
        lib = cls.lib()
        ctx = lib.EVP_CIPHER_CTX_new()
        try:
            cipher = lib.EVP_aes_128_gcm() if len(key) == 16 else lib.EVP_aes_256_gcm()
            length = ctypes.c_int()
            out = ctypes.create_string_buffer(len(sealed) + 32)
            ok = lib.EVP_DecryptInit_ex(ctx, cipher, None, key, nonce) == 1
            ok = ok and lib.EVP_DecryptUpdate(ctx, None, ctypes.byref(length), aad, len(aad)) == 1
            if ok and sealed:
                ok = lib.EVP_DecryptUpdate(ctx, out, ctypes.byref(length), sealed,
                                           len(sealed)) == 1
            want = ctypes.create_string_buffer(tag, TAG)
            ok = ok and lib.EVP_CIPHER_CTX_ctrl(ctx, 0x11, TAG, want) == 1
            tail = ctypes.create_string_buffer(32)
            ok = ok and lib.EVP_DecryptFinal_ex(ctx, tail, ctypes.byref(length)) == 1
            return out.raw[:len(sealed)] if ok else None
        finally:
            lib.EVP_CIPHER_CTX_free(ctx)


def expand_label(secret, label, context, length):
    """HKDF-Expand-Label of RFC 8446 7.1 with SHA-256."""
    label = b'tls13 ' + label.encode()
    info = struct.pack('>HB', length, len(label)) + label + bytes([len(context)]) + context
    out = block = b''
    while len(out) < length:
        count = bytes([len(out) // 32 + 1])
        block = hmac.new(secret, block + info + count, hashlib.sha256).digest()
        out += block
    return out[:length]


def derive_keys(secret, key_len, names=('i data', 'r data', 'i ctrl', 'r ctrl')):
    """(key, salt) by 'i_data' …"""
    keys = {}
    for name in names:
        traffic = expand_label(secret, 'smt2 ' + name, b'', 32)
        keys[name.replace(' ', '_')] = (expand_label(traffic, 'key', b'', key_len),
                                        expand_label(traffic, 'iv', b'', 4))
    return keys


def next_secret(secret):
    return expand_label(secret, 'smt2 upd', b'', 32)


def read_fields(spec, data):
    """[(name, text)] of a fixed layout, and how many bytes it took."""
    out, at = [], 0
    for item in spec.split():
        name, width = item.split(':')
        if width == 'h':
            out.append((name, data[at:].hex()))
            at = len(data)
            continue
        size = int(width[0])
        count = int(width[2:]) if '*' in width else 1
        need(at + size * count <= len(data), '%s cut short', name)
        parts = [data[at + i * size:at + (i + 1) * size] for i in range(count)]
        out.append((name, ','.join(p.hex() if 'x' in width else str(be(p)) for p in parts)))
        at += size * count
    return out, at


def decode_acks(body):
    """Id, then a bitmap of up to eight bytes that counts: byte i, bit j is for id + 1 + 8 * i + j."""
    need(len(body) >= 8, 'ACKS cut short')
    ident = be(body[:8])
    need(not ident >> 62 & 1, 'ACKS: id has bit 62')
    return 'ACKS id=%016x bitmap=%016x' % (ident, int.from_bytes(body[8:16], 'little'))


def decode_late(body):
    """The mark, and for how long its SEEN may have waited for its sender."""
    need(len(body) >= 8, 'LATE cut short')
    return 'LATE seq=%d ns=%d' % (be(body[:4]), be(body[4:8]))


SKIPPABLE = {0x80: decode_acks, 0x81: decode_late}


def decode_frames(data):
    """One line of text per frame."""
    lines, at = [], 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind >= 0x80:
            need(at < len(data) and at + 1 + data[at] <= len(data), 'frame %02x cut short', kind)
            body = data[at + 1:at + 1 + data[at]]
            lines.append(SKIPPABLE[kind](body) if kind in SKIPPABLE else
                         'SKIPPED type=%02x bytes=%s' % (kind, body.hex()))
            at += 1 + len(body)
            continue
        need(kind in FRAMES, 'unknown frame %02x', kind)
        name, spec = FRAMES[kind]
        fields, used = read_fields(spec, data[at:])
        for field, text in fields:
            need(field != 'id' or not int(text, 16) >> 62 & 1, '%s: id has bit 62', name)
        lines.append(' '.join([name] + ['%s=%s' % f for f in fields]))
        at += used
    return lines


def decode_params(block):
    fields, seen, at = dict(PARAM_DEFAULTS), set(), 0
    while at < len(block):
        need(at + 4 <= len(block), 'parameter head cut short')
        ident, length = struct.unpack_from('>HH', block, at)
        value = block[at + 4:at + 4 + length]
        need(len(value) == length, 'parameter %d cut short', ident)
        at += 4 + length
        if ident not in PARAMS:
            continue
        need(ident not in seen, 'parameter %d twice', ident)
        seen.add(ident)
        need(length >= PARAMS[ident][0], 'parameter %d too short', ident)
        fields.update(read_fields(PARAMS[ident][1], value)[0])
    need({1, 2, 5} <= seen, 'a required parameter is missing')
    return fields


def decode_header(pkt):
    """The clear header as a dict of text, and its numbers as another."""
    need(len(pkt) >= 28, 'packet of %d bytes', len(pkt))
    doff, kind, version, byte15 = pkt[12:16]
    need(kind in KINDS, 'unknown kind %02x', kind)
    need(version == 2 or kind == 0x33, 'version %d', version)
    name, head, shortest = KINDS[kind]
    need(doff == head // 4 << 4, 'doff byte %02x in a %s', doff, name)
    need(len(pkt) >= shortest, '%s of %d bytes', name, len(pkt))
    need(pkt[16:19] == bytes(3), 'bytes 16-18 not zero')
    f = {'sport': str(be(pkt[0:2])), 'dport': str(be(pkt[2:4])), 'kind': name,
         'version': str(version), 'session_id': pkt[20:28].hex()}
    n = {'kind': kind, 'head': head, 'session_id': be(pkt[20:28]), 'byte15': byte15}
    need(pkt[19] == 0 or kind == 0x10, 'slice index of a %s', name)
    if kind in (0x10, 0x11):
        f['epoch'] = str(byte15)
        need(kind == 0x10 or byte15 == 0, 'epoch byte of EARLY')
        decode_data_header(pkt, f, n)
    elif kind == 0x30:
        decode_handshake(pkt, f, n)
    else:
        need(pkt[4:12] == bytes(8), 'bytes 4-11 not zero')
        if kind == 0x20:
            f['epoch'] = str(byte15)
        else:
            need(byte15 == 0, 'byte 15 not zero')
        if kind == 0x31:
            f['cookie'] = pkt[28:60].hex()
            n['end'] = 60
        elif kind == 0x33:
            n['end'] = 29 + pkt[28]
            need(n['end'] <= len(pkt), 'list of versions cut short')
            f['versions'] = pkt[29:n['end']].hex()
        elif kind == 0x32:
            n['end'] = 28
    return f, n


def decode_data_header(pkt, f, n):
    offset, length = struct.unpack_from('>II', pkt, 4)
    ident, seal, record, cut = struct.unpack_from('>QIHH', pkt, 28)
    need(length <= MAX_MESSAGE, 'message length %d', length)
    need(offset <= length, 'offset %d of %d', offset, length)
    need(not ident >> 62 & 1, 'RPC id has bit 62')
    need(seal >> 30 == 0, 'seal has bits 31-30')
    need(45 <= record <= RECORD_HEAD + MAX_PLAIN + TAG, 'record length %d', record)
    need(1 <= cut <= record, 'slice length %d', cut)
    need(cut < record or record <= len(pkt) - 44, 'record cut short')
    need(cut < record or pkt[19] == 0, 'slice index of a whole record')
    n.update(offset=offset, length=length, id=ident & ~(1 << 63), role=ident >> 63, seal=seal,
             record=record, slice=cut, slice_index=pkt[19])
    f.update(offset=str(offset), message_length=str(length), rpc_id='%016x' % n['id'],
             role=str(n['role']), attempt=str(seal >> 24), index=str(seal & 0xffffff),
             record_length=str(record), slice_length=str(cut))


def decode_handshake(pkt, f, n):
    tls_len, cookie_len = struct.unpack_from('>HB', pkt, 36)
    need(cookie_len in (0, 32), 'cookie of %d bytes', cookie_len)
    n['end'] = 44 + cookie_len + tls_len
    need(n['end'] <= len(pkt), 'TLS bytes cut short')
    need(be(pkt[28:36]) != 0, "sender's session id 0")
    need(pkt[39:44] == bytes(5), 'bytes 39-43 not zero')
    need(pkt[15] & 0xfe == 0, 'flags %02x', pkt[15])
    need(n['session_id'] or len(pkt) >= 1000, "no receiver's id in %d bytes", len(pkt))
    f.update(flags=str(pkt[15]), offset=str(be(pkt[4:8])), acknowledgement=str(be(pkt[8:12])),
             source_id=pkt[28:36].hex(), cookie=pkt[44:44 + cookie_len].hex(),
             tls=pkt[44 + cookie_len:n['end']].hex())


def record_parts(record, n):
    """(number, nonce tail, aad, ciphertext, tag) of a whole record; checks its head."""
    need(record[:3] == b'\x17\x03\x03', 'record head %s', record[:3].hex())
    length = be(record[3:5])
    plain_len = length - 8 - TAG
    need(0 <= plain_len <= MAX_PLAIN, 'record says %d bytes', length)
    need(5 + length <= len(record), 'record cut short')
    number = be(record[5:13])
    if n['kind'] != 0x20:
        need(5 + length == n['record'], 'record length %d, clear header says %d', 5 + length,
             n['record'])
        want = (n['role'] << 63 | (n['seal'] >> 24) << 57 | (n['id'] & 0x1ffffffff) << 24 |
                n['seal'] & 0xffffff)
        need(number == want, 'record number %016x instead of %016x', number, want)
    aad = record[5:13] + b'\x17\x03\x03' + struct.pack('>H', plain_len)
    return number, aad, record[13:13 + plain_len], record[13 + plain_len:13 + plain_len + TAG]


def decode_inner(plain, n, f):
    """The plaintext of a DATA record against its clear header; returns the data."""
    need(len(plain) >= 16, 'plaintext of %d bytes', len(plain))
    what, flags, frames_len, offset, length, id_high = struct.unpack_from('>BBHIII', plain)
    need(what in WHAT, 'what %d', what)
    need(flags & ~3 == 0, 'flags %02x', flags)
    need((offset, length) == (n['offset'], n['length']), 'offset or length differ inside')
    need(id_high == n['role'] << 31 | n['id'] >> 32, 'id differs inside')
    need((what == 2) == n['role'], '%s with role %d', WHAT[what], n['role'])
    f.update(what=WHAT[what], idempotent=str(flags >> 1), extension=str(flags & 1))
    at = 16
    need(offset or flags & 1, 'no extension at offset 0')
    if flags & 1:
        need(len(plain) >= 40, 'extension cut short')
        fields, _ = read_fields('low_water:8x done:8x unscheduled:4 cutoffs_version:2 zero:2',
                                plain[16:40])
        need(fields.pop()[1] == '0', 'zero of the extension')
        f.update(fields)
        at = 40
    need(at + frames_len <= len(plain), 'frames cut short')
    for i, line in enumerate(decode_frames(plain[at:at + frames_len])):
        f['frame.%d' % i] = line
    data = plain[at + frames_len:]
    need(offset + len(data) <= length, 'data beyond the message')
    f['data_length'] = str(len(data))
    n['what'] = what
    return data


def decode_record(record, n, f, key, salt):
    """Opens a record into f; the data of DATA. None when the tag is wrong."""
    number, aad, sealed, tag = record_parts(record, n)
    nonce = salt + struct.pack('>Q', number)
    plain = Gcm.open(key, nonce, aad, sealed, tag)
    if plain is None:
        return None
    f.update(record_number='%016x' % number, nonce=nonce.hex(), aad=aad.hex(),
             plaintext=plain.hex())
    n['number'] = number
    if n['kind'] != 0x20:
        return decode_inner(plain, n, f)
    for i, line in enumerate(decode_frames(plain)):
        f['frame.%d' % i] = line
    return b''


class SealBook:
    """One (key, record number) seals one byte string."""

    def __init__(self):
        self.seen = {}

    def check(self, key, number, record):
        digest = hashlib.sha256(record).digest()
        old = self.seen.setdefault((key, number), digest)
        need(old == digest, 'record number %016x sealed twice', number)


class Message:
    """Bytes of one message; the first to come stay."""

    def __init__(self, n):
        self.what, self.length = n['what'], n['length']
        self.data = bytearray(self.length)
        self.have = []  # disjoint [start, end), sorted
        self.empty_seen = False

    def add(self, n, data):
        need((n['what'], n['length']) == (self.what, self.length), 'kind or length changed')
        start, end = n['offset'], n['offset'] + len(data)
        self.empty_seen |= not data
        at, merged = start, []
        for a, b in self.have + [[end, end]]:
            if at < min(a, end):
                stop = min(a, end)
                self.data[at:stop] = data[at - start:stop - start]
            at = max(at, b)
        for a, b in sorted(self.have + ([[start, end]] if data else [])):
            if merged and a <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], b)
            else:
                merged.append([a, b])
        self.have = merged

    def received(self):
        return sum(b - a for a, b in self.have)

    def complete(self):
        return self.received() == self.length and (self.length > 0 or self.empty_seen)
