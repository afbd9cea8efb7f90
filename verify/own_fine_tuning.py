"""One file of the user's own, in two stages: fit a deep network on half of the rows, fine-tune it on the other half.

The run behind ``python -m verify --data FILE --fine-tune``. What `verify.claims.fine_tuning` does with the digits::

    fit         all layers, on one half of the rows, to the target
    fine-tune   the same network, on the other half, to a new label: +1 where the target is above its median, else -1

from weights drawn at random, or from a network that was saved before. The second stage goes by the fast path and by two
dense loops from the same fitted weights, and reports::

    agreement   the same residuals and predictions over the first iterations
    fits        the residual on the new rows comes to 1e-10 of its start
    built once  fine-tuning copies no matrix, and leaves the initial weights as they are
    cost        counted work of the whole fine-tuning, start included

Where full steps do not get there, the safeguarded step (`reference.safeguard`) takes over from the same weights; the
dense loops have no such step, so work and agreement are always those of full steps.

As in `verify.own_data`, `measure` has no opinion, `decide` and `describe` read nothing but its plain numbers, and
messages name lines of the file and options of the command line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reference import multi_layer, network_file
from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, FloatArray, InputError, SingularGramError
from reference.trace import Network, Trace
from reference.two_layer import shift_for
from verify import plots, tolerances
from verify.claims.fine_tuning import (
    MOST_ITERATIONS,
    TARGET,
    TOLERANCE,
    WAYS,
    draw_residuals,
    every_layer,
    fine_tune,
    fingerprint,
    label_stages,
    left_alone,
    reached,
    share,
    summary,
    way,
)
from verify.comparison import largest
from verify.experiment import Claim, CodeUnderTest, Finding, Result, Verdict
from verify.loading import Prepared
from verify.own_data import (
    COMPARED,
    DEFAULT_ALPHA,
    DEFAULT_WIDTH,
    MEMORY_LIMIT,
    PATIENCE,
    as_plain,
    in_file,
    or_dash,
    reached_by,
    record_run,
    residual_table,
    wrapped,
)
from verify.seeds import generator

DEFAULT_DEPTH = 2

WEIGHTS_LIMIT = 2**28
"""Largest number of entries of all (m, m) matrices together; up to five copies are kept, most of them for opponents."""

DEPTH_LIMIT = 64
"""Most layers: plain signals of a few hundred leave the range of float64, and long before that no width keeps them."""

WRITTEN = ("ABOUT.txt", "results.json", "report.html", "cells")
"""What a run writes in the folder of ``--out``."""

CLAIMS = (
    Claim(
        "data.fine_tuning_agreement",
        "On this file, fine-tuning on the fast path gives the same residuals and predictions as dense fine-tuning.",
        "[B], abstract",
    ),
    Claim(
        "data.fine_tuning_fits",
        "On this file, fine-tuning brings the residual on the new rows with their new labels to 1e-10 of its start.",
        "[B], abstract; ours",
    ),
    Claim(
        "data.fine_tuning_built_once",
        "On this file, fine-tuning copies no matrix of the fitted network and leaves the initial weights as they are.",
        "[B], abstract; ours",
    ),
    Claim(
        "data.fine_tuning_cost",
        "On this file, fine-tuning on the fast path, start included, does less counted work than the cheaper of two "
        "dense loops.",
        "[B], abstract; ours",
    ),
)


@dataclass(frozen=True)
class Settings:
    """What to train, and how.

    Parameters
    ----------
    width, depth : int, optional
        Of the network; `DEFAULT_WIDTH` and `DEFAULT_DEPTH` when not given.
    alpha : float, optional
        Sparsity exponent; the shift is ``sqrt(2 alpha ln m)``.
    normalized : bool
        Whether every hidden signal is scaled to length 1.
    layers : tuple of int, optional
        Which to fine-tune; all when not given. Fitting trains all.
    network : MultiLayerNetwork, optional
        Where fitting starts, in place of a random draw; it brings width, depth, alpha and normalized with it.
    seed : int
        Root seed of the weights and of the halves.
    """

    width: int | None = None
    depth: int | None = None
    alpha: float | None = None
    normalized: bool = False
    layers: tuple[int, ...] | None = None
    network: MultiLayerNetwork | None = None
    seed: int = 0


def run(
    prepared: Prepared, settings: Settings, *, code: CodeUnderTest
) -> tuple[str, list[Finding], Result, Network | None]:
    """Measure, judge and describe one prepared file.

    Parameters
    ----------
    prepared : Prepared
        From `verify.loading.prepare`; at least two rows.
    settings : Settings
        What to train.
    code : CodeUnderTest
        The routines to run.

    Returns
    -------
    text : str
        What a user reads in the terminal.
    findings : list of Finding
        One for each of `CLAIMS`.
    result : dict
        The JSON-able numbers behind both.
    network : Network or None
        Fine-tuned, by safeguarded steps where full ones did not get there; None if neither left one.

    Raises
    ------
    InputError
        Settings that do not fit the file or each other, labels that cannot be told apart, signals that die, a Gram
        matrix singular at the start.
    """
    result, network = measure(prepared, settings, code)
    findings = decide(result)
    return describe(result, findings), findings, result, network


def load_network(path: str | Path) -> MultiLayerNetwork:
    """Read a saved network to start from.

    Parameters
    ----------
    path : str or Path
        Written by `reference.network_file.save`.

    Returns
    -------
    MultiLayerNetwork

    Raises
    ------
    InputError
        See `reference.network_file.load`; or a two-layer network.
    """
    network = network_file.load(path)
    if not isinstance(network, MultiLayerNetwork):
        raise InputError(f"{path}: holds a two-layer network of [A]; fine-tuning needs a MultiLayerNetwork: save one")
    return network


def check_place(path: Path, *, data: str, network: str | None, out: Path) -> None:
    """Refuse to write a network where it would replace anything but an old result, or stand in the report's way.

    Parameters
    ----------
    path : Path
        Where the network is to be saved.
    data, network : str, optional
        The files that are read.
    out : Path
        The folder of the report; it need not exist.

    Raises
    ------
    InputError
        A file that is read or that holds no network; the folder of the report, or one that it lies in, or what is
        written there; or a place that cannot be written.
    """
    place, folder = network_file.check_writable(path), out.resolve()
    if place == folder or place in folder.parents:
        raise InputError(f"--save-network {path} is where --out {out} makes its folder; name another file")
    if folder in place.parents and place.relative_to(folder).parts[0] in WRITTEN:
        raise InputError(f"--save-network {path} is what the report itself writes in --out {out}; name another file")
    for option, given in (("--data", data), ("--network", network)):
        if given is not None and Path(given).exists() and place == Path(given).resolve():
            raise InputError(f"--save-network {path} would replace the file of {option}; name another file")
    if place.exists() and not network_file.is_network_file(place):
        raise InputError(f"--save-network {path} would replace a file that holds no network; name another file")


def measure(prepared: Prepared, settings: Settings, code: CodeUnderTest) -> tuple[Result, Network | None]:
    """Fit, fine-tune, and collect plain numbers; no opinion.

    Parameters
    ----------
    prepared, settings, code
        As for `run`.

    Returns
    -------
    result : dict
        JSON-able; numbers that are not finite are ``None``.
    network : Network or None
        As for `run`.

    Raises
    ------
    InputError
        As for `run`.
    """
    labels, note = new_labels(prepared)
    fit, tune = _halves(prepared, labels, settings.seed)
    network = _starting_network(prepared, settings, code)
    layers = _layers(settings.layers, network.depth)
    given = fingerprint(network.weights)

    fitted, trace = _fit(network, fit, settings, code)
    start = trace.network
    options = (start, tune.X, tune.y, tune.unseen, layers, code)
    _first_step("fine-tuning", way(code.deep_train, start, tune.X, tune.y, layers), tune, settings)
    dense = start.to_dense()
    condition = float(np.linalg.cond(multi_layer.gram(dense, tune.X, layers)))
    tuned, last = fine_tune(*options)
    if max(len(tuned[name]["residuals"]) for name in ("fast", "dense")) > COMPARED + 1:
        # Longer, unstable runs may part by rounding alone.
        tuned["difference"] = fine_tune(*options, iterations=COMPARED)[0]["difference"]
    safeguarded = None
    if not reached(tuned["fast"]):
        train = way(code.deep_train, start, tune.X, tune.y, layers, step="safeguarded")
        record = record_run(train, PATIENCE * MOST_ITERATIONS, TOLERANCE)
        safeguarded = _told(summary(record), tune)
        if record["trace"] is not None:
            last = record["trace"]
            safeguarded["recomputed"] = largest([np.linalg.norm(last.network.to_dense().predict(tune.X) - tune.y)])
    for name in WAYS:
        _told(tuned[name], tune)
    split = f"fitted on {len(fit.X)} of the rows, fine-tuned on the other {len(tune.X)}"
    result: Result = as_plain(
        {
            "name": prepared.name,
            "steps": [*prepared.steps, split, note],
            "rows": [len(fit.X), len(tune.X)],
            "d": prepared.X.shape[1],
            "unseen": len(prepared.unseen),
            "width": network.width,
            "depth": network.depth,
            "normalized": network.normalized,
            "shift": network.shift,
            "alpha": None if settings.network else _alpha(settings),
            "seed": settings.seed,
            "layers": layers,
            "fired": [count.mean() for count in multi_layer.forward(network, fit.X).fired()],
            "fit": fitted,
            "tuned": tuned,
            "safeguarded": safeguarded,
            "condition": condition,
            "unchanged": fingerprint(network.weights) == given,
        }
    )
    return result, None if last is None else last.network


def new_labels(prepared: Prepared) -> tuple[FloatArray, str]:
    """Make the labels of the second stage from the target: +1 above its median, -1 elsewhere.

    Parameters
    ----------
    prepared : Prepared
        ``y`` is the target.

    Returns
    -------
    labels : ndarray (n,)
    note : str
        What was done, in plain words.

    Raises
    ------
    InputError
        One row only, or a target that is the same everywhere.
    """
    if len(prepared.y) < 2:
        raise InputError(f"{prepared.name}: one row has no two halves; pass --rows 2 or more")
    middle = np.median(prepared.y)
    # Where the median is the largest value, as with mostly ones among zeros, it counts as above.
    above, word = prepared.y > middle, "above"
    if not above.any():
        above, word = prepared.y >= middle, "at"
    if above.all():
        raise InputError(f"{prepared.name}: the target is the same in every row; pass one with two values or more")
    count = int(above.sum())
    note = f"new labels: +1 where the target is {word} its median, -1 elsewhere ({count} and {len(above) - count} rows)"
    return np.where(above, 1.0, -1.0), note


def _halves(prepared: Prepared, labels: FloatArray, seed: int) -> tuple[Prepared, Prepared]:
    """Split the rows at random; the second half gets the new labels."""
    n = len(prepared.X)
    order = generator(seed, "fine-tune", "halves", n).permutation(n)
    first, second = (np.sort(half) for half in (order[: (n + 1) // 2], order[(n + 1) // 2 :]))
    fit, tune = (
        replace(prepared, X=prepared.X[rows], y=y[rows], places=prepared.places[rows])
        for rows, y in ((first, prepared.y), (second, labels))
    )
    return fit, tune


def _alpha(settings: Settings) -> float:
    return DEFAULT_ALPHA if settings.alpha is None else settings.alpha


def _starting_network(prepared: Prepared, settings: Settings, code: CodeUnderTest) -> MultiLayerNetwork:
    """Take the network that was given, if it fits the file, or draw one."""
    n, d = prepared.X.shape
    if settings.network is not None:
        if settings.network.depth > DEPTH_LIMIT:
            raise InputError(
                f"the network of --network has {settings.network.depth} layers; pass one of at most {DEPTH_LIMIT}"
            )
        if settings.network.dim != d:
            raise InputError(
                f"{prepared.name}: the file has {d} features, but the network of --network takes "
                f"{settings.network.dim}; pass the file that it was made for, treated alike (--scale drops columns)"
            )
        return settings.network
    width = DEFAULT_WIDTH if settings.width is None else settings.width
    depth = DEFAULT_DEPTH if settings.depth is None else settings.depth
    if depth > DEPTH_LIMIT:
        raise InputError(f"--depth is {depth}; pass at most {DEPTH_LIMIT}, for signals of that many layers get lost")
    shift = shift_for(width, _alpha(settings))
    if (depth - 1) * width**2 > WEIGHTS_LIMIT or n * width > MEMORY_LIMIT:
        raise InputError(
            f"{prepared.name}: {depth} layers of width {width} on {n} rows would not fit in memory; "
            "lower --width, --depth or --rows"
        )
    key = {"width": width, "depth": depth, "alpha": _alpha(settings), "rows": n}
    rng = generator(settings.seed, "fine-tune", key)
    drawn: MultiLayerNetwork = code.deep_initialize(
        width, d, depth, shift=shift, rng=rng, normalized=settings.normalized
    )
    return drawn


def _layers(layers: tuple[int, ...] | None, depth: int) -> tuple[int, ...]:
    """Check which layers are to be fine-tuned."""
    try:
        return every_layer(depth) if layers is None else multi_layer.check_layers(layers, depth)
    except InputError as error:
        given = ",".join(map(str, layers or ()))
        raise InputError(f"--layers is {given}; pass distinct numbers from 1 to {depth}, the depth") from error


def _fit(
    network: MultiLayerNetwork, fit: Prepared, settings: Settings, code: CodeUnderTest
) -> tuple[Result, Trace[Any]]:
    """Train all layers on the first half, by full steps or, where they do not get there, by safeguarded ones."""
    layers = every_layer(network.depth)
    train = way(code.deep_train, network, fit.X, fit.y, layers)
    _first_step("fitting", train, fit, settings)
    record = record_run(train, MOST_ITERATIONS, TOLERANCE)
    plain = _told(summary(record), fit) | {"step": "full"}
    if reached(plain):
        return plain, record["trace"]
    train = way(code.deep_train, network, fit.X, fit.y, layers, step="safeguarded")
    record = record_run(train, PATIENCE * MOST_ITERATIONS, TOLERANCE)
    told = _told(summary(record), fit)
    if record["trace"] is None:
        raise InputError(f"{fit.name}: fitting broke down, by safeguarded steps too: {told['stopped']}")
    return told | {"step": "safeguarded"}, record["trace"]


def _first_step(stage: str, train: Any, half: Prepared, settings: Settings) -> None:  # noqa: ANN401
    """Take one step on trial: what stops the first iteration is the input's fault, and is raised in its terms."""
    try:
        with suppress(DivergenceError):
            train(1, 0.0)
    except InputError as error:
        raise InputError(f"{half.name}: {stage}: {_explained(error, half, settings)}") from error


def _explained(error: InputError, half: Prepared, settings: Settings) -> str:
    """Name lines of the file, and the options that would help."""
    message = in_file(str(error), half)
    cause = message.partition(";")[0]
    weakest = re.search(r"The weakest signal is (.*?):", message)
    if weakest:
        cause += f"; the weakest signal is {weakest[1]}"
    if settings.network is not None:
        return f"{cause}; start from a wider network, from one with a smaller shift, or without --network"
    ways = []
    for option, pattern in (
        ("--width", r"widen the network \(here \d+\) to (\d+)"),
        ("--alpha", r"lower alpha \(here [^)]*\) to ([\d.]+)"),
    ):
        found = re.search(pattern, message)
        if found and (option != "--width" or int(found[1]) ** 2 <= WEIGHTS_LIMIT):
            ways.append(f"{option} {'0' if found[1] == '0.00' else found[1]}")
    if "normalized=True" in message:
        ways.append("--normalized")
    if isinstance(error, SingularGramError):
        ways.append("--centre or --drop-duplicates")
    return f"{cause}; try {', or '.join(ways)}" if ways else message


def _told(run: Result, half: Prepared) -> Result:
    """Let the message of a run name lines of the file."""
    run["stopped"] = run["stopped"] and in_file(run["stopped"], half)
    return run


# ---- verdicts


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
    return [_agreement(result), _fits(result), _built_once(result), _cost(result)]


def _finding(claim: str, verdict: Verdict, estimate: float | None, margin: str, result: Result, reason: str) -> Finding:
    kind = "normalized" if result["normalized"] else "plain"
    domain = (
        f"{result['name']}: n={result['rows'][0]} and {result['rows'][1]}, d={result['d']}, m={result['width']}, "
        f"depth {result['depth']}, {kind}, b={result['shift']:.3f}, {_names(result)} fine-tuned, seed {result['seed']}"
    )
    return Finding(f"data.fine_tuning_{claim}", verdict, estimate, None, margin, domain, reason)


def _names(result: Result) -> str:
    """Say which layers are fine-tuned."""
    layers = result["layers"]
    if len(layers) == result["depth"]:
        return "all layers"
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _allowance(result: Result) -> float:
    """Relative difference that rounding can explain."""
    condition = result["condition"]
    return tolerances.RUN if condition is None else max(tolerances.RUN, tolerances.one_step(condition, 1.0))


def _agreement(result: Result) -> Finding:
    difference, allowance = result["tuned"]["difference"], _allowance(result)
    parts = ("residuals", "predictions", "unseen")
    worst, part = max((difference[part], part) for part in parts if difference[part] is not None)
    verdict: Verdict = "holds" if worst <= allowance and not difference["stopped"] else "fails"
    what = "predictions on unseen rows" if part == "unseen" else part
    reason = f"over {COMPARED} iterations at most, the largest relative difference is {worst:.1e} ({what})"
    if difference["stopped"]:
        reason += f"; one way broke down and the other did not ({difference['stopped']})"
    return _finding("agreement", verdict, worst, f"<= {allowance:.1e}", result, reason)


def _fits(result: Result) -> Finding:
    plain, safeguarded = result["tuned"]["fast"], result["safeguarded"]
    run = safeguarded or plain | {"recomputed": result["tuned"].get("recomputed")}
    taken, left = len(run["residuals"]) - 1, reached_by(run["residuals"])
    kind = "safeguarded" if safeguarded else "full"
    wrong = run.get("recomputed") is not None and abs(run["recomputed"] - run["residuals"][-1]) > (
        _allowance(result) * run["residuals"][0]
    )
    verdict: Verdict = "fails"
    if wrong:
        verdict = "invalid"
        reason = f"the last residual was reported as {run['residuals'][-1]:.3e} but is {run['recomputed']:.3e}"
    elif reached(run):
        verdict, reason = "holds", f"after {taken} {kind} steps it ends at {left:.1e} of the start"
    elif run["stopped"]:
        reason = run["stopped"]
    else:
        verdict = "undecided"
        reason = f"it ends at {or_dash(left, '.1e')} of the start, since only {taken} {kind} steps were allowed"
    if safeguarded:
        reason += f"; full steps came to {or_dash(reached_by(plain['residuals']), '.1e')}"
        reason += f" ({plain['stopped']})" if plain["stopped"] and reached(run) else ""
    return _finding("fits", verdict, left, f"last / first <= {TARGET:g}", result, reason)


def _built_once(result: Result) -> Finding:
    tuned, copied = result["tuned"], result["tuned"]["fast"]["relaid"]
    margin = "0 entries copied"
    if "shared" not in tuned:
        reason = "fine-tuning by full steps broke down and left no network to look at"
        return _finding("built_once", "undecided", copied, margin, result, reason)
    verdict: Verdict = "holds" if left_alone(tuned) and result["unchanged"] else "fails"
    reason = f"fitting copied {result['fit']['relaid']} entries, fine-tuning {copied}"
    if verdict == "fails" and not copied:
        reason += ", but the initial weights are not shared, or were changed"
    return _finding("built_once", verdict, copied, margin, result, reason)


def _cost(result: Result) -> Finding:
    tuned, ratio = result["tuned"], share(result["tuned"])
    margin = "fast path / cheaper dense loop < 1"
    if not np.isfinite(ratio):
        reason = "some run by full steps broke down, or had nothing to do, and left no complete record of its work"
        return _finding("cost", "undecided", None, margin, result, reason)
    verdict: Verdict = "holds" if ratio < 1 else "fails"
    work = {name: tuned[name]["start"] + tuned[name]["work"] for name in WAYS}
    reason = f"{work['fast']:.3g} operations, {work['dense']:.3g} dense, {work['compacted']:.3g} compacted"
    folds = tuned["fast"]["phases"].get("fold", 0)
    if folds:
        reason += f"; {folds:.3g} of the first folded the factors that had gathered since fitting began"
    if verdict == "fails":
        reason += "; the fast path pays where few neurons fire: pass a larger --width or --alpha"
    taken = {name: f"{tuned['seconds'][name]:.2g} s" for name in WAYS}
    reason += f"; in time (not judged) {taken['fast']}, {taken['dense']} dense, {taken['compacted']} compacted"
    return _finding("cost", verdict, ratio, margin, result, reason)


# ---- for people


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
    verdicts = ["In plain words"]
    for claim, finding in zip(CLAIMS, findings, strict=True):
        verdicts += wrapped(claim.statement, f"  {finding.verdict:<9}  ")
        verdicts += wrapped(f"{finding.reason}.", " " * 13)
    blocks = [_describe_data(result), _describe_residuals(result), _describe_work(result), verdicts]
    return "\n\n".join("\n".join(block) for block in blocks)


def _describe_data(result: Result) -> list[str]:
    origin = "as given" if result["alpha"] is None else f"alpha {result['alpha']:g}"
    fired = ", ".join(f"{count:.1f}" for count in result["fired"])
    kind = "normalized" if result["normalized"] else "plain"
    return [
        f"{result['name']}: n = {sum(result['rows'])} rows, d = {result['d']} features, {result['unseen']} unseen",
        *(f"  - {step}" for step in result["steps"]),
        f"  network             {result['depth']} layers of width {result['width']}, {kind}"
        f"  ({origin}, shift {result['shift']:.4f})",
        f"  fired per row       {fired} of {result['width']} neurons, layer by layer",
        f"  fine-tuned          {_names(result)}",
    ]


def _columns(result: Result) -> dict[str, Result]:
    """Name the runs that are shown."""
    tuned = result["tuned"]
    runs = {"fit": result["fit"], "fine-tuned": tuned["fast"], "dense": tuned["dense"]}
    return runs | ({"safeguarded": result["safeguarded"]} if result["safeguarded"] else {})


def _describe_residuals(result: Result) -> list[str]:
    runs = _columns(result)
    lines = residual_table({name: run["residuals"] for name, run in runs.items()})
    if result["fit"]["step"] == "safeguarded":
        lines.append("  Fitting by full steps did not reach 1e-10 of the start; it was done by safeguarded ones.")
    for name, run in runs.items():
        if run["stopped"]:
            lines += wrapped(f"{name}: {run['stopped']}", "  ")
    return lines


def _describe_work(result: Result) -> list[str]:
    lines = ["Operations counted in all of the fine-tuning"]
    for name in WAYS:
        run = result["tuned"][name]
        parts = {"start": run["start"]} | run["phases"]
        phases = ", ".join(f"{phase} {work:.3g}" for phase, work in parts.items() if work)
        lines += wrapped(f"({phases})", f"  {name:<14}{run['start'] + run['work']:>10.3g}  ")
    lines += wrapped(
        "Fast: reads what fired neurons need, keeps updates as factors. Dense: reads all weights in every iteration. "
        "Compacted: only the columns of neurons that fire somewhere.",
        "  ",
    )
    return lines


def plot(figure: Figure, result: Result) -> None:
    """Draw the residuals of both stages, by each run.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn on.
    result : dict
        From `measure`.
    """
    axes = figure.subplots()
    gap = 1 + len(result["fit"]["residuals"])
    draw_residuals(axes, result["fit"], 0, plots.SERIES[0], label="fit")
    draw_residuals(axes, result["tuned"]["fast"], gap, plots.SERIES[1], label="fine-tuned")
    draw_residuals(axes, result["tuned"]["dense"], gap, plots.MUTED, marker="x", line="none", label="dense")
    if result["safeguarded"]:
        draw_residuals(axes, result["safeguarded"], gap, plots.SERIES[2], label="fine-tuned, safeguarded")
    label_stages(axes, gap)
    axes.set_title(f"{result['name']}: depth {result['depth']}, m = {result['width']}")
