"""``agentflow executions --local``: what was executed, without a server."""

import json

from tests.fake_provider import Status, Text

ABSENT = "exec_" + "0" * 32


def executed(cli, ask, provider) -> str:
    provider.script(Text("Fine."))
    done = cli("run", "--local", ask(), "-i", "user_input=How are you?", "-o", "json")
    return json.loads(done.stdout)["execution_id"]


def test_list_shows_the_newest_first(cli, ask, provider):
    older, newer = executed(cli, ask, provider), executed(cli, ask, provider)
    page = json.loads(cli("executions", "list", "--local", "-o", "json").stdout)
    ids = [found["id"] for found in page["executions"]]
    assert ids.index(newer) < ids.index(older)
    assert page["total"] >= 2


def test_list_is_cut_and_goes_on_at_the_cursor(cli, ask, provider):
    executed(cli, ask, provider)
    executed(cli, ask, provider)
    words = ("executions", "list", "--local", "--limit", "1", "-o", "json")
    first = json.loads(cli(*words).stdout)
    second = json.loads(cli(*words, "--cursor", first["next_cursor"]).stdout)
    assert len(first["executions"]) == len(second["executions"]) == 1
    assert first["executions"][0]["id"] > second["executions"][0]["id"]


def test_list_of_a_status(cli, ask, provider):
    provider.default = Status(401)
    cli("run", "--local", ask(), "-i", "user_input=a")
    words = ("executions", "list", "--local", "--status", "failed", "-o", "json")
    page = json.loads(cli(*words).stdout)
    assert {found["status"] for found in page["executions"]} == {"failed"}


def test_list_for_a_pipe_is_separated_by_tabs_with_whole_ids(cli, ask, provider):
    execution = executed(cli, ask, provider)
    head, *rows = cli("executions", "list", "--local").stdout.splitlines()
    assert head.split("\t")[:3] == ["ID", "STATUS", "WORKFLOW"]
    assert [execution, "completed", "ask"] in [row.split("\t")[:3] for row in rows]


def test_get_shows_steps_and_outcome(cli, ask, provider):
    execution = executed(cli, ask, provider)
    found = json.loads(cli("executions", "get", execution, "--local", "-o", "json").stdout)
    assert [step["step"] for step in found["steps"]] == ["question", "answer"]
    shown = cli("executions", "get", execution, "--local")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] == "Fine."


def test_watch_of_a_finished_execution_shows_all_of_it(cli, ask, provider):
    execution = executed(cli, ask, provider)
    done = cli("executions", "watch", execution, "--local", "-o", "json")
    assert json.loads(done.stdout)["status"] == "success"
    assert "answer  completed" in done.stderr


def test_cancel_of_a_finished_execution_changes_nothing(cli, ask, provider):
    execution = executed(cli, ask, provider)
    done = cli("executions", "cancel", execution, "--local")
    assert (done.returncode, done.stdout) == (0, f"{execution} completed\n")


def test_absent_execution_is_not_found(cli):
    for verb in ("get", "watch", "cancel"):
        done = cli("executions", verb, ABSENT, "--local", "-o", "json")
        assert done.returncode == 4
        [error] = json.loads(done.stdout)["errors"]
        assert error == {"type": "NotFound", "message": "Execution not found"}


def test_malformed_id_is_not_found(cli):
    assert cli("executions", "get", "nonsense/../x", "--local").returncode == 4
