"""A server that speaks S3."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[str]:
    """The address of an S3 server that has the bucket ``values``."""
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    request = urllib.request.Request(f"http://{host}:{port}/values", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    yield f"http://{host}:{port}"
    served.stop()
