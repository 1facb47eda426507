"""The rows of API keys: hashes, found by the key's public id."""

from __future__ import annotations

import asyncpg

from agentflow.access.apikeys import key_hash, matches, public_id
from agentflow.access.model import DEFAULT_TENANT, Principal
from agentflow.store.pool import unavailable
from agentflow.store.rows import tenant_id, tenant_uuid

BOOTSTRAP = "bootstrap"

_ENSURE = """
INSERT INTO api_keys (key_id, tenant_id, name, key_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO UPDATE
   SET key_id = excluded.key_id, key_hash = excluded.key_hash, status = 'active',
       updated_at = clock_timestamp()
 WHERE api_keys.key_hash <> excluded.key_hash OR api_keys.status <> 'active'"""

_FIND = """
SELECT k.key_hash, k.name, k.tenant_id FROM api_keys k JOIN tenants t USING (tenant_id)
 WHERE k.key_id = $1 AND k.status = 'active' AND t.status = 'active'
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())"""


async def ensure_bootstrap_key(pool: asyncpg.Pool, key: str) -> None:
    """Make this the default tenant's first key, in place of the one that was. Only a hash is stored.

    Raises StoreUnavailable.
    """
    with unavailable():
        await pool.execute(
            _ENSURE, public_id(key), tenant_uuid(DEFAULT_TENANT), BOOTSTRAP, key_hash(key)
        )


async def authenticate(pool: asyncpg.Pool, presented: str) -> Principal | None:
    """Whose key this is; None when it is nobody's, or no longer valid. Raises StoreUnavailable."""
    with unavailable():
        row = await pool.fetchrow(_FIND, public_id(presented))
    if row is None or not matches(presented, row["key_hash"]):
        return None
    return Principal(tenant=tenant_id(row["tenant_id"]), name=row["name"])
