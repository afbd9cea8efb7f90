"""The rectangular product, square and as in a fold: Strassen's blocks, the same halved once more, and BLAS alone.

The side of the squares is an eighth of the width: BENCHMARK_WIDTH=65536 gives 8192, where halving pays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import reference.rectangular_product
from fast.rectangular_product import LEAF, error_bound, multiplications, multiply
from reference.notation import FloatArray
from verify.seeds import generator

Beside = Callable[..., None]
SHAPES = {"square": (1, 1, 1), "fold": (1, 0.5, 1)}
"""Sides as multiples of an eighth of the width."""
SMALL = 64
ROUNDS = 5


def draw(shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    p, q, r = shape
    rng = generator(0, "benchmark product", p, q, r)
    return rng.standard_normal((p, q)), rng.standard_normal((q, r))


def leaf_for(route: str, shape: tuple[int, int, int]) -> int:
    """Return the leaf that makes no halving, one halving, or as many as by default."""
    return {"@": max(shape), "halved once": min(shape) // 2, "default": LEAF}[route]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("route", ["@", "halved once", "default"])
def test_product(benchmark: BenchmarkFixture, beside: Beside, width: int, kind: str, route: str) -> None:
    p, q, r = (int(width // 8 * side) for side in SHAPES[kind])
    benchmark.group = f"product ({p}, {q}, {r})"
    A, B = draw((p, q, r))
    leaf = leaf_for(route, (p, q, r))

    def routine(name: str) -> Callable[[], FloatArray]:
        return (lambda: A @ B) if name == "@" else (lambda: multiply(A, B, leaf=leaf))

    C = benchmark.pedantic(routine(route), rounds=ROUNDS, warmup_rounds=1)
    allowed = error_bound(A, B, leaf=leaf) + error_bound(A, B, leaf=max(p, q, r))
    assert np.abs(C - A @ B).max() <= allowed
    work = multiplications(p, q, r, leaf=leaf)
    benchmark.extra_info.update(p=p, q=q, r=r, leaf=leaf, work=work, saved=1 - work / (p * q * r))
    beside(route, ["@"], routine)


@pytest.mark.benchmark(group=f"product ({SMALL}, {SMALL}, {SMALL})")
@pytest.mark.parametrize("side", ["reference", "fast"])
def test_small_product(benchmark: BenchmarkFixture, beside: Beside, side: str) -> None:
    A, B = draw((SMALL, SMALL, SMALL))
    routines = {"reference": reference.rectangular_product.multiply, "fast": multiply}
    C = benchmark(routines[side], A, B)
    np.testing.assert_allclose(C, A @ B, rtol=0, atol=2 * error_bound(A, B))
    benchmark.extra_info.update(p=SMALL, q=SMALL, r=SMALL, work=SMALL**3)
    beside(side, ["reference"], lambda name: partial(routines[name], A, B), repeated=True)
