"""The address policy and the reading of URLs beside a second opinion: the standard library's."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import hypothesis.strategies as st
from hypothesis import example, given

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import ProviderRejected

NOBODY = Policy()
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("169.254.169.254"))
@example(ipaddress.IPv4Address("100.64.0.1"))
@example(ipaddress.IPv4Address("224.0.0.1"))
@example(ipaddress.IPv4Address("255.255.255.255"))
@example(ipaddress.IPv4Address("0.0.0.0"))
def test_only_public_addresses_are_called(address: ipaddress.IPv4Address) -> None:
    if NOBODY.refusal(str(address), 443) is None:
        assert address.is_global and not address.is_multicast and not address.is_reserved


@given(st.ip_addresses(v=6))
@example(ipaddress.IPv6Address("::1"))
@example(ipaddress.IPv6Address("fe80::1"))
@example(ipaddress.IPv6Address("fd00::1"))
@example(ipaddress.IPv6Address("ff02::1"))
@example(ipaddress.IPv6Address("2002:7f00:1::"))
def test_only_public_addresses_of_version_6_are_called(address: ipaddress.IPv6Address) -> None:
    if NOBODY.refusal(str(address), 443) is None:
        assert address.is_global and not address.is_multicast
        led_to = inside(address)
        assert led_to is None or led_to.is_global


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}", "::{}"]))
def test_private_address_in_the_clothes_of_version_6_is_refused(
    address: ipaddress.IPv4Address, written: str
) -> None:
    if not address.is_global:
        assert NOBODY.refusal(written.format(address), 443) is not None


@given(
    st.sampled_from(["http", "https"]),
    st.text("abz019.-_@:/?#%[]\\\\ \t\n\u3002\u00df", min_size=1, max_size=24),
)
@example("http", "127.0.0.1\\@example.com")
@example("http", "example.com#@127.0.0.1")
def test_host_that_is_called_is_the_one_that_others_read(scheme: str, rest: str) -> None:
    try:
        url = egress.check_url(f"{scheme}://{rest}")
    except ProviderRejected:
        return
    # What is called is the checked text; whoever reads that finds one host and no user in it.
    read = urlsplit(url)
    assert read.hostname and "@" not in read.netloc
    assert read.scheme == scheme and not set(read.hostname) & set("/?#\\ \t\n@")
