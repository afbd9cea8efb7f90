"""Interleaving and paired ratios. No test looks at the clock."""

from __future__ import annotations

import gc
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from reference.notation import InputError
from verify import timing


def test_a_round_does_every_task_once_and_in_changing_order() -> None:
    log: list[str] = []
    tasks = {name: partial(log.append, name) for name in "abc"}
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert set(timing.interleaved(tasks, rng)) == set("abc")
    rounds = [tuple(log[3 * r : 3 * r + 3]) for r in range(20)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert {names[0] for names in rounds} == set("abc")


def test_what_a_task_returns_is_kept_under_its_name() -> None:
    tasks = {"one": lambda: 1.0, "two": lambda: 2.0}
    assert timing.interleaved(tasks, np.random.default_rng(1)) == {"one": 1.0, "two": 2.0}


def test_a_slow_minute_and_a_slow_round_do_not_move_the_ratio() -> None:
    slow_minute = np.where(np.arange(20) < 10, 1.0, 7.0)
    over, under = 1.2 * slow_minute, slow_minute.copy()
    over[3] *= 50
    found = timing.ratio(over, under, block=5)
    assert (found.low, found.estimate, found.high) == pytest.approx((1.2, 1.2, 1.2))


def test_the_interval_is_over_blocks_of_rounds() -> None:
    """Rounds of a block repeat each other: treated as independent they would make the interval half as wide."""
    rng = np.random.default_rng(2)
    truth, misses = 1.1, 0
    for _ in range(400):
        noise = np.repeat(np.exp(0.05 * rng.standard_normal(12)), 5)
        found = timing.ratio(truth * noise, np.ones(60), block=5)
        misses += not found.low <= truth <= found.high
    assert 8 <= misses <= 32  # 5% of 400, and three standard deviations


def test_rounds_that_are_left_over_lengthen_blocks() -> None:
    over = np.exp([0.0, 0.0, 0.0, 1.0, 1.0])
    assert timing.ratio(over, np.ones(5), block=2).estimate == pytest.approx(np.exp(0.5))


@pytest.mark.parametrize(("over", "under"), [([1.0] * 9, [1.0] * 9), ([1.0] * 10, [1.0] * 11)])
def test_too_few_rounds_or_unequal_ones_are_refused(over: list[float], under: list[float]) -> None:
    with pytest.raises(InputError, match="pass equally many, 10 or more"):
        timing.ratio(over, under, block=5)


def test_the_garbage_collector_rests_and_comes_back() -> None:
    assert gc.isenabled()
    with suppress(KeyboardInterrupt), timing.without_collections():
        assert not gc.isenabled()
        raise KeyboardInterrupt
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
