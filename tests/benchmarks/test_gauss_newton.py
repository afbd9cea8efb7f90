"""Preparation, first iteration and six iterations of every path and of its opponents; a late iteration.

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
from fast.gauss_newton import EventRun, TreeRun
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, activation_pattern
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Record = Callable[..., None]
Beside = Callable[..., None]
Run = EventRun | TreeRun | DenseRun
ROUNDS = 10
SIX = 6
"""Iterations of a whole run: no pair flips in the last of them, or very few, and next to nothing is left to learn."""


def sketched_run(network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> TreeRun:
    return TreeRun(network, X, y, solver="sketch", rng=generator(0, "benchmark run", network.width))


PATHS: dict[str, Callable[[TwoLayerNetwork, FloatArray, FloatArray], Run]] = {
    "events": EventRun,
    "tree, Cholesky": TreeRun,
    "tree, sketch": sketched_run,
    "dense": DenseRun,
    "compacted": partial(DenseRun, compact=True),
}


OPPONENTS = ("dense", "compacted")


def residual_after_one_step(network: TwoLayerNetwork, problem: Problem) -> float:
    """Take the step with dense arrays, straight from its formulas."""
    X, pattern = problem.X, activation_pattern(network, problem.X).astype(float)
    G = (X @ X.T) * (pattern @ pattern.T) / network.width
    g = np.linalg.solve(G, network.predict(X) - problem.y)
    steps = network.signs[:, np.newaxis] * (pattern.T @ (g[:, np.newaxis] * X)) / np.sqrt(network.width)
    stepped = TwoLayerNetwork(network.weights - steps, network.signs, network.shift)
    return float(np.linalg.norm(stepped.predict(X) - problem.y))


def prepare(
    path: str, network: TwoLayerNetwork, problem: Problem, iterations: int
) -> tuple[tuple[Run, int], dict[str, Any]]:
    return (PATHS[path](network, problem.X, problem.y), iterations), {}


def ready(path: str, network: TwoLayerNetwork, problem: Problem, iterations: int) -> Callable[[], Run]:
    return partial(iterate, PATHS[path](network, problem.X, problem.y), iterations)


def iterate(run: Run, iterations: int) -> Run:
    for _ in range(iterations):
        run.iterate()
    return run


def assert_trained(run: Run, problem: Problem) -> None:
    """Compare with the residual of the trained network itself, not with what the run reports."""
    residual = run.run(0, 0.0).network.predict(problem.X) - problem.y
    np.testing.assert_allclose(residual, 0, atol=RUN)


@pytest.mark.benchmark(group="preparation")
@pytest.mark.parametrize("path", PATHS)
def test_preparation(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    run = benchmark(PATHS[path], network, problem.X, problem.y)
    expected = np.linalg.norm(network.predict(problem.X) - problem.y)
    np.testing.assert_allclose(run.residual_norms, [expected], rtol=RUN)
    record(network, **run.preparation_counts)
    beside(path, OPPONENTS, lambda name: partial(PATHS[name], network, problem.X, problem.y))


@pytest.mark.benchmark(group="one iteration")
@pytest.mark.parametrize("path", PATHS)
def test_iteration(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    run = benchmark.pedantic(
        iterate, setup=partial(prepare, path, network, problem, 1), rounds=ROUNDS, warmup_rounds=1
    )
    [counts] = run.counts
    np.testing.assert_allclose(run.residual_norms[1], residual_after_one_step(network, problem), rtol=RUN)
    record(network, **counts)
    beside(path, OPPONENTS, lambda name: ready(name, network, problem, 1))


@pytest.mark.benchmark(group="six iterations")
@pytest.mark.parametrize("path", ["events", "tree, Cholesky", "dense", "compacted"])
def test_six_iterations(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    run = benchmark.pedantic(
        iterate, setup=partial(prepare, path, network, problem, SIX), rounds=ROUNDS, warmup_rounds=1
    )
    assert_trained(run, problem)
    record(network, **{phase: sum(counts[phase] for counts in run.counts) for phase in run.counts[0]})
    beside(path, OPPONENTS, lambda name: ready(name, network, problem, SIX))


@pytest.mark.benchmark(group="six iterations after their start")
@pytest.mark.parametrize("path", ["events", "dense", "compacted"])
def test_whole_run(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    def whole(name: str) -> Run:
        return iterate(PATHS[name](network, problem.X, problem.y), SIX)

    run = benchmark(whole, path)
    assert_trained(run, problem)
    record(network, **run.preparation_counts)
    beside(path, OPPONENTS, lambda name: partial(whole, name))


@pytest.mark.benchmark(group="late iteration")
@pytest.mark.parametrize("path", ["events", "dense", "compacted"])
def test_late_iteration(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    """Iterate once more after flips have died out; the run stays as it is, so all rounds share one."""
    late = ready(path, network, problem, SIX + 2)()
    run = benchmark(iterate, late, 1)
    assert_trained(run, problem)
    counts = run.counts[-1]
    assert counts.get("flips", 0) == 0
    record(network, **counts)
    runs = {name: ready(name, network, problem, SIX + 2)() for name in OPPONENTS} | {path: late}
    beside(path, OPPONENTS, lambda name: runs[name].iterate)


@pytest.mark.benchmark(group="preparation and one iteration, small network")
@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_small_iteration(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    small_network: TwoLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    """Train for one iteration, preparation included: the reference has no state to prepare."""

    def train(name: str) -> tuple[FloatArray, dict[str, int]]:
        if name == "reference":
            trace = reference.gauss_newton.train(small_network, problem.X, problem.y, iterations=1)
            return trace.residual_norms, trace.counts[0]
        run = PATHS[name](small_network, problem.X, problem.y)
        run.iterate()
        return np.array(run.residual_norms), run.counts[0]

    residual_norms, counts = benchmark(train, path)
    np.testing.assert_allclose(residual_norms[1], residual_after_one_step(small_network, problem), rtol=RUN)
    record(small_network, **counts)
    beside(path, ["reference"], lambda name: partial(train, name))
