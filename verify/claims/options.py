"""Claim: options that no other experiment takes, opponents, sketches and files do what they are named for.

What is asked, beside separate code from the same start
1. ``conjugate``    ``solver="conjugate"``: do trees, events and deep networks (plain, normalized, the last layer alone)
   equal the reference to 1e-7, in residuals, predictions on training and on `UNSEEN` other points, and weights?
2. ``safeguarded``  ``step="safeguarded"``: do they equal the reference's safeguarded runs, on data and at widths where
   some full steps climb, end as those end, and never climb? Both sides share the rules, so these are asked for by
   themselves: does the residual halve at least where full steps climb, and is it theirs where none does? Does each
   rule decide as `reference.safeguard` says?
3. ``parallel``     Inputs at angle `NEAR`, torn apart by their labels: steps are huge and cancel, so that the fast
   paths write sums of steps out as weights, or look at all pairs, before digits are lost. Equal even so?
4. ``small``        In many small networks of two layers, where every step changes who fires below and who may fire
   above: do weights that a loop keeps at hand from one state ever serve another?
5. ``first_order``  Gradient descent (`fast.baselines`), momentum, stochastic gradient descent, Adam and L-BFGS
   (`fast.first_order`): do they take the steps of their definitions, here on all neurons and by the dense gradient,
   and do the last four count the work of these steps? An opponent held back, or charged for too much, would make
   Gauss-Newton look better than it is.
6. ``sketches``     Do all sketches, applied fast, to matrices, Jacobians and factors, equal the products with their
   matrices? That they embed is the business of the experiment ``embedding``; a lost sign need not spoil it.
7. ``files``        Is every kind of network, written to a file and read again, the same to the bit, and laid out alike?

How runs are compared is said in `verify.comparison`. `UNSEEN` points, half of them shorter than 1, are more than any
block that deep predictions are made in. Runs must say that they converged if their residuals say so, and only then.
L-BFGS is SciPy's on both sides; compared is what it is given, and what is made of its answer.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, sparse

from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.sketch import (
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
    draw_tensor_srht,
    to_matrix,
)
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems
from verify.claims.embedding import fired_jacobian
from verify.comparison import (
    MARGIN,
    UNEQUAL,
    Run,
    Stopped,
    attempt,
    plot_errors,
    relative_error,
    run_errors,
    stopped_alike,
    worst_finding,
)
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import make_finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNSEEN = 200
SHORTER = 0.8
"""Length of some unseen points. Longer ones have predictions so large that errors at the others would not show."""
ITERATIONS, GUARDED_ITERATIONS, STEPS = 5, 6, 7
GUARDED_TARGET = 1e-9
"""Safeguarded runs end here: at rounding, chance decides what still lowers the residual."""
RESCUED, RESCUE_ITERATIONS = 0.5, 20
"""Where full steps climb, a safeguarded run must come down to this share of the first residual, given so many
iterations; before them none may end for creeping."""
NEAR = 0.003
REPEATS = 20
"""Small networks in a cell."""
SEEDS = 2
SHALLOW: Inputs = {"part": "shallow", "family": "random", "n": 24, "d": 8, "width": 4096, "alpha": 0.24}
DEEP: Inputs = {"part": "deep", "family": "random", "n": 12, "d": 12, "width": 600, "alpha": 0.1, "depth": 2}
BOTH: Inputs = {**DEEP, "layers": [1, 2], "normalized": False}
OPPONENTS: Inputs = {"part": "first_order", "family": "random", "n": 24, "d": 8, "width": 2048, "alpha": 0.24}
FILES: Inputs = {"part": "files", "family": "random", "n": 8, "d": 8, "width": 300, "alpha": 0.1}
SKETCHES: Inputs = {"part": "sketches", "family": "random", "n": 7, "d": 6, "width": 100, "alpha": 0.1}
GRID: list[Inputs] = [
    SHALLOW,
    {**SHALLOW, "family": "pairs", "n": 17},
    {**SHALLOW, "family": "clash", "width": 1000},
    {**SHALLOW, "width": 300},
    BOTH,
    {**BOTH, "layers": [2]},
    {**BOTH, "normalized": True},
    {**BOTH, "family": "clash", "width": 300, "alpha": 0.05},
    {**SHALLOW, "part": "near_shallow", "family": "clash", "n": 8, "width": 2000, "alpha": 0.1},
    {**BOTH, "part": "near_deep", "family": "clash", "n": 8, "d": 8, "alpha": 0.05},
    {**BOTH, "part": "small", "family": "pairs", "d": 8, "width": 150, "alpha": 0.25, "normalized": True},
    OPPONENTS,
    {**OPPONENTS, "family": "pairs", "n": 17, "width": 1500, "alpha": 0.1},
    # A factor so sparse that its entries are taken one by one, and one that is transformed as a whole.
    {**SKETCHES, "rows": 60, "density": 0.02},
    {**SKETCHES, "n": 5, "d": 3, "width": 33, "rows": 128, "density": 0.9},
    FILES,
]
RATE, MOMENTUM, BATCH, ADAM_RATE, DECAY, MEMORY = 0.6, 0.4, 7, 0.03, (0.8, 0.95), 4
EPSILON = 1e-12
"""Adam's own."""
NAMES = ("conjugate", "safeguarded", "parallel", "small", "first_order", "sketches", "files")

CLAIMS = (
    Claim(
        "options.conjugate",
        'Training without a factor (solver="conjugate"), on trees, on events and of two layers, equals as many '
        "reference iterations to 1e-7: residuals, predictions on training and unseen points, weights.",
        "ours",
    ),
    Claim(
        "options.safeguarded",
        "Safeguarded training, on trees, on events and of two layers, equals the reference's safeguarded training in "
        "the same way, and ends as that ends, by the rules stated there; the residual never grows, halves at least "
        "where full steps climb, and is theirs where none does.",
        "ours",
    ),
    Claim(
        "options.parallel",
        "On inputs at angle 0.003 with random labels, where steps are huge and cancel, trees, events and runs of two "
        "layers equal as many reference iterations in the same way.",
        "ours",
    ),
    Claim(
        "options.small",
        "So do those of many small networks of two layers, where every step changes who fires.",
        "ours",
    ),
    Claim(
        "options.first_order",
        "The first-order opponents (gradient descent, momentum, SGD, Adam, L-BFGS) take the steps of their "
        "definitions, to 1e-7, and all but the first count exactly the work of these steps.",
        "Polyak (1964); Kingma and Ba (ICLR 2015); Liu and Nocedal (1989)",
    ),
    Claim(
        "options.sketches",
        "Sketches applied fast, to a matrix, a Jacobian or a pair of factors, equal the products with their matrices "
        "to 1e-7.",
        "ours",
    ),
    Claim(
        "options.files",
        "Networks of two and of more layers, fresh and trained, plain and normalized, are the same to the bit, in the "
        "same memory order, after they were written to a file and read again.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for some seeds."""
    return [{**point, "seed": seed} for point in GRID for seed in range(SEEDS * (4 if profile.thorough else 1))]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run both sides; report each error as a fraction of its bound."""
    width, d, part = inputs["width"], inputs["d"], inputs["part"]
    if part == "small":
        return small_errors(inputs, rng, code)
    problem = problems.make(inputs["family"], inputs["n"], d, rng, angle=NEAR if part.startswith("near") else None)
    unseen, shift = problems.unit_rows(UNSEEN, d, rng), shift_for(width, inputs["alpha"])
    unseen[1::2] *= SHORTER
    compare = parallel_errors if part.startswith(("near", "plain")) else partial(option_errors, code=code)
    if part.endswith("deep"):
        deep = code.deep_initialize(width, d, inputs["depth"], shift=shift, rng=rng, normalized=inputs["normalized"])
        on_data = (deep, problem.X, problem.y)
        judge = partial(code.deep_reference_train, *on_data, trained_layers=inputs["layers"])
        return compare(judge, [partial(code.deep_train, *on_data, trained_layers=inputs["layers"])], unseen)
    network = code.initialize(width, d, shift=shift, rng=rng)
    if part.endswith("shallow"):
        on_data = (network, problem.X, problem.y)
        trains = [partial(code.train, *on_data, search=search) for search in ("tree", "events")]
        return compare(partial(code.reference_train, *on_data), trains, unseen)
    if part == "sketches":
        return {"sketches": sketch_errors(inputs, network, problem.X, rng, code)}
    if part == "files":
        return {"files": file_errors(network, problem, rng, code)}
    return {"first_order": opponent_errors(network, problem, unseen, code)}


def worst(errors: Sequence[dict[str, float]]) -> dict[str, float]:
    """Take the largest error of each quantity."""
    return {quantity: max(each[quantity] for each in errors) for quantity in errors[0]}


# ---- options -------------------------------------------------------------------------------------


Train = Callable[..., Trace[Any]]


def parallel_errors(judge: Train, trains: Sequence[Train], unseen: FloatArray) -> Result:
    """Take the worst errors over some ways to train, without options."""
    expected = attempt(partial(judge, iterations=ITERATIONS))
    errors = [run_errors(attempt(partial(train, iterations=ITERATIONS)), expected, unseen) for train in trains]
    return {"parallel": worst(errors), "trained": not isinstance(expected, Stopped)}


def small_errors(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Take the worst errors over many small networks, each on data of its own."""
    each = [measure({**inputs, "part": "plain_deep"}, rng, code) for _ in range(REPEATS)]
    errors = worst([result["parallel"] for result in each])
    return {"small": errors, "trained": any(result["trained"] for result in each)}


def option_errors(judge: Train, trains: Sequence[Train], unseen: FloatArray, code: CodeUnderTest) -> Result:
    """Take the worst errors over some ways to train, with each option."""
    guard = {"iterations": GUARDED_ITERATIONS, "tolerance": GUARDED_TARGET, "step": "safeguarded"}
    plain, guarded = attempt(partial(judge, iterations=ITERATIONS)), attempt(partial(judge, **guard))
    conjugate, safeguarded = [], []
    for train in trains:
        run = attempt(partial(train, iterations=ITERATIONS, solver="conjugate"))
        conjugate.append(run_errors(run, plain, unseen) | {"end": 0.0 if truly_converged(run) else UNEQUAL})
        run = attempt(partial(train, **guard))
        right = ended_alike(run, guarded) and bool((np.diff(run.residual_norms) <= 0).all())
        right = right and truly_converged(run, GUARDED_TARGET)
        safeguarded.append(run_errors(run, guarded, unseen) | {"end": 0.0 if right else UNEQUAL})
    further = partial(judge, iterations=RESCUE_ITERATIONS, tolerance=RESCUED, step="safeguarded")
    shared = {"rescue": rescue_error(guarded, plain, further), "rules": 0.0 if rules_kept(code) else UNEQUAL}
    return {
        "conjugate": worst(conjugate),
        "safeguarded": worst(safeguarded) | shared,
        "trained": not isinstance(plain, Stopped),
        "climbed": climbs(plain),
    }


def ended_alike(run: Run, expected: Run) -> bool:
    """Tell whether two safeguarded runs both stalled, or both did not."""
    return bool(getattr(run, "stopped", "")) == bool(getattr(expected, "stopped", ""))


def truly_converged(run: Run, tolerance: float = 0.0) -> bool:
    """Tell whether a run says that it converged if its residuals say so, and only then."""
    return isinstance(run, Stopped) or run.converged == bool(
        run.residual_norms[-1] <= tolerance * run.residual_norms[0]
    )


# ---- the rules of the safeguard, which both sides share ------------------------------------------

OVER, FAR = 9.0, 1001.0
MOVES: list[tuple[list[float], list[float], int, str]] = [
    # A step of length s is kept if it takes s / 10^4 off the residual, here 1; lengths are 1, 1/2, 1/4, ...
    ([1 - 2e-4], [], 30, "accept"),
    ([1 - 0.5e-4], [], 30, "advance"),
    ([OVER], [1 - 0.6e-4], 30, "accept"),
    ([OVER], [1 - 0.4e-4], 30, "shorten"),
    # Thirty full steps may follow the first, fewer if so allowed; not from 1000 times the residual on.
    ([OVER] * 30, [], 30, "advance"),
    ([OVER] * 30 + [0.9], [], 30, "accept"),
    ([OVER] * 31, [], 30, "shorten"),
    ([OVER], [], 0, "shorten"),
    ([OVER, FAR - 2], [], 30, "advance"),
    ([OVER, FAR], [], 30, "shorten"),
    ([math.inf], [], 30, "shorten"),
    # Then thirty shorter ones.
    ([OVER], [OVER] * 29, 30, "shorten"),
    ([OVER], [OVER] * 29 + [1 - 2e-4 / 2**30], 30, "accept"),
    ([OVER], [OVER] * 30, 30, "stall"),
]
"""Residuals of full steps, of shorter ones, the allowance, and the move."""
ALLOWANCES: list[tuple[int, list[float], list[float], int]] = [
    (8, [OVER], [0.9], 4),
    (1, [OVER], [0.9], 0),
    (8, [OVER, 0.9], [], 30),
    (8, [0.9], [], 8),
]
"""The allowance, residuals of full steps and of shorter ones, and the next allowance."""
CREPT: list[tuple[list[float], bool]] = [
    ([1.0] + [0.96] * 19, False),
    ([1.0] + [0.96] * 20, True),
    ([1.0] + [0.94] * 20, False),
    ([1.1, 1.0] + [0.96] * 20, True),
]
"""Residuals of a run, and whether twenty iterations have lowered it by less than a twentieth."""


def rules_kept(code: CodeUnderTest) -> bool:
    """Tell whether the safeguard decides as `reference.safeguard` says, on made-up residuals."""
    return (
        all(code.next_move(1.0, ahead, shorter, allowed) == move for ahead, shorter, allowed, move in MOVES)
        and all(code.allowance_after(*before) == after for *before, after in ALLOWANCES)
        and all(code.crept(norms) == crept for norms, crept in CREPT)
    )


def climbs(plain: Run) -> bool:
    """Tell whether some full step fails to lower the residual before it is down to rounding; an error is such a one."""
    if isinstance(plain, Stopped):
        return True
    before, after = plain.residual_norms[:-1], plain.residual_norms[1:]
    return bool((after > 0.999 * before)[before > GUARDED_TARGET * before[0]].any())


def rescue_error(guarded: Run, plain: Run, further: Train) -> float:
    """Compare a safeguarded run with full steps where none climbs; elsewhere measure how far it comes."""
    if isinstance(guarded, Stopped):
        return stopped_alike(guarded, plain)
    norms = guarded.residual_norms
    # A run as short as this may end on its way only if no step lowers the residual.
    if not truly_converged(guarded, GUARDED_TARGET) or (guarded.stopped and norms[-1] < norms[-2]):
        return UNEQUAL
    if isinstance(plain, Stopped) or climbs(plain):
        if norms[-1] > RESCUED * norms[0]:
            norms = further().residual_norms
        return 0.0 if norms[-1] <= RESCUED * norms[0] else float(norms[-1] / norms[0]) / RESCUED
    steps = min(len(norms), len(plain.residual_norms))
    return relative_error(norms[:steps], plain.residual_norms[:steps])


# ---- first-order methods by their definitions ----------------------------------------------------


class Gradient:
    """Residual and dense gradient on all neurons, and the work that the fast code should count for them.

    Parameters
    ----------
    network : TwoLayerNetwork
        Where to start.
    problem : Problem
        Data and labels.

    Attributes
    ----------
    size : int
        Weights of the neurons that fire somewhere at the start; no others move.
    """

    def __init__(self, network: TwoLayerNetwork, problem: problems.Problem) -> None:
        self.network, self.X, self.y = network, problem.X, problem.y
        self.size = int((network.shift <= problem.X @ network.weights.T).any(axis=0).sum()) * network.dim
        self.work = {"scan": 0, "step": 0}

    def __call__(self, weights: FloatArray, batch: Any = slice(None)) -> tuple[FloatArray, FloatArray]:  # noqa: ANN401
        """Compute both on a batch."""
        X, y = self.X[batch], self.y[batch]
        excess = X @ weights.T - self.network.shift
        fires = excess >= 0
        a = self.network.signs / math.sqrt(self.network.width)
        residual: FloatArray = np.where(fires, excess, 0.0) @ a - y
        self.work["scan"] += len(X) * self.size
        self.work["step"] += int(fires.sum()) * X.shape[1]
        return residual, a[:, np.newaxis] * ((fires * residual[:, np.newaxis]).T @ X)

    def counted(self, vectors: int) -> dict[str, int]:
        """Return the work since the last call, and that of combining so many vectors."""
        counts = self.work | {"combine": vectors * self.size}
        self.work = {"scan": 0, "step": 0}
        return counts


Steps = Iterator[tuple[FloatArray, dict[str, int]]]
"""Weights after each iteration, and its work."""


def momentum_steps(gradient: Gradient, rate: float, momentum: float = MOMENTUM) -> Steps:
    """Take steps ``v <- mu v - eta J^T (f - y)``, ``W <- W + v``."""
    weights = gradient.network.weights
    velocity, g = np.zeros_like(weights), gradient(weights)[1]
    gradient.counted(0)  # the start is not charged for
    while True:
        velocity = momentum * velocity - rate * g
        weights = weights + velocity
        g = gradient(weights)[1]
        yield weights, gradient.counted(2)


def stochastic_steps(gradient: Gradient, rate: float, rng: np.random.Generator, momentum: float = 0.0) -> Steps:
    """Take epochs of steps ``v <- mu v - eta J_B^T (f_B - y_B)``, ``W <- W + v``."""
    n, weights = len(gradient.X), gradient.network.weights
    velocity, vectors = np.zeros_like(weights), 2 if momentum else 1
    while True:
        order = rng.permutation(n)
        batches = [order[first : first + BATCH] for first in range(0, n, BATCH)]
        for batch in batches:
            velocity = momentum * velocity - rate * gradient(weights, batch)[1]
            weights = weights + velocity
        yield weights, gradient.counted(vectors * len(batches))


def adam_steps(gradient: Gradient) -> Steps:
    """Take Adam's steps as Kingma and Ba write them."""
    weights = gradient.network.weights
    mean, square, t = np.zeros_like(weights), np.zeros_like(weights), 0
    g = gradient(weights)[1]
    gradient.counted(0)
    while True:
        t += 1
        mean = DECAY[0] * mean + (1 - DECAY[0]) * g
        square = DECAY[1] * square + (1 - DECAY[1]) * g**2
        corrected, corrected_square = mean / (1 - DECAY[0] ** t), square / (1 - DECAY[1] ** t)
        weights = weights - ADAM_RATE * corrected / (np.sqrt(corrected_square) + EPSILON)
        g = gradient(weights)[1]
        yield weights, gradient.counted(6)


def lbfgs_steps(gradient: Gradient) -> Steps:
    """Take those of L-BFGS, by SciPy, all at once."""
    shape = gradient.network.weights.shape
    steps: list[tuple[FloatArray, dict[str, int]]] = []

    def value(vector: FloatArray) -> tuple[float, FloatArray]:
        residual, g = gradient(vector.reshape(shape))
        return float(residual @ residual) / 2, g.ravel()

    def note(vector: FloatArray) -> None:
        steps.append((vector.reshape(shape).copy(), gradient.counted(4 * min(len(steps), MEMORY))))

    options = {"maxiter": STEPS, "maxfun": 20 * STEPS, "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0}
    start = gradient.network.weights.ravel()
    optimize.minimize(value, start, jac=True, method="L-BFGS-B", callback=note, options=options)
    yield from steps


def opponent_errors(
    network: TwoLayerNetwork, problem: problems.Problem, unseen: FloatArray, code: CodeUnderTest
) -> dict[str, float]:
    """Compare every opponent with its definition; return the worst errors."""
    fired = (network.shift <= problem.X @ network.weights.T).sum(axis=1)
    natural = network.width / float(fired.mean())
    rate = RATE * natural
    # Both sides draw the same order of the data points.
    order = partial(np.random.default_rng, len(problem.X))
    common = {"X": problem.X, "y": problem.y, "iterations": STEPS}
    descent = {"learning_rate": rate, **common}
    batches = {"batch": BATCH, **descent}
    sgd, both = (partial(stochastic_steps, rate=rate, rng=order(), momentum=mu) for mu in (0.0, MOMENTUM))
    plans: list[tuple[Train, dict[str, Any], Callable[[Gradient], Steps]]] = [
        (code.train_momentum, {"momentum": MOMENTUM, **descent}, partial(momentum_steps, rate=rate)),
        (code.train_momentum, {"rng": order(), **batches}, sgd),
        (code.train_momentum, {"rng": order(), "momentum": MOMENTUM, **batches}, both),
        (code.train_adam, {"learning_rate": ADAM_RATE, "decay": DECAY, **common}, adam_steps),
        (code.train_lbfgs, {"memory": MEMORY, **common}, lbfgs_steps),
    ]
    errors = worst(
        [
            steps_error(attempt(partial(train, network, **options)), Gradient(network, problem), steps, unseen)
            for train, options, steps in plans
        ]
    )
    found = np.array([code.natural_rate(network, problem.X)])
    errors |= {"natural rate": relative_error(found, np.array([natural]))}
    J = jacobian(network, problem.X)
    eigenvalues = np.linalg.eigvalsh(J @ J.T)
    best = 2 / float(eigenvalues[-1] + eigenvalues[0])
    for name, options, given in (("", descent, rate), (" at the best rate", common, best)):
        run = attempt(partial(code.train_gradient_descent, network, **options))
        taken = take(Gradient(network, problem), partial(momentum_steps, rate=given, momentum=0.0))
        errors |= {f"{part} of gradient descent{name}": e for part, e in run_errors(run, taken, unseen).items()}
    return errors


def steps_error(
    run: Run, gradient: Gradient, steps: Callable[[Gradient], Steps], unseen: FloatArray
) -> dict[str, float]:
    """Compare one opponent's run with steps taken here, and its counters."""
    expected = take(gradient, steps)
    same = isinstance(run, Trace) and run.counts == expected.counts
    ends = {"counters": 0.0 if same else UNEQUAL, "end": 0.0 if truly_converged(run) else UNEQUAL}
    return run_errors(run, expected, unseen) | ends


def take(gradient: Gradient, steps: Callable[[Gradient], Steps]) -> Trace[TwoLayerNetwork]:
    """Take steps here, and make a run of them."""
    network = gradient.network
    taken = list(islice(steps(gradient), STEPS))
    visited = [network.weights, *(weights for weights, _ in taken)]
    residuals = [gradient(weights)[0] for weights in visited]
    end = TwoLayerNetwork(visited[-1], network.signs, network.shift)
    norms = np.array([np.linalg.norm(residual) for residual in residuals])
    return Trace(end, norms, residuals[-1] + gradient.y, False, [counts for _, counts in taken])


# ---- sketches by their matrices ------------------------------------------------------------------


def sketch_errors(
    inputs: Inputs, network: TwoLayerNetwork, X: FloatArray, rng: np.random.Generator, code: CodeUnderTest
) -> dict[str, float]:
    """Compare every fast sketch with the product with its matrix."""
    m, d, size = inputs["width"], inputs["d"], inputs["rows"]
    J, fired = jacobian(network, X), fired_jacobian(network, X)
    embedding, tensor = draw_sparse_embedding(size, m * d, rng=rng, gamma=2), draw_tensor_sketch(size, m, d, rng=rng)
    srht = draw_tensor_srht(size, m, d, rng=rng)
    draws = (draw_gaussian(size, m * d, rng=rng), draw_srht(size, m * d, rng=rng), embedding, tensor, srht)
    left, right = (
        sparse.csr_array((rng.random((len(X), columns)) < density) * rng.standard_normal((len(X), columns)))
        for columns, density in ((m, inputs["density"]), (d, 1.0))
    )
    tensors = np.einsum("im,id->mdi", left.toarray(), right.toarray()).reshape(m * d, -1)
    found = [("matrix", draw, code.sketch(draw, J.T), J.T) for draw in draws]
    found += [("Jacobian", draw, code.sketch_jacobian(draw, fired), J.T) for draw in (embedding, tensor)]
    found += [("pair of factors", draw, code.sketch_tensors(draw, left, right), tensors) for draw in (tensor, srht)]
    return {
        f"{type(draw).__name__} of a {what}": relative_error(sketched, to_matrix(draw) @ M)
        for what, draw, sketched, M in found
    }


# ---- files ---------------------------------------------------------------------------------------


def file_errors(
    network: TwoLayerNetwork, problem: problems.Problem, rng: np.random.Generator, code: CodeUnderTest
) -> dict[str, float]:
    """Write every kind of network to a file, read it, and say which comes back different."""
    X, y = problem.X, problem.y
    deep = partial(code.deep_initialize, network.width, network.dim, shift=network.shift, rng=rng)
    plain, normalized = deep(depth=3), deep(depth=2, normalized=True)
    networks = {
        "two layers": network,
        "two layers, trained": code.train(network, X, y, iterations=2).network,
        "three layers": plain,
        "normalized": normalized,
        "normalized, trained": code.deep_train(normalized, X, y, trained_layers=(1, 2), iterations=2).network,
    }
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in networks.items():
            code.save_network(f"{folder}/network.npz", each)
            errors[name] = 0.0 if identical(code.load_network(f"{folder}/network.npz"), each) else UNEQUAL
    return errors


def identical(read: Any, written: Any) -> bool:  # noqa: ANN401
    """Tell whether two networks are the same to the bit and laid out alike; trained ones are written out first."""
    dense = written.to_dense() if hasattr(written, "to_dense") else written
    if type(read) is not type(dense) or getattr(read, "normalized", None) != getattr(dense, "normalized", None):
        return False
    theirs, mine = (each.weights if isinstance(each.weights, tuple) else (each.weights,) for each in (read, dense))
    pairs = [(read.signs, dense.signs), (read.shift, dense.shift), *zip(theirs, mine, strict=False)]
    alike = all(one.flags.c_contiguous == other.flags.c_contiguous for one, other in zip(theirs, mine, strict=False))
    return len(theirs) == len(mine) and alike and all(np.array_equal(one, other) for one, other in pairs)


# ---- verdicts ------------------------------------------------------------------------------------


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Take the worst error of each claim over the cells that fit it."""
    return [_find(name, [(i, r) for i, r in results if name in r]) for name in NAMES]


def _find(name: str, results: Sequence[tuple[Inputs, Result]]) -> Finding:
    if not results:
        reason = "Nothing was measured."
        return make_finding(f"options.{name}", None, "invalid", margin=MARGIN, domain="no cells", reason=reason)

    def span(key: str) -> str:
        values = sorted({inputs[key] for inputs, _ in results})
        return f"{key}={values[0]}..{values[-1]}"

    families = ", ".join(dict.fromkeys(inputs["family"] for inputs, _ in results))
    domain = f"{len(results)} cells, {families} data, {', '.join(map(span, ('n', 'd', 'width', 'alpha')))}"
    stopped = "The reference stopped with an error in every run."
    evidence, missing = {
        "conjugate": ("trained", stopped),
        "safeguarded": ("climbed", "No full step climbed, so the safeguard had nothing to do."),
        "parallel": ("trained", stopped),
        "small": ("trained", stopped),
    }.get(name, ("", ""))
    if evidence and not any(result[evidence] for _, result in results):
        return make_finding(f"options.{name}", None, "invalid", margin=MARGIN, domain=domain, reason=missing)
    errors = [(error, part, inputs) for inputs, result in results for part, error in result[name].items()]
    return worst_finding(f"options.{name}", errors, domain)


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw every error of whole runs as a fraction of its bound."""
    plot_errors(figure, results, NAMES[:5])


EXPERIMENT = Experiment(
    name="options",
    title="Options, opponents and sketches do what they are named for",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
