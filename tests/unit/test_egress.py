"""The way out: which addresses can be called, and what a hostile server can do."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentflow.addresses import DENIED, Network, Policy, unwrapped
from agentflow.egress import Caps, Resolve, check_url, client
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from tests.fake_provider import Drip, FakeProvider, Hang, Raw

LOOPBACK = Policy(allow=(ip_network("127.0.0.0/8"),))


def _words(text: str) -> list[str]:
    return text.split()


INTERNAL = _words("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
127.255.255.254 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1
192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255
240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
::ffff:100.100.100.200 64:ff9b::127.0.0.1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1
64:ff9b::8.8.8.8 100::1 100:0:0:1::1 2001::1 2001:0:7f00:1::1 2001:0:808:808::f7f7:f7f7 2001:1::1
2001:db8::1 2002:7f00:1:: 2002:7f00:1::1 2002:808:808::1 2002:a9fe:a9fe::1 2620:4f:8000::1 3fff::1
5f00::1 fc00::1 fd00:ec2::254 fdff:ffff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1 feff::1 ff02::1
ff0e::1 4000::1 8000::1 e000::1
""")
PUBLIC = _words("""
1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 192.0.1.1 198.17.255.255
198.20.0.1 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001::200e ::ffff:8.8.8.8
""")
LITERALS = _words("""
127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0x7f.0x0.0x0.0x1
localhost [::ffff:127.0.0.1] [::ffff:7f00:1] 127.0.0.1.
""")
"""Spellings of the loopback address that a resolver understands."""


def passing(policy: Policy, addresses: list[str]) -> list[str]:
    return [address for address in addresses if policy.refusal(address, 443) is None]


def test_policy_refuses_every_internal_address() -> None:
    assert passing(Policy(), INTERNAL) == []


def test_policy_permits_the_public_internet() -> None:
    assert passing(Policy(), PUBLIC) == PUBLIC


@pytest.mark.parametrize("network", [network for network, _ in DENIED], ids=str)
def test_corpus_notices_a_missing_range(network: Network) -> None:
    """Without any one of the ranges an internal address passes, unless a second rule catches it."""
    weaker = Policy(denied=tuple(entry for entry in DENIED if entry[0] != network))
    caught_twice = network.version == 6 and not network.subnet_of(IPv6Network("2000::/3"))
    assert bool(passing(weaker, INTERNAL)) is not caught_twice


def test_corpus_notices_a_missing_policy() -> None:
    assert passing(Policy(denied=()), INTERNAL) == INTERNAL


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ("64:ff9b:1::a00:1", "10.0.0.1"),
        ("2002:a00:1::", "10.0.0.1"),
        ("2001:0:a00:1::", "10.0.0.1"),
    ],
)
def test_wrapped_addresses_are_unwrapped(address: str, inner: str) -> None:
    assert ip_address(inner) in unwrapped(ip_address(address))


def test_operator_opens_ranges_but_not_what_hides_in_them() -> None:
    policy = Policy(allow=(ip_network("10.1.0.0/16"), ip_network("64:ff9b::/96")))
    assert policy.refusal("10.1.2.3", 8000) is None
    assert policy.refusal("::ffff:10.1.2.3", 8000) is None
    assert policy.refusal("10.2.0.1", 80) == "a private address"
    assert policy.refusal("64:ff9b::8.8.8.8", 443) is None
    assert policy.refusal("64:ff9b::127.0.0.1", 443) == "a loopback address"


def test_public_addresses_are_called_at_usual_ports_only() -> None:
    assert Policy().refusal("8.8.8.8", 22) == "port 22 of a public address"
    opened = Policy(allow=(ip_network("8.8.8.0/24"),))
    assert opened.refusal("8.8.8.8", 8443) is None


def test_what_is_no_address_is_refused() -> None:
    assert Policy().refusal("example.com", 80) == "not an address"


@pytest.fixture
def server() -> Iterator[FakeProvider]:
    with FakeProvider(default=Raw(b"reached", content_type="text/plain")) as server:
        yield server


async def fetch(
    url: str, policy: Policy = LOOPBACK, *, caps: Caps | None = None, **more: Any
) -> bytes:
    request = {name: more.pop(name) for name in ("headers", "content") if name in more}
    async with client(policy, 10, caps=caps, **more) as http:
        return (await http.request("POST", url, **request)).content


def names(**table: list[str]) -> Resolve:
    """A resolver that knows these names (``_`` stands for a dot)."""

    async def resolve(host: str, port: int) -> list[str]:
        try:
            return table[host.replace(".", "_")]
        except KeyError:
            raise OSError("name not known") from None

    return resolve


@pytest.mark.parametrize("literal", LITERALS)
async def test_every_spelling_of_loopback_is_refused(server: FakeProvider, literal: str) -> None:
    with pytest.raises((ProviderRejected, ConnectionFailed, httpx2.InvalidURL)):
        await fetch(f"http://{literal}:{server.port}/", Policy())
    assert server.calls == 0


async def test_spellings_reach_the_server_when_the_policy_is_weak(server: FakeProvider) -> None:
    weak = Policy(denied=(), ports=(server.port,))
    for literal in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1"):
        assert await fetch(f"http://{literal}:{server.port}/", weak) == b"reached"


async def test_refusal_names_the_class_and_the_setting(server: FakeProvider) -> None:
    with pytest.raises(ProviderRejected) as caught:
        await fetch(f"http://127.0.0.1:{server.port}/", Policy())
    assert "a loopback address" in caught.value.message
    assert "AGENTFLOW_EGRESS_ALLOW" in caught.value.message
    assert not caught.value.retryable


async def test_mixed_public_and_private_answers_are_refused(server: FakeProvider) -> None:
    resolve = names(mixed_test=["8.8.8.8", "127.0.0.1"])
    with pytest.raises(ProviderRejected, match="loopback"):
        await fetch("http://mixed.test/", Policy(), resolve=resolve)


async def test_name_is_resolved_once_and_the_checked_address_is_called(
    server: FakeProvider,
) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    body = await fetch(f"http://rebind.test:{server.port}/", resolve=rebinding)
    assert body == b"reached" and len(answers) == 1
    assert server.last.headers["host"] == f"rebind.test:{server.port}"


async def test_next_address_is_tried_when_one_does_not_answer(server: FakeProvider) -> None:
    resolve = names(two_test=["127.0.0.99", "127.0.0.1"])
    assert await fetch(f"http://two.test:{server.port}/", resolve=resolve) == b"reached"


async def test_unknown_name_is_a_failed_connection() -> None:
    with pytest.raises(ConnectionFailed, match=r"nowhere\.test"):
        await fetch("http://nowhere.test/", Policy(), resolve=names())
    with pytest.raises(ConnectionFailed, match="no address"):
        await fetch("http://empty.test/", Policy(), resolve=names(empty_test=[]))


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pw@127.0.0.1:{port}/",
        "http://8.8.8.8@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
    ],
)
async def test_odd_urls_are_refused_without_repeating_credentials(
    server: FakeProvider, url: str
) -> None:
    with pytest.raises(ProviderRejected) as caught:
        await fetch(url.format(port=server.port))
    assert "pw" not in str(caught.value) and server.calls == 0


def test_url_with_half_a_character_is_refused() -> None:
    with pytest.raises(ProviderRejected):
        check_url("http://example.com/\ud800")


async def test_look_alike_hosts_reach_nothing(server: FakeProvider) -> None:
    for host in ("１２７.０.０.１", "127。0。0。1", "ⓛocalhost"):
        with pytest.raises((StepError, httpx2.InvalidURL)):
            await fetch(f"http://{host}:{server.port}/", Policy())
    assert server.calls == 0


async def test_proxies_of_the_environment_are_not_used(
    server: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetch(f"http://127.0.0.1:{server.port}/") == b"reached"


def redirect(location: str, status: int = 302) -> Raw:
    return Raw(b"", status=status, headers={"Location": location})


async def test_redirect_to_a_private_address_is_refused(server: FakeProvider) -> None:
    policy = Policy(allow=(ip_network("127.0.0.1/32"),))
    for target in ("http://127.0.0.2/", "http://169.254.169.254/latest", "//[::1]/", "file:///x"):
        server.script(redirect(target))
        with pytest.raises(ProviderRejected):
            await fetch(f"http://127.0.0.1:{server.port}/", policy)
    assert server.calls == 4


async def test_three_redirects_are_followed_and_a_fourth_is_not(server: FakeProvider) -> None:
    server.script(redirect("/1"), redirect("/2"), redirect("/3"))
    assert await fetch(f"http://127.0.0.1:{server.port}/") == b"reached"
    server.script(*(redirect("/again") for _ in range(4)))
    with pytest.raises(ProviderRejected, match="more than 3"):
        await fetch(f"http://127.0.0.1:{server.port}/")


async def test_redirect_keeps_method_and_body_only_where_it_must(server: FakeProvider) -> None:
    server.script(redirect("/a", 307))
    await fetch(f"http://127.0.0.1:{server.port}/", content=b'{"a": 1}')
    assert (server.last.method, server.last.raw) == ("POST", b'{"a": 1}')
    server.script(redirect("/b", 303))
    await fetch(f"http://127.0.0.1:{server.port}/", content=b'{"a": 1}')
    assert (server.last.method, server.last.raw) == ("GET", b"")


async def test_credentials_do_not_follow_to_another_origin(server: FakeProvider) -> None:
    headers = {
        "Authorization": "Bearer canary",
        "X-Api-Key": "canary",
        "Cookie": "canary=1",
        "X-Kept": "yes",
    }
    with FakeProvider(default=Raw(b"other", content_type="text/plain")) as other:
        server.script(redirect("/same"), redirect(f"http://127.0.0.1:{other.port}/", 307))
        assert await fetch(f"http://127.0.0.1:{server.port}/", headers=headers) == b"other"
        sent = other.last.headers
    assert [request.key for request in server.requests] == ["canary", "canary"]
    assert "canary" not in str(sent) and sent["x-kept"] == "yes"
    assert sent["host"] == f"127.0.0.1:{other.port}"


async def test_large_body_is_refused(server: FakeProvider) -> None:
    server.default = Raw(b"x" * 5000)
    with pytest.raises(ProviderRejected, match="exceeds 4000 bytes"):
        await fetch(f"http://127.0.0.1:{server.port}/", caps=Caps(body=4000))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_packed_bomb_is_refused_before_it_grows(server: FakeProvider, encoding: str) -> None:
    plain = b"0" * 50_000_000
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    server.default = Raw(packed, headers={"Content-Encoding": encoding})
    with pytest.raises(ProviderRejected, match="unpacked body"):
        await fetch(f"http://127.0.0.1:{server.port}/", caps=Caps(decompressed=1_000_000))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_packing_that_was_not_asked_for_is_refused(
    server: FakeProvider, encoding: str
) -> None:
    server.default = Raw(b"abc", headers={"Content-Encoding": encoding})
    with pytest.raises(ProviderRejected, match="packed"):
        await fetch(f"http://127.0.0.1:{server.port}/")


async def test_broken_packing_is_unavailable(server: FakeProvider) -> None:
    whole = gzip.compress(b"x" * 1000)
    for packed in (b"not gzip", whole[:-12]):
        server.default = Raw(packed, headers={"Content-Encoding": "gzip"})
        with pytest.raises(ProviderUnavailable):
            await fetch(f"http://127.0.0.1:{server.port}/")


async def test_large_and_endless_headers_are_refused(server: FakeProvider) -> None:
    server.default = Raw(b"", headers={f"X-{n}": "a" * 1000 for n in range(70)})
    with pytest.raises(ProviderRejected, match="headers"):
        await fetch(f"http://127.0.0.1:{server.port}/")
    server.default = Drip(every=0.0, headers=True, size=5000)
    with pytest.raises((ProviderUnavailable, ProviderRejected)):
        await fetch(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("reply", [Drip(), Drip(headers=True), Hang()])
async def test_slow_reply_ends_at_the_limit(server: FakeProvider, reply: Any) -> None:
    server.default = reply
    before = time.monotonic()
    with pytest.raises(CallTimeout):
        await fetch(f"http://127.0.0.1:{server.port}/", caps=Caps(total_s=0.4))
    assert time.monotonic() - before < 5


class Tls:
    """A server with a certificate of its own for ``names``; keeps the names that it was asked for."""

    def __init__(self, folder: Path, *names: str, location: str | None = None) -> None:
        self.asked: list[str | None] = []
        self.hosts: list[str | None] = []
        certificate = _certificate(folder, names)
        self.trust = ssl.create_default_context(cafile=str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _, name, __: self.asked.append(name)
        hosts = self.hosts

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hosts.append(self.headers["host"])
                self.send_response(302 if location else 200)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"secure")

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]

    def __enter__(self) -> Tls:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _certificate(folder: Path, names: tuple[str, ...]) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


async def test_tls_uses_the_original_name_on_the_pinned_address(tmp_path: Path) -> None:
    with Tls(tmp_path, "api.test") as server:
        url = f"https://api.test:{server.port}/"
        resolve = names(api_test=["127.0.0.1"])
        assert await fetch(url, resolve=resolve, verify=server.trust) == b"secure"
        assert server.asked == ["api.test"]
        assert server.hosts == [f"api.test:{server.port}"]


async def test_certificate_of_another_name_is_a_failed_connection(tmp_path: Path) -> None:
    with Tls(tmp_path, "api.test") as server:
        url = f"https://other.test:{server.port}/"
        resolve = names(other_test=["127.0.0.1"])
        with pytest.raises(ConnectionFailed, match="secure"):
            await fetch(url, resolve=resolve, verify=server.trust)
        with pytest.raises(ConnectionFailed):
            await fetch(f"https://api.test:{server.port}/", resolve=names(api_test=["127.0.0.1"]))
    assert server.hosts == []


async def test_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    with Tls(tmp_path, "api.test", location="http://api.test/") as server:
        url = f"https://api.test:{server.port}/"
        resolve = names(api_test=["127.0.0.1"])
        with pytest.raises(ProviderRejected, match="from https to http"):
            await fetch(url, resolve=resolve, verify=server.trust)


async def test_many_calls_at_once_all_arrive(server: FakeProvider) -> None:
    async with client(LOOPBACK, 30) as http:
        url = f"http://127.0.0.1:{server.port}/"
        replies = await asyncio.gather(*(http.post(url) for _ in range(100)))
    assert all(reply.content == b"reached" for reply in replies) and server.calls == 100
