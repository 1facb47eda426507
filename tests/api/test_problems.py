import json

import pytest

from agentflow import errors
from agentflow.api import problems
from agentflow.spec.problems import problem


def subclasses(cls: type) -> list[type]:
    return [cls, *(found for sub in cls.__subclasses__() for found in subclasses(sub))]


def made(cls: type[errors.AgentFlowError]) -> errors.AgentFlowError:
    if cls is errors.SpecInvalid:
        return cls([problem("E005", "Start node 'a' does not exist", ("start_node",))])
    return cls()


@pytest.mark.parametrize("cls", subclasses(errors.AgentFlowError), ids=lambda cls: cls.__name__)
def test_every_error_has_one_shape(cls):
    scope = {"path": "/x", "state": {"request_id": "req_1", "trace_id": "t"}}
    answer = problems.of_error(scope, made(cls))
    body = json.loads(answer.body)
    assert answer.media_type == "application/problem+json"
    assert body["status"] == answer.status_code
    assert body["code"] in problems.TITLES
    assert body["title"] == problems.TITLES[body["code"]]
    assert body["detail"]
    assert body["instance"] == "/x"
    assert body["request_id"] == "req_1"
    assert body["trace_id"] == "t"
    assert isinstance(body["retryable"], bool)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInput("no"), 400, "INVALID_INPUT"),
        (errors.NotSupported("no"), 400, "VALIDATION_ERROR"),
        (errors.Unauthenticated("no"), 401, "UNAUTHENTICATED"),
        (errors.Forbidden("no"), 403, "FORBIDDEN"),
        (errors.NotFound("Execution not found"), 404, "NOT_FOUND"),
        (errors.Conflict("no"), 409, "CONFLICT"),
        (errors.StoreUnavailable(), 503, "UNAVAILABLE"),
        (errors.ExecutionTimedOut("no"), 504, "EXECUTION_TIMEOUT"),
        (errors.ProviderRejected("no"), 500, "WORKFLOW_EXECUTION_ERROR"),
        (errors.ConfigError("no"), 500, "INTERNAL_ERROR"),
    ],
)
def test_error_has_its_status_and_code(error, status, code):
    assert problems.status_of(error) == (status, code)


def test_invalid_spec_carries_its_problems():
    body = json.loads(problems.of_error({}, made(errors.SpecInvalid)).body)
    assert body["detail"] == "Workflow validation failed"
    assert [found["code"] for found in body["errors"]] == ["E005"]


def test_unavailable_says_when_to_come_back():
    answer = problems.of_error({}, errors.StoreUnavailable())
    assert int(answer.headers["retry-after"]) > 0
    assert json.loads(answer.body)["retryable"] is True


def test_error_names_its_execution():
    answer = problems.of_error({}, errors.ExecutionFailed("no", execution_id="exec_1"))
    assert json.loads(answer.body)["execution_id"] == "exec_1"


async def crashed(answered_already: bool) -> list[dict]:
    """What is sent when the application inside fails with an error nobody foresaw."""

    async def app(scope, receive, send):
        if answered_already:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError("the secret value")

    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/x", "state": {"request_id": "req_1"}}
    await problems.LastCatch(app)(scope, None, send)
    return sent


async def test_unforeseen_error_is_a_problem_that_tells_nothing(capsys):
    start, body = await crashed(answered_already=False)
    assert start["status"] == 500
    found = json.loads(body["body"])
    assert found["code"] == "INTERNAL_ERROR"
    assert found["request_id"] == "req_1"
    logged = json.loads(capsys.readouterr().err)
    assert logged["error_type"] == "ZeroDivisionError"
    assert logged["stack"][-1].endswith(" app")
    assert "secret" not in json.dumps([found, logged])


async def test_unforeseen_error_cuts_an_answer_that_has_begun():
    with pytest.raises(ZeroDivisionError):
        await crashed(answered_already=True)
