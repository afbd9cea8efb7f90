"""The closed forms of work, against naive walks through nested trees and against the loops themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.threshold_search import FAN_OUT, ThresholdForest
from fast.two_layer import FiredPairs
from reference.notation import FloatArray
from verify import closed_forms
from verify.strategies import generators

WIDTHS = [1, 3, 16, 17, 255, 256, 257, 300, 4097]


def levels_of(row: FloatArray) -> list[list[float]]:
    """Stack up the maxima of one tree by plain loops: leaves first, the children of the root last."""
    levels = [row.tolist()]
    while len(levels[-1]) > 16:
        below = levels[-1]
        levels.append([max(below[start : start + 16]) for start in range(0, len(below), 16)])
    return levels


def walk(levels: list[list[float]], level: int, node: int, threshold: float) -> int:
    """Count the places that a descent from one node looks at: 16 children, and more below those that reach."""
    total = 16
    for child in range(16 * node, min(16 * node + 16, len(levels[level]))):
        if level > 0 and levels[level][child] >= threshold:
            total += walk(levels, level - 1, child, threshold)
    return total


@given(st.sampled_from(WIDTHS), st.integers(1, 3), generators, st.integers(-9, 10))
def test_query_nodes_count_a_descent(width: int, n: int, rng: np.random.Generator, threshold: int) -> None:
    scores = rng.integers(-9, 10, size=(n, width)).astype(float)
    trees = [levels_of(row) for row in scores]
    expected = sum(walk(levels, len(levels) - 1, 0, threshold) for levels in trees)
    assert closed_forms.query_nodes(scores >= threshold) == expected


@given(st.sampled_from(WIDTHS), st.integers(1, 3))
def test_build_nodes_count_full_nodes(width: int, n: int) -> None:
    sizes = [len(level) for level in levels_of(np.zeros(width))]
    assert closed_forms.build_nodes(n, width) == n * sum(16 * -(-size // 16) for size in sizes)
    assert closed_forms.depths(width) == [16**level for level in range(1, len(sizes))]


@given(
    st.sampled_from(WIDTHS),
    st.integers(1, 3),
    generators,
    st.sampled_from([0.01, 0.3, 1.0]),
    st.sampled_from([2, 1000]),
)
def test_counts_of_a_forest_equal_their_closed_forms(
    width: int, n: int, rng: np.random.Generator, share: float, values: int
) -> None:
    # Few values make ties between children common.
    before = rng.integers(0, values, size=(n, width)).astype(float)
    moved = np.sort(rng.permutation(width)[: max(1, int(share * width))])
    after = before.copy()
    after[:, moved] = rng.integers(0, values, size=(n, len(moved)))
    forest = ThresholdForest.build(before)
    forest.update(moved, after[:, moved])
    assert forest.nodes_visited["build"] == closed_forms.build_nodes(n, width)
    assert forest.nodes_visited["update"] == closed_forms.update_nodes(before, after, moved)


def test_update_nodes_by_hand() -> None:
    before = np.arange(300.0)[np.newaxis]
    # Leaf 0 rises and stays below its maximum: written, and its parent looked at.
    after = before.copy()
    after[0, 0] = 1.5
    assert closed_forms.update_nodes(before, after, np.array([0])) == 1 + 1
    # Leaf 299 is the maximum of everything: two nodes recomputed, one grandparent looked at.
    after = before.copy()
    after[0, 299] = 400.0
    assert closed_forms.update_nodes(before, after, np.array([299])) == 1 + 1 + 16 + 1 + 16
    # Both maxima of a node sink to the same value: the node is recomputed once.
    after = before.copy()
    after[0, [14, 15]] = 0.0
    assert closed_forms.update_nodes(before, after, np.array([14, 15])) == 2 + 2 + 16 + 1


@given(st.integers(1, 12), st.integers(1, 60), st.floats(0, 1), generators)
def test_gram_work_is_what_the_gram_matrix_reports(
    n: int, width: int, share: float, rng: np.random.Generator
) -> None:
    fires = rng.random((n, width)) < share
    data_index, neuron_index = np.nonzero(fires)
    jacobian = FiredJacobian(np.ones((n, 2)), FiredPairs(data_index, neuron_index, n, width), np.ones(len(data_index)))
    shared, work = shared_counts(jacobian)
    assert closed_forms.gram_work(fires) == work + n * n
    # Where the product is sparse, the work is the number of additions, and so the sum of the counts.
    assert work in {int(shared.sum()), n * n * int(fires.any(axis=0).sum())}


def test_gram_work_turns_dense_where_neurons_fire_on_many_points() -> None:
    assert closed_forms.gram_work(np.eye(5, dtype=bool)) == 5 + 25
    assert closed_forms.gram_work(np.ones((20, 10), dtype=bool)) == 20 * 20 * 10 + 20 * 20
    # Five neurons that fire on 8 of 9 points are just sparse enough.
    assert closed_forms.gram_work(np.arange(9)[:, np.newaxis] < np.full(5, 8)) == 8 * 8 * 5 + 9 * 9


def test_step_and_solve_by_loops() -> None:
    fires = np.array([[True, False, True], [False, False, True]])
    coefficients = sum(1 for _ in range(3))  # one for each of the three pairs
    scores = sum(1 for _ in itertools.product(range(3), range(2)))  # each pair moves a score on both points
    assert closed_forms.step_work(fires) == coefficients + scores
    assert [closed_forms.solve_work(n) for n in (1, 3, 8)] == [0, 9, 170]


def test_the_fan_out_typed_again_is_that_of_the_trees() -> None:
    assert closed_forms.FAN_OUT == FAN_OUT


@pytest.mark.parametrize("width", [1, 16, 17, 40])
def test_maxima_of_short_groups(width: int) -> None:
    values = np.arange(float(width))[np.newaxis]
    expected = [min(start + 15, width - 1) for start in range(0, width, 16)]
    assert closed_forms.maxima(values)[0].tolist() == expected
