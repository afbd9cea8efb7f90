"""The cost claims: verdicts on planted counters, hidden scans and opponents, on a small grid."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.baselines
import fast.gauss_newton
from fast.gauss_newton import TreeRun
from fast.jacobian import FiredJacobian
from fast.two_layer import FiredPairs
from reference.gauss_newton import train as reference_train
from reference.notation import FloatArray, IntArray, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize, preactivations
from verify import problems, seeds
from verify.claims import cost
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults import loops
from verify.faults.cost import HiddenScan, modest_dense

Results = list[tuple[Inputs, Result]]
Train = Callable[..., Trace]
Counts = dict[str, int]
Option = int | float | str
SMALL = {
    "width": [{"width": 1 << exponent, "n": 4, "d": 8} for exponent in (11, 12, 13, 14, 15, 16)],
    "n": [{"width": 1 << 13, "n": n, "d": 16} for n in (4, 8, 16)],
    "d": [{"width": 1 << 12, "n": 8, "d": d} for d in (8, 32, 128)],
    "all": [{"width": 1 << 14, "n": 2, "d": 128}, {"width": 1 << 13, "n": 32, "d": 4}],
}


@pytest.fixture(scope="module", autouse=True)
def small_grid() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "SWEEPS", SMALL)
        patch.setattr(cost, "SEEDS", 5)
        yield


def measured(code: CodeUnderTest, cells: list[Inputs]) -> Results:
    results = [(cell, cost.measure(cell, seeds.generator(0, "cost", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


@pytest.fixture(scope="module")
def sound(small_grid: None) -> Results:
    return measured(CodeUnderTest(), cost.cells(Profile()))


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in cost.EXPERIMENT.decide(results)}


def test_the_true_code_holds_and_draws(sound: Results) -> None:
    findings = cost.EXPERIMENT.decide(sound)
    assert [finding.claim for finding in findings] == [claim.id for claim in cost.CLAIMS]
    assert {finding.claim: finding.verdict for finding in findings if finding.verdict != "holds"} == {}
    figure = Figure()
    cost.plot(figure, sound)
    figure.canvas.draw()


def altered(
    results: Results, change: Callable[[Counts, Inputs], None], *, which: str = "counts", expected: bool = False
) -> Results:
    """Change the counters of every iteration; with ``expected`` their closed forms alike."""
    results = copy.deepcopy(results)
    for inputs, result in results:
        for counts in result[which] + (result["expected"] if expected else []):
            change(counts, inputs)
    return results


def volume(inputs: Inputs) -> int:
    return int(inputs["width"] * inputs["n"] * inputs["d"])


def multiply(phase: str, factor: Callable[[Inputs], float]) -> Callable[[Counts, Inputs], None]:
    def change(counts: Counts, inputs: Inputs) -> None:
        counts[phase] = int(counts[phase] * factor(inputs))

    return change


def scan(share: float) -> Callable[[Counts, Inputs], None]:
    def change(counts: Counts, inputs: Inputs) -> None:
        counts["query"] += int(share * volume(inputs))

    return change


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        pytest.param(multiply("step", lambda i: (i["width"] / 2**14) ** 0.3), ["width"], id="faster-in-m"),
        pytest.param(multiply("gram", lambda i: i["n"]), ["points"], id="n^3"),
        pytest.param(multiply("update", lambda i: i["d"]), ["inputs"], id="factor-d"),
        pytest.param(scan(0.03), ["width", "forbidden"], id="scan-of-3%"),
    ],
)
def test_work_that_its_own_closed_form_admits_fails_by_its_growth(
    sound: Results, change: Callable[[Counts, Inputs], None], caught: list[str]
) -> None:
    found = verdicts(altered(sound, change, expected=True))
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)
    assert (found["exact"], found["dense"], found["witness"]) == ("holds", "holds", "holds")


@pytest.mark.parametrize("phase", ["gram", "solve", "step", "update", "query", "active_pairs", "predict"])
def test_a_halved_counter_fails_exact(sound: Results, phase: str) -> None:
    assert verdicts(altered(sound, multiply(phase, lambda i: 0.5)))["exact"] == "fails"


@pytest.mark.parametrize("phase", cost.PHASES)
def test_a_phase_that_counts_nothing_has_no_exponent(sound: Results, phase: str) -> None:
    found = verdicts(altered(sound, multiply(phase, lambda i: 0)))
    assert [found[claim] for claim in ("exact", "width", "points", "inputs")] == ["fails"] + ["invalid"] * 3


def test_a_phase_that_no_closed_form_knows_fails_exact(sound: Results) -> None:
    assert verdicts(altered(sound, lambda counts, inputs: counts.update(rest=1)))["exact"] == "fails"


def test_no_work_at_all_is_no_evidence_on_terms(sound: Results) -> None:
    results = altered(sound, lambda counts, inputs: None)
    for _, result in results:
        result["counts"] = []
    found = verdicts(results)
    assert (found["exact"], found["width"], found["forbidden"]) == ("fails", "invalid", "invalid")
    cost.plot(Figure(), results)


def test_seeds_that_disagree_leave_an_exponent_undecided(sound: Results) -> None:
    tilted = altered(sound, multiply("step", lambda i: (i["width"] / 2**9) ** (0.3 * (-1) ** i["seed"])), expected=True)
    assert verdicts(tilted)["width"] == "undecided"


def test_growth_does_not_hide_behind_noise(sound: Results) -> None:
    grown = altered(sound, multiply("step", lambda i: (i["width"] / 2**9) ** 0.3), expected=True)
    noisy = altered(grown, multiply("gram", lambda i: (i["width"] / 2**14) ** (0.7 * (-1) ** i["seed"])), expected=True)
    assert verdicts(noisy)["width"] == "fails"


def test_noise_beyond_the_margin_leaves_the_forbidden_term_undecided(sound: Results) -> None:
    noisy = altered(sound, multiply("update", lambda i: 3.0 if (i["seed"] + i["d"]) % 2 else 0.3), expected=True)
    assert verdicts(noisy)["forbidden"] == "undecided"


def test_a_noticed_poison_withdraws_what_rests_on_counts(sound: Results) -> None:
    noticed = copy.deepcopy(sound)
    noticed[3][1]["witness"] = False
    found = verdicts(noticed)
    assert found["witness"] == "fails"
    assert [found[claim.split(".")[1]] for claim in cost.RELY_ON_COUNTS] == ["invalid"] * 4
    assert (found["exact"], found["dense"]) == ("holds", "holds")
    # What fails by its own counters does not need the witness.
    assert verdicts(altered(noticed, scan(0.1), expected=True))["forbidden"] == "fails"


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "fails"), (0.52, "undecided"), (2.0, "holds")])
def test_the_dense_loop_must_be_convicted(sound: Results, share: float, verdict: str) -> None:
    def change(counts: Counts, inputs: Inputs) -> None:
        # Near the margin seeds disagree about how much they owe.
        counts["scan"] = int(counts["scan"] * (share + (0.2 * (-1) ** inputs["seed"] if share == 0.52 else 0)))

    assert verdicts(altered(sound, change, which="dense"))["dense"] == verdict


ONE: list[Inputs] = [{"sweep": "width", "width": 1 << 12, "n": 3, "d": 8, "seed": 0}]


def caught_by(sound: Results, code: CodeUnderTest) -> dict[str, str]:
    """Measure one cell with other code, put it in the place of a sound one, and decide."""
    (_, result), *_ = measured(code, [sound[0][0]])
    return verdicts([(sound[0][0], result), *sound[1:]])


def trained(run: type[TreeRun]) -> Train:
    return partial(loops.train, tree=run)


class HalvedUpdates(TreeRun):
    def _take(self, trial: tuple[FloatArray, FloatArray]) -> None:
        super()._take(trial)
        self._phases["update"] //= 2


class ScansWeights(TreeRun):
    """Reads every weight in every iteration, and reports the counts of a search."""

    def _look(self) -> None:
        super()._look()
        scores = self.X @ self.coefficients.network(self.initial, self.X).to_dense().weights.T
        self._believe(*np.nonzero(scores >= self.initial.shift))

    def _believe(self, data_index: IntArray, neuron_index: IntArray) -> None:
        """Go on with these pairs, as the search itself would."""
        self.fired = FiredPairs(data_index, neuron_index, self.forest.n, self.forest.width)
        self.jacobian = FiredJacobian(self.X, self.fired, self.initial.signs[neuron_index])


class ReadsWeights(ScansWeights):
    """Does it without the checks of a network, so that no error gives it away."""

    def _look(self) -> None:
        TreeRun._look(self)
        self.residual = self.residual + 1e-300 * float(np.abs(self.initial.weights).sum() > 1e300)
        self.residual = self.residual + float(np.isinf(self.initial.weights).any())


class ScansLeaves(ScansWeights):
    def _look(self) -> None:
        TreeRun._look(self)
        leaves = self.forest.levels[0].reshape(self.forest.n, -1)[:, : self.forest.width]
        self._believe(*np.nonzero(leaves >= self.initial.shift))


class ScansMaxima(ScansWeights):
    """Reads every maximum of 16 scores, then only the leaves below those that reach the shift."""

    def _look(self) -> None:
        TreeRun._look(self)
        i, v = np.nonzero(self.forest.levels[1].reshape(self.forest.n, -1) >= self.initial.shift)
        at, place = np.nonzero(self.forest.levels[0][i, v] >= self.initial.shift)
        self._believe(i[at], 16 * v[at] + place)


@pytest.mark.parametrize("run", [ScansWeights, ReadsWeights, ScansLeaves, HiddenScan])
def test_a_hidden_scan_is_caught_by_the_witness_alone(sound: Results, run: type[TreeRun]) -> None:
    found = caught_by(sound, CodeUnderTest(train=trained(run), start=run))
    assert found["witness"] == "fails"
    assert found["exact"] == "holds"
    assert found["forbidden"] == "invalid"


def test_a_hidden_scan_of_maxima_is_caught_where_some_of_them_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "ALPHA", 0.5)
    cell = {**ONE[0], "width": 1 << 14, "n": 2}
    for run, ignored in ((TreeRun, True), (ScansMaxima, False)):
        (_, result), *_ = measured(CodeUnderTest(train=trained(run), start=run), [cell])
        assert result["witness"] == ignored


def test_a_halved_counter_in_the_loop_fails_exact(sound: Results) -> None:
    found = caught_by(sound, CodeUnderTest(train=trained(HalvedUpdates), start=HalvedUpdates))
    assert (found["exact"], found["witness"]) == ("fails", "holds")


def dense_loop(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, search: str) -> Trace:
    return fast.baselines.train_dense(network, X, y, iterations=iterations)


def test_dense_in_the_place_of_the_tree_path_and_modest_in_the_place_of_dense_both_fail() -> None:
    found = verdicts(measured(CodeUnderTest(train=dense_loop, train_dense=modest_dense), cost.cells(Profile())))
    assert [found[claim] for claim in ("exact", "forbidden", "witness")] == ["fails"] * 3
    assert "holds" not in {found[claim] for claim in ("width", "points", "inputs")}
    assert found["dense"] == "fails"


@pytest.mark.parametrize("extra", [-1, 1])
def test_another_number_of_iterations_fails_exact(sound: Results, extra: int) -> None:
    def train(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, search: str) -> Trace:
        return fast.gauss_newton.train(network, X, y, iterations=iterations + extra)

    assert caught_by(sound, CodeUnderTest(train=train))["exact"] == "fails"


class ShortStep(TreeRun):
    def _try(self, g: FloatArray) -> tuple[FloatArray, FloatArray]:
        return super()._try(0.5 * g)


def test_a_run_that_goes_elsewhere_fails_exact(sound: Results) -> None:
    assert caught_by(sound, CodeUnderTest(train=trained(ShortStep), start=ShortStep))["exact"] == "fails"


def test_a_run_that_stops_with_an_error_leaves_its_cell_without_a_result() -> None:
    def train(*args: object, **options: object) -> Trace:
        raise SingularGramError("G is singular")

    # The runner turns this into "invalid" for every claim of the experiment.
    with pytest.raises(SingularGramError, match="G is singular"):
        measured(CodeUnderTest(train=train), ONE)


def test_the_expected_step_is_the_reference_step() -> None:
    rng = np.random.default_rng(3)
    problem = problems.make("pairs", 6, 5, rng)
    network = initialize(500, 5, shift=0.8, rng=rng)
    scores = preactivations(network, problem.X)
    moved = np.flatnonzero((scores >= 0.8).any(axis=0))
    weights = network.weights.copy()
    weights[moved] -= cost.step_of(moved, scores, network, problem)
    expected = reference_train(network, problem.X, problem.y, iterations=1).network.weights
    np.testing.assert_allclose(weights, expected, atol=1e-12)


@pytest.mark.parametrize("width", [2**11, 2**20])
def test_laws_by_their_formulas(width: int) -> None:
    b = math.sqrt(0.48 * math.log(width))
    fired = width * math.erfc(b / math.sqrt(2)) / 2
    assert cost.fired_law(width) == pytest.approx(fired, rel=1e-12)
    assert cost.phase_law("step", width) == pytest.approx(fired, rel=1e-12)
    assert cost.phase_law("query", width) == pytest.approx(fired * math.log(width), rel=1e-12)


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = cost.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in cost.cells(Profile(thorough=True)) for cell in cells)
