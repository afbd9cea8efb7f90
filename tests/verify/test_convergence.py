"""The convergence claims: the first-ratio law, verdicts on hand-made residuals, and planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.stats import norm

import fast.baselines
import fast.gauss_newton
from reference.gram import gram
from reference.notation import DivergenceError, FloatArray, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize
from verify import problems, seeds
from verify.claims import convergence
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.convergence import gauss_newton
from verify.faults.stepwise import Stepwise

Results = list[tuple[Inputs, Result]]
Train = Callable[..., Trace]
Option = int | float | str


def falling(ratio: float, steps: int) -> list[float]:
    return [float(ratio**step) for step in range(steps + 1)]


def trial(residuals: list[float], failure: str = "") -> Result:
    return {"residuals": residuals, "failure": failure}


GOOD, SLOW = trial(falling(0.1, 11)), trial(falling(0.8, 10))


def simulated(**replaced: Results) -> Results:
    """Make results in which every claim holds; ``replaced`` puts others in the place of a family's."""
    successes = {"random": 60, "pairs": 0, "clash": 0, "narrow": 30, "gradient": 0}
    results: Results = []
    for family, width in convergence.WIDTHS.items():
        own = [
            ({"family": family, "width": width, "seed": seed}, GOOD if seed < successes[family] else SLOW)
            for seed in range(convergence.TRIALS)
        ]
        results += replaced.get(family, own)
    return results + replaced.get("first_ratio", first_ratios(lambda m, seed: 1.0))


def first_ratios(factor: Callable[[float, int], float]) -> Results:
    """Make first ratios that are ``factor(m, seed)`` times the predicted ones."""
    results: Results = []
    for width in convergence.RATIO_WIDTHS:
        for seed in range(convergence.RATIO_SEEDS):
            predicted = 5 / math.sqrt(width) * 1.01**seed
            result = {**trial([2.0, 2.0 * predicted * factor(width, seed)]), "predicted": predicted}
            results.append(({"family": "first_ratio", "width": width, "seed": seed}, result))
    return results


def family_of(family: str, *results: Result) -> Results:
    return [({"family": family, "width": 1 << 12, "seed": seed}, result) for seed, result in enumerate(results)]


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in convergence.EXPERIMENT.decide(results)}


@given(t=st.floats(1e-3, 2), b=st.floats(0, 4))
def test_missed_is_its_integral(t: float, b: float) -> None:
    expected = quad(lambda s: (t - s) * norm.pdf(b + s), 0, t, epsabs=1e-15)[0]
    assert float(convergence.missed(np.array(t), b)) == pytest.approx(expected, rel=1e-6, abs=1e-14)


def test_the_first_ratio_law_by_loops() -> None:
    rng = np.random.default_rng(4)
    problem = problems.make("random", 5, 4, rng)
    network = initialize(4000, 4, shift=1.5, rng=rng)
    residual = network.predict(problem.X) - problem.y
    g = np.linalg.solve(gram(network, problem.X), residual)
    left = []
    for t in np.abs(g) / math.sqrt(4000):
        missed = quad(lambda s, t=t: (t - s) * norm.pdf(1.5 + s), 0, t, epsabs=1e-15)[0]
        left.append(math.sqrt(4000) / 2 * missed)
    expected = math.sqrt(sum(each**2 for each in left) / sum(residual**2))
    assert convergence.predicted_first_ratio(network, problem.X, problem.y) == pytest.approx(expected, rel=1e-6)


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = convergence.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in convergence.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("family", "successes", "verdict"),
    [
        ("random", 59, "undecided"),
        ("random", 50, "fails"),
        ("pairs", 2, "undecided"),
        ("pairs", 12, "fails"),
        ("clash", 60, "fails"),
        ("narrow", 56, "undecided"),
        ("gradient", 1, "undecided"),
        ("gradient", 60, "fails"),
    ],
)
def test_verdicts_follow_the_number_of_successes(family: str, successes: int, verdict: str) -> None:
    results = family_of(family, *[GOOD] * successes, *[SLOW] * (60 - successes))
    found = verdicts(simulated(**{family: results}))
    assert found.pop(family) == verdict
    assert set(found.values()) == {"holds"}


def test_narrow_fails_when_all_trials_succeed() -> None:
    # 60 successes leave room below 0.95; a thorough run has 240 trials.
    assert verdicts(simulated(narrow=family_of("narrow", *[GOOD] * 60)))["narrow"] == "fails"


@pytest.mark.parametrize(
    ("result", "success"),
    [
        (trial(falling(0.5, 34)), True),
        (trial([1.0, 0.51, 0.1, 1e-11]), False),
        (trial(falling(0.4, 5)), False),  # never reached the target
        (trial([1.0, 0.1, 1e-11], "DivergenceError"), False),
        (trial([1.0]), False),
    ],
)
def test_a_trial_must_halve_every_time_and_arrive(result: Result, success: bool) -> None:
    assert convergence.halves(result) == success


def test_halving_on_average_forgives_single_iterations() -> None:
    assert convergence.halves_on_average(trial([1.0, 0.9, 0.1, 1e-4]))
    assert not convergence.halves_on_average(trial([1.0, 0.4, 0.2, 1e-2]))
    assert not convergence.halves_on_average(trial([1.0, 1e-4], "DivergenceError"))


@pytest.mark.parametrize(
    ("factor", "first_ratio", "first_slope"),
    [
        pytest.param(lambda m, seed: 1.3, "fails", "holds", id="level"),
        pytest.param(lambda m, seed: (m / 2**13) ** 0.2, "holds", "fails", id="slope"),
        pytest.param(lambda m, seed: math.exp(0.1 * (-1) ** seed), "undecided", "holds", id="noisy-level"),
        pytest.param(lambda m, seed: (m / 2**13) ** (0.1 * (-1) ** seed), "holds", "undecided", id="noisy-slope"),
        pytest.param(lambda m, seed: math.inf if seed == 3 else 1.0, "invalid", "invalid", id="not-finite"),
    ],
)
def test_first_ratios_off_the_law(factor: Callable[[float, int], float], first_ratio: str, first_slope: str) -> None:
    found = verdicts(simulated(first_ratio=first_ratios(factor)))
    assert (found["first_ratio"], found["first_slope"]) == (first_ratio, first_slope)


def test_a_failed_first_iteration_is_no_evidence() -> None:
    (inputs, result), *others = first_ratios(lambda m, seed: 1.0)
    failed = {**result, "residuals": [1.0], "failure": "SingularGramError"}
    found = verdicts(simulated(first_ratio=[(inputs, failed), *others]))
    assert (found["first_ratio"], found["first_slope"]) == ("invalid", "invalid")


@pytest.mark.parametrize("broken", [trial(falling(1.0, 10)), trial([1.0], "NothingFiresError")])
def test_gradient_descent_that_does_not_descend_is_no_opponent(broken: Result) -> None:
    assert verdicts(simulated(gradient=family_of("gradient", broken, *[SLOW] * 59)))["gradient"] == "invalid"


def measured(family: str, code: CodeUnderTest | None = None, *, width: int = 1 << 12, trials: int = 3) -> Results:
    code = CodeUnderTest() if code is None else code
    cells = [{"family": family, "width": width, "seed": seed} for seed in range(trials)]
    results = [(cell, convergence.measure(cell, seeds.generator(0, "convergence", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def measured_ratios(code: CodeUnderTest | None = None) -> Results:
    widths = [1 << exponent for exponent in (12, 14)]
    return [each for width in widths for each in measured("first_ratio", code, width=width)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convergence, "MOST_ITERATIONS", 10)


@pytest.mark.usefixtures("short")
def test_the_true_code_end_to_end() -> None:
    random, pairs, gradient = (measured(family) for family in ("random", "pairs", "gradient"))
    assert all(convergence.halves(result) for _, result in random)
    results = simulated(random=random, pairs=pairs, gradient=gradient, first_ratio=measured_ratios())
    found = verdicts(results)
    assert "fails" not in found.values()
    assert "invalid" not in found.values()
    figure = Figure()
    convergence.plot(figure, results)
    figure.canvas.draw()


@pytest.mark.usefixtures("short")
def test_gauss_newton_passes_the_test_that_gradient_descent_fails() -> None:
    results = [result for _, result in measured("pairs")]
    assert all(convergence.halves_on_average(trial(result["residuals"][:11])) for result in results)
    assert all(convergence.worst_ratio(result) > 0.5 for result in results)


def scaled(factor: float) -> Train:
    def train(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace:
        trace = fast.gauss_newton.train(network, X, y, **options)
        end = trace.network.to_dense()
        weights = network.weights + factor * (end.weights - network.weights)
        return replace(trace, network=TwoLayerNetwork(weights, end.signs, end.shift))

    return train


def lying(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, **options: Option) -> Trace:
    """Report a perfect run, and hand back the untrained network."""
    honest = fast.gauss_newton.train(network, X, y, iterations=iterations)
    return replace(honest, network=network, residual_norms=honest.residual_norms[0] * 0.01 ** np.arange(iterations + 1))


def raising(error: Exception) -> Train:
    def train(*args: object, **options: object) -> Trace:
        raise error

    return train


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "train",
    [scaled(0.4), lying, raising(SingularGramError("singular")), raising(DivergenceError("diverged", np.ones(2)))],
    ids=["step-0.4", "lying", "singular", "diverges"],
)
def test_faulty_training_fails_the_random_claim(train: Train) -> None:
    random = measured("random", CodeUnderTest(start=partial(Stepwise, train)))
    assert verdicts(simulated(random=random))["random"] == "fails"


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_first_step_fails_the_first_ratio(factor: float) -> None:
    ratios = measured_ratios(CodeUnderTest(start=partial(Stepwise, scaled(factor))))
    assert verdicts(simulated(first_ratio=ratios))["first_ratio"] == "fails"


def idle(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace:
    return fast.baselines.train_gradient_descent(network, X, y, **{**options, "iterations": 0})


def lying_descent(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace:
    """Descend honestly, and report the residuals of something faster."""
    trace = fast.baselines.train_gradient_descent(network, X, y, **options)
    return replace(trace, residual_norms=trace.residual_norms[0] * 0.01 ** np.arange(len(trace.residual_norms)))


@pytest.mark.parametrize(
    ("train", "verdict"), [(gauss_newton, "fails"), (idle, "invalid"), (lying_descent, "undecided")]
)
def test_faulty_gradient_descent_flips_its_claim(train: Train, verdict: str) -> None:
    # Three trials are too few to hold; what matters is that only the true descent could.
    code = CodeUnderTest(train_gradient_descent=train)
    assert verdicts(simulated(gradient=measured("gradient", code)))["gradient"] == verdict


def test_failures_are_named_and_keep_their_residuals() -> None:
    train = raising(DivergenceError("diverged", np.ones(2)))
    (_, result), *_ = measured("random", CodeUnderTest(start=partial(Stepwise, train)))
    assert result["failure"] == "DivergenceError"
    assert len(result["residuals"]) == 1


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = convergence.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in convergence.cells(Profile(thorough=True)) for cell in cells)
