"""The kill matrix in the report: which planted fault was caught by which claim.

The content comes from ``faults.json``, which ``python -m verify --faults`` writes into the folder of the report. Its
keys, as far as they are used here::

    faults       [{id, description, kind, outcome, reason,
                   claims: [{id, expected, found}],      those that must catch the fault
                   others: {claim: verdict}}]            those that flipped besides
    environment  {code, ...}

Over a hundred faults by over a hundred claims are no picture: there is one small matrix per experiment, with its own
claims and the faults that they must catch or caught besides. What was not caught comes before all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from verify.experiment import Experiment
from verify.page_style import SIGN, badge, typeset

COMMAND = "python -m verify --faults"
CAUGHT = "caught"


def to_html(content: object, known: Sequence[Experiment], environment: Mapping[str, Any]) -> str:
    """Render the kill matrix, or say how to make one.

    Parameters
    ----------
    content : object
        Content of ``faults.json``; None when there is none.
    known : sequence of Experiment
        All experiments there are.
    environment : mapping
        That of the report; faults planted in other code are no evidence on this.

    Returns
    -------
    str
    """
    if content is None:
        return (
            f"<p>No faults were planted. <code>{COMMAND}</code> plants every known one, checks that the claims meant "
            "to catch it do, and writes <code>faults.json</code>; the command of this report, given once more with the "
            "same <code>--out</code>, then shows here what was caught.</p>\n"
        )
    try:
        if isinstance(content, dict):
            return matrices(content, known, environment)
    except (KeyError, TypeError, AttributeError):
        pass  # not as it should be, which is said below
    return f"<p>faults.json is not as <code>{COMMAND}</code> writes it; run that command again.</p>\n"


def matrices(content: Mapping[str, Any], known: Sequence[Experiment], environment: Mapping[str, Any]) -> str:
    """Lay out summary, what went wrong, and a matrix per experiment; see `to_html`."""
    faults = content["faults"]
    counts = Counter[str](fault["outcome"] for fault in faults)
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts, key=CAUGHT.__ne__))
    if set(counts) == {CAUGHT}:
        outcomes = "all are caught by the verdicts foretold"
    text = (
        "<p>A check that nothing can fail proves nothing. So defects were planted on purpose, and each had to change "
        f"verdicts named beforehand. Of {len(faults)} planted faults, {escape(outcomes)}.</p>\n"
    )
    if content["environment"].get("code") != environment.get("code"):
        text += (
            f'<p class="why">These faults were planted in another version of the code '
            f"({escape(str(content['environment'].get('code')))}); run <code>{COMMAND}</code> again.</p>\n"
        )
    missed = [fault for fault in faults if fault["outcome"] != CAUGHT]
    if missed:
        items = "".join(
            f"<li><b>{escape(fault['id'])}</b> {escape(fault['outcome'])}: {typeset(fault['description'])} "
            f"{typeset(fault['reason'])}</li>\n"
            for fault in missed
        )
        text += f"<ul>\n{items}</ul>\n"
    flipped = {
        claim["id"] for fault in faults for claim in fault["claims"] if claim["found"] == claim["expected"] != "holds"
    }
    tables = [(experiment, matrix(experiment, faults)) for experiment in known]
    touched = (claim.id for experiment, table in tables if table for claim in experiment.claims)
    spared = [claim for claim in touched if claim not in flipped]
    if spared:
        text += f"<p>Claims that no fault was seen to flip: {escape(', '.join(spared))}.</p>\n"
    untouched = [experiment.title for experiment, table in tables if not table]
    if untouched:
        text += f"<p>Experiments that no fault was planted for: {escape('; '.join(untouched))}.</p>\n"
    text += (
        f'<p class="quiet">A row is a fault, a column a claim. {badge("fails")} and {badge("invalid")} are verdicts '
        'with the fault in; where one was foretold there is a <span class="due">&nbsp;frame&nbsp;</span>; an empty '
        "place is a verdict that did not change.</p>\n"
    )
    return text + "".join(table for _, table in tables)


def matrix(experiment: Experiment, faults: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the faults that touch one experiment, against its claims."""
    ids = [claim.id for claim in experiment.claims]
    rows = []
    for fault in faults:
        due = {claim["id"]: claim for claim in fault["claims"] if claim["id"] in ids}
        others = {claim: verdict for claim, verdict in fault["others"].items() if claim in ids}
        if due or others:
            cells = "".join(cell(due.get(claim), others.get(claim)) for claim in ids)
            rows.append(
                f'<tr><th scope="row"><p>{typeset(fault["description"])}</p><p class="quiet">{escape(fault["id"])} '
                f"&middot; {escape(fault['kind'])} &middot; {escape(fault['outcome'])}</p></th>{cells}</tr>\n"
            )
    if not rows:
        return ""
    parts = (identity.partition(".")[2] or identity for identity in ids)
    head = "".join(f'<th scope="col"><span>{escape(part)}</span></th>' for part in parts)
    return (
        f'<h3 id="faults-{escape(experiment.name)}">{escape(experiment.title)}</h3>\n<div class="scroll">\n'
        f'<table class="matrix">\n<thead><tr><th scope="col">planted fault</th>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>\n"
    )


def cell(due: Mapping[str, Any] | None, other: str | None) -> str:
    """Show one verdict as a sign, with its words for those who cannot see signs."""
    if due is None:
        return "<td></td>" if other is None else f'<td class="{other}">{sign(other, other)}</td>'
    words = due["found"] if due["found"] == due["expected"] else f"{due['found']} instead of {due['expected']}"
    return f'<td class="due {due["found"]}">{sign(due["found"], words)}</td>'


def sign(verdict: str, words: str) -> str:
    """Show a verdict's sign, and its words only to a screen reader."""
    return f'<span aria-hidden="true">{SIGN[verdict]}</span><span class="hidden">{escape(words)}</span>'
