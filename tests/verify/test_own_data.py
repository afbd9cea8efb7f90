from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.gauss_newton
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError, SingularGramError
from reference.trace import Trace
from verify import loading, own_data
from verify.experiment import CodeUnderTest, Finding, Result
from verify.problems import make

CODE = CodeUnderTest()


def prepared(*, family: str = "random", n: int = 24, d: int = 32, held_out: int = 6) -> loading.Prepared:
    problem = make(family, n, d, np.random.default_rng(1))
    steps = ("made by hand",)
    places = np.arange(2, n + 2)
    return loading.Prepared(problem.X, problem.y, problem.unseen[:held_out], "made.csv", places, "line", steps)


def run(
    given: loading.Prepared | None = None, *, code: CodeUnderTest = CODE, width: int = 2048, **options: object
) -> tuple[str, dict[str, Finding], Result]:
    given = prepared() if given is None else given
    text, findings, result = own_data.run(given, width=width, code=code, **options)
    assert [finding.claim for finding in findings] == [claim.id for claim in own_data.claims(result)]
    return text, {finding.claim.removeprefix("data."): finding for finding in findings}, result


@pytest.fixture(scope="module")
def healthy() -> tuple[str, dict[str, Finding], Result]:
    return run()


def test_a_healthy_file(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    text, findings, result = healthy
    assert {name: finding.verdict for name, finding in findings.items()} == dict.fromkeys(
        ("agreement", "halving", "safeguarded", "assumptions", "cost"), "holds"
    )
    assert result["base"] == "reference"
    assert set(result["agreement"]) == {"events", "tree", "sketch", "dense", "compacted"}
    assert result["runs"]["safeguarded"]["residuals"] == result["runs"]["events"]["residuals"]
    assert findings["agreement"].estimate is not None
    assert findings["agreement"].estimate < 1e-10
    assert "made by hand" in text
    assert "made.csv: n=24, d=32, m=2048, alpha=0.24" in findings["halving"].domain
    assert "beyond the width used" in own_data.claims(result)[3].statement
    assert "Safeguarded training gives the same residuals as the event path here." in text
    assert "keeps only what lowers" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_result_is_plain_and_enough_to_judge_and_tell(
    healthy: tuple[str, dict[str, Finding], Result],
) -> None:
    text, findings, result = healthy
    again = json.loads(json.dumps(result, allow_nan=False))
    assert own_data.decide(again) == list(findings.values())
    assert own_data.describe(again, own_data.decide(again)) == text


def test_geometry_matches_its_definitions(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    geometry = healthy[2]["geometry"]
    X = prepared().X
    distances = np.linalg.norm(X[:, None] - X, axis=2) + 9 * np.eye(len(X))
    opposite = np.linalg.norm(X[:, None] + X, axis=2) + 9 * np.eye(len(X))
    assert geometry["separation"] == pytest.approx(min(distances.min(), opposite.min()))
    asked = max(
        (24 / geometry["lambda_kernel"]) ** 4,
        (24 / geometry["lambda_kernel"]) ** 2 * 32 * np.log(16 * 24 / 0.05),
    )
    assert geometry["theorem_width"] == pytest.approx(asked)
    first, second = np.array(geometry["closest"]) - 2
    assert min(distances[first, second], opposite[first, second]) == pytest.approx(geometry["separation"])


def test_the_same_seed_gives_the_same_run(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    again, other = run()[2], run(seed=1)[2]
    assert again["runs"] == healthy[2]["runs"]
    assert other["runs"] != healthy[2]["runs"]


def test_clash_data_do_not_halve() -> None:
    text, findings, _ = run(prepared(family="clash", d=8), width=256)
    assert findings["halving"].verdict == "fails"
    assert findings["halving"].estimate is not None
    assert findings["halving"].estimate > 0.5
    assert findings["agreement"].verdict == "holds"
    assert findings["safeguarded"].verdict == "holds"
    assert "do not halve the residual" in text


def test_plain_training_that_climbs_is_answered_with_the_safeguarded_step() -> None:
    text, findings, result = run(prepared(family="clash", n=100, d=16), width=512)
    plain, safeguarded = (np.array(result["runs"][way]["residuals"]) for way in ("events", "safeguarded"))
    assert (np.diff(plain) > 0).any()
    assert (np.diff(safeguarded) <= 0).all()
    assert findings["safeguarded"].verdict == "holds"
    assert findings["safeguarded"].estimate == safeguarded[-1] / safeguarded[0]
    told = " ".join(text.split())
    assert f"iterations={own_data.PATIENCE * own_data.DEFAULT_ITERATIONS}, tolerance=1e-10" in told
    assert 'step="safeguarded")' in told
    assert f"came to {safeguarded[-1] / safeguarded[0]:.1e} of the start in {len(safeguarded) - 1} iterations." in told
    assert f"{safeguarded[1]:.6e}" in text.split("Relative difference")[0]
    assert max(map(len, text.splitlines())) <= 100


def badly_separated() -> loading.Prepared:
    """Positive columns of different sizes, as in a raw table: all rows point in nearly the same direction."""
    rng = np.random.default_rng(0)
    X = np.exp(rng.standard_normal((60, 6))) * [1, 10, 100, 1, 5, 1000]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return loading.Prepared(X, rng.standard_normal(60), X[:0], "raw.csv", 10 * np.arange(60) + 5, "line", ())


def test_a_stall_is_a_finding_that_names_lines_of_the_file() -> None:
    text, findings, result = run(badly_separated(), width=4096)
    assert findings["halving"].verdict == "fails"
    assert findings["safeguarded"].verdict == "fails"
    first, second = result["geometry"]["closest"]
    assert findings["safeguarded"].reason.startswith("stalled at iteration")
    assert f"the closest data points are lines {first} and {second} (distance" in findings["safeguarded"].reason
    told = " ".join(text.split())
    assert "On this file plain training diverged or broke down (see above)." in told
    assert "and stalled there. To use it: fast.gauss_newton.train(" in told


def test_too_few_iterations_are_undecided() -> None:
    text, findings, result = run(iterations=1)
    assert findings["halving"].verdict == "undecided"
    assert "ends at" in findings["halving"].reason
    assert len(result["runs"]["safeguarded"]["residuals"]) == 1 + own_data.PATIENCE
    reached = result["runs"]["events"]["residuals"][1] / result["runs"]["events"]["residuals"][0]
    assert f"plain training only came to {reached:.1e} of the start" in text


def test_a_safeguarded_run_out_of_iterations_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "PATIENCE", 1)
    finding = run(iterations=2)[1]["safeguarded"]
    assert finding.verdict == "undecided"
    assert finding.reason.endswith("since only 2 iterations were allowed")


def test_without_unseen_rows_and_without_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "REFERENCE_LIMIT", 0)
    text, findings, result = run(prepared(held_out=0))
    assert result["base"] == "dense"
    assert result["agreement"]["events"]["unseen"] is None
    assert findings["agreement"].verdict == "holds"
    assert "the reference is run when n m d" in text


def test_a_single_row() -> None:
    text, findings, result = run(prepared(n=1, held_out=0))
    assert result["geometry"]["separation"] is None
    assert findings["halving"].verdict == "holds"
    assert "one row only" in text


def test_a_width_that_the_theorem_accepts_is_stated_so() -> None:
    # One row without a shift: lambda = 1/2, so the terms are 2^4 and 4 * 2 * log(16 / 0.05) = 46.
    _, findings, result = run(prepared(n=1, d=2), alpha=0.0, width=64)
    assert result["geometry"]["theorem_width"] == pytest.approx(8 * np.log(320))
    assert own_data.claims(result)[3].statement.startswith("The theorem's assumption on the width is met")
    assert findings["assumptions"].verdict == "holds"


def altered(change: Callable[[Trace[Any]], Trace[Any]], **only: str) -> CodeUnderTest:
    """Plant a fault in the runs whose options are as given."""

    def train(*arguments: object, **options: object) -> Trace[Any]:
        trace = fast.gauss_newton.train(*arguments, **options)
        return change(trace) if only.items() <= options.items() else trace

    return replace(CODE, train=train)


@pytest.mark.parametrize("search", ["events", "tree"])
def test_planted_wrong_predictions_are_caught_on_either_fast_path(search: str) -> None:
    code = altered(lambda trace: replace(trace, predictions=trace.predictions * (1 + 1e-6)), search=search)
    finding = run(code=code)[1]["agreement"]
    assert finding.verdict == "fails"
    assert f"(predictions, {own_data.NAMES[search]}" in finding.reason


class SilentOnUnseen:
    """Predicts as another network on the rows given, and NaN on all others."""

    def __init__(self, network: Any, X: FloatArray) -> None:  # noqa: ANN401
        self.network, self.X = network, X

    def to_dense(self) -> Any:  # noqa: ANN401
        return SilentOnUnseen(self.network.to_dense(), self.X)

    def predict(self, X: FloatArray) -> FloatArray:
        f: FloatArray = self.network.predict(X)
        return f if np.array_equal(X, self.X) else np.full_like(f, np.nan)


def test_planted_nan_on_unseen_rows_is_caught() -> None:
    code = altered(lambda trace: replace(trace, network=SilentOnUnseen(trace.network, prepared().X)), search="tree")
    finding = run(code=code)[1]["agreement"]
    assert finding.verdict == "fails"
    assert "(predictions on unseen rows, trees" in finding.reason


def test_planted_nan_among_residuals_and_predictions_is_caught() -> None:
    def late(trace: Trace[Any]) -> Trace[Any]:
        norms = trace.residual_norms.copy()
        norms[-1:] = np.nan
        return replace(trace, residual_norms=norms)

    def everywhere(trace: Trace[Any]) -> Trace[Any]:
        return replace(trace, predictions=np.full_like(trace.predictions, np.nan))

    for change, part in ((late, "(residuals, trees"), (everywhere, "(predictions, trees")):
        finding = run(code=altered(change, search="tree"))[1]["agreement"]
        assert finding.verdict == "fails"
        assert part in finding.reason


def test_a_network_of_nan_is_not_the_one_that_was_reported() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        return replace(trace, network=SilentOnUnseen(trace.network, np.empty(0)))

    assert run(code=altered(change, step="safeguarded"))[1]["safeguarded"].verdict == "invalid"


def test_planted_wrong_residual_of_the_event_path_is_caught() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        norms = trace.residual_norms.copy()
        norms[1:2] *= 1 + 1e-6
        return replace(trace, residual_norms=norms)

    findings = run(code=altered(change, search="events"))[1]
    assert findings["agreement"].verdict == "fails"
    assert "residuals, event path" in findings["agreement"].reason


def test_planted_climb_of_the_safeguarded_run_is_caught() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        norms = trace.residual_norms.copy()
        norms[2] = 1.001 * norms[1]
        return replace(trace, residual_norms=norms)

    text, findings, result = run(code=altered(change, step="safeguarded"))
    assert findings["safeguarded"].verdict == "fails"
    assert findings["safeguarded"].reason.startswith("iteration 2 raised the residual from ")
    assert findings["halving"].verdict == "holds"
    assert result["runs"]["safeguarded"]["residuals"] != result["runs"]["events"]["residuals"]
    assert text.splitlines()[text.splitlines().index("") + 1].split()[-2:] == ["safeguarded", "ratio"]


def test_planted_stall_is_caught() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        return replace(trace, stopped="stalled at iteration 3: rows 0 and 23 are close")

    _, findings, _ = run(code=altered(change, step="safeguarded"))
    assert findings["safeguarded"].verdict == "fails"
    assert findings["safeguarded"].reason == "stalled at iteration 3: lines 2 and 25 are close"
    assert findings["halving"].verdict == "holds"


def test_planted_wrong_network_of_the_safeguarded_run_is_no_evidence() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        dense = trace.network.to_dense()
        return replace(trace, network=replace(dense, weights=dense.weights * (1 + 1e-4)))

    findings = run(code=altered(change, step="safeguarded"))[1]
    assert findings["safeguarded"].verdict == "invalid"
    assert "was reported as" in findings["safeguarded"].reason
    assert findings["halving"].verdict == "holds"


def test_a_safeguarded_run_that_breaks_down_is_a_finding() -> None:
    def train(*arguments: object, **options: object) -> Trace[Any]:
        if options.get("step") == "safeguarded" and options["iterations"] > 2:
            raise SingularGramError("G is singular; do something")
        return fast.gauss_newton.train(*arguments, **options)

    finding = run(code=replace(CODE, train=train))[1]["safeguarded"]
    assert finding.verdict == "fails"
    assert finding.reason.startswith("training broke down in iteration 3: G is singular")


def test_planted_wrong_network_is_caught() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        dense = trace.network.to_dense()
        return replace(trace, network=replace(dense, weights=dense.weights * (1 + 1e-4)))

    findings = run(code=altered(change))[1]
    assert findings["agreement"].verdict == "fails"
    assert "unseen" in findings["agreement"].reason
    # The residual that the run reports is not the one that its network has.
    assert findings["halving"].verdict == "invalid"


def test_planted_short_step_is_caught() -> None:
    def train(network: object, X: object, y: object, **options: object) -> Trace[Any]:
        trace = fast.gauss_newton.train(network, X, y, **options)
        slow = trace.residual_norms[0] * 0.6 ** np.arange(len(trace.residual_norms))
        return replace(trace, residual_norms=slow)

    findings = run(code=replace(CODE, train=train))[1]
    assert findings["agreement"].verdict == "fails"
    assert findings["halving"].verdict in {"fails", "invalid"}


def test_planted_dense_scan_is_caught() -> None:
    def change(trace: Trace[Any]) -> Trace[Any]:
        return replace(trace, counts=[{**counts, "scan": 24 * 32 * 2048} for counts in trace.counts])

    assert run(code=altered(change, search="events"))[1]["cost"].verdict == "fails"


def test_an_event_path_that_went_over_to_all_pairs_leaves_the_cost_undecided(
    healthy: tuple[str, dict[str, Finding], Result],
) -> None:
    assert not healthy[2]["runs"]["events"]["fell_back"]
    assert run(prepared(d=8), alpha=0.0)[2]["runs"]["events"]["fell_back"]  # half of all pairs fire
    result = copy.deepcopy(healthy[2])
    result["runs"]["events"] |= {"counts": [{"compute": 200}], "fell_back": True}
    result["runs"]["dense"]["counts"] = [{"scan": 100}]
    finding = own_data.decide(result)[4]
    assert finding.verdict == "undecided"
    assert finding.estimate == 2.0
    assert "too many pairs were close to firing" in finding.reason
    result["runs"]["events"]["fell_back"] = False
    assert own_data.decide(result)[4].verdict == "fails"
    result["runs"]["events"] |= {"counts": [{"compute": 90}], "fell_back": True}
    assert own_data.decide(result)[4].verdict == "holds"


def test_cost_is_the_total_of_all_iterations_without_the_fired_pairs(
    healthy: tuple[str, dict[str, Finding], Result],
) -> None:
    result = copy.deepcopy(healthy[2])
    result["runs"]["events"]["counts"] = [{"solve": 90, "active_pairs": 1000}, {"look": 5, "active_pairs": 1000}]
    result["runs"]["dense"]["counts"] = [{"scan": 50, "active_pairs": 1000}, {"scan": 50, "active_pairs": 1000}]
    finding = own_data.decide(result)[4]
    assert finding.verdict == "holds"
    assert finding.estimate == 0.95
    assert finding.reason.startswith("over 2 iterations 95 operations on the event path, 100 over all neurons; in time")
    assert "\n  event path            95  (solve 90, look 5)\n" in own_data.describe(result, own_data.decide(result))


def test_divergence_is_a_finding() -> None:
    def train(network: object, X: object, y: object, **options: object) -> Trace[Any]:
        if options["iterations"] > 2 and "step" not in options:
            raise DivergenceError("training diverged: on data point 3", np.array([1.0, 2.0, 3.0, np.inf]))
        return fast.gauss_newton.train(network, X, y, **options)

    text, findings, result = run(code=replace(CODE, train=train))
    assert findings["halving"].verdict == "fails"
    assert findings["halving"].reason == "training diverged: on line 5"
    assert findings["safeguarded"].verdict == "holds"
    assert findings["halving"].estimate == 2.0
    assert findings["agreement"].verdict == "fails"
    assert findings["cost"].verdict == "undecided"
    assert result["runs"]["events"]["residuals"] == [1.0, 2.0, 3.0, None]
    assert "event path: training diverged: on line 5" in text
    assert "plain training diverged or broke down" in text
    own_data.plot(Figure(), result)


def test_breaking_down_on_the_way_is_a_finding() -> None:
    def train(network: object, X: object, y: object, **options: object) -> Trace[Any]:
        if options["iterations"] > 2:
            raise SingularGramError("G is singular; do something")
        return fast.gauss_newton.train(network, X, y, **options)

    _, findings, result = run(code=replace(CODE, train=train))
    assert len(result["runs"]["events"]["residuals"]) == 3
    assert findings["halving"].verdict == "fails"
    assert findings["halving"].reason.startswith("training broke down in iteration 3: G is singular")


def test_a_kernel_that_is_zero_to_rounding_asks_for_no_finite_width(
    healthy: tuple[str, dict[str, Finding], Result],
) -> None:
    code = replace(CODE, shifted_ntk=lambda X, shift: np.ones((len(X), len(X))))
    text, findings, result = run(code=code)
    assert result["geometry"]["theorem_width"] is None
    assert findings["assumptions"].verdict == "holds"
    assert "no finite width is enough" in text


def test_decide_on_a_hopeless_condition(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    result = copy.deepcopy(healthy[2])
    result["geometry"]["condition"] = 1e12
    result["agreement"]["events"]["residuals"] = 1e-4
    assert own_data.decide(result)[0].verdict == "holds"
    result["geometry"]["condition"] = 10.0
    assert own_data.decide(result)[0].verdict == "fails"


@pytest.mark.parametrize(
    ("residuals", "verdict"),
    [
        ([1.0, 0.5, 0.25, 1e-11], "holds"),
        ([1.0, 0.51, 0.25, 1e-11], "fails"),
        ([1.0, 0.5, 1e-11, 9e-12], "holds"),  # below the target only rounding is left
        ([1.0, 0.5, 1.1e-10, 9e-11], "fails"),
        ([1.0, 0.5, 0.2], "undecided"),
        ([0.0], "undecided"),
    ],
)
def test_halving_is_judged_down_to_its_target(
    healthy: tuple[str, dict[str, Finding], Result], residuals: list[float], verdict: str
) -> None:
    result = copy.deepcopy(healthy[2])
    result["runs"]["events"] |= {"residuals": residuals, "recomputed": residuals[-1]}
    assert own_data.decide(result)[1].verdict == verdict


@pytest.mark.parametrize(
    ("residuals", "stopped", "verdict"),
    [
        ([1.0, 0.9, 0.9, 1e-10], None, "holds"),  # a step that keeps the residual does not raise it
        ([1.0, 0.9, 0.9000001, 1e-10], None, "fails"),
        ([1.0, 0.9, 1.1e-10], None, "undecided"),
        ([1.0, 0.9, 0.8], "stalled", "fails"),
        ([1.0, None], "broke down", "fails"),
        ([0.0], None, "holds"),
    ],
)
def test_safeguarded_is_judged_by_every_step_and_the_end(
    healthy: tuple[str, dict[str, Finding], Result], residuals: list[float | None], stopped: str | None, verdict: str
) -> None:
    result = copy.deepcopy(healthy[2])
    result["runs"]["safeguarded"] |= {"residuals": residuals, "recomputed": residuals[-1], "stopped": stopped}
    assert own_data.decide(result)[2].verdict == verdict


def test_a_long_run_is_shown_in_part(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    result = copy.deepcopy(healthy[2])
    result["runs"]["safeguarded"]["residuals"] = [0.9**t for t in range(67)]
    table = own_data.describe(result, own_data.decide(result)).split("\n\n")[1].splitlines()[1:]
    assert [int(line.split()[0]) for line in table] == [*range(41), 50, 60, 66]


def test_one_way_breaking_down_alone_is_disagreement(
    healthy: tuple[str, dict[str, Finding], Result],
) -> None:
    result = copy.deepcopy(healthy[2])
    result["agreement"]["sketch"]["stopped"] = "no accuracy"
    finding = own_data.decide(result)[0]
    assert finding.verdict == "fails"
    assert "one way broke down and another did not (no accuracy)" in finding.reason


def test_plot_shows_the_runs_that_differ(healthy: tuple[str, dict[str, Finding], Result]) -> None:
    figure = Figure()
    own_data.plot(figure, healthy[2])
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    residuals = np.array(healthy[2]["runs"]["events"]["residuals"])
    np.testing.assert_allclose(lines["event path"].get_ydata(), residuals[residuals > 0] / residuals[0])
    assert "all neurons" in lines
    assert "safeguarded" not in lines
    result = copy.deepcopy(healthy[2])
    result["runs"]["safeguarded"]["residuals"] = [8.0, 4.0]
    figure = Figure()
    own_data.plot(figure, result)
    assert "safeguarded" in {line.get_label() for line in figure.axes[0].get_lines()}


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="iterations is 0; pass 1 or more"):
        run(iterations=0)
    with pytest.raises(InputError, match="iterations is -1; pass"):
        run(iterations=-1)
    with pytest.raises(InputError, match="would not fit in memory; lower --width or --rows"):
        run(width=2**40)
    with pytest.raises(InputError, match="alpha is -1"):
        run(alpha=-1.0)
    with pytest.raises(NothingFiresError, match="no neuron fires on line 2 "):
        run(width=4, alpha=3.0)


def test_a_singular_start_is_refused() -> None:
    # Few neurons, many rows: the rank of G is at most the number of weights.
    with pytest.raises(SingularGramError, match="singular"):
        run(prepared(n=40, d=2), width=12, alpha=0.0)


def test_digits_centred_halve_and_raw_do_not() -> None:
    table = loading.load("digits")
    for centre, verdict in ((True, "holds"), (False, "fails")):
        given = loading.prepare(table, rows=60, centre=centre, rng=np.random.default_rng(0))
        findings = {finding.claim: finding for finding in own_data.run(given, width=2048, code=CODE)[1]}
        assert findings["data.halving"].verdict == verdict
        assert findings["data.agreement"].verdict == "holds"
        assert findings["data.assumptions"].verdict == "holds"
