"""Capture files for decode_smt2.py: classic pcap, down to payloads of UDP and protocol 254.

Link types: Ethernet (with VLAN tags), raw IP, BSD loop-back, Linux cooked v1 and v2. IPv4 and IPv6.
"""
import struct
from collections import namedtuple

IP_PROTOCOL_SMT2 = 254
UDP = 17

# carriage "udp" or "ip"; ip_id is the IPv4 identification, None over IPv6.
Datagram = namedtuple('Datagram', 'number time src dst sport dport carriage ip_id payload cut')

LINK_HEADS = {0: 4, 1: 14, 12: 0, 14: 0, 101: 0, 113: 16, 228: 0, 229: 0, 276: 20}


class BadCapture(Exception):
    """The file is not a capture that can be read."""


def records(data):
    """(time, link type, bytes on file, length on the wire) of each packet of a pcap file."""
    magics = {b'\xd4\xc3\xb2\xa1': ('<', 1e-6), b'\xa1\xb2\xc3\xd4': ('>', 1e-6),
              b'\x4d\x3c\xb2\xa1': ('<', 1e-9), b'\xa1\xb2\x3c\x4d': ('>', 1e-9)}
    if data[:4] not in magics or len(data) < 24:
        raise BadCapture('not a classic pcap file (pcapng: convert with editcap -F pcap)')
    order, unit = magics[data[:4]]
    link = struct.unpack_from(order + 'I', data, 20)[0] & 0x0fffffff
    if link not in LINK_HEADS:
        raise BadCapture('link type %d' % link)
    at = 24
    while at < len(data):
        if len(data) - at < 16:
            raise BadCapture('ends inside a record head')
        sec, frac, kept, length = struct.unpack_from(order + 'IIII', data, at)
        at += 16
        if kept > len(data) - at:
            raise BadCapture('ends inside a record')
        yield sec + frac * unit, link, data[at:at + kept], length
        at += kept


def ip_packet(link, frame):
    """What follows the link header, or None when that is not IP."""
    head = LINK_HEADS[link]
    if len(frame) < head:
        return None
    if link == 1:
        at = 12
        while frame[at:at + 2] in (b'\x81\x00', b'\x88\xa8'):
            at += 4
        return frame[at + 2:] if frame[at:at + 2] in (b'\x08\x00', b'\x86\xdd') else None
    if link in (113, 276):
        proto = frame[14:16] if link == 113 else frame[0:2]
        return frame[head:] if proto in (b'\x08\x00', b'\x86\xdd') else None
    return frame[head:]


def datagrams(data):
    """Every UDP datagram and every packet of IP protocol 254 in the capture."""
    for number, (time, link, frame, length) in enumerate(records(data), 1):
        ip = ip_packet(link, frame)
        if not ip or ip[0] >> 4 not in (4, 6):
            continue
        if ip[0] >> 4 == 4:
            head = (ip[0] & 15) * 4
            if len(ip) < 20 or head < 20:
                continue
            total, ip_id, frag, _, proto = struct.unpack_from('>HHHBB', ip, 2)
            src, dst = ip[12:16], ip[16:20]
            fragment = frag & 0x3fff
        else:
            if len(ip) < 40:
                continue
            head, ip_id, fragment = 40, None, 0
            total, proto = struct.unpack_from('>HB', ip, 4)
            total += 40
            src, dst = ip[8:24], ip[24:40]
        if proto not in (UDP, IP_PROTOCOL_SMT2):
            continue
        if total in (0, 40):  # a super-frame above 64 KB: the length field gives up
            total = len(ip)
        body = ip[head:total]
        cut = 'fragment' if fragment else 'cut by the capture' if len(ip) < total else None
        sport = dport = None
        if proto == UDP:
            if len(body) < 8:
                continue
            sport, dport, udp_len = struct.unpack_from('>HHH', body)
            body = body[8:udp_len] if udp_len >= 8 else body[8:]
        yield Datagram(number, time, src, dst, sport, dport, 'udp' if proto == UDP else 'ip',
                       ip_id, body, cut)
