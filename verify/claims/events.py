"""Claim: on the event-driven path an iteration costs what changes, and what it says about itself is true.

What is asked of ``search="events"`` (`fast.gauss_newton.EventRun`). The run is set beside a dense run, separate code
that knows every pattern before and after every step.

1. ``exact``      Are the pairs that fire, the flips, the shared-fired counts and the number of pairs looked at those of
   the dense run, after every iteration of every run? Also on pairs, twins and clash data, where many pairs flip.
2. ``counters``   The other work has no closed form, but a least one: each pair looked at takes the points that its
   neuron has fired on; each flip, the points that its neuron fires on before and after, unless all are counted anew;
   each row read from the weights, ``n d``. Is any counter smaller?
3. ``width``      Does the work on pairs follow ``n m Phi(-b)``? Slope of ``log(work / law)`` against ``log m``, at
   alpha = 0.24 and 0.5, for the whole, for the flips and for the shared-fired counts; the steepest is decided.
4. ``forbidden``  Explain the work on pairs by named terms, among them the forbidden ``n^2 k`` (the trees have it with a
   coefficient above 1: ``n`` scores for every pair that fires) and ``m n d``. Are their coefficients small?
5. ``leaving``    At alpha = 0.5 a step moves the scores by as much as the shift. Nearly every pair of a neuron that
   moves is due, the run goes over to dense arrays (`fast.all_pairs`), and costs at least ``n^2 k``: the price of
   leaving the lazy regime.
6. ``cubic``      Once the pattern rests, is the whole iteration, solve included, free of ``n^3``? Earlier ones are not:
   the first factors ``G``, and as long as many pairs flip the old factor serves badly and the next ones do, too.
7. ``flips``      Do flips die out, each iteration having at most half as many as the one before?
8. ``late``       Does an iteration that finds the pattern at rest do less than a fiftieth of the first one's work?
9. ``families``   Where many pairs flip, does an iteration stay below twice the ``u n (2 d + n)`` of the compacted loop
   with dense algebra, ``u`` neurons firing somewhere at the start? Twice, as the iteration that goes over to dense
   arrays has tried without them first.
10. ``witness``   After the preparation the weights of all neurons that fire nowhere are overwritten with infinities. Do
   the same bytes come out? If not, the claims that rest on counters are invalid.

The *work on pairs* of an iteration is the sum of all its counters but ``solve``, which depends on ``n`` alone (claim
6). At rest means: no pair flipped in this iteration nor in the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

from reference.notation import BoolArray, DivergenceError, FloatArray, InputError, IntArray, NothingFiresError
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems
from verify.claims.cost import step_of
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    BADNESS,
    Interval,
    contradicted,
    decide_above,
    decide_below,
    make_finding,
    named_terms_fit,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

ALPHA, LARGE_ALPHA = 0.24, 0.5
SEEDS = 5
FAMILIES = ("random", "pairs", "twins", "clash")
RANDOM: Inputs = {"family": "random", "alpha": ALPHA, "d": 32, "lazy": False, "iterations": 4}
LARGE: Inputs = {**RANDOM, "alpha": LARGE_ALPHA}
SWEEPS: dict[str, list[Inputs]] = {
    "width": [
        {**point, "n": n, "width": 1 << exponent}
        for point, n, exponents in ((RANDOM, 16, (12, 14, 16, 18)), (LARGE, 64, (12, 14, 16, 17)))
        for exponent in exponents
    ],
    # Drawn lazily: only the neurons that fire exist.
    "points": [{**RANDOM, "n": n, "width": 1 << e, "lazy": True} for n, e in ((8, 20), (16, 19), (40, 18))]
    + [{**RANDOM, "n": 24, "width": 1 << 18, "lazy": True}]
    + [{**LARGE, "n": n, "width": 1 << 16} for n in (8, 32)],
    "late": [{**RANDOM, "n": n, "width": 1 << 15, "iterations": 8} for n in (24, 48, 64)],
    "families": [{**RANDOM, "family": family, "n": 32, "width": 1 << 14, "iterations": 8} for family in FAMILIES],
}
THOROUGH: list[Inputs] = [{**RANDOM, "n": 16, "width": 1 << 20}, {**LARGE, "n": 64, "width": 1 << 20}]
"""Joins the sweep over the width in the thorough profile."""
WIDE = 1 << 18
"""Claim 4 speaks of widths from here on; below, a step moves scores by a good part of the shift."""
MOST_REDRAWS = 5
"""A network is drawn anew only when the dense run, which judges, has a silent point; else a run that stops is wrong."""
MOST_POISONED = 1 << 16
"""The witness needs a second run and a copy of the weights; wider networks go without."""

WIDTH_MARGIN = 0.1
FORBIDDEN_MARGINS = {"n^2 k": 0.25, "m n d": 1e-3}
MOST_MISFIT = 0.5
"""A fit that leaves more of the work unexplained, as a root mean square over cells, is rejected: no evidence."""
LEAVING_LEAST = 1.0
CUBIC_MARGIN = 0.05
FLIP_MARGIN = 0.5
FAMILIES_MARGIN = 2.0
FEWEST_FLIPS = 20
"""A ratio of flips needs so many before."""
LATE_MARGIN = 1 / 50
BUSY_PHASES = ("flips", "gram")
"""Phases with work in every iteration in which something flips, on lists of pairs as well as on dense arrays."""
RELY_ON_COUNTS = tuple(f"events.{name}" for name in ("width", "forbidden", "cubic", "late", "families"))

CLAIMS = (
    Claim(
        "events.exact",
        "After every iteration the event-driven path has the fired pairs, the flips and the shared-fired counts of a "
        "dense run, exactly, and reports every pair that it looked at.",
        "ours",
    ),
    Claim(
        "events.counters",
        "No counter of the event-driven path is smaller than the least work that its flips, the pairs it looked at and "
        "the weights it read require.",
        "ours",
    ),
    Claim(
        "events.width",
        "The work on pairs grows with the width like n m Phi(-b) or more slowly, at alpha = 0.24 and at 0.5: the "
        "exponent of the ratio is at most 0.1.",
        "ours; [A], Theorem 1.1",
    ),
    Claim(
        "events.forbidden",
        "At alpha = 0.24 and widths from 2^18 the work on pairs contains neither n^2 m^(1-alpha), with a coefficient "
        "above 0.25, nor m n d, above 0.001.",
        "ours; [A] updates n trees for every neuron that moves",
    ),
    Claim(
        "events.leaving",
        "At alpha = 0.5 the work on pairs of an iteration is at least n^2 m^(1-alpha), at every size.",
        "ours",
    ),
    Claim(
        "events.cubic",
        "Once the pattern rests, an iteration contains no n^3: its coefficient in the whole work, solve included, is "
        "at most 0.05.",
        "ours",
    ),
    Claim(
        "events.flips",
        "Flips die out: on random data at alpha = 0.24 each iteration has at most half as many as the one before.",
        "ours",
    ),
    Claim(
        "events.late",
        "On random data at n = 64 an iteration that finds the pattern at rest does less than a fiftieth of the work of "
        "the first.",
        "ours",
    ),
    Claim(
        "events.families",
        "However many pairs flip, on pairs, twins and clash data too, the work on pairs of an iteration stays below "
        "twice that of the compacted loop, u n (2 d + n), where u neurons fire somewhere at the start.",
        "ours",
    ),
    Claim(
        "events.witness",
        "After the preparation the weights of neurons that fire nowhere have no effect on the event-driven path, and "
        "no product with them is formed.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the sweeps, each point for every seed; thorough takes wider networks and more seeds."""
    seeds = SEEDS * (4 if profile.thorough else 1)
    points = [{"sweep": sweep, **point} for sweep, points in SWEEPS.items() for point in points]
    if profile.thorough:
        points += [{"sweep": "width", **point} for point in THOROUGH]
    return [{**point, "seed": seed} for point in points for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run both; where few neurons fire, now and then a dense run, too, is left with a silent point: draw anew then."""
    for _ in range(MOST_REDRAWS):
        result = side_by_side(inputs, rng, code)
        if result is not None:
            return result
    raise NothingFiresError(f"some point fell silent on each of {MOST_REDRAWS} networks; widen them")


def side_by_side(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result | None:
    """Run the event-driven path and the dense code iteration by iteration; None where some point falls silent."""
    problem = problems.make(inputs["family"], inputs["n"], inputs["d"], rng)
    width, shift = inputs["width"], shift_for(inputs["width"], inputs["alpha"])
    if inputs["lazy"]:
        network = code.lazy_initialize(problem.X, width=width, shift=shift, rng=rng)
    else:
        network = code.initialize(width, inputs["d"], shift=shift, rng=rng)
    run = code.start_events(network, problem.X, problem.y)
    seen = Seen()
    dense = DenseRun(network, problem)
    fires = dense.fires
    result: Result = {
        "fired": int(fires.sum()),
        "fan": int(np.sum(fires.sum(axis=0, dtype=np.int64) ** 2)),
        "moving": int(np.count_nonzero(fires.any(axis=0))),
        "counts": [],
        "checked": [],
        "least": [],
        "witness": None,
    }
    for _ in range(inputs["iterations"]):
        seen.attach(run)
        listed = run.watched
        try:
            run.iterate()
        except (InputError, DivergenceError):
            if not dense.fires.any(axis=1).all():
                return None
            break  # what is missing counts as wrong
        dense.iterate()
        result["counts"].append(dict(run.counts[-1]))
        result["checked"].append(compare(run, dense, len(seen.looked)))
        result["least"].append(dense.least_work(seen.looked, seen.read))
        if hasattr(run.watched, "row") and run.watched is not listed:
            dense.touched = dense.fires  # watched pairs that begin anew, from the weights of now, know no older points
    if width <= MOST_POISONED and not inputs["lazy"]:
        result["witness"] = ignores_poison(run, network, problem, dense, code)
    return result


class Seen:
    """Stands beside a run and notes what one iteration looks at and reads.

    Attributes
    ----------
    looked, read : ndarray of int
        Since the last `attach`: the neuron of each pair that was looked at, and each row taken from the weights.
    """

    looked: IntArray
    read: IntArray

    def attach(self, run: Any) -> None:  # noqa: ANN401
        """Forget what was noted, and give the run a ``try_step`` and weights that tell when they are used."""
        self.looked = self.read = np.empty(0, dtype=np.intp)
        watched = run.watched
        # A run that has gone over to dense arrays looks at everything, and keeps its own weights.
        if hasattr(watched, "row") and "try_step" not in vars(watched):
            watched.try_step = self._told(run)
            watched.weights = self._told_rows(watched.weights)

    def _told(self, run: Any) -> Callable[[FloatArray], Any]:  # noqa: ANN401
        def trying(g: FloatArray) -> Any:  # noqa: ANN401
            watched = run.watched  # a safeguarded run may come back to a copy, which has this function, too
            trial = type(watched).try_step(watched, g)
            self.looked = np.append(self.looked, watched.neurons[watched.row[trial.looked]])
            return trial

        return trying

    def _told_rows(self, weights: FloatArray) -> FloatArray:
        class Rows(np.ndarray[Any, np.dtype[np.float64]]):
            def __getitem__(rows, key: Any) -> Any:  # noqa: ANN401, N805
                self.read = np.append(self.read, np.arange(len(rows))[key])
                return rows.view(np.ndarray)[key]

        told: FloatArray = weights.view(Rows)
        return told


class DenseRun:
    """Plain dense training that keeps every pattern; separate code, and the judge of claims 1 and 2.

    Parameters
    ----------
    network : StartingNetwork
        Not modified. A lazy network's neurons are all that fire on its data, so its rows are the whole truth.
    problem : Problem
        Data and labels.

    Attributes
    ----------
    fires, fired_before, ever, touched : ndarray (n, u) of bool
        The pairs that fire now, that fired before the last step, that have fired up to it, and that have done so since
        the run under test last began to watch.
    """

    def __init__(self, network: Any, problem: problems.Problem) -> None:  # noqa: ANN401
        self.network, self.problem = network, problem
        self.weights = network.weights.copy()
        self.scores = problem.X @ self.weights.T
        self.fires = self.fired_before = self.ever = self.touched = self.scores >= network.shift

    def iterate(self) -> None:
        """Take one step; only neurons that fire have a gradient, so only their scores are formed anew."""
        moved = np.flatnonzero(self.fires.any(axis=0))
        self.weights[moved] -= step_of(moved, self.scores, self.network, self.problem)
        for scores, new in zip(self.scores, self.problem.X @ self.weights[moved].T, strict=True):
            scores[moved] = new  # quicker than all rows at once
        self.fired_before, self.ever, self.touched = self.fires, self.ever | self.fires, self.touched | self.fires
        self.fires = self.scores >= self.network.shift

    def shared(self) -> FloatArray:
        """Count the neurons that fire on both of two points: (n, n)."""
        pattern = self.fires[:, self.fires.any(axis=0)].astype(np.float32)
        shared: FloatArray = (pattern @ pattern.T).astype(np.float64)
        return shared

    def least_work(self, looked: IntArray, read: IntArray) -> dict[str, int]:
        """Count what the last step cannot do without, given the neurons of pairs looked at and the rows read."""
        n, d = self.problem.X.shape
        fan, before, touched = map(per_neuron, (self.fires, self.fired_before, self.touched))
        flips = per_neuron(self.fires != self.fired_before)
        return {
            "compare": len(looked),
            "drift": int(touched[looked].sum()),
            "gram": int(min(flips @ (fan + before), fan @ fan)),  # from the flips, or anew
            "compute": n * d * len(np.unique(read)),
        }


def per_neuron(pattern: BoolArray) -> IntArray:
    """Count the data points of each neuron: (m,). Short integers are summed four times as fast as long ones."""
    counts: IntArray = pattern.sum(axis=0, dtype=np.int16).astype(np.int64)
    return counts


def compare(run: Any, dense: DenseRun, looked: int) -> dict[str, list[int]]:  # noqa: ANN401
    """Pair what the run says with what is true; what must vanish is paired with 0."""
    fired = np.zeros_like(dense.fires)
    fired[run.fired.data_index, run.fired.neuron_index] = True
    counts = run.counts[-1]
    pairs: dict[str, tuple[Any, Any]] = {
        "flips": (counts.get("flips", -1), np.count_nonzero(dense.fires != dense.fired_before)),
        "active_pairs": (counts.get("active_pairs", -1), np.count_nonzero(dense.fires)),
        "look": (counts.get("look", -1), looked),
        "pairs that differ": (np.count_nonzero(fired != dense.fires), 0),
        "shared counts that differ": (np.count_nonzero(run.watched.shared != dense.shared()), 0),
    }
    return {name: [int(found), int(true)] for name, (found, true) in pairs.items()}


def ignores_poison(
    honest: Any,  # noqa: ANN401
    network: TwoLayerNetwork,
    problem: problems.Problem,
    dense: DenseRun,
    code: CodeUnderTest,
) -> bool:
    """Poison the neurons that never fired, after the preparation; tell whether the same bytes come out."""
    weights = network.weights.copy()
    run = code.start_events(replace(network, weights=weights), problem.X, problem.y)
    silent = ~(dense.ever | dense.fires).any(axis=0)
    weights[silent] = np.inf * (-1.0) ** np.arange(network.dim)
    try:
        # Infinite weights of both signs make any product with them invalid, even one whose result is thrown away.
        with np.errstate(invalid="raise"):
            for _ in honest.counts:
                run.iterate()
    except (InputError, DivergenceError, ArithmeticError):
        return False
    same_residuals: bool = run.residual_norms == honest.residual_norms
    return same_residuals and run.residual.tobytes() == honest.residual.tobytes()


def decide(results: Results) -> list[Finding]:
    """Count what differs; fit slopes and terms over seeds; withdraw what a witness contradicts."""
    findings = [
        _find_exact(results),
        _find_counters(results),
        _find_width(results),
        _find_forbidden(results),
        _find_leaving(results),
        _find_cubic(results),
        _find_flips(results),
        _find_late(results),
        _find_families(results),
    ]
    witness = _find_witness(results)
    if witness.verdict == "fails":
        findings = [contradicted(finding) if finding.claim in RELY_ON_COUNTS else finding for finding in findings]
    return [*findings, witness]


def describe_domain(results: Results) -> str:
    """Say for which sizes a verdict speaks."""

    def span(name: str) -> str:
        values = sorted({inputs[name] for inputs, _ in results})
        return f"{name}={values[0]}" if len(values) == 1 else f"{name}={values[0]}..{values[-1]}"

    exponents = sorted({int(math.log2(inputs["width"])) for inputs, _ in results})
    families = ", ".join(sorted({inputs["family"] for inputs, _ in results}))
    alphas = " and ".join(str(alpha) for alpha in sorted({inputs["alpha"] for inputs, _ in results}))
    widths = "..".join(f"2^{exponent}" for exponent in sorted({exponents[0], exponents[-1]}))
    return (
        f"{span('n')}, {span('d')}, m={widths}, alpha={alphas}, {families} inputs, labels +-1, "
        f"{len({inputs['seed'] for inputs, _ in results})} seeds"
    )


def pair_work(counts: dict[str, int]) -> int:
    """Sum the work on pairs of one iteration."""
    return sum(work for phase, work in counts.items() if phase not in ("solve", "active_pairs"))


def all_work(counts: dict[str, int]) -> int:
    """Sum the whole work of one iteration."""
    return sum(work for phase, work in counts.items() if phase != "active_pairs")


def fired_law(n: int, width: int, alpha: float) -> float:
    """Return ``n m Phi(-b)`` at ``b = sqrt(2 alpha ln m)``, typed again here.

    Examples
    --------
    >>> round(fired_law(1, 2**16, 0.24))
    689
    """
    return float(n * width * ndtr(-math.sqrt(2 * alpha * math.log(width))))


def late_iterations(result: Result) -> list[dict[str, int]]:
    """List the counts of the iterations that found the pattern at rest: no flips in them nor in the one before."""
    counts = result["counts"]
    return [
        now
        for before, now in pairwise(counts)
        if before.get("flips") == 0 and now.get("flips") == 0
    ]


def _chosen(results: Results, **wanted: object) -> list[tuple[Inputs, Result]]:
    return [(i, r) for i, r in results if all(i[name] == value for name, value in wanted.items())]


def _seeds(results: Results) -> dict[int, list[tuple[Inputs, Result]]]:
    """Group cells by seed."""
    return {seed: _chosen(results, seed=seed) for seed in sorted({inputs["seed"] for inputs, _ in results})}


def _mean_work(result: Result) -> float:
    """Return the work on pairs per iteration."""
    return math.fsum(map(pair_work, result["counts"])) / max(len(result["counts"]), 1)


def _exactly_none(name: str, wrong: int, total: int, results: Results, reason: str) -> Finding:
    share = wrong / total if total else math.nan
    return make_finding(
        f"events.{name}",
        Interval(share, share, share),
        "invalid" if not total else "fails" if wrong else "holds",
        margin="= 0 (share that differs)",
        domain=describe_domain(results),
        reason=reason,
    )


def _find_exact(results: Results) -> Finding:
    wrong, total, example = 0, 0, ""
    for inputs, result in results:
        for iteration in range(inputs["iterations"]):
            if iteration >= len(result["checked"]):
                wrong, total, example = wrong + 1, total + 1, f"; e.g. iteration {iteration} stopped at {inputs}"
                continue
            for name, (found, true) in result["checked"][iteration].items():
                total += 1
                if found != true:
                    wrong += 1
                    example = f"; e.g. {name} {found}, not {true}, in iteration {iteration} at {inputs}"
    reason = f"{wrong} of {total} numbers differ from the dense run{example}."
    return _exactly_none("exact", wrong, total, results, reason)


def _find_counters(results: Results) -> Finding:
    wrong, total, example = 0, 0, ""
    for inputs, result in results:
        for iteration, (counts, least) in enumerate(zip(result["counts"], result["least"], strict=True)):
            for name, value in least.items():
                total += 1
                if counts.get(name, -1) < value:
                    wrong += 1
                    example = f"; e.g. {name} {counts.get(name)} < {value} in iteration {iteration} at {inputs}"
    reason = f"{wrong} of {total} counters are below the least possible work{example}."
    return _exactly_none("counters", wrong, total, results, reason)


def _find_width(results: Results) -> Finding:
    own = _chosen(results, sweep="width")
    intervals = {
        (phase, alpha): t_interval([_width_slope(phase, cells) for cells in _seeds(_chosen(own, alpha=alpha)).values()])
        for alpha in (ALPHA, LARGE_ALPHA)
        for phase in ("whole", *BUSY_PHASES)
    }
    # A phase that reports nothing has no slope, and must not hide behind the others; nor one that grows behind a noisy.
    verdicts = {key: decide_below(interval, WIDTH_MARGIN) for key, interval in intervals.items()}
    worst = max(intervals, key=lambda key: (BADNESS.index(verdicts[key]), intervals[key].high))
    listed = "; ".join(
        f"alpha {alpha}: "
        + ", ".join(f"{phase} {fit.estimate:.3f}" for (phase, a), fit in intervals.items() if a == alpha)
        for alpha in (ALPHA, LARGE_ALPHA)
    )
    return make_finding(
        "events.width",
        intervals[worst],
        verdicts[worst],
        margin=f"<= {WIDTH_MARGIN:g}",
        domain=describe_domain(own),
        reason=f"Slope of log(work / law) against log m of the worst, {worst[0]} at alpha {worst[1]}; t-interval "
        f"over seeds. All slopes: {listed}.",
    )


def _width_slope(phase: str, cells: Results) -> float:
    x, y = [], []
    for inputs, result in cells:
        works = [pair_work(counts) if phase == "whole" else counts.get(phase, 0) for counts in result["counts"]]
        work = math.fsum(works) / fired_law(inputs["n"], inputs["width"], inputs["alpha"])
        x.append(math.log(inputs["width"]))
        y.append(math.log(work) if work > 0 else math.nan)
    return slope(x, y)[0]


def fit_pairs(results: Results) -> tuple[dict[str, Interval], float]:
    """Fit the work on pairs of an iteration by named terms; ``k`` is the measured number of fired neurons per point.

    Returns the coefficients, none if a run reports no work, and the misfit: the root mean square over cells of the
    share of the work that they leave unexplained.
    """
    work = [_mean_work(result) for _, result in results]
    if min(work) <= 0:
        return {}, math.nan
    terms = {
        # The sum over neurons of their fired points squared, n k (1 + n q) for random data.
        "sum of f_r^2": [float(r["fan"]) for _, r in results],
        "n^2 k": [float(i["n"] * r["fired"]) for i, r in results],
        "m n d": [float(i["width"] * i["n"] * i["d"]) for i, _ in results],
    }
    seeds = [inputs["seed"] for inputs, _ in results]
    fits = named_terms_fit(terms, work, seeds, np.random.default_rng(0), resamples=200)
    explained = sum(fits[name].estimate * np.array(values) for name, values in terms.items()) / np.array(work)
    return fits, float(np.sqrt(np.mean((1 - explained) ** 2)))


def _listed(fits: dict[str, Interval]) -> str:
    return ", ".join(f"{term}: {fit.estimate:.3g}, at most {fit.high:.3g}" for term, fit in fits.items())


def _find_forbidden(results: Results) -> Finding:
    own = [(i, r) for i, r in _chosen(results, family="random", alpha=ALPHA) if i["width"] >= WIDE]
    fits, misfit = fit_pairs(own)
    margin = ", ".join(f"{term}: <= {bound:g}" for term, bound in FORBIDDEN_MARGINS.items())
    if not fits:
        return make_finding(
            "events.forbidden", None, "invalid", margin=margin, domain=describe_domain(own), reason="No work reported."
        )
    worst = max(FORBIDDEN_MARGINS, key=lambda term: fits[term].high / FORBIDDEN_MARGINS[term])
    return make_finding(
        "events.forbidden",
        fits[worst],
        decide_below(fits[worst], FORBIDDEN_MARGINS[worst]) if misfit <= MOST_MISFIT else "invalid",
        margin=margin,
        domain=describe_domain(own),
        reason=f"The term nearest to its margin is {worst}. Coefficients of all terms ({_listed(fits)}); interval by "
        f"bootstrap over seeds. Misfit {misfit:.2g}; a fit is rejected above {MOST_MISFIT}.",
    )


def _find_leaving(results: Results) -> Finding:
    own = _chosen(results, family="random", alpha=LARGE_ALPHA)
    least = [
        min(_mean_work(result) / (inputs["n"] * result["fired"]) for inputs, result in cells)
        for cells in _seeds(own).values()
    ]
    interval = t_interval(least)
    return make_finding(
        "events.leaving",
        interval,
        decide_above(interval, LEAVING_LEAST),
        margin=f">= {LEAVING_LEAST:g}",
        domain=describe_domain(own),
        reason="Work on pairs of an iteration over n^2 k, k the measured number of fired neurons per point, the "
        "smallest ratio of a seed; t-interval over seeds.",
    )


def _find_cubic(results: Results) -> Finding:
    own = _chosen(results, sweep="late")
    work, seeds, sizes, fired = [], [], [], []
    for inputs, result in own:
        for counts in late_iterations(result):
            work.append(float(all_work(counts)))
            seeds.append(inputs["seed"])
            sizes.append(float(inputs["n"]))
            fired.append(float(result["fired"]))
    margin = f"<= {CUBIC_MARGIN:g}"
    rested = {inputs["seed"] for inputs, result in own if late_iterations(result)}
    if rested != {inputs["seed"] for inputs, _ in own} or min(work) <= 0:
        reason = "In some seed the pattern never came to rest, or an iteration reported no work."
        return make_finding("events.cubic", None, "invalid", margin=margin, domain=describe_domain(own), reason=reason)
    n = np.array(sizes)
    fits = named_terms_fit(
        {"n^2": n**2, "n k": fired, "n^3": n**3}, work, seeds, np.random.default_rng(0), resamples=200
    )
    return make_finding(
        "events.cubic",
        fits["n^3"],
        decide_below(fits["n^3"], CUBIC_MARGIN),
        margin=margin,
        domain=describe_domain(own),
        reason=f"Coefficients of the named terms in {len(work)} iterations at rest ({_listed(fits)}).",
    )


def _find_flips(results: Results) -> Finding:
    own = _chosen(results, family="random", alpha=ALPHA)
    worst, shares = [], []
    for cells in _seeds(own).values():
        ratios = []
        for _, result in cells:
            flips = [counts.get("flips", 0) for counts in result["counts"]]
            ratios += [now / before for before, now in pairwise(flips) if before >= FEWEST_FLIPS]
            shares.append([count / result["fired"] for count in (*flips, 0, 0, 0, 0)[:4]])
        worst.append(max(ratios, default=math.nan))
    interval = t_interval(worst)
    listed = ", ".join(f"{share:.2g}" for share in np.mean(shares, axis=0))
    return make_finding(
        "events.flips",
        interval,
        decide_below(interval, FLIP_MARGIN),
        margin=f"<= {FLIP_MARGIN:g}",
        domain=describe_domain(own),
        reason=f"Largest ratio of flips from one iteration to the next in a seed, where {FEWEST_FLIPS} or more were "
        "before; t-interval over seeds. Flips in iterations 1 to 4 for each pair that fires at the start, mean over "
        f"all runs: {listed}.",
    )


def _find_late(results: Results) -> Finding:
    own = _largest(_chosen(results, sweep="late"))
    worst = []
    for cells in _seeds(own).values():
        ratios = [_late_ratio(result) for _, result in cells]
        # Unlike max, numpy's lets no NaN go by.
        worst.append(float(np.max(ratios)))
    interval = t_interval(worst)
    return make_finding(
        "events.late",
        interval,
        decide_below(interval, LATE_MARGIN),
        margin=f"<= {LATE_MARGIN:g}",
        domain=describe_domain(own),
        reason="Work of the costliest iteration at rest over that of the first, solve included, the largest ratio of a "
        "seed; t-interval over seeds.",
    )


def _late_ratio(result: Result) -> float:
    late = [float(all_work(counts)) for counts in late_iterations(result)]
    first = all_work(result["counts"][0]) if late else 0
    return max(late) / first if first > 0 and min(late) > 0 else math.nan


def _find_families(results: Results) -> Finding:
    own = _chosen(results, sweep="families")
    worst = []
    for cells in _seeds(own).values():
        ratios = [_share_of_compacted(inputs, result) for inputs, result in cells]
        worst.append(float(np.max(ratios)))
    interval = t_interval(worst)
    means = {family: float(np.mean([_mean_work(r) for _, r in _chosen(own, family=family)])) for family in FAMILIES}
    times = ", ".join(f"{family} {means[family] / max(means['random'], 1):.3g}" for family in FAMILIES[1:])
    return make_finding(
        "events.families",
        interval,
        decide_below(interval, FAMILIES_MARGIN),
        margin=f"<= {FAMILIES_MARGIN:g}",
        domain=describe_domain(own),
        reason="Work of the costliest iteration over u n (2 d + n), the largest ratio of a seed; t-interval over "
        f"seeds. Mean work of an iteration in multiples of random data's: {times}.",
    )


def _share_of_compacted(inputs: Inputs, result: Result) -> float:
    n, d = inputs["n"], inputs["d"]
    compacted = float(result["moving"] * n * (2 * d + n))
    return max(map(pair_work, result["counts"]), default=math.nan) / compacted


def _find_witness(results: Results) -> Finding:
    own = [(i, r) for i, r in results if r["witness"] is not None]
    noticed = sum(not result["witness"] for _, result in own)
    return _exactly_none(
        "witness",
        noticed,
        len(own),
        own or results,
        f"{noticed} of {len(own)} runs noticed that what they must not read was overwritten.",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw the work of every iteration by family and size, and the work per iteration against the width."""
    by_iteration, by_width = figure.subplots(1, 2)
    curves: list[tuple[str, list[tuple[Inputs, Result]]]] = [
        (family, _chosen(results, sweep="families", family=family)) for family in FAMILIES
    ]
    late = _chosen(results, sweep="late")
    at = max((inputs for inputs, _ in late), key=lambda inputs: inputs["n"])
    curves.append((f"random, n={at['n']}, m=2^{int(math.log2(at['width']))}", _chosen(late, n=at["n"])))
    for label, own in curves:
        counts = [result["counts"] for _, result in own if result["counts"]]
        steps = range(min(map(len, counts), default=0))
        work = [max(float(np.mean([all_work(run[step]) for run in counts])), 1.0) for step in steps]
        by_iteration.plot([step + 1 for step in steps], work, marker="o", markersize=3, label=label)
    by_iteration.set(xlabel="iteration", ylabel="work, solve included", yscale="log")
    by_iteration.margins(y=0.4)
    by_iteration.legend(frameon=False, fontsize="small", loc="upper right", ncols=2)
    for index, alpha in enumerate((ALPHA, LARGE_ALPHA)):
        own = _chosen(results, sweep="width", alpha=alpha)
        widths = sorted({inputs["width"] for inputs, _ in own})
        means = [max(float(np.mean([_mean_work(r) for _, r in _chosen(own, width=w)])), 1.0) for w in widths]
        n = own[0][0]["n"]
        laws = np.array([fired_law(n, width, alpha) for width in widths])
        by_width.plot(widths, means, "o-", color=f"C{index}", markersize=3, label=f"n={n}, alpha={alpha}")
        by_width.plot(widths, laws * means[-1] / laws[-1], ":", color=f"C{index}", label="law, scaled")
    by_width.set_xscale("log", base=2)
    by_width.set(xlabel="width m", ylabel="work on pairs per iteration", yscale="log")
    by_width.margins(y=0.4)
    by_width.legend(frameon=False, fontsize="small", loc="upper left")


def _largest(results: list[tuple[Inputs, Result]]) -> list[tuple[Inputs, Result]]:
    return _chosen(results, n=max(inputs["n"] for inputs, _ in results))


EXPERIMENT = Experiment(
    name="events",
    title="The event-driven path costs what changes",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
