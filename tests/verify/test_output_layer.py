"""The claims on training both layers: the law, the judge, verdicts on measured cells, and planted faults."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.stats import norm

import reference.output_layer
from fast.output_layer import JointRun
from fast.two_layer import BLOCK_ENTRIES
from reference.notation import NothingFiresError
from reference.output_layer import JointNetwork
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify import closed_forms, problems, seeds
from verify.claims import output_layer
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.output_layer import FAULTS

Results = list[tuple[Inputs, Result]]

ALL = tuple(claim.id for claim in output_layer.CLAIMS)
PART_OF = {"first_ratio": "halving"} | dict.fromkeys(("exact", "width", "rest", "witness"), "cost")
"""Claims that are decided from the cells of another's name."""


def measured(code: CodeUnderTest, claims: Iterable[str]) -> Results:
    """Measure the first seed of the cells that some claims are decided from."""
    names = {claim.split(".")[1] for claim in claims}
    parts, results = {PART_OF.get(name, name) for name in names}, []
    for inputs in output_layer.cells(Profile()):
        if inputs["seed"] == 0 and inputs["part"] in parts:
            rng = seeds.generator(0, "output_layer", inputs)
            result = json.loads(json.dumps(output_layer.measure(inputs, rng, code), allow_nan=False))
            results.append((inputs, result))
    return results


def verdicts(own: Results, others: Sequence[tuple[Inputs, Result]] = ()) -> dict[str, str]:
    """Decide with measured results in the place of those of all seeds; those of ``others`` where there are none."""

    def key(inputs: Inputs) -> str:
        return json.dumps({**inputs, "seed": 0}, sort_keys=True)

    known = {key(inputs): result for inputs, result in [*others, *own]}
    findings = output_layer.decide([(inputs, known[key(inputs)]) for inputs in output_layer.cells(Profile())])
    assert [finding.claim for finding in findings] == [claim.id for claim in output_layer.CLAIMS]
    return {finding.claim: finding.verdict for finding in findings}


@pytest.fixture(scope="module")
def sound() -> Results:
    return measured(CodeUnderTest(), ALL)


def test_the_true_code_end_to_end(sound: Results) -> None:
    assert set(verdicts(sound).values()) == {"holds"}
    figure = Figure()
    output_layer.plot(figure, sound)
    figure.canvas.draw()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(sound: Results, fault: Fault) -> None:
    found = verdicts(measured(fault.code, fault.caught_by), sound)
    assert {claim: found[claim] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault_that_fails_it() -> None:
    failed = {claim for fault in FAULTS for claim, verdict in fault.caught_by.items() if verdict == "fails"}
    assert failed == set(ALL)


def altered(sound: Results, part: str, change: Callable[[Result], object]) -> Results:
    """Copy the results and change those of one part."""
    results = copy.deepcopy(sound)
    for inputs, result in results:
        if inputs["part"] == part:
            change(result)
    return results


@pytest.mark.parametrize(
    ("part", "change", "expected"),
    [
        ("equality", lambda r: r["errors"].update({"output weights": 1.5}), {"equality": "fails"}),
        ("equality", lambda r: r.update(trained=False), {"equality": "invalid"}),
        ("halving", lambda r: r.update(failure="SingularGramError"), {"halving": "fails"}),
        ("halving", lambda r: r["residuals"].pop(), {"halving": "fails"}),
        ("halving", lambda r: r.update(residuals=r["residuals"][:1]), {"halving": "fails", "first_ratio": "invalid"}),
        ("iterations", lambda r: r.update(alone=r["alone"][:3]), {"iterations": "invalid"}),
        ("iterations", lambda r: r["residuals"].pop(), {"iterations": "fails"}),
        ("law", lambda r: r.update(residuals=r["residuals"][:1]), {"law": "invalid"}),
        ("law", lambda r: r.update(predicted=1.1 * r["predicted"]), {"law": "fails"}),
        ("climbs", lambda r: r.update(residuals=r["residuals"][:1]), {"climbs": "invalid"}),
        ("climbs", lambda r: r.update(residuals=[1.0, 1.5]), {"climbs": "fails"}),
        ("cost", lambda r: r["equal"][2].update(step=[4, 5]), {"exact": "fails"}),
        ("cost", lambda r: r["least"][2].update(look=[4, 5]), {"exact": "fails"}),
        ("cost", lambda r: r["least"][2].update(look=[6, 5]), {}),
        ("cost", lambda r: r.update(counts=r["counts"][:1]), {"exact": "fails", "rest": "invalid"}),
    ],
)
def test_verdicts_follow_what_was_measured(
    sound: Results, part: str, change: Callable[[Result], object], expected: dict[str, str]
) -> None:
    changed = {f"output_layer.{name}": verdict for name, verdict in expected.items()}
    assert verdicts(altered(sound, part, change)) == dict.fromkeys(ALL, "holds") | changed


def test_a_run_that_stops_is_no_evidence_of_anything_good() -> None:
    class Stops(JointRun):
        def iterate(self) -> None:
            raise NothingFiresError("nothing fires")

    found = verdicts(measured(replace(CodeUnderTest(), start_joint=Stops), ALL))
    assert set(found.values()) == {"fails", "invalid", "holds"}
    # Nothing that never iterates can touch what it must not read.
    assert [claim for claim, verdict in found.items() if verdict == "holds"] == ["output_layer.witness"]


# The law


@given(st.floats(0.0, 30.0), st.floats(-1.0, 5.0))
def test_what_is_missed_is_the_integral(t: float, b: float) -> None:
    exact, _ = quad(lambda s: (1 - t * s) * (t - s) * norm.pdf(b + s), 0, min(t, 12.0), epsabs=1e-12, limit=200)
    mine = float(output_layer.missed_by_both(np.array(t), b))
    assert mine == pytest.approx(exact, rel=1e-6, abs=1e-9)


def test_the_law_of_one_point_by_simulation() -> None:
    """Half of a million neurons of each sign on a single point: step by the definition, compare what is left."""
    m, b, y = 10**6, 1.5, 1.0
    # Quantiles in the place of a random draw, the same for both signs, so that f = 0.
    scores = norm.ppf((np.arange(m // 2) + 0.5) / (m // 2))
    weights = np.concatenate([scores, scores])[:, np.newaxis]
    signs = np.repeat([1.0, -1.0], m // 2)
    for size in (y, 100.0, 400.0):
        network = TwoLayerNetwork(weights, signs, b)
        problem = problems.Problem(np.array([[1.0]]), np.array([size]), np.array([[1.0]]))
        before = abs(float(network.predict(problem.X)[0]) - size)
        run = JointRun(network, problem.X, problem.y)
        run.iterate()
        law = output_layer.predicted_first_ratio(network, problem)
        assert run.residual_norms[1] / before == pytest.approx(law, rel=2e-2)


# The judge


def test_the_dense_run_is_the_reference_run() -> None:
    rng = np.random.default_rng(5)
    problem = problems.make("pairs", 8, 6, rng)
    network = initialize(1000, 6, shift=0.9, rng=rng)
    dense = output_layer.DenseRun(network, problem)
    for _ in range(3):
        dense.iterate()
    expected = reference.output_layer.train(network, problem.X, problem.y, iterations=3).network
    np.testing.assert_allclose(dense.weights, expected.weights, atol=1e-11)
    np.testing.assert_allclose(dense.outputs, expected.output_weights, atol=1e-11)
    np.testing.assert_allclose(dense.excess, problem.X @ expected.weights.T - 0.9, atol=1e-11)
    assert (dense.fires <= dense.ever).all()


def test_the_work_of_the_gram_matrix_by_hand() -> None:
    # Three points; neurons that fire on two, one and none of them: twice 4 + 1, and twice 9 entries.
    fires = np.array([[True, False, False], [True, True, False], [False, False, False]])
    assert closed_forms.joint_gram_work(fires) == 2 * 5 + 2 * 9


def test_poison_is_noticed() -> None:
    rng = np.random.default_rng(0)
    problem = problems.make("random", 4, 6, rng)
    network = initialize(2000, 6, shift=shift_for(2000, 0.24), rng=rng)

    class ReadsOutputs(JointRun):
        def iterate(self) -> None:
            super().iterate()
            self.residual = self.residual + 0 * self.initial_outputs.sum()

    def honest_and_judge(kind: type[JointRun]) -> tuple[Any, Any]:
        run, dense = kind(network, problem.X, problem.y), output_layer.DenseRun(network, problem)
        for _ in range(2):
            run.iterate()
            dense.iterate()
        return run, dense

    for kind, ignored in ((JointRun, True), (ReadsOutputs, False)):
        run, dense = honest_and_judge(kind)
        code = replace(CodeUnderTest(), start_joint=kind)
        assert output_layer.ignores_poison(run, network, problem, dense, code) is ignored


def test_the_gram_matrix_of_many_fired_pairs_takes_two_blocks_of_blas() -> None:
    cell = {"part": "equality", **output_layer.BLOCKS, "seed": 0}
    rng = seeds.generator(0, "output_layer", cell)
    problem = problems.make(cell["family"], cell["n"], cell["d"], rng)
    network = initialize(cell["width"], cell["d"], shift=0.0, rng=rng)
    watched = JointRun(network, problem.X, problem.y).watched
    watched.gram()
    fires = (problem.X @ network.weights.T >= 0).any(axis=0)
    n = len(problem.X)
    assert watched.work["gram"] == 2 * n * n * (np.count_nonzero(fires) + 1)
    assert np.count_nonzero(fires) * n > BLOCK_ENTRIES


def test_resumed_runs_and_those_after_the_first_layer_are_compared() -> None:
    for outputs, ways in ((None, ("resumed run", "first layer alone")), ("gaussian", ("resumed run",))):
        (cell,) = (c for c in output_layer.EQUALITY if c["n"] == 12 and c.get("outputs") == outputs)
        cell = {"part": "equality", **cell, "seed": 0}
        errors = output_layer.measure(cell, np.random.default_rng(0), CodeUnderTest())["errors"]
        assert len(errors) == 5 * (1 + len(ways))
        assert all(sum(way in name for name in errors) == 5 for way in ways)
        assert max(errors.values()) <= 1


def test_differing_output_weights_are_seen() -> None:
    rng = np.random.default_rng(0)
    problem = problems.make("random", 4, 6, rng)
    network = initialize(500, 6, shift=0.5, rng=rng)

    def train(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        trace = reference.output_layer.train(*args, **options)
        outputs = trace.network.output_weights * (1 + 1e-5)
        return replace(trace, network=JointNetwork(trace.network.weights, outputs, network.shift))

    errors = output_layer.compare(network, problem, replace(CodeUnderTest(), joint_reference_train=train))["errors"]
    assert errors["output weights"] == pytest.approx(100, rel=0.01)
    assert errors["dense weights"] < 1e-3


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = output_layer.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in output_layer.cells(Profile(thorough=True)) for cell in cells)
    assert math.log2(max(cell["width"] for cell in cells if cell["part"] == "cost")) == (20 if thorough else 16)
