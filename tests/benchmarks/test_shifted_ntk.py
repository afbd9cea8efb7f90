"""The shifted NTK of all pairs at once; of few points on both sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fast.shifted_ntk
import reference.shifted_ntk
from verify.problems import Problem
from verify.tolerances import RUN

Beside = Callable[..., None]
SHIFT = 2.0
FEW = 12


@pytest.mark.benchmark(group="shifted NTK")
def test_shifted_ntk(benchmark: BenchmarkFixture, problem: Problem) -> None:
    K = benchmark(fast.shifted_ntk.shifted_ntk, problem.X, SHIFT)
    # Every entry depends on its own pair alone, so a part of the points checks a part of the matrix.
    part = slice(None, None, len(problem.X) // FEW)
    expected = reference.shifted_ntk.shifted_ntk(problem.X[part], SHIFT)
    np.testing.assert_allclose(K[part, part], expected, rtol=RUN)
    np.testing.assert_array_equal(K, K.T)
    n = len(problem.X)
    benchmark.extra_info.update(n=n, pairs=n * (n - 1) // 2, shift=SHIFT)


@pytest.mark.benchmark(group="shifted NTK of few points")
@pytest.mark.parametrize(
    ("side", "other"),
    [(reference.shifted_ntk, fast.shifted_ntk), (fast.shifted_ntk, reference.shifted_ntk)],
    ids=["reference", "fast"],
)
def test_few_points(
    benchmark: BenchmarkFixture, beside: Beside, problem: Problem, side: ModuleType, other: ModuleType
) -> None:
    K = benchmark(side.shifted_ntk, problem.X[:FEW], SHIFT)
    np.testing.assert_allclose(K, other.shifted_ntk(problem.X[:FEW], SHIFT), rtol=RUN)
    benchmark.extra_info.update(n=FEW, pairs=FEW * (FEW - 1) // 2, shift=SHIFT)
    routes = {module.__name__: partial(module.shifted_ntk, problem.X[:FEW], SHIFT) for module in (side, other)}
    beside(side.__name__, [reference.shifted_ntk.__name__], routes.__getitem__, repeated=True)
