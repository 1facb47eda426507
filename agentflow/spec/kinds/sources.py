"""Configuration of sources, by kind and provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.kinds.base import OptionsModel
from agentflow.spec.kinds.sampling import Penalty, Temperature, Tokens, TopP
from agentflow.spec.models import Bandwidth

Json = Any
Url = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]+[^\s]*$")]
Words = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

KINDS = ("llm", "image", "db", "api", "mcp")
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "llm": ("openai", "azure", "anthropic", "gemini", "vllm", "local", "openai-compatible"),
    "image": ("openai", "azure", "gemini", "openai-compatible", "local"),
    "db": ("postgres", "mysql"),
    "api": (),
    "mcp": (),
}
"""Source kind -> the values its ``provider`` (``driver`` for db) may have."""

REQUIRED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("llm", "openai"): ("model", "api_key"),
    ("llm", "azure"): ("azure_endpoint", "deployment", "api_version", "api_key|token"),
    ("llm", "anthropic"): ("model", "api_key"),
    ("llm", "gemini"): ("model", "api_key"),
    ("llm", "vllm"): ("model",),
    ("llm", "local"): ("model",),
    ("llm", "openai-compatible"): ("model", "base_url"),
    ("image", "openai"): ("model", "api_key"),
    ("image", "azure"): ("model", "api_key|token"),
    ("image", "gemini"): ("model", "api_key"),
    ("image", "openai-compatible"): ("model",),
    ("image", "local"): ("model",),
    ("db", "postgres"): ("dsn",),
    ("db", "mysql"): ("dsn",),
    ("db", ""): ("dsn",),
    ("api", ""): ("base_url",),
    ("mcp", ""): ("url",),
}
"""(kind, provider) -> required keys; ``api_key``, ``token`` and ``dsn`` stand for their names ending
in ``_env`` or ``_ref``; ``a|b`` means one of them."""

CREDENTIALS = ("api_key", "token", "dsn")
EXECUTABLE = ("local", "openai", "openai-compatible", "vllm")
"""The llm providers that this version can call."""


class Breaker(OptionsModel):
    """Opens after so many failures in a row; half-open after ``reset_s`` seconds."""

    failures: Annotated[int, Field(ge=1)] = 5
    reset_s: Seconds = 30.0


class Price(OptionsModel):
    """US dollars per million tokens, per image and per GPU hour."""

    input_per_mtok: Annotated[float, Field(ge=0)] | None = None
    output_per_mtok: Annotated[float, Field(ge=0)] | None = None
    cached_per_mtok: Annotated[float, Field(ge=0)] | None = None
    per_image: Annotated[float, Field(ge=0)] | None = None
    per_gpu_hour: Annotated[float, Field(ge=0)] | None = None


class SourceConfig(OptionsModel):
    """What every source may set; times in seconds."""

    timeout_s: Seconds = 30.0
    max_retries: Annotated[int, Field(ge=0, le=19)] | None = None
    breaker: Breaker | None = None
    limits: Bandwidth | None = None
    region: Words | None = None


class ModelConfig(SourceConfig):
    """What sources of models may set."""

    timeout_s: Seconds = 120.0
    provider: Words
    model: Words | None = None
    base_url: Url | None = None
    azure_endpoint: Url | None = None
    deployment: Words | None = None
    api_version: Words | None = None
    headers: dict[str, str] | None = None
    fallbacks: list[Words] = []
    price: Price | None = None


class LlmConfig(ModelConfig):
    """A language model."""

    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    context_window: Tokens | None = None
    tokenizer: Words | None = None
    safety: Json = None
    replicas: dict[str, int] | None = None
    num_gpus: Annotated[float, Field(ge=0)] | None = None
    engine: dict[str, Json] | None = None
    device: Literal["cpu", "gpu"] | None = None
    spill: dict[str, Json] | None = None


class ImageConfig(ModelConfig):
    """A model that makes pictures."""

    size: Words = "1024x1024"
    quality: Words = "standard"
    style: Words = "vivid"


class DbConfig(SourceConfig):
    """A database."""

    driver: Literal["postgres", "mysql"] | None = None
    pool_size: Annotated[int, Field(ge=1)] = 5
    max_overflow: Annotated[int, Field(ge=0)] = 10
    pool_timeout: Seconds = 30.0
    timeout: Seconds = 30.0
    ssl: Literal["prefer", "require", "verify-full"] = "prefer"
    allow_write: bool = False
    dedupe_table: str | None = None
    max_rows: Annotated[int, Field(ge=1)] = 10_000


class ApiConfig(SourceConfig):
    """An HTTP service."""

    base_url: Url | None = None
    auth: Literal["none", "api_key", "bearer", "basic", "oauth2", "jwt"] = "none"
    api_key_header: Words = "X-API-Key"
    token_url: Url | None = None
    scopes: str | list[str] | None = None
    headers: dict[str, str] | None = None
    verify_tls: bool = True


class McpConfig(SourceConfig):
    """A server of tools."""

    url: Url | None = None
    auth: Literal["none", "api_key", "bearer", "basic", "oauth2", "jwt"] = "none"
    tools: list[Words] | None = None


CONFIGS: Mapping[str, type[SourceConfig]] = {
    "llm": LlmConfig,
    "image": ImageConfig,
    "db": DbConfig,
    "api": ApiConfig,
    "mcp": McpConfig,
}


def provider_of(kind: str, config: Mapping[str, Json]) -> str:
    """The provider (``driver`` for db) that a source names, or an empty string."""
    value = config.get("provider") or (config.get("driver") if kind == "db" else None)
    return value if isinstance(value, str) else ""


def missing_keys(kind: str, config: Mapping[str, Json]) -> list[str]:
    """The required keys that a configuration lacks, as an author would write them."""
    wanted = REQUIRED.get((kind, provider_of(kind, config)), ())
    lacking = []
    for key in wanted:
        choices = key.split("|")
        if not any(_present(choice, config) for choice in choices):
            names = [f"{c}_env" if c in CREDENTIALS else c for c in choices]
            lacking.append(names[0])
    return lacking


def _present(key: str, config: Mapping[str, Json]) -> bool:
    names = (f"{key}_env", f"{key}_ref") if key in CREDENTIALS else (key,)
    return any(config.get(name) not in (None, "") for name in names)
