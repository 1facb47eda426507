"""Every error explains itself: class, sentence, row in the documentation."""

import importlib
import inspect
import pickle
import re
from pathlib import Path

import pytest

from agentflow import errors

ROOT = Path(__file__).resolve().parents[1]


def walk(cls: type) -> list[type]:
    return [cls, *(found for sub in cls.__subclasses__() for found in walk(sub))]


def shipped() -> list[type[errors.AgentFlowError]]:
    importlib.import_module("agentflow.cli.outcome")

    found = walk(errors.AgentFlowError)
    return [cls for cls in dict.fromkeys(found) if cls.__module__.startswith("agentflow.")]


ALL = shipped()


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_error_has_a_sentence_and_a_row(cls: type[errors.AgentFlowError]):
    assert (cls.__doc__ or "").strip()
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.M)
    assert cls.__name__ in rows


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_error_survives_the_way_between_processes(cls: type[errors.AgentFlowError]):
    error = cls([]) if cls is errors.SpecInvalid else cls("What went wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.message == error.message
    assert again.type == cls.__name__


def test_documented_errors_exist():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.M)
    assert sorted(set(rows) - {cls.__name__ for cls in ALL}) == []
    assert len(rows) == len(set(rows))


def test_error_without_words_says_its_docstring():
    assert errors.ProviderRateLimited().message == "The provider answered 429: too many requests."


def test_uncounted_errors_are_retryable():
    for cls in walk(errors.StepError):
        assert not cls.uncounted or cls.retryable, cls.__name__


def test_step_error_of_a_wire_name():
    assert isinstance(errors.step_error("CallTimeout", "late"), errors.CallTimeout)
    assert isinstance(errors.step_error("NoSuchError", "odd"), errors.NodeFailed)


def test_cancelled_is_no_exception():
    assert not issubclass(errors.Cancelled, Exception)
    assert inspect.getdoc(errors.Cancelled)


def test_documentation_marks_what_is_retried():
    text = (ROOT / "docs" / "errors.md").read_text()
    for cls in walk(errors.StepError):
        row = re.search(rf"^\| `{cls.__name__}` \| (\S*) *\|", text, re.M)
        assert row, cls.__name__
        mark = "R\\*" if cls.uncounted else "R" if cls.retryable else ""
        assert row[1].strip("|").strip() == mark, cls.__name__
