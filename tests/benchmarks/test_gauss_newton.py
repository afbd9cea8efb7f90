"""Preparation and first iteration of every path and of its opponents.

An iteration changes its run, so every round starts from a run prepared afresh, outside the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import reference.gauss_newton
from fast.baselines import DenseRun
from fast.gauss_newton import TreeRun
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, activation_pattern
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Record = Callable[..., None]
Run = TreeRun | DenseRun
ROUNDS = 10


def sketched_run(network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> TreeRun:
    return TreeRun(network, X, y, solver="sketch", rng=generator(0, "benchmark run", network.width))


PATHS: dict[str, Callable[[TwoLayerNetwork, FloatArray, FloatArray], Run]] = {
    "tree, Cholesky": TreeRun,
    "tree, sketch": sketched_run,
    "dense": DenseRun,
    "compacted": partial(DenseRun, compact=True),
}


def residual_after_one_step(network: TwoLayerNetwork, problem: Problem) -> float:
    """Take the step with dense arrays, straight from its formulas."""
    X, pattern = problem.X, activation_pattern(network, problem.X).astype(float)
    G = (X @ X.T) * (pattern @ pattern.T) / network.width
    g = np.linalg.solve(G, network.predict(X) - problem.y)
    steps = network.signs[:, np.newaxis] * (pattern.T @ (g[:, np.newaxis] * X)) / np.sqrt(network.width)
    stepped = TwoLayerNetwork(network.weights - steps, network.signs, network.shift)
    return float(np.linalg.norm(stepped.predict(X) - problem.y))


@pytest.mark.benchmark(group="preparation")
@pytest.mark.parametrize("path", PATHS)
def test_preparation(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, problem: Problem, path: str
) -> None:
    run = benchmark(PATHS[path], network, problem.X, problem.y)
    expected = np.linalg.norm(network.predict(problem.X) - problem.y)
    np.testing.assert_allclose(run.residual_norms, [expected], rtol=RUN)
    record(network, **run.preparation_counts)


@pytest.mark.benchmark(group="one iteration")
@pytest.mark.parametrize("path", PATHS)
def test_iteration(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, problem: Problem, path: str
) -> None:
    def prepare() -> tuple[tuple[Run], dict[str, Any]]:
        return (PATHS[path](network, problem.X, problem.y),), {}

    def iterate(run: Run) -> Run:
        run.iterate()
        return run

    run = benchmark.pedantic(iterate, setup=prepare, rounds=ROUNDS, warmup_rounds=1)
    [counts] = run.counts
    np.testing.assert_allclose(run.residual_norms[1], residual_after_one_step(network, problem), rtol=RUN)
    record(network, **counts)


@pytest.mark.benchmark(group="preparation and one iteration, small network")
@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_small_iteration(
    benchmark: BenchmarkFixture, record: Record, small_network: TwoLayerNetwork, problem: Problem, path: str
) -> None:
    """Train for one iteration, preparation included: the reference has no state to prepare."""

    def train() -> tuple[FloatArray, dict[str, int]]:
        if path == "reference":
            trace = reference.gauss_newton.train(small_network, problem.X, problem.y, iterations=1)
            return trace.residual_norms, trace.counts[0]
        run = PATHS[path](small_network, problem.X, problem.y)
        run.iterate()
        return np.array(run.residual_norms), run.counts[0]

    residual_norms, counts = benchmark(train)
    np.testing.assert_allclose(residual_norms[1], residual_after_one_step(small_network, problem), rtol=RUN)
    record(small_network, **counts)
