"""What is known about a kind of node before any of its code is loaded."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

Json = Any
Options = Mapping[str, Json]
Complaint = tuple[tuple[str | int, ...], str]
"""A place among the options, and what is wrong there."""

TEMPLATE, CEL, VALUES, PATH = "template", "cel", "values", "path"


class OptionsModel(BaseModel):
    """Options of a node type: frozen, strict about types, tolerant of unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, populate_by_name=True, defer_build=True
    )


class Text(msgspec.Struct, frozen=True):
    """A text among the options that refers to state: where it is, and in which form.

    Forms: ``template`` ({path}), ``cel`` (an expression), ``values`` (any JSON holding ``${cel}``),
    ``path`` (a state path such as ``outputs.search``).
    """

    at: tuple[str | int, ...]
    form: str
    value: Json


def _nothing(options: Options) -> tuple[Text, ...]:
    return ()


def _named_source(options: Options) -> tuple[str, ...]:
    source = options.get("source")
    if isinstance(source, str):
        return (source,)
    if isinstance(source, list | tuple):
        return tuple(item for item in source if isinstance(item, str))
    return ()


def _no_complaints(options: Options) -> tuple[Complaint, ...]:
    return ()


def _never(options: Options) -> bool:
    return False


def _as_given(options: dict[str, Json]) -> dict[str, Json]:
    return options


def _no_sentences(options: Options) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class NodeKind:
    """A node type. Functions take the canonical options, with defaults filled in.

    ``options``: their model, None when they are not checked yet. ``attempts``: default number of
    attempts. ``placement``: inline (in the coordinator), io or cpu. ``field``: the state field
    written unless ``output_key`` renames it. ``texts``: the texts that refer to state. ``sources``:
    ids of the sources it calls. ``needs_source``: whether a source is missing (E014).
    ``complete``: fills in defaults that depend on other options.
    ``complaints``: what the model cannot express, as (place, sentence) pairs. ``unsupported``:
    features of these options that this version cannot execute, without the node's name.
    ``always_writes``: a completed step never writes null.
    ``available``: False when no node of this type can be executed yet.
    """

    type: str
    options: builtins.type[OptionsModel] | None = None
    effects: str = "pure"
    attempts: int = 1
    placement: str = "inline"
    field: str | None = None
    available: bool = True
    always_writes: bool = False
    texts: Callable[[Options], tuple[Text, ...]] = _nothing
    sources: Callable[[Options], tuple[str, ...]] = _named_source
    needs_source: Callable[[Options], bool] = _never
    complaints: Callable[[Options], tuple[Complaint, ...]] = _no_complaints
    complete: Callable[[dict[str, Json]], dict[str, Json]] = _as_given
    unsupported: Callable[[Options], tuple[str, ...]] = _no_sentences

    def writes(self, options: Options) -> str | None:
        """The state field that a node with these options writes, or None."""
        key = options.get("output_key")
        if isinstance(key, str) and key:
            return key
        return self.field
