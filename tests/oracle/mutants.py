"""Deliberate breakages of the core: one rule each, by one replaced text."""

from __future__ import annotations

from pathlib import Path

import msgspec

PACKAGE = Path(__file__).resolve().parents[2] / "agentflow"


class Mutant(msgspec.Struct, frozen=True):
    """``module``: below ``agentflow``. ``judge``: the module of tests/unit/execution that must reject it.
    ``shared``: whether LangGraph's runtime shows the rule too: no race, map, wait, retry or limit."""

    rule: str
    module: str
    old: str
    new: str
    judge: str = ""
    shared: bool = True

    def source(self) -> str:
        """The mutated source. Raises LookupError unless the text is there exactly once."""
        text = (PACKAGE / f"{self.module}.py").read_text()
        if text.count(self.old) != 1:
            raise LookupError(f"{self.module}: {text.count(self.old)} times {self.old!r}")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "all waits for every edge",
        "execution/joins",
        "    if state.unresolved[node.index]:\n        return WAIT\n",
        "    if state.unresolved[node.index] and not state.taken_in[node.index]:\n        return WAIT\n",
        "test_joins",
    ),
    Mutant(
        "all is skipped when nothing was taken",
        "execution/joins",
        "return RUN if state.taken_in[node.index] else SKIP",
        "return RUN",
        "test_joins",
    ),
    Mutant(
        "n_of runs at the k-th taken edge",
        "execution/joins",
        "    if taken >= node.needed:",
        "    if taken > node.needed:",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "n_of is skipped as soon as fewer than k can be taken",
        "execution/joins",
        "return WAIT if taken + state.unresolved[node.index] >= node.needed else SKIP",
        "return WAIT if state.unresolved[node.index] else SKIP",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "the past of any is the edge that fired it",
        "execution/joins",
        "    if recorded:\n        return recorded\n",
        "",
        "test_joins",
    ),
    Mutant(
        "the past of a later iteration is what led back",
        "execution/joins",
        "        return state.carried[node.loops[-1]]",
        "        return 0",
        "test_loops",
    ),
    Mutant(
        "the past reaches beyond the source of an edge",
        "execution/joins",
        "found |= source.past | 1 << source.ordinal",
        "found |= 1 << source.ordinal",
        "test_joins",
    ),
    Mutant(
        "skips spread",
        "execution/fold",
        '    resolve(state, _close(state, event, "skipped"), ())',
        '    _close(state, event, "skipped")',
        "test_edges",
    ),
    Mutant(
        "all outgoing edges are resolved together",
        "execution/loops",
        "TAKEN if index in chosen else SKIPPED",
        "TAKEN if index in chosen else OPEN",
        "test_edges",
        shared=False,  # an open edge differs from a skipped one in a retry alone
    ),
    Mutant(
        "losers of a race are cancelled",
        "execution/release",
        "        cancel_losers(turn, node)",
        "        pass",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "raced-out nodes never start later",
        "execution/release",
        "    if lost_race(state, node):",
        "    if False:",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "fail in a raced branch acts as skip",
        "execution/failure",
        'return "skip" if chosen == "fail" and node.races else chosen',
        "return chosen",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "a race that all lost fails with the canonically first error",
        "execution/release",
        "return min(failed, key=state.position)",
        "return max(failed, key=state.position)",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "an iteration ends when every part is over",
        "execution/loops",
        "    while not state.open_parts[loop.index]:",
        "    while state.open_parts[loop.index] <= 1:",
        "test_loops",
    ),
    Mutant(
        "a taken back edge starts the next iteration",
        "execution/loops",
        "if any(state.edges[index] == TAKEN for index in loop.back):",
        "if False:",
        "test_loops",
    ),
    Mutant(
        "the next iteration begins anew",
        "execution/loops",
        "        state.taken_in[member] = 0\n",
        "",
        "test_loops",
    ),
    Mutant(
        "inner counters begin anew",
        "execution/loops",
        "            state.iterations[inner.index] = 1\n",
        "",
        "test_loops",
    ),
    Mutant(
        "an exit edge counts when its loop is left",
        "execution/loops",
        "        if edge.level == level and not edge.back:",
        "        if not edge.back:",
        "test_loops",
    ),
    Mutant(
        "an exit edge counts when the outermost loop it leaves is left",
        "execution/loops",
        "        if edge.level == loop.parent and not edge.back:",
        "        if not edge.back:",
        "test_loops",
    ),
    Mutant(
        "a loop runs as often as its bound says",
        "execution/state",
        "self.iterations[node.loops[-1]] > self.plan",
        "self.iterations[node.loops[-1]] >= self.plan",
        "test_loops",
    ),
    Mutant(
        "continue does not meet the limit of a loop",
        "execution/failure",
        'if swallowed or (chosen == "goto"',
        'if (chosen == "goto"',
        "test_loops",
    ),
    Mutant(
        "an error edge is taken on failure alone",
        "execution/failure",
        "        return error_edges(state, node)\n    return evaluated",
        "        return node.outgoing\n    return evaluated",
        "test_failure",
    ),
    Mutant(
        "continue takes the edges",
        "execution/failure",
        'return evaluated if chosen == "continue" else ()',
        "return ()",
        "test_failure",
    ),
    Mutant(
        "skip takes no edge",
        "execution/failure",
        'return evaluated if chosen == "continue" else ()',
        'return evaluated if chosen in ("continue", "skip") else ()',
        "test_failure",
        shared=False,  # the engine offers it none
    ),
    Mutant(
        "a failed execution cancels what is open",
        "execution/cancel",
        '        if step.unfinished or step.status == "pending":',
        '        if step.status == "pending":',
        "test_failure",
        shared=False,
    ),
    Mutant(
        "a lost worker uses up no attempt",
        "execution/fold",
        "        step.losses += 1\n",
        "        step.losses += 1\n        step.failures += 1\n",
        "test_failure",
        shared=False,
    ),
    Mutant(
        "what may run once is not repeated",
        "execution/retry",
        'node.effects == "once" or step.losses',
        "step.losses",
        "test_failure",
        shared=False,
    ),
    Mutant(
        "max_parallel holds back",
        "execution/release",
        "and state.unfinished - state.parked < limit",
        "and limit",
        "test_edges",
        shared=False,
    ),
    Mutant(
        "ready nodes start in canonical order",
        "execution/release",
        "heappush(state.ready, (node.rank, node.index, WHOLE))",
        "heappush(state.ready, (-node.rank, node.index, WHOLE))",
        "test_edges",
        shared=False,
    ),
    Mutant(
        "what is not fixed is folded in canonical order",
        "execution/views",
        "    placed.sort(key=itemgetter(0))\n",
        "",
        "test_views",
    ),
    Mutant(
        "a step sees its causal past alone",
        "execution/views",
        "            if past >> step.ordinal & 1:\n",
        "            if past:\n",
        "test_views",
    ),
    Mutant(
        "the later value is merged into the earlier one",
        "execution/views",
        "value = merge(rule, value, delta)",
        "value = merge(rule, delta, value)",
        "test_views",
    ),
    Mutant(
        "late results are never used",
        "execution/failure",
        "        and (step.attempt, step.generation) == (happening.attempt, happening.generation)\n",
        "",
        "test_cancel",
        shared=False,
    ),
    Mutant(
        "late results are paid for",
        "execution/cancel",
        "    if happening.calls:\n",
        "    if False:\n",
        "test_cancel",
        shared=False,
    ),
    Mutant(
        "a retry keeps finished results",
        "execution/fold",
        'if step.status in ("failed", "timed_out", "cancelled") and not step.met:',
        'if step.status != "skipped" and not step.met:',
        "test_generations",
        shared=False,
    ),
    Mutant(
        "a retry opens a new generation",
        "execution/fold",
        "        step.generation += 1\n",
        "",
        "test_generations",
        shared=False,
    ),
    Mutant(
        "items run as many at once as the node allows",
        "execution/mapping",
        " and items.open + items.held < limit",
        "",
        "test_mapping",
        shared=False,
    ),
    Mutant(
        "an early stop begins no further item",
        "execution/mapping",
        "while not items.stopped and ",
        "while ",
        "test_mapping",
        shared=False,
    ),
    Mutant(
        "goto at the bound of a loop leads out of it",
        "execution/failure",
        "and state.past_bound(node) and _stays(state, node)",
        "and False",
        "test_loops",
    ),
    Mutant(
        "the items of a failed map are cancelled",
        "execution/mapping",
        "        fail_step(turn, _broke(turn, around, error, taken))\n        return\n",
        "",
        "test_mapping",
        shared=False,
    ),
    Mutant(
        "an execution waits only when all that is open waits",
        "execution/decide",
        "idle and state.unfinished > 0 and state.unfinished == state.parked",
        "idle and state.parked > 0",
        "test_waiting",
        shared=False,
    ),
    Mutant(
        "back edges do not count for the join of an entry",
        "plan/topology",
        "return sum(1 for index in self.incoming[node] if not self.edges[index].back)",
        "return len(self.incoming[node])",
        "test_loops",
    ),
    Mutant(
        "only what leads nowhere else loses a race",
        "spec/graph",
        "                if not left[part]:\n",
        "                if True:\n",
        "test_joins",
        shared=False,
    ),
    Mutant(
        "a target of error edges alone waits for any of them",
        "plan/compile",
        'return "any", 1',
        'return "all", 1',
        "test_joins",
    ),
)
