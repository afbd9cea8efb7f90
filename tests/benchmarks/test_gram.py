"""The Gram matrix: from fired pairs, from a network, and from the definition at a small width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fast.gram
import reference.gram
from fast.jacobian import FiredJacobian
from reference.two_layer import TwoLayerNetwork, activation_pattern
from verify.problems import Problem
from verify.tolerances import RUN

Record = Callable[..., None]
Beside = Callable[..., None]
ROUNDS = 30


@pytest.mark.benchmark(group="Gram matrix")
def test_shared_counts(
    benchmark: BenchmarkFixture,
    record: Record,
    network: TwoLayerNetwork,
    problem: Problem,
    make_jacobian: Callable[[], FiredJacobian],
) -> None:
    """Count from fired pairs; every round gets a new Jacobian, because a used one remembers its pattern."""
    shared, work = benchmark.pedantic(
        fast.gram.shared_counts, setup=lambda: ((make_jacobian(),), {}), rounds=ROUNDS, warmup_rounds=1
    )
    pattern = activation_pattern(network, problem.X).astype(float)
    np.testing.assert_array_equal(shared, pattern @ pattern.T)
    record(network, work=work)


@pytest.mark.benchmark(group="Gram matrix")
def test_gram_of_a_network(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, problem: Problem
) -> None:
    G = benchmark(fast.gram.gram, network, problem.X)
    pattern = activation_pattern(network, problem.X).astype(float)
    expected = (problem.X @ problem.X.T) * (pattern @ pattern.T) / network.width
    np.testing.assert_allclose(G, expected, rtol=RUN)
    record(network, active_pairs=int(pattern.sum()))


@pytest.mark.benchmark(group="Gram matrix of a small network")
@pytest.mark.parametrize("side", ["reference", "fast"])
def test_small_gram(
    benchmark: BenchmarkFixture,
    record: Record,
    beside: Beside,
    small_network: TwoLayerNetwork,
    problem: Problem,
    side: str,
) -> None:
    routes = {"reference": reference.gram.gram, "fast": fast.gram.gram}
    [other] = routes.keys() - {side}
    G = benchmark(routes[side], small_network, problem.X)
    np.testing.assert_allclose(G, routes[other](small_network, problem.X), rtol=RUN, atol=RUN * G.max())
    record(small_network)
    beside(side, ["reference"], lambda name: partial(routes[name], small_network, problem.X), repeated=True)
