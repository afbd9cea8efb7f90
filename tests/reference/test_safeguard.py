"""The decisions of the safeguarded step: what is kept, what is tried next, that it ends, and what it says then."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import UNIT_ROUNDOFF
from reference.safeguard import (
    CLIMB_ALLOWED,
    DAMPING,
    HALVINGS,
    LOOK_AHEAD,
    STALL_RATIO,
    STALL_WINDOW,
    SUFFICIENT_DECREASE,
    allowance_after,
    crept,
    fallen,
    length,
    next_move,
    stall_message,
)

INFINITE = float("inf")
norms = st.floats(0.0, 1e6) | st.just(INFINITE)


def test_the_constants_are_those_that_were_measured() -> None:
    assert (SUFFICIENT_DECREASE, LOOK_AHEAD, CLIMB_ALLOWED, HALVINGS) == (1e-4, 30, 1000.0, 30)
    assert (DAMPING, STALL_WINDOW, STALL_RATIO) == (1e-10, 20, 0.95)


@pytest.mark.parametrize(
    ("ahead", "shortened", "allowance", "move"),
    [
        ([0.5], [], 0, "accept"),
        ([0.9999], [], 0, "accept"),
        ([0.99995], [], 0, "shorten"),  # lower, but not by enough
        ([0.99995], [], 1, "advance"),
        ([1000.0], [], 1, "advance"),
        ([1000.1], [], 1, "shorten"),
        ([INFINITE], [], 30, "shorten"),
        ([2.0, 3.0], [], 1, "shorten"),
        ([2.0, 3.0], [], 2, "advance"),
        ([2.0, 0.9], [], 1, "accept"),
        ([2.0], [0.99996], 30, "shorten"),
        ([2.0], [0.99995], 30, "accept"),  # half a step needs half the decrease
        ([2.0], [2.0, 0.99997], 30, "accept"),
        ([2.0], [2.0, 0.99998], 30, "shorten"),
        ([2.0], [INFINITE] * 29, 30, "shorten"),
        ([2.0], [INFINITE] * 30, 30, "stall"),
        ([2.0], [INFINITE] * 29 + [0.9], 30, "accept"),
    ],
)
def test_the_move_after_these_trials(ahead: list[float], shortened: list[float], allowance: int, move: str) -> None:
    assert next_move(1.0, ahead, shortened, allowance) == move
    # Only ratios matter; scaling by a power of two is exact.
    assert next_move(0.25, [trial / 4 for trial in ahead], [trial / 4 for trial in shortened], allowance) == move


def test_even_the_shortest_step_must_beat_rounding() -> None:
    shortest = 0.5**HALVINGS
    assert not fallen(1.0, 1.0 - 100 * UNIT_ROUNDOFF, shortest)
    assert fallen(1.0, 1.0 - shortest, shortest)


def test_each_length_is_half_of_the_last() -> None:
    assert [length([1.0] * count) for count in range(3)] == [0.5, 0.25, 0.125]


@given(st.floats(1e-6, 1e6), st.lists(norms, min_size=100, max_size=100), st.integers(0, LOOK_AHEAD))
def test_every_search_ends_and_keeps_only_what_is_lower(current: float, trials: list[float], allowance: int) -> None:
    ahead: list[float] = [trials[0]]
    shortened: list[float] = []
    for trial in trials[1:]:
        move = next_move(current, ahead, shortened, allowance)
        if move == "accept":
            assert (shortened or ahead)[-1] < current
        if move in ("accept", "stall"):
            break
        (ahead if move == "advance" else shortened).append(trial)
    assert move in ("accept", "stall")
    assert len(ahead) <= 1 + allowance
    assert len(shortened) <= HALVINGS
    assert move == "accept" or len(shortened) == HALVINGS
    if trials[0] <= current / 2:
        assert (move, ahead, shortened) == ("accept", trials[:1], [])


def test_failed_climbs_shorten_the_leash_until_one_succeeds() -> None:
    allowances = [LOOK_AHEAD]
    for _ in range(6):
        allowances.append(allowance_after(allowances[-1], [2.0, 3.0], [0.9]))
    assert allowances == [30, 15, 7, 3, 1, 0, 0]
    assert allowance_after(3, [0.9], []) == 3
    assert allowance_after(3, [2.0, 0.9], []) == 30


def test_creeping_is_judged_over_the_window_alone() -> None:
    assert not crept([1.0] * STALL_WINDOW)
    assert crept([1.0] * (STALL_WINDOW + 1))
    assert crept([8.0] + [1.0] * STALL_WINDOW + [0.951])
    assert not crept([1.0] * STALL_WINDOW + [0.949])
    assert not crept([8.0] + [1.0] * STALL_WINDOW)
    assert not crept([0.0] * (STALL_WINDOW + 1))  # a residual of 0 is no stall


X = np.array([[1.0, 0.0], [0.0, 1.0], [-0.8, -0.6]])
y = np.array([1.0, -1.0, 0.5])


def test_the_message_says_where_why_and_what_to_do() -> None:
    message = stall_message(X, y, [4.0, 2.0, 2.0], 3.2e9, "stall")
    assert message.startswith("stalled at iteration 2 with residual 2, 0.5 of the start: no step lowered it")
    assert "rows 0 and 2 (distance 0.632, labels 1 and 0.5)" in message  # nearly opposite counts as close
    assert "condition number of the Gram matrix is 3e+09" in message
    assert "widen the network, lower alpha, or separate the data" in message


def test_the_message_tells_a_small_step_from_none() -> None:
    message = stall_message(X, y, [4.0] + [2.0] * 21, np.inf, "accept")
    assert "at iteration 21 with residual 2" in message
    assert "the last 20 iterations lowered it by less than 5%" in message
    assert "condition number of the Gram matrix is inf" in message


def test_the_message_names_no_pair_where_there_is_none() -> None:
    assert "closest" not in stall_message(X[:1], y[:1], [4.0, 4.0], 1.0, "stall")


@pytest.mark.parametrize("start", [3.0, 0.0])
def test_rounding_error_is_no_stall(start: float) -> None:
    message = stall_message(X, y, [start, 1e-15 * start, 1e-15 * start], 10.0, "stall")
    assert message.startswith("stopped at iteration 2 with residual")
    assert "rounding error" in message
    assert "pass a tolerance" in message


def test_the_message_names_the_pair_of_two_points_too() -> None:
    message = stall_message(X[:2], y[:2], [0.0, 2.0], 1.0, "stall")
    assert "rows 0 and 1 (distance 1.41, labels 1 and -1) and the condition number" in message
    assert "with residual 2, 1 of the start" in message


def test_rounding_error_is_measured_by_labels_and_first_residual() -> None:
    length = float(np.linalg.norm(y))
    for start, scale in ((1.0, length), (8.0, 8.0)):
        limit = 1e6 * UNIT_ROUNDOFF * scale
        assert stall_message(X, y, [start, limit], 1.0, "stall").startswith("stopped")
        assert stall_message(X, y, [start, np.nextafter(limit, 1)], 1.0, "stall").startswith("stalled")
