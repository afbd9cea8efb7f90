"""The embedding claims hold for the project's sketches, and fail for sketches with a planted fault."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import sparse

from fast import sketch as fast_sketch
from fast.jacobian import FiredJacobian
from reference.notation import FloatArray
from reference.sketch import TensorSketchDraw, TensorSRHTDraw
from reference.two_layer import initialize
from verify import seeds
from verify.claims import embedding
from verify.experiment import Profile, Verdict

HONEST = {
    "sketch": fast_sketch.apply,
    "sketch_jacobian": fast_sketch.sketch_jacobian,
    "sketch_tensors": fast_sketch.sketch_tensors,
    "initialize": initialize,
}
IDS = [claim.id for claim in embedding.EXPERIMENT.claims]


def verdicts(blocks: int = 2, **faults: Callable[..., object]) -> dict[str, Verdict]:
    """Run the first blocks of each kind, enough trials to decide, and return the verdict on each claim."""
    code = SimpleNamespace(**{**HONEST, **faults})
    results = []
    for inputs in embedding.cells(Profile()):
        if inputs["seed"] < blocks:
            rng = seeds.generator(0, "embedding", inputs)
            results.append((inputs, embedding.measure(inputs, rng, code)))
    findings = embedding.decide(results)
    assert [finding.claim for finding in findings] == IDS
    return {finding.claim: finding.verdict for finding in findings}


def test_every_claim_holds() -> None:
    assert set(verdicts(blocks=3).values()) == {"holds"}


def test_too_few_trials_decide_nothing() -> None:
    assert verdicts(blocks=1)["embedding.srht"] == "undecided"


def test_a_sketch_scaled_wrongly_is_caught() -> None:
    found = verdicts(
        sketch=lambda draw, M: 1.4 * fast_sketch.apply(draw, M),
        sketch_jacobian=lambda draw, J: 0.6 * fast_sketch.sketch_jacobian(draw, J),
        sketch_tensors=lambda draw, left, right: 1.4 * fast_sketch.sketch_tensors(draw, left, right),
    )
    for kind in (*embedding.KINDS, "rank_one"):
        assert found[f"embedding.{kind}"] == "fails"
    assert found["embedding.unbiased"] == "fails"


def test_a_slightly_biased_sketch_is_caught_by_the_mean() -> None:
    found = verdicts(sketch_jacobian=lambda draw, J: 1.05 * fast_sketch.sketch_jacobian(draw, J))
    assert found["embedding.tensor"] == "holds"
    assert found["embedding.unbiased"] == "fails"


def test_lost_signs_are_caught() -> None:
    def without_signs(draw: TensorSketchDraw, J: FiredJacobian) -> FloatArray:
        draw = replace(draw, left_signs=np.abs(draw.left_signs), right_signs=np.abs(draw.right_signs))
        return fast_sketch.sketch_jacobian(replace(draw, left_rows=draw.left_rows % 8), J)

    assert verdicts(sketch_jacobian=without_signs)["embedding.tensor"] == "fails"


def few_rows(draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array) -> FloatArray:
    draw = replace(draw, left_rows=draw.left_rows % 8, right_rows=draw.right_rows % 8)
    return fast_sketch.sketch_tensors(draw, left, right)


def one_kind_scaled(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> FloatArray:
    return (1.4 if isinstance(draw, TensorSRHTDraw) else 1.0) * fast_sketch.sketch_tensors(draw, left, right)


@pytest.mark.parametrize("fault", [few_rows, one_kind_scaled])
def test_faults_in_the_sketch_of_factor_pairs_are_caught(fault: Callable[..., FloatArray]) -> None:
    found = verdicts(sketch_tensors=fault)
    assert found["embedding.rank_one"] == "fails"
    assert found["embedding.tensor"] == found["embedding.tensor_srht"] == "holds"


def test_rank_one_rows_are_as_stated() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    left, right = embedding.rank_one_factors(X, rng)
    for factor in (left, right):
        assert 0.02 * 2048 * 8 < factor.nnz < 0.04 * 2048 * 8
    assert (right.data > 0).all()
    assert {-1, 1} == set(np.sign(left.data))
    np.testing.assert_allclose((right**2).sum(axis=1), 1)


def test_a_distortion_that_is_not_a_number_counts_as_a_failure() -> None:
    results = []
    for inputs in embedding.cells(Profile()):
        values = [float("nan")] * 20
        results.append((inputs, {"distortion": values, "mean": values, "short_distortion": values}))
    found = {finding.claim: finding.verdict for finding in embedding.decide(results)}
    assert found["embedding.gaussian"] == "fails"
    assert found["embedding.unbiased"] == "invalid"


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "fails"], "fails"),
        (["fails", "invalid"], "invalid"),
    ],
)
def test_joint_verdict_is_the_most_severe(parts: list[Verdict], whole: Verdict) -> None:
    assert embedding.joint_verdict(parts) == whole


def test_plot_draws_every_kind() -> None:
    figure = Figure()
    results = [({"kind": kind, "seed": 0}, {"distortion": [0.1, 0.2]}) for kind in embedding.KINDS]
    embedding.plot(figure, results)
    assert len(figure.axes[0].get_xticks()) == len(embedding.KINDS)


def test_profiles_differ_in_cells_only() -> None:
    ordinary, thorough = (embedding.cells(Profile(flag)) for flag in (False, True))
    assert len(thorough) > len(ordinary)
    assert all(cell in thorough for cell in ordinary)
