"""Sketches: of the Jacobian from its fired pairs, and of an explicit matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import sparse

from fast.jacobian import FiredJacobian
from fast.sketch import (
    apply,
    default_size,
    sketch_jacobian,
    sketch_jacobian_work,
    sketch_tensors,
    sketch_tensors_work,
)
from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.sketch import (
    Draw,
    TensorSketchDraw,
    TensorSRHTDraw,
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
    draw_tensor_srht,
    to_matrix,
)
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify.problems import Problem
from verify.seeds import generator
from verify.tolerances import RUN

Record = Callable[..., None]
MATRIX_WIDTH = 128
"""The explicit matrix has 128 d rows, so that the explicit sketch that checks it stays small."""
GAMMA = 4
CHECKED = 3
"""Columns of the sketch that are checked by definition, in the benchmark of factor pairs."""


def draw_sketch(kind: str, size: int, width: int, dim: int) -> Draw:
    rng = generator(0, "benchmark sketch", kind, size, width, dim)
    match kind:
        case "Gaussian":
            return draw_gaussian(size, width * dim, rng=rng)
        case "SRHT":
            return draw_srht(size, width * dim, rng=rng)
        case "CountSketch":
            return draw_sparse_embedding(size, width * dim, rng=rng)
        case "sparse embedding":
            return draw_sparse_embedding(size, width * dim, rng=rng, gamma=GAMMA)
        case "TensorSRHT":
            return draw_tensor_srht(size, width, dim, rng=rng)
        case _:
            return draw_tensor_sketch(size, width, dim, rng=rng)


def sketch_by_definition(draw: Draw, J: FiredJacobian) -> FloatArray:
    """Add every nonzero of ``J`` to the entries of ``S J^T`` that it reaches."""
    n, d = J.X.shape
    point, neuron = J.fired.data_index[:, np.newaxis], J.fired.neuron_index[:, np.newaxis]
    entries = J.signs[:, np.newaxis] * J.X[J.fired.data_index] / np.sqrt(J.fired.width)  # (p, d)
    sketched = np.zeros((draw.size, n))
    if isinstance(draw, TensorSketchDraw):
        rows = (draw.left_rows[neuron] + draw.right_rows) % draw.size
        np.add.at(sketched, (rows, point), draw.left_signs[neuron] * draw.right_signs * entries)
        return sketched
    for rows, signs in zip(draw.rows, draw.signs, strict=True):
        column = neuron * d + np.arange(d)
        np.add.at(sketched, (rows[column], point), signs[column] * entries / np.sqrt(len(draw.rows)))
    return sketched


@pytest.mark.benchmark(group="sketch of the Jacobian")
@pytest.mark.parametrize("kind", ["TensorSketch", "CountSketch", "sparse embedding"])
def test_sketch_jacobian(
    benchmark: BenchmarkFixture,
    record: Record,
    network: TwoLayerNetwork,
    make_jacobian: Callable[[], FiredJacobian],
    kind: str,
) -> None:
    J = make_jacobian()
    draw = draw_sketch(kind, default_size(len(J.X)), network.width, network.dim)
    sketched = benchmark(sketch_jacobian, draw, J)
    expected = sketch_by_definition(draw, J)
    np.testing.assert_allclose(sketched, expected, rtol=RUN, atol=RUN * np.abs(expected).max())
    record(network, rows=draw.size, active_pairs=len(J.fired), work=sketch_jacobian_work(draw, J))


@pytest.mark.benchmark(group="sketch of an explicit matrix")
@pytest.mark.parametrize("kind", ["Gaussian", "SRHT", "CountSketch", "sparse embedding", "TensorSketch", "TensorSRHT"])
def test_sketch_matrix(benchmark: BenchmarkFixture, record: Record, problem: Problem, kind: str) -> None:
    n, d = problem.X.shape
    shift = shift_for(MATRIX_WIDTH, 0.24)
    network = initialize(MATRIX_WIDTH, d, shift=shift, rng=generator(0, "benchmark network", MATRIX_WIDTH))
    M = np.ascontiguousarray(jacobian(network, problem.X).T)
    draw = draw_sketch(kind, default_size(n), MATRIX_WIDTH, d)
    sketched = benchmark(apply, draw, M)
    expected = to_matrix(draw) @ M
    np.testing.assert_allclose(sketched, expected, rtol=RUN, atol=RUN * np.abs(expected).max())
    record(network, rows=draw.size, entries_read=M.size)


@pytest.mark.benchmark(group="sketch of rank-one rows from sparse factors")
@pytest.mark.parametrize("kind", ["TensorSketch", "TensorSRHT"])
def test_sketch_tensors(
    benchmark: BenchmarkFixture,
    record: Record,
    network: TwoLayerNetwork,
    make_jacobian: Callable[[], FiredJacobian],
    kind: str,
) -> None:
    J, m = make_jacobian(), network.width
    starts = np.concatenate([[0], np.cumsum(J.fired.per_point())])
    rng = generator(0, "benchmark factors", m)
    left, right = (
        sparse.csr_array((values, J.fired.neuron_index, starts), shape=(len(J.X), m))
        for values in (rng.standard_normal(len(J.fired)), rng.random(len(J.fired)))
    )
    draw = cast(TensorSketchDraw | TensorSRHTDraw, draw_sketch(kind, default_size(len(J.X)), m, m))
    sketched = benchmark(sketch_tensors, draw, left, right)
    expected = np.column_stack([sketch_pair(draw, left[[i]], right[[i]]) for i in range(CHECKED)])
    np.testing.assert_allclose(sketched[:, :CHECKED], expected, rtol=RUN, atol=RUN * np.abs(expected).max())
    record(network, rows=draw.size, nonzeros=left.nnz + right.nnz, work=sketch_tensors_work(draw, left, right))


def sketch_pair(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> FloatArray:
    """Sketch one tensor from the nonzeros of its factors, by definition."""
    u, x = draw.left_signs[left.indices] * left.data, draw.right_signs[right.indices] * right.data
    if isinstance(draw, TensorSRHTDraw):
        parities = [
            np.bitwise_count(rows[:, np.newaxis] & factor.indices) % 2
            for rows, factor in ((draw.left_rows, left), (draw.right_rows, right))
        ]
        left_sums, right_sums = (np.where(odd, -v, v).sum(axis=1) for odd, v in zip(parities, (u, x), strict=True))
        return np.asarray(left_sums * right_sums / np.sqrt(draw.size))
    rows = draw.left_rows[left.indices][:, np.newaxis] + draw.right_rows[right.indices]
    sketched: FloatArray = np.bincount(rows.ravel() % draw.size, np.outer(u, x).ravel(), draw.size)
    return sketched
