"""Claim: what the trained network predicts, beside kernel regression with the shifted NTK.

Mathematics. Training a network that is linear in its weights around the start, to residual 0 and by the shortest step,
gives on any point ``x``::

    f_0(x) + k(x, X) k(X, X)^-1 (y - f_0(X))

with ``k`` the kernel of its gradients: ``G`` at the start for the finite network (*empirical* kernel), the shifted NTK
``K`` in the limit of infinite width. The weights then move by ``r^T k(X, X)^-1 r`` in squared length, where ``r`` is
``y - f_0(X)``: least among all that fit. That is the implicit bias which proofs in the lazy regime rest on. Networks of
finite width leave it by the pairs that flip, so the distance must fall as the width grows. Distances are root mean
squares over unseen points, relative to those of the correction ``k(x, X) k(X, X)^-1 r``.

1. ``training``   Do both fit the labels? Largest difference on training points over the largest label.
2. ``unseen``     At shift 1, does the distance to regression with ``K`` fall at least like ``m^-0.35``? Of two errors,
   one from ``G - K`` and one from flips, each falls like ``m^-1/2``.
3. ``empirical``  And that to regression with the empirical kernel, which has the second error only?
4. ``norm``       At the largest width, is the squared distance of the weights within a tenth of ``r^T K^-1 r``?
5. ``paper``      At the paper's alpha = 0.24 and a width of thousands: the distance is *not* small. A negative finding.
6. ``digits``     On handwritten digits, at alpha = 0.1: do both predict unseen ones equally well? Difference of root
   mean square errors, in standard deviations of the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.notation import DivergenceError, FloatArray, InputError
from reference.two_layer import TwoLayerNetwork, activation_pattern, shift_for
from verify import loading, problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    Interval,
    decide_above,
    decide_below,
    decide_inside,
    make_finding,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

N, D, UNSEEN = 24, 16, 64
SHIFT, EXPONENTS, EXPONENTS_THOROUGH = 1.0, (10, 12, 14), (10, 12, 14, 16, 17)
PAPER, PAPER_EXPONENT = 0.24, 12
DIGITS, DIGITS_UNSEEN, DIGITS_ALPHA, DIGITS_EXPONENT = 100, 256, 0.1, 12
SEEDS, SEEDS_THOROUGH = 8, 24
DIGITS_SEEDS, DIGITS_SEEDS_THOROUGH = 4, 16
MOST, TOLERANCE = 40, 1e-10

TRAINING_MARGIN, SLOPE_MARGIN, NORM_MARGIN = 1e-8, -0.35, 0.1
PAPER_MARGIN, DIGITS_MARGIN = 0.35, 0.05

OURS = "ours; asked for by reviews of [A]"
CLAIMS = (
    Claim(
        "kernel_regression.training",
        "On the points trained on the network and kernel regression both give the labels: they differ by at most 1e-8 "
        "of the largest.",
        OURS,
    ),
    Claim(
        "kernel_regression.unseen",
        "At a fixed shift the predictions on unseen points tend to those of kernel regression with the shifted NTK, at "
        "least like m^-0.35.",
        OURS,
    ),
    Claim(
        "kernel_regression.empirical",
        "They tend to those of regression with the network's own kernel at the start, at least like m^-0.35.",
        OURS,
    ),
    Claim(
        "kernel_regression.norm",
        "Training finds the shortest way: the squared distance that the weights move is within a tenth of the least "
        "that fits in the limit of infinite width.",
        OURS,
    ),
    Claim(
        "kernel_regression.paper",
        "At the paper's alpha = 0.24 and m = 2^12 the network is not there: on unseen points it differs from kernel "
        "regression by at least 0.35 of what training changes there.",
        OURS,
    ),
    Claim(
        "kernel_regression.digits",
        "On unseen handwritten digits, at alpha = 0.1 and m = 2^12, the root mean square errors of the network and of "
        "kernel regression differ by at most 0.05 standard deviations of the target.",
        OURS,
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the widths at the fixed shift, the paper's setting and the digits; each for every seed."""
    exponents = EXPONENTS_THOROUGH if profile.thorough else EXPONENTS
    seeds = SEEDS_THOROUGH if profile.thorough else SEEDS
    digits = DIGITS_SEEDS_THOROUGH if profile.thorough else DIGITS_SEEDS
    grid: list[Inputs] = [
        {"part": "fixed", "exponent": exponent, "seed": seed} for exponent in exponents for seed in range(seeds)
    ]
    grid += [{"part": "paper", "exponent": PAPER_EXPONENT, "seed": seed} for seed in range(seeds)]
    return grid + [{"part": "digits", "exponent": DIGITS_EXPONENT, "seed": seed} for seed in range(digits)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train one network; compare with regression by both kernels."""
    width, part = 1 << inputs["exponent"], inputs["part"]
    if part == "digits":
        X, y, unseen, truth = sample_digits(rng)
    else:
        problem = problems.make("random", N, D, rng)
        X, y, unseen, truth = problem.X, problem.y, problems.unit_rows(UNSEEN, D, rng), None
    shift = {"fixed": SHIFT, "paper": shift_for(width, PAPER), "digits": shift_for(width, DIGITS_ALPHA)}[part]
    network = code.initialize(width, X.shape[1], shift=shift, rng=rng)
    try:
        trained = code.train(network, X, y, iterations=MOST, tolerance=TOLERANCE).network
    except (InputError, DivergenceError):
        return {"failed": True}
    return {"failed": False, **compare(network, trained, X, y, unseen, truth, code)}


def compare(
    network: TwoLayerNetwork,
    trained: Any,  # noqa: ANN401
    X: FloatArray,
    y: FloatArray,
    unseen: FloatArray,
    truth: FloatArray | None,
    code: CodeUnderTest,
) -> Result:
    """Set a trained network beside both regressions; ``truth`` are the labels of the unseen points."""
    n = len(X)
    start, residual = network.predict(unseen), y - network.predict(X)
    K = code.shifted_ntk(np.concatenate([X, unseen]), network.shift)
    coefficients = np.linalg.solve(K[:n, :n], residual)
    correction = K[n:, :n] @ coefficients
    own = empirical_kernel(network, unseen, X) @ np.linalg.solve(empirical_kernel(network, X, X), residual)
    predictions = trained.predict(unseen)
    size = float(np.linalg.norm(correction))
    moved = trained.to_dense().weights - network.weights
    result = {
        # Regression gives the labels exactly; what it rounds is far below the margin.
        "training": float(np.abs(trained.predict(X) - y).max() / np.abs(y).max()),
        "unseen": float(np.linalg.norm(predictions - start - correction)) / size,
        "empirical": float(np.linalg.norm(predictions - start - own)) / size,
        "norm": float((moved * moved).sum() / (residual @ coefficients)),
    }
    if truth is not None:
        plain = K[n:, :n] @ np.linalg.solve(K[:n, :n], y)
        for name, values in (
            ("network", predictions),
            ("regression", start + correction),
            ("without start", predictions - start),
            ("from zero", plain),
        ):
            result[f"error of {name}"] = float(np.sqrt(np.mean((values - truth) ** 2)))
    return result


def empirical_kernel(network: TwoLayerNetwork, left: FloatArray, right: FloatArray) -> FloatArray:
    """Compute inner products of gradients at the start: (p, d) and (q, d) give (p, q)."""
    fires, also = (activation_pattern(network, points).astype(np.float32) for points in (left, right))
    kernel: FloatArray = (left @ right.T) * (fires @ also.T) / network.width
    return kernel


def sample_digits(rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw digits to train on and others; both centred, labels standardized by those trained on."""
    table = loading.load("digits")
    chosen = rng.permutation(len(table.X))[: DIGITS + DIGITS_UNSEEN]
    X, y = table.X[chosen] - table.X[chosen[:DIGITS]].mean(axis=0), table.y[chosen]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = (y - y[:DIGITS].mean()) / y[:DIGITS].std()
    return X[:DIGITS], y[:DIGITS], X[DIGITS:], y[DIGITS:]


def decide(results: Runs) -> list[Finding]:
    """Fit slopes, one per seed; take means over seeds."""
    fixed = [(i, r) for i, r in results if i["part"] == "fixed"]
    seeds = sorted({inputs["seed"] for inputs, _ in fixed})
    exponents = sorted({inputs["exponent"] for inputs, _ in fixed})
    domain = (
        f"n={N}, d={D}, {UNSEEN} unseen, m=2^{exponents[0]}..2^{exponents[-1]}, shift {SHIFT:g}, random inputs and "
        f"labels, {len(seeds)} seeds"
    )
    failed = sum(result["failed"] for _, result in results)
    if failed:
        reason = f"{failed} of {len(results)} runs stopped with an error."
        return [Finding(claim.id, "invalid", None, None, "every run goes through", domain, reason) for claim in CLAIMS]
    training = [result["training"] for _, result in results]
    largest = [result for inputs, result in fixed if inputs["exponent"] == exponents[-1]]
    norm = t_interval([result["norm"] for result in largest])
    paper = t_interval([result["unseen"] for inputs, result in results if inputs["part"] == "paper"])
    sizes = f"n={N}, d={D}, {UNSEEN} unseen, m=2^{PAPER_EXPONENT}, alpha={PAPER}"
    paper_domain = f"{sizes}, random inputs and labels, {len(seeds)} seeds"
    return [
        make_finding(
            "kernel_regression.training",
            Interval(max(training), min(training), max(training)),
            "holds" if max(training) <= TRAINING_MARGIN else "fails",
            margin=f"<= {TRAINING_MARGIN:g} in every run",
            domain=f"{domain}; {paper_domain}; digits",
            reason="Largest difference of the network's predictions from the labels.",
        ),
        _find_slope("unseen", fixed, seeds, exponents, domain),
        _find_slope("empirical", fixed, seeds, exponents, domain),
        make_finding(
            "kernel_regression.norm",
            norm,
            decide_inside(norm, 1 - NORM_MARGIN, 1 + NORM_MARGIN),
            margin=f"within +-{NORM_MARGIN:g} of 1",
            domain=domain.replace(f"2^{exponents[0]}..", ""),
            reason="Squared movement of the weights over r^T K^-1 r; means by width "
            + ", ".join(f"2^{e}: {_mean(fixed, e, 'norm'):.2f}" for e in exponents)
            + ".",
        ),
        make_finding(
            "kernel_regression.paper",
            paper,
            decide_above(paper, PAPER_MARGIN),
            margin=f">= {PAPER_MARGIN:g} (distance over size of the correction)",
            domain=paper_domain,
            reason="Mean over seeds of the distance to regression with the shifted NTK on unseen points.",
        ),
        _find_digits([result for inputs, result in results if inputs["part"] == "digits"]),
    ]


def _mean(fixed: Runs, exponent: int, name: str) -> float:
    return float(np.mean([result[name] for inputs, result in fixed if inputs["exponent"] == exponent]))


def _find_slope(name: str, fixed: Runs, seeds: list[int], exponents: list[int], domain: str) -> Finding:
    fitted = []
    for seed in seeds:
        own = [(i["exponent"] * math.log(2), math.log(r[name])) for i, r in fixed if i["seed"] == seed]
        fitted.append(slope(*zip(*own, strict=True))[0])
    interval = t_interval(fitted)
    return make_finding(
        f"kernel_regression.{name}",
        interval,
        decide_below(interval, SLOPE_MARGIN),
        margin=f"<= {SLOPE_MARGIN:g} (exponent in m)",
        domain=domain,
        reason="Slope of log distance against log m, t-interval over seeds; mean distances "
        + ", ".join(f"2^{e}: {_mean(fixed, e, name):.3f}" for e in exponents)
        + ".",
    )


def _find_digits(results: list[Result]) -> Finding:
    interval = t_interval([r["error of network"] - r["error of regression"] for r in results])
    errors = ", ".join(
        f"{name} {np.mean([r[f'error of {name}'] for r in results]):.3f}"
        for name in ("network", "regression", "without start", "from zero")
    )
    return make_finding(
        "kernel_regression.digits",
        interval,
        decide_inside(interval, -DIGITS_MARGIN, DIGITS_MARGIN),
        margin=f"within +-{DIGITS_MARGIN:g} of 0",
        domain=f"n={DIGITS} digits, {DIGITS_UNSEEN} unseen, m=2^{DIGITS_EXPONENT}, alpha={DIGITS_ALPHA}, "
        f"{len(results)} seeds",
        reason=f"Mean errors: {errors}. Regression starts from the network's own f_0; 'without start' subtracts that "
        "from the network, 'from zero' is regression that does not know it. Mean distance of the predictions "
        f"{np.mean([r['unseen'] for r in results]):.3f}.",
    )


def plot(figure: Figure, results: Runs) -> None:
    """Draw the distance to both regressions against the width."""
    axes = figure.subplots()
    fixed = [(i, r) for i, r in results if i["part"] == "fixed" and not r["failed"]]
    for name, label in (("unseen", "to the shifted NTK's"), ("empirical", "to the network's own kernel's")):
        widths, distances = [2.0 ** i["exponent"] for i, _ in fixed], [r[name] for _, r in fixed]
        axes.loglog(widths, distances, "o", label=label, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width m", ylabel="distance on unseen points / correction")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="kernel_regression",
    title="Beside kernel regression with the shifted NTK",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
