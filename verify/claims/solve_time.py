"""Claim: a solve takes no longer by the clock than the work that it counts, so no ``n^3`` is hidden in one.

`solve_cost` and `events` count multiply-adds, and code may do more than it counts. Here each solve is timed beside a
*bare* one: what its own counter reports, done by one library call after another, and the checks of its input, which are
of size ``n^2``. A factor of ``G``, or its eigenvalues, would take several times as long as both together.

1. ``conjugate``    `fast.regression.solve_conjugate` beside as many products ``G v``, and a check that ``G`` is finite
   and symmetric, which takes most of the time: `PARTS` asks for less than a Cholesky factor would add.
2. ``rest``         `fast.regression.WarmCholesky` on a ``G`` that has drifted by little, beside as many products and
   pairs of triangular solves, and the distance of ``G`` from the matrix that was factored.
3. ``two_layer``, ``deep``    The same for a run (`fast.gauss_newton.EventRun`, `fast.multi_layer_gauss_newton`) that
   solves a second time where it is, as one at rest does.
4. ``gram``         The Gram matrix of a `fast.multi_layer.TensorJacobian` beside the sparse products of its factors.
   Dense ones, ``n^2 m``, take tens of times as long.

In 1 and 2 ``G`` is the identity and a little symmetric noise: solved in few products, so that a factor stands out. The
number of a seed is the ratio of the least times over interleaved rounds, for every round does the same and what
disturbs it only takes longer; the interval is over seeds. A solution that does not solve is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse

from reference.notation import FloatArray
from reference.two_layer import shift_for
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
WIDTH, ALPHA = 1 << 12, 0.24
DEEP_WIDTH, DEEP_ALPHA, DEPTH = 1 << 8, 0.1, 2
SPARSE_WIDTH, SPARSE_ALPHA = 1 << 16, 0.5


@dataclass(frozen=True)
class Part:
    """Number of points, seeds and rounds, and how many times as long as the bare work a solve may take."""

    n: int
    seeds: int
    rounds: int
    most: float


PARTS = {
    "conjugate": Part(n=1408, seeds=6, rounds=2, most=1.6),
    "rest": Part(n=1024, seeds=3, rounds=5, most=2),
    "two_layer": Part(n=384, seeds=3, rounds=9, most=4),
    "deep": Part(n=384, seeds=3, rounds=9, most=4),
    "gram": Part(n=32, seeds=3, rounds=9, most=5),
}

OURS = "ours; [A] and [B] have no experiment"
CLAIMS = (
    Claim(
        "solve_time.conjugate",
        f"At n = {PARTS['conjugate'].n} conjugate gradients scaled by the diagonal take at most "
        f"{PARTS['conjugate'].most:g} times as long as the products with G that they count and a check of G, done "
        "bare.",
        OURS,
    ),
    Claim(
        "solve_time.rest",
        f"At n = {PARTS['rest'].n} a solve with an old Cholesky factor takes at most {PARTS['rest'].most:g} times as "
        "long as the products and triangular solves that it counts, done bare.",
        OURS,
    ),
    Claim(
        "solve_time.two_layer",
        f"In a two-layer run at rest, n = {PARTS['two_layer'].n}, it takes at most {PARTS['two_layer'].most:g} times "
        "as long.",
        OURS,
    ),
    Claim(
        "solve_time.deep",
        f"In a run of two trained layers at rest, n = {PARTS['deep'].n}, it takes at most {PARTS['deep'].most:g} times "
        "as long.",
        OURS,
    ),
    Claim(
        "solve_time.gram",
        f"The Gram matrix over a trained layer takes at most {PARTS['gram'].most:g} times as long as the sparse "
        "products of its factors: nothing of size n^2 m is hidden in it.",
        OURS,
    ),
)


@dataclass(frozen=True)
class Pair:
    """A solve and its bare work, ready to be timed; how many units it counted, and whether it solved."""

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


def _run_at_rest(run: Any) -> Pair:  # noqa: ANN401
    """Let a run solve twice where it is: the first time it makes a factor, and from then on it uses that."""
    run._solve()
    before = run._phases["solve"]
    g = run._solve()
    G, rhs = run._gram(), run.residual
    units = (run._phases["solve"] - before) // (2 * G.size)
    return Pair(run._solve, _bare_rest(G, G, rhs, units), units, _solved(G, rhs, g))


def _prepare_two_layer(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, D, rng)
    network = code.initialize(WIDTH, D, shift=shift_for(WIDTH, ALPHA), rng=rng)
    return _run_at_rest(code.start_events(network, problem.X, problem.y))


def _prepare_deep(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    problem = problems.make("random", n, D, rng)
    shift = shift_for(DEEP_WIDTH, DEEP_ALPHA)
    network = code.deep_initialize(DEEP_WIDTH, D, DEPTH, shift=shift, rng=rng, normalized=True)
    return _run_at_rest(code.start_deep(network, problem.X, problem.y, trained_layers=range(1, DEPTH + 1)))


def _prepare_gram(n: int, rng: np.random.Generator, code: CodeUnderTest) -> Pair:
    density = SPARSE_WIDTH**-SPARSE_ALPHA
    shape = n, SPARSE_WIDTH
    P, H = (sparse.random_array(shape, density=density, rng=rng, format="csr") for _ in range(2))

    def bare() -> FloatArray:
        return np.asarray((P @ P.T).toarray() * (H @ H.T).toarray())

    def form() -> FloatArray:
        return np.asarray(code.tensor_jacobian([(P, H)]).gram)

    return Pair(form, bare, 2, np.allclose(form(), bare()))


PREPARE: dict[str, Callable[[int, np.random.Generator, CodeUnderTest], Pair]] = {
    "conjugate": _prepare_conjugate,
    "rest": _prepare_rest,
    "two_layer": _prepare_two_layer,
    "deep": _prepare_deep,
    "gram": _prepare_gram,
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
    "rest": "the identity and noise",
    "two_layer": f"random inputs, d={D}, m=2^{WIDTH.bit_length() - 1}, alpha={ALPHA}",
    "deep": f"random inputs, d={D}, m=2^{DEEP_WIDTH.bit_length() - 1}, alpha={DEEP_ALPHA}, depth {DEPTH}, normalized",
    "gram": f"random sparse factors, m=2^{SPARSE_WIDTH.bit_length() - 1}, m^{SPARSE_ALPHA:g} entries a row",
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
    counted = f"{np.mean([result['counted'] for result in results]):.1f} products"
    return make_finding(
        f"solve_time.{name}",
        interval,
        decide_below(interval, part.most),
        margin=margin,
        domain=domain,
        reason=f"Ratio of least times over rounds, t-interval over seeds; {most:.2g} ms beside {least:.2g} ms for "
        f"{counted}.",
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
    title="Time of a solve by the clock",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
    timed=True,
)
