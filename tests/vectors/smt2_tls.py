"""The way from an SSLKEYLOGFILE to the secrets of the sessions in a capture, for decode_smt2.py.

Written from docs/wire.md 6 and 7 and RFC 8446. A session's secret is TLS's exporter over a context
that holds both parameter blocks: the initiator's stands in the ClientHello, the responder's in the
EncryptedExtensions, which open with the handshake secret of the same file.
"""
import hashlib
import hmac
import struct

from smt2_format import Gcm, Violation, be, decode_params, need

PARAMS_EXTENSION = 0xff53
HELLO_RETRY = hashlib.sha256(b'HelloRetryRequest').digest()
SUITES = {0x1301: (hashlib.sha256, 16), 0x1302: (hashlib.sha384, 32)}
EXPORTER_LABEL = 'EXPORTER-smt2'


def read_keylog(text):
    """{(label, client random): secret}"""
    keys = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith('#'):
            keys[words[0], bytes.fromhex(words[1])] = bytes.fromhex(words[2])
    return keys


def expand_label(hash_of, secret, label, context, length):
    """HKDF-Expand-Label with the suite's hash."""
    label = b'tls13 ' + label.encode()
    info = struct.pack('>HB', length, len(label)) + label + bytes([len(context)]) + context
    out = block = b''
    count = 0
    while len(out) < length:
        count += 1
        block = hmac.new(secret, block + info + bytes([count]), hash_of).digest()
        out += block
    return out[:length]


def export(hash_of, secret, context, length):
    """TLS-Exporter of RFC 8446 7.5 from the exporter's master secret."""
    derived = expand_label(hash_of, secret, EXPORTER_LABEL, hash_of(b'').digest(),
                           hash_of().digest_size)
    return expand_label(hash_of, derived, 'exporter', hash_of(context).digest(), length)


class Stream:
    """TLS bytes by offset; what comes again must be the same."""

    def __init__(self):
        self.bytes, self.have = bytearray(), bytearray()

    def add(self, offset, data):
        end = offset + len(data)
        need(end <= 1 << 20, 'a stream of %d TLS bytes', end)
        for name in ('bytes', 'have'):
            part = getattr(self, name)
            part.extend(bytes(max(0, end - len(part))))
        for i, byte in enumerate(data, offset):
            need(not self.have[i] or self.bytes[i] == byte, 'TLS byte %d changed', i)
            self.bytes[i], self.have[i] = byte, 1

    def prefix(self):
        gap = self.have.find(0)
        return bytes(self.bytes if gap < 0 else self.bytes[:gap])


def tls_records(data):
    """(type, head, fragment) of each whole record."""
    at = 0
    while at + 5 <= len(data) and at + 5 + be(data[at + 3:at + 5]) <= len(data):
        end = at + 5 + be(data[at + 3:at + 5])
        yield data[at], data[at:at + 5], data[at + 5:end]
        at = end


def messages(data):
    """(type, body) of each whole handshake message."""
    at = 0
    while at + 4 <= len(data) and at + 4 + be(data[at + 1:at + 4]) <= len(data):
        end = at + 4 + be(data[at + 1:at + 4])
        yield data[at], data[at + 4:end]
        at = end


def extension(data, wanted):
    """The value of an extension in a list with its length in front; None when it is not there."""
    need(len(data) >= 2 and len(data) >= 2 + be(data[:2]), 'extensions cut short')
    at, end = 2, 2 + be(data[:2])
    while at < end:
        need(at + 4 <= end, 'extension cut short')
        kind, length = struct.unpack_from('>HH', data, at)
        if kind == wanted:
            return data[at + 4:at + 4 + length]
        at += 4 + length
    return None


def client_hello(body):
    """(random, parameter block)"""
    at = 34
    at += 1 + body[at]                 # legacy session id
    at += 2 + be(body[at:at + 2])      # cipher suites
    at += 1 + body[at]                 # compression methods
    return body[2:34], extension(body[at:], PARAMS_EXTENSION)


def server_hello(body):
    """(random, cipher suite)"""
    at = 34
    at += 1 + body[at]
    return body[2:34], be(body[at:at + 2])


def plain_messages(stream):
    data = b''.join(part for kind, _, part in tls_records(stream) if kind == 22)
    return list(messages(data))


def sealed_messages(stream, hash_of, key_len, secret):
    """What a traffic secret of the handshake protects, up to the first record it does not open."""
    key = expand_label(hash_of, secret, 'key', b'', key_len)
    iv = expand_label(hash_of, secret, 'iv', b'', 12)
    data, count = b'', 0
    for kind, head, part in tls_records(stream):
        if kind != 23:
            continue
        nonce = bytes(a ^ b for a, b in zip(iv, count.to_bytes(12, 'big')))
        plain = Gcm.open(key, nonce, head, part[:-16], part[-16:]) if len(part) > 16 else None
        if plain is None:
            break
        plain = plain.rstrip(b'\0')
        if plain[-1:] == b'\x16':
            data += plain[:-1]
        count += 1
    return list(messages(data))


class Handshakes:
    """Collects the TLS streams of all HANDSHAKE packets, then finds the sessions' secrets."""

    def __init__(self):
        self.initiators, self.responders = {}, {}  # sender's id: Stream; (initiator's, own): Stream

    def packet(self, fields, numbers):
        data = bytes.fromhex(fields['tls'])
        own, peer = int(fields['source_id'], 16), numbers['session_id']
        if fields['flags'] == '1':
            stream = self.initiators.setdefault(own, Stream())
        else:
            stream = self.responders.setdefault((peer, own), Stream())
        stream.add(int(fields['offset']), data)

    def secrets(self, keylog):
        """[(initiator's id, responder's id, secret)] of those that are in the key log."""
        out = []
        for (initiator, responder), stream in self.responders.items():
            if initiator in self.initiators:
                secret = self.secret(self.initiators[initiator].prefix(), stream.prefix(), keylog,
                                     initiator, responder)
                if secret is not None:
                    out.append((initiator, responder, secret))
        return out

    def early_secrets(self, keylog):
        """(initiator's id, 0-RTT secret, cipher) of the hellos with early data in the key log."""
        for initiator, stream in self.initiators.items():
            hellos = [client_hello(b) for kind, b in plain_messages(stream.prefix()) if kind == 1]
            random, block = hellos[0] if hellos else (None, None)
            master = keylog.get(('EARLY_EXPORTER_SECRET', random))
            if master is None:
                continue
            need(block is not None, 'no parameter block in the hello')
            cipher = bytes.fromhex(decode_params(block)['ciphers'])[:1]
            text = struct.pack('>BQH', 2, initiator, len(block)) + block + cipher
            hash_of = hashlib.sha384 if len(master) == 48 else hashlib.sha256
            context = hashlib.sha256(text).digest()
            yield initiator, export(hash_of, master, context, 32), cipher[0]

    @staticmethod
    def secret(sent, answered, keylog, initiator, responder):
        hellos = [client_hello(b) for kind, b in plain_messages(sent) if kind == 1]
        answers = [server_hello(b) for kind, b in plain_messages(answered) if kind == 2]
        answers = [a for a in answers if a[0] != HELLO_RETRY]
        if not hellos or not answers:
            return None
        random, block_i = hellos[-1]
        need(answers[-1][1] in SUITES, 'TLS cipher suite %04x', answers[-1][1])
        hash_of, key_len = SUITES[answers[-1][1]]
        traffic = keylog.get(('SERVER_HANDSHAKE_TRAFFIC_SECRET', random))
        master = keylog.get(('EXPORTER_SECRET', random))
        if traffic is None or master is None:
            return None
        extensions = [b for kind, b in sealed_messages(answered, hash_of, key_len, traffic)
                      if kind == 8]
        need(extensions, 'the key log does not open the EncryptedExtensions')
        block_r = extension(extensions[0], PARAMS_EXTENSION)
        need(block_i is not None and block_r is not None, 'no parameter block in the handshake')
        return export(hash_of, master, Handshakes.context(block_i, block_r, initiator, responder),
                      32)

    @staticmethod
    def context(block_i, block_r, initiator, responder):
        """SHA-256 over what both sides agreed on."""
        for block, ident in ((block_i, initiator), (block_r, responder)):
            told = int(decode_params(block)['session_id'], 16)
            need(told == ident, 'parameters of session %016x in packets of %016x', told, ident)
        cipher = bytes.fromhex(decode_params(block_r)['ciphers'])
        need(len(cipher) == 1, 'the responder chose %d ciphers', len(cipher))
        text = struct.pack('>BQQ', 2, initiator, responder)
        for block in (block_i, block_r):
            text += struct.pack('>H', len(block)) + block
        return hashlib.sha256(text + cipher).digest()


__all__ = ['Handshakes', 'Violation', 'read_keylog']
