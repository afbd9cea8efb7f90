from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fast.threshold_search import CHUNK, FAN_OUT, ThresholdForest
from reference.notation import FloatArray, InputError
from reference.threshold_search import MaxTree, scan
from verify.strategies import generators

WIDTHS = [1, 2, 15, 16, 17, 255, 256, 257, 4097]


def assert_equals_scan(forest: ThresholdForest, scores: FloatArray, threshold: float) -> None:
    data_index, neuron_index = forest.query(threshold)
    expected = [(i, r) for i, row in enumerate(scores) for r in scan(row, threshold)]
    assert list(zip(data_index.tolist(), neuron_index.tolist(), strict=True)) == expected


class ForestMachine(RuleBasedStateMachine):
    """Any interleaving of updates and queries equals a scan of the current scores."""

    @initialize(
        width=st.sampled_from(WIDTHS),
        n=st.integers(1, 4),
        rng=generators,
        fan_out=st.sampled_from([FAN_OUT, FAN_OUT, 2, 3]),
    )
    def build(self, width: int, n: int, rng: np.random.Generator, fan_out: int) -> None:
        # Whole numbers, so that ties with each other and with the threshold are common.
        self.scores = rng.integers(-9, 10, size=(n, width)).astype(float)
        self.forest = ThresholdForest.build_from_blocks(n, width, [self.scores], fan_out=fan_out)

    @rule(rng=generators, share=st.sampled_from([0.01, 0.5, 1.0]), shift=st.integers(-30, 30))
    def update(self, rng: np.random.Generator, share: float, shift: int) -> None:
        n, width = self.scores.shape
        neurons = rng.permutation(width)[: max(1, int(share * width))]
        new = rng.integers(-9, 10, size=(n, len(neurons))).astype(float) + shift
        self.forest.update(neurons, new)
        self.scores[:, neurons] = new

    @rule(threshold=st.integers(-40, 40))
    def query(self, threshold: int) -> None:
        assert_equals_scan(self.forest, self.scores, float(threshold))

    @rule(threshold=st.integers(-40, 40), i=st.integers(0, 3))
    def query_one(self, threshold: int, i: int) -> None:
        i %= len(self.scores)
        assert self.forest.query_one(i, threshold).tolist() == scan(self.scores[i], threshold).tolist()

    @invariant()
    def levels_equal_a_rebuild(self) -> None:
        if hasattr(self, "forest"):
            n, width = self.scores.shape
            rebuilt = ThresholdForest.build_from_blocks(n, width, [self.scores], fan_out=self.forest.fan_out)
            for mine, fresh in zip(self.forest.levels, rebuilt.levels, strict=True):
                np.testing.assert_array_equal(mine, fresh)


TestForestMachine = ForestMachine.TestCase
TestForestMachine.settings = settings(stateful_step_count=15, max_examples=30)


@pytest.mark.parametrize("fan_out", [2, 3, FAN_OUT])
@pytest.mark.parametrize("width", WIDTHS)
def test_updates_equal_a_rebuild_at_every_depth(width: int, fan_out: int) -> None:
    """The machine above draws few depths in an ordinary run."""
    rng = np.random.default_rng(width)
    scores = rng.integers(-9, 10, size=(2, width)).astype(float)
    forest = ThresholdForest.build_from_blocks(2, width, [scores], fan_out=fan_out)
    for share, shift in ((0.1, 20), (0.5, -20), (1.0, 0)):
        neurons = rng.permutation(width)[: max(1, int(share * width))]
        scores[:, neurons] = rng.integers(-9, 10, size=(2, len(neurons))) + shift
        forest.update(neurons, scores[:, neurons])
        rebuilt = ThresholdForest.build_from_blocks(2, width, [scores], fan_out=fan_out)
        assert [level.tolist() for level in forest.levels] == [level.tolist() for level in rebuilt.levels]
        assert_equals_scan(forest, scores, 5.0)


def test_update_of_more_nodes_than_one_chunk() -> None:
    rng = np.random.default_rng(0)
    width = FAN_OUT * (2 * CHUNK + 3)
    scores = rng.standard_normal((2, width))
    forest = ThresholdForest.build(scores)
    forest.update(np.arange(width), scores - 1)
    assert_equals_scan(forest, scores - 1, 0.5)


def test_build_copies_and_a_threshold_of_minus_infinity_reports_every_neuron() -> None:
    scores = np.zeros((2, 17))
    forest = ThresholdForest.build(scores)
    scores += 1
    assert len(forest.query(0.5)[0]) == 0
    assert_equals_scan(forest, np.zeros((2, 17)), -np.inf)


def nodes_of_query(scores: FloatArray, threshold: float) -> int:
    """Count by hand: all children of the root, and of every node with a leaf that reaches the threshold."""
    n, width = scores.shape
    i, r = np.nonzero(scores >= threshold)
    total, span = n * FAN_OUT, 1
    while width > FAN_OUT * span:
        span *= FAN_OUT
        total += FAN_OUT * len(set(zip(i.tolist(), (r // span).tolist(), strict=True)))
    return total


@given(st.sampled_from(WIDTHS), st.integers(1, 4), generators, st.integers(-9, 10))
def test_the_node_count_of_a_query_is_exact(
    width: int, n: int, rng: np.random.Generator, threshold: int
) -> None:
    scores = rng.integers(-9, 10, size=(n, width)).astype(float)
    forest = ThresholdForest.build(scores)
    forest.query(threshold)
    assert forest.nodes_visited["query"] == nodes_of_query(scores, threshold)


def test_the_node_count_of_an_update_is_exact() -> None:
    forest = ThresholdForest.build(np.tile(np.arange(5000.0), (3, 1)))
    # Leaf 17 is no maximum and stays none; leaf 4999 is the maximum of every node above it. In each tree: two leaves
    # written, two parents looked at, the three nodes above leaf 4999 recomputed, the parents of two of them looked at.
    forest.update([17, 4999], np.tile([16.5, 6000.0], (3, 1)))
    assert forest.nodes_visited["update"] == 3 * (2 + 2 + 3 * FAN_OUT + 2)
    before = forest.nodes_visited["update"]
    # The climb stops where the maximum stays: leaf 31 was the maximum of its node, and its node of nothing.
    forest.update([31], np.full((3, 1), 30.5))
    assert forest.nodes_visited["update"] - before == 3 * (1 + 1 + FAN_OUT + 1)
    # A maximum that another leaf holds as well stays, and nobody looks above it; nor for a new leaf that equals it.
    tied = ThresholdForest.build(np.zeros((1, FAN_OUT * 20)))
    tied.update([0], [[-1.0]])
    assert tied.nodes_visited["update"] == 1 + 1 + FAN_OUT
    tied.update([0], [[0.0]])
    assert tied.nodes_visited["update"] == 1 + 1 + FAN_OUT + 1 + 1


def test_lookups_return_single_scores_and_columns() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 40))
    forest = ThresholdForest.build(scores)
    assert forest.scores_at(np.array([0, 2]), np.array([39, 17])).tolist() == [scores[0, 39], scores[2, 17]]
    np.testing.assert_array_equal(forest.scores_of(np.array([5, 33])), scores[:, [5, 33]])


@pytest.mark.parametrize(
    ("neurons", "scores", "message"),
    [
        ([5], [[0.0], [0.0]], "neurons reach from 5 to 5; pass 0 to 4"),
        ([-1], [[0.0], [0.0]], "neurons reach from -1"),
        ([1, 1], [[0.0, 0.0], [0.0, 0.0]], "names one neuron twice"),
        ([3, 0, 3], [[0.0] * 3] * 2, "names one neuron twice"),
        ([1], [[0.0, 0.0]], r"scores has shape \(1, 2\); pass \(2, 1\)"),
        ([1], [[np.nan], [0.0]], "^scores has a NaN"),
        ([1.0], [[0.0], [0.0]], "pass \\(k,\\) whole numbers"),
        ([[1]], [[0.0], [0.0]], "pass \\(k,\\) whole numbers"),
    ],
)
def test_bad_updates_are_refused_and_change_nothing(neurons: object, scores: object, message: str) -> None:
    forest = ThresholdForest.build(np.zeros((2, 5)))
    with pytest.raises(InputError, match=message):
        forest.update(neurons, scores)  # type: ignore[arg-type]
    assert len(forest.query(0.0)[0]) == 10


def test_bad_builds_and_queries_are_refused() -> None:
    with pytest.raises(InputError, match=r"^scores has a NaN"):
        ThresholdForest.build([[np.nan]])
    with pytest.raises(InputError, match=r"^scores has a NaN"):
        ThresholdForest.build_from_blocks(1, 2, [np.zeros((1, 1)), np.array([[np.nan]])])
    with pytest.raises(InputError, match=r"^scores has shape"):
        ThresholdForest.build([1.0])
    forest = ThresholdForest.build([[1.0]])
    with pytest.raises(InputError, match="i is 1; pass a data point from 0 to 0"):
        forest.query_one(1, 0.0)
    for threshold in (float("nan"), None, "1", 1j, [1.0]):
        with pytest.raises(InputError, match=r"threshold is .*; pass a real number"):
            forest.query(threshold)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"i is 0\.5"):
        forest.query_one(0.5, 0.0)  # type: ignore[arg-type]
    forest.update([], np.empty((1, 0)))


def test_binary_trees_visit_what_the_papers_query_visits() -> None:
    scores = np.random.default_rng(0).standard_normal((1, 64))
    forest = ThresholdForest.build_from_blocks(1, 64, [scores], fan_out=2)
    tree = MaxTree(scores[0])
    assert forest.query(1.5)[1].tolist() == tree.query(1.5).tolist()
    # The forest stores no root, which the paper's query looks at first.
    assert forest.nodes_visited["query"] == tree.nodes_visited - 1


def test_a_node_has_two_children_or_more() -> None:
    with pytest.raises(InputError, match="fan_out is 1; pass 2"):
        ThresholdForest.build_from_blocks(1, 4, [np.zeros((1, 4))], fan_out=1)
