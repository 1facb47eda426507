"""Live progress on stderr: a table with a row per step on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentflow.cli.screen import Screen, printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

Json = Any
_SHOWN = {
    "step.queued": "queued",
    "step.started": "running",
    "step.retrying": "retrying",
    "step.waiting": "waiting",
    "step.completed": "completed",
    "step.failed": "failed",
    "step.skipped": "skipped",
    "step.cancelled": "cancelled",
    "step.timed_out": "timed out",
}
_STYLE = {
    "running": "cyan",
    "retrying": "yellow",
    "completed": "green",
    "failed": "red",
    "timed out": "red",
    "cancelled": "yellow",
    "skipped": "dim",
}
_OPEN = ("running", "retrying", "queued", "waiting")


class Row:
    """What is known of the latest step of one node."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.state = "pending"
        self.worker = ""
        self.started: float | None = None
        self.seconds: float | None = None
        self.tokens = 0
        self.note = ""

    def apply(self, event: Json) -> None:
        """Take in a step event, as the API describes it."""
        data = event.get("data") or {}
        if event["step"] != self.step:
            self.step, self.started, self.seconds, self.tokens = event["step"], None, None, 0
        self.state = _SHOWN.get(event["type"], self.state)
        at = seconds_of(event.get("ts"))
        worker = data.get("worker")
        if worker:
            self.worker = " ".join(
                str(part)
                for part in (worker.get("pid"), worker.get("pool"), worker.get("node"))
                if part
            )
        self.tokens += sum(_tokens(call) for call in data.get("calls") or ())
        error = data.get("error")
        self.note = f"{error['type']}: {error['message']}" if error else _reused(data.get("cached"))
        if event["type"] == "step.started":
            self.started = at if self.started is None else self.started
        elif self.state not in _OPEN and at is not None:
            begun = seconds_of(data.get("started_at"))
            begun = self.started if begun is None else begun
            self.seconds = None if begun is None else max(0.0, at - begun)

    def elapsed(self, now: float) -> str:
        """Seconds worked so far, or in all."""
        if self.seconds is not None:
            return f"{self.seconds:.2f} s"
        if self.started is not None and self.state in _OPEN:
            return f"{max(0.0, now - self.started):.1f} s"
        return ""


class Progress:
    """The progress of one execution. Use as a context manager; ``show`` takes each event."""

    def __init__(self, screen: Screen, *, quiet: bool = False, steps: tuple[str, ...] = ()) -> None:
        self._screen = screen
        self.quiet = quiet
        self._rows: dict[str, Row] = {step: Row(step) for step in steps}
        self._reply = ""
        self._live: Live | None = None
        self._began = time.time()

    def __enter__(self) -> Progress:
        plain = os.environ.get("TERM") == "dumb" or not self._screen.err.isatty()
        if not self.quiet and not plain:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=self._screen.err),
                get_renderable=self._drawn,
                refresh_per_second=8,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, event: Json) -> None:
        """Take in one event of the stream."""
        step = event.get("step")
        if event["type"] == "message.delta":
            self._reply = (self._reply + str((event.get("data") or event).get("text", "")))[-400:]
            return
        if step is None or event["type"] not in _SHOWN:
            return
        row = self._rows.setdefault(event.get("node_id") or step, Row(step))
        row.apply(event)
        if row.state != "running":
            self._reply = ""
        if not self.quiet and self._live is None:
            self._screen.say(self._line(step, row, event))

    def tell(self, message: str) -> None:
        """A line for the person, beside the table."""
        if self._live is not None:
            self._live.console.print(printable(message), markup=False, highlight=False)
        elif not self.quiet:
            self._screen.say(message)

    def _line(self, step: str, row: Row, event: Json) -> str:
        at = seconds_of(event.get("ts")) or time.time()
        clock = datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
        parts = [clock, step, row.state, row.elapsed(at) if row.state not in _OPEN else ""]
        if row.worker:
            parts.append(f"worker {row.worker}")
        if row.tokens:
            parts.append(f"{row.tokens} tokens")
        parts.append(row.note)
        return "  ".join(part for part in parts if part)

    def _drawn(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, align in (("step", "left"), ("state", "left"), ("worker", "left")):
            table.add_column(name, justify=align, overflow="fold")  # type: ignore[arg-type]
        table.add_column("time", justify="right")
        table.add_column("tokens", justify="right")
        now = time.time()
        for row in self._rows.values():
            state = Text(row.state, style=_STYLE.get(row.state, ""))
            if row.note:
                state.append(f"  {printable(row.note)}", style="dim")
            tokens = str(row.tokens) if row.tokens else ""
            table.add_row(Text(row.step), state, Text(row.worker), row.elapsed(now), tokens)
        reply = printable(" ".join(self._reply.split()))[-200:]
        return Group(table, Text(reply, style="dim")) if reply else Group(table)


def seconds_of(moment: Json) -> float | None:
    """Seconds since the epoch of an RFC 3339 text, or of a number that is that already."""
    if moment is None or isinstance(moment, (int, float)):
        return moment
    return datetime.fromisoformat(moment).timestamp()


def _reused(cached: Json) -> str:
    """What was not paid for, where a result was reused."""
    if not cached:
        return ""
    saved = [f"{cached['tokens']} tokens"] if cached.get("tokens") else []
    saved += [f"${cached['cost']:.6f}"] if cached.get("cost") else []
    return f"cached, {' and '.join(saved)} saved" if saved else "cached"


def _tokens(call: Json) -> int:
    usage = call.get("usage") or {}
    return int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)
