"""Presents a run: ``results.json`` for programs, a table for the terminal, a page for people.

All three are pure functions of a `verify.run.Run`, that is, of stored cells and what was decided from them.
The page is one HTML file without scripts or anything from elsewhere; it carries no date, so that rendering it
twice gives the same bytes. It follows the reader's choice of light or dark, prints, and fits a phone.
Verdicts are told apart by word and sign, colour only helps.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from verify import answers, plots
from verify.experiment import Claim, Experiment, Finding
from verify.run import VERDICTS, Decision, Run

MEANING = {
    "holds": "the interval lies inside the margin",
    "fails": "the interval lies outside the margin",
    "undecided": "the interval lies partly inside, partly outside: more evidence is needed",
    "invalid": "the evidence is no evidence, for the reason given",
}
SIGN = {"holds": "&#10003;", "fails": "&#10007;", "undecided": "?", "invalid": "!"}
TERMINAL_COLOUR = {"holds": "32", "fails": "31", "undecided": "33", "invalid": "35"}

NOT_TESTED = (
    "Widths, numbers of data points and dimensions beyond those in a claim's domain. An exponent that holds "
    "up to the largest width says nothing certain beyond it; limits are theory and are labelled so.",
    "Laws of the data other than those in the domains. Real data are often worse: --data runs yours.",
    "Networks with more than four layers, and many layers on data that are not random.",
    "Single precision, graphics processors, several BLAS threads, and compiled opponents.",
    "Generalization: whether a network trained so predicts well on unseen points.",
    "Routes that the theory needs but no one can run: widths as large as its worst-case bounds.",
)


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
    plural = {"holds": "hold", "fails": "fail", "undecided": "are undecided", "invalid": "are invalid"}
    singular = {"holds": "holds", "fails": "fails", "undecided": "is undecided", "invalid": "is invalid"}
    parts = [
        f"{counts[verdict]} {(singular if counts[verdict] == 1 else plural)[verdict]}"
        for verdict in VERDICTS
        if counts[verdict]
    ]
    return f"Of {total} claim{'' if total == 1 else 's'}, {', '.join(parts) or 'none was decided'}."


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


# ---- for people ----------------------------------------------------------------------------------

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f5f6f8; --ink: #1b1f24; --muted: #6b727b;
  --grid: #d9dde2; --series-1: #0868ac; --series-2: #c44e00; --series-3: #00846b; --series-4: #a8457f;
  --series-5: #8a6d00; --series-6: #3d8fc4; --holds: #0b6e3a; --fails: #b3261e; --undecided: #8a5a00;
  --invalid: #7b2d8b; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14171b; --panel: #1d2126; --ink: #e6e8eb;
  --muted: #9aa1aa; --grid: #343a42; --series-1: #5eb1ec; --series-2: #f58f4c; --series-3: #3ec9a7;
  --series-4: #e58cc0; --series-5: #d8b93e; --series-6: #9bd0f0; --holds: #5fd391; --fails: #ff8a80;
  --undecided: #f0b955; --invalid: #d9a0e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; }
a { color: var(--series-1); } code, pre { font-family: ui-monospace, monospace; font-size: .875em; }
pre { background: var(--panel); padding: .75rem; overflow-x: auto; }
.summary { font-size: 1.2rem; } .quiet { color: var(--muted); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .5rem .6rem .5rem 0;
  border-bottom: 1px solid var(--grid); }
td.figure { font-variant-numeric: tabular-nums; } td p { margin: 0; } td:nth-child(2) { width: 50%; }
td:nth-child(4) { white-space: nowrap; }
.verdict { font-weight: 700; white-space: nowrap; } .holds { color: var(--holds); }
.fails { color: var(--fails); } .undecided { color: var(--undecided); } .invalid { color: var(--invalid); }
figure { margin: 1rem 0; overflow-x: auto; }
svg { width: 100%; min-width: 30rem; height: auto; display: block; }
svg text { font-family: inherit !important; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
article { border-left: 3px solid var(--grid); padding-left: .9rem; margin: 1.2rem 0; }
article p { margin: .2rem 0; }
@media (max-width: 40rem) { thead { position: absolute; left: -100vw; }
  table, tbody, tr, td { display: block; }
  tr { border-bottom: 1px solid var(--grid); padding: .6rem 0; } td { border: 0; padding: .1rem 0; }
  td:nth-child(2) { width: auto; } td:empty { display: none; }
  td:nth-child(4) { white-space: normal; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
  dl { grid-template-columns: minmax(0, 1fr); } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } section { break-inside: avoid-page; }
  tr, article, figure { break-inside: avoid; } svg { min-width: 0; } nav { display: none; } }
"""


def to_html(run: Run, *, known: Sequence[Experiment] = ()) -> str:
    """Render the report.

    Parameters
    ----------
    run : Run
        What was found.
    known : sequence of Experiment
        All experiments there are; claims that this run left out are listed as not tested.

    Returns
    -------
    str
        One HTML page.
    """
    sections = "".join(section(decision) for decision in run.decisions)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Verdicts on sublinear Gauss-Newton training</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        "<header>\n<h1>Training very wide networks below the cost of touching every parameter: "
        "what holds</h1>\n"
        f'<p class="summary">{escape(summary(run))}</p>\n{legend()}</header>\n<main>\n'
        f"{table(run)}{answers.to_html(run, badge, evidence)}"
        f"{sections}{not_tested(run, known)}{environment(run)}</main>\n</body>\n</html>\n"
    )


def badge(verdict: str) -> str:
    """Show a verdict as sign and word."""
    return f'<span class="verdict {verdict}"><span aria-hidden="true">{SIGN[verdict]}</span> {verdict}</span>'


def legend() -> str:
    """Explain the four verdicts."""
    meanings = "; ".join(f"{badge(verdict)}: {escape(MEANING[verdict])}" for verdict in VERDICTS)
    return f'<p class="quiet">{meanings}.</p>\n'


def table(run: Run) -> str:
    """Lay out the verdict table."""
    rows = "".join(
        f'<tr><td>{badge(finding.verdict)}</td><td><p>{escape(claim.statement)}</p><p class="quiet">'
        f'<a href="#{escape(decision.name)}">{escape(claim.id)}</a> &middot; {escape(claim.source)}</p>'
        f'<p class="quiet">{escape(finding.reason)}</p></td>'
        f'<td class="figure" data-label="measured">{escape(number(finding.estimate))}</td>'
        f'<td class="figure" data-label="interval">{escape(interval(finding))}</td>'
        f'<td class="figure" data-label="margin">{escape(finding.margin)}</td></tr>\n'
        for decision, claim, finding in pairs(run)
    )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("verdict", "claim", "measured", "interval", "margin")
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def section(decision: Decision) -> str:
    """Lay out one experiment: plot, evidence, domain of each claim."""
    title = escape(decision.title)
    # Most experiments have one domain for all their claims; it is said once then.
    domains = {finding.domain for finding in decision.findings} - {""}
    shared = domain(domains.pop()) if len(domains) == 1 else ""
    articles = "".join(
        f"<article><p>{badge(finding.verdict)} <code>{escape(claim.id)}</code> {escape(claim.statement)}</p>"
        f"<p>{escape(evidence(finding))}</p>{'' if shared else domain(finding.domain)}</article>\n"
        for claim, finding in zip(decision.claims, decision.findings, strict=True)
    )
    text = f"<pre>{escape(decision.text)}</pre>\n" if decision.text else ""
    plural = "" if decision.cells == 1 else "s"
    cost = f"{decision.cells} cell{plural}, {decision.seconds:.1f} s of measurement"
    return (
        f'<section id="{escape(decision.name)}">\n<h2>{title}</h2>\n{figure(decision)}{text}'
        f'{articles}{shared}<p class="quiet">{cost}.</p>\n</section>\n'
    )


def domain(sizes: str) -> str:
    """Say where the verdict speaks."""
    return f'<p class="quiet">Domain: {escape(sizes)}</p>\n' if sizes else ""


def evidence(finding: Finding) -> str:
    """Put effect, interval, margin and reason in one sentence after the other."""
    reason = finding.reason[:1].upper() + finding.reason[1:]
    if finding.estimate is None:
        return reason
    measured = f"Measured {number(finding.estimate)} {interval(finding)}".strip()
    margin = f", margin {finding.margin}" if finding.margin else ""
    return f"{measured}{margin}. {reason}"


def figure(decision: Decision) -> str:
    """Draw an experiment's plot; one that cannot be drawn is a sentence, not the end of the report."""
    if decision.draw is None:
        return ""
    try:
        svg = plots.render(decision.draw, decision.name, f"Plot of the evidence: {decision.title}")
    except Exception as error:
        words = escape(f"{type(error).__name__}: {error}")
        return f'<p class="quiet">The plot could not be drawn ({words}).</p>\n'
    return f"<figure>\n{svg}\n</figure>\n"


def not_tested(run: Run, known: Sequence[Experiment]) -> str:
    """List what the verdicts do not speak about."""
    tested = {claim.id for _, claim, _ in pairs(run)}
    left_out = [claim.id for experiment in known for claim in experiment.claims if claim.id not in tested]
    items = list(NOT_TESTED)
    if left_out:
        items.insert(0, f"Claims left out of this run: {', '.join(left_out)}.")
    if run.environment.get("profile") == "default":
        items.append("Larger sizes and more seeds: this was the default profile; --thorough measures more.")
    listed = "".join(f"<li>{escape(item)}</li>\n" for item in items)
    return f'<section id="not-tested">\n<h2>What was not tested</h2>\n<ul>\n{listed}</ul>\n</section>\n'


def environment(run: Run) -> str:
    """List machine, libraries and code."""
    rows = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>\n"
        for name, value in run.environment.items()
        if value is not None
    )
    return f'<section id="environment">\n<h2>Environment</h2>\n<dl>\n{rows}</dl>\n</section>\n'
