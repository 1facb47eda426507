"""What is known about models that providers publish: pictures they can make, and their end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class ImageModel(NamedTuple):
    """What a model can make: sizes (width x height; none: any that :func:`is_free_size` allows), the
    most pictures of one call, qualities, and whether it knows styles."""

    sizes: tuple[str, ...]
    most: int
    qualities: tuple[str, ...]
    styles: bool = False


_SHAPES = ("1024x1024", "1536x1024", "1024x1536")
_WIDE = ("1024x1024", "1792x1024", "1024x1792", "1536x1024", "1024x1536")
_PLAIN = ("standard", "hd", "low", "medium", "high")
_GPT_IMAGE = ImageModel(_SHAPES, 10, _PLAIN)
_GPT_IMAGE_2 = ImageModel((), 10, _PLAIN)
_GPT_IMAGE_25 = ImageModel((), 10, (*_PLAIN, "xhigh", "max"))
_GEMINI_3 = ImageModel(_WIDE, 1, ("standard", "hd"))
IMAGE_MODELS: Mapping[str, ImageModel] = {
    "dall-e-2": ImageModel(("256x256", "512x512", "1024x1024"), 10, ("standard",)),
    "dall-e-3": ImageModel(
        ("1024x1024", "1792x1024", "1024x1792"), 1, ("standard", "hd"), styles=True
    ),
    "gpt-image-1": _GPT_IMAGE,
    "gpt-image-1-mini": _GPT_IMAGE,
    "gpt-image-1.5": _GPT_IMAGE,
    "gpt-image-2": _GPT_IMAGE_2,
    "gpt-image-2.5-sunburst": _GPT_IMAGE_25,
    "gpt-image-2.5-flare": _GPT_IMAGE_25,
    "gemini-2.5-flash-image": ImageModel(_WIDE, 1, ("standard",)),
    "gemini-3-pro-image": _GEMINI_3,
    "gemini-3.1-flash-image": _GEMINI_3,
}
"""Image models whose limits are published (developers.openai.com/api/docs/guides/image-generation,
ai.google.dev/gemini-api/docs/image-generation). What is not listed is not judged. Gemini's are made in
shapes, not in sizes: those here have the shapes of theirs. A snapshot is what it is one of."""

LONGEST_EDGE, LEAST_PIXELS, MOST_PIXELS = 3840, 655_360, 8_294_400
"""Of a size that is free, as gpt-image-2 and its successors take it."""
SIZE = re.compile(r"[1-9][0-9]{2,3}x[1-9][0-9]{2,3}")
"""Width and height in pixels."""
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def image_model(name: str) -> ImageModel | None:
    """What is known about the image model of this name, or about what it is a snapshot of."""
    return IMAGE_MODELS.get(_SNAPSHOT.sub("", name.removeprefix("models/")))


def is_free_size(size: str) -> bool:
    """Whether a model of free sizes makes pictures of this one: edges are multiples of 16 and none is
    three times as long as the other."""
    width, height = (int(edge) for edge in size.split("x"))
    return (
        width % 16 == height % 16 == 0
        and max(width, height) <= min(LONGEST_EDGE, 3 * min(width, height))
        and LEAST_PIXELS <= width * height <= MOST_PIXELS
    )


_OPENAI = """
    gpt-3.5-turbo gpt-3.5-turbo-0125 gpt-3.5-turbo-0301 gpt-3.5-turbo-0613 gpt-3.5-turbo-1106
    gpt-3.5-turbo-16k-0613 gpt-3.5-turbo-instruct
    gpt-4 gpt-4-0125-preview gpt-4-0314 gpt-4-0613 gpt-4-1106-preview gpt-4-32k gpt-4-32k-0314
    gpt-4-32k-0613 gpt-4-turbo gpt-4-turbo-2024-04-09 gpt-4-turbo-preview gpt-4-vision-preview
    gpt-4-1106-vision-preview gpt-4.5-preview
    gpt-4.1-2025-04-14 gpt-4.1-mini-2025-04-14 gpt-4.1-nano gpt-4.1-nano-2025-04-14
    gpt-4o-2024-05-13 gpt-4o-2024-08-06 gpt-4o-2024-11-20 gpt-4o-mini-2024-07-18 chatgpt-4o-latest
    gpt-5 gpt-5-2025-08-07 gpt-5-mini gpt-5-mini-2025-08-07 gpt-5-nano gpt-5-nano-2025-08-07
    gpt-5-pro gpt-5-pro-2025-10-06
    o1 o1-2024-12-17 o1-preview o1-mini
    o1-pro o1-pro-2025-03-19 o3 o3-2025-04-16 o3-pro o3-pro-2025-06-10 o3-mini
    o3-mini-2025-01-31 o4-mini o4-mini-2025-04-16
    text-davinci-002 text-davinci-003 babbage-002 davinci-002
    dall-e-2 dall-e-3 gpt-image-1 gpt-image-1-mini gpt-image-1.5 gpt-image-1.5-2025-12-16
"""
_ANTHROPIC = """
    claude-1.0 claude-1.1 claude-1.2 claude-1.3 claude-instant-1.0 claude-instant-1.1
    claude-instant-1.2 claude-2.0 claude-2.1
    claude-3-sonnet-20240229 claude-3-opus-20240229 claude-3-opus-latest claude-3-haiku-20240307
    claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022 claude-3-5-sonnet-latest
    claude-3-5-haiku-20241022 claude-3-5-haiku-latest
    claude-3-7-sonnet-20250219 claude-3-7-sonnet-latest
    claude-sonnet-4-0 claude-sonnet-4-20250514 claude-opus-4-0 claude-opus-4-20250514
    claude-opus-4-1 claude-opus-4-1-20250805
"""
_GEMINI = """
    gemini-1.0-pro gemini-1.0-pro-vision gemini-pro gemini-pro-vision
    gemini-1.5-pro gemini-1.5-flash gemini-1.5-flash-8b
    gemini-2.0-flash gemini-2.0-flash-001 gemini-2.0-flash-lite gemini-2.0-flash-lite-001
    gemini-2.5-pro gemini-2.5-pro-preview-03-25 gemini-2.5-pro-preview-05-06
    gemini-2.5-pro-preview-06-05 gemini-2.5-flash gemini-3-pro-preview
    gemini-3-pro-image-preview gemini-3.1-flash-image-preview
    imagen-3.0-generate-002 imagen-4.0-generate-001 imagen-4.0-ultra-generate-001
    imagen-4.0-fast-generate-001
"""
DEPRECATED: Mapping[str, frozenset[str]] = {
    "openai": frozenset(_OPENAI.split()),
    "anthropic": frozenset(_ANTHROPIC.split()),
    "gemini": frozenset(_GEMINI.split()),
}
"""Provider -> models that it has published as deprecated or shut down, as of November 2026.

Pages: developers.openai.com/api/docs/deprecations,
platform.claude.com/docs/en/about-claude/model-deprecations,
ai.google.dev/gemini-api/docs/deprecations and /changelog. Only names that these pages give, and the
aliases that Anthropic's model overview gives for them, are here; dates of shutdown move, so none is.
"""


def deprecated(provider: str, model: str) -> bool:
    """Whether the provider has published that this model is, or will be, shut down."""
    return model.removeprefix("models/") in DEPRECATED.get(provider, ())
