from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import InputError
from reference.threshold_search import MaxTree, scan

whole = st.integers(-4, 4).map(float)


@given(st.lists(whole, min_size=1, max_size=40), st.lists(st.tuples(st.integers(0, 39), whole)), whole)
def test_the_tree_agrees_with_the_scan_after_any_updates(
    scores: list[float], updates: list[tuple[int, float]], threshold: float
) -> None:
    tree, current = MaxTree(scores), list(scores)
    for neuron, score in updates:
        tree.update(neuron % len(scores), score)
        current[neuron % len(scores)] = score
        assert tree.query(threshold).tolist() == scan(current, threshold).tolist()


def test_a_score_at_the_threshold_is_reported() -> None:
    assert scan([1.0, 2.0], 2.0).tolist() == [1]
    assert MaxTree([1.0, 2.0]).query(2.0).tolist() == [1]


@given(st.lists(whole, min_size=1, max_size=200), whole)
def test_the_query_visits_no_more_nodes_than_claimed(scores: list[float], threshold: float) -> None:
    tree = MaxTree(scores)
    found = len(tree.query(threshold))
    assert tree.nodes_visited <= 2 * found * math.ceil(math.log2(max(len(scores), 2))) + 1


def test_an_update_visits_one_path() -> None:
    tree = MaxTree(np.arange(1000.0))
    tree.update(17, 5000.0)
    assert tree.nodes_visited == 11
    tree.update(18, 6000.0)
    assert tree.nodes_visited == 22
    assert tree.query(4000.0).tolist() == [17, 18]


@pytest.mark.parametrize("width", [1, 3, 4])
def test_the_root_is_enough_to_see_that_nothing_reaches_the_threshold(width: int) -> None:
    tree = MaxTree(np.arange(float(width)))
    found = tree.query(width)
    assert (found.size, found.dtype, tree.nodes_visited) == (0, np.intp, 1)
    tree.update(0, 0.5)
    tree.query(width)
    assert tree.nodes_visited == 1 + (1 + math.ceil(math.log2(width))) + 1


def test_a_threshold_of_minus_infinity_reports_every_neuron_and_no_other() -> None:
    assert MaxTree([1.0, 2.0, 3.0]).query(-math.inf).tolist() == [0, 1, 2] == scan([1.0, 2.0, 3.0], -math.inf).tolist()


def test_bad_input_is_refused() -> None:
    for search in (MaxTree([1.0]).query, lambda threshold: scan([1.0], threshold)):
        with pytest.raises(InputError, match="threshold is nan; pass a real number"):
            search(math.nan)
    tree = MaxTree([1.0, 2.0])
    with pytest.raises(InputError, match="neuron is 2; pass one from 0 to 1"):
        tree.update(2, 0.0)
    with pytest.raises(InputError, match="neuron is -1"):
        tree.update(-1, 0.0)
    with pytest.raises(InputError, match=r"^score has a NaN"):
        tree.update(0, math.nan)
    with pytest.raises(InputError, match=r"^scores is empty"):
        MaxTree([])
    with pytest.raises(InputError, match=r"^scores is empty"):
        scan([], 0.0)
