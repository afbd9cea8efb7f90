"""Claim: what the loops read of their large arrays is what they say, and the operating system agrees.

A tripwire (``cost.witness`` and its like) catches code whose results depend on what it must not read, or that computes
with it. Code that only compares and discards passes. `verify.page_witness` sees such reads too: rows of the weights,
nodes of a tree or columns of a matrix lie on pages of their own, and the system tells which were read in one iteration.
Three numbers are set side by side:

- *witness*  rows of which any page was read
- *ledger*   rows according to the loop's own counters
- *count*    rows according to separate code

1. ``rows``     Tree loop: no row of the weights, by any of the three. Event loop: the rows computed in the ledger, the
   rows asked for by index (noted by a view of the weights, for which rows come due has no closed form), the witness's.
   Both with each solver, and with the safeguarded step; and joint training of both layers, likewise. Once the pattern
   rests, an iteration on events should not read all that it watches either: of the times at which pairs and rows are
   due, those compared in the ledger, asked for by index, and read.
2. ``nodes``    A query of trees: nodes in the ledger, nodes above fired leaves (closed form), those read. An update
   that raises some scores above all others: the leaves' nodes and the roots.
3. ``columns``  Deep loop of two layers, with each solver and with the safeguarded step. Its start: all columns of the
   first matrix, and of the upper one those at neurons below that fire on some point. An iteration: none of the first;
   of the upper one, the columns that a closed form lists (`verify.closed_forms.Doubt`), none where that is the lowest
   trained. The ledger counts entries, no columns; ``deep_cost.exact`` compares those with the same closed form. The
   last layer alone: likewise at the start; none after it. Low-rank weights times one sparse vector: the entries in the
   ledger over ``m``, the vector's entries other than 0, the columns seen by the witness; transposed, at the entries of
   a pattern: the entries in the ledger over those of the vector, and the pattern's; in a fold: none.
4. ``memory``   Pages are blind to a private copy that was made before the iteration. So on few points with many inputs
   each, where a loop has little to remember: does it keep less than a fiftieth of the weights' size? And on many
   neurons of which few fire: does an iteration take less memory than a tenth of one number for each neuron? Deep loops
   may keep a fiftieth of the upper matrix, and an iteration take a tenth. Python's allocator tells, on any system.

Before each measurement the witness itself is tried (`PagedArray.tells`). Where it does not tell, as on systems other
than Linux, the first three claims are undecided.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, IntArray
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems
from verify.claims.deep_cost import dense_run
from verify.claims.events import Seen
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.page_witness import ENTRIES, PagedArray
from verify.statistics import Interval, make_finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, N, D, ALPHA = 1 << 13, 16, 16, 0.24
"""In fewer dimensions points may nearly agree, and a loop on events goes over to whole arrays."""
TREE_WIDTH, TREES, FOUND = 1 << 17, 4, 16
"""Nodes of 512 children fill a page; so wide that most nodes have no business with a query."""
DEEP_WIDTH, DEEP_N, DEEP_D, DEEP_ALPHA = 1 << 11, 4, 16, 0.3
LAST_ALPHA, LOOSE, SPARSE = 0.1, 1e-3, 1 / 64
NARROW, NARROW_DEEP, OPTIONS = 1 << 12, 1 << 10, ("safeguarded", "conjugate")
"""The width of loops with these options, and of joint training; of deep loops with any, and of low-rank weights."""
REST_WIDTH, REST_N, MOST_BUSY = 1 << 14, 8, 12
"""At rest: so many pairs are watched that few of them are compared, but not more than a witness has rows for."""
MEMORY = ("tree-memory", "events-memory", "sketch-memory", "joint-memory", "deep-memory", "last-memory")
KEPT: Inputs = {"width": 1 << 14, "d": 256, "alpha": 0.24}
TAKEN: Inputs = {"width": 1 << 20, "d": 4, "alpha": 0.4}
"""Where fewer fire, steps are so large that a point may fall silent; in fewer dimensions points may nearly agree."""
DEEP_MEMORY: dict[str, Inputs] = {
    "deep": {"width": DEEP_WIDTH, "d": DEEP_D, "alpha": DEEP_ALPHA, "normalized": True},
    "last": {"width": DEEP_WIDTH, "d": DEEP_D, "alpha": LAST_ALPHA, "normalized": False},
}
MEMORY_N, KEPT_MARGIN, TAKEN_MARGIN = 2, 0.02, 0.1
ITERATIONS, SEEDS = 3, 1
"""Counts are exact; one seed shows them, and a fault shows at any."""
PARTS = {
    "rows": (
        *("tree", "tree-sketch", *(f"tree-{option}" for option in OPTIONS)),
        *("events", "events-sketch", *(f"events-{option}" for option in OPTIONS)),
        "joint",
        "rest",
    ),
    "nodes": ("query", "update"),
    "columns": (
        *("deep", "deep-sketch", *(f"deep-{option}" for option in OPTIONS), "deep-lowest"),
        *("last", "low-rank"),
    ),
}

CLAIMS = (
    Claim(
        "page_witness.rows",
        "Where the operating system tells which pages were read, no iteration on trees reads a row of the weights, and "
        "one on events, of both layers too, exactly the rows that it counts and, at rest, the due times that it "
        "counts as compared.",
        "ours",
    ),
    Claim(
        "page_witness.nodes",
        "Where the operating system tells which pages were read, a query and an update read exactly the nodes that "
        "they count, those above what is found or changed.",
        "ours",
    ),
    Claim(
        "page_witness.columns",
        "Where the operating system tells which pages were read, a deep run reads of an upper matrix at its start the "
        "columns of fired neurons, in an iteration exactly those that a closed form lists, and none of the lowest "
        "trained or a lower one; a product with low-rank weights exactly those that it counts, and a fold none.",
        "ours",
    ),
    Claim(
        "page_witness.memory",
        "Loops on trees and on events keep no copy of a fiftieth of the weights for their iterations, and none of "
        "these forms an array as long as a tenth of the width; deep ones keep none of a fiftieth of the upper matrix, "
        "and form none of a tenth.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the loops, each for every seed."""
    seeds = SEEDS * (8 if profile.thorough else 1)
    loops = [loop for part in (*PARTS.values(), MEMORY) for loop in part]
    return [{"loop": loop, "seed": seed} for loop in loops for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Put the three numbers of every iteration side by side."""
    special: dict[str, Callable[[np.random.Generator, CodeUnderTest], Result]] = {
        "rest": rest,
        "query": query,
        "update": update,
        **{loop: partial(columns, loop) for loop in PARTS["columns"] if loop.startswith("deep")},
        "last": last_layer,
        "low-rank": low_rank,
    }
    loop = inputs["loop"]
    if loop in MEMORY:
        return memory(loop, rng, code)
    return special[loop](rng, code) if loop in special else rows(loop, rng, code)


def options_of(option: str, rng: np.random.Generator) -> dict[str, Any]:
    """Say how a loop solves and steps, by the last part of its name."""
    options: dict[str, dict[str, Any]] = {
        "sketch": {"solver": "sketch", "rng": rng},
        "conjugate": {"solver": "conjugate"},
        "safeguarded": {"step": "safeguarded"},
    }
    return options.get(option, {})


def rows(loop: str, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train on weights with a page to each row."""
    search, _, option = loop.partition("-")
    options = options_of(option, rng) | ({"accuracy": LOOSE} if option == "sketch" else {})
    width = NARROW if option in OPTIONS or search == "joint" else WIDTH
    problem = problems.make("random", N, D, rng)
    drawn = code.initialize(width, D, shift=shift_for(width, ALPHA), rng=rng)
    with PagedArray(width, D) as paged:
        paged.rows[:] = drawn.weights
        result: Result = {"tells": paged.tells(), "witness": [], "ledger": [], "count": []}
        start = {"tree": code.start, "events": code.start_events, "joint": code.start_joint}[search]
        run = start(TwoLayerNetwork(paged.rows, drawn.signs, drawn.shift), problem.X, problem.y, **options)
        seen = Seen()
        for _ in range(ITERATIONS):
            if search != "tree":
                seen.attach(run)
            paged.forget()
            run.iterate()
            result["witness"].append(paged.rows_read())
            result["ledger"].append(run.counts[-1].get("compute", 0) / (N * (N + D)))
            result["count"].append(len(np.unique(seen.read)) if search != "tree" else 0)
        return result


def rest(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train on events until nothing flips; from then on, the time at which each pair and each row is due has a page.

    A time may be on a list twice. It is compared twice, so those asked for again are taken off the ledger.
    """
    problem = problems.make("random", REST_N, D, rng)
    network = code.initialize(REST_WIDTH, D, shift=shift_for(REST_WIDTH, ALPHA), rng=rng)
    run = code.start_events(network, problem.X, problem.y)
    for _ in range(MOST_BUSY):
        run.iterate()
        if len(run.counts) > 1 and not any(counts["flips"] for counts in run.counts[-2:]):
            break
    watched = run.watched
    with PagedArray(len(watched.due), 1) as due, PagedArray(len(watched.row_due), 1) as row_due:
        due.rows[:, 0], row_due.rows[:, 0] = watched.due, watched.row_due
        result: Result = {"tells": due.tells() and row_due.tells(), "witness": [], "ledger": [], "count": []}
        for _ in range(ITERATIONS):
            asked: list[list[IntArray]] = [[], []]
            watched.due, watched.row_due = noting(due.rows[:, 0], asked[0]), noting(row_due.rows[:, 0], asked[1])
            due.forget()
            row_due.forget()
            run.iterate()
            distinct = sum(len(set(chain(*indices))) for indices in asked)
            again = sum(map(len, chain(*asked))) - distinct
            result["witness"].append(due.rows_read() + row_due.rows_read())
            result["ledger"].append(run.counts[-1]["compare"] - again)
            result["count"].append(distinct)
        return result


def noting(array: FloatArray, asked: list[IntArray]) -> FloatArray:
    """Return a view of an array (k,) that notes which entries are asked for by index; slices begin at 0."""

    class Noting(np.ndarray[Any, np.dtype[np.float64]]):
        def __getitem__(entries, key: Any) -> Any:  # noqa: ANN401, N805
            if isinstance(key, slice):
                return super().__getitem__(key)
            asked.append(np.arange(len(entries))[key])
            return entries.view(np.ndarray)[key]

    view: FloatArray = array.view(Noting)
    return view


def query(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Query trees whose nodes fill a page each."""
    scores = rng.standard_normal((TREES, TREE_WIDTH))
    threshold = float(np.partition(scores.ravel(), -TREES * FOUND)[-TREES * FOUND])
    above = np.unique(np.flatnonzero(scores >= threshold) // ENTRIES)  # the width is a multiple of the fan-out
    tells, witness, counted = on_paged_trees(scores, lambda forest: forest.query(threshold), code)
    return {
        "tells": tells,
        "witness": [witness],
        "ledger": [counted["query"] / ENTRIES],
        "count": [TREES + len(above)],
    }


def update(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Raise some scores, each the largest below its node from then on, on trees whose nodes fill a page each.

    The ledger counts for each of them the leaf, the maximum above it, and the leaves that this is taken of anew.
    """
    scores = rng.standard_normal((TREES, TREE_WIDTH))
    nodes = rng.choice(TREE_WIDTH // ENTRIES, FOUND, replace=False)
    neurons = nodes * ENTRIES + rng.integers(0, ENTRIES, FOUND)
    new = scores.max() + 1 + rng.random((TREES, FOUND))
    tells, witness, counted = on_paged_trees(scores, lambda forest: forest.update(neurons, new), code)
    return {
        "tells": tells,
        "witness": [witness],
        "ledger": [TREES + counted["update"] / (1 + 1 + ENTRIES)],
        "count": [TREES + TREES * FOUND],
    }


def on_paged_trees(
    scores: FloatArray, act: Callable[[Any], object], code: CodeUnderTest
) -> tuple[bool, int, dict[str, int]]:
    """Build trees and act on them; return whether the witness tells, the nodes read, and what the trees counted."""
    forest = code.forest.build_from_blocks(TREES, TREE_WIDTH, [scores], fan_out=ENTRIES)
    with ExitStack() as paged_levels:
        paged = [paged_levels.enter_context(PagedArray(math.prod(each.shape[:2]), ENTRIES)) for each in forest.levels]
        for place, (level, each) in enumerate(zip(forest.levels, paged, strict=True)):
            each.rows[:] = level.reshape(-1, ENTRIES)
            forest.levels[place] = each.rows.reshape(level.shape)
        tells = all(each.tells() for each in paged)
        for each in paged:
            each.forget()
        act(forest)
        return tells, sum(each.rows_read() for each in paged), forest.nodes_visited


def columns(loop: str, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Start a deep loop and train, both matrices with pages to each column.

    The start reads the first matrix, and of the upper one the columns of neurons that fire on some point below it. No
    iteration reads the first again; nor the upper one, where it is the lowest that is trained.
    """
    _, _, option = loop.partition("-")
    width, trained = NARROW_DEEP if option else DEEP_WIDTH, [2] if option == "lowest" else [1, 2]
    options = options_of(option, rng)
    problem = problems.make("random", DEEP_N, DEEP_D, rng)
    drawn = code.deep_initialize(width, DEEP_D, 2, shift=shift_for(width, DEEP_ALPHA), rng=rng)
    with PagedArray(DEEP_D, width) as first, PagedArray(width, width) as upper:
        both = first, upper
        for paged, W in zip(both, drawn.weights, strict=True):
            paged.rows[:] = W.T
        network = MultiLayerNetwork(
            tuple(paged.rows.T for paged in both), drawn.signs, drawn.shift, normalized=True
        )
        states, _, count = dense_run(network, problem, trained, ITERATIONS)
        fired = int(states[0][1].any(axis=0).sum())
        result: Result = {"tells": all(paged.tells() for paged in both), "witness": [], "ledger": []}
        result["count"] = [DEEP_D + fired, *count]
        run: Any = None
        for _ in range(1 + ITERATIONS):
            for paged in both:
                paged.forget()
            if run is None:
                run = code.start_deep(network, problem.X, problem.y, trained_layers=trained, **options)
            else:
                run.iterate()
            result["witness"].append(sum(paged.rows_read() for paged in both))
        return result


def last_layer(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Prepare the last layer, and train it alone, its matrix with pages to each column.

    The preparation reads the columns of neurons below that fire on some point, and writes them in ``n`` dimensions.
    """
    problem = problems.make("random", DEEP_N, DEEP_D, rng)
    drawn = code.deep_initialize(DEEP_WIDTH, DEEP_D, 2, shift=shift_for(DEEP_WIDTH, LAST_ALPHA), rng=rng)
    scores = problem.X @ drawn.weights[0].T
    with PagedArray(DEEP_WIDTH, DEEP_WIDTH) as paged:
        paged.rows[:] = drawn.weights[1].T
        network = MultiLayerNetwork((drawn.weights[0], paged.rows.T), drawn.signs, drawn.shift)
        tells = paged.tells()
        paged.forget()
        run = code.last_layer(network, problem.X, rank_budget=None).run(problem.y)
        counted = run.preparation_counts["forward"] - DEEP_N * DEEP_WIDTH * DEEP_D
        result: Result = {
            "tells": tells,
            "witness": [paged.rows_read()],
            "ledger": [counted / (DEEP_N * DEEP_WIDTH)],
            "count": [int(np.count_nonzero(scores.max(axis=0) >= drawn.shift)), *[0] * ITERATIONS],
        }
        for _ in range(ITERATIONS):
            paged.forget()
            run.iterate()
            result["witness"].append(paged.rows_read())
            result["ledger"].append(run.counts[-1].get("forward", 0))
        return result


def low_rank(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Multiply low-rank weights, their matrix with pages to each column, by sparse vectors; transposed; and fold.

    A transposed product reads the columns at its pattern, one entry for each of the vector; a fold reads none.
    """
    with PagedArray(NARROW_DEEP, NARROW_DEEP) as paged:
        paged.rows[:] = rng.standard_normal(paged.rows.shape)
        result: Result = {"tells": paged.tells(), "witness": [], "ledger": [], "count": []}
        weights = code.low_rank(paged.rows.T)
        shape = 1, NARROW_DEEP
        for _ in range(ITERATIONS):
            vector, pattern = (
                sparse.csr_array(rng.standard_normal(shape) * (rng.random(shape) < SPARSE)) for _ in range(2)
            )
            acts: list[tuple[Callable[[], object], int, int]] = [
                (partial(weights.multiply, vector), vector.nnz, NARROW_DEEP),
                (partial(weights.multiply_at, vector, pattern), pattern.nnz, vector.nnz),
                (weights.fold, 0, 1),
            ]
            for act, count, entries in acts:
                before = weights.work["read"]
                paged.forget()
                act()
                result["witness"].append(paged.rows_read())
                result["ledger"].append((weights.work["read"] - before) / entries)
                result["count"].append(count)
            weights.add(vector, pattern)
        return result


def memory(loop: str, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Tell what a loop keeps of the weights, and what an iteration takes, each as a share of what is allowed."""
    starts: dict[str, Callable[..., Any]] = {
        "tree": code.start,
        "events": code.start_events,
        "sketch": partial(code.start_events, solver="sketch", rng=rng, accuracy=LOOSE),
        "joint": code.start_joint,
        "deep": partial(code.start_deep, trained_layers=(1, 2)),
        "last": lambda network, X, y: code.last_layer(network, X, rank_budget=None).run(y),
    }
    loop = loop.removesuffix("-memory")
    deep = loop in ("deep", "last")

    def begin(point: Inputs) -> tuple[int, Any, int]:
        problem = problems.make("random", MEMORY_N, point["d"], rng)
        width, d, shift = point["width"], point["d"], shift_for(point["width"], point["alpha"])
        if deep:
            network = code.deep_initialize(width, d, 2, shift=shift, rng=rng, normalized=point["normalized"])
        else:
            network = code.initialize(width, d, shift=shift, rng=rng)
        before = tracemalloc.get_traced_memory()[0]
        run = starts[loop](network, problem.X, problem.y)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
        return kept, run, network.weights[1].nbytes if deep else network.weights.nbytes

    tracemalloc.start()
    try:
        kept, run, size = begin(DEEP_MEMORY[loop] if deep else KEPT)
        if not deep:
            _, run, _ = begin(TAKEN)
        taken = 0
        for _ in range(ITERATIONS):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            run.iterate()
            taken = max(taken, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    allowed = TAKEN_MARGIN * (size if deep else 8 * TAKEN["width"])
    # Python itself takes some kilobytes more here or there, which must not show; so shares are rounded up.
    shares = {"kept": kept / (KEPT_MARGIN * size), "taken": taken / allowed}
    return {name: math.ceil(2 * share) / 2 for name, share in shares.items()}


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Compare the numbers, where the witness tells."""
    return [_find(part, [(i, r) for i, r in results if i["loop"] in loops]) for part, loops in PARTS.items()] + [
        _find_memory([(i, r) for i, r in results if i["loop"] in MEMORY])
    ]


DOMAINS = {
    "rows": f"m={WIDTH}, n={N}, d={D}, alpha={ALPHA}, {ITERATIONS} iterations; "
    f"m={NARROW} with {' or '.join(OPTIONS)}, or joint; m={REST_WIDTH}, n={REST_N} at rest",
    "nodes": f"{TREES} trees of m={TREE_WIDTH}, {ENTRIES} children a node, {FOUND} found or changed a tree",
    "columns": f"m={DEEP_WIDTH}, n={DEEP_N}, d={DEEP_D}, alpha={DEEP_ALPHA} and normalized, last layer {LAST_ALPHA}, "
    f"depth 2, the start and {ITERATIONS} iterations; m={NARROW_DEEP} with other solvers or steps, the upper layer "
    "alone, or low-rank",
}


def _find_memory(own: Sequence[tuple[Inputs, Result]]) -> Finding:
    """Decide from the largest share of what is allowed."""
    margin = "<= 1 (memory as a share of what is allowed)"
    points = {"": KEPT, " ": TAKEN, " deep ": DEEP_MEMORY["deep"], " last layer ": DEEP_MEMORY["last"]}
    sizes = (f"{name}m={at['width']}, n={MEMORY_N}, d={at['d']}, alpha={at['alpha']}" for name, at in points.items())
    domain = ";".join(sizes)
    if not own:
        return make_finding(
            "page_witness.memory", None, "undecided", margin=margin, domain=domain, reason="Nothing was measured."
        )
    shares = [result[name] for _, result in own for name in ("kept", "taken")]
    listed = [f"{inputs['loop'].removesuffix('-memory')} {r['kept']:g}, {r['taken']:g}" for inputs, r in own]
    return make_finding(
        "page_witness.memory",
        Interval(max(shares), min(shares), max(shares)),
        "holds" if max(shares) <= 1 else "fails",
        margin=margin,
        domain=domain,
        reason=f"What is kept over {KEPT_MARGIN:g} of the weights, and what an iteration takes over {TAKEN_MARGIN:g} "
        f"of a number for each neuron, or of the upper matrix, in halves, rounded up: {'; '.join(listed)}.",
    )


def _find(part: str, own: Sequence[tuple[Inputs, Result]]) -> Finding:
    seeds = len({inputs["seed"] for inputs, _ in own})
    claim, domain = f"page_witness.{part}", f"{DOMAINS[part]}, {seeds} seed{'' if seeds == 1 else 's'}"
    margin = "= 0 (largest difference)"
    if not own or not all(result["tells"] for _, result in own):
        reason = "This system does not tell which pages were read." if own else "Nothing was measured."
        return make_finding(claim, None, "undecided", margin=margin, domain=domain, reason=reason)
    differences: list[float] = []
    listed = []
    for inputs, result in own:
        told = [result[name] for name in ("witness", "ledger", "count") if result[name]]
        for numbers in zip(*told, strict=True):
            differences.append(float(max(numbers) - min(numbers)))
        if inputs["seed"] == 0:
            listed.append(f"{inputs['loop']} {', '.join(f'{numbers[0]:g}' for numbers in told)}")
    worst = max(differences)
    return make_finding(
        claim,
        Interval(worst, min(differences), worst),
        "holds" if worst == 0 else "fails",
        margin=margin,
        domain=domain,
        reason=f"Of {len(differences)} comparisons; first witness, ledger (where it counts them) and count: "
        f"{'; '.join(listed)}.",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw what the system saw read, in rows, nodes or columns, against what separate code expects."""
    axes = figure.subplots()
    results = [(i, r) for i, r in results if i["loop"] not in MEMORY]
    for loop in dict.fromkeys(inputs["loop"] for inputs, _ in results):
        own = [r for i, r in results if i["loop"] == loop]
        expected, read = ([1 + value for r in own for value in r[name]] for name in ("count", "witness"))
        axes.loglog(expected, read, "o", markersize=5, label=loop)
    line = [1, 1 + max(value for _, r in results for value in r["count"])]
    axes.loglog(line, line, "--", color="black", marker="", label="equal")
    axes.set(xlabel="1 + expected", ylabel="1 + read")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="page_witness",
    title="What was read, by the operating system's account",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
