"""Build, query and update of the forest; a query's opponent is a plain scan of the same scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import reference.threshold_search
from fast.gauss_newton import TreeRun
from fast.threshold_search import ThresholdForest
from reference.notation import FloatArray, IntArray
from reference.two_layer import TwoLayerNetwork, preactivations, shift_for
from verify.problems import Problem

Record = Callable[..., None]
Beside = Callable[..., None]
ROUNDS = 30
alphas = pytest.mark.parametrize("alpha", [0.24, 0.5], ids="alpha={}".format)


@pytest.fixture(scope="module")
def scores(network: TwoLayerNetwork, problem: Problem) -> FloatArray:
    return np.ascontiguousarray(preactivations(network, problem.X))


def scan(scores: FloatArray, threshold: float) -> tuple[IntArray, IntArray]:
    """Find the same pairs from all scores, in the quickest way known for NumPy."""
    return np.divmod(np.flatnonzero(scores >= threshold), scores.shape[1])


def scan_one(scores: FloatArray, threshold: float) -> IntArray:
    """Find those of the last data point."""
    found: IntArray = np.flatnonzero(scores[-1] >= threshold)
    return found


@pytest.mark.benchmark(group="forest: build")
def test_build(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, scores: FloatArray
) -> None:
    forest = benchmark(ThresholdForest.build, scores)
    np.testing.assert_array_equal(forest.query(network.shift), scan(scores, network.shift))
    record(network, nodes_visited=forest.nodes_visited["build"])


@alphas
def test_query(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    scores: FloatArray,
    alpha: float,
) -> None:
    benchmark.group = f"query of all data points, alpha={alpha}"
    forest = ThresholdForest.build(scores)
    threshold = shift_for(network.width, alpha)
    expected = scan(scores, threshold)
    np.testing.assert_array_equal(forest.query(threshold), expected)
    record(network, threshold=threshold, pairs=len(expected[0]), nodes_visited=forest.nodes_visited["query"])
    np.testing.assert_array_equal(benchmark(forest.query, threshold), expected)
    routes = {"forest": partial(forest.query, threshold), "scan": partial(scan, scores, threshold)}
    beside("forest", ["scan"], routes.__getitem__, repeated=True)


@alphas
def test_scan(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, scores: FloatArray, alpha: float
) -> None:
    benchmark.group = f"query of all data points, alpha={alpha}"
    threshold = shift_for(network.width, alpha)
    data_index, neuron_index = benchmark(scan, scores, threshold)
    rows = [reference.threshold_search.scan(row, threshold) for row in scores]
    np.testing.assert_array_equal(neuron_index, np.concatenate(rows))
    np.testing.assert_array_equal(data_index, np.repeat(np.arange(len(rows)), [len(row) for row in rows]))
    record(network, threshold=threshold, pairs=len(data_index), scores_read=scores.size)


@alphas
def test_query_one(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    scores: FloatArray,
    alpha: float,
) -> None:
    benchmark.group = f"query of one data point, alpha={alpha}"
    forest = ThresholdForest.build(scores)
    threshold = shift_for(network.width, alpha)
    expected = reference.threshold_search.scan(scores[-1], threshold)
    np.testing.assert_array_equal(forest.query_one(len(scores) - 1, threshold), expected)
    record(network, threshold=threshold, pairs=len(expected), nodes_visited=forest.nodes_visited["query"])
    np.testing.assert_array_equal(benchmark(forest.query_one, len(scores) - 1, threshold), expected)
    routes = {
        "forest": partial(forest.query_one, len(scores) - 1, threshold),
        "scan": partial(scan_one, scores, threshold),
    }
    beside("forest", ["scan"], routes.__getitem__, repeated=True)


@alphas
def test_scan_one(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, scores: FloatArray, alpha: float
) -> None:
    benchmark.group = f"query of one data point, alpha={alpha}"
    threshold = shift_for(network.width, alpha)
    found = benchmark(scan_one, scores, threshold)
    np.testing.assert_array_equal(found, reference.threshold_search.scan(scores[-1], threshold))
    record(network, threshold=threshold, pairs=len(found), scores_read=network.width)


@pytest.mark.parametrize("neurons", ["all fired neurons", "one neuron"])
def test_update(
    benchmark: BenchmarkFixture,
    record: Record,
    network: TwoLayerNetwork,
    problem: Problem,
    scores: FloatArray,
    neurons: str,
) -> None:
    """Write the scores of a Gauss-Newton step; before each round the old ones are put back."""
    benchmark.group = f"forest: update of {neurons}"
    run = TreeRun(network, problem.X, problem.y)
    fired = np.unique(run.fired.neuron_index)
    run.iterate()
    changed = fired if neurons == "all fired neurons" else fired[:1]
    stepped = run.trace(0.0).network.to_dense().weights[changed]
    old, new = scores[:, changed], problem.X @ stepped.T
    forest = ThresholdForest.build(scores)

    def put_old_scores_back() -> tuple[tuple[IntArray, FloatArray], dict[str, object]]:
        forest.update(changed, old)
        forest.nodes_visited["update"] = 0
        return (changed, new), {}

    benchmark.pedantic(forest.update, setup=put_old_scores_back, rounds=ROUNDS, warmup_rounds=1)
    record(network, neurons=len(changed), nodes_visited=forest.nodes_visited["update"])
    expected = scores.copy()
    expected[:, changed] = new
    for level, rebuilt in zip(forest.levels, ThresholdForest.build(expected).levels, strict=True):
        np.testing.assert_array_equal(level, rebuilt)
