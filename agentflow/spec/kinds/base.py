"""What is known about a kind of node before any of its code is loaded."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import msgspec
from pydantic import BaseModel, ConfigDict

Json = Any
Options = Mapping[str, Json]
Complaint = tuple[tuple[str | int, ...], str]
"""A place among the options, and what is wrong there."""
Place = tuple[tuple[str | int, ...], str]
"""A place among the options, and what is named there."""

TEMPLATE, CEL, VALUES, PATH = "template", "cel", "values", "path"


class OptionsModel(BaseModel):
    """Options of a node type: frozen, strict about types, tolerant of unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, populate_by_name=True, defer_build=True
    )


class Text(msgspec.Struct, frozen=True):
    """A text among the options that refers to state: where it is, and in which form.

    Forms: ``template`` ({path}), ``cel`` (an expression), ``values`` (any JSON holding ``${cel}``),
    ``path`` (a state path such as ``outputs.search``). ``names``: what expressions may name here
    besides, of any type; these are not state.
    """

    at: tuple[str | int, ...]
    form: str
    value: Json
    names: tuple[str, ...] = ()


def _nothing(options: Options) -> tuple[Text, ...]:
    return ()


def named_source(options: Options) -> tuple[str, ...]:
    """What the option ``source`` names: one source, or a chain of them."""
    source = options.get("source")
    if isinstance(source, str):
        return (source,)
    if isinstance(source, list | tuple):
        return tuple(item for item in source if isinstance(item, str))
    return ()


def _no_complaints(options: Options) -> tuple[Complaint, ...]:
    return ()


def _no_places(options: Options) -> tuple[Place, ...]:
    return ()


def _never(options: Options) -> bool:
    return False


def _as_given(options: dict[str, Json]) -> dict[str, Json]:
    return options


def _no_sentences(options: Options) -> tuple[str, ...]:
    return ()


def _no_changes(options: Options, source: Options) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class NodeKind:
    """A node type. Functions take the canonical options, with defaults filled in.

    ``options``: their model, None when they are not checked yet. ``attempts``: default number of
    attempts where the effects are not ``once``. ``placement``: inline (in the coordinator), io or
    cpu. ``field``: the main field, which takes the result unless ``output_key`` renames it.
    ``more_fields``: the state fields written besides. ``texts``: the texts that refer to state.
    ``sources``: ids of the sources it calls. ``needs_source``: whether a source is missing (E014).
    ``complete``: fills in defaults that depend on other options.
    ``complaints``: what the model cannot express, as (place, sentence) pairs. ``unsupported``:
    features of these options that this version cannot execute, without the node's name.
    ``refine``: what these options, and the configuration of the first source they name, change about
    the kind itself, as field -> value.
    ``always_writes``: a completed step never writes null into the main field.
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
    more_fields: Callable[[Options], tuple[Place, ...]] = _no_places
    texts: Callable[[Options], tuple[Text, ...]] = _nothing
    sources: Callable[[Options], tuple[str, ...]] = named_source
    needs_source: Callable[[Options], bool] = _never
    complaints: Callable[[Options], tuple[Complaint, ...]] = _no_complaints
    complete: Callable[[dict[str, Json]], dict[str, Json]] = _as_given
    unsupported: Callable[[Options], tuple[str, ...]] = _no_sentences
    refine: Callable[[Options, Options], Mapping[str, Any]] = _no_changes

    def refined(self, options: Options, source: Options | None = None) -> Self:
        """The kind as it is for these options: where it runs, how often it is tried, its effects.

        ``source``: the configuration of the first source they name, as far as it is known.
        """
        changes = self.refine(options, source or {})
        return replace(self, **changes) if changes else self

    def main_field(self, options: Options) -> str | None:
        """The state field that takes the result of a node with these options, or None."""
        key = options.get("output_key")
        if isinstance(key, str) and key:
            return key
        return self.field

    def written(self, options: Options) -> tuple[str, ...]:
        """Every state field that a node with these options may write, the main one first if there is
        one."""
        main = self.main_field(options)
        others = (name for _, name in self.more_fields(options))
        return tuple(dict.fromkeys((*(() if main is None else (main,)), *others)))
