"""Claim: how much faster by the clock many layers train from their fired neurons, and from which width on.

What is asked. The fast loop (`fast.multi_layer_gauss_newton`) and its two opponents (`fast.multi_layer_baselines`:
*dense* scans every matrix by BLAS, *compacted* gathers the columns of neurons that fire somewhere first) train both
layers of the same network on the same data, in one process with one BLAS thread. Weights are drawn again if a run
stops and one by the definitions does, too; if that goes through, every claim is invalid. After one iteration to warm
up, each loop takes one iteration, in random order, round after round; a *paired ratio* compares times of the same
round. The number of a seed is the median over rounds, an interval is over seeds. A second fast loop runs along as a
control: the ratio of the two identical loops must be 1, or no clock reading here is evidence and every claim is
invalid. So they are if the loops do not come to the same residuals: a loop that does not train is soon done.

The iterations timed are the second to the fifth. Nothing of the fast loop is folded in them; the terms that wait are
paid for in every product. In the largest of the widths measured, `FACTORS`:

1. ``dense``        At alpha = 0.24, how many times faster is an iteration than a dense one?
2. ``compacted``    And than a compacted one?
3. ``normalized``   At alpha = 0.4 in a normalized network, where signals live at this width: than a dense one?
4. ``start``        At alpha = 0.24, with the start from matrices stored by columns included: six iterations beside six
   of the opponent for whom this takes less time. Its start contains the copies that it writes to.

5. ``last_layer``   At alpha = 0.24, where the last layer alone is trained: than the stronger opponent's? An iteration
   costs what changes there, so the unit is the mean over six from a fresh start, the first included and not warmed up.

Over a range of widths, in normalized networks at alpha = 0.24, whose signals live at the small ones, too:

6. ``crossover``    From which width on is it faster than both opponents? The smallest one measured, if it is there.
7. ``growth``       Does its time grow with the width more slowly than that of the dense loop?

And whether the opponents are worth the name:

8. ``opponents``    By the least times over rounds: at alpha = 0.24 and the largest width, does an iteration of the
   dense loop take little longer than the products ``H_(l-1) W_l^T`` by BLAS that it cannot do without, and one of the
   compacted loop little longer than that?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import reference.multi_layer_gauss_newton
from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, NothingFiresError, SingularGramError
from reference.two_layer import shift_for
from verify import problems, tolerances
from verify.claims.time import crossing
from verify.comparison import residuals_apart
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import Interval, decide_above, decide_below, make_finding, slope, t_interval
from verify.timing import clock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

N, D, DEPTH = 32, 32, 2
ALPHA, SPARSE = 0.24, 0.4
GRID = (8, 9, 10, 11)
LARGE, LARGE_THOROUGH = 12, 13
SEEDS, SEEDS_LARGE = 3, 4
"""Of the grid; and at the largest width, where they scatter most."""
STARTS_COUNT = ("plain", "sparse")
"""Parts whose start is part of a claim."""
ROUNDS = 4
REPEATS, SMALL = 3, 10
"""Up to 2^10 an iteration takes milliseconds and is easily disturbed: the loops start over so many times."""
RUN = 6
"""Iterations of a whole run; on random inputs little but rounding is left of the residual then."""
MOST_REDRAWS = 20
STOPS = (NothingFiresError, SingularGramError, DivergenceError)
PASS_MARGIN, COMPACTED_MARGIN = 3, 2
"""Of the dense loop's time over the bare products', and of the compacted loop's over the dense one's."""
CONTROL_MARGIN = 0.1
"""The identical pair's log ratio may be this far from 0, in the mean over all cells."""


@dataclass(frozen=True)
class Factors:
    """How many times faster the fast loop must be, claim by claim."""

    dense: float
    compacted: float
    normalized: float
    start: float
    last_layer: float


FACTORS = {
    LARGE: Factors(dense=2, compacted=2, normalized=4, start=2, last_layer=30),
    LARGE_THOROUGH: Factors(dense=4, compacted=2.5, normalized=15, start=3, last_layer=50),
}
"""By log2 of the width."""

OURS = "ours; [B] has no experiment"
CLAIMS = (
    Claim(
        "deep_time.dense",
        "At alpha = 0.24 an iteration over both of two layers is faster than a dense one by the factor asked for: 2 "
        "at m = 2^12, 4 at m = 2^13.",
        OURS,
    ),
    Claim(
        "deep_time.compacted",
        "It is faster than a compacted one by the factor asked for: 2 at m = 2^12, 2.5 at m = 2^13.",
        OURS,
    ),
    Claim(
        "deep_time.normalized",
        "At alpha = 0.4 in a normalized network it is faster than a dense one by the factor asked for: 4 at m = 2^12, "
        "15 at m = 2^13.",
        OURS,
    ),
    Claim(
        "deep_time.start",
        "At alpha = 0.24, with the start from matrices stored by columns included on both sides, six iterations are "
        "faster than six of the stronger opponent by the factor asked for: 2 at m = 2^12, 3 at m = 2^13.",
        OURS,
    ),
    Claim(
        "deep_time.last_layer",
        "At alpha = 0.24 an iteration on the last layer alone is faster than one of the stronger opponent, on average "
        "over six, by the factor asked for: 30 at m = 2^12, 50 at m = 2^13.",
        OURS,
    ),
    Claim(
        "deep_time.crossover",
        "In normalized networks at alpha = 0.24 the fast loop overtakes both opponents at one of the widths measured, "
        "or is ahead at all of them; the estimate is log2 of the width.",
        OURS,
    ),
    Claim(
        "deep_time.growth",
        "In normalized networks at alpha = 0.24 the time of an iteration grows with the width more slowly than that of "
        "the dense loop.",
        OURS,
    ),
    Claim(
        "deep_time.opponents",
        "The opponents do not dawdle: at alpha = 0.24 and the largest width measured, an iteration of the dense loop "
        f"takes at most {PASS_MARGIN:g} times as long as the bare products of all points with both matrices, and one "
        f"of the compacted loop at most {COMPACTED_MARGIN:g} times as long as one of the dense loop.",
        OURS,
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the widths, each for every seed."""
    large = LARGE_THOROUGH if profile.thorough else LARGE
    grid = [*GRID, LARGE] if profile.thorough else GRID
    settings = [
        *({"part": "grid", "alpha": ALPHA, "normalized": True, "exponent": exponent} for exponent in grid),
        {"part": "plain", "alpha": ALPHA, "normalized": False, "exponent": large},
        {"part": "sparse", "alpha": SPARSE, "normalized": True, "exponent": large},
        {"part": "last", "alpha": ALPHA, "normalized": False, "exponent": large},
    ]
    return [
        {**setting, "seed": seed}
        for setting in settings
        for seed in range(SEEDS if setting["part"] == "grid" else SEEDS_LARGE)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Time the start of every loop, then interleaved iterations; seconds."""
    width = 1 << inputs["exponent"]
    problem = problems.make("random", N, D, rng)
    shift = shift_for(width, inputs["alpha"])
    # Where few neurons fire, now and then a signal dies, whatever code trains; that says nothing about time.
    for redraws in range(MOST_REDRAWS):
        network = code.deep_initialize(width, D, DEPTH, shift=shift, rng=rng, normalized=inputs["normalized"])
        try:
            part, count = inputs["part"], REPEATS if inputs["exponent"] <= SMALL else 1
            repeats = [interleaved(network, problem, rng, code, part=part) for _ in range(count)]
            return {**joined(repeats), "redraws": redraws}
        except STOPS as error:
            stopped = str(error)
        last = inputs["part"] == "last"
        layers, iterations = [DEPTH] if last else range(1, DEPTH + 1), RUN if last else 1 + ROUNDS
        try:
            reference.multi_layer_gauss_newton.train(
                network, problem.X, problem.y, trained_layers=layers, iterations=iterations
            )
        except STOPS:
            continue
        return {"stopped": stopped}
    raise NothingFiresError(f"no run of {MOST_REDRAWS} networks of width {width} went through; widen the networks")


def joined(repeats: Sequence[Result]) -> Result:
    """Take the shortest start of each loop, all rounds, and the largest difference of residuals."""
    names = repeats[0]["start"]
    return {
        "start": {name: min(each["start"][name] for each in repeats) for name in names},
        "iteration": {name: [second for each in repeats for second in each["iteration"][name]] for name in names},
        "apart": max(each["apart"] for each in repeats),
    }


def interleaved(
    network: MultiLayerNetwork, problem: problems.Problem, rng: np.random.Generator, code: CodeUnderTest, *, part: str
) -> Result:
    """Start every loop on the same network, then let them iterate in turn; on the last layer, six at a time afresh."""
    last = part == "last"
    layers = [DEPTH] if last else range(1, DEPTH + 1)
    starts: dict[str, Callable[[], Any]] = {
        "fast": lambda: code.start_deep(network, problem.X, problem.y, trained_layers=layers),
        "control": lambda: code.start_deep(network, problem.X, problem.y, trained_layers=layers),
        "dense": lambda: code.start_deep_dense(network, problem.X, problem.y, trained_layers=layers),
        "compacted": lambda: code.start_deep_dense(network, problem.X, problem.y, trained_layers=layers, compact=True),
    }
    if part == "plain":
        starts["pass"] = lambda: BareProducts(network, problem)
    fresh = {"fast", "control"} if last else set()
    for name in fresh:
        starts[name] = lambda: code.last_layer(network, problem.X, rank_budget=None).run(problem.y)
    start_seconds: dict[str, float] = {}
    runs: dict[str, Any] = {}
    for name, start in starts.items():
        start_seconds[name] = math.inf
        # Twice where it counts, for the first touch of new memory can cost more than the start itself.
        for _ in range(2 if part in STARTS_COUNT else 1):
            runs.pop(name, None)
            before = clock()
            runs[name] = start()
            start_seconds[name] = min(start_seconds[name], clock() - before)
        runs[name].iterate()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        # A loop that follows its twin finds a warm cache; in random order no loop always does.
        for name in rng.permutation(list(runs)):
            if name in fresh:
                runs[name] = starts[name]()
            count = RUN if name in fresh else 1
            before = clock()
            for _ in range(count):
                runs[name].iterate()
            seconds[name].append((clock() - before) / count)
    loops = [(name, run) for name, run in runs.items() if name != "pass"]
    traces = [(run.residual_norms[:], RUN if name in fresh else 1 + ROUNDS) for name, run in loops]
    for _ in range(1 + ROUNDS, RUN if last else 0):
        runs["compacted"].iterate()
    apart = residuals_apart(runs["compacted"].residual_norms, traces)
    return {"start": start_seconds, "iteration": seconds, "apart": apart}


class BareProducts:
    """Sends all points through all layers by BLAS, and throws the result away: no dense loop can do with less."""

    def __init__(self, network: MultiLayerNetwork, problem: problems.Problem) -> None:
        self.network, self.X = network, problem.X

    def iterate(self) -> None:
        """Pass through the layers once."""
        hidden = self.X
        for W in self.network.weights:
            scores = hidden @ W.T
            hidden = np.where(scores >= self.network.shift, scores, 0.0)


def log_speedup(result: Result, *opponents: str) -> float:
    """Return the log of how many times faster an iteration is than the fastest of the opponents': median over rounds.

    Examples
    --------
    >>> result = {"iteration": {"fast": [1.0, 2.0, 1.0], "dense": [4.0, 4.0, 9.0], "compacted": [5.0, 5.0, 3.0]}}
    >>> round(math.exp(log_speedup(result, "dense")), 9), round(math.exp(log_speedup(result, "dense", "compacted")), 9)
    (4.0, 3.0)
    """
    own = np.array(result["iteration"]["fast"])
    theirs = np.min([result["iteration"][name] for name in opponents], axis=0)
    return math.log(float(np.median(theirs / own)))


def log_quotient(result: Result, name: str, other: str) -> float:
    """Return the log of one loop's time of an iteration over another's: least over rounds each.

    Both do the same in every round, and what disturbs them only takes longer.

    Examples
    --------
    >>> round(math.exp(log_quotient({"iteration": {"dense": [9.0, 2.0], "pass": [1.0, 4.0]}}, "dense", "pass")), 9)
    2.0
    """
    return math.log(min(result["iteration"][name]) / min(result["iteration"][other]))


def run_seconds(result: Result, name: str) -> float:
    """Return the time of a whole run, start included."""
    return float(result["start"][name] + RUN * np.median(result["iteration"][name]))


def log_run_speedup(result: Result) -> float:
    """Return the log of how many times faster a whole run is than that of the stronger opponent."""
    return math.log(min(run_seconds(result, name) for name in ("dense", "compacted")) / run_seconds(result, "fast"))


def decide(results: Runs) -> list[Finding]:
    """Check the control; then decide from paired ratios, one number per seed."""
    setting = (
        f"depth {DEPTH}, all layers trained, n={N}, d={D}, random inputs, {SEEDS} seeds or more, {ROUNDS} interleaved "
        "rounds or more, one BLAS thread"
    )
    stopped = [result["stopped"] for _, result in results if "stopped" in result]
    if stopped:
        reason = f"A loop stopped where a run by the definitions goes through: {stopped[0]}."
        return [Finding(claim.id, "invalid", None, None, "none stops", setting, reason) for claim in CLAIMS]
    seeds = sorted({inputs["seed"] for inputs, _ in results})
    control = t_interval(
        [float(np.mean([log_speedup(r, "control") for i, r in results if i["seed"] == seed])) for seed in seeds]
    )
    conditions = f"{setting}; identical pair {math.exp(control.low):.2f} to {math.exp(control.high):.2f}"
    if control.low > CONTROL_MARGIN or control.high < -CONTROL_MARGIN:
        reason = "The control failed: two identical loops differ, so the clock is no evidence on this machine now."
        return [Finding(claim.id, "invalid", None, None, "identical pair at 1", conditions, reason) for claim in CLAIMS]
    if not all(result["apart"] <= tolerances.RUN for _, result in results):
        reason = "The loops that were timed do not come to the same residuals, so their times do not compare."
        return [Finding(claim.id, "invalid", None, None, "same residuals", conditions, reason) for claim in CLAIMS]
    names = ("plain", "sparse", "grid", "last")
    parts = {part: [each for each in results if each[0]["part"] == part] for part in names}
    alone = conditions.replace("all layers", "the last layer")
    return [
        _find_factor("dense", parts["plain"], conditions, lambda r: log_speedup(r, "dense"), parts["grid"]),
        _find_factor("compacted", parts["plain"], conditions, lambda r: log_speedup(r, "compacted"), parts["sparse"]),
        _find_factor("normalized", parts["sparse"], conditions, lambda r: log_speedup(r, "dense"), []),
        _find_factor("start", parts["plain"], conditions, log_run_speedup, parts["sparse"]),
        _find_factor("last_layer", parts["last"], alone, lambda r: log_speedup(r, "dense", "compacted"), []),
        _find_crossover(parts["grid"], conditions),
        _find_growth(parts["grid"], conditions),
        _find_opponents(parts["plain"], conditions),
    ]


def _exponential(interval: Interval) -> Interval:
    return Interval(math.exp(interval.estimate), math.exp(interval.low), math.exp(interval.high))


def _kind(inputs: Inputs) -> str:
    return f"alpha={inputs['alpha']}, {'normalized' if inputs['normalized'] else 'plain'}"


def _find_factor(
    name: str, results: Runs, conditions: str, quantity: Callable[[Result], float], beside: Runs
) -> Finding:
    exponent = results[0][0]["exponent"]
    factor = getattr(FACTORS[exponent], name)
    interval = _exponential(t_interval([quantity(result) for _, result in results]))
    others = [
        f"m=2^{other}: {math.exp(float(np.mean([quantity(r) for i, r in beside if i['exponent'] == other]))):.2g}"
        for other in sorted({inputs["exponent"] for inputs, _ in beside})
    ]
    aside = f"; {_kind(beside[0][0])}: {', '.join(others)}" if others else ""
    return make_finding(
        f"deep_time.{name}",
        interval,
        decide_above(interval, factor),
        margin=f">= {factor:g} (opponent's time over time)",
        domain=f"m=2^{exponent}, {_kind(results[0][0])}, {conditions}",
        reason=f"Paired ratio, t-interval over seeds{aside}.",
    )


def _grid_domain(results: Runs, conditions: str) -> str:
    exponents = [inputs["exponent"] for inputs, _ in results]
    return f"m=2^{min(exponents)}..2^{max(exponents)}, {_kind(results[0][0])}, {conditions}"


def _find_crossover(results: Runs, conditions: str) -> Finding:
    crossings = []
    for seed in sorted({inputs["seed"] for inputs, _ in results}):
        own = [(i["exponent"], -log_speedup(r, "dense", "compacted")) for i, r in results if i["seed"] == seed]
        crossings.append(crossing(own))
    missing = sum(width is None for width in crossings)
    found = [width for width in crossings if width is not None]
    interval = t_interval(found) if len(found) >= 2 and not missing else None
    verdict: Verdict = "holds" if interval else "undecided" if found else "fails"
    first = min(inputs["exponent"] for inputs, _ in results)
    always = sum(width == first for width in found)
    return make_finding(
        "deep_time.crossover",
        interval,
        verdict,
        margin="exists for every seed",
        domain=_grid_domain(results, conditions),
        reason=f"In {missing} of {len(crossings)} seeds an opponent is ahead at the largest width; in {always} the "
        f"fast loop is at every width, so that 2^{first} counts. Linear interpolation in the logs.",
    )


def _find_growth(results: Runs, conditions: str) -> Finding:
    slopes = []
    for seed in sorted({inputs["seed"] for inputs, _ in results}):
        own = [(i["exponent"], r) for i, r in results if i["seed"] == seed]
        slopes.append(slope([e * math.log(2) for e, _ in own], [-log_speedup(r, "dense") for _, r in own])[0])
    interval = t_interval(slopes)
    return make_finding(
        "deep_time.growth",
        interval,
        decide_below(interval, 0.0),
        margin="< 0 (difference of exponents in m)",
        domain=_grid_domain(results, conditions),
        reason="Slope of log paired ratio against log m, t-interval over seeds.",
    )


def _find_opponents(results: Runs, conditions: str) -> Finding:
    dense, compacted = (
        _exponential(t_interval([log_quotient(result, *names) for _, result in results]))
        for names in (("dense", "pass"), ("compacted", "dense"))
    )
    verdicts = (decide_below(dense, PASS_MARGIN), decide_below(compacted, COMPACTED_MARGIN))
    return make_finding(
        "deep_time.opponents",
        dense,
        min(verdicts, key=("invalid", "fails", "undecided", "holds").index),
        margin=f"<= {PASS_MARGIN:g} (dense time over bare products')",
        domain=f"m=2^{results[0][0]['exponent']}, {_kind(results[0][0])}, {conditions}",
        reason=f"Ratios of least times over rounds, t-interval over seeds; an iteration of the compacted loop takes "
        f"{compacted.estimate:.2f} of the dense time ({COMPACTED_MARGIN:g} allowed).",
    )


def plot(figure: Figure, results: Runs) -> None:
    """Draw how many times faster the fast loop is against the width, beside both opponents."""
    axes = figure.subplots()
    for opponent, marker in (("dense", "o"), ("compacted", "s")):
        for part, line in (("grid", "-"), ("plain", ""), ("sparse", "")):
            own = [(i, r) for i, r in results if i["part"] == part and "stopped" not in r]
            if not own:
                continue
            exponents = sorted({inputs["exponent"] for inputs, _ in own})
            intervals = [
                _exponential(t_interval([log_speedup(r, opponent) for i, r in own if i["exponent"] == exponent]))
                for exponent in exponents
            ]
            axes.errorbar(
                [2**exponent for exponent in exponents],
                [interval.estimate for interval in intervals],
                np.array([[i.estimate - i.low, i.high - i.estimate] for i in intervals]).T,
                marker=marker,
                linestyle=line,
                capsize=3,
                label=f"{opponent}, {_kind(own[0][0])}",
            )
    axes.axhline(1, linestyle=":", color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlabel="width m", ylabel="opponent's time of an iteration over time")
    axes.legend(frameon=False, fontsize="small", loc="upper left")


EXPERIMENT = Experiment(
    name="deep_time",
    title="Time of training many layers by the clock",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
    timed=True,
)
