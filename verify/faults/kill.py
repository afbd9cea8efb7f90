"""The kill matrix: every planted fault is measured like the project's own code, and the verdicts must show it.

A check that nothing can fail proves nothing. So each fault goes through the same cells, the same random numbers, the
same runner and the same decisions as the true code, and is judged by the verdicts alone::

    caught         every claim that must catch it gives exactly the verdict foretold
    survives       one of them holds or is undecided: such a defect would get through
    by accident    something else stopped it: a cell raised, the verdict is of another kind, or the claim does not hold
                   for the true code in the first place, so that its verdict shows nothing

The true code is the first row. A fault of the harness that leaves the measurement alone is decided from its cells; all
other faults have cells of their own, which carry the fault's id and can never pass for the true code's.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from verify import environment, run
from verify.cells import Measured
from verify.experiment import CodeUnderTest, Experiment, Finding, Profile, Verdict
from verify.faults.fault import Fault

Outcome = Literal["caught", "survives", "by accident"]
OUTCOMES: tuple[Outcome, ...] = ("caught", "survives", "by accident")
FLIPPED: tuple[Verdict, ...] = ("fails", "invalid")


@dataclass(frozen=True)
class Catch:
    """What a claim that must catch a fault says.

    Parameters
    ----------
    claim : str
        Its id.
    expected, found : Verdict
        The verdict foretold; the verdict given.
    true_code : Verdict
        The verdict on the true code, from the same cells as the fault's.
    reason : str
        Why the verdict.
    """

    claim: str
    expected: Verdict
    found: Verdict
    true_code: Verdict
    reason: str


@dataclass(frozen=True)
class Row:
    """One fault with all verdicts on it.

    Parameters
    ----------
    fault : Fault
        The fault.
    outcome : Outcome
        See the module docstring.
    reason : str
        Why it is not "caught"; empty when it is.
    catches : tuple of Catch
        The claims that must catch it.
    others : dict of str to Verdict
        Further claims of the same experiments that fail or are invalid on it, and hold on the true code.
    seconds : float
        Time to measure its cells, summed; cells of the true code count as well where it has none of its own.
    cells : int
        How many.
    """

    fault: Fault
    outcome: Outcome
    reason: str
    catches: tuple[Catch, ...]
    others: Mapping[str, Verdict]
    seconds: float
    cells: int


@dataclass(frozen=True)
class Matrix:
    """All faults, the true code, and how the cells came about.

    Parameters
    ----------
    rows : tuple of Row
        In the order of the faults.
    true_code : tuple of Finding
        On the true code, of every claim that must catch something.
    environment : dict
        Machine, libraries, code, seed and profile.
    measured, reused : int
        Cells measured in this run; cells read back from an earlier one.
    corrupt : tuple of str
        One sentence for each stored cell that did not check out (and was measured again).
    """

    rows: tuple[Row, ...]
    true_code: tuple[Finding, ...]
    environment: dict[str, Any]
    measured: int
    reused: int
    corrupt: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether there are faults and all are caught."""
        return bool(self.rows) and all(row.outcome == "caught" for row in self.rows)


def chosen(faults: Sequence[Fault], claims: Sequence[str]) -> list[Fault]:
    """Reduce faults to those that one of the claims must catch, and what they expect to those claims.

    Parameters
    ----------
    faults : sequence of Fault
        All there are.
    claims : sequence of str
        Ids of the claims that are asked for.

    Returns
    -------
    list of Fault
    """
    narrowed = [
        replace(fault, caught_by={claim: verdict for claim, verdict in fault.caught_by.items() if claim in claims})
        for fault in faults
    ]
    return [fault for fault in narrowed if fault.caught_by]


def kill(
    experiments: Sequence[Experiment],
    faults: Sequence[Fault],
    *,
    profile: Profile | None = None,
    seed: int = 0,
    out: Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    about_executor: Mapping[str, Any] | None = None,
    stream: TextIO | None = None,
) -> Matrix:
    """Measure the true code and every fault, and compare the verdicts with those foretold.

    Parameters
    ----------
    experiments : sequence of Experiment
        All that the faults name, with names that differ.
    faults : sequence of Fault
        With ids that differ.
    profile, seed, out, jobs, executor, about_executor, stream
        As for `verify.run.run`. Cells are stored below ``out``, so that a run that was killed goes on from there.

    Returns
    -------
    Matrix

    Raises
    ------
    InputError
        Negative seed or jobs; two experiments of one name.
    Interrupted
        ``KeyboardInterrupt`` while measuring.
    """
    profile = Profile() if profile is None else profile
    run.check_arguments(experiments, seed, jobs)
    described = environment.describe() | dict(about_executor or {})
    stamp = environment.stamp(described)
    by_name = {experiment.name: experiment for experiment in experiments}
    needed = [name for name in by_name if any(name in fault.experiments for fault in faults)]
    true_plans = {
        name: run.plan(by_name[name], profile, seed, stamp, code=CodeUnderTest()) for name in needed
    }
    plans = {
        fault.id: [fault_plan(fault, by_name[name], profile, seed, stamp) for name in fault.experiments]
        for fault in faults
    }
    every = [*true_plans.values(), *(each for of_fault in plans.values() for each in of_fault)]
    sweep = run.measure_plans(every, described, out=out, jobs=jobs, executor=executor, stream=stream)
    asked = {claim for fault in faults for claim in fault.caught_by}
    findings = (finding for each in true_plans.values() for finding in run.decide(each, sweep.outcomes).findings)
    return Matrix(
        rows=tuple(judge(fault, plans[fault.id], true_plans, sweep.outcomes) for fault in faults),
        true_code=tuple(finding for finding in findings if finding.claim in asked),
        environment=described | {"seed": seed, "profile": "thorough" if profile.thorough else "default"},
        measured=sweep.total - sweep.reused,
        reused=sweep.reused,
        corrupt=tuple(sweep.corrupt),
    )


def fault_plan(fault: Fault, experiment: Experiment, profile: Profile, seed: int, stamp: str) -> run.Plan:
    """Plan an experiment with a fault in it.

    Parameters
    ----------
    fault : Fault
        What to plant.
    experiment : Experiment
        Where.
    profile, seed, stamp
        As for `verify.run.plan`.

    Returns
    -------
    Plan
        With cells of the true code where the fault leaves the measurement alone.
    """
    code, altered = fault.code, experiment
    try:
        if fault.alter is not None:
            # Its name is part of the random numbers, and its claims are what is asked.
            altered = replace(fault.alter(experiment), name=experiment.name, claims=experiment.claims)
    except Exception as error:
        return run.Plan(experiment, (), code, f"the fault could not be planted: {run.in_words(error)}", broken=True)
    measures_alike = code == CodeUnderTest() and altered.measure is experiment.measure
    planned = run.plan(altered, profile, seed, stamp, code=code, fault="" if measures_alike else fault.id)
    return narrowed(planned, fault)


def narrowed(planned: run.Plan, fault: Fault) -> run.Plan:
    """Keep the cells that the fault asks for."""
    if fault.only is None:
        return planned
    return replace(planned, cells=tuple(cell for cell in planned.cells if fault.only(cell.inputs)))


def judge(
    fault: Fault,
    plans: Sequence[run.Plan],
    true_plans: Mapping[str, run.Plan],
    outcomes: dict[str, Measured | str],
) -> Row:
    """Compare all verdicts on a fault with those foretold and with those on the true code.

    Parameters
    ----------
    fault : Fault
        The fault.
    plans : sequence of Plan
        Its experiments.
    true_plans : mapping of str to Plan
        By name of the experiment: the true code.
    outcomes : dict
        By name of the cell.

    Returns
    -------
    Row
    """
    decisions = [run.decide(each, outcomes) for each in plans]
    found = {finding.claim: finding for decision in decisions for finding in decision.findings}
    true_code = {
        finding.claim: finding.verdict
        for decision in decisions
        for finding in run.decide(narrowed(true_plans[decision.name], fault), outcomes).findings
    }
    # On all of its cells a claim must hold for the true code; on a part of them it may be undecided.
    whole = {
        finding.claim: finding.verdict
        for decision in decisions
        for finding in run.decide(true_plans[decision.name], outcomes).findings
    }
    catches = tuple(
        Catch(claim, expected, found[claim].verdict, true_code[claim], found[claim].reason)
        for claim, expected in fault.caught_by.items()
    )
    outcome, reason = sentence(decisions, catches, whole)
    others = {
        claim: finding.verdict
        for claim, finding in found.items()
        if claim not in fault.caught_by and finding.verdict in FLIPPED and true_code[claim] == "holds"
    }
    if any(decision.broken for decision in decisions):
        others = {}  # what raised decided them too
    seconds = sum(decision.seconds for decision in decisions)
    return Row(fault, outcome, reason, catches, others, seconds, sum(decision.cells for decision in decisions))


def sentence(
    decisions: Sequence[run.Decision], catches: Sequence[Catch], whole: Mapping[str, Verdict]
) -> tuple[Outcome, str]:
    """Pass sentence on a fault.

    Parameters
    ----------
    decisions : sequence of Decision
        Those on the fault.
    catches : sequence of Catch
        What the claims that must catch it say.
    whole : mapping of str to Verdict
        By id of the claim: the verdict on the true code from all cells.

    Returns
    -------
    outcome : Outcome
    reason : str
        Empty when the fault is caught.
    """
    for decision in decisions:
        if decision.broken:
            return "by accident", decision.findings[0].reason
    for catch in catches:
        if whole[catch.claim] != "holds" or catch.true_code in FLIPPED:
            found = whole[catch.claim] if whole[catch.claim] != "holds" else f"{catch.true_code} on these cells"
            return "by accident", f"for the true code {catch.claim} is {found}, so it can show nothing"
    for catch in catches:
        if catch.found in ("holds", "undecided"):
            return "survives", f"{catch.claim} must be {catch.expected}, and is {catch.found}: {catch.reason}"
    for catch in catches:
        if catch.found != catch.expected:
            return "by accident", f"{catch.claim} must be {catch.expected}, and is {catch.found}: {catch.reason}"
    return "caught", ""


# ---- presentation --------------------------------------------------------------------------------


def summary(matrix: Matrix) -> str:
    """Count the outcomes in one sentence.

    Parameters
    ----------
    matrix : Matrix
        What was found.

    Returns
    -------
    str
        For instance ``"Of 40 planted faults, 39 caught, 1 survives."``
    """
    counts = Counter[str](row.outcome for row in matrix.rows)
    parts = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    total = len(matrix.rows)
    return f"Of {total} planted fault{'' if total == 1 else 's'}, {', '.join(parts) or 'none was tried'}."


def to_text(matrix: Matrix, *, width: int = 100) -> str:
    """Write the matrix for a terminal: the true code, then a fault a block with the claims that catch it.

    Parameters
    ----------
    matrix : Matrix
        What was found.
    width : int
        Columns to fill.

    Returns
    -------
    str
        Ends with the count of outcomes.
    """
    holds = [finding.claim for finding in matrix.true_code if finding.verdict == "holds"]
    lines = [f"{'true code':<11}  {len(holds)} of {len(matrix.true_code)} claims hold"]
    for finding in matrix.true_code:
        if finding.verdict != "holds":
            lines += indented(f"{finding.claim} is {finding.verdict}: {finding.reason}", width)
    for row in matrix.rows:
        lines.append(f"{row.outcome:<11}  {row.fault.id} ({row.fault.kind})")
        lines += indented(row.fault.description, width)
        verdicts = ", ".join(f"{catch.claim} {catch.found}" for catch in row.catches)
        lines += indented(f"Verdicts: {verdicts}", width)
        others = ", ".join(f"{claim} {verdict}" for claim, verdict in row.others.items())
        lines += indented(others and f"Also: {others}", width)
        lines += indented(row.reason and f"Why: {row.reason}", width)
    return "\n".join([*lines, "", summary(matrix)])


def indented(text: str, width: int) -> list[str]:
    """Wrap a text below a fault's id."""
    margin = " " * 13
    return textwrap.wrap(
        text, max(width, 40), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )


def list_faults(faults: Sequence[Fault], *, width: int = 100) -> str:
    """Write all faults with what they are and the claims that must catch them.

    Parameters
    ----------
    faults : sequence of Fault
        Which.
    width : int
        Columns to fill.

    Returns
    -------
    str
    """
    lines: list[str] = []
    for fault in faults:
        expected = ", ".join(f"{claim} ({verdict})" for claim, verdict in fault.caught_by.items())
        lines += [f"{fault.id} ({fault.kind})", *indented(f"{fault.description} Caught by {expected}.", width)]
    return "\n".join(lines)


def to_json(matrix: Matrix, *, date: str | None = None) -> str:
    """Write ``faults.json``.

    Its keys::

        summary      outcome -> number of faults
        true_code    [{claim, verdict, reason}]                     every claim that must catch something
        faults       [{id, description, kind, outcome, reason, seconds, cells,
                       claims: [{id, expected, found, true_code, reason}],   those that must catch it
                       others: {claim: verdict}}]                            those that flipped besides
        environment  machine, libraries, code, seed, profile, date

    ``found`` is the verdict with the fault in, ``true_code`` the one without, both from the same cells.

    Parameters
    ----------
    matrix : Matrix
        What was found.
    date : str, optional
        When, for the environment.

    Returns
    -------
    str
        Strict JSON.
    """
    content = {
        "summary": {outcome: sum(row.outcome == outcome for row in matrix.rows) for outcome in OUTCOMES},
        "true_code": [
            {"claim": finding.claim, "verdict": finding.verdict, "reason": finding.reason}
            for finding in matrix.true_code
        ],
        "faults": [
            {
                "id": row.fault.id,
                "description": row.fault.description,
                "kind": row.fault.kind,
                "outcome": row.outcome,
                "reason": row.reason,
                "seconds": round(row.seconds, 3),
                "cells": row.cells,
                "claims": [
                    {
                        "id": catch.claim,
                        "expected": catch.expected,
                        "found": catch.found,
                        "true_code": catch.true_code,
                        "reason": catch.reason,
                    }
                    for catch in row.catches
                ],
                "others": dict(row.others),
            }
            for row in matrix.rows
        ],
        "environment": matrix.environment if date is None else {**matrix.environment, "date": date},
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
