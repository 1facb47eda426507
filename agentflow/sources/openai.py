"""Models behind OpenAI's protocols, chat completions and Responses: OpenAI, Azure, vLLM and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import openai
from openai import RequestOptions

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import NotSupported, ProviderRejected, ProviderUnavailable, StepError
from agentflow.sources import chat, responses
from agentflow.sources.answer import Answer, OnText, stated_id
from agentflow.sources.base import Message, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.model import HostedModel, read_object
from agentflow.sources.parameters import Parameters
from agentflow.sources.refusals import lost_connection, refusal, said

Json = Any

OPENAI_URL = "https://api.openai.com/v1"
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
    opened_as: type[OpenAISource] | None = None,
) -> OpenAISource:
    """A connection to a model, as an object of the class ``opened_as``. No call is made and no
    credential is read yet.

    Raises NotSupported, ProviderRejected.
    """
    base_url = _azure_url(source_id, config) if provider == "azure" else config.get("base_url")
    if not base_url and provider != "openai":
        raise NotSupported(
            f"Source {source_id!r} needs a base_url: models of provider {provider!r} cannot be "
            "deployed by this version"
        )
    address = str(base_url or OPENAI_URL)
    return (opened_as or OpenAISource)(
        source_id,
        provider,
        config,
        base_url=address,
        own_address=provider == "azure" or address == OPENAI_URL,
        policy=policy,
        credentials=credentials,
    )


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


class OpenAISource(HostedModel):
    """One model behind one base URL; its connections are shared by every call.

    The SDK sends and receives JSON as it is (github.com/openai/openai-python, "Undocumented endpoints"):
    to walk every request along its types is a seventh of what a call costs a worker, and to make a model of
    every piece, only to take it apart again, about a third of what a stream does.
    """

    sdk_error = openai.APIError

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._azure = self._provider == "azure"
        self._responds = self._config.get("protocol") == "responses"
        self._path = "/responses" if self._responds else "/chat/completions"
        self._client = openai.AsyncOpenAI(
            api_key="unset",
            base_url=self._base_url,
            max_retries=0,
            default_query=_azure_query(self._config) if self._azure else None,
            http_client=self._http,
        )
        # The SDK reads these from the environment; only what the source names may be sent.
        self._client.organization = None
        self._client.project = None

    def _call(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, Json],
    ) -> dict[str, Json]:
        model, newest = chosen.model, self._base_url == OPENAI_URL
        if self._azure:
            model = str(self._config["deployment"])
            newest = self._config["api_version"] in AZURE_V1 or chat.reasons(chosen.model)
        if self._responds:
            body = responses.body(request, chosen, messages, model=model)
        else:
            body = chat.body(request, chosen, messages, model=model, newest=newest)
        return body | {"headers": headers, "timeout": chosen.timeout_s}

    async def _whole(self, answer: Answer, call: dict[str, Json]) -> None:
        raw = await self._client.post(
            self._path, cast_to=egress.Response, body=_body(call), options=_options(call)
        )
        answer.request_id = stated_id(raw.headers, *_REQUEST_ID)
        came = read_object(answer.where, raw.text)
        read = responses.read_whole if self._responds else chat.read_whole
        if not read(answer, came):
            raise ProviderUnavailable(f"{answer.where} answered without a reply")

    async def _stream(self, answer: Answer, call: dict[str, Json], on_text: OnText) -> None:
        body = _body(call) | {"stream": True}
        read: Callable[[Answer, Json, OnText], None] = responses.read_event
        if not self._responds:
            read = chat.read_chunk
            body["stream_options"] = {"include_usage": True}
        chunks = await self._client.post(
            self._path,
            cast_to=object,
            body=body,
            options=_options(call),
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        headers = chunks.response.headers
        answer.request_id = stated_id(headers, *_REQUEST_ID)
        await self._drain(answer, chunks, read, on_text, headers)

    def _headers(
        self, request: ModelRequest, chosen: Parameters
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        headers: dict[str, Json] = dict(self._config.get("headers") or {})
        token = self._secret("token") if self._azure else None
        secret = token or self._secret("api_key")
        if secret and self._azure and not token:
            headers |= {"Authorization": openai.Omit(), "api-key": secret}
        else:
            headers["Authorization"] = f"Bearer {secret}" if secret else openai.Omit()
        organization = self._config.get("organization_env")
        if organization:
            headers["OpenAI-Organization"] = self._credentials.value(organization, self._id)
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers, (secret,) if secret else ()

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


def _body(call: Mapping[str, Json]) -> dict[str, Json]:
    """What a call sends."""
    return {name: value for name, value in call.items() if name not in ("headers", "timeout")}


def _options(call: Mapping[str, Json]) -> RequestOptions:
    """How it is sent."""
    return {"headers": call["headers"], "timeout": call["timeout"]}


def _azure_query(config: Mapping[str, Json]) -> dict[str, object] | None:
    version = config.get("api_version")
    return None if version == "v1" else {"api-version": version}
