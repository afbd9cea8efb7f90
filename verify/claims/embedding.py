"""Whether the sketches embed the row space of Jacobians, at the sizes that their proofs give.

One trial: fresh inputs, weights and draw; ``J`` is written out, and ``Q`` is an orthonormal basis of its row
space. The distortion is the largest ``|eigenvalue - 1|`` of ``(S Q)^T (S Q)``. [A], Definition 2.1 asks that
it exceed epsilon in at most a fraction ``FAILURE`` of all trials. Trials are independent, so the rate has a
Clopper-Pearson interval.

The sizes come from second moments or matrix Chernoff bounds and are safe rather than sharp, so a rate far
below ``FAILURE`` is expected. Two more claims keep the test from being empty: with ``n`` rows every sketch
fails, and the mean of ``trace((S Q)^T (S Q)) / n`` is 1, which a sketch scaled or signed wrongly would miss.

The last claim is about [B]: rows ``p_i (x) h_i`` with ``m^2`` entries, which nobody writes out. They are those of
the top layer of a normalized network of depth 2. Its weights enter through the pre-activations alone, which given
the ``h_i`` are Gaussian with covariance ``<h_i, h_j>``, so these are drawn instead. The row space is known from
the Gram matrix ``L L^T = (P P^T) o (H H^T)``: the eigenvalues are those of ``L^-1 (S J^T)^T (S J^T) L^-T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from fast.jacobian import FiredJacobian
from fast.two_layer import FiredPairs
from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.sketch import (
    Draw,
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
    draw_tensor_srht,
    gaussian_size,
    sparse_embedding_size,
    srht_size,
    tensor_sketch_size,
    tensor_srht_size,
)
from reference.two_layer import TwoLayerNetwork, activation_pattern, shift_for
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.problems import make
from verify.statistics import (
    Interval,
    decide_above,
    decide_below,
    decide_inside,
    make_finding,
    proportion_interval,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS, DIM, ALPHA = 8, 8, 0.1
WIDTHS = {"gaussian": 128, "srht": 2048, "sparse": 2048, "tensor": 2048, "tensor_srht": 2048}
"""Gaussian sketches are dense, hence the smaller width."""
RANK_ONE = ("tensor", "tensor_srht")
"""Kinds that apply to factor pairs."""
RANK_ONE_WIDTH, FIRED = 2048, 0.03
"""Width, and the fraction of the neurons that fires on a data point on average."""
GAMMA = 2
EPSILON, FAILURE = 0.5, 0.1
FAMILIES = ("random", "clash")
TRIALS_PER_CELL = 20
CELLS = {False: 5, True: 60}
"""Cells per kind in the default and in the thorough profile."""
SHORT_RATE = 0.9
UNBIASED_MARGIN = 0.02
ERROR_RATE = 0.05

KINDS = {
    "gaussian": ("Gaussian sketch", "[A], Definition 2.1; Davidson and Szarek 2001"),
    "srht": ("subsampled randomized Hadamard transform", "[A], Definition 2.1; Tropp 2011"),
    "sparse": (
        f"sparse embedding with {GAMMA} nonzeros per column",
        "[A], Definition 2.1; Nelson and Nguyen 2013",
    ),
    "tensor": ("TensorSketch", "[A], Definition 2.1; Pham and Pagh 2013, size: ours"),
    "tensor_srht": ("TensorSRHT", "[A], Definition 2.1; Ahle et al. 2020, size: ours"),
}


def cells(profile: Profile) -> list[Inputs]:
    """List blocks of trials: every kind, then the kinds for factor pairs again; alternating families."""
    kinds: list[Inputs] = [{"kind": kind} for kind in KINDS]
    kinds += [{"kind": "rank_one", "sketch": kind} for kind in RANK_ONE]
    return [
        {**kind, "family": FAMILIES[block % len(FAMILIES)], "seed": block}
        for kind in kinds
        for block in range(CELLS[profile.thorough])
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run one block of trials; returns distortions at full and at short size, and mean eigenvalues."""
    if inputs["kind"] == "rank_one":
        return _measure_rank_one(inputs, rng, code)
    result: Result = {"distortion": [], "mean": [], "short_distortion": []}
    kind, width = inputs["kind"], WIDTHS[inputs["kind"]]
    for _ in range(TRIALS_PER_CELL):
        X = make(inputs["family"], POINTS, DIM, rng).X
        network = code.initialize(width, DIM, shift=shift_for(width, ALPHA), rng=rng)
        J = jacobian(network, X)
        triangle = np.asarray(np.linalg.qr(J.T, mode="r"))
        for size, name in ((theoretical_size(kind), "distortion"), (POINTS, "short_distortion")):
            sketched = _sketch(kind, draw(kind, size, rng), network, X, J, code)
            eigenvalues = _eigenvalues(triangle.T, sketched)
            result[name].append(float(np.abs(eigenvalues - 1).max()))
            if name == "distortion":
                result["mean"].append(float(eigenvalues.mean()))
    return result


def _measure_rank_one(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run one block of trials on factor pairs; returns distortions."""
    kind, m, distortions = inputs["sketch"], RANK_ONE_WIDTH, []
    for _ in range(TRIALS_PER_CELL):
        left, right = rank_one_factors(make(inputs["family"], POINTS, DIM, rng).X, rng)
        sketched = code.sketch_tensors(draw(kind, theoretical_size(kind, m, m), rng, m, m), left, right)
        gram = (left @ left.T).toarray() * (right @ right.T).toarray()
        eigenvalues = _eigenvalues(np.linalg.cholesky(gram), sketched)
        distortions.append(float(np.abs(eigenvalues - 1).max()))
    return {"distortion": distortions}


def rank_one_factors(X: FloatArray, rng: np.random.Generator) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Draw ``P`` and ``H``, (n, m), of the top layer of a normalized network of depth 2."""
    shift = NormalDist().inv_cdf(1 - FIRED)
    H = np.maximum(rng.standard_normal((RANK_ONE_WIDTH, X.shape[1])) @ X.T - shift, 0).T
    H /= np.linalg.norm(H, axis=1, keepdims=True)
    Z = rng.standard_normal((RANK_ONE_WIDTH, len(X))) @ np.linalg.cholesky(H @ H.T).T
    signs = rng.choice([-1.0, 1.0], RANK_ONE_WIDTH) / np.sqrt(RANK_ONE_WIDTH)
    return sparse.csr_array(((shift <= Z) * signs[:, np.newaxis]).T), sparse.csr_array(H)


def _eigenvalues(triangle: FloatArray, sketched: FloatArray) -> FloatArray:
    """Return those of ``(S Q)^T (S Q)``, from ``S J^T`` and ``J J^T = triangle triangle^T``."""
    half = np.linalg.solve(triangle, sketched.T @ sketched)
    return np.asarray(np.linalg.eigvalsh(np.linalg.solve(triangle, half.T)))


def theoretical_size(kind: str, width: int | None = None, dim: int = DIM) -> int:
    """Return the rows at which the kind's proof gives (EPSILON, FAILURE)."""
    width = width or WIDTHS[kind]
    if kind == "gaussian":
        return gaussian_size(POINTS, EPSILON, FAILURE)
    if kind == "srht":
        return srht_size(POINTS, width * dim, EPSILON, FAILURE)
    if kind == "sparse":
        return sparse_embedding_size(POINTS, EPSILON, FAILURE, gamma=GAMMA)
    if kind == "tensor_srht":
        return tensor_srht_size(POINTS, width, dim, EPSILON, FAILURE)
    return tensor_sketch_size(POINTS, EPSILON, FAILURE)


def draw(kind: str, size: int, rng: np.random.Generator, width: int | None = None, dim: int = DIM) -> Draw:
    """Draw a sketch of the kind."""
    width = width or WIDTHS[kind]
    if kind == "gaussian":
        return draw_gaussian(size, width * dim, rng=rng)
    if kind == "srht":
        return draw_srht(size, width * dim, rng=rng)
    if kind == "sparse":
        return draw_sparse_embedding(size, width * dim, rng=rng, gamma=GAMMA)
    if kind == "tensor_srht":
        return draw_tensor_srht(size, width, dim, rng=rng)
    return draw_tensor_sketch(size, width, dim, rng=rng)


def fired_jacobian(network: TwoLayerNetwork, X: FloatArray) -> FiredJacobian:
    """Make the operator on fired pairs from the dense pattern."""
    data_index, neuron_index = np.nonzero(activation_pattern(network, X))
    fired = FiredPairs(data_index, neuron_index, len(X), network.width)
    return FiredJacobian(X, fired, network.signs[neuron_index])


def _sketch(
    kind: str, sketch: Draw, network: TwoLayerNetwork, X: FloatArray, J: FloatArray, code: CodeUnderTest
) -> FloatArray:
    """Sketch ``J^T`` (N, n); TensorSketch as in training, from the fired pairs."""
    if kind == "tensor":
        return np.asarray(code.sketch_jacobian(sketch, fired_jacobian(network, X)))
    return np.asarray(code.sketch(sketch, J.T))


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Decide the failure rate of each kind, then the two claims about all kinds, then that about factor pairs."""
    by_kind = {kind: [result for inputs, result in results if inputs["kind"] == kind] for kind in KINDS}
    findings = [_decide_rate(kind, blocks) for kind, blocks in by_kind.items()]
    pairs = {kind: [result for inputs, result in results if inputs.get("sketch") == kind] for kind in RANK_ONE}
    return [*findings, _decide_short(by_kind), _decide_unbiased(by_kind), _decide_rank_one(pairs)]


def _pool(blocks: list[Result], name: str) -> FloatArray:
    return np.array([value for block in blocks for value in block[name]])


def _rate(blocks: list[Result], name: str, confidence: float) -> Interval:
    # A distortion that is not a number is a failure to embed.
    distortions = _pool(blocks, name)
    return proportion_interval(
        int(np.sum(~(distortions <= EPSILON))), len(distortions), confidence=confidence
    )


def _domain(kinds: Sequence[str], trials: int) -> str:
    widths = ", ".join(f"{kind} m={WIDTHS[kind]} s={theoretical_size(kind)}" for kind in kinds)
    return (
        f"n={POINTS}, d={DIM}, alpha={ALPHA}, Gaussian weights, families {' and '.join(FAMILIES)}; {widths}; "
        f"{trials} independent trials each"
    )


def _decide_rate(kind: str, blocks: list[Result]) -> Finding:
    interval = _rate(blocks, "distortion", 1 - ERROR_RATE)
    distortions = _pool(blocks, "distortion")
    return make_finding(
        f"embedding.{kind}",
        interval,
        decide_below(interval, FAILURE),
        margin=f"failure rate <= {FAILURE}",
        domain=_domain([kind], len(distortions)),
        reason=f"the largest distortion was {distortions.max():.3f}, the median {np.median(distortions):.3f}",
    )


def _decide_short(by_kind: dict[str, list[Result]]) -> Finding:
    intervals = {
        kind: _rate(blocks, "short_distortion", 1 - ERROR_RATE / len(KINDS))
        for kind, blocks in by_kind.items()
    }
    weakest = min(intervals, key=lambda kind: intervals[kind].estimate)
    return make_finding(
        "embedding.short",
        intervals[weakest],
        joint_verdict([decide_above(interval, SHORT_RATE) for interval in intervals.values()]),
        margin=f"failure rate >= {SHORT_RATE} for every kind",
        domain=_domain(list(KINDS), len(_pool(by_kind[weakest], "short_distortion"))) + f"; s={POINTS} here",
        reason=f"the {KINDS[weakest][0]} failed least often",
    )


def _decide_unbiased(by_kind: dict[str, list[Result]]) -> Finding:
    intervals = {
        kind: t_interval(_pool(blocks, "mean"), confidence=1 - ERROR_RATE / len(KINDS))
        for kind, blocks in by_kind.items()
    }
    worst = max(intervals, key=lambda kind: abs(intervals[kind].estimate - 1))
    low, high = 1 - UNBIASED_MARGIN, 1 + UNBIASED_MARGIN
    return make_finding(
        "embedding.unbiased",
        intervals[worst],
        joint_verdict([decide_inside(interval, low, high) for interval in intervals.values()]),
        margin=f"within +-{UNBIASED_MARGIN} of 1 for every kind",
        domain=_domain(list(KINDS), len(_pool(by_kind[worst], "mean"))),
        reason=f"the {KINDS[worst][0]} was farthest from 1",
    )


def _decide_rank_one(by_kind: dict[str, list[Result]]) -> Finding:
    intervals = {
        kind: _rate(blocks, "distortion", 1 - ERROR_RATE / len(RANK_ONE)) for kind, blocks in by_kind.items()
    }
    worst = max(intervals, key=lambda kind: intervals[kind].estimate)
    largest = {kind: _pool(blocks, "distortion").max() for kind, blocks in by_kind.items()}
    m = RANK_ONE_WIDTH
    sizes = ", ".join(f"{KINDS[kind][0]} s={theoretical_size(kind, m, m)}" for kind in RANK_ONE)
    return make_finding(
        "embedding.rank_one",
        intervals[worst],
        joint_verdict([decide_below(interval, FAILURE) for interval in intervals.values()]),
        margin=f"failure rate <= {FAILURE} for both",
        domain=(
            f"n={POINTS}, d={DIM}, m={m}, top layer of a normalized network of depth 2, {FIRED:.0%} of the neurons "
            f"fire, families {' and '.join(FAMILIES)}; {sizes}; "
            f"{len(_pool(by_kind[worst], 'distortion'))} independent trials each"
        ),
        reason="the largest distortions were "
        + " and ".join(f"{largest[kind]:.3f} ({KINDS[kind][0]})" for kind in RANK_ONE),
    )


def joint_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine verdicts on the parts of a claim: it holds when all do, and fails when one does."""
    severity: tuple[Verdict, ...] = ("holds", "undecided", "fails", "invalid")
    return max(verdicts, key=severity.index)


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw each trial's distortion against epsilon, one column per kind."""
    axes = figure.subplots()
    for column, kind in enumerate(KINDS):
        values = _pool([result for inputs, result in results if inputs["kind"] == kind], "distortion")
        spread = np.linspace(-0.3, 0.3, len(values))
        axes.plot(column + spread, values, ".", markersize=3)
    axes.axhline(EPSILON, color="black", linewidth=1, label="epsilon")
    axes.set_xticks(range(len(KINDS)), [f"{kind}\ns={theoretical_size(kind)}" for kind in KINDS])
    axes.set_ylabel("distortion of squared lengths")
    axes.set_ylim(bottom=0)
    axes.legend()


def _rate_claim(kind: str) -> Claim:
    name, source = KINDS[kind]
    statement = (
        f"At its theoretical size, the {name} distorts the squared length of some vector in J's row space "
        f"by more than {EPSILON:.0%} in at most {FAILURE:.0%} of draws."
    )
    return Claim(f"embedding.{kind}", statement, source)


EXPERIMENT = Experiment(
    name="embedding",
    title="Sketches embed the row space of Jacobians",
    claims=(
        *(_rate_claim(kind) for kind in KINDS),
        Claim(
            "embedding.short",
            f"With only n rows, every sketch fails to embed (distortion above {EPSILON:.0%}) in at least "
            f"{SHORT_RATE:.0%} of draws.",
            "ours",
        ),
        Claim(
            "embedding.unbiased",
            "Every sketch keeps squared lengths right on average.",
            "[A], Definition 2.1, and the sources of the sketches",
        ),
        Claim(
            "embedding.rank_one",
            "Applied to sparse factors, at their theoretical sizes, TensorSketch and TensorSRHT each distort the "
            f"squared length of some vector in the span of the rows p_i (x) h_i of a multi-layer network by more "
            f"than {EPSILON:.0%} in at most {FAILURE:.0%} of draws.",
            "[B], abstract; Ahle et al. 2020, sizes: ours",
        ),
    ),
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
