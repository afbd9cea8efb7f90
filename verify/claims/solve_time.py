"""Claim: fast code takes no longer by the clock than the work that it counts, so no ``n^3`` or the like is hidden.

`solve_cost`, `events` and others count multiply-adds, and code may do more than it counts. Here it is timed beside
*bare* work: what its own counter reports, done by one library call after another, and the checks of its input. What is
not counted would take several times as long as both together.

1. ``conjugate``    `fast.regression.solve_conjugate` beside as many products ``G v``, and a check that ``G`` is finite
   and symmetric, which takes most of the time: `PARTS` asks for less than a Cholesky factor would add.
2. ``first``        The first solve of a `fast.regression.WarmCholesky` beside LAPACK's factor, its estimate of the
   condition number and two triangular solves.
3. ``rest``         `fast.regression.WarmCholesky` on a ``G`` that has drifted by little, beside as many products and
   pairs of triangular solves, and the distance of ``G`` from the matrix that was factored.
4. ``two_layer``    The same for a whole iteration of a run (`fast.gauss_newton.EventRun`) at rest.
5. ``joint``        The same where both layers are trained (`fast.output_layer.JointRun`), beside three sparse products
   of the pattern that fires besides: two for the terms of ``G``, one for the excesses. Dense ones, ``n^2`` for
   each neuron, take several times as long.
6. ``deep``         The same as 3 for a run of many layers (`fast.multi_layer_gauss_newton`) that solves a second time
   where it is, as one at rest does.
7. ``gram``         The Gram matrix of a `fast.multi_layer.TensorJacobian` beside the sparse products of its factors.
   Dense ones, ``n^2 m``, take tens of times as long.
8. ``start``        The start of `fast.gauss_newton.TreeRun` beside one product that makes the scores, a check, a copy
   and one comparison of them.
9. ``inputs``       An iteration of `fast.gauss_newton.TreeRun` on inputs of many coordinates beside one on the few of
   them that are not 0: the same scores and steps. Work that grows with ``d`` takes several times as long.
10. ``product``     `fast.rectangular_product.multiply` with leaves that write zeros, beside a product by BLAS.

In 1 to 3 ``G`` is the identity and a little symmetric noise: solved in few products, so that a factor stands out. A run
at rest is one whose labels are its predictions, all but `CALM`. The number of a seed is the ratio of the least times
over interleaved rounds, for every round does the same and what disturbs it only takes longer; the interval is over
seeds. Code that does not come to the right result is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse

from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_below, make_finding, t_interval
from verify.timing import clock, interleaved, without_collections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

D = 32
THOROUGH = 3
"""How many times as many seeds a thorough run takes."""
NOISE, DRIFT = 0.3, 1e-4
"""Largest eigenvalue of the noise in ``G``, about; and the share of it by which ``G`` drifts."""
SOLVED = 1e-9
"""Relative residual of a solution."""
CALM, MOVED = 1e-7, 1e-2
"""Size of the residual at which a run is at rest; and how far from it, relatively, a step may move predictions, which a
pair that flips even so moves by a thousandth."""
WIDTH, ALPHA = 1 << 11, 0.24
DEEP_WIDTH, DEEP_ALPHA, DEPTH = 1 << 8, 0.1, 2
JOINT_WIDTH, JOINT_ALPHA = 1 << 12, 0.4
SPARSE_WIDTH, SPARSE_ALPHA = 1 << 16, 0.5
TREE_WIDTH, TREE_D = 1 << 14, 16
INPUTS_WIDTH, INPUTS_D = 1 << 10, 1 << 11


@dataclass(frozen=True)
class Part:
    """Number of points, seeds and rounds, and how many times as long as the bare work it may take."""

    n: int
    seeds: int
    rounds: int
    most: float


PARTS = {
    "conjugate": Part(n=1408, seeds=6, rounds=2, most=1.6),
    "first": Part(n=512, seeds=3, rounds=5, most=2),
    "rest": Part(n=1024, seeds=3, rounds=5, most=2),
    "two_layer": Part(n=768, seeds=4, rounds=15, most=5.5),
    "joint": Part(n=256, seeds=4, rounds=15, most=4),
    "deep": Part(n=384, seeds=3, rounds=9, most=4),
    "gram": Part(n=32, seeds=3, rounds=9, most=5),
    "start": Part(n=32, seeds=4, rounds=7, most=7.5),
    "inputs": Part(n=64, seeds=3, rounds=9, most=2.2),
    "product": Part(n=768, seeds=4, rounds=3, most=0.75),
}


def _claim(part: str, statement: str) -> Claim:
    """Fill in size and margin of a part."""
    sizes = {"n": PARTS[part].n, "most": f"at most {PARTS[part].most:g} times as long"}
    return Claim(f"solve_time.{part}", statement.format(**sizes), "ours; [A] and [B] have no experiment")


CLAIMS = (
    _claim(
        "conjugate",
        "At n = {n} conjugate gradients scaled by the diagonal take {most} as the products with G that they count and "
        "a check of G, done bare.",
    ),
    _claim(
        "first",
        "At n = {n} a solve whose new Cholesky factor is kept for the next takes {most} as LAPACK's factor, condition "
        "estimate and triangular solves.",
    ),
    _claim(
        "rest",
        "At n = {n} a solve with an old Cholesky factor takes {most} as the products and triangular solves that it "
        "counts, done bare.",
    ),
    _claim(
        "two_layer",
        "At n = {n} a whole iteration of a two-layer run at rest takes {most} as the products and triangular solves "
        "that it counts: no n^3 is hidden anywhere in it.",
    ),
    _claim(
        "joint",
        "At n = {n} an iteration that trains both layers, at rest, takes {most} as these and three sparse products of "
        "the pattern that fires: nothing of size n^2 a neuron is hidden in it.",
    ),
    _claim(
        "deep",
        "In a run of two trained layers at rest, n = {n}, a solve takes {most} as the products and triangular solves "
        "that it counts.",
    ),
    _claim(
        "gram",
        "The Gram matrix over a trained layer takes {most} as the sparse products of its factors: nothing of size "
        "n^2 m is hidden in it.",
    ),
    _claim(
        "start",
        "The start of a run on trees takes {most} as one product that makes the scores, and a check, a copy and a "
        "comparison of them.",
    ),
    _claim(
        "inputs",
        f"An iteration on trees takes {{most}} on inputs of {INPUTS_D} coordinates as on {TREE_D} of them that make "
        "the same scores: no work that grows with d is hidden in it.",
    ),
    _claim(
        "product",
        "At n = {n} the fast product with leaves that multiply nothing takes {most} as BLAS takes to multiply: nothing "
        "is multiplied elsewhere.",
    ),
)


@dataclass(frozen=True)
class Pair:
    """A solve, or other work, and its bare work, ready to be timed; units it counted, and whether it came out right."""

    solve: Callable[[], object]
    bare: Callable[[], object]
    counted: int
    right: bool


def cells(profile: Profile) -> list[Inputs]:
    """List the parts, each for every seed."""
    times = THOROUGH if profile.thorough else 1
    return [{"part": name, "seed": seed} for name, part in PARTS.items() for seed in range(times * part.seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Time a solve and its bare work, interleaved; seconds."""
    part = PARTS[inputs["part"]]
    pair = PREPARE[inputs["part"]](part.n, rng, code)
    tasks = {"solve": lambda: seconds(pair.solve), "bare": lambda: seconds(pair.bare)}
    with without_collections():
        rounds = [interleaved(tasks, rng) for _ in range(part.rounds)]
    readings = {name: [each[name] for each in rounds] for name in tasks}
    return {**readings, "counted": pair.counted, "right": pair.right}


def seconds(task: Callable[[], object]) -> float:
    """Read off the clock how long a task takes."""
    before = clock()
    task()
    return clock() - before


def _solved(G: FloatArray, rhs: FloatArray, g: FloatArray) -> bool:
    return bool(np.linalg.norm(G @ g - rhs) <= SOLVED * np.linalg.norm(rhs))


def _noise(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw a symmetric matrix (n, n) whose largest eigenvalue is about `NOISE`."""
    half = rng.standard_normal((n, n))
    return NOISE / math.sqrt(8 * n) * (half + half.T)


def _prepare_conjugate(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    G, rhs = np.eye(n) + _noise(n, rng), rng.standard_normal(n)
    found = code.solve_conjugate(G, rhs)
    products = int(found.work) // G.size

    def bare() -> None:
        np.isfinite(G).all()
        np.allclose(G, G.T)
        for _ in range(products):
            G @ rhs

    return Pair(lambda: code.solve_conjugate(G, rhs), bare, products, _solved(G, rhs, found.solution))


def _bare_factor(G: FloatArray, rhs: FloatArray) -> None:
    factor = linalg.cholesky(G, check_finite=False)
    linalg.lapack.dpocon(factor, np.linalg.norm(G, 1))
    linalg.cho_solve((factor, False), rhs, check_finite=False)


def _prepare_first(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    G, rhs = np.eye(n) + _noise(n, rng), rng.standard_normal(n)

    def solve() -> FloatArray:
        return np.asarray(code.warm_cholesky().solve(G, rhs))

    return Pair(solve, lambda: _bare_factor(G, rhs), 1, _solved(G, rhs, solve()))


def _bare_rest(G: FloatArray, factored: FloatArray, rhs: FloatArray, units: int) -> Callable[[], None]:
    """Prepare so many products and pairs of triangular solves, and one distance."""
    factor = linalg.cholesky(factored)

    def bare() -> None:
        np.linalg.norm(G - factored)
        for _ in range(units):
            G @ rhs
            linalg.cho_solve((factor, False), rhs, check_finite=False)

    return bare


def _prepare_rest(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    noise, rhs = _noise(n, rng), rng.standard_normal(n)
    factored, G = np.eye(n) + noise, np.eye(n) + (1 + DRIFT) * noise
    warm = code.warm_cholesky()
    warm.solve(factored, rhs)
    before = warm.work
    g = warm.solve(G, rhs)
    units = (warm.work - before) // (2 * G.size)
    return Pair(lambda: warm.solve(G, rhs), _bare_rest(G, factored, rhs, units), units, _solved(G, rhs, g))


def _iterate_at_rest(run: Any) -> tuple[Callable[[], None], int, bool]:  # noqa: ANN401
    """Prepare iterations that all start from the residual of now: the first one makes a factor that serves the others.

    Returns one of them, the units that it counts, and whether it moves predictions by what it should.
    """
    residual = run.residual.copy()

    def iterate() -> None:
        run.residual = residual
        run.iterate()

    iterate()
    before = run.residual
    iterate()
    off = np.linalg.norm(before - run.residual - residual)
    return iterate, run.counts[-1]["solve"] // (2 * len(residual) ** 2), bool(off <= MOVED * np.linalg.norm(residual))


def _calm(network: TwoLayerNetwork, problem: problems.Problem) -> FloatArray:
    """Make labels that leave hardly anything to train: (n,)."""
    labels: FloatArray = network.predict(problem.X) + CALM * problem.y
    return labels


def _prepare_two_layer(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, D, rng)
    network = code.initialize(WIDTH, D, shift=shift_for(WIDTH, ALPHA), rng=rng)
    run = code.start_events(network, problem.X, _calm(network, problem))
    iterate, units, right = _iterate_at_rest(run)
    G = run._gram()
    return Pair(iterate, _bare_rest(G, G, problem.y, units), units, right)


def _prepare_joint(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, D, rng)
    network = code.initialize(JOINT_WIDTH, D, shift=shift_for(JOINT_WIDTH, JOINT_ALPHA), rng=rng)
    run = code.start_joint(network, problem.X, _calm(network, problem))
    iterate, units, right = _iterate_at_rest(run)
    G, fired = run.watched.gram(), run.watched.fired_excess
    solve = _bare_rest(G, G, problem.y, units)

    def bare() -> None:
        solve()
        for _ in range(3):
            (fired.T.tocsr() @ fired).toarray()

    return Pair(iterate, bare, units, right)


def _solve_at_rest(run: Any) -> Pair:  # noqa: ANN401
    """Let a run solve twice where it is: the first time it makes a factor, and from then on it uses that."""
    run._solve()
    before = run._phases["solve"]
    g = run._solve()
    G, rhs = run._gram(), run.residual
    units = (run._phases["solve"] - before) // (2 * G.size)
    return Pair(run._solve, _bare_rest(G, G, rhs, units), units, _solved(G, rhs, g))


def _prepare_deep(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, D, rng)
    shift = shift_for(DEEP_WIDTH, DEEP_ALPHA)
    network = code.deep_initialize(DEEP_WIDTH, D, DEPTH, shift=shift, rng=rng, normalized=True)
    return _solve_at_rest(code.start_deep(network, problem.X, problem.y, trained_layers=range(1, DEPTH + 1)))


def _prepare_gram(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    density = SPARSE_WIDTH**-SPARSE_ALPHA
    shape = n, SPARSE_WIDTH
    P, H = (sparse.random_array(shape, density=density, rng=rng, format="csr") for _ in range(2))

    def bare() -> FloatArray:
        return np.asarray((P @ P.T).toarray() * (H @ H.T).toarray())

    def form() -> FloatArray:
        return np.asarray(code.tensor_jacobian([(P, H)]).gram)

    return Pair(form, bare, 2, np.allclose(form(), bare()))


def _prepare_start(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, TREE_D, rng)
    network = code.initialize(TREE_WIDTH, TREE_D, shift=shift_for(TREE_WIDTH, ALPHA), rng=rng)

    def start() -> Any:  # noqa: ANN401
        return code.start(network, problem.X, problem.y)

    def bare() -> FloatArray:
        scores: FloatArray = problem.X @ network.weights.T
        np.isfinite(scores).all()
        leaves = scores.copy()
        leaves.max(axis=1)
        return leaves

    pairs = int(np.count_nonzero(bare() >= network.shift))
    return Pair(start, bare, 1, len(start().fired) == pairs)


def _prepare_inputs(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, TREE_D, rng)
    network = code.initialize(INPUTS_WIDTH, TREE_D, shift=shift_for(INPUTS_WIDTH, ALPHA), rng=rng)
    padding = (0, 0), (0, INPUTS_D - TREE_D)
    padded = TwoLayerNetwork(np.pad(network.weights, padding), network.signs, network.shift)
    few = code.start(network, problem.X, problem.y)
    many = code.start(padded, np.pad(problem.X, padding), problem.y)
    for run in (few, many):
        run.iterate()
    return Pair(many.iterate, few.iterate, 1, np.allclose(many.residual_norms, few.residual_norms))


def _prepare_product(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    A, B = rng.standard_normal((2, n, n))

    def nothing(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
        out[:] = 0

    def multiply() -> FloatArray:
        return np.asarray(code.rectangular_product(A, B, leaf=n // 2, product=nothing))

    return Pair(multiply, lambda: A @ B, 1, not multiply().any())


PREPARE: dict[str, Callable[[int, np.random.Generator, CodeUnderTest], Pair]] = {
    "conjugate": _prepare_conjugate,
    "first": _prepare_first,
    "rest": _prepare_rest,
    "two_layer": _prepare_two_layer,
    "joint": _prepare_joint,
    "deep": _prepare_deep,
    "gram": _prepare_gram,
    "start": _prepare_start,
    "inputs": _prepare_inputs,
    "product": _prepare_product,
}
"""What is timed in each part."""


def log_ratio(result: Result) -> float:
    """Return the log of a solve's time over that of its bare work: least over rounds each.

    Examples
    --------
    >>> round(math.exp(log_ratio({"solve": [2.0, 6.0, 9.0], "bare": [9.0, 1.0, 2.0]})), 9)
    2.0
    """
    return math.log(min(result["solve"]) / min(result["bare"]))


def decide(results: Runs) -> list[Finding]:
    """Take the ratio of each seed and an interval over seeds, part by part."""
    return [_find(part, [result for inputs, result in results if inputs["part"] == part]) for part in PARTS]


DATA = {
    "conjugate": "the identity and noise",
    "first": "the identity and noise",
    "rest": "the identity and noise",
    "two_layer": f"random inputs, d={D}, m=2^{WIDTH.bit_length() - 1}, alpha={ALPHA}",
    "joint": f"random inputs, d={D}, m=2^{JOINT_WIDTH.bit_length() - 1}, alpha={JOINT_ALPHA}",
    "deep": f"random inputs, d={D}, m=2^{DEEP_WIDTH.bit_length() - 1}, alpha={DEEP_ALPHA}, depth {DEPTH}, normalized",
    "gram": f"random sparse factors, m=2^{SPARSE_WIDTH.bit_length() - 1}, m^{SPARSE_ALPHA:g} entries a row",
    "start": f"random inputs, d={TREE_D}, m=2^{TREE_WIDTH.bit_length() - 1}, alpha={ALPHA}",
    "inputs": f"random inputs, d={INPUTS_D} over {TREE_D}, m=2^{INPUTS_WIDTH.bit_length() - 1}, alpha={ALPHA}",
    "product": "normal entries, halved once",
}
"""Domain of each part."""


def _find(name: str, results: Sequence[Result]) -> Finding:
    part = PARTS[name]
    domain = f"n={part.n}, {DATA[name]}, {len(results)} seeds, {part.rounds} interleaved rounds, one BLAS thread"
    margin = f"<= {part.most:g} (time over bare work's)"
    if not all(result["right"] for result in results):
        reason = "What was timed does not come to the right result."
        return Finding(f"solve_time.{name}", "invalid", None, None, margin, domain, reason)
    logs = t_interval([log_ratio(result) for result in results])
    interval = Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high))
    most, least = (
        1e3 * float(np.mean([min(result[key]) for result in results])) for key in ("solve", "bare")
    )
    counted = f"{np.mean([result['counted'] for result in results]):.1f}"
    return make_finding(
        f"solve_time.{name}",
        interval,
        decide_below(interval, part.most),
        margin=margin,
        domain=domain,
        reason=f"Ratio of least times over rounds, t-interval over seeds; {most:.2g} ms beside {least:.2g} ms; units "
        f"counted: {counted}.",
    )


def plot(figure: Figure, results: Runs) -> None:
    """Draw the time of a solve over that of its bare work in every round; dashed: the most allowed."""
    axes = figure.subplots()
    for place, (name, part) in enumerate(PARTS.items()):
        for inputs, result in results:
            if inputs["part"] == name:
                ratios = np.array(result["solve"]) / np.array(result["bare"])
                axes.plot([place + 0.05 * inputs["seed"]] * len(ratios), ratios, "o", color="C0", alpha=0.6)
        axes.plot([place - 0.3, place + 0.3], [part.most] * 2, "--", color="black", linewidth=0.8, marker="")
    axes.set_xticks(range(len(PARTS)), list(PARTS))
    axes.set(ylabel="time / bare work's", ylim=(0, None))
    figure.set_size_inches(7.2, 2.6)


EXPERIMENT = Experiment(
    name="solve_time",
    title="Time by the clock of what is counted",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
    timed=True,
)
