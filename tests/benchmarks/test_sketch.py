"""Sketches: of the Jacobian from its fired pairs, and of an explicit matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fast.jacobian import FiredJacobian
from fast.sketch import apply, default_size, sketch_jacobian, sketch_jacobian_work
from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.sketch import (
    Draw,
    TensorSketchDraw,
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
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
@pytest.mark.parametrize("kind", ["Gaussian", "SRHT", "CountSketch", "sparse embedding", "TensorSketch"])
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
