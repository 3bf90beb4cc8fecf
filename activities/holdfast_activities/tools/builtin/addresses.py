"""Which hosts and addresses an outgoing request may reach.

The address that was checked is the address that is connected to: a name that resolves differently a moment later
(DNS rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

from holdfast.errors import ToolRefused, ToolUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def allowed(host: str, port: int, allow: Iterable[str]) -> bool:
    """Whether `host:port` is on the list: exact hosts, `*.suffix`, either with a port of its own."""
    return any(_matches(host.lower().rstrip("."), port, entry.lower()) for entry in allow)


async def resolve(host: str, port: int, *, allow_private: bool) -> str:
    """The address to connect to.

    Raises:
        ToolRefused: when any address of the host is not public, unless private ones are allowed.
        ToolUnavailable: when the name does not resolve.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ToolUnavailable(f"the host `{host}` does not resolve") from error
    addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    if not allow_private and (inside := [each for each in addresses if not is_public(each)]):
        raise ToolRefused(f"`{host}` is the private address {inside[0]}; private addresses are not allowed here")
    return str(addresses[0])


def is_public(address: Address) -> bool:
    """Public unicast, also behind the IPv6 forms that embed an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if embedded is None and address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _matches(host: str, port: int, entry: str) -> bool:
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit():
        if int(wanted) != port:
            return False
    else:
        name = entry
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name.strip("[]")
