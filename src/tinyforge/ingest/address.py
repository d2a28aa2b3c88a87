"""Which addresses may be asked for a page: public ones only, so that a link or a name server cannot lead inside."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterator

from tinyforge.errors import InputError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _embedded(address: _Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for by one of the transition mechanisms."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _NAT64 or address in _COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def is_public(text: str) -> bool:
    """Whether an address, and every IPv4 address inside of it, belongs to the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address in _NAT64:  # itself reserved: what counts is the address that it leads to
        return all(map(_is_public, _embedded(address)))
    return all(map(_is_public, (address, *_embedded(address))))


def _is_public(address: _Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def checked_address(host: str, port: int, allowed: Collection[str] = ()) -> str:
    """The address to connect to for a host: the first that its name stands for.

    Raises InputError when the name is unknown, and when any of its addresses is not public, unless it or the host is in
    ``allowed``: a name with one address outside and one inside is how a name server would get around this.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: no such host ({error}).", "Check the address, and the network.") from error
    found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for address in found:
        if address not in allowed and host not in allowed and not is_public(address):
            raise InputError(
                f"{host}: its address {address} is not a public one, so it is not asked.",
                f"If you mean this host: --set 'ingest.private_hosts=[{host}]'",
            )
    return found[0]
