"""Which addresses are the public internet, and which of the others an operator opened."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLASSES: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "an unspecified address"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "a carrier-internal address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "a documentation address"),
    ("192.31.196.0/24", "a reserved address"),
    ("192.52.193.0/24", "a reserved address"),
    ("192.88.99.0/24", "a relay address"),
    ("192.168.0.0/16", "a private address"),
    ("192.175.48.0/24", "a reserved address"),
    ("198.18.0.0/15", "a benchmarking address"),
    ("198.51.100.0/24", "a documentation address"),
    ("203.0.113.0/24", "a documentation address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("::/96", "a reserved address"),
    ("64:ff9b::/96", "a translated address"),
    ("64:ff9b:1::/48", "a translated address"),
    ("100::/64", "a discard address"),
    ("100:0:0:1::/64", "a discard address"),
    ("2001::/23", "a reserved address"),
    ("2001:db8::/32", "a documentation address"),
    ("2002::/16", "a tunnel address"),
    ("2620:4f:8000::/48", "a reserved address"),
    ("3fff::/20", "a documentation address"),
    ("5f00::/16", "a reserved address"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a private address"),
    ("ff00::/8", "a multicast address"),
)
DENIED: tuple[tuple[Network, str], ...] = tuple((ip_network(cidr), name) for cidr, name in _CLASSES)
"""Every range that is not the public internet, with what it is. Explicit, because the flags of the
standard library call several of them global."""

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_IPV6_GLOBAL = IPv6Network("2000::/3")


@dataclass(frozen=True)
class Policy:
    """Where calls may go. ``allow`` opens ranges that are otherwise refused, at any port.

    ``ports`` are those that may be called on the public internet. ``denied`` exists so that a test
    can weaken it.
    """

    allow: tuple[Network, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    denied: tuple[tuple[Network, str], ...] = DENIED

    def refusal(self, address: str, port: int) -> str | None:
        """Why this address may not be called, as "a loopback address"; None when it may."""
        try:
            forms = unwrapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return "not an address"
        closed = [form for form in forms if not self._allowed(form)]
        for form in closed:
            for network, name in self.denied:
                if form.version == network.version and form in network:
                    return name
            if self.denied and isinstance(form, IPv6Address) and form not in _IPV6_GLOBAL:
                return "a reserved address"
        if closed and port not in self.ports:
            return f"port {port} of a public address"
        return None

    def _allowed(self, address: Address) -> bool:
        return any(address.version == net.version and address in net for net in self.allow)


def unwrapped(address: Address) -> tuple[Address, ...]:
    """What a packet to this address really reaches: IPv4 inside mapped, NAT64, 6to4 and Teredo
    addresses; else the address itself."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    inner: list[Address] = []
    if any(address in network for network in _NAT64):
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    return (address, *inner)
