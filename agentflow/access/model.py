"""Who acts, and for which tenant."""

from __future__ import annotations

import msgspec

DEFAULT_TENANT = "ten_01900000000070008000000000000001"
"""The one tenant that every installation begins with."""


class Principal(msgspec.Struct, frozen=True):
    """Somebody who proved who they are: ``name`` acts for ``tenant``, and sees nothing of others."""

    tenant: str
    name: str
