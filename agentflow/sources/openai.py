"""Models behind the OpenAI chat completions protocol: OpenAI, vLLM and any compatible endpoint."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import openai

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    MissingCredential,
    NotSupported,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources import prices
from agentflow.sources.base import BilledError, ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.parameters import (
    Parameters,
    estimated_input,
    estimated_tokens,
    parameters,
)
from agentflow.sources.refusals import refusal, said
from agentflow.sources.text import Pieces, well_formed

Json = Any
OnText = Callable[[str], None]

OPENAI_URL = "https://api.openai.com/v1"
LONGEST_CALL_S = 3600.0
_REASONING = re.compile(r"^(o\d|gpt-5)")


async def open_openai(
    source_id: str,
    provider: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
) -> OpenAISource:
    """A connection to a model. No call is made and no credential is read yet.

    Raises NotSupported, ProviderRejected.
    """
    base_url = config.get("base_url")
    if not base_url and provider != "openai":
        raise NotSupported(
            f"Source {source_id!r} needs a base_url: models of provider {provider!r} cannot be "
            "deployed by this version"
        )
    if base_url:
        egress.check_url(str(base_url))
    return OpenAISource(source_id, provider, config, policy, credentials)


class OpenAISource:
    """One model behind one base URL; its connections are shared by every call."""

    def __init__(
        self,
        source_id: str,
        provider: str,
        config: Mapping[str, Json],
        policy: Policy,
        credentials: Credentials,
    ) -> None:
        self._id = source_id
        self._provider = provider
        self._config = config
        self._credentials = credentials
        self._base_url = str(config.get("base_url") or OPENAI_URL)
        self._http = egress.client(policy, LONGEST_CALL_S)
        self._client = openai.AsyncOpenAI(
            api_key="unset",
            base_url=self._base_url,
            max_retries=0,
            http_client=self._http,
        )
        # The SDK reads these from the environment; only what the source names may be sent.
        self._client.organization = None
        self._client.project = None

    async def generate(self, request: ModelRequest, on_text: OnText | None = None) -> ModelReply:
        """Call the model once; with ``on_text`` as a stream.

        Raises StepError; BilledError when the call failed after the model had begun to answer.
        """
        chosen = parameters(request, self._config)
        headers, secrets = self._headers(request)
        body = _body(request, chosen, newest=self._base_url == OPENAI_URL)
        call = _Call(self._provider, self._base_url, self._config.get("price"), request, chosen)
        try:
            async with asyncio.timeout(chosen.timeout_s):
                if on_text is None:
                    return await self._whole(call, body, headers)
                return await self._stream(call, body, headers, on_text)
        except TimeoutError:
            message = f"{call.where} did not answer within {chosen.timeout_s:g} s"
            raise call.billed(CallTimeout(message)) from None
        except openai.APIError as error:
            raise call.billed(_mapped(error, call, self._config, secrets)) from None
        except StepError as error:
            raise call.billed(error) from None

    async def _whole(self, call: _Call, body: dict[str, Json], headers: Json) -> ModelReply:
        raw = await self._client.chat.completions.with_raw_response.create(
            **body, extra_headers=headers, timeout=call.chosen.timeout_s
        )
        text = raw.text
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            came = (
                "nothing" if not text.strip() else f"not a chat completion: {masked(text, (), 80)}"
            )
            raise ProviderUnavailable(f"{call.where} answered 200 with {came}")
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        call.note(answer)
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise ProviderUnavailable(f"{call.where} answered without a choice")
        call.text = well_formed(str(message.get("content") or ""))
        call.refusal = str(message.get("refusal") or "")
        call.finish_reason = well_formed(str(choice.get("finish_reason") or "stop"))
        return call.reply()

    async def _stream(
        self, call: _Call, body: dict[str, Json], headers: Json, on_text: OnText
    ) -> ModelReply:
        chunks = await self._client.chat.completions.create(
            **body,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=headers,
            timeout=call.chosen.timeout_s,
        )
        try:
            async with chunks:
                async for chunk in chunks:
                    call.take(
                        chunk.to_dict(warnings=False) if hasattr(chunk, "to_dict") else chunk,
                        on_text,
                    )
        except ValueError as error:
            raise ProviderUnavailable(
                f"{call.where} sent a stream that cannot be read, after {len(call.text)} characters"
            ) from error
        if not call.finish_reason:
            raise ProviderUnavailable(
                f"The stream of {call.where} ended before the reply was complete, "
                f"after {len(call.text)} characters{_kind_of(chunks.response.headers)}"
            )
        return call.reply()

    def _headers(self, request: ModelRequest) -> tuple[dict[str, Json], tuple[str, ...]]:
        """The headers of a call, and the secret values among them."""
        headers: dict[str, Json] = dict(self._config.get("headers") or {})
        secrets = []
        key_name = self._config.get("api_key_env")
        if key_name:
            key = self._credentials.value(key_name, self._id)
            headers["Authorization"] = f"Bearer {key}"
            secrets.append(key)
        elif self._config.get("api_key_ref"):
            raise MissingCredential(
                f"Source {self._id!r} names a stored secret (api_key_ref), which this version cannot "
                "read; name an environment variable (api_key_env) instead"
            )
        else:
            headers["Authorization"] = openai.Omit()
        organization = self._config.get("organization_env")
        if organization:
            headers["OpenAI-Organization"] = self._credentials.value(organization, self._id)
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers, tuple(secrets)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()


class _Call:
    """One call: what came back so far, and what it is worth."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        price: Mapping[str, Json] | None,
        request: ModelRequest,
        chosen: Parameters,
    ) -> None:
        self.provider = provider
        self.base_url = base_url
        self.price = price
        self.request = request
        self.chosen = chosen
        self.where = f"Model {chosen.model!r} at {_shown(base_url)}"
        self.text = ""
        self._pieces = Pieces()
        self.refusal = ""
        self.finish_reason = ""
        self.model = ""
        self.usage: Mapping[str, Json] | None = None

    def take(self, chunk: Json, on_text: OnText) -> None:
        """Add a piece of a stream."""
        if not isinstance(chunk, dict):
            return
        self.note(chunk)
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self.refusal += str(delta.get("refusal") or "")
            self.add(self._pieces.take(delta.get("content")), on_text)
        if choice.get("finish_reason"):
            self.finish_reason = well_formed(str(choice["finish_reason"]))
            self.add(self._pieces.rest(), on_text)

    def add(self, piece: str, on_text: OnText) -> None:
        """Add text to the reply, and pass it on."""
        if piece:
            self.text += piece
            on_text(piece)

    def note(self, answer: Mapping[str, Json]) -> None:
        """Keep the model's name and the usage, where an answer or a chunk has them."""
        if isinstance(answer.get("model"), str) and answer["model"]:
            self.model = well_formed(answer["model"])
        if isinstance(answer.get("usage"), dict):
            self.usage = answer["usage"]

    def reply(self) -> ModelReply:
        """The finished reply. Raises ContentFiltered."""
        if self.finish_reason == "content_filter":
            raise ContentFiltered(f"The content filter of {self.where} stopped the reply")
        if self.refusal and not self.text:
            raise ContentFiltered(f"{self.where} refused: {masked(self.refusal)}")
        return self.so_far()

    def so_far(self) -> ModelReply:
        """What came back, with its usage and cost; estimated where the provider did not say."""
        counted = _counts(self.usage)
        estimated = counted is None
        if counted is None:
            counted = (estimated_input(self.request.messages), estimated_tokens(self.text), 0)
        model = self.model or self.chosen.model
        cost, priced = prices.cost(
            provider=self.provider,
            model=model,
            base_url=None if self.base_url == OPENAI_URL else self.base_url,
            price=self.price,
            input_tokens=counted[0],
            output_tokens=counted[1],
            cached_tokens=counted[2],
        )
        return ModelReply(
            text=self.text,
            model=model,
            provider=self.provider,
            finish_reason=self.finish_reason or "error",
            input_tokens=counted[0],
            output_tokens=counted[1],
            cached_tokens=counted[2],
            estimated=estimated,
            cost=cost,
            priced=priced,
        )

    def billed(self, error: StepError) -> StepError | BilledError:
        """The error; as a billed one if the model had answered something before it."""
        began = bool(self.text or self.usage)
        return BilledError(error, self.so_far()) if began else error


def _body(request: ModelRequest, chosen: Parameters, *, newest: bool) -> dict[str, Json]:
    """The parameters of the SDK's call. ``newest``: OpenAI's own spelling of max_tokens."""
    fixed = bool(_REASONING.match(chosen.model))
    body: dict[str, Json] = {
        "model": chosen.model,
        "messages": [
            {"role": message.role, "content": message.content} for message in request.messages
        ],
        "max_completion_tokens" if newest else "max_tokens": chosen.max_tokens,
    }
    # Reasoning models accept no sampling parameters; the defaults must not break them.
    for name in ("temperature", "top_p"):
        if name in chosen.given or not fixed:
            body[name] = getattr(chosen, name)
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(chosen, name) is not None:
            body[name] = getattr(chosen, name)
    if chosen.stop:
        body["stop"] = list(chosen.stop)
    if request.response_schema is not None:
        schema = request.response_schema
        described = {"name": "reply", "schema": schema, "strict": _is_strict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return body


def _is_strict(schema: Json) -> bool:
    """Whether a schema meets the rules of strict mode: closed objects with every field required."""
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties") or {})
        if schema.get("additionalProperties") is not False:
            return False
        if names != set(schema.get("required") or ()):
            return False
    return all(_is_strict(value) for key, value in schema.items() if key not in ("enum", "const"))


def _counts(usage: Mapping[str, Json] | None) -> tuple[int, int, int] | None:
    """Input, output and cached tokens as the provider counted them; None if it did not."""
    if usage is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), cached or 0)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    return counts  # type: ignore[return-value]


def _mapped(
    error: openai.APIError, call: _Call, config: Mapping[str, Json], secrets: tuple[str, ...]
) -> StepError:
    """The step error of an error of the SDK."""
    if isinstance(error, openai.APITimeoutError):
        return CallTimeout(f"{call.where} did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, StepError):
                return cause
            cause = cause.__cause__
        return ConnectionFailed(f"{call.where} could not be reached")
    answered = error if isinstance(error, openai.APIStatusError) else None
    return refusal(
        call.where,
        status=answered.status_code if answered else None,
        headers=answered.response.headers if answered else {},
        code=str(error.code or ""),
        said=masked(said(error.body), secrets),
        credential=config.get("api_key_env"),
    )


def _kind_of(headers: Mapping[str, str]) -> str:
    """What came instead of a stream, as the end of an error message."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind == "text/event-stream":
        return ""
    came = masked(kind, (), 60) or "an answer without a content type"
    return f": {came} came, not an event stream; check the source's base_url"


def _shown(base_url: str) -> str:
    """A base URL without user info and query, as error messages name it."""
    return re.sub(r"//[^/@]*@", "//", base_url.partition("?")[0]).rstrip("/")
