"""``image`` nodes: pictures that a model makes of a prompt."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from agentflow.errors import InvalidInput, ProviderUnavailable
from agentflow.execution.events import Blob
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.calls import encodable
from agentflow.nodes.chain import Chain
from agentflow.sources.images import Image, ImageReply, ImageRequest
from agentflow.spec.kinds.base import named_source
from agentflow.spec.kinds.llm import FALLBACK_ON
from agentflow.spec.templates import compact, render

Json = Any
log = logging.getLogger(__name__)

KEEPS, PAUSE_S = 5, 1.0
"""How often a picture that is paid for is brought to its place, and the first pause in between."""
BLOBS_PATH = "/api/v1/blobs/"
"""Where the API serves what is kept."""


class ImageNode:
    """Renders the prompt, has the pictures made, keeps them as blobs."""

    async def run(self, context: StepContext) -> StepResult:
        """``{url, prompt, model, provider, size, quality, mime_type, blob?, revised_prompt?, cost}``; with
        ``n`` above 1 ``{images, cost}``, a list of these, each with its part of the cost.

        A picture whose content is known is a blob; its ``url`` is then its path at the API. Raises
        StepError; every call that was billed is recorded first.
        """
        options = context.options
        prompt = _prompt(context)
        chain: Chain[ImageRequest, ImageReply] = Chain(context, named_source(options), FALLBACK_ON)
        reply = await chain.ask(
            ImageRequest(
                prompt=prompt,
                size=options["size"],
                quality=options["quality"],
                style=options["style"],
                n=options["n"],
                fetch=options["download"],
                idempotency_key=context.key(),
            )
        )
        spent = round(sum(call.cost for call in context.calls), 6)
        share = round(spent / len(reply.images), 6)
        made = [await _described(context, image, reply, prompt, share) for image in reply.images]
        result = made[0] if options["n"] == 1 else {"images": made, "cost": spent}
        return StepResult(result=result, delta={options["output_key"]: result})


def _prompt(context: StepContext) -> str:
    """What is to be drawn: the template, else what a model said before, else what the caller did.
    Raises InvalidInput."""
    template = context.options.get("prompt")
    if template is not None:
        missing: list[str] = []
        text = render(template, context.view, missing)
        for name in missing:
            log.warning("Node %r: the template names {%s}, which is absent", context.node.id, name)
    else:
        said = context.view.get("text_result") or context.view.get("user_input") or ""
        text = said if isinstance(said, str) else compact(said)
    if not text.strip():
        raise InvalidInput(
            f"Node {context.node.id!r} has nothing to draw: its prompt is empty"
            + ("" if template is not None else "; set prompt, text_result or user_input")
        )
    return str(encodable(text))


async def _described(
    context: StepContext, image: Image, reply: ImageReply, prompt: str, cost: float
) -> dict[str, Json]:
    """A picture as the result shows it, kept if its content is known."""
    blob = None if image.content is None else await _kept(context, image)
    return {
        "url": image.url if blob is None else f"{BLOBS_PATH}{blob.sha256}",
        "prompt": prompt,
        "model": reply.model,
        "provider": reply.provider,
        "size": image.size or reply.size,
        "quality": reply.quality,
        "mime_type": image.media_type or None,
        **({} if blob is None else {"blob": blob.as_json()}),
        **({"revised_prompt": image.revised_prompt} if image.revised_prompt else {}),
        "cost": cost,
    }


async def _kept(context: StepContext, image: Image) -> Blob:
    """The blob of a picture. It is paid for: while its place is away it is waited for. Raises StepError."""
    for tries in range(1, KEEPS + 1):
        try:
            async with context.blob(image.media_type) as blob:
                await blob.write(image.content or b"")
                return await blob.keep()
        except ProviderUnavailable as error:
            if tries == KEEPS:
                raise
            log.warning("Node %r keeps its picture again: %s", context.node.id, error.message)
            await asyncio.sleep(PAUSE_S * tries)
    raise AssertionError("it is kept at least once")
