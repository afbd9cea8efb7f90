"""Claim: how signals grow, fluctuate and die from layer to layer follows the Gaussian law.

Mathematics: `reference.signals`. With Gaussian weights the scores of a layer are independent ``N(0, s^2)`` given the
length ``s`` of the signal before it, so that *given* ``s``, with ``t = b / s``::

    number that fires   Bin(m, Phi(-t)),  mean m Phi(-t)
    ||h||^2             sum over them of (c (z - b))^2,  mean s^2 c_t / c_b,      c_t = (1 + t^2) Phi(-t) - t phi(t)

What is asked
1. ``norm``, ``fired``   Do these two means hold, layer by layer? At ``s = 1`` the first is 1: so is the mean of
   ``||h_1||^2``.
2. ``drifts``    A negative finding: the mean of ``||h_l||^2`` is not 1 beyond the first layer at any width tried,
   since the mean above is convex in ``s^2`` and ``s`` fluctuates. The constant ``c`` keeps the length of a signal of
   length 1, and nothing else.
3. ``spread``    Is the standard deviation of ``log ||h_l||^2`` the one that `reference.signals.spread` predicts, where
   that is small? It is a first-order law. In the third layer it is small near alpha = 0 only, hence one more point.
4. ``gain``      Is a change of ``log ||h_1||^2`` handed on `reference.signals.gain` times?
5. ``healthy``   Is the width that `reference.signals.wide_enough` recommends enough, and is 1/32 of it too little, for
   plain networks and for normalized ones?
6. ``normalized``  Do signals live in normalized networks where most networks lose some without?

How it is measured
1. ``norm`` and ``fired`` send 32 inputs through whole random matrices by the reference's forward pass, ``normalized``
   too. Once these follow the law, layers can be drawn from it: for ``norm`` at large widths, ``drifts``, ``spread`` and
   ``gain`` one input a network, who fires and by how much it exceeds ``b``, both exactly, at a cost of ``k``, not
   ``m^2``; for ``healthy``, where inputs share their network, ``m`` Gaussian vectors with covariance ``H H^T``.
2. The means are taken over signals that expect `FEWEST` neurons to fire: a ratio to a mean near 0 has no useful mean.
   Who is taken depends on the layer before alone, so this biases nothing.
3. A seed draws many networks and is reduced to one number; each interval is over seeds, and those of one claim
   together err at most as often as one of 95% (Bonferroni).
4. Closed forms are typed again here, also that which says where predictions are small; the constant ``c``, `spread`,
   `gain` and `wide_enough` are those under test.
5. Whole matrices that are copies of each other would obey nearly the same law, so in one network of each seed the
   entries of two matrices are correlated, and those of a matrix with its own transpose: by chance at most `CHANCE`
   standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from reference.multi_layer import forward
from reference.notation import FloatArray
from reference.two_layer import shift_for
from verify import plots, problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import (
    Interval,
    decide_above,
    decide_below,
    decide_inside,
    make_finding,
    proportion_interval,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

ALPHAS = (0.1, 0.24, 0.4)
WIDTHS = tuple(1 << exponent for exponent in range(9, 14))
DEPTH = 3
SEEDS, SEEDS_THOROUGH = 10, 30
FIRED, FEWEST_NETWORKS, MOST_NETWORKS = 1.5e5, 400, 3000
"""A seed draws networks until about `FIRED` neurons fired in a layer, within the other two limits."""
FEWEST = 5.0
SMALL_SPREAD, SMALL_CHANGE = 0.3, 0.2
"""``spread`` speaks where the predicted spread is below the one, ``gain`` where that of layer 1 is below the other."""
THIRD = (0.01, 1 << 10)
"""alpha and width at which the predicted spread is small in the third layer, too."""

N, D = 32, 32
HEALTHY = ((0.1, 2, False), (0.24, 2, False), (0.1, 3, False), (0.24, 2, True), (0.24, 3, True), (0.4, 2, True))
"""alpha, depth, and whether normalized."""
TOO_NARROW = 32
TRIALS_OF_A_SEED = 10
CURED = (0.4, 1 << 10, 2)
"""alpha, width and depth at which plain and normalized networks are compared."""
CURED_NETWORKS = 6
MATRICES = ((0.1, 1 << 8), (0.24, 1 << 9))
MATRIX_NETWORKS = 28
CHANCE = 6.0
"""Correlations of fewer standard deviations are due to chance: of normal numbers one in 5e8 is not."""

NORM_MARGIN, FIRED_MARGIN = 0.05, 0.03
DRIFT_ALPHA, DRIFT_MARGIN = 0.4, 1.5
SPREAD_MARGIN, GAIN_MARGIN = 0.1, 0.07
LIVES, DIES = 0.85, 0.7
LOSE_PLAIN, LOSE_NORMALIZED = 0.85, 0.15

CLAIMS = (
    Claim(
        "signals.norm",
        "Given the length of the signal before it, each of the first three layers passes on a squared length with the "
        "mean of the Gaussian law, within 5%; in the first layer that mean is 1.",
        "[B], Gaussian initialization; law and constant are ours",
    ),
    Claim(
        "signals.fired",
        "Given the length of the signal before it, the number of neurons that fire in each of the first three layers "
        "has the mean m Phi(-b / length), within 3%; entries of different matrices, and of one and its transpose, are "
        "uncorrelated.",
        "[B], Gaussian initialization; law is ours",
    ),
    Claim(
        "signals.drifts",
        "Beyond the first layer the squared length does not keep its mean: at alpha = 0.4 the mean of ||h_2||^2 is "
        "above 1.5 at every width up to 2^13, although that of ||h_1||^2 is 1.",
        "ours; in the spirit of Price et al.",
    ),
    Claim(
        "signals.spread",
        "Wherever the predicted spread is below 0.3, the standard deviation of log ||h_l||^2 over random weights is "
        "the predicted one, within 10%.",
        "ours",
    ),
    Claim(
        "signals.gain",
        "Where fluctuations are small (predicted spread of layer 1 below 0.2), the second layer hands on a change of "
        "log ||h_1||^2 as many times as the gain predicts, within 7%.",
        "ours",
    ),
    Claim(
        "signals.healthy",
        "At the width that the error messages recommend, the signals of 32 inputs all live in at least 85% of "
        "networks: plain ones for alpha = 0.1 and 0.24 at depth 2 and alpha = 0.1 at depth 3, normalized ones for "
        "alpha = 0.24 and 0.4 at depth 2 and alpha = 0.24 at depth 3; at 1/32 of it some die in at least 70%.",
        "ours",
    ),
    Claim(
        "signals.normalized",
        "At alpha = 0.4, width 2^10 and depth 2 at least 85% of plain networks lose the signal of some of 32 inputs; "
        "scaled to length 1 in every layer, with the same weights, at most 15% do.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List every width and alpha, the recommended widths and what is too narrow, and the real networks."""
    kinds: list[Inputs] = [{"kind": "law", "alpha": a, "width": m} for a in ALPHAS for m in WIDTHS]
    kinds.append({"kind": "third", "alpha": THIRD[0], "width": THIRD[1]})
    for alpha, depth, normalized in HEALTHY:
        for share in (1, TOO_NARROW):
            shape = {"alpha": alpha, "depth": depth, "normalized": normalized}
            kinds.append({"kind": "healthy", **shape, "share": share})
    alpha, width, depth = CURED
    kinds.append({"kind": "normalized", "alpha": alpha, "width": width, "depth": depth})
    kinds += [{"kind": "matrices", "alpha": alpha, "width": width} for alpha, width in MATRICES]
    seeds = SEEDS_THOROUGH if profile.thorough else SEEDS
    return [{**kind, "seed": seed} for kind in kinds for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Draw many networks of one kind; reduce them to a few numbers."""
    kind, alpha = inputs["kind"], inputs["alpha"]
    if kind in ("law", "third"):
        return measure_law(inputs["width"], alpha, rng, code)
    if kind == "healthy":
        depth, normalized = inputs["depth"], inputs["normalized"]
        width = (code.wide_enough(alpha, depth, normalized=normalized, n=N) or 0) // inputs["share"]
        trials = [signals_die(width, alpha, depth, rng, code, normalized=normalized) for _ in range(TRIALS_OF_A_SEED)]
        return {"width": width, "deaths": sum(trials), "trials": len(trials)}
    if kind == "matrices":
        return measure_matrices(inputs["width"], alpha, rng, code)
    return measure_dead(inputs["width"], alpha, inputs["depth"], rng, code)


def measure_law(width: int, alpha: float, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Send one input through each of many networks, drawn from the law of their scores."""
    b = shift_for(width, alpha)
    networks = round(np.clip(FIRED / (width * ndtr(-b)), FEWEST_NETWORKS, MOST_NETWORKS))
    squares, fired = [np.ones(networks)], []
    for _ in range(DEPTH):
        square, count = draw_layer(squares[-1], width, b, rng, code)
        squares.append(square)
        fired.append(count)
    result: Result = {
        "networks": networks,
        "norm": conditional(squares, fired, width, b)["norm"],
        "mean": [float(square.mean()) for square in squares[1:]],
        "dead": [float((count == 0).mean()) for count in fired],
        "spread": [spread_of(square) for square in squares[1:]],
        "predicted_spread": [code.signal_spread(width, b, layer) for layer in range(1, DEPTH + 1)],
        "predicted_gain": code.signal_gain(b),
        "gain": None,
    }
    if fired[1].min() > 0:
        result["gain"], _ = slope(np.log(squares[1]), np.log(squares[2]))
    return result


def draw_layer(
    squares: FloatArray, width: int, b: float, rng: np.random.Generator, code: CodeUnderTest
) -> tuple[FloatArray, FloatArray]:
    """Draw the next layer of independent networks, given the squared length of the signal in each.

    Parameters
    ----------
    squares : ndarray (N,)
        ``||h||^2`` before the layer.
    width : int
        ``m``.
    b : float
        Shift, above 0.
    rng : numpy.random.Generator
        Source of randomness.
    code : CodeUnderTest
        Says ``c_b``.

    Returns
    -------
    squares, fired : ndarray (N,)
        ``||h||^2`` after the layer, and how many neurons fire.
    """
    length = np.sqrt(squares)
    q = chance(length, b)
    fired = rng.binomial(width, q)
    owner = np.repeat(np.arange(len(squares)), fired)
    # A score that exceeds b is the upper tail at a uniform share of q.
    excess = -length[owner] * ndtri(rng.random(len(owner)) * q[owner]) - b
    c = (width * code.second_moment(b)) ** -0.5
    after: FloatArray = np.bincount(owner, weights=(c * excess) ** 2, minlength=len(squares)).astype(np.float64)
    return after, fired.astype(np.float64)


def chance(length: FloatArray, b: float) -> FloatArray:
    """Compute ``Phi(-b / s)``, 0 for a dead signal."""
    q: FloatArray = ndtr(-b / np.maximum(length, np.finfo(np.float64).tiny))
    return q


def moment(t: FloatArray) -> FloatArray:
    """Compute ``c_t``."""
    value: FloatArray = (1 + t**2) * ndtr(-t) - t * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    return value


def mean_square(length: FloatArray, b: float) -> FloatArray:
    """Compute the mean of ``||h||^2`` after a signal of length ``s``: ``s^2 c_t / c_b``."""
    return length**2 * moment(b / length) / moment(np.asarray(b))


def first_order_spread(width: int, alpha: float, layer: int) -> float:
    """Compute the spread of ``log ||h_l||^2`` to first order, as `reference.signals` derives it, apart from its code.

    Examples
    --------
    For the plain ReLU ``kappa = 6`` and ``gain = 1``.

    >>> round(first_order_spread(500, 0.0, 4), 12)
    0.2
    """
    b = shift_for(width, alpha)
    tail, density, c = float(ndtr(-b)), math.exp(-(b**2) / 2) / math.sqrt(2 * math.pi), float(moment(np.asarray(b)))
    kappa = ((3 + 6 * b**2 + b**4) * tail - (5 * b + b**3) * density) / c**2
    return math.sqrt((kappa - 1) / width * sum((tail / c) ** (2 * power) for power in range(layer)))


def conditional(squares: Sequence[FloatArray], fired: Sequence[FloatArray], width: int, b: float) -> Result:
    """Compare each layer with its means given the layer before: relative errors, None where no signal is taken."""
    norms: list[float | None] = []
    counts: list[float | None] = []
    for before, after, count in zip(squares, squares[1:], fired, strict=False):
        length = np.sqrt(before)
        expected = width * chance(length, b)
        taken = expected >= FEWEST
        if not taken.any():
            norms.append(None)
            counts.append(None)
            continue
        norms.append(float((after[taken] / mean_square(length[taken], b)).mean() - 1))
        counts.append(float(count[taken].sum() / expected[taken].sum() - 1))
    return {"norm": norms, "fired": counts}


def spread_of(squares: FloatArray) -> float | None:
    """Return the standard deviation of the log, None if some signal died."""
    return float(np.log(squares).std(ddof=1)) if squares.min() > 0 else None


def signals_die(
    width: int, alpha: float, depth: int, rng: np.random.Generator, code: CodeUnderTest, *, normalized: bool
) -> bool:
    """Send `N` inputs through one network drawn from the law of its scores; tell whether any signal dies."""
    b = shift_for(width, alpha)
    c = (width * code.second_moment(b)) ** -0.5
    X = problems.unit_rows(N, D, rng)
    products = X @ X.T
    for _ in range(depth):
        variances, directions = np.linalg.eigh(products)
        scores = (directions * np.sqrt(np.maximum(variances, 0))) @ rng.standard_normal((N, width))
        if not (scores >= b).any(axis=1).all():
            return True
        H = c * np.maximum(scores - b, 0)
        if normalized:
            H /= np.linalg.norm(H, axis=1, keepdims=True)
        products = H @ H.T
    return False


def measure_dead(width: int, alpha: float, depth: int, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Send inputs through networks, plain and normalized with the same weights; count those that lose a signal."""
    lost = dict.fromkeys((False, True), 0)
    for _ in range(CURED_NETWORKS):
        X = problems.unit_rows(N, D, rng)
        drawn = code.deep_initialize(width, D, depth, shift=shift_for(width, alpha), rng=rng, normalized=True)
        for normalized in lost:
            fired = forward(replace(drawn, normalized=drawn.normalized and normalized), X).fired()
            lost[normalized] += not all(count.all() for count in fired)
    return {"plain": lost[False], "normalized": lost[True], "networks": CURED_NETWORKS}


def measure_matrices(width: int, alpha: float, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Send inputs through whole random matrices; compare each layer with its means given the layer before."""
    b = shift_for(width, alpha)
    squares: list[FloatArray] = [np.empty(0)] * (DEPTH + 1)
    fired: list[FloatArray] = [np.empty(0)] * DEPTH
    for _ in range(MATRIX_NETWORKS):
        X = problems.unit_rows(N, D, rng)
        network = code.deep_initialize(width, D, DEPTH, shift=b, rng=rng)
        signals = forward(network, X)
        squares = [np.append(s, (H**2).sum(axis=1)) for s, H in zip(squares, signals.hidden, strict=True)]
        fired = [np.append(f, count) for f, count in zip(fired, signals.fired(), strict=True)]
    return conditional(squares, fired, width, b) | {"correlation": largest_correlation(network.weights)}


def largest_correlation(weights: Sequence[FloatArray]) -> float:
    """Return the largest correlation of the entries of two matrices, and of one and its transpose, over chance.

    Parameters
    ----------
    weights : sequence of ndarray
        The first of shape (m, d), the others (m, m); entries N(0, 1).

    Returns
    -------
    float
        In units of `CHANCE` standard deviations; at most 1 for independent entries.
    """
    first, *square = weights
    pairs = [(first, W[:, : first.shape[1]]) for W in square]
    pairs += [(W, V) for W, V in combinations(square, 2)] + [(W, V.T) for W, V in combinations(square, 2)]
    found = [abs(np.vdot(W, V)) / math.sqrt(W.size) for W, V in pairs]
    # Above the diagonal no entry meets itself.
    found += [abs(np.vdot(np.triu(W, 1), W.T)) / math.sqrt(W.size / 2) for W in square]
    return float(np.max(found)) / CHANCE


def decide(results: Results) -> list[Finding]:
    """Reduce each seed to one number for each alpha, layer or width; decide the claims over seeds."""
    law = [(i, r) for i, r in results if i["kind"] == "law"]
    seeds = len({inputs["seed"] for inputs, _ in law})
    widths = f"m=2^{min(WIDTHS).bit_length() - 1}..2^{max(WIDTHS).bit_length() - 1}"
    domain = f"{widths}, alpha={', '.join(map(str, ALPHAS))}, layers 1..{DEPTH}, {seeds} seeds of many networks"
    matrices = [(i, r) for i, r in results if i["kind"] == "matrices"]
    whole = ", ".join(f"m={width} at alpha={alpha}" for alpha, width in MATRICES)
    whole += f", layers 1..{DEPTH}, {N} random inputs, {MATRIX_NETWORKS} networks for each of {seeds} seeds"
    return [
        _find_means("norm", law + matrices, NORM_MARGIN, f"whole matrices: {whole}; by layers: {domain}"),
        _find_fired(matrices, whole),
        _find_drifts(law, f"{widths}, alpha={DRIFT_ALPHA}, {seeds} seeds of many networks"),
        _find_spread([(i, r) for i, r in results if i["kind"] in ("law", "third")], domain),
        _find_gain(law, domain),
        _find_healthy([(i, r) for i, r in results if i["kind"] == "healthy"]),
        _find_normalized([(i, r) for i, r in results if i["kind"] == "normalized"]),
    ]


ORDER: tuple[Verdict, ...] = ("invalid", "fails", "undecided", "holds")

Groups = dict[str, dict[int, list[float]]]
"""Numbers by what they are about, and by seed."""


def add(groups: Groups, name: str, seed: int, value: float | None) -> None:
    """File a number; what could not be measured is no number."""
    if value is not None:
        groups.setdefault(name, {}).setdefault(seed, []).append(value)


def worst_of(verdicts: Collection[Verdict]) -> Verdict:
    """Return the verdict on a claim that needs all of them."""
    return min(verdicts, key=ORDER.index)


def _find_worst(name: str, groups: Groups, margin: float, what: str, domain: str, *, asked: int) -> Finding:
    """Decide that every group's mean lies within the margin of 0; report the group nearest to leaving it."""
    if len(groups) < asked or any(len(own) < 2 for own in groups.values()):
        reason = f"{len(groups)} of {asked} groups could be measured."
        return make_finding(f"signals.{name}", None, "invalid", margin="", domain=domain, reason=reason)
    intervals = {
        group: t_interval([float(np.mean(values)) for values in own.values()], confidence=1 - 0.05 / len(groups))
        for group, own in groups.items()
    }
    verdicts: set[Verdict] = {decide_inside(interval, -margin, margin) for interval in intervals.values()}
    worst = max(intervals, key=lambda group: max(-intervals[group].low, intervals[group].high))
    return make_finding(
        f"signals.{name}",
        intervals[worst],
        worst_of(verdicts),
        margin=f"within +-{margin} of 0",
        domain=domain,
        reason=f"{what}; of {len(intervals)} intervals over seeds the widest reach is at {worst}.",
    )


def _find_means(name: str, results: Results, margin: float, domain: str) -> Finding:
    groups: Groups = {}
    for inputs, result in results:
        for layer, value in enumerate(result[name], start=1):
            kind = "" if inputs["kind"] == "law" else ", whole matrices"
            add(groups, f"alpha={inputs['alpha']}, layer {layer}{kind}", inputs["seed"], value)
    what = {"norm": "Relative error of the mean of ||h||^2", "fired": "Relative error of the number that fires"}[name]
    what += f", given the layer before, where at least {FEWEST:g} should fire"
    settings = len({(inputs["kind"], inputs["alpha"]) for inputs, _ in results})
    return _find_worst(name, groups, margin, what, domain, asked=settings * DEPTH)


def _find_fired(matrices: Results, domain: str) -> Finding:
    """Decide about the number that fires; matrices that depend on each other fail."""
    finding = _find_means("fired", matrices, FIRED_MARGIN, domain)
    worst = max(result["correlation"] for _, result in matrices)
    reason = f"{finding.reason} Entries correlate by at most {worst:.2g} of what chance allows."
    return replace(finding, verdict=finding.verdict if worst <= 1 else "fails", reason=reason)


def _find_drifts(law: Results, domain: str) -> Finding:
    means: dict[int, list[list[float]]] = {}
    for inputs, result in law:
        if inputs["alpha"] == DRIFT_ALPHA:
            means.setdefault(inputs["width"], []).append(result["mean"])

    def over_seeds(layer: int) -> dict[int, Interval]:
        confidence = 1 - 0.05 / (2 * len(means))
        return {m: t_interval([own[layer - 1] for own in seeds], confidence=confidence) for m, seeds in means.items()}

    first, intervals = over_seeds(1), over_seeds(2)
    verdicts = {decide_above(interval, DRIFT_MARGIN) for interval in intervals.values()}
    verdicts |= {decide_inside(interval, 1 - NORM_MARGIN, 1 + NORM_MARGIN) for interval in first.values()}
    lowest = min(intervals, key=lambda m: intervals[m].low)
    listed = ", ".join(f"{intervals[m].estimate:.2g} at 2^{m.bit_length() - 1}" for m in sorted(intervals))
    return make_finding(
        "signals.drifts",
        intervals[lowest],
        worst_of(verdicts),
        margin=f">= {DRIFT_MARGIN}, and {1 - NORM_MARGIN:g} to {1 + NORM_MARGIN:g} in the first layer",
        domain=domain,
        reason=f"Mean of ||h_2||^2: {listed}; of ||h_1||^2: {min(i.estimate for i in first.values()):.3g} to "
        f"{max(i.estimate for i in first.values()):.3g}.",
    )


def _find_spread(results: Results, domain: str) -> Finding:
    groups: Groups = {}
    expected = set()
    for inputs, result in results:
        for layer, (spread, predicted) in enumerate(
            zip(result["spread"], result["predicted_spread"], strict=True), start=1
        ):
            # Not by the prediction under test, which must not choose where it is tried.
            if first_order_spread(inputs["width"], inputs["alpha"], layer) < SMALL_SPREAD:
                name = f"alpha={inputs['alpha']}, m=2^{inputs['width'].bit_length() - 1}, layer {layer}"
                expected.add(name)
                add(groups, name, inputs["seed"], None if spread is None else math.log(spread / predicted))
    what = f"Log of measured over predicted spread, where that is below {SMALL_SPREAD}"
    third = "; alpha={}, m={}".format(*THIRD)
    return _find_worst("spread", groups, SPREAD_MARGIN, what, domain + third, asked=max(len(expected), 1))


def _find_gain(law: Results, domain: str) -> Finding:
    groups: Groups = {}
    expected = set()
    for inputs, result in law:
        if first_order_spread(inputs["width"], inputs["alpha"], 1) < SMALL_CHANGE:
            name = f"alpha={inputs['alpha']}, m=2^{inputs['width'].bit_length() - 1}"
            expected.add(name)
            usable = result["gain"] is not None and result["gain"] > 0
            value = math.log(result["gain"] / result["predicted_gain"]) if usable else None
            add(groups, name, inputs["seed"], value)
    what = "Log of measured over predicted gain (slope of log ||h_2||^2 in log ||h_1||^2)"
    return _find_worst("gain", groups, GAIN_MARGIN, what, domain, asked=max(len(expected), 1))


def _find_healthy(results: Results) -> Finding:
    confidence = 1 - 0.1 / (2 * len(HEALTHY))
    verdicts: list[Verdict] = []
    lives: dict[str, Interval] = {}
    listed = []
    for alpha, depth, normalized in HEALTHY:
        kind = ", normalized" if normalized else ""
        for share in (1, TOO_NARROW):
            cell = (alpha, depth, normalized, share)
            own = [r for i, r in results if (i["alpha"], i["depth"], i["normalized"], i["share"]) == cell]
            deaths, trials = sum(r["deaths"] for r in own), sum(r["trials"] for r in own)
            width = own[0]["width"]
            listed.append(f"{deaths} of {trials} at alpha={alpha}, depth {depth}{kind}, m={width}")
            if share == 1:
                lives[listed[-1]] = proportion_interval(trials - deaths, trials, confidence=confidence)
                verdicts.append(decide_above(lives[listed[-1]], LIVES))
            else:
                verdicts.append(decide_above(proportion_interval(deaths, trials, confidence=confidence), DIES))
    return make_finding(
        "signals.healthy",
        min(lives.values(), key=lambda interval: interval.low),
        worst_of(verdicts),
        margin=f">= {LIVES} of networks live; at 1/{TOO_NARROW} of the width >= {DIES} lose a signal",
        domain=f"{N} random inputs in {D} dimensions, Gaussian weights",
        reason=f"Networks that lose a signal: {'; '.join(listed)}. The share that lives where fewest do is shown.",
    )


def _find_normalized(results: Results) -> Finding:
    networks = sum(r["networks"] for _, r in results)
    lost = {kind: sum(r[kind] for _, r in results) for kind in ("plain", "normalized")}
    plain, normalized = (proportion_interval(lost[kind], networks, confidence=0.95) for kind in lost)
    verdicts = {decide_above(plain, LOSE_PLAIN), decide_below(normalized, LOSE_NORMALIZED)}
    alpha, width, depth = CURED
    return make_finding(
        "signals.normalized",
        normalized,
        worst_of(verdicts),
        margin=f"<= {LOSE_NORMALIZED} of normalized, >= {LOSE_PLAIN} of plain networks",
        domain=f"alpha={alpha}, m={width}, depth {depth}, {N} random inputs in {D} dimensions, {networks} networks",
        reason=f"Networks that lose a signal: {lost['normalized']} of {networks} normalized, {lost['plain']} plain.",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw spreads against their law, and the share of signals that are dead, over the width."""
    left, right = figure.subplots(1, 2)
    law = [(i, r) for i, r in results if i["kind"] == "law"]
    for index, alpha in enumerate(ALPHAS):
        own = [(i["width"], r) for i, r in law if i["alpha"] == alpha]
        widths = sorted({width for width, _ in own})
        for layer, line in ((1, "-"), (2, "--")):
            spreads = [(m, r["spread"][layer - 1]) for m, r in own if r["spread"][layer - 1] is not None]
            if spreads:
                left.plot(*zip(*spreads, strict=True), "os"[layer - 1], color=f"C{index}", markersize=3)
            predicted = {m: r["predicted_spread"][layer - 1] for m, r in own}
            label = f"alpha={alpha}, layer {layer}"
            left.plot(widths, [predicted[m] for m in widths], line, color=f"C{index}", marker="", label=label)
        for layer, line in ((2, "--"), (3, ":")):
            dead = [float(np.mean([r["dead"][layer - 1] for m, r in own if m == width])) for width in widths]
            if any(dead):
                right.plot(widths, dead, line, marker="o", color=f"C{index}", label=f"alpha={alpha}, layer {layer}")
    plots.log_log(left, x="width m", y="standard deviation of log ||h||^2", title="lines: predicted")
    left.set_ylim(top=40)
    left.legend(fontsize="xx-small", ncols=2, loc="upper center")
    right.set_xscale("log", base=2)
    right.set(xlabel="width m", ylabel="share of dead signals", title="plain networks", ylim=(0, None))
    right.legend(fontsize="x-small")


EXPERIMENT = Experiment(
    name="signals",
    title="Signals grow, fluctuate and die by the Gaussian law",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
