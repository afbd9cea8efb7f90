"""Presents a run: ``results.json`` for programs, a table for the terminal. The page for people is `verify.page`.

All three are pure functions of a `verify.run.Run`, that is, of stored cells and what was decided from them.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from verify.experiment import Claim, Experiment, Finding
from verify.run import VERDICTS, Decision, Run

MEANING = {
    "holds": "the interval lies inside the margin",
    "fails": "the interval lies outside the margin",
    "undecided": "the interval lies partly inside, partly outside: more evidence is needed",
    "invalid": "the evidence is no evidence, for the reason given",
}
TERMINAL_COLOUR = {"holds": "32", "fails": "31", "undecided": "33", "invalid": "35"}


def pairs(run: Run) -> Iterator[tuple[Decision, Claim, Finding]]:
    """List every claim of a run with its finding, in order.

    Parameters
    ----------
    run : Run
        What was found.

    Yields
    ------
    tuple of Decision, Claim, Finding
    """
    for decision in run.decisions:
        for claim, finding in zip(decision.claims, decision.findings, strict=True):
            yield decision, claim, finding


def succeeded(run: Run) -> bool:
    """Tell whether no claim fails or is invalid."""
    return all(finding.verdict in ("holds", "undecided") for _, _, finding in pairs(run))


def summary(run: Run) -> str:
    """Count the verdicts in one sentence.

    Parameters
    ----------
    run : Run
        What was found.

    Returns
    -------
    str
        For instance ``"Of 12 claims, 10 hold, 1 fails, 1 is undecided."``
    """
    counts = Counter[str](finding.verdict for _, _, finding in pairs(run))
    total = counts.total()
    return f"Of {total} claim{'' if total == 1 else 's'}, {tally(counts) or 'none was decided'}."


def tally(counts: Mapping[str, int]) -> str:
    """Put numbers of verdicts in words.

    Parameters
    ----------
    counts : mapping of str to int
        Verdict to number of claims.

    Returns
    -------
    str
        Empty when all numbers are 0.

    Examples
    --------
    >>> tally({"holds": 10, "fails": 1, "undecided": 0})
    '10 hold, 1 fails'
    """
    plural = {"holds": "hold", "fails": "fail", "undecided": "are undecided", "invalid": "are invalid"}
    singular = {"holds": "holds", "fails": "fails", "undecided": "is undecided", "invalid": "is invalid"}
    return ", ".join(
        f"{counts[verdict]} {(singular if counts[verdict] == 1 else plural)[verdict]}"
        for verdict in VERDICTS
        if counts.get(verdict)
    )


def number(value: float | None, *, open_end: str = "-") -> str:
    """Write a measured number with four digits.

    Parameters
    ----------
    value : float or None
        The number.
    open_end : str
        What to write for None.

    Returns
    -------
    str

    Examples
    --------
    >>> number(0.75374), number(123456.0), number(None, open_end="inf")
    ('0.7537', '1.235e+05', 'inf')
    """
    return open_end if value is None else f"{value:.4g}"


def interval(finding: Finding) -> str:
    """Write a finding's interval, or nothing when it has none."""
    if finding.interval is None:
        return ""
    low, high = finding.interval
    return f"[{number(low, open_end='-inf')}, {number(high, open_end='inf')}]"


# ---- for programs --------------------------------------------------------------------------------


def to_json(run: Run, *, date: str | None = None) -> str:
    """Write ``results.json``: all claims with their findings, and the environment.

    Parameters
    ----------
    run : Run
        What was found.
    date : str, optional
        When, for the environment.

    Returns
    -------
    str
        Strict JSON: a number that is not finite is an error, an open end is null.
    """
    claims = [
        {
            "id": claim.id,
            "statement": claim.statement,
            "source": claim.source,
            "verdict": finding.verdict,
            "estimate": finding.estimate,
            "interval": None if finding.interval is None else list(finding.interval),
            "margin": finding.margin,
            "domain": finding.domain,
            # Claims of one experiment share its cells; each carries its share of the time, so that the sum is right.
            "seconds": round(decision.seconds / len(decision.claims), 3),
            "reason": finding.reason,
        }
        for decision, claim, finding in pairs(run)
    ]
    environment = run.environment if date is None else {**run.environment, "date": date}
    return json.dumps({"claims": claims, "environment": environment}, indent=2, allow_nan=False) + "\n"


# ---- for the terminal ----------------------------------------------------------------------------


def to_text(run: Run, *, width: int = 100, colour: bool = False) -> str:
    """Write the verdict table for a terminal: verdict, claim, estimate, interval, margin; statement below.

    Parameters
    ----------
    run : Run
        What was found.
    width : int
        Columns to fill.
    colour : bool
        Whether the terminal shows colours.

    Returns
    -------
    str
        Ends with the count of verdicts.
    """
    claims = [claim.id for _, claim, _ in pairs(run)]
    widest = max(map(len, claims), default=0)
    lines: list[str] = []
    for _, claim, finding in pairs(run):
        verdict = f"{finding.verdict:<9}"
        if colour:
            verdict = f"\x1b[1;{TERMINAL_COLOUR[finding.verdict]}m{verdict}\x1b[0m"
        measured = f"{number(finding.estimate)} {interval(finding)}".strip()
        margin = f"margin: {finding.margin}" if finding.margin else ""
        line = f"{verdict}  {claim.id:<{widest}}  {measured}".rstrip()
        if 14 + widest + len(measured) + len(margin) <= width:
            lines.append(f"{line}   {margin}".rstrip())
        else:
            lines += [line, *paragraph(margin, width)]
        lines += paragraph(claim.statement, width)
        found = finding.reason if finding.verdict == "holds" else f"Why: {finding.reason}"
        domain = finding.domain and f"Domain: {finding.domain}"
        lines += [line for text in (found, domain) for line in paragraph(text, width)]
    return "\n".join([*lines, "", summary(run)])


def paragraph(text: str, width: int) -> list[str]:
    """Wrap a text below a verdict, indented to the claim's column."""
    return textwrap.wrap(
        text, max(width, 40), initial_indent=" " * 11, subsequent_indent=" " * 11, break_on_hyphens=False
    )


def list_claims(experiments: Sequence[Experiment], *, width: int = 100) -> str:
    """Write all claims with their statements and sources.

    Parameters
    ----------
    experiments : sequence of Experiment
        Whose claims.
    width : int
        Columns to fill.

    Returns
    -------
    str
    """
    lines: list[str] = []
    for experiment in experiments:
        lines += [f"{experiment.name}: {experiment.title}"]
        for claim in experiment.claims:
            lines += [f"  {claim.id}", *paragraph(f"{claim.statement} Source: {claim.source}.", width)]
    return "\n".join(lines)
