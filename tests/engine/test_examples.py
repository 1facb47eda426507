"""The workflows in examples/: valid without a warning, drawn, and executed with the real small model.

They share one engine over a journal in memory, with the code and the connections of a real worker. What
is checked must hold whatever the model says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema_rs
import pytest

from agentflow.cli import drawing, mermaid, svg
from agentflow.engine.workers import InProcessWorkers
from agentflow.execution import events as ev
from agentflow.execution.journal import Outcome, Submission
from agentflow.flow import open_nodes
from agentflow.flow.opening import open_performer
from agentflow.ids import new_id
from agentflow.plan.compile import compile_plan
from agentflow.settings import load
from agentflow.sources.prices import price_known
from agentflow.spec.check import Checked, check_text
from agentflow.spec.models import content_hash
from agentflow.testing import MemoryStore, memory_engine

Json = Any
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(
    path.stem for path in EXAMPLES.glob("*.json") if not path.name.endswith(".input.json")
)
LONGEST_S = 120
every_example = pytest.mark.parametrize("name", NAMES)


def text_of(name: str) -> str:
    return (EXAMPLES / f"{name}.json").read_text("utf-8")


def input_of(name: str) -> Json:
    return json.loads((EXAMPLES / f"{name}.input.json").read_text("utf-8"))


def schema_of(name: str, node_id: str) -> Json:
    """The response schema of an llm node."""
    nodes = json.loads(text_of(name))["nodes"]
    return next(node["metadata"]["response_schema"] for node in nodes if node["id"] == node_id)


def checked(name: str) -> Checked:
    return check_text(text_of(name), present_env=(), priced=price_known)


class Ended:
    """How an execution ended: its outcome, and its journal."""

    def __init__(self, outcome: Outcome, events: Sequence[ev.Event]) -> None:
        self.outcome = outcome
        self.events = events
        self.path: list[str] = outcome.final_state["execution_path"]
        self.outputs: dict[str, Json] = outcome.final_state["outputs"]

    def place(self, kind: type, step: str) -> int:
        """Where in the journal an event of a step is. Raises StopIteration when there is none."""
        return next(
            place
            for place, event in enumerate(self.events)
            if isinstance(event, kind) and event.step == step
        )

    def at_once(self, step: str, then: int) -> bool:
        """Whether what is in this place followed the end of a step, and waited for no other step."""
        between = self.events[self.place(ev.StepCompleted, step) + 1 : then]
        return not any(isinstance(event, ev.TERMINAL_STEP) for event in between)

    def ends(self, node_id: str) -> dict[str, str]:
        """The steps of a node, in the order in which they ended, and how."""
        return {
            event.step: ev.kind(event).removeprefix("step.")
            for event in self.events
            if isinstance(event, ev.TERMINAL_STEP) and event.step.partition("@")[0] == node_id
        }


Execute = Callable[..., Awaitable[Ended]]


@pytest.fixture(scope="module")
async def execute(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Execute]:
    """``execute(name, state, answers)``: executes an example to its end; by default with its own input.
    ``answers``: wait -> what it is answered with, one after the other."""
    settings = load({"AGENTFLOW_DATA_DIR": str(tmp_path_factory.mktemp("data"))})
    store = MemoryStore()
    workers: Any = InProcessWorkers(open_performer(settings))
    engine = memory_engine(store, workers, open_nodes())
    await engine.start()

    async def to_its_end(name: str, state: Json = None, answers: Json = None) -> Ended:
        spec = checked(name).normalized
        assert spec is not None
        asked = Submission(
            execution_id=new_id("exec"),
            tenant="ten_x",
            content_hash=content_hash(spec),
            spec=spec,
            initial_state=state or input_of(name),
        )
        await engine.accept(asked)
        for wait, data in (answers or {}).items():
            named = (asked.execution_id, wait)
            await store.until(lambda named=named: store.waits.get(named) == "open", LONGEST_S)
            store.answer(*named, data, "ann")
            engine.nudge(asked.execution_id)
        await store.until(lambda: asked.execution_id in store.outcomes, LONGEST_S)
        outcome = store.outcomes[asked.execution_id]
        assert outcome.status == "completed", outcome.error
        return Ended(outcome, store.events[asked.execution_id])

    yield to_its_end
    await engine.close()


@every_example
def test_example_is_valid_without_a_warning_and_can_be_executed(name):
    found = checked(name)
    assert (found.errors, found.warnings) == ((), ())
    assert compile_plan(found.normalized or {}).unsupported == ()


@every_example
def test_example_is_drawn(name):
    plan = compile_plan(checked(name).normalized or {})
    text, chart, picture = drawing.as_text(plan), mermaid.as_mermaid(plan), svg.as_svg(plan)
    ElementTree.fromstring(picture)
    for node in plan.nodes:
        assert node.id in text and node.id in chart and node.id in picture
    assert "┌" in text, "too large for boxes"


@every_example
def test_example_is_told_in_the_readme(name):
    row = next(
        line
        for line in (EXAMPLES / "README.md").read_text("utf-8").splitlines()
        if line.startswith(f"| [{name}]({name}.json) |")
    )
    assert f"`agentflow run examples/{name}.json --input-file examples/{name}.input.json`" in row
    document = json.loads(text_of(name))
    assert document["name"].replace("-", "_") == name
    assert document["description"].endswith(".")


async def test_hello_answers(execute):
    hello = await execute("hello")
    assert hello.path == ["question", "answer"]
    assert hello.outcome.output == hello.outputs["answer"]["text"] != ""


async def test_support_triage_joins_the_branches_taken_into_a_ticket(execute):
    triage = await execute("support_triage")
    assert triage.outcome.final_state["intent"] == "billing"
    assert triage.ends("technical") == {"technical": "skipped"}
    assert triage.ends("general") == {"general": "skipped"}
    for node_id in ("mood", "kind", "billing"):
        jsonschema_rs.validate(
            schema_of("support_triage", node_id), triage.outputs[node_id]["data"]
        )
    lines = triage.outcome.output.split("\n")
    assert [line.split(": ")[0] for line in lines[:4]] == ["Department", "Topic", "Kind", "Mood"]
    assert "{" not in "".join(lines[:4])


async def test_long_brief_joins_three_chains(execute):
    brief = await execute("long_brief")
    assert list(brief.outcome.output) == ["headline", "lead", "summary", "worry"]
    assert all(isinstance(value, str) for value in brief.outcome.output.values())
    assert brief.place(ev.StepStarted, "summary") > max(
        brief.place(ev.StepCompleted, step) for step in ("facts", "price")
    )
    assert brief.at_once("facts", brief.place(ev.StepStarted, "headline"))
    assert brief.at_once("people", brief.place(ev.StepStarted, "worry"))


async def test_extract_order_tries_again_until_valid_or_gives_up(execute):
    order = await execute("extract_order")
    attempts = list(order.ends("extract"))
    assert attempts == [f"extract@{number}" for number in range(1, len(attempts) + 1)]
    done = [step for step, how in order.ends("extract").items() if how == "completed"]
    verdicts = [
        event.result["intent"]
        for event in order.events
        if isinstance(event, ev.StepCompleted) and event.step.startswith("check@")
    ]
    assert len(done) <= 4 and len(verdicts) == len(done)
    assert "valid" not in verdicts[:-1]
    output = order.outcome.output
    if verdicts and verdicts[-1] == "valid":
        assert output["status"] == "booked" and output["attempts"] == len(done)
        jsonschema_rs.validate(schema_of("extract_order", "extract"), output["order"])
        told = input_of("extract_order")["user_input"]
        assert all(str(value) in told for value in output["order"].values())
        assert order.ends("by_hand") == {"by_hand": "skipped"}
    else:
        assert output["status"] == "by hand" and output["why"]
        assert order.ends("booked") == {"booked": "skipped"}


async def test_rules_first_asks_the_model_what_the_patterns_do_not_know(execute):
    unclear = await execute("rules_first")
    output = unclear.outcome.output
    assert unclear.path[:3] == ["question", "patterns", "model"]
    assert output["decided_by"] == "model"
    assert output["intent"] in ("hours", "returns", "advice", "person")
    assert unclear.path[3:] == [output["intent"], "answer"]
    assert unclear.outcome.tokens_used > 0


async def test_rules_first_answers_what_is_clear_without_a_model(execute):
    clear = await execute("rules_first", {"user_input": "Where is my order AB-12345?"})
    assert clear.path == ["question", "patterns", "order", "answer"]
    assert clear.outcome.output["decided_by"] == "patterns"
    assert clear.outcome.tokens_used == 0


async def test_product_page_waits_for_the_longest_branch_only_at_the_join(execute):
    page = await execute("product_page")
    assert list(page.outcome.output) == ["shelf", "slogan", "slogan_length", "plain"]
    jsonschema_rs.validate(schema_of("product_page", "shelf"), page.outputs["shelf"]["data"])
    last = max(page.place(ev.StepCompleted, step) for step in ("shelf", "slogan_length", "plain"))
    assert page.place(ev.StepCompleted, "page") > last
    assert page.at_once("slogan", page.place(ev.StepCompleted, "slogan_length"))
    assert page.at_once("outline", page.place(ev.StepStarted, "draft"))
    assert page.at_once("draft", page.place(ev.StepStarted, "plain"))


async def test_race_stops_the_loser(execute):
    race = await execute("race")
    winner = race.events[race.place(ev.StepCompleted, "answer")].counted
    plan = compile_plan(checked("race").normalized or {})
    [first] = [plan.nodes[plan.edges[edge].source].id for edge in winner]
    assert race.outcome.output == race.outputs[first]["text"]
    assert race.ends(first) == {first: "completed"}
    if first == "quick":
        assert set(race.ends("plan").values()) <= {"cancelled", "completed"}
        assert set(race.ends("thorough").values()) <= {"cancelled", "skipped"}
        assert "thorough" not in race.outputs
    else:
        assert race.ends("quick") == {"quick": "cancelled"}
    lost = [event for event in race.events if isinstance(event, ev.StepCancelled)]
    assert all(event.race == "answer" for event in lost)


async def test_when_it_fails_meets_every_failure_by_its_policy(execute):
    met = await execute("when_it_fails")
    errors = met.outcome.final_state["errors"]
    assert [(error["node_id"], error["type"]) for error in errors] == [
        ("language", "SourceNotFound"),
        ("answer", "SourceNotFound"),
        ("further", "SourceNotFound"),
    ]
    policies = [event.policy for event in met.events if isinstance(event, ev.StepFailed)]
    assert policies == ["continue", "goto", "skip"]
    assert met.outcome.output == {"answer": met.outputs["spare_answer"]["text"]}
    assert met.ends("apologise") == {"apologise": "skipped"}


async def test_when_it_fails_apologises_by_default(execute):
    sorry = await execute("when_it_fails", {"user_input": "  "})
    assert sorry.path == ["question", "apologise"]
    assert "InvalidInput in question" in sorry.outcome.output
    assert sorry.ends("reply") == {"reply": "skipped"}


async def test_approval_goes_on_with_the_answer_and_then_with_the_signal(execute):
    yes = await execute(
        "approval", answers={"approve/0": {"approved": True}, "sent/0": {"id": "m-1"}}
    )
    assert yes.path == ["question", "draft", "approve", "sent", "done"]
    assert yes.outputs["approve"]["decision"] == "approved"
    assert yes.outcome.output == f"Sent as m-1: {yes.outcome.final_state['draft']}"
    asked = yes.events[yes.place(ev.StepWaiting, "approve")]
    assert yes.outcome.final_state["draft"] in asked.prompt


async def test_approval_that_is_refused_waits_for_no_mail(execute):
    no = await execute(
        "approval", answers={"approve/0": {"approved": False, "comment": "too short"}}
    )
    assert no.outcome.output == "Not sent: too short"
    assert no.ends("sent") == {"sent": "skipped"}


async def test_report_writes_every_section_within_the_bounds_of_both_loops(execute):
    report = await execute("report")
    headings = input_of("report")["sections"]
    assert [part["heading"] for part in report.outcome.output["sections"]] == headings
    assert all(isinstance(part["text"], str) for part in report.outcome.output["sections"])
    assert list(report.ends("next_section")) == ["next_section@1", "next_section@2"]
    for section in (1, 2):
        drafts = [
            step
            for step, how in report.ends("write").items()
            if step.startswith(f"write@{section}.") and how == "completed"
        ]
        assert drafts == [f"write@{section}.{number}" for number in range(1, len(drafts) + 1)]
        assert 1 <= len(drafts) <= 3
    for event in report.events:
        if isinstance(event, ev.StepCompleted) and event.step.startswith("critic@"):
            jsonschema_rs.validate(schema_of("report", "critic"), event.result["data"])
