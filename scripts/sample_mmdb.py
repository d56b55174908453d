#!/usr/bin/env python3
"""Writes node/testdata/places.mmdb: a tiny file in the MaxMind DB format, for tests.

All of it is made up here out of networks for documentation (RFC 5737, RFC 3849), so it is under this repository's licence.
The format: https://maxmind.github.io/MaxMind-DB/ (a binary tree over the bits of an address, then data, then metadata).
"""
import ipaddress
import pathlib
import struct

MARK = b"\xab\xcd\xefMaxMind.com"
# Both ways in which such files say where an address is: as MaxMind does, and flat.
PLACES = {
    "192.0.2.0/24": {"country": {"iso_code": "NZ"}, "city": {"names": {"en": "Wellington", "fr": "Wellington"}}},
    "198.51.100.0/25": {"country": {"iso_code": "CN"}, "city": {"names": {"zh-CN": "北京"}}},
    "203.0.113.0/24": {"country_code": "PT", "city": "Porto"},
    "2001:db8::/32": {"country": {"iso_code": "IS"}},
}


def control(kind, size):
    assert size < 29
    return bytes([size]) + bytes([kind - 7]) if kind > 7 else bytes([kind << 5 | size])


def value(what):
    if isinstance(what, str):
        text = what.encode()
        return control(2, len(text)) + text
    if isinstance(what, tuple):  # A number and how many bits it may have.
        number, kind = what[0], {16: 5, 32: 6, 64: 9}[what[1]]
        digits = number.to_bytes(8, "big").lstrip(b"\0")
        return control(kind, len(digits)) + digits
    if isinstance(what, list):
        return control(11, len(what)) + b"".join(map(value, what))
    return control(7, len(what)) + b"".join(value(key) + value(item) for key, item in what.items())


def bits(network):
    network = ipaddress.ip_network(network)
    number, length = int(network.network_address), network.prefixlen
    if network.version == 4:  # In a tree of IPv6, IPv4 stands under ::/96.
        length += 96
    return [number >> (127 - at) & 1 for at in range(length)]


def main():
    nodes, data = [[None, None]], b""
    for network, place in PLACES.items():
        path, at = bits(network), 0
        for bit in path[:-1]:
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = ("node", len(nodes) - 1)
            at = nodes[at][bit][1]
        nodes[at][path[-1]] = ("data", len(data))
        data += value(place)

    def record(side):
        kind, at = side or ("node", len(nodes))
        return (at if kind == "node" else len(nodes) + 16 + at).to_bytes(3, "big")

    tree = b"".join(record(left) + record(right) for left, right in nodes)
    about = {
        "binary_format_major_version": (2, 16),
        "binary_format_minor_version": (0, 16),
        "build_epoch": (1_700_000_000, 64),
        "database_type": "Everdesk-Test",
        "description": {"en": "places for tests"},
        "ip_version": (6, 16),
        "languages": ["en"],
        "node_count": (len(nodes), 32),
        "record_size": (24, 16),
    }
    path = pathlib.Path(__file__).parent.parent / "node/testdata/places.mmdb"
    path.write_bytes(tree + bytes(16) + data + MARK + value(about))


if __name__ == "__main__":
    main()
