"""A language model behind a provider's SDK: what is the same whoever provides it.

The file of a provider says how a call is written in its SDK, how answers are read, and what the SDK's
errors mean.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Self

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import CallTimeout, MissingCredential, ProviderUnavailable, StepError
from agentflow.sources import pictures
from agentflow.sources.answer import Answer, OnText, not_a_stream
from agentflow.sources.base import Message, ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.parameters import Parameters, parameters

Json = Any
LONGEST_CALL_S = 3600.0


class HostedModel(ABC):
    """One model behind one base URL; its connections are shared by every call."""

    sdk_error: ClassVar[type[Exception]]
    """What the SDK raises when a call fails."""
    unreadable: ClassVar[tuple[type[Exception], ...]] = (ValueError, RecursionError)
    """What the SDK raises when it cannot read what came."""
    caps: ClassVar[egress.Caps | None] = None
    """Limits of one reply; None: those of the way out."""

    def __init__(
        self,
        source_id: str,
        provider: str,
        config: Mapping[str, Json],
        *,
        base_url: str,
        own_address: bool,
        policy: Policy,
        credentials: Credentials,
    ) -> None:
        """``own_address``: whether the provider itself serves at ``base_url``, at its prices.

        Raises ProviderRejected when the address is none.
        """
        egress.check_url(base_url)
        self._id = source_id
        self._provider = provider
        self._config = config
        self._base_url = base_url
        self._own_address = own_address
        self._policy = policy
        self._credentials = credentials
        self._http = egress.client(policy, LONGEST_CALL_S, caps=self.caps)

    @classmethod
    def at(
        cls,
        url: str,
        source_id: str,
        provider: str,
        config: Mapping[str, Json],
        *,
        policy: Policy,
        credentials: Credentials,
    ) -> Self:
        """A connection to the provider's own address ``url``, unless the configuration has a
        ``base_url``. Raises ProviderRejected."""
        base_url = str(config.get("base_url") or url)
        return cls(
            source_id,
            provider,
            config,
            base_url=base_url,
            own_address=base_url == url,
            policy=policy,
            credentials=credentials,
        )

    async def generate(self, request: ModelRequest, on_text: OnText | None = None) -> ModelReply:
        """Call the model once; with ``on_text`` as a stream.

        Raises StepError; BilledError when the call failed after the model had begun to answer.
        """
        chosen = parameters(request, self._config)
        headers, secrets = self._headers(request, chosen)
        price, own = self._config.get("price"), self._own_address
        answer = Answer(self._provider, self._base_url, price, request, chosen, own_address=own)
        try:
            async with asyncio.timeout(chosen.timeout_s):
                messages = await pictures.embedded(request.messages, self._policy)
                call = self._call(request, chosen, messages, headers)
                if on_text is None:
                    await self._whole(answer, call)
                else:
                    await self._stream(answer, call, on_text)
                return self._reply(answer)
        except TimeoutError:
            message = f"{answer.where} did not answer within {chosen.timeout_s:g} s"
            raise answer.billed(CallTimeout(message)) from None
        except self.sdk_error as error:
            raise answer.billed(self._mapped(error, answer, secrets)) from None
        except StepError as error:
            raise answer.billed(error) from None

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    @abstractmethod
    def _headers(
        self, request: ModelRequest, chosen: Parameters
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        """The headers of a call, and the secret values among them. Raises MissingCredential."""

    @abstractmethod
    def _call(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, Json],
    ) -> dict[str, Json]:
        """The parameters of the SDK's call. Raises ProviderRejected, InvalidInput."""

    @abstractmethod
    async def _whole(self, answer: Answer, call: dict[str, Json]) -> None:
        """Call, and read an answer that comes in one piece."""

    @abstractmethod
    async def _stream(self, answer: Answer, call: dict[str, Json], on_text: OnText) -> None:
        """Call, and read an answer that streams in."""

    @abstractmethod
    def _mapped(self, error: Any, answer: Answer, secrets: tuple[str, ...]) -> StepError:
        """The step error of an error of the SDK."""

    def _reply(self, answer: Answer) -> ModelReply:
        """The finished reply. Raises ContentFiltered, OutputSchemaMismatch."""
        return answer.reply()

    def _secret(self, name: str) -> str | None:
        """The value of the credential ``name``; None when the source names none. Raises
        MissingCredential."""
        variable = self._config.get(f"{name}_env")
        if variable:
            return self._credentials.value(variable, self._id)
        if self._config.get(f"{name}_ref"):
            raise MissingCredential(
                f"Source {self._id!r} names a stored secret ({name}_ref), which this version cannot "
                f"read; name an environment variable ({name}_env) instead"
            )
        return None

    async def _drain(
        self,
        answer: Answer,
        stream: AbstractAsyncContextManager[AsyncIterator[Any]],
        read: Callable[[Answer, Any, OnText], None],
        on_text: OnText,
        headers: Mapping[str, str],
    ) -> None:
        """Give every piece of a stream to ``read``. ``headers``: what came before the stream.

        Raises ProviderUnavailable when it cannot be read, or ends before the reply does."""
        try:
            async with stream as pieces:
                async for piece in pieces:
                    silent = not answer.text
                    read(answer, _plain(piece), on_text)
                    if silent and answer.text:
                        await asyncio.sleep(0)  # the first words leave before more is read
        except self.unreadable as error:
            raise ProviderUnavailable(
                f"{answer.where} sent a stream that cannot be read, after {len(answer.text)} "
                "characters"
            ) from error
        if not answer.finish_reason:
            raise ProviderUnavailable(
                f"The stream of {answer.where} ended before the reply was complete, "
                f"after {len(answer.text)} characters{not_a_stream(headers) if headers else ''}"
            )
        answer.end(on_text)


def read_object(where: str, text: str) -> dict[str, Json]:
    """The JSON object that an answer is; ``where`` names who gave it. Raises ProviderUnavailable."""
    try:
        came = json.loads(text)
    except (ValueError, RecursionError):
        came = None
    if not isinstance(came, dict):
        what = "not an answer: " + masked(text, (), 80) if text.strip() else "nothing"
        raise ProviderUnavailable(f"{where} answered 200 with {what}")
    return came


def _plain(piece: Json) -> Json:
    """A piece of a stream without the model that some SDKs put around it."""
    return piece.to_dict(warnings=False) if hasattr(piece, "to_dict") else piece
