from __future__ import annotations

import pickle

import numpy as np
import pytest

from reference import notation
from reference.notation import DivergenceError, InputError, NothingFiresError, SingularGramError
from verify.problems import unit_rows

X = np.eye(3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((2, 2), np.nan), "NaN or infinite entry at index \\(0, 0\\)"),
        (np.array([[1.0, 0.0], [0.0, np.inf]]), "NaN or infinite entry at index \\(1, 1\\)"),
        (np.ones(3), "shape \\(3,\\); pass an array of 2 dimension"),
        (np.empty((0, 3)), "empty"),
        (np.array([["a", "b"]]), "dtype <U1; pass real numbers"),
        ([[1.0, 0.0], [1.0]], "X is ragged; pass rows of equal length"),
        (np.eye(2) * 1j, "dtype complex128; pass real numbers"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "row 1 of X is zero; drop it"),
        (np.array([[1.0, 0.0], [0.0, 1.001]]), "row 1 of X has length 1.001, not 1; normalize"),
        (np.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]]), "rows 0 and 2 of X are equal or opposite"),
        (np.array([[1.0, 0.0], [-1.0, 0.0]]), "rows 0 and 1 of X are equal or opposite"),
    ],
)
def test_bad_data_is_refused_with_cause_and_remedy(bad: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        notation.check_data(bad)


def test_large_finite_entries_are_not_mistaken_for_infinite() -> None:
    # Their sum overflows although every entry is finite.
    assert notation.as_float_array("x", [1e308, 1e308], 1).tolist() == [1e308, 1e308]


def test_good_data_is_not_copied() -> None:
    data = unit_rows(5, 3, np.random.default_rng(0))
    assert np.shares_memory(notation.check_data(data), data)


def test_closest_pair_finds_the_closest_pair_up_to_sign() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        data = unit_rows(6, 3, rng)
        expected = min(
            min(np.linalg.norm(data[i] - data[j]), np.linalg.norm(data[i] + data[j]))
            for i in range(6)
            for j in range(i)
        )
        delta, i, j = notation.closest_pair(data)
        assert delta == pytest.approx(expected, rel=1e-14)
        assert i < j


def test_separation_keeps_its_digits_for_close_pairs() -> None:
    angle = 1e-9
    delta, _, _ = notation.closest_pair(np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]]))
    assert delta == pytest.approx(angle, rel=1e-6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0, 2.0], "y has 2 entries but X has 3 rows"),
        ([[1.0], [2.0], [3.0]], r"shape \(3, 1\).*ravel\(\)"),
        ([1.0, np.nan, 0.0], "NaN or infinite entry at index \\(1,\\)"),
    ],
)
def test_bad_labels_are_refused(y: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        notation.check_labels(y, 3)


def test_wrong_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="X has 3 columns but the network takes 2 inputs"):
        notation.check_points(X, 2)


@pytest.mark.parametrize("iterations", [-1, 1.5, True, "3"])
def test_bad_iterations_are_refused(iterations: object) -> None:
    with pytest.raises(InputError, match="whole number, 0 or more"):
        notation.check_run(iterations, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, np.nan, None, [0.1]])
def test_bad_tolerance_is_refused(tolerance: object) -> None:
    with pytest.raises(InputError, match=r"number in \[0, 1\)"):
        notation.check_run(3, tolerance)  # type: ignore[arg-type]


def test_randomness_must_be_a_generator() -> None:
    with pytest.raises(InputError, match=r"pass a numpy\.random\.Generator"):
        notation.check_generator(0)


def test_silent_points_are_named() -> None:
    notation.check_every_point_fires(np.array([1, 2]))
    with pytest.raises(NothingFiresError, match=r"data point 1 \(2 such point\(s\)\).*lower the shift"):
        notation.check_every_point_fires(np.array([3, 0, 0]))


LABELS = np.ones(4)


@pytest.mark.parametrize("last", [np.nan, np.inf, 1e9])
def test_divergence_is_an_error_that_keeps_the_residuals(last: float) -> None:
    notation.check_residual([1.0, 99.0], LABELS)
    with pytest.raises(DivergenceError, match="diverged: after iteration 2") as caught:
        notation.check_residual([1.0, 2.0, last], LABELS)
    assert caught.value.residual_norms[:2].tolist() == [1.0, 2.0]
    copy = pickle.loads(pickle.dumps(caught.value))  # worker processes send errors this way
    assert str(copy) == str(caught.value)
    assert copy.residual_norms[:2].tolist() == [1.0, 2.0]


def test_growth_from_rounding_is_no_divergence() -> None:
    notation.check_residual([0.0, 1e-16], LABELS)
    notation.check_residual([1e-16, 1e-13], LABELS)


def test_a_first_residual_that_overflows_is_blamed_on_the_input() -> None:
    with pytest.raises(InputError, match=r"first residual overflows.*rescale"):
        notation.check_residual([np.inf], LABELS)


@pytest.mark.parametrize("breakdown", [NothingFiresError, SingularGramError])
def test_a_breakdown_after_growth_is_a_divergence(breakdown: type[InputError]) -> None:
    with (
        pytest.raises(DivergenceError, match=r"the residual is 3, from 1 at the start \(cause\); widen") as caught,
        notation.breakdown_explained([1.0, 3.0]),
    ):
        raise breakdown("cause; remedy")
    assert isinstance(caught.value.__cause__, breakdown)
    with pytest.raises(breakdown, match="cause; remedy"), notation.breakdown_explained([1.0, 0.5]):
        raise breakdown("cause; remedy")
