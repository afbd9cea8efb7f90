"""The closed forms of work, against naive walks through nested trees and against the loops themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fast import certified_scores, low_rank, multi_layer_baselines
from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.multi_layer_baselines import MultiLayerDenseRun
from fast.multi_layer_gauss_newton import MultiLayerRun
from fast.threshold_search import FAN_OUT, ThresholdForest
from fast.two_layer import FiredPairs
from reference import multi_layer
from reference.notation import BoolArray, FloatArray
from reference.threshold_search import MaxTree
from verify import closed_forms, problems
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


def walk_halves(row: list[float], threshold: float) -> int:
    """Count the nodes of a descent that cuts the scores in halves."""
    if len(row) == 1 or max(row) < threshold:
        return 1
    half = len(row) // 2
    return 1 + walk_halves(row[:half], threshold) + walk_halves(row[half:], threshold)


@given(st.sampled_from([1, 3, 16, 17, 300]), generators, st.integers(-9, 10))
def test_plain_tree_nodes_count_a_descent_and_the_trees_own_counter(
    width: int, rng: np.random.Generator, threshold: int
) -> None:
    scores = rng.integers(-9, 10, size=width).astype(float)
    padded = scores.tolist() + [-np.inf] * ((1 << (width - 1).bit_length()) - width)
    fires = scores >= threshold
    assert closed_forms.plain_tree_nodes([fires], 0) == walk_halves(padded, threshold)
    tree = MaxTree(scores)
    tree.query(threshold)
    tree.update(width // 2, scores[width // 2])
    assert closed_forms.plain_tree_nodes([fires], 1) == tree.nodes_visited


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


def entry(fires: BoolArray, i: int) -> set[int]:
    return set(np.flatnonzero(fires[i]).tolist())


@given(st.integers(1, 4), st.integers(2, 20), st.floats(0, 0.3), generators)
def test_entries_read_by_loops(n: int, m: int, share: float, rng: np.random.Generator) -> None:
    below, above = (rng.random((n, m)) < share for _ in range(2))
    whole = n * m * m
    columns = sum(m * len(entry(below, i)) for i in range(n))
    assert closed_forms.columns_read(below, m) == (whole if 6 * below.sum() > n * m else columns)
    both = sum(len(entry(above, i)) * len(entry(below, i)) for i in range(n))
    assert closed_forms.entries_read(above, below) == (whole if 12 * above.sum() > n * m else both)


@given(st.integers(1, 4), st.integers(2, 9), st.floats(0, 1), st.integers(1, 7), generators)
def test_factors_are_counted_term_by_term(n: int, m: int, share: float, budget: int, rng: np.random.Generator) -> None:
    factors = closed_forms.Factors(m, m)
    waiting: list[tuple[set[int], set[int]]] = []
    rows: set[int] = set()
    columns: set[int] = set()
    for _ in range(5):
        left, right, H = (rng.random((n, m)) < share for _ in range(3))
        waiting += [(entry(left, i), entry(right, i)) for i in range(n)]
        fold = 0
        if len(waiting) >= budget:
            touched_rows = set().union(*(term[0] for term in waiting))
            touched_columns = set().union(*(term[1] for term in waiting))
            fold = sum(1 for _ in itertools.product(touched_rows, waiting, touched_columns))
            rows, columns, waiting = rows | touched_rows, columns | touched_columns, []
        assert factors.add(left, right, budget) == fold
        assert factors.rank == len(waiting)
        vectors = [entry(H, i) for i in range(n)]
        for side, found, inside, across in (
            (1, factors.forward_work(H), columns, rows),
            (0, factors.backward_work(H), rows, columns),
        ):
            overlaps = sum(len(h & term[side]) for h in vectors for term in waiting)
            combined = sum(len(term[1 - side]) for _ in vectors for term in waiting)
            assert found == overlaps + combined + sum(len(h & inside) * len(across) for h in vectors)


def test_deep_work_by_hand() -> None:
    """Two layers of 40 neurons, two points; neurons 0 and 1 of layer 1 and neuron 5 of layer 2 fire on both."""
    first, second = np.arange(40) < np.full((2, 1), 2), np.arange(40) == np.full((2, 1), 5)
    state = [np.ones((2, 3), dtype=bool), first, second]
    assert closed_forms.deep_preparation_work(state) == 2 * 3 * 40 + 2 * 2 * 40
    one, two = closed_forms.deep_work([state, state, state], [1, 2], 4, [160, 160])
    assert one.pop("solve") == 8 // 3 + 4
    assert one == {
        "forward": 2 * 2 * 40,
        "backward": 2 * 1 * 2,
        "gram": (2 * 4 + 3 * 4 + 4) + (1 * 4 + 2 * 4 + 4),
        "step": 4 * 2 + (2 + 4),
        "fold": 0,
        "factors": (2 * 2 * 2) + 2 * 2,  # forward, after the step: overlaps of two pairs of points, and two terms each
        "fire": 2 * 2 + 2 * 40,
        "active_pairs": 6,
        "rank": 2,
    }
    assert two == {
        **one,
        "factors": (1 * 2 * 2 + 2 * 4) + 4 * 1,  # back through two terms; forward through a block of one row
        "fold": 1 * 4 * 2,
        "rank": 0,
    }
    (alone,) = closed_forms.deep_work([state, state], [2], 4, [0])
    assert (alone["forward"], alone["backward"], alone["factors"], alone["rank"]) == (0, 0, 0, 0)
    assert (alone["step"], alone["gram"], alone["fire"]) == (4 * 1, 1 * 4 + 2 * 4 + 4, 2 * 1)


@pytest.mark.parametrize(
    ("depth", "layers", "budget"), [(1, [1], None), (2, [1, 2], 12), (3, [1, 3], None), (3, [2], None)]
)
def test_deep_work_is_what_the_loop_reports(depth: int, layers: list[int], budget: int | None) -> None:
    rng = np.random.default_rng(5)
    problem = problems.make("random", 6, 8, rng)
    network = multi_layer.initialize(256, 8, depth, shift=1.6, rng=rng, normalized=True)
    run = MultiLayerRun(network, problem.X, problem.y, trained_layers=layers, rank_budget=budget)
    upper = range(layers[0] + 1, depth + 1)
    doubts = {layer: closed_forms.Doubt(network.weights[layer - 1], network.shift) for layer in upper}

    def patterns() -> list[BoolArray]:
        hidden = run.state.signals.hidden
        return [np.ones(problem.X.shape, dtype=bool), *(patterns_of(h) for h in hidden[1:])]

    def read() -> int:
        hidden, work = run.state.signals.hidden, 0
        for layer, doubt in doubts.items():
            h = hidden[layer - 1]
            scores = (h @ run.state.layers[layer - 1].to_dense().T).reshape(len(problem.X), -1)
            work += doubt.forward_work(h.toarray(), patterns_of(h), scores)
        return work

    states, forward = [patterns()], [read()]
    assert run.preparation_counts["forward"] == closed_forms.deep_preparation_work(states[0])
    for _ in range(5):
        run.iterate()
        states.append(patterns())
        forward.append(read())
    expected = closed_forms.deep_work(states, layers, budget, forward[1:])
    for counts, each in zip(run.counts, expected, strict=True):
        assert {name: work for name, work in counts.items() if name != "solve" or name in each} == each
    assert ["solve" in each for each in expected] == [True, False, False, False, False]


def test_opponent_work_by_hand() -> None:
    """Two layers of 40 neurons, two points; neurons 0 and 1 of layer 1 and neuron 5 of layer 2 fire on both."""
    first, second = np.arange(40) < np.full((2, 1), 2), np.arange(40) == np.full((2, 1), 5)
    state = [np.ones((2, 3), dtype=bool), first, second]
    (dense,) = closed_forms.deep_opponent_work([state, state], [1, 2])
    (compacted,) = closed_forms.deep_opponent_work([state, state], [1, 2], compact=True)
    assert dense == {
        "scan": 2 * 3 * 40 + 2 * 40 * 40,
        "backward": 2 * 1 * 2,
        "gram": (2 * 4 + 3 * 4 + 4) + (1 * 4 + 2 * 4 + 4),
        "solve": 8 // 3,
        "step": 2 * 3 * 40 + 2 * 1 * 2,  # of 3 by 40 entries 12 are met, of 40 by 40 only 4
    }
    assert compacted == {**dense, "scan": 2 * 3 * 40 + 2 * 2 * 40}
    (alone,) = closed_forms.deep_opponent_work([state, state], [2], compact=True)
    assert (alone["scan"], alone["backward"], alone["gram"], alone["step"]) == (2 * 2 * 40, 0, 1 * 4 + 2 * 4 + 4, 4)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(("depth", "layers"), [(1, [1]), (2, [1, 2]), (3, [1, 3]), (3, [2])])
def test_opponent_work_is_what_the_loop_reports(depth: int, layers: list[int], compact: bool) -> None:
    rng = np.random.default_rng(5)
    problem = problems.make("random", 6, 8, rng)
    network = multi_layer.initialize(256, 8, depth, shift=1.6, rng=rng, normalized=True)
    run = MultiLayerDenseRun(network, problem.X, problem.y, trained_layers=layers, compact=compact)

    def patterns() -> list[BoolArray]:
        return [np.ones(problem.X.shape, dtype=bool), *(patterns_of(h) for h in run.signals.hidden[1:])]

    states = [patterns()]
    for _ in range(3):
        run.iterate()
        states.append(patterns())
    assert run.counts == closed_forms.deep_opponent_work(states, layers, compact=compact)


def test_columns_that_are_read() -> None:
    """Seven points, of which one has an input; thirty neurons above four below, of which one has weights."""
    doubt = closed_forms.Doubt(np.zeros((30, 4)), shift=1.0)
    doubt.W[0] = 1.0
    h = np.array([[0.9, 0.0, 0.0, 0.0]])

    def forward(h: FloatArray) -> list[int]:
        doubt.columns[:] = False
        H = np.vstack([h, np.zeros((6, 4))])
        doubt.forward_work(H, H > 0, H @ doubt.W.T)
        return np.flatnonzero(doubt.columns).tolist()

    def backward(above: int, below: list[int]) -> list[int]:
        doubt.columns[:] = False
        fires = np.zeros((7, 30), dtype=bool), np.zeros((7, 4), dtype=bool)
        fires[0][0, :above] = fires[1][0, below] = True
        doubt.backward(*fires)
        return np.flatnonzero(doubt.columns).tolist()

    assert forward(h) == [0]  # a survey
    assert backward(0, [0]) == []
    assert backward(2, [0]) == [0]
    assert backward(2, [0]) == []  # kept
    assert backward(1, [0]) == []  # a part of it
    assert backward(3, [0]) == [0]
    assert backward(3, [0, 2]) == [0, 2]
    assert forward(0.99 * h) == []  # no doubt
    assert forward(np.array([[0.9, 0.6, 0.0, 0.0]])) == [0, 1]  # one that is new, and one in doubt with it
    assert forward(np.array([[0.8, 0.6, 0.0, 0.0]])) == []  # still in doubt, and kept
    assert backward(4, [0]) == [0]
    assert backward(4, [1, 3]) == [1, 3]
    doubt.columns[:] = False
    doubt.backward(np.ones((7, 30), dtype=bool), np.zeros((7, 4), dtype=bool))
    assert doubt.columns.all()


def patterns_of(H: sparse.csr_array) -> BoolArray:
    fires = np.zeros(H.shape, dtype=bool)
    fires[np.repeat(np.arange(H.shape[0]), np.diff(H.indptr)), H.indices] = True
    return fires


def test_the_density_typed_again_is_that_of_the_weights() -> None:
    assert closed_forms.DENSE_FORWARD == low_rank.DENSE_FORWARD
    assert closed_forms.DENSE_BACK == low_rank.DENSE_BACK
    assert (closed_forms.SURVEY, closed_forms.SLACK) == (certified_scores.SURVEY, certified_scores.SLACK)
    assert closed_forms.SCATTER == multi_layer_baselines.SCATTER_AT
