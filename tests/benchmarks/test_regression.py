"""Solving ``G g = f - y``, given ``G`` for Cholesky and ``S J^T`` for the sketched iterations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fast.gram import gram
from fast.jacobian import FiredJacobian
from fast.regression import Method, solve_cholesky, solve_sketched
from fast.sketch import default_size, sketch_jacobian
from reference.regression import solve_exact
from reference.sketch import draw_tensor_sketch
from reference.two_layer import TwoLayerNetwork
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Record = Callable[..., None]


@pytest.mark.benchmark(group="solve")
def test_cholesky(
    benchmark: BenchmarkFixture, record: Record, network: TwoLayerNetwork, problem: Problem
) -> None:
    G = gram(network, problem.X)
    rhs = network.predict(problem.X) - problem.y
    g = benchmark(solve_cholesky, G, rhs)
    np.testing.assert_allclose(g, solve_exact(G, rhs), rtol=RUN)
    record(network, work=len(G) ** 3 // 3, condition=float(np.linalg.cond(G)))


@pytest.mark.benchmark(group="solve")
@pytest.mark.parametrize("method", ["conjugate", "paper"])
def test_sketched(
    benchmark: BenchmarkFixture,
    record: Record,
    network: TwoLayerNetwork,
    problem: Problem,
    make_jacobian: Callable[[], FiredJacobian],
    method: Method,
) -> None:
    J = make_jacobian()
    rng = generator(0, "benchmark solve", network.width)
    draw = draw_tensor_sketch(default_size(len(J.X)), network.width, network.dim, rng=rng)
    sketched = sketch_jacobian(draw, J)
    rhs = network.predict(problem.X) - problem.y
    solution = benchmark(solve_sketched, J, sketched, rhs, method=method)
    np.testing.assert_allclose(solution.solution, solve_exact(gram(network, problem.X), rhs), rtol=RUN)
    record(network, work=solution.work, products=solution.products, steps=len(solution.residual_history) - 1)
