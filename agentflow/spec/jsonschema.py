"""JSON Schema 2020-12: the door to the validator. Offline, with linear-time patterns."""

from __future__ import annotations

from typing import Any

Json = Any


class SchemaInvalid(ValueError):
    """The value is not a JSON Schema; the message says why."""


class SchemaChecker:
    """A compiled schema."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def problems(self, value: Json, limit: int = 20) -> list[str]:
        """What does not fit, as sentences with the place; empty when the value fits."""
        found: list[str] = []
        for error in self._validator.iter_errors(value):
            place = ".".join(str(part) for part in error.instance_path)
            found.append(f"{place}: {error.message}" if place else error.message)
            if len(found) >= limit:
                break
        return found


def first_mismatch(schema: Json, value: Json) -> str | None:
    """The first thing about the value that does not fit the schema, or None. Raises SchemaInvalid."""
    found = compile_schema(schema).problems(value, limit=1)
    return found[0] if found else None


def compile_schema(schema: Json) -> SchemaChecker:
    """The checker of a schema. References to other documents are refused. Raises SchemaInvalid."""
    import jsonschema_rs

    try:
        return SchemaChecker(
            jsonschema_rs.Draft202012Validator(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        )
    except (ValueError, TypeError, jsonschema_rs.ReferencingError) as error:
        reason = str(error).split("\n")[0][:300]
        raise SchemaInvalid(f"is not a JSON Schema (2020-12): {reason}") from None
