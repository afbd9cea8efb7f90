from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.typing import ArrayLike

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


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2], dtype=np.uint8), [1.0, 2.0], np.float32([1, 2])])
def test_real_numbers_of_any_kind_become_float64(value: ArrayLike) -> None:
    array = notation.as_float_array("x", value, 1)
    assert (array.dtype, array.tolist()) == (np.float64, [1.0, 2.0])
    assert notation.as_float_array("x", [True, False], 1).tolist() == [1.0, 0.0]


def test_ravel_is_advised_only_where_it_helps() -> None:
    for value, ndim in ((np.eye(2), 1), ([1.0], 2)):
        with pytest.raises(InputError, match=r"dimension\(s\)$"):
            notation.as_float_array("x", value, ndim)
    with pytest.raises(InputError, match=r"^x has a NaN or infinite entry; remove"):
        notation.as_float_array("x", np.nan, 0)


def test_settings_at_their_bounds_are_taken() -> None:
    notation.check_run(0, 0)
    notation.check_run(np.int64(3), np.float32(0.5))  # type: ignore[arg-type]
    for threshold in (-np.inf, 2, np.int64(2), np.float32(2)):
        assert type(notation.check_threshold(threshold)) is float
    for bad in (np.nan, "1", None, 1j):
        with pytest.raises(InputError, match=r"threshold is .*; pass a real number that is not NaN"):
            notation.check_threshold(bad)  # type: ignore[arg-type]


def test_a_run_goes_on_until_iterations_or_tolerance_end_it() -> None:
    assert notation.unfinished([4.0, 2.0], 2, 0.0)
    assert not notation.unfinished([4.0, 2.0], 1, 0.0)
    assert not notation.unfinished([4.0, 2.0], 2, 0.5)
    assert notation.unfinished([4.0, 2.0], 2, 0.49)
    assert notation.unfinished([4.0, 0.0], 2, 0.0)


def test_a_residual_may_grow_to_the_bound_itself() -> None:
    notation.check_residual([2.0, 2 * notation.DIVERGENCE_FACTOR], LABELS)
    floor = 1e6 * notation.UNIT_ROUNDOFF * 2.0  # LABELS have length 2
    notation.check_residual([0.0, 0.99 * notation.DIVERGENCE_FACTOR * floor], LABELS)
    with pytest.raises(DivergenceError):
        notation.check_residual([0.0, 1.01 * notation.DIVERGENCE_FACTOR * floor], LABELS)
    with pytest.raises(NothingFiresError), notation.breakdown_explained([1.0, 1.0]):
        raise NothingFiresError("cause; remedy")


@pytest.mark.parametrize("length", [1 - 0.9e-6, 1 + 0.9e-6])
def test_rows_may_be_off_unit_length_by_rounding_in_float32(length: float) -> None:
    notation.check_data([[length, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match=r"^row 1 of X has length"):
        notation.check_data([[1.0, 0.0], [0.0, 1 + 2 * (length - 1)]])


def test_rows_a_little_apart_are_not_equal() -> None:
    eps = 2 * notation.UNIT_ROUNDOFF
    notation.check_data([[1.0, 0.0], [1.0, 40 * eps]])
    with pytest.raises(InputError, match="separation 0"):
        notation.check_data([[1.0, 0.0], [1.0, 30 * eps]])


def test_a_single_row_has_no_neighbour_and_the_first_of_equal_pairs_is_named() -> None:
    assert notation.closest_pair(np.ones((1, 2))) == (np.inf, 0, 0)
    assert notation.closest_pair(np.eye(3))[1:] == (0, 1)


def test_what_is_named_and_advised_is_spelled_out() -> None:
    infinities = np.array([np.inf, -np.inf])  # their sum is no number, which is no floating-point error
    for check, name in ((notation.check_data, "X"), (lambda y: notation.check_labels(y, 2), "y")):
        with pytest.raises(InputError, match=rf"^{name} has a NaN or infinite entry at index"):
            check(infinities if name == "y" else infinities[np.newaxis])
    with pytest.raises(InputError, match=r"^row 0 of X has length inf, not 1"):
        notation.check_data([[1e200, 1e200]])
    with pytest.raises(InputError, match=r"dimension\(s\), for instance by its method ravel\(\)$"):
        notation.check_labels([[1.0], [2.0]], 2)
    with pytest.raises(InputError, match=r"^y has shape \(\); pass an array of 1 dimension\(s\)$"):
        notation.check_labels(5.0, 1)


def test_bounds_are_met_to_the_last_bit() -> None:
    with pytest.raises(InputError, match="separation 0"):
        notation.check_data([[1.0, 0.0], [1.0, 64 * notation.UNIT_ROUNDOFF]])
    notation.check_data([[1.0, 0.0], [1.0, 64.5 * notation.UNIT_ROUNDOFF]])
    bound = notation.DIVERGENCE_FACTOR * (1e6 * notation.UNIT_ROUNDOFF * 2.0)  # LABELS have length 2
    notation.check_residual([0.0, bound], LABELS)
    with pytest.raises(DivergenceError):
        notation.check_residual([0.0, np.nextafter(bound, 1)], LABELS)
