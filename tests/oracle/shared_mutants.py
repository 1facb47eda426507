"""Deliberate breakages of what LangGraph can express: those of the core, and further ones for the oracle
alone."""

from __future__ import annotations

from tests.oracle.mutants import MUTANTS, Mutant

MORE = (
    Mutant(
        "iterations are numbered from one",
        "execution/state",
        "self.iterations = [1] * len(plan.loops)",
        "self.iterations = [2] * len(plan.loops)",
    ),
    Mutant(
        "a step key names the iteration of each loop around it",
        "execution/state",
        "tuple(self.iterations[loop] for loop in node.loops)",
        "tuple(self.iterations[loop] for loop in node.loops[-1:])",
    ),
    Mutant(
        "edges that are not taken are skipped with the others",
        "execution/loops",
        "        if edge.level == level and not edge.back:",
        "        if edge.level == level and not edge.back and index in chosen:",
    ),
    Mutant(
        "an error edge is skipped on success",
        "engine/choices",
        'if edge.kind == "always"',
        'if edge.kind in ("always", "error")',
    ),
    Mutant(
        "all waits for skipped edges too",
        "execution/joins",
        "    if state.unresolved[node.index]:\n",
        "    if state.unresolved[node.index] > 1:\n",
    ),
    Mutant(
        "any taken back edge leads back",
        "execution/loops",
        "if any(state.edges[index] == TAKEN for index in loop.back):",
        "if all(state.edges[index] == TAKEN for index in loop.back):",
    ),
    Mutant(
        "an exit edge has the resolution of the last iteration",
        "execution/loops",
        "            state.edges[index] = OPEN\n        if member",
        "            if state.edges[index] == TAKEN and index in loop.exits:\n"
        "                _arrive(state, state.plan.edges[index])\n"
        "            state.edges[index] = OPEN\n        if member",
    ),
    Mutant(
        "a loop inside counts as a part",
        "plan/topology",
        "parts=direct[index] + inner[index]",
        "parts=direct[index]",
    ),
    Mutant(
        "every edge of an iteration is waited for anew",
        "execution/loops",
        "        state.unresolved[member] = node.awaited\n",
        "",
    ),
    Mutant(
        "one iteration too many fails",
        "execution/release",
        '        _fail(turn, node, ev.ErrorInfo("IterationLimit", text))\n',
        "        _skip(turn, node)\n",
    ),
    Mutant(
        "skip at the limit leaves the loop",
        "execution/failure",
        'swallowed = chosen == "continue" and',
        'swallowed = chosen in ("continue", "skip") and',
    ),
    Mutant(
        "goto at the limit leaves the loop",
        "execution/failure",
        'swallowed = chosen == "continue" and',
        'swallowed = chosen in ("continue", "goto") and',
    ),
    Mutant(
        "skipped edges belong to the past of all",
        "execution/joins",
        "if not state.plan.edges[index].back)",
        "if not state.plan.edges[index].back and state.edges[index] == TAKEN)",
    ),
    Mutant(
        "a skipped step hands on its past",
        "execution/fold",
        '    resolve(state, _close(state, event, "skipped"), ())',
        '    step = _close(state, event, "skipped")\n    step.past = 0\n    resolve(state, step, ())',
    ),
    Mutant(
        "back edges that were not taken belong to the past too",
        "execution/loops",
        "past(state, loop.back)",
        "past(state, [index for index in loop.back if state.edges[index] == TAKEN])",
    ),
    Mutant(
        "a field begins with its default",
        "execution/views",
        "state.initial_state.get(name, field.default if field else None)",
        "state.initial_state.get(name)",
    ),
    Mutant(
        "the caller's state comes before the default",
        "execution/views",
        "return state.initial_state.get(name, field.default if field else None)",
        "return field.default if field else None",
    ),
    Mutant(
        "each field has its merge rule",
        "execution/views",
        'return field.merge if field is not None else "last"',
        'return "last"',
    ),
    Mutant(
        "the result of the last iteration is the one that counts",
        "execution/views",
        "    return {**(value or {}), **results}",
        "    return {**results, **(value or {})}",
    ),
    Mutant(
        "a view begins with the iteration before",
        "execution/views",
        "            if at < since:\n                break\n",
        "",
    ),
    Mutant(
        "errors of failed steps are kept",
        "execution/views",
        '        if step.error is not None and step.status in ("failed", "timed_out")',
        "        if False",
    ),
    Mutant(
        "failed steps are on the path",
        "execution/views",
        '        if step.status in ("completed", "failed", "timed_out")\n    ]\n    return merge',
        '        if step.status == "completed"\n    ]\n    return merge',
    ),
    Mutant(
        "failed steps have the result null",
        "execution/views",
        '        if step.status in ("completed", "failed", "timed_out")\n    }',
        '        if step.status == "completed"\n    }',
    ),
    Mutant(
        "tokens add up to those of the caller",
        "execution/views",
        "return int(value or 0) + tokens(steps)",
        "return tokens(steps)",
    ),
    Mutant(
        "the error in a view is that of a taken edge",
        "execution/joins",
        'if edge.kind == "error" and state.edges[edge.index] == TAKEN',
        'if edge.kind == "error"',
    ),
    Mutant(
        "the error in a view is the canonically first",
        "execution/joins",
        "return state.current(min(sources,",
        "return state.current(max(sources,",
    ),
    Mutant(
        "the entry of a loop sees the error that led back",
        "execution/joins",
        "        return state.sent_back[node.loops[-1]]",
        "        return None",
    ),
    Mutant(
        "iterations are before nodes in canonical order",
        "execution/state",
        "return (*(part for pair in pairs for part in pair), place[-1])",
        "return (place[-1], *(part for pair in pairs for part in pair))",
    ),
    Mutant(
        "the outer iteration is before the inner one",
        "execution/state",
        "        pairs = zip(place, step.iterations, strict=False)",
        "        pairs = zip(place[::-1][1:], step.iterations[::-1], strict=False)",
    ),
    Mutant(
        "the final state is folded in canonical order",
        "execution/views",
        "    steps = _steps(state, state.plan.order)\n    written",
        "    steps = sorted(all_steps(state), key=lambda step: step.ordinal)\n    written",
    ),
    Mutant(
        "fail ends the execution",
        "execution/failure",
        '    if chosen == "fail" and "[" not in happening.step:',
        "    if False:",
    ),
    Mutant(
        "skip skips the edges",
        "execution/failure",
        'return evaluated if chosen == "continue" else ()',
        'return evaluated if chosen == "continue" else node.outgoing',
    ),
    Mutant(
        "skip and continue record the error",
        "execution/fold",
        '    step = _close(state, event, "failed", event.counted)\n    step.error = event.error\n',
        '    step = _close(state, event, "failed", event.counted)\n',
    ),
    Mutant(
        "the policy of the settings holds for nodes without one",
        "plan/compile",
        'or settings.get("on_error") or "fail"',
        'or "fail"',
    ),
    Mutant(
        "a default goto does not hold for what follows its target",
        "spec/gotos",
        "found[name] is None and name not in exempt",
        "found[name] is None and name != target",
    ),
    Mutant(
        "a goto upstream is a back edge",
        "plan/topology",
        "back = level != OUTSIDE and entries[level] == edge.target",
        'back = level != OUTSIDE and entries[level] == edge.target and edge.kind != "error"',
    ),
    Mutant(
        "a router without a way out fails",
        "engine/choices",
        'if not taken and node.type == "router":',
        "if False:",
    ),
    Mutant(
        "a condition that fails fails its step",
        "engine/choices",
        '    return _condition(edge.condition or "", types).test(names)',
        '    try:\n        return _condition(edge.condition or "", types).test(names)\n'
        "    except Exception:\n        return False",
    ),
    Mutant(
        "else is taken when nothing else was",
        "engine/choices",
        'kinds = ("always",) if chosen else ("always", "else")',
        'kinds = ("always", "else")',
    ),
    *(
        Mutant(f"merge by {rule}", "spec/state", old, new)
        for rule, old, new in (
            ("last", '"last": lambda a, b: b', '"last": lambda a, b: a'),
            ("first", '"first": lambda a, b: a', '"first": lambda a, b: b'),
            ("sum", "lambda a, b: a + b", "lambda a, b: b"),
            (
                "concat",
                "return [*(a if isinstance(a, list) else [a]), *(b if isinstance(b, list) else [b])]",
                "return [*(b if isinstance(b, list) else [b]), *(a if isinstance(a, list) else [a])]",
            ),
            ("merge", "{**a, **b}", "{**b, **a}"),
            ("max", "_extreme(a, b, True)", "_extreme(a, b, False)"),
            ("min", "_extreme(a, b, False)", "_extreme(a, b, True)"),
        )
    ),
)

SHARED = (*(mutant for mutant in MUTANTS if mutant.shared), *MORE)
