"""One file of the user's own: do the theorem's assumptions hold there, and does the method do what it says.

The run behind ``python -m verify --data FILE``. From one draw of the weights it trains by the event path (the
default of `fast.gauss_newton.train`), by the trees, over all neurons, over the compacted ones and, where ``n m d`` is
small enough, by the reference, and reports::

    geometry     separation delta, lambda_min(K), lambda_min(G) at the start, the theorem's width
    agreement    the same residuals and predictions, whichever way, over the first 5 iterations
    halving      residual_(t+1) <= residual_t / 2 at every t, until 1e-10 of the start
    safeguarded  with ``step="safeguarded"``: residual_(t+1) <= residual_t at every t, and 1e-10 of the start reached
    cost         counted work per phase over the whole run, and wall time from interleaved runs

The event path is made for wide networks. Where too many pairs are close to firing (hundreds of rows on a few thousand
neurons), it goes over to a dense loop over the neurons that fire somewhere, `fast.all_pairs`, which is quick but not
less work; `data.cost` is undecided then, unless it did less work all the same.

The theorem ([A], conference version, Theorem 5.1) asks for a width of order
``max(lambda^-4 n^4, lambda^-2 n^2 d log(16 n / rho))``, ``lambda = lambda_min(K)``. It leaves the constant
open; it is taken as 1 (ours), and the failure probability ``rho`` as 0.05. On real data that width is
astronomical, so `data.assumptions` says on which side of it the run is, and is information; what happens
nevertheless is what `data.halving` measures.

As everywhere in `verify`, measuring (`measure`), judging (`decide`) and telling (`describe`) are separate;
the last two read nothing but the plain numbers of the first. One file and one draw of the weights make no
sample, so the findings carry no intervals. Messages of the library count the rows of the sample from 0; here they
name the line of the file instead (`_in_file`).
"""

from __future__ import annotations

import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fast.two_layer import ImplicitNetwork
from reference.notation import (
    UNIT_ROUNDOFF,
    DivergenceError,
    FloatArray,
    InputError,
    NothingFiresError,
    SingularGramError,
    check_every_point_fires,
    check_run,
    closest_pair,
)
from reference.shifted_ntk import theorem_width
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, activation_pattern, shift_for
from verify import plots, tolerances
from verify.comparison import largest
from verify.experiment import Claim, CodeUnderTest, Finding, Result, Verdict
from verify.loading import Prepared
from verify.seeds import generator

DEFAULT_WIDTH = 2**12
DEFAULT_ALPHA = 0.24
DEFAULT_ITERATIONS = 40
"""More than the 34 halvings that lead to 1e-10 of the start."""

PATIENCE = 5
"""A safeguarded run may take this many times as many iterations; it ends by itself when it gets no further."""

DONE = 1e-10
"""The residual, relative to the start, down to which every iteration has to halve it, and at which a run ends."""

COMPARED = 5
"""Iterations over which the ways are compared and timed; longer, unstable runs may part by rounding alone."""

FAILURE = 0.05
"""``rho``: the failure probability put into the theorem's width."""

REFERENCE_LIMIT = 5 * 10**7
"""Largest ``n m d`` for the reference, which writes its Jacobian out."""

MEMORY_LIMIT = 2**29
"""Largest ``n m``: several arrays of this many numbers are needed."""

ROUNDS = 5
"""Interleaved rounds of timing."""

ROUNDS_SECONDS = 20.0
"""No further round is begun after this time."""

NAMES = {
    "events": "event path",
    "tree": "trees",
    "sketch": "trees, sketched solver",
    "dense": "all neurons",
    "compacted": "compacted",
    "reference": "reference",
    "safeguarded": "safeguarded",
}
TIMED = ("events", "tree", "dense", "compacted")
STYLES = {"events": "-", "dense": "--", "safeguarded": "-."}

WRAPPED = 100
"""Columns of the text in the terminal."""

SHOWN = 40
"""Iterations of which every one has its line in the table; of later ones only each tenth and the last."""

STATES = ("active_pairs", "rank", "watched")
"""Counts that say how large a state is; no work."""

Train = Callable[[int, float], Trace[Any]]
"""One way to train: ``(iterations, tolerance) -> Trace``."""


def run(
    prepared: Prepared,
    *,
    width: int | None = None,
    alpha: float = DEFAULT_ALPHA,
    iterations: int = DEFAULT_ITERATIONS,
    seed: int = 0,
    code: CodeUnderTest,
) -> tuple[str, list[Finding], Result]:
    """Measure, judge and describe one prepared file.

    Parameters
    ----------
    prepared : Prepared
        From `verify.loading.prepare`.
    width : int, optional
        ``m``; `DEFAULT_WIDTH` when not given.
    alpha : float
        Sparsity exponent; the shift is ``sqrt(2 alpha ln m)``.
    iterations : int
        At most this many, 1 or more.
    seed : int
        Root seed of the weights and of the sketch.
    code : CodeUnderTest
        The routines to run.

    Returns
    -------
    text : str
        What a user reads in the terminal.
    findings : list of Finding
        One for each of `claims`.
    result : dict
        The JSON-able numbers behind both.

    Raises
    ------
    InputError
        Bad settings, a data point on which nothing fires, a Gram matrix singular at the start.
    """
    result = measure(prepared, width=width, alpha=alpha, iterations=iterations, seed=seed, code=code)
    findings = decide(result)
    return describe(result, findings), findings, result


def claims(result: Result) -> tuple[Claim, ...]:
    """State the claims about one file; the statement of `data.assumptions` follows the width used.

    Parameters
    ----------
    result : dict
        From `measure`.

    Returns
    -------
    tuple of Claim
    """
    if _width_is_met(result):
        assumptions = "The theorem's assumption on the width is met on this file."
    else:
        assumptions = (
            "The theorem's assumptions are not met on this file: the width that it asks for is beyond the width used."
        )
    theorem = "[A], Theorem 1.1"
    return (
        Claim(
            "data.agreement",
            "On this file, training by the fast paths gives the same residuals and predictions as dense training.",
            "ours",
        ),
        Claim(
            "data.halving",
            "On this file, every iteration at least halves the residual, down to 1e-10 of the start.",
            theorem,
        ),
        Claim(
            "data.safeguarded",
            "On this file, safeguarded training never raises the residual and fits the labels to 1e-10 of the start.",
            "ours",
        ),
        Claim("data.assumptions", assumptions, "[A], conference version, Theorem 5.1"),
        Claim(
            "data.cost",
            "On this file, all iterations together do less counted work on the event path than over all neurons, "
            "unless too many pairs are close to firing to be watched.",
            "ours",
        ),
    )


def measure(
    prepared: Prepared, *, width: int | None, alpha: float, iterations: int, seed: int, code: CodeUnderTest
) -> Result:
    """Train every way from one draw of the weights and collect plain numbers; no opinion.

    Parameters
    ----------
    prepared, width, alpha, iterations, seed, code
        As for `run`.

    Returns
    -------
    dict
        JSON-able; numbers that are not finite are ``None``.

    Raises
    ------
    InputError
        As for `run`.
    """
    m = DEFAULT_WIDTH if width is None else width
    check_run(iterations, 0.0)
    (n, d), shift = prepared.X.shape, shift_for(m, alpha)
    if iterations < 1:
        raise InputError("iterations is 0; pass 1 or more")
    if n * m > MEMORY_LIMIT:
        raise InputError(f"{n} rows times width {m} would not fit in memory; lower --width or --rows")
    settings = {"width": m, "alpha": alpha, "rows": n}
    network = code.initialize(m, d, shift=shift, rng=generator(seed, "data", settings))
    ways = _ways(network, prepared, code, seed)
    try:
        geometry = _geometry(network, prepared, code)
        with suppress(DivergenceError):
            ways["events"](1, 0.0)  # what stops the first iteration is the input's fault, and is raised
    except (NothingFiresError, SingularGramError) as error:
        raise type(error)(in_file(str(error), prepared)) from error
    long = {way: record_run(ways[way], iterations, DONE) for way in ("events", "dense")}
    safeguarded = _way(code.train, network, prepared, search="events", step="safeguarded")
    long["safeguarded"] = record_run(safeguarded, PATIENCE * iterations, DONE)
    for record in long.values():
        trace = record.pop("trace")
        record["fell_back"] = _fell_back(trace)
        record["recomputed"] = _recomputed(trace, prepared)
        record["stopped"] = record["stopped"] and in_file(record["stopped"], prepared)
    short, seconds = _rounds(ways)
    base = "reference" if "reference" in short else "dense"
    result: Result = as_plain(
        {
            "name": prepared.name,
            "unit": prepared.unit,
            "steps": list(prepared.steps),
            "n": n,
            "d": d,
            "unseen": len(prepared.unseen),
            "width": m,
            "alpha": alpha,
            "shift": shift,
            "iterations": iterations,
            "seed": seed,
            "geometry": geometry,
            "runs": long,
            "base": base,
            "agreement": {
                way: difference_of(short[way], short[base], prepared.y, prepared.unseen)
                for way in short
                if way != base
            },
            "seconds": seconds,
        }
    )
    return result


def decide(result: Result) -> list[Finding]:
    """Judge the claims, in their order.

    Parameters
    ----------
    result : dict
        From `measure`.

    Returns
    -------
    list of Finding
    """
    return [_agreement(result), _halving(result), _safeguarded(result), _assumptions(result), _cost(result)]


def _way(train: Callable[..., Trace[Any]], network: TwoLayerNetwork, prepared: Prepared, **options: str) -> Train:
    """Fix everything but how long to train."""
    return lambda iterations, tolerance: train(
        network, prepared.X, prepared.y, iterations=iterations, tolerance=tolerance, **options
    )


def _ways(network: TwoLayerNetwork, prepared: Prepared, code: CodeUnderTest, seed: int) -> dict[str, Train]:
    """List the ways to train by the full step, which should all agree, by name."""

    def sketch(iterations: int, tolerance: float) -> Trace[Any]:
        train = partial(code.train, rng=generator(seed, "data", "sketch"))  # the same draw at every call
        return _way(train, network, prepared, search="tree", solver="sketch")(iterations, tolerance)

    ways: dict[str, Train] = {
        "events": _way(code.train, network, prepared, search="events"),
        "tree": _way(code.train, network, prepared, search="tree"),
        "sketch": sketch,
        "dense": _way(code.train_dense, network, prepared),
        "compacted": _way(code.train_compacted, network, prepared),
    }
    if prepared.X.size * network.width <= REFERENCE_LIMIT:
        ways["reference"] = _way(code.reference_train, network, prepared)
    return ways


def _geometry(network: TwoLayerNetwork, prepared: Prepared, code: CodeUnderTest) -> dict[str, Any]:
    """Measure the data, the kernel and the Gram matrix at the start."""
    X, (n, d) = prepared.X, prepared.X.shape
    fired = activation_pattern(network, X).sum(axis=1)
    check_every_point_fires(fired)
    separation, first, second = closest_pair(X)
    kernel = np.linalg.eigvalsh(code.shifted_ntk(X, network.shift))
    gram = np.linalg.eigvalsh(code.gram(network, X))
    definite = kernel[0] > n * UNIT_ROUNDOFF * kernel[-1]
    return {
        "fired": fired.mean(),
        "separation": separation,
        "closest": [prepared.places[first], prepared.places[second]],
        "lambda_kernel": kernel[0],
        "lambda_gram": gram[0],
        "condition": gram[-1] / gram[0] if gram[0] > 0 else float("inf"),
        "theorem_width": theorem_width(float(kernel[0]), n, d, FAILURE) if definite else float("inf"),
    }


def record_run(train: Train, iterations: int, tolerance: float) -> dict[str, Any]:
    """Train, and turn an end before time into data: a run that breaks down is a finding, not an error."""
    try:
        trace = train(iterations, tolerance)
    except DivergenceError as error:
        return {
            "residuals": error.residual_norms,
            "stopped": str(error),
            "counts": [],
            "preparation": {},
            "trace": None,
        }
    except InputError as error:
        lasting = _longest(train, iterations, tolerance)
        trace = train(lasting, tolerance)
        stopped = f"training broke down in iteration {lasting + 1}: {error}"
        return {**_record_of(trace), "stopped": stopped, "trace": None}
    return {**_record_of(trace), "stopped": trace.stopped or None, "trace": trace}


def _record_of(trace: Trace[Any]) -> dict[str, Any]:
    """Collect the numbers of one run."""
    return {
        "residuals": trace.residual_norms,
        "counts": trace.counts,
        "preparation": trace.preparation_counts,
    }


def _recomputed(trace: Trace[Any] | None, prepared: Prepared) -> float | None:
    """Compute the last residual again from weights written out; `UNEQUAL` if it is not a number."""
    if trace is None:
        return None
    return largest([np.linalg.norm(trace.network.to_dense().predict(prepared.X) - prepared.y)])


def _fell_back(trace: Trace[Any] | None) -> bool:
    """Tell whether an event path ended on all pairs: it keeps weights then, and coefficients otherwise."""
    network = None if trace is None else trace.network
    return isinstance(network, ImplicitNetwork) and network.weights is not None


def in_file(message: str, prepared: Prepared) -> str:
    """Name lines of the file where a message names rows of the sample."""

    def place(row: str) -> int:
        return int(prepared.places[int(row)])

    message = re.sub(
        r"\brows (\d+) and (\d+)",
        lambda found: f"{prepared.unit}s {place(found[1])} and {place(found[2])}",
        message,
    )
    return re.sub(
        r"\b((?:on|of)(?= data point)|the first of them)(?: data point)? (\d+)",
        lambda found: f"{found[1]} {prepared.unit} {place(found[2])}",
        message,
    )


def _longest(train: Train, iterations: int, tolerance: float) -> int:
    """Find by bisection how many iterations can be taken before one cannot; ``iterations`` of them cannot."""
    lasting = 0
    while iterations - lasting > 1:
        middle = (lasting + iterations) // 2
        try:
            train(middle, tolerance)
            lasting = middle
        except InputError:
            iterations = middle
    return lasting


def _rounds(ways: dict[str, Train]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[float]]]]:
    """Run each way over a few iterations, and time some, interleaved so that a busy moment hits all alike."""
    short = {way: record_run(train, COMPARED, 0.0) for way, train in ways.items()}
    seconds: dict[str, dict[str, list[float]]] = {way: {"prepare": [], "iteration": []} for way in TIMED}
    if any(short[way]["stopped"] for way in TIMED):
        return short, seconds
    begin = time.perf_counter()
    for _ in range(ROUNDS):
        for way in TIMED:
            prepare = _seconds(ways[way], 0)
            steps = max(1, len(short[way]["counts"]))
            seconds[way]["prepare"].append(prepare)
            seconds[way]["iteration"].append(max(0.0, _seconds(ways[way], COMPARED) - prepare) / steps)
        if time.perf_counter() - begin > ROUNDS_SECONDS:
            break
    return short, seconds


def _seconds(train: Train, iterations: int) -> float:
    """Time one run."""
    begin = time.perf_counter()
    train(iterations, 0.0)
    return time.perf_counter() - begin


def difference_of(one: dict[str, Any], other: dict[str, Any], y: FloatArray, unseen: FloatArray) -> dict[str, Any]:
    """Compare two runs on labels ``y``: residuals relative to the first one, predictions relative to their size.

    `UNEQUAL` where one of the two is not a number; None where there is nothing to compare.
    """
    first, second = one["residuals"], other["residuals"]
    pairs = [pair for pair in zip(first, second, strict=False) if np.isfinite(pair).any()]
    differences: dict[str, Any] = {
        "residuals": largest(abs(left - right) / (second[0] or 1.0) for left, right in pairs),
        "stopped": None
        if bool(one["stopped"]) == bool(other["stopped"])
        else one["stopped"] or other["stopped"],
        "predictions": None,
        "unseen": None,
    }
    if one["trace"] is not None and other["trace"] is not None:
        labels = float(np.linalg.norm(y))
        differences["predictions"] = _relative(one["trace"].predictions, other["trace"].predictions, labels)
        if len(unseen):
            outputs = [run["trace"].network.predict(unseen) for run in (one, other)]
            differences["unseen"] = _relative(outputs[0], outputs[1], 0.0)
    return differences


def _relative(first: FloatArray, second: FloatArray, scale: float) -> float:
    """Norm of the difference over the norm of the second, or ``scale`` when that is larger; `UNEQUAL` if not finite."""
    size = max(float(np.linalg.norm(second)), scale, float(np.finfo(float).tiny))
    return largest([np.linalg.norm(first - second) / size])


def as_plain(value: Any) -> Any:  # noqa: ANN401
    """Turn NumPy values into plain numbers and lists, and numbers that are not finite into ``None``."""
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _domain(result: Result) -> str:
    """Say where the findings speak."""
    return (
        f"{result['name']}: n={result['n']}, d={result['d']}, m={result['width']}, alpha={result['alpha']:g} "
        f"(b={result['shift']:.3f}), one draw of weights (seed {result['seed']})"
    )


def _allowance(result: Result) -> float:
    """Relative difference that rounding can explain."""
    condition = result["geometry"]["condition"]
    return tolerances.RUN if condition is None else max(tolerances.RUN, tolerances.one_step(condition, 1.0))


def _agreement(result: Result) -> Finding:
    allowance = _allowance(result)
    measured = [
        (difference[part], NAMES[way], part)
        for way, difference in result["agreement"].items()
        for part in ("residuals", "predictions", "unseen")
        if difference[part] is not None
    ]
    worst, way, part = max(measured)
    alone = [difference["stopped"] for difference in result["agreement"].values() if difference["stopped"]]
    verdict: Verdict = "holds" if worst <= allowance and not alone else "fails"
    what = "predictions on unseen rows" if part == "unseen" else part
    reason = (
        f"over {COMPARED} iterations the largest relative difference is {worst:.1e} ({what}, {way} against "
        f"{NAMES[result['base']]})"
    )
    if alone:
        reason += f"; one way broke down and another did not ({alone[0]})"
    return Finding("data.agreement", verdict, worst, None, f"<= {allowance:.1e}", _domain(result), reason)


def ratios_of(residuals: Sequence[float | None]) -> list[float | None]:
    """Residual over the one before, for every iteration."""
    return [after / before if before and after is not None else None for before, after in pairwise(residuals)]


def _halving(result: Result) -> Finding:
    run = result["runs"]["events"]
    residuals = run["residuals"]
    start = residuals[0]
    # Below the target only rounding is left, which need not shrink.
    judged = [
        (t, ratio)
        for t, ratio in enumerate(ratios_of(residuals), 1)
        if residuals[t - 1] and residuals[t - 1] > DONE * start
    ]
    finite = [ratio for _, ratio in judged if ratio is not None]
    worst = max(finite, default=None)
    slow = [t for t, ratio in judged if ratio is None or ratio > 0.5]
    verdict: Verdict = "holds"
    reason = f"all {len(judged)} iterations halve the residual; the slowest leaves {worst or 0:.3g} of it"
    ends = f"{(residuals[-1] or 0.0) / (start or 1.0):.1e} of the start"
    untrue = _misreported(run, result)
    if untrue:
        verdict, reason = "invalid", untrue
    elif run["stopped"]:
        verdict, reason = "fails", run["stopped"]
    elif slow:
        verdict = "fails"
        reason = (
            f"{len(slow)} of {len(judged)} iterations do not halve the residual, iteration {slow[0]} first; "
        )
        reason += f"it ends at {ends}"
    elif residuals[-1] > DONE * start or not judged:
        verdict = "undecided"
        reason = f"all {len(judged)} iterations halve the residual, but it ends at {ends}"
    margin = f"worst ratio <= 0.5 until {DONE:g} of the start"
    return Finding("data.halving", verdict, worst, None, margin, _domain(result), reason)


def _misreported(run: dict[str, Any], result: Result) -> str:
    """Say that the residual reported is not that of the network returned; empty when it is."""
    recomputed, residuals = run["recomputed"], run["residuals"]
    if recomputed is None or abs(recomputed - residuals[-1]) <= _allowance(result) * residuals[0]:
        return ""
    return f"the last residual was reported as {residuals[-1]:.3e} but is {recomputed:.3e}"


def _rises(residuals: Sequence[float | None]) -> list[int]:
    """List the iterations that raise the residual, or leave none that is finite."""
    return [
        t
        for t, (before, after) in enumerate(pairwise(residuals), 1)
        if after is None or (before is not None and after > before)
    ]


def reached_by(residuals: Sequence[float | None]) -> float | None:
    """Last residual over the first."""
    last = residuals[-1]
    return None if last is None else last / (residuals[0] or 1.0)


def _safeguarded(result: Result) -> Finding:
    run = result["runs"]["safeguarded"]
    residuals, taken, reached = run["residuals"], len(run["residuals"]) - 1, reached_by(run["residuals"])
    rises, untrue = _rises(residuals), _misreported(run, result)
    verdict: Verdict = "fails"
    if untrue:
        verdict, reason = "invalid", untrue
    elif rises:
        before, after = (or_dash(residuals[t], ".6g") for t in (rises[0] - 1, rises[0]))
        reason = f"iteration {rises[0]} raised the residual from {before} to {after}"
    elif run["stopped"]:
        reason = run["stopped"]
    elif reached is None or reached > DONE:
        verdict = "undecided"
        reason = f"the residual never rose, but it ends at {or_dash(reached, '.1e')} of the start, since only "
        reason += f"{taken} iterations were allowed"
    else:
        verdict = "holds"
        reason = f"after {taken} iterations it ends at {reached:.1e} of the start, and no iteration raised it"
    margin = f"no rise, and last / first <= {DONE:g}"
    return Finding("data.safeguarded", verdict, reached, None, margin, _domain(result), reason)


def _width_is_met(result: Result) -> bool:
    asked = result["geometry"]["theorem_width"]
    return asked is not None and asked <= result["width"]


def _assumptions(result: Result) -> Finding:
    asked, used = result["geometry"]["theorem_width"], result["width"]
    margin = "asked / used <= 1" if _width_is_met(result) else "asked / used > 1"
    if asked is None:
        reason = "lambda_min(K) is zero to working precision, so no finite width is enough"
        return Finding("data.assumptions", "holds", None, None, margin, _domain(result), reason)
    reason = f"the theorem asks for a width of {asked:.2g}; {used} was used"
    return Finding("data.assumptions", "holds", asked / used, None, margin, _domain(result), reason)


def work_of(counts: dict[str, int]) -> int:
    """Add up the work of an iteration, or of a preparation."""
    return sum(work for phase, work in counts.items() if phase not in STATES)


def _cost(result: Result) -> Finding:
    work = {way: [work_of(counts) for counts in result["runs"][way]["counts"]] for way in ("events", "dense")}
    margin = "event path / all neurons < 1, all iterations together"
    taken = min(len(iterations) for iterations in work.values())
    if not taken:
        reason = "the run broke down and left no complete record of its work"
        return Finding("data.cost", "undecided", None, None, margin, _domain(result), reason)
    events, dense = (sum(iterations[:taken]) for iterations in work.values())
    ratio = events / dense
    verdict: Verdict = "holds" if ratio < 1 else "fails"
    reason = f"over {taken} iterations {events:.3g} operations on the event path, {dense:.3g} over all neurons"
    if ratio >= 1 and result["runs"]["events"]["fell_back"]:
        verdict = "undecided"
        reason += "; too many pairs were close to firing, so that it went over to a dense loop over the neurons that "
        reason += "fire somewhere: fewer rows, or a far wider network, put the claim to the test"
    if result["seconds"]["events"]["iteration"]:
        shown = {way: f"{1e3 * median(result['seconds'][way]['iteration']):.3g} ms" for way in TIMED}
        reason += f"; in time (not judged) an iteration takes {shown['events']} against {shown['dense']}, "
        reason += f"{shown['compacted']} compacted and {shown['tree']} by the trees"
    return Finding("data.cost", verdict, ratio, None, margin, _domain(result), reason)


def describe(result: Result, findings: Sequence[Finding]) -> str:
    """Write the text that a user reads in the terminal.

    Parameters
    ----------
    result : dict
        From `measure`.
    findings : sequence of Finding
        From `decide`.

    Returns
    -------
    str
        Lines without a final line break.
    """
    blocks = [
        _describe_data(result),
        _describe_residuals(result),
        _describe_agreement(result),
        _describe_cost(result),
        _describe_safeguard(result),
    ]
    verdicts = ["In plain words"]
    for claim, finding in zip(claims(result), findings, strict=True):
        verdicts += wrapped(claim.statement, f"  {finding.verdict:<9}  ")
        verdicts += wrapped(f"{finding.reason}.", " " * 13)
    return "\n\n".join("\n".join(block) for block in [*blocks, verdicts] if block)


def wrapped(text: str, first: str) -> list[str]:
    """Break a text into lines, the first one after ``first``, the others indented as far."""
    indent = " " * len(first)
    return textwrap.wrap(text, WRAPPED, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def _describe_data(result: Result) -> list[str]:
    geometry = result["geometry"]
    width = geometry["theorem_width"]
    separation, (first, second) = geometry["separation"], geometry["closest"]
    closest = (
        "one row only"
        if separation is None
        else f"{separation:.4g}  ({result['unit']}s {first} and {second})"
    )
    return [
        f"{result['name']}: n = {result['n']} rows, d = {result['d']} features, {result['unseen']} unseen",
        *(f"  - {step}" for step in result["steps"]),
        f"  width m             {result['width']}  (alpha {result['alpha']:g}, shift {result['shift']:.4f})",
        f"  fired per row       {geometry['fired']:.1f} of {result['width']} neurons",
        f"  separation delta    {closest}",
        f"  lambda_min(K)       {geometry['lambda_kernel']:.4g}  (kernel: the limit of G)",
        f"  lambda_min(G)       {geometry['lambda_gram']:.4g}  (at the start)",
        f"  width asked for     {or_dash(width, '.3g')}  (Theorem 5.1 with constant 1)",
    ]


def _shown_runs(result: Result) -> dict[str, dict[str, Any]]:
    """Leave out the safeguarded run where it is the plain one over again."""
    runs: dict[str, dict[str, Any]] = dict(result["runs"])
    if runs["safeguarded"]["residuals"] == runs["events"]["residuals"]:
        del runs["safeguarded"]
    return runs


def residual_table(runs: dict[str, Sequence[float | None]]) -> list[str]:
    """Write the residuals of some runs in columns, each beside its ratio to the one before."""
    lines = ["Residuals" + "".join(f"{name:>16}{'ratio':>8}" for name in runs)[3:]]
    columns = [(residuals, [None, *ratios_of(residuals)]) for residuals in runs.values()]
    last = max(len(residuals) for residuals, _ in columns) - 1
    for t in range(last + 1):
        if t > SHOWN and t % 10 and t != last:
            continue
        cells = ""
        for residuals, ratios in columns:
            shown = (or_dash(residuals[t], ".6e"), or_dash(ratios[t], ".2g")) if t < len(residuals) else ("", "")
            cells += f"{shown[0]:>16}{shown[1]:>8}"
        lines.append(f"  {t:>4}{cells}".rstrip())
    return lines


def _describe_residuals(result: Result) -> list[str]:
    runs = _shown_runs(result)
    lines = residual_table({NAMES[way]: run["residuals"] for way, run in runs.items()})
    stopped: dict[str, list[str]] = {}
    for way, run in runs.items():
        if run["stopped"]:
            stopped.setdefault(run["stopped"], []).append(NAMES[way])
    for sentence, ways in stopped.items():
        lines += wrapped(f"{', '.join(ways)}: {sentence}", "  ")
    if "safeguarded" not in runs:
        lines.append("  Safeguarded training gives the same residuals as the event path here.")
    return lines


def or_dash(value: float | None, form: str) -> str:
    """Format a number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def _describe_agreement(result: Result) -> list[str]:
    lines = [f"Relative difference to {NAMES[result['base']]} over {COMPARED} iterations"]
    lines.append(f"  {'':<24}{'residuals':>12}{'predictions':>13}{'unseen rows':>13}")
    for way, difference in result["agreement"].items():
        cells = [or_dash(difference[part], ".1e") for part in ("residuals", "predictions", "unseen")]
        lines.append(f"  {NAMES[way]:<24}{cells[0]:>12}{cells[1]:>13}{cells[2]:>13}")
    lines += wrapped(
        "Event path: looks only at neurons that a step may switch on or off; the default. Trees: the search of the "
        "paper. All neurons, compacted: dense loops, the second without neurons that never fire.",
        "  ",
    )
    if result["base"] != "reference":
        lines.append(f"  (the reference is run when n m d <= {REFERENCE_LIMIT:.0e}; lower --rows or --width)")
    return lines


def _describe_cost(result: Result) -> list[str]:
    lines = ["Operations counted in all iterations together"]
    for way, run in _shown_runs(result).items():
        if run["counts"]:
            totals: Counter[str] = Counter()
            for counts in run["counts"]:
                totals.update({phase: work for phase, work in counts.items() if phase not in STATES})
            phases = ", ".join(f"{phase} {work:.3g}" for phase, work in totals.items() if work)
            lines += wrapped(f"({phases})", f"  {NAMES[way]:<14}{totals.total():>10.3g}  ")
    if not result["seconds"]["events"]["iteration"]:
        return lines
    rounds = len(result["seconds"]["events"]["iteration"])
    lines.append(f"Time in milliseconds, median of {rounds} interleaved runs of {COMPARED} iterations")
    for way in TIMED:
        taken = result["seconds"][way]
        lines.append(
            f"  {NAMES[way]:<14}{1e3 * median(taken['prepare']):>10.3g} preparation"
            f"{1e3 * median(taken['iteration']):>10.3g} an iteration"
        )
    return lines


def _describe_safeguard(result: Result) -> list[str]:
    """Tell a user whose plain run went astray that there is another step, what it achieved and how to call it."""
    plain, safeguarded = result["runs"]["events"], result["runs"]["safeguarded"]
    rises, reached = _rises(plain["residuals"]), reached_by(plain["residuals"])
    if plain["stopped"]:
        trouble = "diverged or broke down (see above)"
    elif rises:
        trouble = f"raised the residual in {len(rises)} iteration(s), iteration {rises[0]} first"
    elif reached is not None and reached > DONE:
        trouble = f"only came to {reached:.1e} of the start"
    else:
        return []
    achieved = or_dash(reached_by(safeguarded["residuals"]), ".1e")
    text = (
        f"On this file plain training {trouble}. The safeguarded step keeps only what lowers the residual. "
        f"From the same weights it came to {achieved} of the start in {len(safeguarded['residuals']) - 1} iterations"
        f"{', and stalled there' if safeguarded['stopped'] else ''}. To use it:"
    )
    allowed = PATIENCE * result["iterations"]
    call = f'fast.gauss_newton.train(network, X, y, iterations={allowed}, tolerance={DONE:g}, step="safeguarded")'
    return ["The safeguarded step", *wrapped(text, "  "), f"  {call}"]


def plot(figure: Figure, result: Result) -> None:
    """Draw the residual after each iteration, by each run, beside the line of halving.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn on.
    result : dict
        From `measure`.
    """
    axes = figure.subplots()
    start = result["runs"]["events"]["residuals"][0] or 1.0
    longest = 0
    for way, run in _shown_runs(result).items():
        # A residual of 0 has no logarithm, and one that is not finite is None.
        points = [(t, residual / start) for t, residual in enumerate(run["residuals"]) if residual]
        longest = max(longest, len(points) - 1)
        axes.plot([t for t, _ in points], [ratio for _, ratio in points], STYLES[way], label=NAMES[way])
    times = np.arange(longest + 1)
    plots.law(axes, times, np.maximum(0.5**times, DONE), "halved each time", line=":")
    axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("residual / residual at the start")
    axes.set_title(f"{result['name']}: n = {result['n']}, d = {result['d']}, m = {result['width']}")
    axes.legend()
