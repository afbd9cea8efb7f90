"""Fast sketches against explicit matrices of the same draw, the sketched Jacobian against the dense one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fast.jacobian import FiredJacobian
from fast.sketch import (
    PARITY_COST,
    apply,
    default_size,
    sketch_jacobian,
    sketch_jacobian_work,
    sketch_tensors,
    sketch_tensors_work,
    walsh_hadamard,
)
from fast.two_layer import FiredPairs
from reference.jacobian import jacobian as dense_jacobian
from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError
from reference.sketch import (
    Draw,
    TensorSketchDraw,
    TensorSRHTDraw,
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
    draw_tensor_srht,
    hadamard_matrix,
    hadamard_order,
    to_matrix,
)
from reference.two_layer import activation_pattern, initialize

seeds = st.integers(0, 2**32 - 1)
TENSOR_KINDS: dict[str, Callable[..., TensorSketchDraw | TensorSRHTDraw]] = {
    "tensor": draw_tensor_sketch,
    "tensor_srht": draw_tensor_srht,
}


def make_draw(kind: str, rng: np.random.Generator) -> Draw:
    if kind in TENSOR_KINDS:
        return TENSOR_KINDS[kind](
            int(rng.integers(1, 30)), int(rng.integers(1, 9)), int(rng.integers(1, 9)), rng=rng
        )
    dim = int(rng.integers(1, 40))
    if kind == "srht":
        return draw_srht(int(rng.integers(1, hadamard_order(dim) + 1)), dim, rng=rng)
    if kind == "gaussian":
        return draw_gaussian(int(rng.integers(1, 30)), dim, rng=rng)
    gamma = int(rng.integers(1, 5))
    return draw_sparse_embedding(gamma * int(rng.integers(1, 9)), dim, rng=rng, gamma=gamma)


def make_jacobian(
    seed: int, *, n: int = 5, m: int = 40, d: int = 3, shift: float = 0.7
) -> tuple[FiredJacobian, FloatArray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    network = initialize(m, d, shift=shift, rng=rng)
    X = rng.standard_normal((n, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    data_index, neuron_index = np.nonzero(activation_pattern(network, X))
    fired = FiredPairs(data_index, neuron_index, n, m)
    return FiredJacobian(X, fired, network.signs[neuron_index]), dense_jacobian(network, X), rng


def assert_close(actual: FloatArray, expected: FloatArray, scale: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 64 * UNIT_ROUNDOFF * scale


@pytest.mark.parametrize("kind", ["gaussian", "srht", "sparse", "tensor", "tensor_srht"])
@given(seed=seeds, columns=st.integers(1, 4))
def test_apply_is_the_product_with_the_explicit_matrix(kind: str, seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    draw = make_draw(kind, rng)
    M = rng.standard_normal((draw.dim, columns))
    kept = M.copy()
    scale = (np.abs(to_matrix(draw)) @ np.abs(M)).max()
    assert_close(apply(draw, M), to_matrix(draw) @ M, scale)
    np.testing.assert_array_equal(M, kept)


@pytest.mark.parametrize("order", [1, 2, 8, 64])
def test_walsh_hadamard_is_the_product_with_the_hadamard_matrix(order: int) -> None:
    M = np.random.default_rng(0).integers(-9, 9, size=(order, 3)).astype(float)
    np.testing.assert_array_equal(walsh_hadamard(M.copy()), hadamard_matrix(order) @ M)


@given(seeds, st.integers(1, 40), st.integers(1, 6), st.integers(1, 50), st.integers(1, 5))
def test_tensor_sketched_jacobian_is_the_sketch_of_the_dense_one(
    seed: int, size: int, n: int, m: int, d: int
) -> None:
    jacobian, J, rng = make_jacobian(seed, n=n, m=m, d=d)
    draw = draw_tensor_sketch(size, m, d, rng=rng)
    # Convolutions by Fourier transform err relative to the largest entry, not to each.
    scale = np.abs(J).sum(axis=1).max() * max(1, np.log2(size))
    assert_close(sketch_jacobian(draw, jacobian), to_matrix(draw) @ J.T, scale)


@given(seeds, st.integers(1, 3), st.integers(1, 9), st.integers(1, 6))
def test_sparsely_embedded_jacobian_is_the_sketch_of_the_dense_one(
    seed: int, gamma: int, block: int, n: int
) -> None:
    jacobian, J, rng = make_jacobian(seed, n=n)
    draw = draw_sparse_embedding(gamma * block, J.shape[1], rng=rng, gamma=gamma)
    assert_close(sketch_jacobian(draw, jacobian), to_matrix(draw) @ J.T, np.abs(J).sum(axis=1).max())


def test_draws_are_read_at_fired_neurons_only() -> None:
    jacobian, _, rng = make_jacobian(0, shift=1.5)
    silent = np.setdiff1d(np.arange(40), jacobian.neurons)
    assert silent.size
    tensor = draw_tensor_sketch(16, 40, 3, rng=rng)
    left_rows, left_signs = tensor.left_rows.copy(), tensor.left_signs.copy()
    left_rows[silent], left_signs[silent] = -(2**60), np.nan
    poisoned = replace(tensor, left_rows=left_rows, left_signs=left_signs)
    np.testing.assert_array_equal(sketch_jacobian(poisoned, jacobian), sketch_jacobian(tensor, jacobian))

    sparse = draw_sparse_embedding(16, 120, rng=rng, gamma=2)
    rows, signs = sparse.rows.copy().reshape(2, 40, 3), sparse.signs.copy().reshape(2, 40, 3)
    rows[:, silent], signs[:, silent] = -(2**60), np.nan
    poisoned = replace(sparse, rows=rows.reshape(2, 120), signs=signs.reshape(2, 120))
    np.testing.assert_array_equal(sketch_jacobian(poisoned, jacobian), sketch_jacobian(sparse, jacobian))


def test_a_draw_must_cover_the_last_neuron_that_fires() -> None:
    jacobian, _, rng = make_jacobian(0, shift=1.5)
    exist = int(jacobian.neurons[-1]) + 1
    assert sketch_jacobian(draw_tensor_sketch(4, exist, 3, rng=rng), jacobian).shape == (4, 5)
    with pytest.raises(InputError, match=f"at least {exist}, and dimension 3"):
        sketch_jacobian(draw_tensor_sketch(4, exist - 1, 3, rng=rng), jacobian)
    silent, _, rng = make_jacobian(0, shift=9.0)
    with pytest.raises(InputError, match="at least 0, and dimension 3"):
        sketch_jacobian(draw_tensor_sketch(4, 1, 2, rng=rng), silent)


def test_work_is_counted_from_array_sizes() -> None:
    jacobian, _, rng = make_jacobian(0, n=5, d=3)
    pairs = len(jacobian.fired)
    for size, passes in ((16, 4), (17, 5)):
        work = sketch_jacobian_work(draw_tensor_sketch(size, 40, 3, rng=rng), jacobian)
        assert work == pairs + 15 + 3 * 5 * size * passes
    assert sketch_jacobian_work(draw_sparse_embedding(16, 120, rng=rng, gamma=2), jacobian) == 2 * pairs * 3


def make_factor(rng: np.random.Generator, n: int, columns: int, density: float) -> sparse.csr_array:
    """Sparse rows, whose indices are shuffled; with density 0 nothing is stored."""
    dense = rng.standard_normal((n, columns)) * (rng.random((n, columns)) < density)
    factor = sparse.csr_array(dense)
    for start, end in zip(factor.indptr, factor.indptr[1:], strict=False):
        order = rng.permutation(end - start) + start
        factor.indices[start:end], factor.data[start:end] = factor.indices[order], factor.data[order]
    factor.has_sorted_indices = False
    return factor


@pytest.mark.parametrize("kind", TENSOR_KINDS)
@given(
    seed=seeds,
    size=st.integers(1, 40),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 70), st.integers(1, 20)),
    densities=st.tuples(*2 * [st.sampled_from([0.0, 0.02, 0.2, 1.0])]),
    repeated=st.booleans(),
)
def test_sketched_tensors_are_the_products_with_the_explicit_matrix(
    kind: str,
    seed: int,
    size: int,
    shape: tuple[int, int, int],
    densities: tuple[float, float],
    repeated: bool,
) -> None:
    rng = np.random.default_rng(seed)
    n, m, d = shape
    draw = TENSOR_KINDS[kind](size, m, d, rng=rng)
    left, right = (make_factor(rng, n, columns, p) for columns, p in ((m, densities[0]), (d, densities[1])))
    if repeated:  # one column stored twice in a row stands for the sum
        indptr = 2 * left.indptr
        left = sparse.csr_array((np.repeat(left.data, 2), np.repeat(left.indices, 2), indptr), shape=(n, m))
    kept = left.copy(), right.copy()
    tensors = np.einsum("ir,ic->irc", left.toarray(), right.toarray()).reshape(n, m * d)
    # Both transforms err relative to the largest possible entry, not to each.
    scale = np.abs(tensors).sum(axis=1).max() * (1 + np.log2(max(size, m, d)))
    sketched = sketch_tensors(draw, left, right)
    assert_close(sketched, to_matrix(draw) @ tensors.T, scale)
    for before, after in zip(kept, (left, right), strict=True):
        np.testing.assert_array_equal(before.data, after.data)
        np.testing.assert_array_equal(before.indices, after.indices)


@pytest.mark.parametrize("kind", TENSOR_KINDS)
@given(seed=seeds)
def test_layers_add_up(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(9, 3), (9, 9)]
    draws = [TENSOR_KINDS[kind](12, *shape, rng=rng) for shape in shapes]
    factors = [[make_factor(rng, 4, columns, 0.5) for columns in shape] for shape in shapes]
    J = np.hstack([np.einsum("ir,ic->irc", *(f.toarray() for f in pair)).reshape(4, -1) for pair in factors])
    S = np.hstack([to_matrix(draw) for draw in draws])
    total = sum(sketch_tensors(draw, *pair) for draw, pair in zip(draws, factors, strict=True))
    assert_close(np.asarray(total), S @ J.T, 8 * np.abs(J).sum(axis=1).max())


@pytest.mark.parametrize("size", [2, 500])
@pytest.mark.parametrize("kind", TENSOR_KINDS)
def test_tensor_draws_are_read_at_nonzeros_only(kind: str, size: int) -> None:
    rng = np.random.default_rng(0)
    draw = TENSOR_KINDS[kind](size, 40, 3, rng=rng)
    left, right = make_factor(rng, 3, 40, 0.2), make_factor(rng, 3, 3, 1.0)
    signs = np.full_like(draw.left_signs, np.nan)
    signs[left.indices] = draw.left_signs[left.indices]
    poisoned = replace(draw, left_signs=signs)
    np.testing.assert_array_equal(
        sketch_tensors(poisoned, left, right), sketch_tensors(draw, left, right)
    )


def test_tensor_work_is_counted_from_array_sizes() -> None:
    rng = np.random.default_rng(0)
    n, s, m, d = 3, 16, 100, 5  # padded to 128 = 2^7 and 8 = 2^3
    left = sparse.csr_array(([1.0, 2.0, 3.0], [4, 7, 4], [0, 2, 2, 3]), shape=(n, m))  # 3 nonzeros, 2 columns
    right = sparse.csr_array(np.ones((n, d)))
    assert sketch_tensors_work(draw_tensor_sketch(s, m, d, rng=rng), left, right) == 3 + 15 + 3 * n * s * 4
    direct, transform = s * (3 + 2), n * 8 * 3
    assert sketch_tensors_work(draw_tensor_srht(s, m, d, rng=rng), left, right) == 18 + n * s + direct + transform
    draw, right = draw_tensor_srht(s, m, 2, rng=rng), sparse.csr_array(np.ones((n, 2)))
    assert sketch_tensors_work(draw, left, right) == 9 + n * s + direct + n * 2


def test_a_transform_takes_over_where_single_entries_would_cost_more() -> None:
    n, m = 1, 64  # a transform takes 64 * 6 additions
    last = 64 * 6 // PARITY_COST - 1
    entry, right = sparse.csr_array(([1.0], [0], [0, 1]), shape=(n, m)), sparse.csr_array((n, 1))
    rng = np.random.default_rng(0)
    for size, expected in ((last, last * 2), (last + 1, 64 * 6)):
        draw = draw_tensor_srht(size, m, 1, rng=rng)
        assert sketch_tensors_work(draw, entry, right) == 1 + size + expected


@given(st.integers(1, 500))
def test_default_size_is_never_too_short(n: int) -> None:
    assert max(1024, 32 * n) <= default_size(n) <= 1.1 * max(1024, 32 * n)


def test_default_size_has_a_fast_real_transform() -> None:
    assert default_size(33) == 1080  # 2^3 3^3 5; a complex one is fast at 1056 = 2^5 3 11, too


def test_default_size_preconditions_close_pairs() -> None:
    worst = 0.0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        network = initialize(1000, 2, shift=0.5, rng=rng)
        angles = np.linspace(0, 2.5, 6)[:, np.newaxis] + np.array([0.0, 0.05])
        X = np.column_stack([np.cos(angles.ravel()), np.sin(angles.ravel())])
        data_index, neuron_index = np.nonzero(activation_pattern(network, X))
        jacobian = FiredJacobian(
            X, FiredPairs(data_index, neuron_index, 12, 1000), network.signs[neuron_index]
        )
        sketched = sketch_jacobian(draw_tensor_sketch(default_size(12), 1000, 2, rng=rng), jacobian)
        basis = np.linalg.qr(dense_jacobian(network, X).T, mode="r")
        worst = max(worst, np.linalg.cond(np.linalg.solve(basis.T, sketched.T)) ** 2)
    assert worst <= 10


def sketch(rng: np.random.Generator, left: sparse.csr_array, right: sparse.csr_array) -> FloatArray:
    return sketch_tensors(draw_tensor_sketch(4, 5, 3, rng=rng), left, right)


def ones(n: int, columns: int) -> sparse.csr_array:
    return sparse.csr_array(np.ones((n, columns)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda J, rng: apply(draw_gaussian(2, 3, rng=rng), np.ones((4, 1))),
            "M has 4 rows but the sketch takes 3",
        ),
        (lambda J, rng: apply(draw_gaussian(2, 3, rng=rng), [[1.0], [np.nan], [1.0]]), "^M has a NaN or infinite"),
        (lambda J, rng: walsh_hadamard(np.ones(4)), r"M has shape \(4,\); pass contiguous"),
        (lambda J, rng: walsh_hadamard(np.ones((3, 2))), r"M has shape \(3, 2\).*N a power of 2"),
        (lambda J, rng: walsh_hadamard(np.ones((2, 4)).T), r"M has shape \(4, 2\); pass contiguous"),
        (lambda J, rng: sketch_jacobian(draw_tensor_sketch(4, 1, 3, rng=rng), J), "neurons that exist, at least"),
        (lambda J, rng: sketch_jacobian(draw_tensor_sketch(4, 40, 4, rng=rng), J), "and dimension 3"),
        (lambda J, rng: sketch_jacobian(draw_tensor_sketch(4, 40, 2, rng=rng), J), "and dimension 3"),
        (lambda J, rng: sketch_jacobian(draw_sparse_embedding(4, 119, rng=rng), J), "draw it for width 40"),
        (lambda J, rng: default_size(0), "at least 1 data point"),
        (lambda J, rng: sketch(rng, np.ones((2, 5)), ones(2, 3)), "left is of type ndarray; pass a scipy.sparse.csr"),
        (lambda J, rng: sketch(rng, ones(2, 5), ones(2, 3).tocsc()), "right is of type csc_array"),
        (lambda J, rng: sketch(rng, ones(2, 4), ones(2, 3)), r"left has shape \(2, 4\); pass rows of length 5"),
        (lambda J, rng: sketch(rng, sparse.csr_array((0, 5)), ones(2, 3)), r"left has shape \(0, 5\).*at least one"),
        (lambda J, rng: sketch(rng, ones(2, 5), ones(2, 4)), r"right has shape \(2, 4\); pass rows of length 3"),
        (lambda J, rng: sketch(rng, ones(2, 5), ones(3, 3)), "left has 2 rows and right has 3; pass one row of each"),
        (lambda J, rng: sketch(rng, np.nan * ones(2, 5), ones(2, 3)), "left.data has a NaN or infinite"),
        (lambda J, rng: sketch(rng, ones(2, 5), 1j * ones(2, 3)), "right.data has dtype complex128"),
    ],
)
def test_bad_arguments_are_named(call: Callable[..., object], message: str) -> None:
    jacobian, _, rng = make_jacobian(0)
    with pytest.raises(InputError, match=message):
        call(jacobian, rng)
