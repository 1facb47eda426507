from __future__ import annotations

import re

import pytest

from agentflow.access.apikeys import key_hash, matches, new_key, public_id


def test_new_key_has_the_form_and_is_never_repeated():
    keys = {new_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(re.fullmatch(r"af_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}", key) for key in keys)


def test_public_id_is_the_middle_of_a_generated_key():
    key = new_key()
    assert public_id(key) == key.split("_")[1]


@pytest.mark.parametrize(
    "key", ["secret", "af_short_x", new_key() + "\n", new_key() + "x", "\ud800"]
)
def test_public_id_of_another_form_shows_nothing_of_the_key(key):
    found = public_id(key)
    assert re.fullmatch(r"own-[0-9a-f]{16}", found)
    assert found[4:] not in key_hash(key).hex()


def test_matches_only_the_key_itself():
    key = new_key()
    assert matches(key, key_hash(key))
    assert not matches(key[:-1], key_hash(key))
    assert not matches("", key_hash(key))
    assert key.encode() not in key_hash(key)
