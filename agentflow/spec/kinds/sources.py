"""Configuration of sources, by kind and provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.kinds.base import OptionsModel
from agentflow.spec.kinds.sampling import Penalty, Seed, Spill, Stop, Temperature, Tokens, TopP
from agentflow.spec.models import Bandwidth

Json = Any
Url = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]+[^\s]*$")]
Words = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0)]
Auth = Literal["none", "api_key", "bearer", "basic", "oauth2", "jwt"]

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
    ("image", "azure"): ("model", "azure_endpoint", "api_version", "api_key|token"),
    ("image", "gemini"): ("model", "api_key"),
    ("image", "openai-compatible"): ("model", "base_url"),
    ("image", "local"): ("model",),
    ("db", "postgres"): ("dsn",),
    ("db", "mysql"): ("dsn",),
    ("db", ""): ("dsn",),
    ("api", ""): ("base_url",),
    ("mcp", ""): ("url",),
}
"""(kind, provider) -> required keys; ``api_key``, ``token`` and ``dsn`` stand for their names ending
in ``_env`` or ``_ref``; ``a|b`` means one of them."""

AUTH_NEEDS: Mapping[str, tuple[str, ...]] = {
    "api_key": ("auth",),
    "bearer": ("auth",),
    "basic": ("username", "password"),
    "oauth2": ("token_url", "client_id", "client_secret"),
    "jwt": ("auth",),
}
"""How requests of an api source are authenticated -> the keys which that needs."""

CREDENTIALS = ("api_key", "token", "dsn")
AUTH_CREDENTIALS = ("auth", "username", "password", "client_id", "client_secret")
NAMED: Mapping[str, Mapping[str, str]] = {
    "llm": {
        "api_key": "API key",
        "token": "Entra token (azure)",
        "organization": "id of the organisation (openai)",
    },
    "image": {"api_key": "API key", "token": "Entra token (azure)"},
    "db": {"dsn": "data source name, with its password"},
    "api": {
        "auth": "key (api_key, jwt) or token (bearer)",
        "username": "user name (basic)",
        "password": "password (basic)",
        "client_id": "client id (oauth2)",
        "client_secret": "client secret (oauth2)",
    },
    "mcp": {
        "auth": "key (api_key, jwt) or token (bearer)",
        "username": "user name (basic)",
        "password": "password (basic)",
        "client_id": "client id (oauth2)",
        "client_secret": "client secret (oauth2)",
    },
}
"""Source kind -> what its keys ending in ``_env`` (an environment variable) or ``_ref`` (a secret
reference) name. Such keys hold names, never credentials."""

EXECUTABLE = (
    "local",
    "openai",
    "azure",
    "anthropic",
    "gemini",
    "openai-compatible",
    "vllm",
    "api",
    "db",
    "postgres",
    "mysql",
)
"""The providers, or kinds where a kind has none, that this version can call."""


class Breaker(OptionsModel):
    """Opens after so many failures in a row; half-open after ``reset_s`` seconds."""

    failures: Annotated[int, Field(ge=1)] = Field(
        5, description="Failures in a row after which it opens."
    )
    reset_s: Seconds = Field(30.0, description="Seconds until one call is let through again.")


class Price(OptionsModel):
    """US dollars per million tokens, per image and per GPU hour."""

    input_per_mtok: Dollars | None = Field(None, description="A million tokens read.")
    output_per_mtok: Dollars | None = Field(None, description="A million tokens written.")
    cached_per_mtok: Dollars | None = Field(None, description="A million tokens read from a cache.")
    per_image: Dollars | None = Field(None, description="One image.")
    per_gpu_hour: Dollars | None = Field(None, description="One GPU for an hour.")


class SourceConfig(OptionsModel):
    """What every source may set; times in seconds."""

    timeout_s: Seconds = Field(30.0, description="Limit of one call in seconds.")
    max_retries: Annotated[int, Field(ge=0, le=19)] | None = Field(
        None,
        description="Further attempts after the first, where the node does not say. Null: by type.",
    )
    breaker: Breaker | None = Field(None, description="When calls are held back after failures.")
    limits: Bandwidth | None = Field(
        None, description="Limits shared by every user of the source in the tenant."
    )
    region: Words | None = Field(
        None, description="Data residency: only tenants that allow it use the source."
    )


class ModelConfig(SourceConfig):
    """What sources of models may set."""

    timeout_s: Seconds = Field(120.0, description="Limit of one call in seconds.")
    provider: Words = Field(description="Who serves the model.")
    model: Words | None = Field(None, description="The model's name.", examples=["gpt-4o-mini"])
    base_url: Url | None = Field(
        None, description="Address of the endpoint.", examples=["https://llm.example.com/v1"]
    )
    azure_endpoint: Url | None = Field(None, description="Address of the Azure resource (azure).")
    deployment: Words | None = Field(None, description="Name of the deployment (azure).")
    api_version: Words | None = Field(
        None, description="Version of the API (azure).", examples=["2024-10-21"]
    )
    headers: dict[str, str] | None = Field(
        None, description="Further request headers; never a credential."
    )
    fallbacks: list[Words] = Field(
        [], description="Ids of the sources that follow when a node names this one alone."
    )
    price: Price | None = Field(None, description="What it costs. Null: the built-in table.")


class LlmConfig(ModelConfig):
    """A language model."""

    temperature: Temperature | None = Field(
        None, description="0 is the most predictable, 2 the least."
    )
    max_tokens: Tokens | None = Field(None, description="Longest reply, in tokens.")
    top_p: TopP | None = Field(None, description="Sample from this share of the likeliest tokens.")
    frequency_penalty: Penalty | None = Field(
        None, description="Above 0: tokens become less likely the more often they were used."
    )
    presence_penalty: Penalty | None = Field(
        None, description="Above 0: tokens become less likely once they were used."
    )
    stop: Stop | None = Field(None, description="Texts at which the reply ends.")
    seed: Seed | None = Field(None, description="For replies that repeat, where the model can.")
    protocol: Literal["chat", "responses"] | None = Field(
        None,
        description="Which of OpenAI's two protocols is spoken (openai, azure, openai-compatible). "
        "Null: chat.",
    )
    context_window: Tokens | None = Field(
        None, description="Tokens that prompt and reply may have together."
    )
    tokenizer: Words | None = Field(None, description="Tokenizer used for estimates.")
    safety: Json = Field(None, description="Safety settings (gemini).")
    replicas: dict[str, int] | None = Field(
        None, description="Copies of a model served here (vllm).", examples=[{"min": 1, "max": 4}]
    )
    num_gpus: Annotated[float, Field(ge=0)] | None = Field(
        None, description="GPUs of one copy (vllm)."
    )
    engine: dict[str, Json] | None = Field(
        None, description="Options of the inference engine (vllm, local)."
    )
    device: Literal["cpu", "gpu"] | None = Field(
        None, description="Where the model is computed (local)."
    )
    spill: Spill | None = Field(
        None,
        description="When calls move on to another source, where the node does not say.",
        examples=[{"to": "hosted", "max_wait_s": 5}],
    )


class ImageConfig(ModelConfig):
    """A model that makes pictures."""

    size: Words = Field("1024x1024", description="Width and height in pixels.")
    quality: Words = Field("standard", description="Quality, as the model names it.")
    style: Words = Field("vivid", description="Style, as the model names it.")


class DbConfig(SourceConfig):
    """A database."""

    driver: Literal["postgres", "mysql"] | None = Field(
        None, description="Kind of database. Null: by the scheme of the data source name."
    )
    pool_size: Annotated[int, Field(ge=1)] = Field(5, description="Connections kept open.")
    max_overflow: Annotated[int, Field(ge=0)] = Field(
        10, description="Further connections under load."
    )
    pool_timeout: Seconds = Field(30.0, description="Longest wait for a connection, in seconds.")
    timeout: Seconds | None = Field(
        None, description="Limit of one statement, in seconds. Null: timeout_s."
    )
    ssl: Literal["prefer", "require", "verify-full"] = Field(
        "prefer", description="Whether the connection must be encrypted, and the server verified."
    )
    schema_name: Words | None = Field(
        None,
        alias="schema",
        description="Schema in which unqualified names are looked up (postgres).",
    )
    allow_write: bool = Field(False, description="Whether nodes may change data.")
    dedupe_table: str | None = Field(
        None,
        description="Table by which a repeated write is known. Null: writes have effects once.",
    )
    max_rows: Annotated[int, Field(ge=1)] = Field(
        10_000, description="Rows that one statement may give."
    )
    max_file_rows: Annotated[int, Field(ge=1)] = Field(
        100_000_000, description="Rows that a file of rows (format jsonl, parquet) may have."
    )
    max_file_bytes: Annotated[int, Field(ge=1, le=5_000_000_000)] = Field(
        5_000_000_000, description="Length of a file of rows, in bytes."
    )


class Jwt(OptionsModel):
    """A token that is signed here with the key of the source, and sent as a bearer token."""

    algorithm: Literal["HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"] = Field(
        "HS256", description="All but HS* take a private key in PEM form."
    )
    claims: dict[str, Json] = Field(
        {}, description="Its claims, besides iat and exp.", examples=[{"iss": "me", "aud": "them"}]
    )
    ttl_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        300.0, description="How long a token serves, in seconds."
    )
    kid: Words | None = Field(None, description="Id of the key, for the token's header.")


class ApiConfig(SourceConfig):
    """An HTTP service."""

    base_url: Url | None = Field(
        None, description="Address of the service.", examples=["https://api.example.com"]
    )
    auth: Auth = Field("none", description="How requests are authenticated.")
    api_key_header: Words = Field("X-API-Key", description="Header of the key (api_key).")
    token_url: Url | None = Field(None, description="Where tokens come from (oauth2).")
    scopes: str | list[str] | None = Field(None, description="Scopes to ask for (oauth2).")
    jwt: Jwt | None = Field(None, description="What the token of our own says (jwt).")
    headers: dict[str, str] | None = Field(
        None, description="Further request headers; never a credential."
    )
    verify_tls: bool = Field(True, description="Whether the server's certificate is verified.")


class McpConfig(SourceConfig):
    """A server of tools."""

    url: Url | None = Field(None, description="Address of the server.")
    auth: Auth = Field("none", description="How requests are authenticated.")
    tools: list[Words] | None = Field(
        None, description="The tools that may be used. Null: all that it offers."
    )


CONFIGS: Mapping[str, type[SourceConfig]] = {
    "llm": LlmConfig,
    "image": ImageConfig,
    "db": DbConfig,
    "api": ApiConfig,
    "mcp": McpConfig,
}


def provider_of(kind: str, config: Mapping[str, Json]) -> str:
    """The provider (``driver`` for db) that a source names, or an empty string."""
    if not PROVIDERS.get(kind):
        return ""
    value = config.get("provider") or (config.get("driver") if kind == "db" else None)
    return value if isinstance(value, str) else ""


def missing_keys(kind: str, config: Mapping[str, Json]) -> list[str]:
    """The required keys that a configuration lacks, as an author would write them."""
    wanted = REQUIRED.get((kind, provider_of(kind, config)), ())
    if kind == "api":
        auth = config.get("auth")
        wanted = (*wanted, *(AUTH_NEEDS.get(auth, ()) if isinstance(auth, str) else ()))
    lacking = []
    for key in wanted:
        choices = key.split("|")
        if not any(_present(choice, config, kind) for choice in choices):
            names = [f"{c}_env" if _is_credential(c, kind) else c for c in choices]
            lacking.append(names[0])
    return lacking


def _is_credential(key: str, kind: str) -> bool:
    return key in CREDENTIALS or (kind == "api" and key in AUTH_CREDENTIALS)


def _present(key: str, config: Mapping[str, Json], kind: str) -> bool:
    names = (f"{key}_env", f"{key}_ref") if _is_credential(key, kind) else (key,)
    return any(config.get(name) not in (None, "") for name in names)
