"""Documents that callers bring: checked, compiled, and known again by their content."""

from __future__ import annotations

import asyncio
import hashlib
import marshal
import os
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from agentflow.errors import SpecInvalid
from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.engine.plans import Plans
    from agentflow.plan.plan import Plan
    from agentflow.spec.check import Checked

Json = Any
Compiled = tuple[dict[str, Json], "Plan"]
"""A normalised document and its plan; both are shared and never changed."""

SMALL_SPEC = 50
"""Nodes of a document that is checked and compiled on the event loop itself (some milliseconds)."""
KEPT, KEPT_BYTES = 1000, 64 * 1024
"""How many valid documents are known again, and how large the largest of them is."""
FAITHFUL = 2
"""The version of the marshal format whose bytes depend on types and values alone."""


class Documents:
    """Checks and compiles; safe to use from several threads. The same document, value for value and type
    for type, is checked once: nothing that an error depends on changes while the process lives."""

    def __init__(self, settings: Settings, plans: Plans) -> None:
        self._settings, self._plans = settings, plans
        self._lock = Lock()
        self._known: OrderedDict[bytes, Compiled] = OrderedDict()

    def check(self, document: Json, **options: Any) -> Checked:
        """Every problem of a document at once. ``options``: those of :func:`agentflow.spec.check.check`."""
        from agentflow.spec.check import check
        from agentflow.spec.environment import allowed_names

        return check(
            document,
            allowed_env=allowed_names(self._settings.source_env),
            present_env=frozenset(os.environ),
            **options,
        )

    async def compiled_aside(self, document: Json) -> Compiled:
        """As :meth:`compiled`, without holding up the event loop: a large document goes to a thread."""
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if isinstance(nodes, list) and len(nodes) > SMALL_SPEC:
            return await asyncio.to_thread(self.compiled, document)
        return self.compiled(document)

    def compiled(self, document: Json) -> Compiled:
        """The normalised document and its plan. Raises SpecInvalid with every problem."""
        key = _key(document)
        with self._lock:
            known = self._known.get(key) if key else None
            if known is not None:
                self._known.move_to_end(key)
                return known
        found = self._compiled(document)
        if key:
            with self._lock:
                self._known[key] = found
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
        return found

    def _compiled(self, document: Json) -> Compiled:
        from agentflow.spec.models import content_hash

        checked = self.check(document)
        if checked.errors or checked.normalized is None:
            raise SpecInvalid(checked.errors)
        spec = checked.normalized
        return spec, self._plans.of(content_hash(spec), spec)


def _key(document: Json) -> bytes:
    """A digest of the document; empty for what is too large to be kept, and for what is no JSON."""
    try:
        content = marshal.dumps(document, FAITHFUL)
    except ValueError:  # it holds what JSON does not know, or nests too deeply
        return b""
    return hashlib.sha256(content).digest() if len(content) <= KEPT_BYTES else b""
