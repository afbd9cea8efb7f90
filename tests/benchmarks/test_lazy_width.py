"""Networks that exist only where neurons fire: drawing and training them, from narrow to a trillion neurons.

Widths beyond any full draw are named by their exponent; BENCHMARK_WIDTH chooses that of the full draw, the opponent. A
plain run of the tests takes the smallest lazy width only; a timed one takes all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.special import ndtr

from fast.gauss_newton import train
from fast.lazy_width import LazyNetwork, initialize
from fast.two_layer import fired_pairs
from reference.notation import FloatArray, IntArray
from reference.two_layer import TwoLayerNetwork, shift_for
from reference.two_layer import initialize as initialize_all
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Beside = Callable[..., None]
SPARSE = 0.6
EXPONENTS = (20, 30, 40)
ITERATIONS, TOLERANCE = 60, 1e-12
FAR = 5.0
"""How many standard deviations a count of neurons may lie from its mean; the draws are fixed."""


def draw_lazily(width: int, alpha: float, problem: Problem, unseen: FloatArray | None = None) -> LazyNetwork:
    rng = generator(0, "benchmark lazy network", width)
    return initialize(problem.X, width=width, shift=shift_for(width, alpha), rng=rng, unseen=unseen)


def draw_all_and_choose(width: int, problem: Problem) -> tuple[TwoLayerNetwork, IntArray]:
    rng = generator(0, "benchmark network", width)
    network = initialize_all(width, problem.X.shape[1], shift=shift_for(width, 0.24), rng=rng)
    fired, _ = fired_pairs(network.weights, problem.X, network.shift)
    return network, np.unique(fired.neuron_index)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate the widest networks only when times are taken."""
    if "lazy_width" in metafunc.fixturenames:
        options = metafunc.config.option
        timed = options.benchmark_enable or not options.benchmark_disable
        exponents = EXPONENTS if timed else EXPONENTS[:1]
        widths = [1 << exponent for exponent in exponents]
        metafunc.parametrize("lazy_width", widths, ids=[f"m=2^{exponent}" for exponent in exponents])


@pytest.mark.benchmark(group="draw of the neurons that fire")
def test_draw_lazily(benchmark: BenchmarkFixture, beside: Beside, width: int, problem: Problem) -> None:
    network = benchmark(draw_lazily, width, 0.24, problem)
    # One that was drawn on its threshold may compute to a score below it by rounding.
    assert (network.weights @ problem.X.T >= network.shift - RUN).any(axis=1).all()
    benchmark.extra_info.update(m=width, n=len(problem.X), d=network.dim, neurons=len(network.signs))
    routes = {"lazy": partial(draw_lazily, width, 0.24, problem), "full": partial(draw_all_and_choose, width, problem)}
    beside("lazy", ["full"], routes.__getitem__, repeated=True)


@pytest.mark.benchmark(group="draw of the neurons that fire")
def test_draw_all_and_choose(benchmark: BenchmarkFixture, width: int, problem: Problem) -> None:
    """Draw every neuron and find those that fire: the opponent."""
    network, neurons = benchmark(draw_all_and_choose, width, problem)
    fires = (network.weights @ problem.X.T >= network.shift).any(axis=1)
    np.testing.assert_array_equal(neurons, np.flatnonzero(fires))
    benchmark.extra_info.update(m=width, n=len(problem.X), d=network.dim, neurons=len(neurons))


@pytest.mark.benchmark(group="draw of wide networks, alpha=0.6")
def test_draw_wide(benchmark: BenchmarkFixture, lazy_width: int, problem: Problem) -> None:
    network = benchmark(draw_lazily, lazy_width, SPARSE, problem, problem.unseen)
    points = 2 * len(problem.X)
    law = points * lazy_width * float(ndtr(-network.shift))
    # Neurons that fire on two points count once, so the mean lies below the law, by less than a hundredth here.
    assert -0.02 * law - FAR * law**0.5 < len(network.signs) - law < FAR * law**0.5
    benchmark.extra_info.update(m=lazy_width, points=points, d=network.dim, neurons=len(network.signs), law=law)


@pytest.mark.benchmark(group="draw, training to 1e-12 and predictions of wide networks, alpha=0.6")
def test_whole_wide(benchmark: BenchmarkFixture, lazy_width: int, problem: Problem) -> None:
    def whole() -> tuple[LazyNetwork, FloatArray, FloatArray, list[dict[str, int]]]:
        network = draw_lazily(lazy_width, SPARSE, problem, problem.unseen)
        trace = train(network, problem.X, problem.y, iterations=ITERATIONS, tolerance=TOLERANCE)
        return network, trace.network.predict(problem.X), trace.network.predict(problem.unseen), trace.counts

    network, predictions, unseen, counts = benchmark.pedantic(whole, rounds=1 if lazy_width >> 30 else 3)
    np.testing.assert_allclose(predictions, problem.y, atol=RUN)
    assert np.isfinite(unseen).all()
    benchmark.extra_info.update(
        m=lazy_width,
        n=len(problem.X),
        unseen=len(unseen),
        d=network.dim,
        neurons=len(network.signs),
        iterations=len(counts),
        flips=sum(each["flips"] for each in counts),
    )
