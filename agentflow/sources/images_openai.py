"""Pictures behind OpenAI's images protocol: OpenAI, Azure and servers that speak it.

It follows developers.openai.com/api/reference/resources/images/methods/generate and /models/methods/list,
learn.microsoft.com/azure/foundry/openai/dall-e-quickstart and, for the models of a resource,
learn.microsoft.com/rest/api/azureopenai/models/list.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from agentflow.addresses import Policy
from agentflow.sources.answer import counted, stated_id
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.images import CAPS, Making, Painting, Wish
from agentflow.sources.model import read_object
from agentflow.sources.openai import OpenAISource, open_openai

Json = Any

_GPT_IMAGE = re.compile(r"(gpt-image|chatgpt-image)")
_QUALITIES = {"standard": "medium", "hd": "high"}
"""What the words of the older models mean to gpt-image and its successors."""
_REQUEST_ID = ("x-request-id", "apim-request-id")


async def open_images_openai(
    source_id: str,
    provider: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
) -> Source:
    """A connection to a model that makes pictures. No call is made and no credential is read yet.

    On Azure the deployment is named like the model where nothing else is said. Raises NotSupported,
    ProviderRejected.
    """
    if provider == "azure" and not config.get("deployment"):
        config = {**config, "deployment": config.get("model")}
    return await open_openai(
        source_id,
        provider,
        config,
        policy=policy,
        credentials=credentials,
        opened_as=OpenAIImages,
    )


class OpenAIImages(Painting, OpenAISource):  # type: ignore[misc]
    """One model that makes pictures; its connections are shared by every call."""

    caps = CAPS

    async def _make(self, making: Making, wished: Wish, headers: dict[str, Json]) -> None:
        asked = _asked(wished)
        if self._azure:
            asked["model"] = str(self._config["deployment"])
        raw = await self._client.images.with_raw_response.generate(
            **asked, extra_headers=headers, timeout=wished.timeout_s
        )
        making.request_id = stated_id(raw.headers, *_REQUEST_ID)
        making.answered = True
        # On a thread: of tens of megabytes, other steps would wait for it.
        await asyncio.to_thread(lambda: _read(making, read_object(making.where, raw.text)))

    async def _look(self, where: str, wished: Wish, headers: dict[str, Json]) -> str:
        named: dict[str, Json] = {"extra_headers": headers, "timeout": wished.timeout_s}
        if self._provider == "openai":
            one = await self._client.models.with_raw_response.retrieve(wished.model, **named)
            read_object(where, one.text)
            return f"the provider knows the model {wished.model}; no picture was asked for"
        client = self._client
        if self._azure:
            client = client.with_options(base_url=_resource(self._base_url))
            # As for the first client: only what the source names may be sent.
            client.organization = client.project = None
        try:
            listed = await client.models.with_raw_response.list(**named)
        except self.sdk_error as error:
            if self._azure or getattr(error, "status_code", None) != 404:
                raise
            return f"the server answered, but lists no models: {wished.model} was not looked for"
        data = read_object(where, listed.text).get("data")
        models = data if isinstance(data, list) else []
        names = [each.get("id") for each in models if isinstance(each, dict)]
        if self._azure:
            # Deployments are listed to administrators only.
            return (
                f"the endpoint listed {len(names)} models; the deployment "
                f"{self._config['deployment']} was not called, since that would cost"
            )
        found = "with" if wished.model in names else "without"
        return f"the server listed {len(names)} models, {found} {wished.model}; no picture was asked for"


def _resource(base_url: str) -> str:
    """Where an Azure resource lists its models: not below one of its deployments."""
    root, below, _ = base_url.partition("/openai/deployments/")
    return f"{root}/openai" if below else base_url


def _asked(wished: Wish) -> dict[str, Json]:
    """The parameters of a call; models refuse those that they do not know."""
    asked: dict[str, Json] = {
        "model": wished.model,
        "prompt": wished.prompt,
        "n": wished.n,
        "size": wished.size,
    }
    if _GPT_IMAGE.match(wished.model):
        asked["quality"] = _QUALITIES.get(wished.quality, wished.quality)
    elif wished.model in ("dall-e-2", "dall-e-3"):
        asked["response_format"] = "b64_json" if wished.fetch else "url"
        if wished.model == "dall-e-3":
            asked |= {"quality": wished.quality, "style": wished.style}
    else:
        for name in ("quality", "style"):
            if name in wished.given:
                asked[name] = getattr(wished, name)
    return asked


def _read(making: Making, came: Mapping[str, Json]) -> None:
    usage = came.get("usage")
    if isinstance(usage, dict):
        making.counts = counted(usage.get("input_tokens"), usage.get("output_tokens"))
        details = usage.get("output_tokens_details")
        tokens = details.get("image_tokens") if isinstance(details, dict) else None
        if making.counts is not None:
            making.picture_tokens = tokens if isinstance(tokens, int) else making.counts.output
    data = came.get("data")
    for item in data if isinstance(data, list) else ():
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("b64_json"), str):
            making.take_base64(item["b64_json"], item.get("revised_prompt"))
        elif isinstance(item.get("url"), str):
            making.take_url(item["url"], item.get("revised_prompt"))
        else:
            making.refusals += _filters(item)


def _filters(item: Mapping[str, Json]) -> list[str]:
    """The names of Azure's filters that stopped a picture."""
    results = item.get("content_filter_results")
    found = results.items() if isinstance(results, dict) else ()
    return [name for name, each in found if isinstance(each, dict) and each.get("filtered")]
