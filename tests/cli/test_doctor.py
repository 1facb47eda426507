"""``agentflow doctor``: findings with their cure."""

import json
import socket

SUBJECTS = {"Python", "machine", "memory", "disk", "data folder", "API key", "port", "open ports"}
SUBJECTS |= {"model", "large values", "Ray", "embedded PostgreSQL"}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def checks(done) -> dict[str, dict]:
    return {check["subject"]: check for check in json.loads(done.stdout)["checks"]}


def test_healthy_machine_passes(cli, home):
    done = cli("doctor", "-o", "json", PORT=free_port())
    found = checks(done)
    assert set(found) == SUBJECTS
    assert str(home / "blobs") in found["large values"]["found"]
    assert [check for check in found.values() if check["state"] == "fail"] == []
    assert done.returncode == 0


def test_findings_are_lines_for_a_person(cli):
    lines = cli("doctor", PORT=free_port()).stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "fail", "fix:") for line in lines)


def test_open_key_file_fails_with_its_cure(cli, home):
    cli("keys", "show", "--bootstrap")
    (home / "api-key").chmod(0o644)
    try:
        done = cli("doctor", "-o", "json", PORT=free_port())
    finally:
        (home / "api-key").chmod(0o600)
    assert done.returncode == 1
    assert checks(done)["API key"]["fix"] == f"chmod 600 {home / 'api-key'}"


def test_taken_port_is_a_warning(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("doctor", "-o", "json", PORT=str(taken.getsockname()[1]))
    assert checks(done)["port"]["state"] == "warn"


def test_missing_model_is_a_warning_with_its_cure(cli):
    done = cli("doctor", "-o", "json", PORT=free_port(), AGENTFLOW_LOCAL_MODEL="/no/model.gguf")
    model = checks(done)["model"]
    assert model["state"] == "warn"
    assert "AGENTFLOW_LOCAL_MODEL" in model["found"] + model["fix"]


def test_large_values_need_a_place_that_can_be_written(cli, tmp_path):
    (tmp_path / "file").touch()
    blocked = {
        "AGENTFLOW_BLOBS": str(tmp_path / "file" / "in"),
        "DATABASE_URL": "postgresql://no@127.0.0.1:9/no",
    }
    done = cli("doctor", "-o", "json", PORT=free_port(), **blocked)
    assert done.returncode == 1
    found = checks(done)["large values"]
    assert found["state"] == "fail" and "AGENTFLOW_BLOBS" in found["found"]


def test_unreachable_database_fails(cli):
    url = f"postgresql://user:hidden-word@127.0.0.1:{free_port()}/db"
    done = cli("doctor", "-o", "json", PORT=free_port(), DATABASE_URL=url)
    assert done.returncode == 1
    assert checks(done)["database"]["state"] == "fail"
    assert "hidden-word" not in done.stdout + done.stderr
