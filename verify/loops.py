"""The fast loops as a series of steps that can be counted, or timed, on any revision of the code.

A *loop* is prepared once, outside any clock, from inputs that are drawn here; it then consists of named steps, for
instance ``start``, ``iteration 1``, ``iteration 2``. Doing them all once more begins afresh and does the same work.
Each step returns the exact counts of the work that it did, as the code under test reports them. What comes before the
space in a step's name is its *phase*.

The code under test is reached by public names alone, and through `Load`, so that the same loop runs on another
revision; `verify.counts` and `verify.against` are the users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from reference import multi_layer, two_layer
from reference.notation import FloatArray
from verify import problems
from verify.seeds import generator

Load = Callable[[str], Any]
"""Returns the module of that name, of the revision under test."""
Counts = dict[str, int]
Steps = list[tuple[str, Callable[[], Counts]]]

LOOSE = 1e-3
"""Accuracy of the sketched solver: far above rounding error, so that it takes the same steps on every machine."""
DEPTH, ALL, LAST = 2, (1, 2), (2,)
FIRED = 1 / 16
"""Share of entries other than 0 in the vectors and factors of the low-rank loop."""


@dataclass(frozen=True)
class Setting:
    """Sizes of one run of a loop.

    Parameters
    ----------
    m, n, d : int
        Width, data points, input dimension; of the matrices of a loop that trains no network, see there.
    alpha : float
        Sparsity exponent.
    iterations : int
        How many.
    seed : int
        Of everything drawn.
    """

    m: int
    n: int
    d: int
    alpha: float = 0.24
    iterations: int = 3
    seed: int = 0

    def __str__(self) -> str:
        return f"m={self.m} n={self.n} d={self.d} alpha={self.alpha} seed={self.seed}"


@dataclass(frozen=True)
class Loop:
    """One fast loop.

    Parameters
    ----------
    name : str
        For the command line.
    prepare : callable
        ``prepare(load, setting)`` draws the inputs and returns the steps.
    small : Setting
        Sizes at which its work is counted in every run of the tests.
    large : Setting
        Sizes at which it is timed: every phase takes some milliseconds.
    """

    name: str
    prepare: Callable[[Load, Setting], Steps]
    small: Setting
    large: Setting


def draw(setting: Setting, *what: object) -> np.random.Generator:
    """Return the Generator for one part of a setting's inputs."""
    return generator(setting.seed, "loops", *what, setting.m, setting.n, setting.d)


def problem(setting: Setting) -> problems.Problem:
    """Draw random data."""
    return problems.make("random", setting.n, setting.d, draw(setting, "problem"))


def initial_network(load: Load, setting: Setting) -> Any:  # noqa: ANN401 - of whatever revision was loaded
    """Draw a two-layer network here, and make it one of the revision under test."""
    shift = two_layer.shift_for(setting.m, setting.alpha)
    drawn = two_layer.initialize(setting.m, setting.d, shift=shift, rng=draw(setting, "network"))
    return load("reference.two_layer").TwoLayerNetwork(drawn.weights, drawn.signs, shift)


def initial_deep_network(load: Load, setting: Setting, *, normalized: bool) -> Any:  # noqa: ANN401 - as above
    """Draw a deep network likewise."""
    shift = two_layer.shift_for(setting.m, setting.alpha)
    drawn = multi_layer.initialize(setting.m, setting.d, DEPTH, shift=shift, rng=draw(setting, "deep network"))
    return load("reference.multi_layer").MultiLayerNetwork(drawn.weights, drawn.signs, shift, normalized)


def training(start: Callable[[], Any], iterations: int) -> Steps:
    """Make the steps of a run that is made by ``start`` and has ``iterate``, ``counts`` and ``preparation_counts``."""
    run: Any = None

    def begin() -> Counts:
        nonlocal run
        run = start()
        return dict(getattr(run, "preparation_counts", {}))

    def iterate() -> Counts:
        run.iterate()
        return dict(run.counts[-1])

    return [("start", begin), *((f"iteration {number}", iterate) for number in range(1, iterations + 1))]


def two_layers(module: str, kind: str, *, solver: str = "", **options: object) -> Callable[[Load, Setting], Steps]:
    """Make the loop of one of the two-layer runs."""

    def prepare(load: Load, setting: Setting) -> Steps:
        network, data, run = initial_network(load, setting), problem(setting), getattr(load(module), kind)

        def start() -> Any:  # noqa: ANN401 - a run of whatever revision was loaded
            sketch = {"solver": solver, "rng": draw(setting, "sketch"), "accuracy": LOOSE} if solver else {}
            return run(network, data.X, data.y, **sketch, **options)

        return training(start, setting.iterations)

    return prepare


def deep(
    module: str, kind: str, layers: tuple[int, ...], *, solver: str = "", **options: object
) -> Callable[[Load, Setting], Steps]:
    """Make the loop of one of the deep runs, on a normalized network."""

    def prepare(load: Load, setting: Setting) -> Steps:
        network, data = initial_deep_network(load, setting, normalized=True), problem(setting)
        run = getattr(load(module), kind)

        def start() -> Any:  # noqa: ANN401 - a run of whatever revision was loaded
            sketch = {"solver": solver, "rng": draw(setting, "sketch"), "accuracy": LOOSE} if solver else {}
            return run(network, data.X, data.y, trained_layers=layers, **sketch, **options)

        return training(start, setting.iterations)

    return prepare


def last_layer(load: Load, setting: Setting) -> Steps:
    """Train the last layer alone as a two-layer network; the deep network is not normalized."""
    network, data = initial_deep_network(load, setting, normalized=False), problem(setting)
    kind = load("fast.multi_layer_gauss_newton").LastLayer
    return training(lambda: kind(network, data.X, rank_budget=None).run(data.y), setting.iterations)


def lazy_width(load: Load, setting: Setting) -> Steps:
    """Draw the neurons that fire, and train them on events."""
    data, shift = problem(setting), two_layer.shift_for(setting.m, setting.alpha)
    initialize, run = load("fast.lazy_width").initialize, load("fast.gauss_newton").EventRun
    network: Any = None

    def drawn() -> Counts:
        nonlocal network
        network = initialize(data.X, width=setting.m, shift=shift, rng=draw(setting, "lazy network"))
        return {"neurons": len(network.signs)}

    return [("draw", drawn), *training(lambda: run(network, data.X, data.y), setting.iterations)]


def forest(load: Load, setting: Setting) -> Steps:
    """Build a forest, query it at the shift, and update the neurons that fire somewhere."""
    rng = draw(setting, "scores")
    scores = rng.standard_normal((setting.n, setting.m))
    shift = two_layer.shift_for(setting.m, setting.alpha)
    neurons = np.flatnonzero((scores >= shift).any(axis=0))
    moved = scores[:, neurons] + 0.1 * rng.standard_normal((setting.n, len(neurons)))
    kind = load("fast.threshold_search").ThresholdForest
    trees: Any = None

    def build() -> Counts:
        nonlocal trees
        trees = kind.build(scores)
        return {"nodes": trees.nodes_visited["build"]}

    def query() -> Counts:
        found, _ = trees.query(shift)
        return {"nodes": trees.nodes_visited["query"], "pairs": len(found)}

    def update() -> Counts:
        trees.update(neurons, moved)
        return {"nodes": trees.nodes_visited["update"], "neurons": len(neurons)}

    return [("build", build), ("query", query), ("update", update)]


def sketched_solver(load: Load, setting: Setting) -> Steps:
    """Sketch the Jacobian, and solve to a loose accuracy in both ways."""
    network, X = initial_network(load, setting), problem(setting).X
    rhs = draw(setting, "right-hand side").standard_normal(setting.n)
    fired, _ = load("fast.two_layer").fired_pairs(network.weights, X, network.shift)
    jacobian = load("fast.jacobian").FiredJacobian(X, fired, network.signs[fired.neuron_index])
    sketches, solve = load("fast.sketch"), load("fast.regression").solve_sketched
    size, draw_sketch = sketches.default_size(setting.n), load("reference.sketch").draw_tensor_sketch
    rows = draw_sketch(size, setting.m, setting.d, rng=draw(setting, "sketch"))
    sketched: Any = None

    def sketch() -> Counts:
        nonlocal sketched
        sketched = sketches.sketch_jacobian(rows, jacobian)
        return {"work": sketches.sketch_jacobian_work(rows, jacobian)}

    def solver(method: str) -> Callable[[], Counts]:
        def act() -> Counts:
            solution = solve(jacobian, sketched, rhs, accuracy=LOOSE, method=method)
            return {"products": solution.products, "work": solution.work}

        return act

    return [("sketch", sketch), *((method, solver(method)) for method in ("conjugate", "paper"))]


def low_rank(load: Load, setting: Setting) -> Steps:
    """Give an (m, m) matrix ``n`` sparse rank-one terms an iteration, and ask it ``8 n`` vectors; fold at the end."""
    m, n, rng = setting.m, setting.n, draw(setting, "low rank")

    def thin(rows: int) -> sparse.csr_array:
        return sparse.csr_array(rng.standard_normal((rows, m)) * (rng.random((rows, m)) < FIRED))

    initial: FloatArray = np.asfortranarray(rng.standard_normal((m, m)))
    left, right, H, P = thin(n), thin(n), thin(8 * n), thin(8 * n)
    kind = load("fast.low_rank").LowRankWeights
    weights: Any = None

    def worked(name: str, act: Callable[[], object]) -> Counts:
        before = dict(weights.work)
        act()
        return {f"{name} {phase}": work - before[phase] for phase, work in weights.work.items()}

    def iterate() -> Counts:
        work = worked("add", lambda: weights.add(left, right))
        work |= worked("forward", lambda: weights.multiply(H))
        work |= worked("back", lambda: weights.multiply_at(P, H))
        return work | {"rank": weights.rank}

    def begin() -> Counts:
        nonlocal weights
        weights = kind(initial)
        return iterate()

    iterations = ((f"iteration {number}", iterate) for number in range(2, setting.iterations + 1))
    return [("iteration 1", begin), *iterations, ("fold", lambda: worked("end", lambda: weights.fold()))]


def product(load: Load, setting: Setting) -> Steps:
    """Multiply (m, n) by (n, d), halved twice; what is multiplied at the leaves is counted there."""
    rng = draw(setting, "product")
    A, B = rng.standard_normal((setting.m, setting.n)), rng.standard_normal((setting.n, setting.d))
    multiply = load("fast.rectangular_product").multiply
    leaf = min(A.shape + B.shape) // 4

    def act() -> Counts:
        work: Counts = {"calls": 0, "multiplications": 0}

        def counted(left: FloatArray, right: FloatArray, *, out: FloatArray) -> FloatArray:
            work["calls"] += 1
            work["multiplications"] += left.size * right.shape[1]
            return np.matmul(left, right, out=out)

        multiply(A, B, leaf=leaf, product=counted)
        return work

    return [("multiply", act)]


EVENTS, DENSE = "fast.gauss_newton", "fast.baselines"
DEEP, DEEP_DENSE = "fast.multi_layer_gauss_newton", "fast.multi_layer_baselines"
SMALL, SMALL_DEEP = Setting(1024, 16, 8), Setting(256, 12, 8)
LARGE, LARGE_DEEP = Setting(1 << 15, 32, 32), Setting(1024, 32, 32)

LOOPS = (
    Loop("tree", two_layers(EVENTS, "TreeRun"), SMALL, LARGE),
    Loop("tree-sketch", two_layers(EVENTS, "TreeRun", solver="sketch"), SMALL, LARGE),
    Loop("events", two_layers(EVENTS, "EventRun"), SMALL, LARGE),
    Loop("joint", two_layers("fast.output_layer", "JointRun"), SMALL, LARGE),
    Loop("lazy", lazy_width, Setting(1 << 20, 16, 8, alpha=0.5), Setting(1 << 28, 32, 32, alpha=0.6)),
    Loop("dense", two_layers(DENSE, "DenseRun"), SMALL, LARGE),
    Loop("compacted", two_layers(DENSE, "DenseRun", compact=True), SMALL, LARGE),
    Loop("forest", forest, SMALL, Setting(1 << 16, 32, 32)),
    Loop("solver", sketched_solver, SMALL, Setting(1 << 16, 32, 32)),
    Loop("deep", deep(DEEP, "MultiLayerRun", ALL), SMALL_DEEP, LARGE_DEEP),
    Loop("deep-sketch", deep(DEEP, "MultiLayerRun", ALL, solver="sketch"), SMALL_DEEP, LARGE_DEEP),
    Loop("deep-upper", deep(DEEP, "MultiLayerRun", LAST), SMALL_DEEP, LARGE_DEEP),
    Loop("deep-last", last_layer, Setting(256, 12, 8, alpha=0.1), Setting(1024, 32, 32, alpha=0.1)),
    Loop("deep-dense", deep(DEEP_DENSE, "MultiLayerDenseRun", ALL), SMALL_DEEP, LARGE_DEEP),
    Loop("deep-compacted", deep(DEEP_DENSE, "MultiLayerDenseRun", ALL, compact=True), SMALL_DEEP, LARGE_DEEP),
    Loop("low-rank", low_rank, Setting(128, 8, 128, iterations=7), Setting(1024, 8, 1024)),
    Loop("product", product, Setting(37, 33, 45), Setting(768, 512, 768)),
)
