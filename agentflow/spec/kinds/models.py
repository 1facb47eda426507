"""What is known about models that providers publish: pictures they can make, and their end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ImageModel(NamedTuple):
    """What a model can make: sizes (width x height), and the most pictures of one call."""

    sizes: tuple[str, ...]
    most: int


_DALL_E_3 = ImageModel(("1024x1024", "1792x1024", "1024x1792"), 1)
_GPT_IMAGE = ImageModel(("1024x1024", "1536x1024", "1024x1536"), 10)
IMAGE_MODELS: Mapping[str, ImageModel] = {
    "dall-e-2": ImageModel(("256x256", "512x512", "1024x1024"), 10),
    "dall-e-3": _DALL_E_3,
    "gpt-image-1": _GPT_IMAGE,
    "gpt-image-1-mini": _GPT_IMAGE,
    "gpt-image-1.5": _GPT_IMAGE,
}
"""Image models whose limits OpenAI publishes (platform.openai.com/docs/guides/image-generation).
What is not listed is not judged."""

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
