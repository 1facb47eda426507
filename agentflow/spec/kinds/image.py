"""Options of ``image`` nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentflow.spec.kinds.base import PATH, TEMPLATE, NodeKind, Options, OptionsModel, Text
from agentflow.spec.kinds.models import SIZE
from agentflow.spec.kinds.values import Word

Size = Annotated[str, Field(pattern=f"^{SIZE.pattern}$")]
Quality = Literal["standard", "hd", "low", "medium", "high", "xhigh", "max"]


class ImageOptions(OptionsModel):
    """Makes pictures."""

    source: Word | Annotated[list[Word], Field(min_length=1)] | None = Field(
        None,
        description="Required: id of a source of kind image, or a list of them, of which the next "
        "one serves when one is not available.",
    )
    prompt: str | None = Field(
        None,
        description="Template of what to draw; prompt_template is the same. Null: text_result, else "
        "user_input.",
    )
    size: Size | None = Field(
        None,
        description="Width and height in pixels, one that the model can make. Null: the source's, "
        "else 1024x1024.",
        examples=["1024x1024", "1792x1024"],
    )
    quality: Quality | None = Field(
        None,
        description="One that the model knows: standard and hd mean medium and high where these are "
        "its words. Null: the source's, else standard.",
    )
    style: Literal["vivid", "natural"] | None = Field(
        None,
        description="For models that know styles (dall-e-3). Null: the source's, else vivid.",
    )
    n: Annotated[int, Field(ge=1, le=10)] = Field(1, description="How many pictures.")
    download: bool = Field(
        True,
        description="Whether a picture that the provider only gives an address of is fetched and "
        "stored as a blob, since such addresses expire. What comes as data is always stored.",
    )
    output_key: Word = Field("image_result", description="State field that is written.")


def _texts(options: Options) -> tuple[Text, ...]:
    if options.get("prompt") is not None:
        return (Text(("prompt",), TEMPLATE, options["prompt"]),)
    return tuple(Text(("prompt",), PATH, name) for name in ("text_result", "user_input"))


KIND = NodeKind(
    type="image",
    options=ImageOptions,
    effects="idempotent",
    attempts=3,
    placement="io",
    field="image_result",
    always_writes=True,
    texts=_texts,
    needs_source=lambda options: not options.get("source"),
)
