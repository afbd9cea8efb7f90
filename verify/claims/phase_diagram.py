"""Claim: how wide a network must be for every iteration to halve, against separation and sparsity.

One *trial* is one seed: its own data and weights. Widths are powers of two, tried from the largest down; the *smallest
width* of a trial is the last one before the first failure, so at it and at every larger width tried each iteration
halves the residual, until 1e-8 of the start. The networks of one trial are nested: the first ``m`` neurons of the
largest, with the shift of their own width. A trial whose largest network fails already is *beyond*. It is never
dropped: a fit gives it one doubling more than the largest width, the least it can need; and to a trial that halves all
the way down the least width tried, the most it can need. A fit with such open trials may say "holds" only where the
truth could not but steepen it, and never "fails".

1. ``separation``  Does the smallest width grow at least like ``angle^-3`` as the inputs of each pair approach?
2. ``alpha``       Does it double at least once for every 0.1 that alpha grows?
3. ``theorem``     Is it found on independent inputs unless few neurons fire, and wherever it is found at least 2^10
   times smaller than the width that the theorem asks for?
4. ``limit``       A negative finding: in the cells of `OUT_OF_REACH` not even the largest network halves.

Why the width must grow (ours; a heuristic for the exponents, without constants). Let two inputs at a small angle
``theta`` have opposite labels. The neurons that tell them apart fire on one of them only: a wedge of width ``theta``
with a share ``~ phi(b) theta`` of all neurons, and of this size is the smallest eigenvalue ``lambda`` of ``K``. So
``g ~ 1 / lambda``, and a neuron of the wedge drifts by ``~ 1 / (lambda sqrt(m))``. The linear model is good while that
is small against the wedge itself::

    1 / (phi(b) theta sqrt(m)) << theta,  phi(b) ~ m^-alpha      =>      m >> theta^(-4 / (1 - 2 alpha))

At alpha = 0 that is the theorem's ``lambda^-4``, but without its ``n^4``, since it happens pair by pair; and the
exponent explodes as alpha nears 1/2, where the lazy regime ends.

The theorem asks for ``max(lambda^-4 n^4, lambda^-2 n^2 d log(16 n / rho))`` ([A], conference version, Theorem 5.1); the
constant 1 in front is ours. It depends on the width through the shift, and is taken at the shift of the smallest width
found. On these data ``lambda`` falls as the shift grows, so a network as wide as that would be asked for more still.
At alpha >= 1/4 no network is wide enough: ``lambda <= K_ii = Phi(-b) <= m^-alpha``, so ``lambda^-4 n^4 >= m n^4``.

How it is measured
1. Halving is judged by the residuals that training reports. At the smallest width it is judged once more, one step at
   a time, by residuals of dense networks; claims 1 to 3 are withdrawn where the two disagree.
2. Labels are random, so about half of the pairs are torn apart. With equal labels narrower networks would do.

Cost of a cell: twice the training of the largest network, and its ``m d`` random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reference.notation import DivergenceError, FloatArray, NothingFiresError, SingularGramError
from reference.shifted_ntk import shifted_ntk, theorem_width
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import (
    Interval,
    contradicted,
    decide_above,
    decide_below,
    make_finding,
    proportion_interval,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]
Place = float | None
"""Angle of the pairs, or None for inputs drawn independently, which are further apart than any pair here."""

N, D = 16, 16
ANGLES = (0.2, 0.3, 0.45, 0.7)
PLACES: tuple[Place, ...] = (*ANGLES, None)
ALPHAS = (0.05, 0.1, 0.24, 0.4)
SEEDS = 8
SMALLEST, LARGEST, LARGEST_THOROUGH = 4, 16, 20
"""Widths are the powers of two between ``2^SMALLEST`` and ``2^LARGEST``; up to alpha = `CALM` one doubling less."""
CALM = 0.1
"""There smaller networks halve, and the widest would show nothing."""
TARGET = 1e-8
MOST_ITERATIONS = math.ceil(-math.log2(TARGET))
"""A run that halves every time needs no more."""
RATIO_SLACK = 1e-6
"""Step by step a ratio may differ by rounding from that of the whole run."""
FAILURE = 0.05
"""The theorem's failure probability ``rho``."""

SEPARATION_ALPHAS, SEPARATION_MARGIN = (0.05, 0.1, 0.24), -3.0
SEPARATION_ENDS = (ANGLES[0], ANGLES[-1])
"""A fit through all angles is hardly sharper, and one trial beyond at 0.45 would leave it open."""
ALPHA_PLACES: tuple[Place, ...] = (0.7, None)
ALPHA_MARGIN = 10.0
THEOREM_MARGIN = 10.0
FOUND_UP_TO = 0.24
"""Above, now and then a seed finds no width on independent inputs either."""
OUT_OF_REACH: tuple[tuple[float, Place], ...] = ((0.24, 0.2), (0.4, 0.2), (0.4, 0.3), (0.4, 0.45))
RARELY = 0.2
"""One trial in 256 has no pair with opposite labels; 2 successes in 32 still give a one-sided 95% bound of 0.18."""

ORDER: tuple[Verdict, ...] = ("invalid", "fails", "undecided", "holds")

CLAIMS = (
    Claim(
        "phase_diagram.separation",
        "At alpha = 0.05, 0.1 and 0.24 the smallest width at which every iteration halves the residual grows at least "
        "like angle^-3 between an angle of 0.7 and one of 0.2 in each pair of inputs.",
        "ours",
    ),
    Claim(
        "phase_diagram.alpha",
        "On well separated inputs (independent ones, and pairs at angle 0.7) the smallest width at which every "
        "iteration halves the residual doubles at least once for every 0.1 that alpha grows from 0.05 to 0.4.",
        "ours",
    ),
    Claim(
        "phase_diagram.theorem",
        "On independent inputs at alpha up to 0.24 every seed finds a width from which on each iteration halves the "
        "residual; wherever every seed finds one, it is at least 2^10 times smaller than the theorem asks for with "
        "constant 1.",
        "[A], conference version, Theorem 5.1; ours",
    ),
    Claim(
        "phase_diagram.limit",
        "On pairs at angle 0.2 for alpha = 0.24, and at angles 0.2, 0.3 and 0.45 for alpha = 0.4, even at the largest "
        "width tried some iteration does not halve the residual, in at least 80% of runs.",
        "[A], Theorem 1.1, outside its assumptions; ours",
    ),
)


@dataclass(frozen=True)
class Trial:
    """What one seed found.

    Parameters
    ----------
    smallest : int or None
        log2 of the smallest width, None if beyond.
    largest : int
        log2 of the largest width tried.
    asked : float
        log2 of the theorem's width at the shift of the smallest width, or of the largest if beyond.
    confirmed : bool or None
        Whether dense networks confirm the smallest width; None if beyond.
    """

    smallest: int | None
    largest: int
    asked: float
    confirmed: bool | None

    @property
    def at_least(self) -> int:
        """The log2 of the smallest width, or the least that a trial beyond can need."""
        return self.largest + 1 if self.smallest is None else self.smallest


Table = dict[tuple[float, Place], list[Trial]]
"""The trials at each alpha and angle, in the order of the seeds."""


def cells(profile: Profile) -> list[Inputs]:
    """List every angle and alpha, each for every seed."""
    largest = LARGEST_THOROUGH if profile.thorough else LARGEST
    return [
        {"angle": place, "alpha": alpha, "largest": largest - (alpha <= CALM), "seed": seed}
        for alpha in ALPHAS
        for place in PLACES
        for seed in range(SEEDS)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Narrow one network until training it stops halving; compare the last that did with the theorem's width."""
    place, alpha, largest = inputs["angle"], inputs["alpha"], inputs["largest"]
    problem = problems.make("random" if place is None else "pairs", N, D, rng, angle=place)
    widest = code.initialize(1 << largest, D, shift=shift_for(1 << largest, alpha), rng=rng)
    smallest = None
    for exponent in range(largest, SMALLEST - 1, -1):
        if not halves(narrowed(widest, 1 << exponent, alpha), problem, code):
            break
        smallest = exponent
    network = narrowed(widest, 1 << (largest if smallest is None else smallest), alpha)
    return {
        "smallest": smallest,
        "asked": math.log2(asked_width(problem.X, network.shift)),
        "confirmed": None if smallest is None else halves_densely(network, problem, code),
    }


def narrowed(network: TwoLayerNetwork, width: int, alpha: float) -> TwoLayerNetwork:
    """Keep the first ``width`` neurons, with the shift that belongs to that width."""
    return TwoLayerNetwork(network.weights[:width], network.signs[:width], shift_for(width, alpha))


def halves(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> bool:
    """Train; tell whether every iteration halved the residual, down to the target."""
    try:
        trace = code.train(network, problem.X, problem.y, iterations=MOST_ITERATIONS, tolerance=TARGET)
    except (NothingFiresError, SingularGramError, DivergenceError):
        return False
    norms = trace.residual_norms
    return bool(norms[-1] <= TARGET * norms[0] and (norms[1:] <= norms[:-1] / 2).all())


def halves_densely(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> bool:
    """Tell the same from dense networks, each trained by one step from the last."""
    norms = [residual_norm(network, problem)]
    try:
        while norms[-1] > TARGET * norms[0] * (1 + RATIO_SLACK):
            network = code.train(network, problem.X, problem.y, iterations=1).network.to_dense()
            norms.append(residual_norm(network, problem))
            if norms[-1] > norms[-2] / 2 * (1 + RATIO_SLACK):
                return False
    except (NothingFiresError, SingularGramError, DivergenceError):
        return False
    return True


def residual_norm(network: TwoLayerNetwork, problem: problems.Problem) -> float:
    """Compute ``||f - y||`` by the reference's prediction."""
    return float(np.linalg.norm(network.predict(problem.X) - problem.y))


def asked_width(X: FloatArray, shift: float) -> float:
    """Compute the theorem's width, with constant 1, at one shift."""
    return theorem_width(float(np.linalg.eigvalsh(shifted_ntk(X, shift))[0]), len(X), X.shape[1], FAILURE)


def table(results: Results) -> Table:
    """Group the trials by alpha and angle, in the order of the seeds."""
    groups: dict[tuple[float, Place], list[tuple[int, Trial]]] = {}
    for inputs, result in results:
        trial = Trial(result["smallest"], inputs["largest"], result["asked"], result["confirmed"])
        groups.setdefault((inputs["alpha"], inputs["angle"]), []).append((inputs["seed"], trial))
    return {key: [trial for _, trial in sorted(group, key=lambda item: item[0])] for key, group in groups.items()}


@dataclass(frozen=True)
class Fit:
    """A straight line through log2 of the smallest widths of one seed.

    Parameters
    ----------
    slope : float
        With the least or the most that open trials can need in place of their widths.
    open : bool
        Whether there are open trials.
    conservative : bool
        Whether the truth about them could only make the slope larger in the direction claimed.
    """

    slope: float
    open: bool
    conservative: bool


def fit(x: Sequence[float], trials: Sequence[Trial], sign: int) -> Fit:
    """Fit log2 of the smallest width against ``x``; ``sign`` is the direction claimed, +1 or -1.

    Examples
    --------
    >>> found, beyond = Trial(10, 12, 30.0, True), Trial(None, 12, 30.0, None)
    >>> fit([0.0, 1.0], [found, beyond], 1)
    Fit(slope=3.0, open=True, conservative=True)
    """
    steepness, _ = slope(x, [trial.at_least for trial in trials])
    middle = sum(x) / len(x)
    # Where the truth is higher on the claim's high side, or lower on its low side, the line is steeper.
    towards = [
        (1 if trial.smallest is None else -1) * sign * (value - middle)
        for value, trial in zip(x, trials, strict=True)
        if trial.smallest in (None, SMALLEST)
    ]
    return Fit(steepness, bool(towards), all(step >= 0 for step in towards))


def decide(results: Results) -> list[Finding]:
    """Fit slopes seed by seed; compare with the theorem cell by cell; count the trials beyond."""
    trials = table(results)
    largest = max(inputs["largest"] for inputs, _ in results)
    domain = (
        f"n={N}, d={D}, m=2^{SMALLEST}..2^{largest}, b=sqrt(2 alpha ln m), random labels, "
        f"{len({inputs['seed'] for inputs, _ in results})} seeds a cell, down to {TARGET:g} of the start"
    )
    findings = [_find_separation(trials, domain), _find_alpha(trials, domain), _find_theorem(trials, domain)]
    if any(trial.confirmed is False for group in trials.values() for trial in group):
        findings = [contradicted(finding) for finding in findings]
    return [*findings, _find_limit(trials, domain)]


def _find_separation(trials: Table, domain: str) -> Finding:
    x = np.log2(SEPARATION_ENDS).tolist()
    laws = ", ".join(f"{-4 / (1 - 2 * alpha):.1f} at alpha={alpha}" for alpha in SEPARATION_ALPHAS)
    return _find_slope(
        "separation",
        {f"alpha={a}": _fits(x, [trials[a, angle] for angle in SEPARATION_ENDS], -1) for a in SEPARATION_ALPHAS},
        lambda interval: decide_below(interval, SEPARATION_MARGIN),
        max,
        margin=f"<= {SEPARATION_MARGIN:g} (exponent of the angle)",
        domain=f"{domain}, pairs at angles {' and '.join(map(str, SEPARATION_ENDS))}",
        note=f"The heuristic limit -4 / (1 - 2 alpha) is {laws}.",
    )


def _find_alpha(trials: Table, domain: str) -> Finding:
    return _find_slope(
        "alpha",
        {name_of(place): _fits(ALPHAS, [trials[a, place] for a in ALPHAS], 1) for place in ALPHA_PLACES},
        lambda interval: decide_above(interval, ALPHA_MARGIN),
        min,
        margin=f">= {ALPHA_MARGIN:g} (doublings per unit of alpha)",
        domain=f"{domain}, alpha {', '.join(map(str, ALPHAS))}",
        note="It is not linear: the width explodes towards alpha = 1/2.",
    )


def _fits(x: Sequence[float], groups: Sequence[Sequence[Trial]], sign: int) -> list[Fit]:
    """Fit each seed, from one group of trials for each ``x``."""
    return [fit(x, own, sign) for own in zip(*groups, strict=True)]


def _find_slope(
    name: str,
    fits: dict[str, list[Fit]],
    decision: Callable[[Interval], Verdict],
    worst: Callable[..., str],
    *,
    margin: str,
    domain: str,
    note: str,
) -> Finding:
    """Decide a slope that must pass in every group; report the group that comes closest to failing."""
    intervals = {group: t_interval([each.slope for each in own]) for group, own in fits.items()}
    verdicts = [admitted(decision(intervals[group]), own) for group, own in fits.items()]
    closest = worst(intervals, key=lambda group: intervals[group].estimate)
    reason = "Slope of log2 width, 95% interval over seeds: "
    reason += ", ".join(f"{i.estimate:.1f} [{i.low:.1f}, {i.high:.1f}] at {g}" for g, i in intervals.items())
    unknown = sum(each.open for own in fits.values() for each in own)
    if unknown:
        reason += f"; {unknown} of {sum(map(len, fits.values()))} fits have trials outside the widths tried"
    return make_finding(
        f"phase_diagram.{name}",
        intervals[closest],
        min(verdicts, key=ORDER.index),
        margin=margin,
        domain=domain,
        reason=f"{reason}. {note}",
    )


def admitted(verdict: Verdict, fits: Sequence[Fit]) -> Verdict:
    """Take back a verdict that the truth about open trials could undo.

    Examples
    --------
    >>> flat, steep = Fit(0.0, open=True, conservative=True), Fit(9.0, open=True, conservative=False)
    >>> admitted("fails", [flat]), admitted("holds", [flat]), admitted("holds", [steep])
    ('undecided', 'holds', 'undecided')
    """
    undone = any(each.open if verdict == "fails" else not each.conservative for each in fits)
    return "undecided" if undone and verdict != "invalid" else verdict


def _find_theorem(trials: Table, domain: str) -> Finding:
    margin = f">= {THEOREM_MARGIN:g} (log2 of the theorem's width over the smallest)"
    gaps = {
        (alpha, place): [t.asked - t.smallest for t in trials[alpha, place] if t.smallest is not None]
        for alpha in ALPHAS
        for place in PLACES
    }
    found = {cell: t_interval(values) for cell, values in gaps.items() if len(values) == len(trials[cell])}
    missing = [(alpha, None) for alpha in ALPHAS if alpha <= FOUND_UP_TO and (alpha, None) not in found]
    if missing:
        verdict: Verdict = "undecided" if all(gaps[cell] for cell in missing) else "fails"
        names = ", ".join(f"alpha={alpha}" for alpha, _ in missing)
        reason = f"On independent inputs not every seed finds a smallest width at {names}."
        return make_finding("phase_diagram.theorem", None, verdict, margin=margin, domain=domain, reason=reason)
    cell = min(found, key=lambda each: found[each].low)
    reason = (
        f"{len(found)} of {len(trials)} cells are found by every seed; closest at alpha={cell[0]}, "
        f"{name_of(cell[1])}. Median log2 width / the theorem's, for {', '.join(map(name_of, PLACES))}: "
    )
    rows = (
        f"alpha={alpha}: " + ", ".join(describe(trials[alpha, place]) for place in PLACES) for alpha in ALPHAS
    )
    return make_finding(
        "phase_diagram.theorem",
        found[cell],
        min((decide_above(interval, THEOREM_MARGIN) for interval in found.values()), key=ORDER.index),
        margin=margin,
        domain=domain,
        reason=reason + "; ".join(rows) + ".",
    )


def _find_limit(trials: Table, domain: str) -> Finding:
    group = [trial for cell in OUT_OF_REACH for trial in trials[cell]]
    reached = sum(trial.smallest is not None for trial in group)
    interval = proportion_interval(reached, len(group), confidence=0.9)
    return make_finding(
        "phase_diagram.limit",
        interval,
        decide_below(interval, RARELY),
        margin=f"<= {RARELY} of trials reach it (one-sided 95%)",
        domain=domain,
        reason=f"{reached} of {len(group)} trials halve in every iteration at the largest width, "
        f"m=2^{group[0].largest}; {len(OUT_OF_REACH)} cells.",
    )


def name_of(place: Place) -> str:
    """Name a column of the diagram.

    Examples
    --------
    >>> name_of(0.3), name_of(None)
    ('angle 0.3', 'independent inputs')
    """
    return "independent inputs" if place is None else f"angle {place}"


def middle_of(group: Sequence[Trial]) -> float:
    """Return the median of log2 of the smallest width; infinite if it is beyond."""
    return float(np.median([math.inf if trial.smallest is None else trial.smallest for trial in group]))


def describe(group: Sequence[Trial]) -> str:
    """Print the median of log2 of the smallest width, or that it is beyond, and the theorem's.

    Examples
    --------
    >>> describe([Trial(10, 17, 33.8, True), Trial(11, 17, 34.2, True)]), describe([Trial(None, 17, 50.0, None)])
    ('10.5/34', '>17/50')
    """
    middle, asked = middle_of(group), float(np.median([trial.asked for trial in group]))
    return f"{middle:g}/{asked:.0f}" if math.isfinite(middle) else f">{group[0].largest}/{asked:.0f}"


def spread(group: Sequence[Trial]) -> str:
    """Print the least and the greatest of log2 of the smallest width: of 8 seeds, a 99% interval for the median."""
    ends = sorted(group, key=lambda trial: trial.at_least)
    low, high = (f">{t.largest}" if t.smallest is None else str(t.smallest) for t in (ends[0], ends[-1]))
    return low if low == high else f"{low} to {high}"


def plot(figure: Figure, results: Results) -> None:
    """Draw the phase diagram: log2 of the smallest width over angle and alpha, the theorem's below it."""
    trials = table(results)
    axes = figure.subplots()
    largest = max(inputs["largest"] for inputs, _ in results)
    heights = np.array([[min(middle_of(trials[alpha, place]), largest + 1) for place in PLACES] for alpha in ALPHAS])
    axes.pcolormesh(heights, cmap="viridis_r", vmin=SMALLEST, vmax=largest + 1, edgecolors="none")
    for row, alpha in enumerate(ALPHAS):
        for column, place in enumerate(PLACES):
            measured, asked = describe(trials[alpha, place]).split("/")
            text = f"{measured}\nseeds {spread(trials[alpha, place])}\ntheorem {asked}"
            # Neither black nor white: those change with the page's ground, the fields do not.
            colour = "#f5f5f5" if heights[row, column] > (SMALLEST + largest) / 2 else "#101010"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize="small", color=colour)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(len(PLACES)) + 0.5, [name_of(place) for place in PLACES])
    axes.set_yticks(np.arange(len(ALPHAS)) + 0.5, [str(alpha) for alpha in ALPHAS])
    axes.set(ylabel="alpha", title="log2 of the smallest width that halves the residual in every iteration")


EXPERIMENT = Experiment(
    name="phase_diagram",
    title="How wide is wide enough",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
