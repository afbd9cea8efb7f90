"""The embedding claims hold for the project's sketches, and fail for sketches with a planted fault."""

import json
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import sparse

from fast import sketch as fast_sketch
from reference.notation import FloatArray
from reference.sketch import TensorSketchDraw, TensorSRHTDraw
from reference.two_layer import initialize
from verify import seeds
from verify.claims import embedding
from verify.experiment import Profile, Result, Verdict
from verify.faults.embedding import FAULTS
from verify.faults.fault import Fault

HONEST = {
    "sketch": fast_sketch.apply,
    "sketch_jacobian": fast_sketch.sketch_jacobian,
    "sketch_tensors": fast_sketch.sketch_tensors,
    "initialize": initialize,
}
IDS = [claim.id for claim in embedding.EXPERIMENT.claims]
ROUTINE = {"tensor": "sketch_jacobian", "rank_one": "sketch_tensors"}
"""What sketches in cells of a kind; `sketch` in all others."""


@cache
def measured(text: str, routine: Callable[..., object]) -> Result:
    """Measure one cell, once for each routine."""
    inputs = json.loads(text)
    code = SimpleNamespace(**{**HONEST, ROUTINE.get(inputs["kind"], "sketch"): routine})
    return embedding.measure(inputs, seeds.generator(0, "embedding", inputs), code)


def verdicts(blocks: int = 2, **faults: Callable[..., object]) -> dict[str, Verdict]:
    """Run the first blocks of each kind, enough trials to decide, and return the verdict on each claim."""
    routines = {**HONEST, **faults}
    results = [
        (inputs, measured(json.dumps(inputs), routines[ROUTINE.get(inputs["kind"], "sketch")]))
        for inputs in embedding.cells(Profile())
        if inputs["seed"] < blocks
    ]
    findings = embedding.decide(results)
    assert [finding.claim for finding in findings] == IDS
    return {finding.claim: finding.verdict for finding in findings}


def test_every_claim_holds() -> None:
    assert set(verdicts(blocks=3).values()) == {"holds"}


def test_too_few_trials_decide_nothing() -> None:
    assert verdicts(blocks=1)["embedding.srht"] == "undecided"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_fail_the_claims_meant_for_them(fault: Fault) -> None:
    found = verdicts(**fault.routines)
    assert {claim: found[claim] for claim in fault.caught_by} == fault.caught_by
    if fault.id == "biased-sketch":
        assert found["embedding.tensor"] == "holds", "so small a bias is seen in the mean alone"


def one_kind_scaled(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> FloatArray:
    return (1.4 if isinstance(draw, TensorSRHTDraw) else 1.0) * fast_sketch.sketch_tensors(draw, left, right)


def test_a_fault_in_one_kind_of_sketch_of_factor_pairs_is_caught() -> None:
    found = verdicts(sketch_tensors=one_kind_scaled)
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
