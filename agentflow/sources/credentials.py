"""Credentials by name: looked up in the worker's environment just before they are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from agentflow.errors import MissingCredential
from agentflow.sources.text import well_formed

_KEY_SHAPE = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|xai|hf|key)[-_]|\bBearer\s+|\bAIza)[A-Za-z0-9_\-*.…]{6,}", re.IGNORECASE
)


_READ = 20_000
"""Characters of foreign text that are looked at; others send megabytes as an error."""


class Credentials:
    """The environment variables that sources may read. ``allowed`` says which names those are."""

    def __init__(self, environ: Mapping[str, str], allowed: Callable[[str], bool]) -> None:
        self._environ = environ
        self._allowed = allowed

    def value(self, name: str, source_id: str) -> str:
        """What the variable holds now. Raises MissingCredential naming it and the way out."""
        if not self._allowed(name):
            raise MissingCredential(
                f"Source {source_id!r} may not read the environment variable {name}; "
                "an operator allows further names with the setting AGENTFLOW_SOURCE_ENV"
            )
        value = self._environ.get(name, "").strip()
        if not value:
            raise MissingCredential(
                f"Source {source_id!r} needs the environment variable {name}, which is not set. "
                f"Set it where AgentFlow runs (export {name}=...) and start AgentFlow again"
            )
        if not (value.isascii() and value.isprintable()):
            raise MissingCredential(
                f"The environment variable {name} holds characters that no credential can have"
            )
        return value


def masked(text: str, secrets: tuple[str, ...] = (), limit: int = 300) -> str:
    """Foreign text made safe to show: known secrets and whatever looks like a key are hidden, and
    it is cut to ``limit`` characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _KEY_SHAPE.sub("***", " ".join(well_formed(text[:_READ]).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"
