"""Fine-tuning a pre-trained network ([B], its closing claim): the same answers as dense fine-tuning, at a fraction.

One cell: one sample of the shipped digits (centred, unit rows), one draw of weights for two layers, or another where a
signal dies. In two stages::

    fit         all layers, on one half of the sample, to the digit (standardized)
    fine-tune   the same network, on the other half, to a new label: +1 for even digits, -1 for odd ones

The second stage starts from what the first returned, so its data structures are built once: the weights are given row
by row, as other tools store them, and the fast path wants columns, so the first stage copies ``m^2`` entries once, and
the second none. ``W(0)`` is shared by all stages and never written.

The opponents fine-tune the same fitted weights, written out: the dense loop and the compacted one
(`fast.multi_layer_baselines`). Work is counted for the whole of the fine-tuning, with the fast path's preparation and
without that of its opponents, and compared with the cheaper of the two.

All layers are fine-tuned by full steps, and then, from the same fitted network, the last layer alone on frozen
features. Two kinds of networks: *plain*, where the last layer alone is a two-layer network and `fast.gauss_newton`
trains it, and *normalized*, which allows a larger alpha at this width.

Runs go on to a tenth of the residual that is claimed, so that rounding cannot decide. The final residual is recomputed
by `reference.multi_layer` from the weights written out.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fast.multi_layer import ImplicitMultiLayerNetwork
from reference.multi_layer import MultiLayerNetwork, forward
from reference.notation import FloatArray
from reference.two_layer import shift_for
from verify import loading, plots, tolerances
from verify.comparison import largest
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.own_data import STATES, difference_of, record_run, work_of
from verify.statistics import Interval, decide_below, make_finding, t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N = 24
"""Rows of each half."""
DEPTH = 2
ALPHAS = {"plain": 0.15, "normalized": 0.3}
"""At these almost every network lets all signals live at the widths measured."""
MOST_DRAWS = 10
WIDTHS = {False: 1 << 11, True: 1 << 13}
SEEDS = {False: 4, True: 6}
"""Widths and seeds in the default and in the thorough profile."""
TARGET = 1e-10
"""The residual, relative to the start of the fine-tuning, that has to be reached."""
TOLERANCE = TARGET / 10
MOST_ITERATIONS = 40
COST_MARGIN, LAST_MARGIN = 1 / 6, 1 / 2
"""Largest share of the opponent's work: all layers, and the last layer alone, which has only 3 or 4 iterations to make
up for a start that costs as much as one of the opponent's."""
WAYS = ("fast", "dense", "compacted")
STAGES = {"all": "all layers", "last": "last layer"}

CLAIMS = (
    Claim(
        "fine_tuning.agreement",
        "Fine-tuning a fitted network on the fast path gives the same residuals and predictions as dense fine-tuning "
        "from the same fitted weights, whether all layers are trained or the last one alone.",
        "[B], abstract",
    ),
    Claim(
        "fine_tuning.fits",
        "Fine-tuning all layers by full steps brings the residual on new rows with new labels to 1e-10 of its start, "
        "in every run.",
        "[B], abstract; ours",
    ),
    Claim(
        "fine_tuning.built_once",
        "The data structures are built once: weights that come row by row are copied once, when the network is fitted, "
        "and not again when it is fine-tuned, and all stages share the initial weights and leave every bit of them.",
        "[B], abstract; ours",
    ),
    Claim(
        "fine_tuning.cost",
        "Fine-tuning all layers on the fast path, start included, does less than a sixth of the counted work of the "
        "cheaper of two dense loops.",
        "[B], abstract; ours",
    ),
    Claim(
        "fine_tuning.last_layer",
        "Fine-tuning the last layer alone reaches 1e-10 of the start too, leaves the layers below as they are, and "
        "does less than half of the counted work of the cheaper of two dense loops.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the kinds of networks and the seeds."""
    width = WIDTHS[profile.thorough]
    return [
        {"network": kind, "width": width, "seed": seed} for kind in ALPHAS for seed in range(SEEDS[profile.thorough])
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Fit a network on one half of a sample of digits, and fine-tune it on the other, all layers and the last alone."""
    sample = loading.prepare(digits(), rows=2 * N, centre=True, standardize_target=False, rng=rng)
    fit, tune = np.split(rng.permutation(2 * N), 2)
    digit, parity = sample.y[fit], 1 - 2 * (sample.y[tune] % 2)
    network = draw(inputs, sample.X, rng, code)
    given = fingerprint(network.weights)
    labels = (digit - digit.mean()) / digit.std()
    train = way(code.deep_train, network, sample.X[fit], labels, every_layer(DEPTH))
    fitted = record_run(train, MOST_ITERATIONS, TOLERANCE)
    result: Result = {"fit": summary(fitted)}
    if fitted["trace"] is not None:
        start = fitted["trace"].network
        for stage, layers in (("all", every_layer(DEPTH)), ("last", (DEPTH,))):
            result[stage], _ = fine_tune(start, sample.X[tune], parity, sample.unseen, layers, code)
            del result[stage]["seconds"]  # other cells run beside this one; time is the matter of `deep_time`
    result["unchanged"] = fingerprint(network.weights) == given
    return result


def draw(inputs: Inputs, X: FloatArray, rng: np.random.Generator, code: CodeUnderTest) -> MultiLayerNetwork:
    """Draw a network stored row by row in which no signal of the points (n, d) dies; the reference tells."""
    width, kind = inputs["width"], inputs["network"]
    shift, normalized = shift_for(width, ALPHAS[kind]), kind == "normalized"
    for _ in range(MOST_DRAWS):
        network = by_rows(code.deep_initialize(width, X.shape[1], DEPTH, shift=shift, rng=rng, normalized=normalized))
        if all(fired.all() for fired in forward(network, X).fired()):
            break
    return network


@functools.cache
def digits() -> loading.Table:
    """Read the digits, once in a process."""
    return loading.load(loading.DIGITS)


def every_layer(depth: int) -> tuple[int, ...]:
    """List the numbers of all layers."""
    return tuple(range(1, depth + 1))


def by_rows(network: MultiLayerNetwork) -> MultiLayerNetwork:
    """Store every matrix row by row."""
    weights = tuple(np.ascontiguousarray(W) for W in network.weights)
    return MultiLayerNetwork(weights, network.signs, network.shift, network.normalized)


def fingerprint(matrices: Sequence[FloatArray]) -> str:
    """Hash every bit of some matrices, as they lie in memory."""
    total = hashlib.sha256()
    for W in matrices:
        total.update(np.ascontiguousarray(W if W.flags.c_contiguous else W.T).data)
    return total.hexdigest()


def way(
    train: Callable[..., Any], network: object, X: FloatArray, y: FloatArray, layers: Sequence[int], **options: object
) -> Callable[[int, float], Any]:
    """Fix everything but how long to train."""
    return lambda iterations, tolerance: train(
        network, X, y, trained_layers=layers, iterations=iterations, tolerance=tolerance, **options
    )


def fine_tune(
    start: ImplicitMultiLayerNetwork,
    X: FloatArray,
    y: FloatArray,
    unseen: FloatArray,
    layers: Sequence[int],
    code: CodeUnderTest,
    iterations: int = MOST_ITERATIONS,
) -> tuple[Result, Any]:
    """Fine-tune a fitted network on the fast path, and its weights written out by the opponents; compare.

    Parameters
    ----------
    start : ImplicitMultiLayerNetwork
        What fitting returned.
    X, y, unseen : ndarray (n, d), (n,), (k, d)
        New rows, new labels, and rows to predict on.
    layers : sequence of int
        Which to train.
    code : CodeUnderTest
        The routines to run.
    iterations : int
        At most this many.

    Returns
    -------
    result : dict
        JSON-able numbers: the runs; their difference; whether matrices were copied, shared and left alone.
    trace : Trace or None
        Of the fast path, unless it broke down.
    """
    before = shared_weights(start)
    prints = fingerprint(before)
    dense = start.to_dense()
    trains = {
        "fast": way(code.deep_train, start, X, y, layers),
        "dense": way(code.deep_train_dense, dense, X, y, layers),
        "compacted": way(code.deep_train_dense, dense, X, y, layers, compact=True),
    }
    result: Result = {"seconds": {}}
    fast: dict[str, Any] = {}
    for name, train in trains.items():
        begin = time.perf_counter()
        run = record_run(train, iterations, TOLERANCE)
        result["seconds"][name] = time.perf_counter() - begin
        result[name] = summary(run)
        fast = fast or run
        if name == "dense":
            result["difference"] = difference_of(fast, run, y, unseen)
        del run  # an opponent's weights are large
    trace = fast["trace"]
    if trace is not None:
        after, written = shared_weights(trace.network), trace.network.to_dense()
        result["recomputed"] = largest([np.linalg.norm(written.predict(X) - y)])
        result["shared"] = len(before) == len(after) == dense.depth and all(
            np.may_share_memory(old, new) for old, new in zip(before, after, strict=True)
        )
        result["frozen"] = all(
            np.array_equal(old, new)
            for layer, (old, new) in enumerate(zip(dense.weights, written.weights, strict=True), start=1)
            if layer not in layers
        )
    result["unchanged"] = fingerprint(before) == prints
    return result, trace


def shared_weights(network: object) -> list[FloatArray]:
    """List the matrices ``W(0)`` that a trained network keeps beside its factors; none for any other network."""
    return [layer.initial for layer in network.layers] if isinstance(network, ImplicitMultiLayerNetwork) else []


def summary(run: dict[str, Any]) -> Result:
    """Reduce the record of a run to plain numbers: residuals, work before and in all iterations by phase."""
    phases: dict[str, int] = {}
    for counts in run["counts"]:
        for phase, work in counts.items():
            phases[phase] = phases.get(phase, 0) + (0 if phase in STATES else int(work))
    return {
        "residuals": [float(norm) if np.isfinite(norm) else None for norm in run["residuals"]],
        "stopped": run["stopped"],
        "work": sum(phases.values()),
        "phases": {phase: work for phase, work in phases.items() if work},
        "start": work_of(run["preparation"]),
        "relaid": int(run["preparation"].get("relaid", 0)),
    }


# What one fine-tuning shows; `verify.own_fine_tuning` asks the same


def apart(tuned: Result) -> float:
    """Return the largest relative difference from the dense run; infinite if only one of the two came to its end."""
    difference = tuned["difference"]
    parts = [difference[part] for part in ("residuals", "predictions", "unseen") if difference[part] is not None]
    lengths = {len(tuned[name]["residuals"]) for name in ("fast", "dense")}
    alone = difference["stopped"] or (len(lengths) > 1 and not tuned["fast"]["stopped"])
    return float("inf") if alone else max(parts)


def left(tuned: Result) -> float:
    """Return the final residual, recomputed, relative to the start; infinite if the run broke down."""
    if tuned["fast"]["stopped"] or "recomputed" not in tuned:
        return float("inf")
    return float(tuned["recomputed"]) / float(tuned["fast"]["residuals"][0])


def share(tuned: Result) -> float:
    """Return the work, start included, over that of the cheaper opponent; NaN if one of them broke down."""
    if any(tuned[name]["stopped"] or not tuned[name]["work"] for name in WAYS):
        return float("nan")
    cheaper = min(tuned[name]["work"] for name in ("dense", "compacted"))
    return float((tuned["fast"]["start"] + tuned["fast"]["work"]) / cheaper)


def left_alone(tuned: Result) -> bool:
    """Tell whether fine-tuning copied no matrix, and shared the initial weights without changing them."""
    return bool(tuned["fast"]["relaid"] == 0 and tuned.get("shared") and tuned["unchanged"])


# Verdicts


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Judge the five claims over all cells; a network that could not be fitted is no evidence."""
    seeds = len({inputs["seed"] for inputs, _ in results})
    kinds = " and ".join(f"{kind} (alpha={alpha:g})" for kind, alpha in ALPHAS.items())
    domain = (
        f"digits, centred, n={N} for each stage, d=64, depth {DEPTH}, m={results[0][0]['width']}, {kinds} networks, "
        f"{seeds} seeds each"
    )
    unfitted = [inputs for inputs, result in results if not reached(result["fit"])]
    if unfitted:
        reason = f"{len(unfitted)} of {len(results)} networks could not be fitted in the first stage."
        return [make_finding(claim.id, None, "invalid", margin="", domain=domain, reason=reason) for claim in CLAIMS]
    return [
        decide_agreement(results, domain),
        decide_fits(results, domain),
        decide_built_once(results, domain),
        decide_cost(results, domain),
        decide_last_layer(results, domain),
    ]


def reached(run: Result) -> bool:
    """Tell whether a run came to the target by its own report."""
    last = run["residuals"][-1]
    return not run["stopped"] and last is not None and last <= TARGET * run["residuals"][0]


def decide_agreement(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    """Compare with the dense runs."""
    worst = {stage: max(apart(result[stage]) for _, result in results) for stage in STAGES}
    most = max(worst.values())
    verdict: Verdict = "holds" if most <= tolerances.RUN else "fails"
    reason = "Largest relative difference: " + ", ".join(f"{worst[stage]:.1e} ({STAGES[stage]})" for stage in STAGES)
    return make_finding(
        "fine_tuning.agreement", at(most), verdict, margin=f"<= {tolerances.RUN:g}", domain=domain, reason=f"{reason}."
    )


def decide_fits(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    """Look at the residuals at the end."""
    ends = [left(result["all"]) for _, result in results]
    steps = [len(result["all"]["fast"]["residuals"]) - 1 for _, result in results]
    verdict: Verdict = "holds" if max(ends) <= TARGET else "fails"
    arrived = sum(end <= TARGET for end in ends)
    reason = f"{arrived} of {len(ends)} runs reach it, in {min(steps)} to {max(steps)} steps."
    return make_finding(
        "fine_tuning.fits", at(max(ends)), verdict, margin=f"<= {TARGET:g} in every run", domain=domain, reason=reason
    )


def decide_built_once(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    """Look at what was copied, shared and written to."""
    copied = max(result[stage]["fast"]["relaid"] for _, result in results for stage in STAGES)
    once = all(result["fit"]["relaid"] == (DEPTH - 1) * inputs["width"] ** 2 for inputs, result in results)
    alone = all(result["unchanged"] and left_alone(result[stage]) for _, result in results for stage in STAGES)
    verdict: Verdict = "holds" if once and alone else "fails"
    if verdict == "holds":
        first = results[0][1]["fit"]["relaid"]
        reason = f"Fitting copied {first} entries, fine-tuning none; no initial weight changed."
    elif not once:
        reason = "Fitting did not copy each row-wise matrix above the lowest trained layer exactly once."
    elif copied:
        reason = "Fine-tuning copied matrices again."
    else:
        reason = "Fine-tuning does not share the initial weights with the fitted network, or changed them."
    return make_finding(
        "fine_tuning.built_once", at(copied), verdict, margin="0 entries copied again", domain=domain, reason=reason
    )


def decide_cost(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    """Compare the work of fine-tuning all layers."""
    interval, reason = costs(results, "all")
    verdict = decide_below(interval, COST_MARGIN)
    margin = f"<= {COST_MARGIN:.3g}, for the dearer kind of network"
    return make_finding("fine_tuning.cost", interval, verdict, margin=margin, domain=domain, reason=reason)


def decide_last_layer(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    """Judge the fine-tuning of the last layer alone: it fits, moves nothing else, and costs little."""
    interval, reason = costs(results, "last")
    verdict = decide_below(interval, LAST_MARGIN)
    end = max(left(result["last"]) for _, result in results)
    if end > TARGET:
        verdict, reason = "fails", f"Some run ends at {end:.1e} of the start. {reason}"
    elif not all(result["last"]["frozen"] for _, result in results):
        verdict, reason = "fails", f"Some layer below moved. {reason}"
    margin = f"<= {LAST_MARGIN:.3g} of the work, <= {TARGET:g} of the residual, layers below equal"
    return make_finding("fine_tuning.last_layer", interval, verdict, margin=margin, domain=domain, reason=reason)


def costs(results: Sequence[tuple[Inputs, Result]], stage: str) -> tuple[Interval, str]:
    """Estimate the share of the work for each kind of network; return the larger, and a sentence about both."""
    intervals = {
        kind: t_interval([share(result[stage]) for inputs, result in results if inputs["network"] == kind])
        for kind in ALPHAS
    }
    # A share that is not finite comes first, and is no evidence.
    worst = max(intervals.values(), key=lambda each: each.high if np.isfinite(each.high) else np.inf)
    shares = ", ".join(f"{interval.estimate:.3f} ({kind})" for kind, interval in intervals.items())
    return worst, f"Mean share of the work: {shares}."


def at(value: float) -> Interval:
    """Wrap a number that is exact, or a maximum; it has no interval."""
    return Interval(value, float("nan"), float("nan"))


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the residuals of both stages, and the work of fine-tuning beside that of the opponents."""
    residuals, work = figure.subplots(1, 2, width_ratios=[3, 2])
    runs = [(kind, next(result for inputs, result in results if inputs["network"] == kind)) for kind in ALPHAS]
    gap = 1 + max(len(result["fit"]["residuals"]) for _, result in runs)
    for number, (kind, result) in enumerate(runs):
        draw_residuals(residuals, result["fit"], 0, plots.SERIES[number], label=kind)
        if "all" in result:
            draw_residuals(residuals, result["all"]["fast"], gap, plots.SERIES[number])
            dense = "dense" if number == len(runs) - 1 else ""
            draw_residuals(residuals, result["all"]["dense"], gap, plots.MUTED, marker="x", line="none", label=dense)
    label_stages(residuals, gap)
    labels = [(kind, stage) for kind in ALPHAS for stage in STAGES]
    for index, name in enumerate(WAYS):
        lengths = [mean_work(results, kind, stage, name) for kind, stage in labels]
        heights = np.arange(len(labels)) + 0.27 * (index - 1)
        work.barh(heights, lengths, height=0.25, label=name, color=plots.SERIES[index + 2])
    work.set_yticks(range(len(labels)), [f"{kind},\n{STAGES[stage]}" for kind, stage in labels])
    work.invert_yaxis()
    work.set_xscale("log")
    work.set(xlabel="multiply-adds, mean over seeds")
    work.set_title("Counted work of fine-tuning")
    work.legend(loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=3)


def mean_work(results: Sequence[tuple[Inputs, Result]], kind: str, stage: str, name: str) -> float:
    """Average the work of one way over the seeds, starts included."""
    runs = [result[stage][name] for inputs, result in results if inputs["network"] == kind and stage in result]
    return float(np.mean([run["start"] + run["work"] for run in runs] or [0]))


def draw_residuals(
    axes: Axes, run: Result, offset: int, colour: str, *, marker: str = "o", line: str = "-", label: str = ""
) -> None:
    """Draw the residuals of one stage, relative to its start, from ``offset`` on."""
    start = run["residuals"][0] or 1.0
    # A residual of 0 has no logarithm, and one that is not finite is None.
    points = [(offset + t, norm / start) for t, norm in enumerate(run["residuals"]) if norm]
    times, norms = zip(*points, strict=True) if points else ((), ())
    size = 9 if marker == "x" else 4
    axes.plot(times, norms, color=colour, marker=marker, markersize=size, linestyle=line, label=label or None)


def label_stages(axes: Axes, gap: int) -> None:
    """Name the axes, and the two stages."""
    axes.set_yscale("log")
    axes.axvline(gap - 0.5, color=plots.MUTED, linewidth=0.8)
    axes.set(xlabel="iteration: fitting | fine-tuning", ylabel="residual / start of the stage")
    axes.set_title("Residuals of both stages")
    axes.legend(loc="lower left")


EXPERIMENT = Experiment(
    name="fine_tuning",
    title="Fine-tuning a pre-trained network",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
