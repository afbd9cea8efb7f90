"""Claim: training many layers touches ``m^2`` entries once, at the start, and in an iteration only what fires.

What is asked of `fast.multi_layer_gauss_newton` ([B]). Every run is set beside a dense one of separate code
(`dense_run`), whose fired sets are the truth. With ``k = m Phi(-b)`` neurons of a layer firing on a point:

1. ``exact``           Does every counter of every iteration equal its closed form (`verify.closed_forms.deep_work`),
   computed by separate code from those fired sets? For several depths, subsets of trained layers, plain and normalized
   networks, folded factors and both storage orders. Of the solves only the first is compared: later ones may iterate
   until they are accurate. Likewise of the dense and the compacted loop, by whose work other claims divide.
   A run whose steps are so large that they are written out early is drawn anew; the dense run decides which. So is one
   that stops, if runs by the definitions do; if they go through, it counts as one that has done nothing.
2. ``start_level``, ``start_slope``         Is the work of the first pass forward ``n m k`` for a layer, as in the
   paper? Level and slope, against ``log m``, of ``log(work / law)``. Networks are normalized, so that each layer has
   the Gaussian law at the start.
3. ``backward_level``, ``backward_slope``   Is the work back ``n k^2`` for a layer? Its margins are twice as wide, as
   ``k`` counts twice. The exponents of these laws tend to ``2 - alpha`` and ``2 - 2 alpha`` (theory, not measured).
4. ``forward_level``, ``forward_slope``     The paper's iteration reads ``n m k`` forward, too. Does bounding the scores
   (`fast.certified_scores`) leave at most a quarter of it in the first iterations, a share that falls with the width?
5. ``settled``         And once training has converged, no more than the way back reads, within 2%?
6. ``forbidden``       Explain the work of an iteration by named terms with non-negative coefficients, the forbidden
   ``n m^2`` among them. Is the upper end of its coefficient at most 1e-3?
7. ``dense``           Does the same fit convict the dense loop? Its coefficient must be within 0.9 to 1.2, of 1 scan.
8. ``once``            At the start: does the first pass forward read what its closed form says, ``n k m`` for a layer?
   Are the matrices of the layers above the lowest trained one copied if and only if they are stored row by row, and
   not again when training goes on? Does the peak of memory, which Python's allocator reports and the code cannot
   gloss over, leave no room for another copy? Are the caller's matrices the same to the bit afterwards?
9. ``witness``         Counters are testimony. After the preparation, every column of an upper matrix at a neuron that
   fires on no point in the whole run is overwritten with infinities, and so is the whole of the lowest trained matrix
   and of those below. Do the same bits come out? If not, claims 2 to 6 are invalid.

Claims 6 and 9 are made where fewer than one neuron in 12 fires; above, products with whole matrices by BLAS are faster
than many columns one by one, and the loop takes those.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

import reference.multi_layer
import reference.multi_layer_gauss_newton
from reference.multi_layer import MultiLayerNetwork
from reference.notation import (
    BoolArray,
    DivergenceError,
    FloatArray,
    InputError,
    NothingFiresError,
    SingularGramError,
)
from reference.regression import rounding_floor
from reference.trace import Trace
from reference.two_layer import shift_for
from verify import closed_forms, problems
from verify.closed_forms import Patterns
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    NOT_A_NUMBER,
    Interval,
    contradicted,
    decide_below,
    decide_inside,
    make_finding,
    named_terms_fit,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

ALPHA = 0.24
SEEDS, SEEDS_CHECKED, SEEDS_TERMS = 6, 2, 5
"""Of the sweep over the width, of which the first few are checked against a dense run; of the terms, all checked."""
POINT: Inputs = {
    "width": 1 << 10,
    "n": 32,
    "d": 64,
    "alpha": ALPHA,
    "depth": 2,
    "trained": [1, 2],
    "normalized": True,
    "budget": None,
    "rows": False,
    "iterations": 2,
}
EXPONENTS = (9, 10, 11, 12)
EXPONENT_THOROUGH = 13
TERMS: list[Inputs] = [
    {"n": 8},
    {"n": 64},
    {"d": 8},
    {"d": 256},
    {"width": 1 << 11, "n": 8, "d": 8},
    {"width": 1 << 11, "n": 8, "alpha": 0.4},
    {"width": 1 << 11, "d": 8, "alpha": 0.4},
]
"""Differences from `POINT` that keep the terms apart."""
SHAPE: Inputs = {"width": 1 << 9, "n": 16, "d": 32, "iterations": 3}
SHAPES: list[Inputs] = [
    {**SHAPE, "depth": 1, "trained": [1]},
    {**SHAPE, "trained": [1]},
    {**SHAPE, "trained": [2]},
    {**SHAPE, "depth": 3, "trained": [1, 2, 3]},
    {**SHAPE, "depth": 3, "trained": [2, 3], "rows": True},
    {**SHAPE, "depth": 3, "trained": [1, 3]},
    {**SHAPE, "depth": 4, "trained": [3]},
    {**SHAPE, "depth": 4, "trained": [2, 4], "budget": 32},
    {**SHAPE, "budget": 32},
    {**SHAPE, "width": 1 << 10, "alpha": 0.4},
    {**SHAPE, "width": 1 << 10, "alpha": 0.1, "normalized": False},  # dense enough for whole products back
    {**SHAPE, "width": 1 << 10, "alpha": 0.05, "normalized": False},  # and forward
]
ONCE: list[Inputs] = [
    {"width": 1 << 11, "n": 16, "depth": depth, "trained": trained, "rows": rows}
    for depth, trained in ((2, [1, 2]), (3, [2, 3]))
    for rows in (False, True)
]
SETTLED: list[Inputs] = [{"width": 1 << exponent, "n": 16, "iterations": 8} for exponent in (9, 10, 11)]
SEEDS_SHAPES, SEEDS_ONCE, SEEDS_SETTLED = 3, 1, 4

LEVEL_MARGIN, SLOPE_MARGIN = 0.08, 0.05
"""Of ``log(work / law)`` forward; twice as much back. Steps move the counts off the law by some percent, less so where
the network is wide."""
SHARE_MARGIN, SETTLED_MARGIN = 0.25, 1.02
"""Work forward over ``n m k`` in the first iterations; over the work back at the end."""
FORBIDDEN_MARGIN, DENSE_MARGIN = 1e-3, (0.9, 1.2)
MEMORY_MARGIN = 0.2
"""Memory beyond the matrices that are copied, in matrices."""
MOST_LOST = 5e-13
"""Share of the predictions' scale that steps may lose by rounding; at twice that the code writes them out early."""
MOST_REDRAWS = 10
STOPS = (NothingFiresError, SingularGramError, DivergenceError)
RELY_ON_COUNTS = tuple(
    f"deep_cost.{name}"
    for name in (
        *(f"{phase}_{part}" for phase in ("start", "backward", "forward") for part in ("level", "slope")),
        "settled",
        "forbidden",
    )
)
FITTED = ("width", "terms")
"""Sweeps whose work is explained by named terms."""
OPPONENTS = ("dense", "compacted")

SOURCE = "[B], abstract"
CLAIMS = (
    Claim(
        "deep_cost.exact",
        "Every work counter of every iteration of a deep run, and of its two opponents, equals its closed form; of the "
        "run's solve, that of the first.",
        "ours",
    ),
    Claim(
        "deep_cost.start_level",
        "The first pass forward reads n m k entries of an upper matrix, k = m Phi(-b), within 8% on average over the "
        "widths.",
        SOURCE,
    ),
    Claim(
        "deep_cost.start_slope",
        "They grow with the width like that law: the exponents differ by at most 0.05.",
        SOURCE,
    ),
    Claim("deep_cost.backward_level", "The sensitivities read n k^2 entries of it, within 16%.", SOURCE),
    Claim(
        "deep_cost.backward_slope",
        "They grow with the width like that law: the exponents differ by at most 0.1.",
        SOURCE,
    ),
    Claim(
        "deep_cost.forward_level",
        "In the first iterations bounds on the scores leave at most a quarter of those n m k entries to be read "
        "forward, on average over the widths.",
        "ours; [B] reads them all",
    ),
    Claim("deep_cost.forward_slope", "That share falls as the width grows.", "ours"),
    Claim(
        "deep_cost.settled",
        "Once training has converged, an iteration reads no more entries forward than backward, n k^2, within 2%.",
        "ours",
    ),
    Claim(
        "deep_cost.forbidden",
        "Where fewer than one neuron in 12 fires on a point, the work of an iteration contains no term n m^2: its "
        "coefficient is at most 0.001.",
        SOURCE,
    ),
    Claim("deep_cost.dense", "The dense loop's work does contain it: its coefficient is from 0.9 to 1.2.", "ours"),
    Claim(
        "deep_cost.once",
        "Before the first iteration the upper matrices are read at the columns of fired neurons, and copied only if "
        "they are stored row by row; no other copy fits into the memory used; going on from a trained network copies "
        "nothing; the given matrices stay as they are.",
        SOURCE,
    ),
    Claim(
        "deep_cost.witness",
        "After the preparation neither columns of neurons that fire nowhere nor any weight up to the lowest trained "
        "layer has an effect on an iteration, where fewer than one neuron in 12 fires on a point, and no product with "
        "them is formed.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the sweeps, each point for every seed; thorough takes a wider network and more seeds."""
    factor = 3 if profile.thorough else 1
    exponents = (*EXPONENTS, EXPONENT_THOROUGH) if profile.thorough else EXPONENTS
    sweeps = {
        "width": ([{"width": 1 << exponent} for exponent in exponents], SEEDS),
        "terms": (TERMS, SEEDS_TERMS),
        "shapes": (SHAPES, SEEDS_SHAPES),
        "settled": (SETTLED, SEEDS_SETTLED),
        "once": (ONCE, SEEDS_ONCE),
    }
    return [
        {**POINT, "sweep": sweep, **point, "seed": seed}
        for sweep, (points, seeds) in sweeps.items()
        for point in points
        for seed in range(seeds * factor)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train a few iterations; set the counters beside the closed forms of a dense run."""
    problem = problems.make("random", inputs["n"], inputs["d"], rng)
    # Where few neurons fire, now and then a signal dies or two points look alike; that says nothing about cost.
    for _ in range(MOST_REDRAWS):
        network = draw(inputs, rng, code)
        try:
            return measure_network(inputs, network, problem, code)
        except STOPS as error:
            stopped = error
        try:
            return nothing_done(inputs, network, problem)
        except STOPS:
            continue
    raise stopped


def nothing_done(inputs: Inputs, network: MultiLayerNetwork, problem: problems.Problem) -> Result:
    """Take the place of a cell of which a run stopped, though runs by the definitions go through.

    Raises
    ------
    NothingFiresError, SingularGramError, DivergenceError
        They do not.
    """
    trained, iterations = inputs["trained"], inputs["iterations"]
    once = inputs["sweep"] == "once"
    reference.multi_layer_gauss_newton.train(
        network, problem.X, problem.y, trained_layers=trained, iterations=iterations * (2 if once else 1)
    )
    states, read, _ = dense_run(network, problem, trained, iterations)
    if once:
        return {"once": {"runs that stopped": [1, 0]}}
    expected = closed_forms.deep_work(states, trained, inputs["budget"], read)
    return {"counts": [], "start": 0, "expected": expected}


def draw(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> MultiLayerNetwork:
    """Draw a network as the cell says."""
    network: MultiLayerNetwork = code.deep_initialize(
        inputs["width"],
        inputs["d"],
        inputs["depth"],
        shift=shift_for(inputs["width"], inputs["alpha"]),
        rng=rng,
        normalized=inputs["normalized"],
    )
    if inputs["rows"]:
        return with_weights(network, [np.ascontiguousarray(W) for W in network.weights])
    return network


def measure_network(
    inputs: Inputs, network: MultiLayerNetwork, problem: problems.Problem, code: CodeUnderTest
) -> Result:
    """Measure one cell with one network; see `measure`."""
    if inputs["sweep"] == "once":
        return {"once": find_once(inputs, network, problem, code)}
    trace = train(inputs, network, problem, code)
    first_layer = inputs["n"] * network.weights[0].size
    result: Result = {"counts": trace.counts, "start": trace.preparation_counts.get("forward", 0) - first_layer}
    if inputs["sweep"] == "settled":
        return result
    if inputs["sweep"] != "width" or inputs["seed"] < SEEDS_CHECKED:
        states, read, _ = dense_run(network, problem, inputs["trained"], inputs["iterations"])
        result["expected"] = closed_forms.deep_work(states, inputs["trained"], inputs["budget"], read)
        result |= averages([state[1] for state in states])
        # Of the opponents, the dense one where terms are fitted; of the shapes, the first seed is enough for counters.
        opponents = OPPONENTS[:1] if inputs["sweep"] in FITTED else OPPONENTS if inputs["seed"] == 0 else ()
        for name in opponents:
            compact = {"compact": True} if name == "compacted" else {}
            result[name] = code.deep_train_dense(
                network,
                problem.X,
                problem.y,
                trained_layers=inputs["trained"],
                iterations=inputs["iterations"],
                **compact,
            ).counts
            result[f"{name} expected"] = closed_forms.deep_opponent_work(states, inputs["trained"], **compact)
        # Where more fire, whole products are cheaper, and allowed.
        if all(closed_forms.DENSE_BACK * fires.sum() <= fires.size for state in states for fires in state[1:]):
            result["witness"] = bool(ignores_poison(inputs, network, problem, states, trace, code))
    return result


def averages(fires: Sequence[BoolArray]) -> dict[str, float]:
    """Average over the states of a layer: pairs that fire, neurons that fire somewhere, pairs of pairs of a neuron."""
    return {
        "fired": float(np.mean([now.sum() for now in fires])),
        "moving": float(np.mean([now.any(axis=0).sum() for now in fires])),
        "shared": float(np.mean([closed_forms.shared_pairs(now) for now in fires])),
    }


def train(inputs: Inputs, network: Any, problem: problems.Problem, code: CodeUnderTest) -> Trace[Any]:  # noqa: ANN401
    """Train as the cell says."""
    trace: Trace[Any] = code.deep_train(
        network,
        problem.X,
        problem.y,
        trained_layers=inputs["trained"],
        iterations=inputs["iterations"],
        rank_budget=inputs["budget"],
    )
    return trace


def with_weights(network: MultiLayerNetwork, weights: Sequence[FloatArray]) -> MultiLayerNetwork:
    """Give a network other matrices."""
    return MultiLayerNetwork(tuple(weights), network.signs, network.shift, network.normalized)


def dense_run(
    network: MultiLayerNetwork, problem: problems.Problem, trained: list[int], iterations: int
) -> tuple[list[Patterns], list[int], list[int]]:
    """Train by the definitions of `reference.multi_layer`.

    Returns
    -------
    states : list of Patterns
        Who fires at the start and after each iteration.
    read : list of int
        Entries of the matrices above the lowest trained layer that each iteration has to read on the way forward.
    columns : list of int
        Columns of these matrices of which each iteration has to read an entry, back or forward.

    Raises
    ------
    NothingFiresError
        Before some step a layer is silent on some data point.
    SingularGramError
        Points look so alike that steps lose more than `MOST_LOST`.
    """
    X, y = problem.X, problem.y
    weights = [np.array(W, order="F") if layer in trained else W for layer, W in enumerate(network.weights, start=1)]
    doubts = {
        layer: closed_forms.Doubt(network.weights[layer - 1], network.shift)
        for layer in range(trained[0] + 1, network.depth + 1)
    }
    states: list[Patterns] = []
    read: list[int] = []
    columns_read: list[int] = []
    scale = lost = 0.0
    for iteration in range(iterations + 1):
        now = with_weights(network, weights)
        signals = reference.multi_layer.forward(now, X)
        fires = (np.ones(X.shape, dtype=bool), *signals.fires)
        states.append(fires)
        if iteration < iterations and not all(now_fire.any(axis=1).all() for now_fire in fires[1:]):
            raise NothingFiresError("some layer is silent on some data point; draw the network anew")
        read.append(
            sum(
                doubt.forward_work(h := signals.hidden[layer - 1], fires[layer - 1], h @ weights[layer - 1].T)
                for layer, doubt in doubts.items()
            )
        )
        columns_read.append(sum(int(doubt.columns.sum()) for doubt in doubts.values()))
        if iteration == iterations:
            break
        for layer, doubt in doubts.items():
            doubt.columns[:] = False
            doubt.backward(fires[layer], fires[layer - 1])
        P = reference.multi_layer.backward(now, signals)
        G = reference.multi_layer.gram_from(P, signals.hidden, trained)
        predictions = signals.hidden[-1] @ network.signs
        g = np.linalg.solve(G, predictions - y).astype(np.float64, copy=False)
        scale = scale or float(np.linalg.norm(y) + np.linalg.norm(predictions))
        lost += rounding_floor(float(np.trace(G)), g)
        if lost > MOST_LOST * scale:
            raise SingularGramError("steps are so large that they lose digits; draw the network anew")
        for layer in trained:
            left, right = P[layer - 1] * g[:, np.newaxis], signals.hidden[layer - 1]
            rows, columns = (np.flatnonzero(factor.any(axis=0)) for factor in (left, right))
            weights[layer - 1][np.ix_(rows, columns)] -= left[:, rows].T @ right[:, columns]
    return states, read[1:], columns_read[1:]


def ignores_poison(
    inputs: Inputs,
    network: MultiLayerNetwork,
    problem: problems.Problem,
    states: Sequence[Patterns],
    honest: Trace[Any],
    code: CodeUnderTest,
) -> bool:
    """Poison what no iteration may read, after the preparation; tell whether ``honest`` comes out again to the bit."""
    weights = [np.array(W, order="F") for W in network.weights]
    trained = inputs["trained"]
    run = code.start_deep(
        with_weights(network, weights),
        problem.X,
        problem.y,
        trained_layers=trained,
        rank_budget=inputs["budget"],
    )
    for layer, W in enumerate(weights, start=1):
        if layer <= trained[0]:
            # Infinite weights of both signs make any product with them invalid, even one whose result is thrown away.
            W[:] = np.inf * (-1.0) ** np.arange(W.shape[1])
        else:
            fired = np.any([state[layer - 1].any(axis=0) for state in states], axis=0)
            W[:, ~fired] = np.inf
    try:
        with np.errstate(invalid="raise"):
            for _ in range(inputs["iterations"]):
                run.iterate()
    except (InputError, DivergenceError, ArithmeticError):
        return False  # whoever stumbles over infinity has read it
    same_norms: bool = np.array(run.residual_norms).tobytes() == honest.residual_norms.tobytes()
    return same_norms and (run.residual + run.y).tobytes() == honest.predictions.tobytes()


def find_once(
    inputs: Inputs, network: MultiLayerNetwork, problem: problems.Problem, code: CodeUnderTest
) -> dict[str, list[float]]:
    """Pair what the start did with what it should do."""
    original = [W.tobytes(order="A") for W in network.weights]
    trained, iterations = inputs["trained"], inputs["iterations"]
    states, *_ = dense_run(network, problem, trained, iterations)
    entries = inputs["width"] ** 2
    copied = (inputs["depth"] - trained[0]) * inputs["rows"]
    trace, peak = with_peak(lambda: train(inputs, network, problem, code))
    again, peak_again = with_peak(lambda: train(inputs, trace.network, problem, code))
    first, second = trace.preparation_counts, again.preparation_counts
    room = {"memory": peak / 8 / entries - copied, "memory going on": peak_again / 8 / entries}
    return {
        "read": [first.get("forward", -1), closed_forms.deep_preparation_work(states[0])],
        "read going on": [second.get("forward", -1), closed_forms.deep_preparation_work(states[-1])],
        "relaid": [first.get("relaid", -1), copied * entries],
        "relaid going on": [second.get("relaid", -1), 0],
        "matrices that changed": [
            sum(W.tobytes(order="A") != old for W, old in zip(network.weights, original, strict=True)),
            0,
        ],
        # Python itself takes some kilobytes more in a process that does this for the first time; the digits kept here
        # are the same in every run, wherever it was interrupted.
        **{name: [round(float(value), 2), MEMORY_MARGIN] for name, value in room.items()},
    }


def with_peak(call: Callable[[], Trace[Any]]) -> tuple[Trace[Any], int]:
    """Call, and tell by how many bytes memory grew at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        return call(), tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def decide(results: Results) -> list[Finding]:
    """Compare counters with closed forms; fit slopes per seed; fit named terms over all cells."""
    findings = [
        _find_exact(results),
        *(_find_law(phase, part, results) for phase in ("start", "backward") for part in ("level", "slope")),
        *(_find_share(part, results) for part in ("level", "slope")),
        _find_settled(results),
        _find_terms("forbidden", results),
        _find_terms("dense", results),
        _find_once(results),
    ]
    witness = _find_witness(results)
    if witness.verdict == "fails":
        findings = [contradicted(finding) if finding.claim in RELY_ON_COUNTS else finding for finding in findings]
    return [*findings, witness]


def _of(results: Results, *sweeps: str) -> Results:
    return [(inputs, result) for inputs, result in results if inputs["sweep"] in sweeps]


def describe_domain(results: Results) -> str:
    """Say for which sizes a verdict speaks."""
    if not results:
        return "nothing was measured"

    def span(name: str) -> str:
        values = sorted({inputs[name] for inputs, _ in results})
        return f"{values[0]}" if len(values) == 1 else f"{values[0]}..{values[-1]}"

    exponents = sorted({int(math.log2(inputs["width"])) for inputs, _ in results})
    widths = "..".join(f"2^{exponent}" for exponent in sorted({exponents[0], exponents[-1]}))
    trained = sorted({"+".join(map(str, inputs["trained"])) for inputs, _ in results})
    seeds = len({inputs["seed"] for inputs, _ in results})
    kinds = "normalized" if all(inputs["normalized"] for inputs, _ in results) else "plain and normalized"
    return (
        f"m={widths}, n={span('n')}, d={span('d')}, alpha={span('alpha')}, depth {span('depth')}, trained layers "
        f"{', '.join(trained)}, {kinds}, random inputs, {seeds} seed{'s' if seeds > 1 else ''}"
    )


def _share(claim: str, wrong: int, total: int, results: Results, what: tuple[str, str], example: str = "") -> Finding:
    (things, do), share = what, wrong / total if total else math.nan
    return make_finding(
        claim,
        Interval(share, share, share),
        "invalid" if not total else "holds" if wrong == 0 else "fails",
        margin=f"= 0 (share of {things} that {do})",
        domain=describe_domain(results),
        reason=f"{wrong} of {total} {things} {do}{example}.",
    )


def _find_exact(results: Results) -> Finding:
    wrong, total, example = 0, 0, ""
    checked = [(inputs, result) for inputs, result in results if "expected" in result]
    none: dict[str, int] = {}
    for inputs, result in checked:
        told = [("", result["counts"], result["expected"])]
        told += [(f"{name} ", result[name], result[f"{name} expected"]) for name in OPPONENTS if name in result]
        for loop, loop_counts, loop_expected in told:
            for iteration, (counts, expected) in enumerate(zip_longest(loop_counts, loop_expected, fillvalue=none)):
                for phase in sorted((counts.keys() - {"solve"}) | expected.keys()):
                    total += 1
                    found, value = counts.get(phase), expected.get(phase)
                    if found != value:
                        wrong += 1
                        example = f"; e.g. {loop}{phase} {found}, not {value}, in iteration {iteration} at {inputs}"
    return _share("deep_cost.exact", wrong, total, checked, ("counters", "differ from their closed form"), example)


def fired_law(width: int) -> float:
    """Return ``k = m Phi(-b)`` at ``b = sqrt(2 alpha ln m)``."""
    return float(width * ndtr(-math.sqrt(2 * ALPHA * math.log(width))))


def phase_law(phase: str, inputs: Inputs) -> float:
    """Return the law for the entries that a phase reads: ``n k^2`` back, ``n m k`` at the start; also for forward."""
    k = fired_law(inputs["width"])
    return float(inputs["n"] * k * (k if phase == "backward" else inputs["width"]))


def work_of(phase: str, result: Result) -> float:
    """Average the work of a phase over the iterations; the start comes once."""
    if phase == "start":
        return float(result["start"])
    counts = result["counts"]
    return math.fsum(each.get(phase, 0) for each in counts) / len(counts) if counts else 0.0


def _fits(phase: str, results: Results) -> list[tuple[float, float, float]]:
    """Fit, for each seed, level and slope of ``log(work / law)``, and the plain exponent."""
    fits = []
    own = _of(results, "width")
    for seed in sorted({inputs["seed"] for inputs, _ in own}):
        cells = [(inputs, work_of(phase, result)) for inputs, result in own if inputs["seed"] == seed]
        x = [math.log(inputs["width"]) for inputs, _ in cells]
        logs = [math.log(work) if work > 0 else math.nan for _, work in cells]
        off = [log - math.log(phase_law(phase, inputs)) for log, (inputs, _) in zip(logs, cells, strict=True)]
        fits.append((float(np.mean(off)), slope(x, off)[0], slope(x, logs)[0]))
    return fits


def _find_law(phase: str, part: str, results: Results) -> Finding:
    fits = _fits(phase, results)
    margin = (LEVEL_MARGIN if part == "level" else SLOPE_MARGIN) * (1 if phase == "start" else 2)
    interval = t_interval([fit[part == "slope"] for fit in fits])
    plain, limit = t_interval([fit[2] for fit in fits]), (1 if phase == "start" else 2)
    what = "Mean" if part == "level" else "Slope against log m"
    return make_finding(
        f"deep_cost.{phase}_{part}",
        interval,
        decide_inside(interval, -margin, margin),
        margin=f"within +-{margin:g} of 0",
        domain=describe_domain(_of(results, "width")),
        reason=f"{what} of log(work / law), t-interval over seeds. Plain exponent of the work {plain.estimate:.3f}, "
        f"beside {2 - limit * ALPHA:g} in the limit.",
    )


def _find_share(part: str, results: Results) -> Finding:
    fits = _fits("forward", results)
    interval, plain = t_interval([fit[part == "slope"] for fit in fits]), t_interval([fit[2] for fit in fits])
    margin = 0.0
    if part == "level":
        interval = Interval(*(math.exp(end) for end in (interval.estimate, interval.low, interval.high)))
        margin = SHARE_MARGIN
    own = _of(results, "width")
    return make_finding(
        f"deep_cost.forward_{part}",
        interval,
        decide_below(interval, margin),
        margin=f"<= {margin:g} (work over n m k)" if part == "level" else "< 0 (slope of its log against log m)",
        domain=f"{describe_domain(own)}, the first {POINT['iterations']} iterations",
        reason=f"t-interval over seeds. Plain exponent of the work {plain.estimate:.3f}.",
    )


def _find_settled(results: Results) -> Finding:
    own = _of(results, "settled")
    last = [result["counts"][-1] if result["counts"] else {} for _, result in own]
    ratios = [each.get("forward", math.nan) / each["backward"] if each.get("backward") else math.nan for each in last]
    worst = float(np.max(ratios))
    interval = Interval(worst, float(np.min(ratios)), worst)
    return make_finding(
        "deep_cost.settled",
        interval,
        decide_below(interval, SETTLED_MARGIN),
        margin=f"<= {SETTLED_MARGIN:g} (work forward over work back, every run)",
        domain=f"{describe_domain(own)}, iteration {SETTLED[0]['iterations']}",
        reason="The largest of all runs, and their range.",
    )


TERM_NAMES = ("n c k", "n k m", "n k^2", "n^2 k", "n^2 u", "s", "n m", "n^2 d", "n m d", "n^3", "n m^2")


def fit_terms(which: str, results: Results) -> dict[str, Interval]:
    """Fit the mean work of an iteration by named terms.

    Their variables are measured in the first layer: ``k`` neurons fire on a point, ``u`` on some point, and on ``s``
    pairs of points the same one does. In doubt are ``c`` scores of a point; see `verify.closed_forms.Doubt`.
    """
    work, seeds = [], []
    terms: dict[str, list[float]] = {name: [] for name in TERM_NAMES}
    for inputs, result in results:
        if "dense" not in result or inputs["sweep"] not in FITTED:
            continue
        m, n, d, pairs = inputs["width"], inputs["n"], inputs["d"], result["fired"]
        # What is counted without being work: how many pairs fire, and the rank.
        counts = [{**each, "active_pairs": 0, "rank": 0} for each in result[which]]
        work.append(math.fsum(sum(each.values()) for each in counts) / inputs["iterations"])
        seeds.append(inputs["seed"])
        u, s = result["moving"], result["shared"]
        doubt = float(np.mean([each["forward"] for each in result["expected"]]))
        values = (doubt, pairs * m, pairs**2 / n, n * pairs, n * n * u, s, n * m, n * n * d, n * m * d, n**3, n * m * m)
        for name, value in zip(TERM_NAMES, values, strict=True):
            terms[name].append(float(value))
    if not work or min(work) <= 0:
        return dict.fromkeys(TERM_NAMES, NOT_A_NUMBER)  # a loop that reports no work at all
    return named_terms_fit(terms, work, seeds, np.random.default_rng(0), resamples=200)


def _find_terms(name: str, results: Results) -> Finding:
    coefficients = fit_terms("dense" if name == "dense" else "counts", results)
    interval = coefficients["n m^2"]
    if name == "dense":
        verdict = decide_inside(interval, *DENSE_MARGIN)
    else:
        verdict = decide_below(interval, FORBIDDEN_MARGIN)
    listed = ", ".join(f"{term}: {fit.estimate:.3g}" for term, fit in coefficients.items())
    return make_finding(
        f"deep_cost.{name}",
        interval,
        verdict,
        margin="from {:g} to {:g}".format(*DENSE_MARGIN) if name == "dense" else f"<= {FORBIDDEN_MARGIN:g}",
        domain=describe_domain([(i, r) for i, r in _of(results, *FITTED) if "dense" in r]),
        reason=f"Coefficients of the named terms ({listed}); interval by bootstrap over seeds.",
    )


def _find_once(results: Results) -> Finding:
    own = _of(results, "once")
    wrong, total, example = 0, 0, ""
    for inputs, result in own:
        for name, (found, value) in result["once"].items():
            total += 1
            if found > value if name.startswith("memory") else found != value:
                wrong += 1
                example = f"; e.g. {name} {found}, not {value}, at {inputs}"
    most = max(result["once"].get("memory", [math.nan])[0] for _, result in own)
    example += f"; memory beyond the copies asked for: at most {most:.2f} of a matrix"
    return _share("deep_cost.once", wrong, total, own, ("checks", "fail"), example)


def _find_witness(results: Results) -> Finding:
    own = [(inputs, result) for inputs, result in results if "witness" in result]
    noticed = sum(not result["witness"] for _, result in own)
    return _share("deep_cost.witness", noticed, len(own), own, ("runs", "notice what was overwritten"))


def plot(figure: Figure, results: Results) -> None:
    """Draw the work of each phase and of the dense loop's scan against the width."""
    axes = figure.subplots()
    own = _of(results, "width")
    widths = np.array(sorted({inputs["width"] for inputs, _ in own}))

    def mean(phase: str, which: str = "counts") -> FloatArray:
        means = []
        for width in widths:
            runs = [r[which] for i, r in own if i["width"] == width and which in r]
            means.append(float(np.mean([each.get(phase, 0) for run in runs for each in run])))
        return np.array(means)

    for phase in ("forward", "backward", "factors", "gram", "step"):
        axes.loglog(widths, mean(phase), marker="o", markersize=4, label=phase)
    starts = [np.mean([result["start"] for inputs, result in own if inputs["width"] == width]) for width in widths]
    axes.loglog(widths, starts, marker="^", markersize=4, label="start, once")
    axes.loglog(widths, mean("scan", "dense"), "s--", color="black", markersize=4, label="scan of the dense loop")
    for number, phase in enumerate(("start", "backward")):
        law = [phase_law(phase, {"width": int(width), "n": POINT["n"]}) for width in widths]
        label = "laws n m k and n k^2, k = m Phi(-b)" if number == 0 else None
        axes.loglog(widths, law, ":", color="gray", marker="", label=label)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width m", ylabel="work of one iteration, and of the start", ylim=(None, 300 * axes.get_ylim()[1]))
    axes.legend(frameon=False, ncols=2, loc="upper left")


EXPERIMENT = Experiment(
    name="deep_cost",
    title="Cost of training many layers by counts",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
