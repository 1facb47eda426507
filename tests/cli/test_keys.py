"""``agentflow keys``: the one key that can be shown."""

import json
import stat


def test_bootstrap_key_is_made_once_and_kept_private(cli, home):
    first = cli("keys", "show", "--bootstrap")
    assert first.returncode == 0
    key = first.stdout.strip()
    assert len(key) >= 32
    assert cli("keys", "show", "--bootstrap").stdout.strip() == key
    file = home / "api-key"
    assert file.read_text().strip() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_given_key_goes_first(cli):
    done = cli("keys", "show", "--bootstrap", "-o", "json", API_KEY="af-chosen-by-hand")
    assert json.loads(done.stdout) == {"api_key": "af-chosen-by-hand", "from": "API_KEY"}


def test_no_other_key_can_be_shown(cli):
    done = cli("keys", "show")
    assert done.returncode == 2
    assert "--bootstrap" in done.stderr


def test_key_that_others_can_read_is_refused(cli, home):
    cli("keys", "show", "--bootstrap")
    (home / "api-key").chmod(0o644)
    try:
        done = cli("keys", "show", "--bootstrap")
    finally:
        (home / "api-key").chmod(0o600)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr
