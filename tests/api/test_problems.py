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
