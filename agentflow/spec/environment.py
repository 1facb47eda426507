"""Credentials in sources: only names are allowed, and only names on the operator's list."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

Json = Any
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
SECRET = re.compile(r"secret://[A-Za-z0-9][A-Za-z0-9_./-]{0,199}")

DEFAULT_ALLOWED = frozenset(
    (
        "OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_ORGANIZATION",
        "OPENAI_PROJECT_ID",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "VLLM_API_KEY",
        "MISTRAL_API_KEY",
        "GROQ_API_KEY",
        "TOGETHER_API_KEY",
        "FIREWORKS_API_KEY",
        "DEEPSEEK_API_KEY",
        "OPENROUTER_API_KEY",
        "XAI_API_KEY",
        "CO_API_KEY",
        "PERPLEXITY_API_KEY",
        "NVIDIA_API_KEY",
        "CEREBRAS_API_KEY",
        "HF_TOKEN",
    )
)
"""The names that the providers document; an operator adds others."""

_NEVER = frozenset(("DATABASE_URL", "REDIS_URL", "API_KEY", "SENTRY_DSN"))

_KEY_SHAPES = re.compile(
    r"""sk-[A-Za-z0-9_-]{16,} | sk_(?:live|test)_[A-Za-z0-9]{16,} | AKIA[0-9A-Z]{16}
      | ASIA[0-9A-Z]{16} | AIza[0-9A-Za-z_-]{30,} | gh[pousr]_[A-Za-z0-9]{20,}
      | github_pat_[A-Za-z0-9_]{20,} | glpat-[A-Za-z0-9_-]{16,} | hf_[A-Za-z0-9]{20,}
      | xox[abprs]-[A-Za-z0-9-]{10,} | gsk_[A-Za-z0-9]{20,} | xai-[A-Za-z0-9]{20,}
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]* | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY""",
    re.VERBOSE,
)
_SECRET_FIELD = re.compile(
    r"(^|_|-)(api_?key|apikey|secret|password|passwd|pwd|token|credentials?|private_?key|access_?key"
    r"|authorization|auth_?token|bearer|dsn|connection_?string|cookie)s?$",
    re.I,
)
_HARMLESS = re.compile(r"^(max|min)_tokens?$|_tokens_per_minute$|^tokenizer$|^secrets?_ref$", re.I)
_AUTH_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key")


def allowed(name: str, extra: Iterable[str] = ()) -> bool:
    """Whether a source may name this environment variable. ``extra``: the operator's additions.

    Some names, of AgentFlow's own credentials, can never be allowed.
    """
    if name in _NEVER or name.startswith("AGENTFLOW_"):
        return False
    return name in DEFAULT_ALLOWED or name in extra


def allowed_names(extra: Iterable[str] = ()) -> tuple[str, ...]:
    """Every name that a source may use, sorted."""
    return tuple(sorted(name for name in {*DEFAULT_ALLOWED, *extra} if allowed(name, extra)))


def looks_secret(text: str) -> bool:
    """Whether a text has the shape of a known kind of key, or is a URL that holds a password."""
    return bool(_KEY_SHAPES.search(text)) or has_password(text)


def has_password(text: str) -> bool:
    """Whether a text is a URL (a DSN, say) with a password in it."""
    if "://" not in text:
        return False
    try:
        return urlsplit(text).password is not None
    except ValueError:
        return "@" in text


def literal_credentials(
    config: Mapping[str, Json],
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Places of a source's configuration that hold a credential itself, and what it looks like."""
    for at, value in _strings(config):
        key = next((str(part) for part in reversed(at) if isinstance(part, str)), "")
        if key.endswith("_env"):
            if NAME.fullmatch(value) is None and (looks_secret(value) or _random(value)):
                yield at, "a credential instead of the name of an environment variable"
        elif key.endswith("_ref"):
            if SECRET.fullmatch(value) is None and (looks_secret(value) or _random(value)):
                yield at, "a credential instead of a secret reference"
        elif looks_secret(value) or (_holds_secrets(at, key) and value):
            yield at, "a credential"


def _holds_secrets(at: tuple[str | int, ...], key: str) -> bool:
    if "headers" in at[:-1]:
        return key.lower() in _AUTH_HEADERS or _SECRET_FIELD.search(key) is not None
    return _SECRET_FIELD.search(key) is not None and _HARMLESS.search(key) is None


def _strings(value: Json) -> Iterator[tuple[tuple[str | int, ...], str]]:
    stack: list[tuple[tuple[str | int, ...], Json]] = [((), value)]
    while stack:
        at, item = stack.pop()
        if isinstance(item, str):
            yield at, item
        elif isinstance(item, Mapping):
            stack += [((*at, key), inner) for key, inner in item.items()]
        elif isinstance(item, list):
            stack += [((*at, index), inner) for index, inner in enumerate(item)]


def _random(text: str) -> bool:
    """Whether a text is as disordered as a key: long, and many different characters."""
    if len(text) < 16 or " " in text:
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy > 3.5
