"""The report for people: one HTML page, rendered from stored cells and what was decided from them.

The page needs no script and nothing from elsewhere. It carries no date and does not say which cells this run
measured and which it read back, so that rendering it again gives the same bytes. It follows the reader's choice of
light or dark, prints, and fits a phone: there the rows of tables become blocks, and what is wider than the screen
scrolls in its own box. Verdicts are told apart by word and sign; colour only helps.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from html import escape

from verify import answers, forest_figure, page_faults, plots
from verify.experiment import Claim, Experiment, Finding
from verify.page_style import CSS, badge, typeset
from verify.report import MEANING, interval, number, pairs, summary, tally
from verify.run import VERDICTS, Decision, Run, workforce

TITLE = "Training very wide networks below the cost of touching every parameter: what holds"
LEAD = (
    "Two theory papers, [A] (arXiv 2208.04508, two layers) and [B] (arXiv 2112.07628, many layers), say that very "
    "wide networks can be trained by Gauss-Newton at a cost per iteration far below their number of parameters. Each "
    "claim on this page is a sentence that can be true or false. It was measured on independent seeds, the "
    "measurement got an interval, and the interval was compared with a margin fixed beforehand. A claim that holds is "
    "true as printed; some say what the method cannot do. Where the source is given as ours, the papers do not say it."
)

ILLUSTRATIONS = {"search": (forest_figure.draw, forest_figure.CAPTION)}
"""Name of an experiment to a picture of what it is about, drawn without its cells, and the caption."""

NEED = ("fails", "invalid", "undecided", "holds")
"""The verdicts, in the order in which a reader needs them."""
ALL_HOLD = NEED.index("holds")
WORTH_A_WORKER = 8
"""It takes about as long to start a process as to draw this many plots."""

NOT_TESTED = (
    "Widths, numbers of data points and dimensions beyond those in a claim's domain. An exponent that holds "
    "up to the largest width says nothing certain beyond it; limits are theory and are labelled so.",
    "Laws of the data other than those in the domains. Real data are often worse: --data runs yours.",
    "Networks with more than four layers, and many layers on data that are not random.",
    "Single precision, graphics processors, several BLAS threads, and compiled opponents.",
    "Generalization, beyond a comparison with kernel regression on unseen digits.",
    "Routes that the theory needs but no one can run: widths as large as its worst-case bounds.",
)


def to_html(run: Run, *, known: Sequence[Experiment] = (), faults: object = None, jobs: int = 0) -> str:
    """Render the report.

    Parameters
    ----------
    run : Run
        What was found.
    known : sequence of Experiment
        All experiments there are; claims that this run left out are listed as not tested.
    faults : object, optional
        Content of ``faults.json``; see `verify.page_faults`.
    jobs : int
        Worker processes to draw many figures; 0 draws them in this process.

    Returns
    -------
    str
        One HTML page.
    """
    figures = draw_all(run.decisions, jobs)
    answered = answers.to_html(run)
    # A further part is one line here: its name in links, its heading, its HTML.
    parts = (
        ("verdicts", "Verdicts", verdict_table(run)),
        *((("questions", answers.TITLE, answered),) if answered else ()),
        ("evidence", "Evidence", "".join(map(partial(evidence, run), run.decisions, figures))),
        ("faults", "Planted faults", page_faults.to_html(faults, known, run.environment)),
        ("not-tested", "What was not tested", not_tested(run, known)),
        ("environment", "Environment", environment(run)),
    )
    sections = "".join(
        f'<section id="{identity}">\n<h2>{escape(title)}</h2>\n{body}</section>\n' for identity, title, body in parts
    )
    rest = [(identity, title) for identity, title, _ in parts if identity != "evidence"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Verdicts on sublinear Gauss-Newton training</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{TITLE}</h1>\n"
        f'<p class="summary">{escape(summary(run))}</p>\n<p>{escape(LEAD)}</p>\n{legend()}</header>\n'
        f"{contents(run, rest)}<main>\n{sections}</main>\n</body>\n</html>\n"
    )


def legend() -> str:
    """Explain the four verdicts."""
    meanings = "".join(f"<dt>{badge(verdict)}</dt><dd>{escape(MEANING[verdict])}</dd>\n" for verdict in VERDICTS)
    return f'<dl class="legend">\n{meanings}</dl>\n'


def need(decision: Decision) -> int:
    """Say how much an experiment needs to be looked at: 0 most, for a claim that fails; 3 when all claims hold."""
    return min((NEED.index(finding.verdict) for finding in decision.findings), default=ALL_HOLD)


def by_need(run: Run) -> list[Decision]:
    """List the experiments, those first that have a claim that does not hold."""
    return sorted(run.decisions, key=need)


def count(decision: Decision) -> str:
    """Count an experiment's verdicts, each with its sign."""
    counts = Counter[str](finding.verdict for finding in decision.findings)
    parts = (badge(verdict, tally({verdict: counts[verdict]})) for verdict in VERDICTS if counts[verdict])
    return '<span class="count">' + " ".join(parts) + "</span>"


def contents(run: Run, rest: Sequence[tuple[str, str]]) -> str:
    """Link to every experiment, those first that have something other than "holds", and to the other parts.

    Parameters
    ----------
    run : Run
        What was found.
    rest : sequence of (identity, title)
        The other parts of the page.

    Returns
    -------
    str
    """
    items = [
        f'<li class="{"fine" if need(decision) == ALL_HOLD else "flagged"}"><a href="#{escape(decision.name)}">'
        f"{escape(decision.title)}</a> {count(decision)}</li>\n"
        for decision in by_need(run)
    ]
    items += [f'<li><a href="#{identity}">{escape(title)}</a></li>\n' for identity, title in rest]
    return f'<nav aria-label="Contents">\n<h2>Contents</h2>\n<ul>\n{"".join(items)}</ul>\n</nav>\n'


# ---- the verdict table ---------------------------------------------------------------------------


def verdict_table(run: Run) -> str:
    """Lay out the verdicts, a group of rows per experiment; the reason where a claim does not hold."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("verdict", "claim", "measured", "interval", "margin"))
    groups = "".join(verdict_group(decision) for decision in by_need(run))
    return f'<table class="verdicts">\n<thead><tr>{head}</tr></thead>\n{groups}</table>\n'


def verdict_group(decision: Decision) -> str:
    """Lay out the rows of one experiment."""
    rows = "".join(
        verdict_row(claim, finding) for claim, finding in zip(decision.claims, decision.findings, strict=True)
    )
    return (
        f'<tbody>\n<tr class="group"><th scope="rowgroup" colspan="5"><a href="#{escape(decision.name)}">'
        f"{escape(decision.title)}</a> {count(decision)}</th></tr>\n{rows}</tbody>\n"
    )


def verdict_row(claim: Claim, finding: Finding) -> str:
    """Lay out one claim: verdict, sentence with a link to its evidence, measured, interval, margin."""
    why = "" if finding.verdict == "holds" else f'<p class="why">Why: {typeset(finding.reason)}</p>'
    return (
        f'<tr><td>{badge(finding.verdict)}</td><th scope="row"><p>{typeset(claim.statement)}</p>'
        f'<p class="quiet"><a href="#{escape(claim.id)}">{escape(claim.id)}</a></p>{why}</th>'
        f'<td class="figure" data-label="measured">{escape(number(finding.estimate))}</td>'
        f'<td class="figure" data-label="interval">{escape(interval(finding))}</td>'
        f'<td data-label="margin">{typeset(finding.margin)}</td></tr>\n'
    )


# ---- the evidence --------------------------------------------------------------------------------


def evidence(run: Run, decision: Decision, plot: str) -> str:
    """Lay out one experiment: pictures, findings with their domains, cost, the command that repeats it."""
    # Most experiments have one domain for all their claims; it is said once then.
    domains = {finding.domain for finding in decision.findings} - {""}
    shared = domains.pop() if len(domains) == 1 else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("verdict", "claim", "measured", "margin", "evidence"))
    rows = "".join(
        evidence_row(claim, finding, "" if shared else finding.domain)
        for claim, finding in zip(decision.claims, decision.findings, strict=True)
    )
    text = f"<pre>{escape(decision.text)}</pre>\n" if decision.text else ""
    domain = f'<p class="quiet">Domain: {typeset(shared)}</p>\n' if shared else ""
    return (
        f'<section id="{escape(decision.name)}">\n<h3>{escape(decision.title)}</h3>\n<p>{count(decision)}</p>\n'
        f"{illustration(decision)}{plot}{text}"
        f'<table class="evidence">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n'
        f"{domain}{repetition(run, decision)}</section>\n"
    )


def evidence_row(claim: Claim, finding: Finding, domain: str) -> str:
    """Lay out one finding: verdict, claim and source, estimate and interval, margin, reason and domain."""
    reason = finding.reason[:1].upper() + finding.reason[1:]
    where = f'<p class="quiet">Domain: {typeset(domain)}</p>' if domain else ""
    return (
        f'<tr id="{escape(claim.id)}"><td>{badge(finding.verdict)}</td>'
        f'<th scope="row"><p>{typeset(claim.statement)}</p>'
        f'<p class="quiet"><code>{escape(claim.id)}</code> &middot; {escape(claim.source)}</p></th>'
        f'<td class="figure" data-label="measured">{escape(number(finding.estimate))} '
        f'<span class="range">{escape(interval(finding))}</span></td>'
        f'<td data-label="margin">{typeset(finding.margin)}</td>'
        f"<td><p>{typeset(reason)}</p>{where}</td></tr>\n"
    )


def repetition(run: Run, decision: Decision) -> str:
    """Say how many cells the evidence has, what they cost, and which command measures them again."""
    command = decision.command
    if not command:
        words = ["python", "-m", "verify", "--claims", decision.name, "--seed", str(run.environment.get("seed", 0))]
        command = shlex.join(words + ["--thorough"] * (run.environment.get("profile") == "thorough"))
    cells = f"{decision.cells} cell{'' if decision.cells == 1 else 's'}"
    return (
        f'<p class="quiet">{cells}, {decision.seconds:.1f} s of measurement. Repeat it: '
        f'<code>{escape(command)}</code>. <a href="#verdicts">Back to the verdicts</a></p>\n'
    )


def draw_all(decisions: Sequence[Decision], jobs: int) -> list[str]:
    """Draw the plots of all experiments, side by side where there are enough of them to pay for starting workers."""
    workers = min(jobs, len(decisions) // WORTH_A_WORKER)
    if workers > 1:
        try:
            with workforce(workers) as executor:
                return list(executor.map(figure, decisions))
        except BrokenExecutor:
            pass  # a worker died; the report does not depend on it
    return list(map(figure, decisions))


def figure(decision: Decision) -> str:
    """Draw an experiment's plot; one that cannot be drawn is a sentence, not the end of the report."""
    if decision.draw is None:
        return ""
    caption = decision.caption or f"The evidence: {decision.title}."
    try:
        svg = plots.render(decision.draw, decision.name, caption)
    except Exception as error:
        words = escape(f"{type(error).__name__}: {error}")
        return f'<p class="quiet">The plot could not be drawn ({words}).</p>\n'
    return framed(svg, caption)


def illustration(decision: Decision) -> str:
    """Draw the picture of what an experiment is about, where there is one."""
    if decision.name not in ILLUSTRATIONS:
        return ""
    draw, caption = ILLUSTRATIONS[decision.name]
    return framed(plots.render(draw, f"{decision.name}-illustration", caption), caption)


def framed(svg: str, caption: str) -> str:
    """Put a picture in a box in which it may scroll, above its caption."""
    return (
        f'<figure>\n<div class="scroll">\n{svg}\n</div>\n<figcaption>{typeset(caption)}</figcaption>\n</figure>\n'
    )


# ---- the rest ------------------------------------------------------------------------------------


def not_tested(run: Run, known: Sequence[Experiment]) -> str:
    """List what the verdicts do not speak about."""
    tested = {claim.id for _, claim, _ in pairs(run)}
    left_out = []
    for experiment in known:
        missing = [claim.id for claim in experiment.claims if claim.id not in tested]
        left_out += [f"all of {experiment.name}"] if len(missing) == len(experiment.claims) else missing
    items = list(NOT_TESTED)
    if left_out:
        items.insert(0, f"Claims left out of this run: {', '.join(left_out)}.")
    if run.environment.get("profile") == "default":
        items.append("Larger sizes and more seeds: this was the default profile; --thorough measures more.")
    listed = "".join(f"<li>{escape(item)}</li>\n" for item in items)
    return f"<ul>\n{listed}</ul>\n"


def environment(run: Run) -> str:
    """List machine, libraries and code, and say how the cells came about."""
    rows = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>\n"
        for name, value in run.environment.items()
        if value is not None
    )
    cells = sum(decision.cells for decision in run.decisions)
    seconds = sum(decision.seconds for decision in run.decisions)
    remeasured = "No stored cell had to be measured again."
    if run.damaged:
        files = "1 stored cell was" if run.damaged == 1 else f"{run.damaged} stored cells were"
        remeasured = f"{files} damaged, set aside and measured again."
    return (
        f"<dl>\n{rows}</dl>\n<p>{cells} cells were measured, in {seconds:.0f} s. Each is a file named by its "
        "inputs, the seed, and a fingerprint of code, libraries and processor; a run reads back what an earlier one "
        f"of the same name has measured, and then renders this page to the same bytes. {remeasured}</p>\n"
    )
