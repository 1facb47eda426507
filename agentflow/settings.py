"""One frozen Settings object, read once from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from agentflow.errors import ConfigError


def _data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/agentflow")
    import platformdirs

    return Path(platformdirs.user_data_dir("agentflow"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an operator can set. Each field names its environment variable in ``ENV``."""

    data_dir: Path
    database_url: str | None = None
    blobs: str | None = None
    api_key: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "INFO"
    cors_origins: tuple[str, ...] = ()
    ray_address: str | None = None
    coordinators: int = 2
    lease_s: float = 10.0
    heartbeat_s: float = 3.0
    egress_allow: tuple[IPv4Network | IPv6Network, ...] = ()
    source_env: tuple[str, ...] = ()
    retention: bool = True
    retention_days_max: int | None = None
    local_model: str | None = None
    local_model_threads: int = 1
    api_url: str | None = None


ENV = {
    "data_dir": "AGENTFLOW_DATA_DIR",
    "database_url": "DATABASE_URL",
    "blobs": "AGENTFLOW_BLOBS",
    "api_key": "API_KEY",
    "host": "AGENTFLOW_HOST",
    "port": "PORT",
    "log_level": "LOG_LEVEL",
    "cors_origins": "CORS_ORIGINS",
    "ray_address": "AGENTFLOW_RAY_ADDRESS",
    "coordinators": "AGENTFLOW_COORDINATORS",
    "lease_s": "AGENTFLOW_LEASE_S",
    "heartbeat_s": "AGENTFLOW_HEARTBEAT_S",
    "egress_allow": "AGENTFLOW_EGRESS_ALLOW",
    "source_env": "AGENTFLOW_SOURCE_ENV",
    "retention": "AGENTFLOW_RETENTION",
    "retention_days_max": "AGENTFLOW_RETENTION_DAYS_MAX",
    "local_model": "AGENTFLOW_LOCAL_MODEL",
    "local_model_threads": "AGENTFLOW_LOCAL_MODEL_THREADS",
    "api_url": "AGENTFLOW_API_URL",
}
"""Setting -> environment variable. Lists are comma-separated; ``egress_allow`` takes CIDR blocks."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigError naming the variable and what it expects."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for field in fields(Settings):
        variable = ENV[field.name]
        text = environ.get(variable, "").strip()
        if text:
            values[field.name] = _parse(field.name, variable, text)
    values.setdefault("data_dir", _data_dir())
    settings = Settings(**values)  # type: ignore[arg-type]
    if settings.heartbeat_s * 2 > settings.lease_s:
        raise ConfigError(
            "AGENTFLOW_LEASE_S must be at least twice AGENTFLOW_HEARTBEAT_S, "
            f"but they are {settings.lease_s:g} and {settings.heartbeat_s:g}"
        )
    return settings


def _parse(name: str, variable: str, text: str) -> object:
    parsers = {
        "data_dir": lambda value: Path(value).expanduser().absolute(),
        "blobs": _place,
        "port": _integer(0, 65535),
        "coordinators": _integer(1, 64),
        "local_model_threads": _integer(1, 256),
        "retention": _switch,
        "retention_days_max": _integer(1, 1_000_000),
        "lease_s": _seconds,
        "heartbeat_s": _seconds,
        "cors_origins": _words,
        "source_env": _words,
        "egress_allow": lambda value: tuple(ip_network(word) for word in _words(value)),
        "log_level": _level,
    }
    try:
        return parsers.get(name, str)(text)
    except ValueError as error:
        raise ConfigError(f"{variable}={text!r} is not valid: {error}") from None


def _integer(low: int, high: int):  # type: ignore[no-untyped-def]
    def parse(text: str) -> int:
        value = int(text) if text.isdecimal() else low - 1
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86400:
        raise ValueError("expected seconds, greater than 0")
    return value


def _switch(text: str) -> bool:
    known = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("expected on or off")
    return known[text.lower()]


def _place(text: str) -> str:
    """An address as it is; a folder absolute: other processes stand elsewhere."""
    return text if "://" in text else str(Path(text).expanduser().absolute())


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("expected DEBUG, INFO, WARNING or ERROR")
    return text.upper()
