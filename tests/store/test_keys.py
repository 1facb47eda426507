"""API keys in the store: only hashes, replaced at once."""

from __future__ import annotations

import pytest

from agentflow.access.apikeys import new_key
from agentflow.access.model import DEFAULT_TENANT, Principal
from agentflow.store.keys import authenticate, ensure_bootstrap_key

BOOTSTRAP = Principal(tenant=DEFAULT_TENANT, name="bootstrap")


@pytest.mark.parametrize("key", [new_key(), "a key of the operator's own", "é\ud800"])
async def test_the_bootstrap_key_opens_and_others_do_not(pool, key):
    await ensure_bootstrap_key(pool, key)
    await ensure_bootstrap_key(pool, key)
    assert await authenticate(pool, key) == BOOTSTRAP
    for wrong in (key[:-1], key + "x", "", "\x00", new_key(), key.swapcase()):
        assert await authenticate(pool, wrong) is None


async def test_a_new_bootstrap_key_voids_the_former(pool):
    former, present = new_key(), new_key()
    await ensure_bootstrap_key(pool, former)
    await ensure_bootstrap_key(pool, present)
    assert await authenticate(pool, former) is None
    assert await authenticate(pool, present) == BOOTSTRAP


async def test_the_key_itself_is_not_stored(pool):
    key = new_key()
    await ensure_bootstrap_key(pool, key)
    row = await pool.fetchrow("SELECT * FROM api_keys")
    secret = key.rsplit("_", 1)[1]
    assert all(secret not in str(value) for value in row.values())


async def test_a_key_that_ended_or_was_switched_off_opens_nothing(pool):
    key = new_key()
    await ensure_bootstrap_key(pool, key)
    await pool.execute("UPDATE api_keys SET expires_at = clock_timestamp()")
    assert await authenticate(pool, key) is None
    await pool.execute("UPDATE api_keys SET expires_at = NULL, status = 'disabled'")
    assert await authenticate(pool, key) is None
