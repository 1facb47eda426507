"""Models behind OpenAI's protocols, chat completions and Responses: OpenAI, Azure, vLLM and others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import openai

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    MissingCredential,
    NotSupported,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources import chat, pictures, responses
from agentflow.sources.answer import Answer, OnText, not_a_stream, stated_id
from agentflow.sources.base import ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.parameters import Parameters, parameters
from agentflow.sources.refusals import lost_connection, refusal, said

Json = Any

OPENAI_URL = "https://api.openai.com/v1"
LONGEST_CALL_S = 3600.0
AZURE_V1 = ("v1", "preview")
"""Values of ``api_version`` that stand for Azure's v1 API, which has no dated versions."""
_REQUEST_ID = ("x-request-id", "apim-request-id")


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
    base_url = _azure_url(source_id, config) if provider == "azure" else config.get("base_url")
    if not base_url and provider != "openai":
        raise NotSupported(
            f"Source {source_id!r} needs a base_url: models of provider {provider!r} cannot be "
            "deployed by this version"
        )
    if base_url:
        egress.check_url(str(base_url))
    address = str(base_url or OPENAI_URL)
    return OpenAISource(source_id, provider, config, address, policy, credentials)


def _azure_url(source_id: str, config: Mapping[str, Json]) -> str:
    """Where a deployment serves chat completions. Raises ProviderRejected."""
    endpoint, deployment, version = (
        str(config.get(name) or "") for name in ("azure_endpoint", "deployment", "api_version")
    )
    if not (endpoint and deployment and version):
        raise ProviderRejected(
            f"Source {source_id!r} needs azure_endpoint, deployment and api_version"
        )
    root = f"{endpoint.rstrip('/')}/openai"
    if version in AZURE_V1:
        return f"{root}/v1"
    return f"{root}/deployments/{quote(deployment, safe='')}"


class OpenAISource:
    """One model behind one base URL; its connections are shared by every call."""

    def __init__(
        self,
        source_id: str,
        provider: str,
        config: Mapping[str, Json],
        base_url: str,
        policy: Policy,
        credentials: Credentials,
    ) -> None:
        self._id = source_id
        self._provider = provider
        self._config = config
        self._policy = policy
        self._credentials = credentials
        self._base_url = base_url
        self._azure = provider == "azure"
        self._responds = config.get("protocol") == "responses"
        self._http = egress.client(policy, LONGEST_CALL_S)
        self._client = openai.AsyncOpenAI(
            api_key="unset",
            base_url=base_url,
            max_retries=0,
            default_query=_azure_query(config) if self._azure else None,
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
        answer = Answer(
            self._provider,
            self._base_url,
            self._config.get("price"),
            request,
            chosen,
            own_address=self._azure or self._base_url == OPENAI_URL,
        )
        try:
            async with asyncio.timeout(chosen.timeout_s):
                messages = await pictures.embedded(request.messages, self._policy)
                body = self._body(request, chosen, messages)
                if on_text is None:
                    return await self._whole(answer, body, headers)
                return await self._stream(answer, body, headers, on_text)
        except TimeoutError:
            message = f"{answer.where} did not answer within {chosen.timeout_s:g} s"
            raise answer.billed(CallTimeout(message)) from None
        except openai.APIError as error:
            raise answer.billed(self._mapped(error, answer, secrets)) from None
        except StepError as error:
            raise answer.billed(error) from None

    def _body(self, request: ModelRequest, chosen: Parameters, messages: Json) -> dict[str, Json]:
        model, newest = chosen.model, self._base_url == OPENAI_URL
        if self._azure:
            model = str(self._config["deployment"])
            newest = self._config["api_version"] in AZURE_V1 or chat.reasons(chosen.model)
        if self._responds:
            return responses.body(request, chosen, messages, model=model)
        return chat.body(request, chosen, messages, model=model, newest=newest)

    async def _whole(self, answer: Answer, body: dict[str, Json], headers: Json) -> ModelReply:
        calls = self._client.responses if self._responds else self._client.chat.completions
        raw = await calls.with_raw_response.create(
            **body, extra_headers=headers, timeout=answer.chosen.timeout_s
        )
        answer.request_id = stated_id(raw.headers, *_REQUEST_ID)
        text = raw.text
        try:
            came = json.loads(text)
        except ValueError:
            came = None
        if not isinstance(came, dict):
            what = "not an answer: " + masked(text, (), 80) if text.strip() else "nothing"
            raise ProviderUnavailable(f"{answer.where} answered 200 with {what}")
        read = responses.read_whole if self._responds else chat.read_whole
        if not read(answer, came):
            raise ProviderUnavailable(f"{answer.where} answered without a reply")
        return answer.reply()

    async def _stream(
        self, answer: Answer, body: dict[str, Json], headers: Json, on_text: OnText
    ) -> ModelReply:
        body |= {"stream": True, "extra_headers": headers, "timeout": answer.chosen.timeout_s}
        read: Callable[[Answer, Json, OnText], None] = responses.read_event
        chunks: Any
        if self._responds:
            chunks = await self._client.responses.create(**body)
        else:
            read = chat.read_chunk
            body["stream_options"] = {"include_usage": True}
            chunks = await self._client.chat.completions.create(**body)
        answer.request_id = stated_id(chunks.response.headers, *_REQUEST_ID)
        try:
            async with chunks:
                async for chunk in chunks:
                    plain = chunk.to_dict(warnings=False) if hasattr(chunk, "to_dict") else chunk
                    read(answer, plain, on_text)
        except ValueError as error:
            raise ProviderUnavailable(
                f"{answer.where} sent a stream that cannot be read, after {len(answer.text)} "
                "characters"
            ) from error
        if not answer.finish_reason:
            raise ProviderUnavailable(
                f"The stream of {answer.where} ended before the reply was complete, "
                f"after {len(answer.text)} characters{not_a_stream(chunks.response.headers)}"
            )
        return answer.reply()

    def _headers(self, request: ModelRequest) -> tuple[dict[str, Json], tuple[str, ...]]:
        """The headers of a call, and the secret values among them."""
        headers: dict[str, Json] = dict(self._config.get("headers") or {})
        headers["Authorization"] = openai.Omit()
        secrets = []
        key_name, token_name = (self._config.get(name) for name in ("api_key_env", "token_env"))
        if self._azure and token_name:
            token = self._credentials.value(token_name, self._id)
            headers["Authorization"] = f"Bearer {token}"
            secrets.append(token)
        elif key_name:
            key = self._credentials.value(key_name, self._id)
            name, value = ("api-key", key) if self._azure else ("Authorization", f"Bearer {key}")
            headers[name] = value
            secrets.append(key)
        elif self._config.get("api_key_ref") or self._config.get("token_ref"):
            raise MissingCredential(
                f"Source {self._id!r} names a stored secret (api_key_ref), which this version cannot "
                "read; name an environment variable (api_key_env) instead"
            )
        organization = self._config.get("organization_env")
        if organization:
            headers["OpenAI-Organization"] = self._credentials.value(organization, self._id)
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers, tuple(secrets)

    def _mapped(
        self, error: openai.APIError, answer: Answer, secrets: tuple[str, ...]
    ) -> StepError:
        """The step error of an error of the SDK."""
        if isinstance(error, openai.APIConnectionError):
            return lost_connection(answer.where, error)
        answered = error if isinstance(error, openai.APIStatusError) else None
        return refusal(
            answer.where,
            status=answered.status_code if answered else None,
            headers=answered.response.headers if answered else {},
            code=str(error.code or ""),
            said=masked(said(error.body), secrets),
            credential=self._config.get("token_env") or self._config.get("api_key_env"),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()


def _azure_query(config: Mapping[str, Json]) -> dict[str, object] | None:
    version = config.get("api_version")
    return None if version == "v1" else {"api-version": version}
