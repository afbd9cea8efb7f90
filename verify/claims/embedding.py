"""Whether the sketches embed the row space of the Jacobian, at the sizes that their proofs give.

One trial: fresh inputs, weights and draw; ``J`` is written out, and ``Q`` is an orthonormal basis of its row
space. The distortion is the largest ``|eigenvalue - 1|`` of ``(S Q)^T (S Q)``. [A], Definition 2.1 asks that
it exceed epsilon in at most a fraction ``FAILURE`` of all trials. Trials are independent, so the rate has a
Clopper-Pearson interval.

The sizes come from second moments or matrix Chernoff bounds and are safe rather than sharp, so a rate far
below ``FAILURE`` is expected. Two more claims keep the test from being empty: with ``n`` rows every sketch
fails, and the mean of ``trace((S Q)^T (S Q)) / n`` is 1, which a sketch scaled or signed wrongly would miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
    gaussian_size,
    sparse_embedding_size,
    srht_size,
    tensor_sketch_size,
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
WIDTHS = {"gaussian": 128, "srht": 2048, "sparse": 2048, "tensor": 2048}
"""Gaussian sketches are dense, hence the smaller width."""
GAMMA = 2
EPSILON, FAILURE = 0.5, 0.1
FAMILIES = ("random", "clash")
TRIALS_PER_CELL = 20
CELLS = {False: 8, True: 60}
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
}


def cells(profile: Profile) -> list[Inputs]:
    """List blocks of trials: every kind, alternating families."""
    return [
        {"kind": kind, "family": FAMILIES[block % len(FAMILIES)], "seed": block}
        for kind in KINDS
        for block in range(CELLS[profile.thorough])
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run one block of trials; returns distortions at full and at short size, and mean eigenvalues."""
    result: Result = {"distortion": [], "mean": [], "short_distortion": []}
    kind, width = inputs["kind"], WIDTHS[inputs["kind"]]
    for _ in range(TRIALS_PER_CELL):
        X = make(inputs["family"], POINTS, DIM, rng).X
        network = code.initialize(width, DIM, shift=shift_for(width, ALPHA), rng=rng)
        J = jacobian(network, X)
        triangle = np.asarray(np.linalg.qr(J.T, mode="r"))
        for size, name in ((theoretical_size(kind), "distortion"), (POINTS, "short_distortion")):
            sketched = _sketch(kind, draw(kind, size, rng), network, X, J, code)
            basis = np.linalg.solve(triangle.T, sketched.T)
            eigenvalues = np.linalg.eigvalsh(basis @ basis.T)
            result[name].append(float(np.abs(eigenvalues - 1).max()))
            if name == "distortion":
                result["mean"].append(float(eigenvalues.mean()))
    return result


def theoretical_size(kind: str) -> int:
    """Return the rows at which the kind's proof gives (EPSILON, FAILURE)."""
    if kind == "gaussian":
        return gaussian_size(POINTS, EPSILON, FAILURE)
    if kind == "srht":
        return srht_size(POINTS, WIDTHS[kind] * DIM, EPSILON, FAILURE)
    if kind == "sparse":
        return sparse_embedding_size(POINTS, EPSILON, FAILURE, gamma=GAMMA)
    return tensor_sketch_size(POINTS, EPSILON, FAILURE)


def draw(kind: str, size: int, rng: np.random.Generator) -> Draw:
    """Draw a sketch of the kind."""
    dim = WIDTHS[kind] * DIM
    if kind == "gaussian":
        return draw_gaussian(size, dim, rng=rng)
    if kind == "srht":
        return draw_srht(size, dim, rng=rng)
    if kind == "sparse":
        return draw_sparse_embedding(size, dim, rng=rng, gamma=GAMMA)
    return draw_tensor_sketch(size, WIDTHS[kind], DIM, rng=rng)


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
    """Decide the failure rate of each kind, then the two claims about all kinds."""
    by_kind = {kind: [result for inputs, result in results if inputs["kind"] == kind] for kind in KINDS}
    findings = [_decide_rate(kind, blocks) for kind, blocks in by_kind.items()]
    return [*findings, _decide_short(by_kind), _decide_unbiased(by_kind)]


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
    title="Sketches embed the row space of the Jacobian",
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
    ),
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
