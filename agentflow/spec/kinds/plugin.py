"""Options of ``plugin`` nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agentflow.spec.kinds.base import PATH, VALUES, NodeKind, Options, OptionsModel, Text
from agentflow.spec.kinds.values import Word

_PLUGIN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(@[A-Za-z0-9][A-Za-z0-9_.+-]{0,63})?$"


class PluginOptions(OptionsModel):
    """Runs a plugin in its sandbox."""

    plugin: Annotated[str, Field(pattern=_PLUGIN)] = Field(
        description="Its name, or name@version; without a version the active one, which stays for "
        "this version of the workflow.",
        examples=["redact@1.2.0"],
    )
    config: dict[str, Any] = Field(
        {}, description="Its configuration, by the plugin's own schema; may hold ${expression}."
    )
    source: Word | None = Field(None, description="Id of a source that it may use.")
    output_key: Word | None = Field(None, description="State field that takes its whole result.")


def _texts(options: Options) -> tuple[Text, ...]:
    return (
        Text(("plugin",), PATH, "state"),
        Text(("config",), VALUES, options["config"]),
    )


KIND = NodeKind(
    type="plugin",
    options=PluginOptions,
    effects="idempotent",
    placement="cpu",
    available=False,
    texts=_texts,
)
