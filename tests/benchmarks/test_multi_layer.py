"""Deep training: preparation, one iteration and four of every path and of its opponents; the last layer alone.

The matrices of a deep network have ``m^2`` entries, so the width is its own and not BENCHMARK_WIDTH. An iteration
changes its run, so every round starts from a run prepared afresh, outside the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import reference.multi_layer_gauss_newton
from fast.gauss_newton import EventRun
from fast.multi_layer_baselines import MultiLayerDenseRun
from fast.multi_layer_gauss_newton import LastLayer, MultiLayerRun
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import FloatArray
from reference.two_layer import shift_for
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Record = Callable[..., None]
Beside = Callable[..., None]
Run = MultiLayerRun | MultiLayerDenseRun | EventRun
DEPTH, ALPHA = 2, 0.24
FEW, ROUNDS = 4, 10


def sketched_run(
    network: MultiLayerNetwork, X: FloatArray, y: FloatArray, *, trained_layers: tuple[int, ...]
) -> MultiLayerRun:
    rng = generator(0, "benchmark deep run", network.width)
    return MultiLayerRun(network, X, y, trained_layers=trained_layers, solver="sketch", rng=rng)


def last_layer_run(
    network: MultiLayerNetwork, X: FloatArray, y: FloatArray, *, trained_layers: tuple[int, ...]
) -> EventRun:
    assert trained_layers == (network.depth,)
    last = LastLayer(network, X, rank_budget=None)
    return last.run(y, solver="cholesky", rng=None, step="full", accuracy=1e-10)


PATHS: dict[str, Callable[..., Run]] = {
    "Cholesky": MultiLayerRun,
    "sketch": sketched_run,
    "dense": MultiLayerDenseRun,
    "compacted": partial(MultiLayerDenseRun, compact=True),
}
OPPONENTS = ("dense", "compacted")
LAST: dict[str, Callable[..., Run]] = {"two-layer": last_layer_run} | PATHS
LAYERS = [(1, 2), (1,), (2,)]


@pytest.fixture(scope="module", params=[1024], ids="m={}".format)
def deep_network(request: pytest.FixtureRequest, problem: Problem) -> MultiLayerNetwork:
    width, d = int(request.param), problem.X.shape[1]
    rng = generator(0, "benchmark deep network", width)
    return initialize(width, d, DEPTH, shift=shift_for(width, ALPHA), rng=rng, normalized=True)


@pytest.fixture(scope="module", params=[1024], ids="m={}".format)
def plain_network(request: pytest.FixtureRequest, problem: Problem) -> MultiLayerNetwork:
    """Return a network that is not normalized, as the last layer alone needs it to be trained as two layers."""
    width, d = int(request.param), problem.X.shape[1]
    rng = generator(0, "benchmark deep network", width)
    return initialize(width, d, DEPTH, shift=shift_for(width, 0.1), rng=rng)


def prepare(
    start: Callable[..., Run], network: MultiLayerNetwork, problem: Problem, layers: tuple[int, ...], iterations: int
) -> tuple[tuple[Run, int], dict[str, Any]]:
    return (start(network, problem.X, problem.y, trained_layers=layers), iterations), {}


def ready(
    start: Callable[..., Run], network: MultiLayerNetwork, problem: Problem, layers: tuple[int, ...], iterations: int
) -> Callable[[], Run]:
    return partial(iterate, start(network, problem.X, problem.y, trained_layers=layers), iterations)


def iterate(run: Run, iterations: int) -> Run:
    for _ in range(iterations):
        run.iterate()
    return run


def assert_follows_the_reference(
    run: Run, network: MultiLayerNetwork, problem: Problem, layers: tuple[int, ...]
) -> None:
    """Compare every residual with a run of the reference, which has no part in what was timed."""
    iterations = len(run.residual_norms) - 1
    trace = reference.multi_layer_gauss_newton.train(
        network, problem.X, problem.y, trained_layers=layers, iterations=iterations
    )
    scale = float(np.linalg.norm(problem.y))
    np.testing.assert_allclose(run.residual_norms, trace.residual_norms, rtol=RUN, atol=RUN * scale)


@pytest.mark.benchmark(group="deep, preparation")
@pytest.mark.parametrize("path", PATHS)
def test_preparation(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    deep_network: MultiLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    run = benchmark(PATHS[path], deep_network, problem.X, problem.y, trained_layers=(1, 2))
    assert_follows_the_reference(run, deep_network, problem, (1, 2))
    record(deep_network, **getattr(run, "preparation_counts", {}))
    start = {name: partial(PATHS[name], deep_network, problem.X, problem.y, trained_layers=(1, 2)) for name in PATHS}
    beside(path, OPPONENTS, start.__getitem__)


@pytest.mark.benchmark(group="deep, one iteration")
@pytest.mark.parametrize("layers", LAYERS, ids=repr)
@pytest.mark.parametrize("path", PATHS)
def test_iteration(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    deep_network: MultiLayerNetwork,
    problem: Problem,
    path: str,
    layers: tuple[int, ...],
) -> None:
    setup = partial(prepare, PATHS[path], deep_network, problem, layers, 1)
    run = benchmark.pedantic(iterate, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert_follows_the_reference(run, deep_network, problem, layers)
    record(deep_network, **run.counts[0])
    beside(path, OPPONENTS, lambda name: ready(PATHS[name], deep_network, problem, layers, 1))


@pytest.mark.benchmark(group="deep, four iterations")
@pytest.mark.parametrize("path", PATHS)
def test_four_iterations(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    deep_network: MultiLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    setup = partial(prepare, PATHS[path], deep_network, problem, (1, 2), FEW)
    run = benchmark.pedantic(iterate, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert_follows_the_reference(run, deep_network, problem, (1, 2))
    assert run.residual_norms[-1] < 1e-3 * run.residual_norms[0]
    record(deep_network, **{phase: sum(counts[phase] for counts in run.counts) for phase in run.counts[0]})
    beside(path, OPPONENTS, lambda name: ready(PATHS[name], deep_network, problem, (1, 2), FEW))


@pytest.mark.benchmark(group="deep, last layer alone, one iteration")
@pytest.mark.parametrize("path", LAST)
def test_last_layer(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    plain_network: MultiLayerNetwork,
    problem: Problem,
    path: str,
) -> None:
    setup = partial(prepare, LAST[path], plain_network, problem, (2,), 1)
    run = benchmark.pedantic(iterate, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert_follows_the_reference(run, plain_network, problem, (2,))
    record(plain_network, **run.counts[0])
    beside(path, OPPONENTS, lambda name: ready(LAST[name], plain_network, problem, (2,), 1))
