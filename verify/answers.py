"""Answers to what reviewers of [A] asked: each points at claims of this harness, and shows what a run found about them.

The published reviews of [A] ask for experiments. Every question here has an answer in plain words, the claims that it
rests on, and the command that decides them. An answer carries no figures of its own: they come from the findings of the
run that is shown, so that none can go stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from verify.experiment import Finding
from verify.page_style import badge, typeset
from verify.report import interval, number
from verify.run import Run

TITLE = "Questions that reviewers asked"


@dataclass(frozen=True)
class Answer:
    """One question with its answer.

    Parameters
    ----------
    question : str
        As reviewers ask it.
    answer : str
        One to three plain sentences, true when all the claims hold.
    claims : tuple of str
        Ids of the claims that it rests on.
    """

    question: str
    answer: str
    claims: tuple[str, ...]

    @property
    def command(self) -> str:
        """What decides the claims, and the others of their experiments.

        Examples
        --------
        >>> Answer("Why?", "Because.", ("time.paper", "cost.dense", "time.dense")).command
        'python -m verify --claims time,cost'
        """
        return f"python -m verify --claims {','.join(dict.fromkeys(claim.split('.')[0] for claim in self.claims))}"


ANSWERS: tuple[Answer, ...] = (
    Answer(
        "Is the cost of an iteration really sublinear in the width, and the total time lower than that of dense "
        "second-order methods, SGD, Adam and L-BFGS?",
        "Sublinear by exact counts, and by the clock far below dense Gauss-Newton with events, though not with the "
        "trees of the paper. Tuned first-order methods need more iterations, and more work to high accuracy; to a low "
        "one on correlated inputs no more, and on small, well separated problems momentum is at least as fast.",
        (
            "cost.forbidden",
            "events.forbidden",
            "time.paper",
            "time.events_dense",
            "time.events_compacted",
            "total_time.sublinear",
            "opponents.iterations",
            "opponents.work_random",
            "opponents.work_pairs",
            "opponents.loose",
            "opponents.compacting",
            "opponents.time_random",
            "opponents.time_pairs",
            "opponents.time_wide",
        ),
    ),
    Answer(
        "How sensitive is it to the shift b, to the scale of the initialization, to the size of the sketch and to the "
        "accuracy of the solver?",
        "Little, from no shift up to the paper's, and for scales of 1 and above; it breaks where few neurons fire: for "
        "a large alpha, or for small weights with the same shift. The size of the sketch changes nothing but work, "
        "and a loose solver costs some iterations.",
        (
            "sensitivity.shift",
            "sensitivity.sparse",
            "sensitivity.scale",
            "sensitivity.scale_law",
            "sensitivity.small_scale",
            "sensitivity.same_shift",
            "sensitivity.sketch",
            "sensitivity.sketch_work",
            "sensitivity.accuracy",
            "sensitivity.loose",
            "regression.condition",
        ),
    ),
    Answer(
        "What width is needed in practice, against the theorem's?",
        "Thousands of times less on well separated inputs, and it hardly grows with the number of points where the "
        "theorem's grows like a power above three. On inputs that come close it does grow steeply, as theory says.",
        (
            "practical_width.gap",
            "practical_width.growth",
            "practical_width.theorem",
            "phase_diagram.theorem",
            "phase_diagram.separation",
        ),
    ),
    Answer(
        "How does the result compare with kernel regression on the shifted NTK, in training and on unseen data?",
        "At a fixed shift the trained network tends to it, and its weights move by hardly more than the least that "
        "fits. At the paper's shift and a width of thousands it is still far from it on random inputs; on digits at a "
        "smaller alpha both predict unseen points equally well.",
        (
            "kernel_regression.training",
            "kernel_regression.unseen",
            "kernel_regression.empirical",
            "kernel_regression.norm",
            "kernel_regression.paper",
            "kernel_regression.digits",
            "ntk.rate",
        ),
    ),
    Answer(
        "Does it survive a plain ReLU, without a shift?",
        "Convergence does, with fewer iterations and at smaller widths. The sublinear cost does not: half of all "
        "neurons fire on a point, and every neuron fires somewhere.",
        (
            "unshifted.halves",
            "unshifted.iterations",
            "unshifted.linear",
            "unshifted.everyone",
            "practical_width.plain",
        ),
    ),
    Answer(
        "What if the output layer is trained too?",
        "An iteration still costs what fires, though no longer less when nothing flips. Up to the paper's alpha it "
        "helps; far beyond it output weights overshoot.",
        (
            "output_layer.exact",
            "output_layer.width",
            "output_layer.rest",
            "output_layer.first_ratio",
            "output_layer.iterations",
            "output_layer.climbs",
        ),
    ),
    Answer(
        "Can the n^3 term go?",
        "Yes, at the price of the condition number of the Gram matrix: conjugate gradients scaled by its diagonal need "
        "no factor in any iteration (solver='conjugate'). Sketching keeps n^3, and an old factor serves only once "
        "hardly anything flips any more.",
        (
            "solve_cost.exponent",
            "solve_cost.condition",
            "solve_cost.equal",
            "solve_cost.cheaper",
            "solve_cost.early",
            "solve_cost.sketch",
            "events.cubic",
            "solve_time.conjugate",
            "solve_time.rest",
        ),
    ),
)


def to_html(run: Run) -> str:
    """Lay out the questions with what a run found; nothing when it measured none of their claims.

    Parameters
    ----------
    run : Run
        What was found.

    Returns
    -------
    str
        The body of a section of the page.
    """
    found = {finding.claim: finding for decision in run.decisions for finding in decision.findings}
    if not any(claim in found for answer in ANSWERS for claim in answer.claims):
        return ""
    return "".join(block(answer, found) for answer in ANSWERS)


def block(answer: Answer, found: dict[str, Finding]) -> str:
    """Lay out one question: the answer, a caution where it lacks support, then claim by claim."""
    missing = [claim for claim in answer.claims if claim not in found]
    unsupported = [claim for claim in answer.claims if claim in found and found[claim].verdict != "holds"]
    cautions = []
    if unsupported:
        cautions.append(f"Read this with care: {', '.join(unsupported)} did not come out as 'holds' in this run.")
    if missing:
        cautions.append(f"Not measured in this run: {', '.join(missing)}.")
    caution = f'<p class="quiet">{escape(" ".join(cautions))}</p>\n' if cautions else ""
    lines = "".join(line(found[claim]) for claim in answer.claims if claim in found)
    return (
        f"<h3>{typeset(answer.question)}</h3>\n<p>{typeset(answer.answer)}</p>\n{caution}<ul>\n{lines}</ul>\n"
        f'<p class="quiet">Decide it: <code>{escape(answer.command)}</code></p>\n'
    )


def line(finding: Finding) -> str:
    """Show one claim: verdict, a link to its evidence, estimate and interval, margin."""
    measured = "" if finding.estimate is None else f": {number(finding.estimate)} {interval(finding)}".rstrip()
    margin = f", margin {finding.margin}" if finding.margin else ""
    return (
        f'<li>{badge(finding.verdict)} <a href="#{escape(finding.claim)}">{escape(finding.claim)}</a>'
        f"{typeset(measured + margin)}</li>\n"
    )
