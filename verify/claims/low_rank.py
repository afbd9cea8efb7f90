"""Claim: lazy weights answer like eager ones, and waiting with what they owe costs little while folding costs much.

What is asked of `fast.low_rank` ([B], its data structure for weights under low-rank updates):

1. ``lazy``       Any interleaving of updates, products both ways, columns written out, folds and copies: does every
   answer equal that of `reference.low_rank`, which applies each update at once? Errors as a fraction of the rounding
   that two orders of summation allow.

The rest is counted. A *run* is that of one upper matrix in training: products forward and back with ``n`` vectors, in
which a neuron fires with probability ``q = Phi(-b)``, then ``n`` rank-one terms on the rows and columns that fire; who
fires stays as it is. ``R`` rows and ``C`` columns are touched.

2. ``rank``       Do reads of ``W(0)``, work with factors and work of folds equal their closed form
   (`verify.closed_forms`) in every iteration, whatever the rank budget?
3. ``crossing``   Products with waiting terms cost more, the more of them wait. At which rank do they cost as many
   multiply-adds as the products with ``W(0)``, forward and back taken together? As a fraction of ``m``.
4. ``fold``       What does folding cost a rank-one term? ``R C`` by the schoolbook, which is faster at these sizes,
   *whatever the budget*.
5. ``short``      A run that ends below rank ``m`` does not fold by default. How much more work in all is folding every
   iteration there?
6. ``waiting``    In a long run, is the default, which folds when waiting has cost as much, ever far above the cheaper
   of folding every iteration and never folding?

Larger folds take fewer multiplications: `verify.claims.rectangular_product`.

Claims 4 to 6 are why `fast.low_rank` waits until it pays, where [B] folds at a power of ``m``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from reference.low_rank import EagerWeights
from reference.notation import BoolArray, FloatArray
from reference.two_layer import shift_for
from verify import closed_forms, tolerances
from verify.comparison import UNEQUAL, largest
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_above, decide_below, decide_inside, make_finding, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

SHAPES = ((40, 40), (90, 30), (25, 70))
"""Of the matrices in claim 1, rows by columns."""
OPERATIONS = 60
SEEDS_LAZY, SEEDS = 8, 3
N = 32
LONG: Inputs = {"part": "long", "width": 1 << 7, "alpha": 0.24}
LONG_RANK = 16
"""The rank at which a long run ends, over ``m``."""
POINTS: list[Inputs] = [{"width": 1 << 9, "alpha": 0.24}, {"width": 1 << 10, "alpha": 0.4}]
CROSSING = (0.4, 0.6)
WAITING_MARGIN, SHORT_LEAST = 2.0, 2.0

CLAIMS = (
    Claim(
        "low_rank.lazy",
        "Lazy low-rank weights give the answers of weights that take every update at once, within rounding, after any "
        "interleaving of updates, products, folds and copies.",
        "[B], its data structure",
    ),
    Claim(
        "low_rank.rank",
        "The entries of W(0) that are read and the multiply-adds with factors and in folds equal their closed form in "
        "every iteration; the first do not grow with the rank.",
        "ours",
    ),
    Claim(
        "low_rank.crossing",
        "Terms that wait cost less than the products with W(0), forward and back together, until their rank is about "
        "m/2.",
        "ours",
    ),
    Claim(
        "low_rank.fold",
        "By the schoolbook a fold costs R C multiply-adds a rank-one term, at every rank budget.",
        "ours; [B] folds at a power of m",
    ),
    Claim(
        "low_rank.short",
        "Folding early costs much: with 32 points, in a run that ends below rank m, folding every iteration takes at "
        "least twice the work of the default, which does not fold there at all.",
        "ours; [B] folds at a power of m",
    ),
    Claim(
        "low_rank.waiting",
        "Folding when waiting has cost as much as the fold will is never far off: however long the run, up to rank "
        "16 m, it takes at most twice the work of the cheaper of folding every iteration and never folding.",
        "ours; the rule is that of ski rental",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List random interleavings and runs; thorough takes more seeds."""
    factor = 4 if profile.thorough else 1
    lazy = [
        {"part": "lazy", "shape": list(shape), "density": density, "seed": seed}
        for shape in SHAPES
        for density in (0.03, 0.3)
        for seed in range(SEEDS_LAZY * factor)
    ]
    runs = [{"part": "run", **point, "seed": seed} for point in POINTS for seed in range(SEEDS * factor)]
    return [*lazy, *runs, *({**LONG, "seed": seed} for seed in range(SEEDS * factor))]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure one cell."""
    if inputs["part"] == "lazy":
        return {"worst": largest_error(inputs, rng, code)}
    n, m = N, inputs["width"]
    q = float(ndtr(-shift_for(m, inputs["alpha"])))
    fires = [rng.random((n, m)) < q for _ in range(2)]
    H, P = (sparse.csr_array(now * rng.standard_normal((n, m))) for now in fires)
    W = np.asfortranarray(rng.standard_normal((m, m)))
    budgets: dict[str, int | None] = {"every": n, "quarter": m // 4, "full": m, "default": None, "never": 1 << 40}
    iterations = (LONG_RANK if inputs["part"] == "long" else 2) * m // n
    return {
        "rows": int(fires[1].any(axis=0).sum()),
        "columns": int(fires[0].any(axis=0).sum()),
        "work": {name: run_work(code.low_rank(W, budget=budget), H, P, iterations) for name, budget in budgets.items()},
        "expected": {name: expected_work(fires[0], fires[1], budget, iterations) for name, budget in budgets.items()},
    }


@dataclass
class Pair:
    """Lazy and eager weights side by side, and the sum of the magnitudes of all that was added.

    Attributes
    ----------
    terms : int
        Products that an entry may consist of.
    """

    lazy: Any
    eager: EagerWeights
    magnitude: FloatArray
    terms: int
    errors: list[float] = field(default_factory=list)

    def copy(self) -> Pair:
        """Copy both."""
        return Pair(self.lazy.copy(), EagerWeights(self.eager.matrix), self.magnitude.copy(), self.terms, self.errors)

    def add(self, left: sparse.csr_array, right: sparse.csr_array) -> None:
        """Update both."""
        self.lazy.add(left, right)
        self.eager.add(left.toarray(), right.toarray())
        self.magnitude += np.abs(left.toarray()).T @ np.abs(right.toarray())
        self.terms += left.shape[0]

    def compare(self, found: FloatArray, true: FloatArray, scale: FloatArray) -> None:
        """Note the largest error as a fraction of what rounding allows."""
        allowed = tolerances.matrix_product(self.terms, 1.0) * scale
        # Where nothing was added up, both are 0.
        tiny = np.finfo(np.float64).tiny
        fraction = np.abs(found - true) / (allowed + tiny)
        self.errors.append(largest([fraction.max(initial=0.0)]))

    def ask(self, question: str, H: sparse.csr_array, P: sparse.csr_array) -> None:
        """Put one question to both."""
        W, scale = self.eager.matrix, self.magnitude
        if question == "multiply":
            dense = H.toarray()
            self.compare(self.lazy.multiply(H), self.eager.multiply(dense), np.abs(dense) @ scale.T)
        elif question == "multiply_at":
            dense, at = P.toarray(), H.nonzero()
            true = self.eager.multiply_transposed(dense)[at]
            self.compare(self.lazy.multiply_at(P, H), true, (np.abs(dense) @ scale)[at])
        elif question == "columns_at":
            columns = np.unique(H.indices)
            self.compare(self.lazy.columns_at(columns), W[:, columns], scale[:, columns])
        else:
            self.compare(self.lazy.to_dense(), W, scale)


def largest_error(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> float:
    """Interleave operations at random; return the largest error as a fraction of its bound."""
    p, q = inputs["shape"]
    initial = rng.standard_normal((p, q))
    initial = np.asfortranarray(initial) if rng.random() < 0.5 else initial
    budget = [None, 1, 7, 20][rng.integers(4)]
    pairs = [Pair(code.low_rank(initial, budget=budget), EagerWeights(initial), np.abs(initial), q)]

    def vectors(k: int, size: int) -> sparse.csr_array:
        return sparse.csr_array((rng.random((k, size)) < inputs["density"]) * rng.standard_normal((k, size)))

    operations = ["add", "fold", "copy", "store", "multiply", "multiply_at", "columns_at", "to_dense"]
    for operation in rng.choice(operations, size=OPERATIONS, p=[0.3, 0.05, 0.05, 0.05, 0.2, 0.2, 0.1, 0.05]):
        pair = pairs[rng.integers(len(pairs))]
        if operation == "add":
            k = int(rng.integers(1, 6))
            pair.add(vectors(k, p), vectors(k, q))
        elif operation == "fold":
            pair.lazy.fold()
        elif operation == "store":
            pair.lazy.store_by_columns()
        elif operation == "copy":
            pairs.append(pair.copy())  # both live on, and neither may disturb the other
        else:
            pair.ask(str(operation), vectors(4, q), vectors(4, p))
    for pair in pairs:
        pair.ask("to_dense", vectors(1, q), vectors(1, p))
    same = np.array_equal(initial, pairs[0].lazy.initial)
    return largest(pairs[0].errors) if same else UNEQUAL


PHASES = ("read", "factors", "fold")


def run_work(weights: Any, H: sparse.csr_array, P: sparse.csr_array, iterations: int) -> dict[str, list[int]]:  # noqa: ANN401
    """Ask and update again and again; note the work of each iteration."""
    work: dict[str, list[int]] = {phase: [] for phase in PHASES}
    for _ in range(iterations):
        before = dict(weights.work)
        weights.multiply(H)
        weights.multiply_at(P, H)
        weights.add(P, H)
        for phase in PHASES:
            work[phase].append(int(weights.work.get(phase, 0) - before.get(phase, 0)))
    return work


def expected_work(columns: BoolArray, rows: BoolArray, budget: int | None, iterations: int) -> dict[str, list[int]]:
    """Compute the same from the patterns."""
    m = columns.shape[1]
    factors = closed_forms.Factors(m, m)
    work: dict[str, list[int]] = {phase: [] for phase in PHASES}
    for _ in range(iterations):
        work["read"].append(closed_forms.columns_read(columns, m) + closed_forms.entries_read(rows, columns))
        work["factors"].append(factors.forward_work(columns) + factors.backward_work(rows))
        work["fold"].append(factors.add(rows, columns, budget))
    return work


def decide(results: Results) -> list[Finding]:
    """Take the largest error; compare counts with closed forms; average ratios of work over seeds."""
    runs = [(inputs, result) for inputs, result in results if inputs["part"] == "run"]
    long = [(inputs, result) for inputs, result in results if inputs["part"] == "long"]
    points = sorted({(inputs["width"], inputs["alpha"]) for inputs, _ in runs})
    sizes = " and ".join(f"m={m}, alpha={alpha}" for m, alpha in points)
    count = f"n={N}, {len({inputs['seed'] for inputs, _ in runs})} seeds"
    domain = f"{sizes}, {count}"
    long_domain = f"m={LONG['width']}, alpha={LONG['alpha']}, to rank {LONG_RANK} m, {count}"
    return [
        _find_lazy([(inputs, result) for inputs, result in results if inputs["part"] == "lazy"]),
        _find_rank([*runs, *long], f"{domain}; {long_domain}"),
        _find_crossing(runs, domain),
        _find_fold(runs, domain),
        _find_short(runs, domain),
        _find_waiting(long, long_domain),
    ]


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


def _find_lazy(results: Results) -> Finding:
    inputs, result = max(results, key=lambda each: each[1]["worst"])
    worst = _exactly(result["worst"])
    shapes = ", ".join(f"{p} by {q}" for p, q in SHAPES)
    (p, q), density, seed = inputs["shape"], inputs["density"], inputs["seed"]
    return make_finding(
        "low_rank.lazy",
        worst,
        decide_below(worst, 1.0),
        margin="<= 1 (largest error over its bound)",
        domain=f"{shapes}, density 0.03 and 0.3, {OPERATIONS} operations, {len(results)} interleavings",
        reason=f"The largest error is at {p} by {q}, density {density}, seed {seed}.",
    )


def _find_rank(results: Results, domain: str) -> Finding:
    wrong, total, example = 0, 0, ""
    for inputs, result in results:
        for budget, expected in result["expected"].items():
            for phase, values in expected.items():
                pairs = list(zip(result["work"][budget][phase], values, strict=True))
                total += len(pairs)
                differ = [at for at, (found, value) in enumerate(pairs) if found != value]
                wrong += len(differ)
                if differ:
                    found, value = pairs[differ[0]]
                    example = f"; e.g. {phase} {found}, not {value}, in iteration {differ[0]} at {inputs}"
    share = _exactly(wrong / total)
    return make_finding(
        "low_rank.rank",
        share,
        "holds" if wrong == 0 else "fails",
        margin="= 0 (share of counters that differ)",
        domain=domain,
        reason=f"{wrong} of {total} counters differ from their closed form{example}.",
    )


def crossing(work: dict[str, list[int]]) -> float:
    """Return the number of iterations after which factors cost what reads do, between two of them linearly; else NaN.

    Examples
    --------
    >>> crossing({"factors": [0, 4, 8], "read": [6, 6, 6]})
    1.5
    """
    over = np.subtract(work["factors"], work["read"])
    above = np.flatnonzero(over >= 0)
    if not above.size or above[0] == 0:
        return math.nan
    at = int(above[0])
    return at - float(over[at]) / float(over[at] - over[at - 1])


def _by_point(results: Results, value: Any) -> list[tuple[str, Interval]]:  # noqa: ANN401
    intervals = []
    for point in POINTS:
        own = [value(i, r) for i, r in results if (i["width"], i["alpha"]) == (point["width"], point["alpha"])]
        intervals.append((f"at m={point['width']}, alpha={point['alpha']}", t_interval(own)))
    return intervals


def _find_crossing(results: Results, domain: str) -> Finding:
    intervals = _by_point(results, lambda i, r: crossing(r["work"]["never"]) * N / i["width"])
    # A point without a crossing comes first.
    off = [np.nan_to_num(abs(interval.estimate - sum(CROSSING) / 2), nan=np.inf) for _, interval in intervals]
    where, interval = intervals[int(np.argmax(off))]
    low, high = CROSSING
    return make_finding(
        "low_rank.crossing",
        interval,
        decide_inside(interval, low, high),
        margin=f"within [{low}, {high}] (rank over m)",
        domain=domain,
        reason=f"The point farther from the middle, {where}; t-interval over seeds.",
    )


def _find_fold(results: Results, domain: str) -> Finding:
    ratios = {
        budget: [
            sum(r["work"][budget]["fold"]) / (N * len(r["work"][budget]["fold"]) * r["rows"] * r["columns"])
            for _, r in results
        ]
        for budget in ("every", "quarter", "full")
    }
    low, high = min(map(min, ratios.values())), max(map(max, ratios.values()))
    middle = float(np.mean([np.mean(values) for values in ratios.values()]))
    return make_finding(
        "low_rank.fold",
        Interval(middle, low, high),
        "holds" if low == high == 1 else "fails",
        margin="= 1 (fold work a term over R C)",
        domain=domain,
        reason="Smallest and largest over seeds and budgets of n, m/4 and m: "
        + ", ".join(f"{budget} {np.mean(values):g}" for budget, values in ratios.items())
        + ".",
    )


def total_work(work: dict[str, list[int]], iterations: int) -> int:
    """Sum up the work of the first iterations."""
    return sum(sum(work[phase][:iterations]) for phase in PHASES)


def _find_short(results: Results, domain: str) -> Finding:
    def ratio(inputs: Inputs, result: Result) -> float:
        iterations = inputs["width"] // N - 1  # the last update still leaves the rank below m
        every, default = (total_work(result["work"][budget], iterations) for budget in ("every", "default"))
        return every / default if every and default else math.nan

    where, interval = min(_by_point(results, ratio), key=lambda each: np.nan_to_num(each[1].low, nan=-np.inf))
    folds = sum(sum(r["work"]["default"]["fold"][: i["width"] // N - 1]) for i, r in results)
    verdict = decide_above(interval, SHORT_LEAST)
    return make_finding(
        "low_rank.short",
        interval,
        "fails" if folds else verdict,
        margin=f">= {SHORT_LEAST:g} (every iteration over default), and no fold by default",
        domain=domain,
        reason=f"Work of reads, factors and folds; the less favourable point, {where}; t-interval over seeds.",
    )


def excess(work: dict[str, dict[str, list[int]]]) -> float:
    """Return the largest ratio, over all lengths of a run, of the default's work to the cheaper of the two extremes.

    Examples
    --------
    >>> rent, buy, wait = ({"read": [0] * 3, "factors": f, "fold": p} for f, p in
    ...                    (([1, 2, 3], [0, 0, 0]), ([0, 0, 0], [3, 0, 0]), ([1, 2, 0], [0, 3, 0])))
    >>> excess({"never": rent, "every": buy, "default": wait})
    2.0
    """
    sums = {budget: np.cumsum(np.sum([work[budget][phase] for phase in PHASES], axis=0)) for budget in work}
    cheaper = np.minimum(sums["never"], sums["every"])
    return float(np.max(sums["default"] / cheaper)) if cheaper.all() else math.nan


def _find_waiting(results: Results, domain: str) -> Finding:
    interval = t_interval([excess(result["work"]) for _, result in results])
    folds = [sum(count > 0 for count in result["work"]["default"]["fold"]) for _, result in results]
    verdict = decide_below(interval, WAITING_MARGIN)
    return make_finding(
        "low_rank.waiting",
        interval,
        # A run without a fold says nothing about when to fold.
        verdict if min(folds) else "invalid",
        margin=f"<= {WAITING_MARGIN:g} (default over the cheaper extreme, at the worst length)",
        domain=domain,
        reason=f"Work of reads, factors and folds, t-interval over seeds; {min(folds)} to {max(folds)} folds a run.",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw the work of a run so far under three rules."""
    axes = figure.subplots(1, len(POINTS) + 1, squeeze=False)[0]
    for place, point in zip(axes, [*POINTS, LONG], strict=True):
        work = next(result["work"] for inputs, result in results if point.items() <= inputs.items())
        for budget, label in (("never", "never fold"), ("default", "default"), ("every", "fold every iteration")):
            sums = np.sum([work[budget][phase] for phase in PHASES], axis=0)
            place.plot(np.arange(1, len(sums) + 1) * N / point["width"], np.cumsum(sums) / 1e7, marker="", label=label)
        place.set(title=f"m={point['width']}, alpha={point['alpha']}", xlabel="rank so far / m")
    axes[0].legend(frameon=False)
    axes[0].set_ylabel("work so far / 1e7")


EXPERIMENT = Experiment(
    name="low_rank",
    title="Lazy low-rank weights",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
