"""Each sketch against its definition, each size against its proof and the second moment over *all* draws."""

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import FloatArray, InputError
from reference.sketch import (
    Draw,
    SparseEmbeddingDraw,
    TensorSketchDraw,
    TensorSRHTDraw,
    draw_gaussian,
    draw_sparse_embedding,
    draw_srht,
    draw_tensor_sketch,
    draw_tensor_srht,
    gaussian_size,
    hadamard_matrix,
    hadamard_order,
    sparse_embedding_size,
    srht_size,
    tensor_sketch_size,
    tensor_srht_size,
    to_matrix,
)

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_gaussian_is_its_entries_scaled(seed: int, size: int, dim: int) -> None:
    draw = draw_gaussian(size, dim, rng=np.random.default_rng(seed))
    S = to_matrix(draw)
    for k, j in product(range(size), range(dim)):
        assert S[k, j] == pytest.approx(draw.entries[k, j] / size**0.5, rel=1e-15)


@given(seeds, st.integers(1, 20))
def test_srht_entry_is_the_parity_of_common_bits(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    draw = draw_srht(int(rng.integers(1, hadamard_order(dim) + 1)), dim, rng=rng)
    S = to_matrix(draw)
    assert S.shape == (draw.size, dim)
    assert len(set(draw.rows.tolist())) == draw.size
    for k, j in product(range(draw.size), range(dim)):
        parity = (-1) ** (int(draw.rows[k]) & j).bit_count()
        assert S[k, j] == pytest.approx(draw.signs[j] * parity / draw.size**0.5, rel=1e-15)


def test_srht_with_all_rows_is_an_isometry() -> None:
    S = to_matrix(draw_srht(8, 6, rng=np.random.default_rng(0)))
    np.testing.assert_allclose(S.T @ S, np.eye(6), atol=1e-15)


@pytest.mark.parametrize("order", [1, 2, 4, 16])
def test_hadamard_rows_are_orthogonal(order: int) -> None:
    H = hadamard_matrix(order)
    assert (np.abs(H) == 1).all()
    np.testing.assert_array_equal(H @ H.T, order * np.eye(order))


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_sparse_embedding_has_one_entry_in_each_block_of_a_column(
    seed: int, gamma: int, block: int, dim: int
) -> None:
    draw = draw_sparse_embedding(gamma * block, dim, rng=np.random.default_rng(seed), gamma=gamma)
    blocks = to_matrix(draw).reshape(gamma, block, dim)
    assert (np.count_nonzero(blocks, axis=1) == 1).all()
    np.testing.assert_allclose(np.abs(blocks).sum(axis=1), gamma**-0.5)
    np.testing.assert_array_equal(np.sign(blocks.sum(axis=1)), draw.signs)


@given(seeds, st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
def test_tensor_sketch_of_a_tensor_is_the_convolution_of_count_sketches(
    seed: int, size: int, width: int, dim: int
) -> None:
    rng = np.random.default_rng(seed)
    draw = draw_tensor_sketch(size, width, dim, rng=rng)
    u, x = rng.standard_normal(width), rng.standard_normal(dim)
    left = to_matrix(SparseEmbeddingDraw(draw.left_rows[np.newaxis], draw.left_signs[np.newaxis], size)) @ u
    right = (
        to_matrix(SparseEmbeddingDraw(draw.right_rows[np.newaxis], draw.right_signs[np.newaxis], size)) @ x
    )
    expected = [sum(left[k] * right[(row - k) % size] for k in range(size)) for row in range(size)]
    np.testing.assert_allclose(to_matrix(draw) @ np.kron(u, x), expected, atol=1e-13)


@given(seeds, st.integers(1, 8), st.integers(1, 8))
def test_few_inputs_never_share_a_row_of_a_tensor_sketch(seed: int, size: int, dim: int) -> None:
    draw = draw_tensor_sketch(size, 3, dim, rng=np.random.default_rng(seed))
    assert draw.dim == 3 * dim
    assert draw.right_rows.min() >= 0
    assert draw.right_rows.max() < size
    if dim <= size:
        assert len(set(draw.right_rows.tolist())) == dim


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_tensor_srht_entry_is_a_product_of_two_parities(seed: int, size: int, width: int, dim: int) -> None:
    draw = draw_tensor_srht(size, width, dim, rng=np.random.default_rng(seed))
    orders = hadamard_order(width), hadamard_order(dim)
    assert (len(draw.left_signs), len(draw.right_signs)) == orders
    assert draw.left_rows.max() < orders[0]
    assert draw.right_rows.max() < orders[1]
    S = to_matrix(draw)
    assert S.shape == (draw.size, draw.dim) == (size, width * dim)
    for k, r, c in product(range(size), range(width), range(dim)):
        bits = (int(draw.left_rows[k]) & r).bit_count() + (int(draw.right_rows[k]) & c).bit_count()
        expected = draw.left_signs[r] * draw.right_signs[c] * (-1) ** bits / size**0.5
        assert S[k, r * dim + c] == pytest.approx(expected, rel=1e-15)


def test_pairs_of_rows_of_a_tensor_srht_are_uniform_and_independent() -> None:
    draw = draw_tensor_srht(40000, 4, 2, rng=np.random.default_rng(0))
    counts = np.bincount(2 * draw.left_rows + draw.right_rows, minlength=8)
    assert np.abs(counts - 5000).max() <= 5 * (40000 / 8 * 7 / 8) ** 0.5


def all_signs(length: int) -> list[np.ndarray]:
    return [np.array(signs) for signs in product([-1.0, 1.0], repeat=length)]


def all_tensor_sketches(size: int, distinct: bool) -> Iterator[TensorSketchDraw]:
    right_choices = permutations(range(size), 2) if distinct else product(range(size), repeat=2)
    for right in right_choices:
        for left in product(range(size), repeat=2):
            for left_signs, right_signs in product(all_signs(2), repeat=2):
                yield TensorSketchDraw(np.array(left), left_signs, np.array(right), right_signs, size)


def all_tensor_srhts(size: int) -> Iterator[TensorSRHTDraw]:
    for left, right in product(product(range(2), repeat=size), repeat=2):
        for left_signs, right_signs in product(all_signs(2), repeat=2):
            yield TensorSRHTDraw(left_signs, right_signs, np.array(left), np.array(right), 2, 2)


def all_count_sketches(size: int) -> Iterator[SparseEmbeddingDraw]:
    for rows in product(range(size), repeat=4):
        for signs in all_signs(4):
            yield SparseEmbeddingDraw(np.array([rows]), signs[np.newaxis], size)


def moments(draws: Sequence[Draw], basis: FloatArray) -> tuple[np.ndarray, float]:
    """Mean of ``(S Q)^T (S Q)``, and mean of its squared Frobenius distance to the identity."""
    products = np.array([(to_matrix(draw) @ basis).T @ (to_matrix(draw) @ basis) for draw in draws])
    return products.mean(axis=0), float(((products - np.eye(basis.shape[1])) ** 2).sum(axis=(1, 2)).mean())


def bases(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    flat = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).T / 2
    return [np.eye(4)[:, :n], flat[:, :n], np.linalg.qr(rng.standard_normal((4, n)))[0]]


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_tensor_sketch_moments_over_all_draws(n: int, size: int, distinct: bool) -> None:
    draws = list(all_tensor_sketches(size, distinct))
    for basis in bases(n):
        mean, spread = moments(draws, basis)
        np.testing.assert_allclose(mean, np.eye(n), atol=1e-12)
        assert spread <= 3 * n * (n + 1) / size + 4 * n**2 / size**2 + 1e-12


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_tensor_srht_moments_over_all_draws(n: int, size: int) -> None:
    draws = list(all_tensor_srhts(size))
    for basis in bases(n):
        mean, spread = moments(draws, basis)
        np.testing.assert_allclose(mean, np.eye(n), atol=1e-12)
        assert spread <= (5 * n**2 + 3 * n) / size + 1e-12


@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_of_a_tensor_srht_obey_the_moments_of_both_proofs(n: int) -> None:
    # One row of H will do: over all signs, every row has the same distribution.
    signs = np.array([np.kron(a, b) for a in all_signs(4) for b in all_signs(4)])
    rng = np.random.default_rng(n)
    for basis in (np.linalg.qr(rng.standard_normal((16, n)))[0], np.eye(16)[:, :n], np.eye(16)[:, : 4 * n : 4]):
        squares = ((signs @ basis) ** 2).sum(axis=1)
        assert (squares**2).mean() <= 5 * n**2 + 4 * n
        for q in range(1, 6):
            gaussian = float(np.prod(np.arange(1.0, 2 * q, 2)))  # (2q - 1)!!
            assert (squares**q).mean() <= gaussian**2 * n**q * (1 + 1e-12)
            assert gaussian**2 <= 2 * (2 * q / np.e) ** (2 * q)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_count_sketch_moments_over_all_draws(n: int) -> None:
    draws = list(all_count_sketches(2))
    for basis in bases(n):
        mean, spread = moments(draws, basis)
        np.testing.assert_allclose(mean, np.eye(n), atol=1e-12)
        assert spread <= n * (n + 1) / 2 + 1e-12


@given(st.integers(1, 200), st.floats(0.01, 0.99), st.floats(1e-6, 0.99))
def test_sizes_satisfy_the_inequality_of_their_proof(n: int, epsilon: float, failure: float) -> None:
    s = gaussian_size(n, epsilon, failure)
    u = (n**0.5 + (2 * np.log(2 / failure)) ** 0.5) / s**0.5
    assert max((1 + u) ** 2 - 1, 1 - (1 - u) ** 2) <= epsilon * (1 + 1e-12)
    s = tensor_sketch_size(n, epsilon, failure)
    assert 3 * n * (n + 1) / s + 4 * n**2 / s**2 <= epsilon**2 * failure * (1 + 1e-12)
    for gamma in (1, 3):
        s = sparse_embedding_size(n, epsilon, failure, gamma=gamma)
        assert s % gamma == 0
        assert n * (n + 1) / s <= epsilon**2 * failure * (1 + 1e-12)


@given(st.integers(1, 50), st.integers(1, 2**30), st.floats(0.05, 0.95), st.floats(1e-6, 0.99))
def test_srht_size_satisfies_both_halves_of_its_proof(
    n: int, dim: int, epsilon: float, failure: float
) -> None:
    s, order = srht_size(n, dim, epsilon, failure), hadamard_order(dim)
    if s < order:
        coherence = (n**0.5 + (8 * np.log(2 * order / failure)) ** 0.5) ** 2
        rates = [(1 + side) * np.log1p(side) - side for side in (epsilon, -epsilon)]
        assert sum(n * np.exp(-rate * s / coherence) for rate in rates) <= failure / 2 * (1 + 1e-9)
    assert s <= order


@given(
    st.integers(1, 200), st.integers(1, 2**15), st.integers(1, 2**15), st.floats(0.05, 0.95), st.floats(1e-9, 0.99)
)
def test_tensor_srht_size_satisfies_one_of_its_proofs(
    n: int, width: int, dim: int, epsilon: float, failure: float
) -> None:
    s = tensor_srht_size(n, width, dim, epsilon, failure)
    order = hadamard_order(width) * hadamard_order(dim)
    by_moment = (5 * n**2 + 3 * n) / s <= epsilon**2 * failure * (1 + 1e-12)
    q = int(np.ceil(np.log(4 * order / failure) / 2))
    coherence = min(4 * q**2 * n, order)
    # Markov's inequality for a length above the coherence, where a length above it is possible at all.
    exceeds = 0 if coherence == order else order * 2 * (2 * q / np.e) ** (2 * q) * (n / coherence) ** q
    rates = [(1 + side) * np.log1p(side) - side for side in (epsilon, -epsilon)]
    by_chernoff = exceeds + sum(n * np.exp(-rate * s / coherence) for rate in rates) <= failure * (1 + 1e-9)
    assert by_moment or by_chernoff


def test_tensor_srht_size_takes_the_better_proof() -> None:
    assert tensor_srht_size(8, 2048, 8, 0.5, 0.1) == 13760  # 8 * 43 / (0.25 * 0.1), by the second moment
    assert tensor_srht_size(8, 2048, 8, 0.5, 1e-9) < 1e-3 * 8 * 43 / (0.25 * 1e-9)  # by the Chernoff bound


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: draw_gaussian(0, 3, rng=rng), "pass a size and dimensions of at least 1"),
        (lambda rng: draw_srht(5, 3, rng=rng), "Hadamard matrix for dim 3 has 4 rows; pass at most"),
        (lambda rng: draw_srht(1, 0, rng=rng), "at least 1"),
        (
            lambda rng: draw_sparse_embedding(5, 3, rng=rng, gamma=2),
            "pass a positive gamma that divides size",
        ),
        (lambda rng: draw_sparse_embedding(5, 0, rng=rng), "at least 1"),
        (lambda rng: draw_sparse_embedding(5, 3, rng=rng, gamma=0), "pass a positive gamma that divides size"),
        (lambda rng: draw_sparse_embedding(5, 3, rng=rng, gamma=-1), "pass a positive gamma that divides size"),
        (lambda rng: draw_sparse_embedding(0, 3, rng=rng), "the sketch would be 0 by 3"),
        (lambda rng: draw_tensor_sketch(0, 3, 3, rng=rng), "the sketch would be 0 by 3"),
        (lambda rng: draw_tensor_sketch(5, 3, 0, rng=rng), "at least 1"),
        (lambda rng: hadamard_matrix(3), "order is 3; pass a power of 2"),
        (lambda rng: draw_tensor_srht(0, 3, 2, rng=rng), "pass a size and dimensions of at least 1"),
        (lambda rng: draw_tensor_srht(4, 3, 0, rng=rng), "at least 1"),
        (lambda rng: draw_tensor_srht(4, 0, 3, rng=rng), "at least 1"),
        (lambda rng: draw_tensor_srht(4, 3, 2, rng=7), "Generator"),
        (lambda rng: tensor_srht_size(0, 2, 2, 0.5, 0.1), "pass n >= 1"),
        (lambda rng: tensor_srht_size(3, 0, 2, 0.5, 0.1), "at least 1"),
        (lambda rng: draw_tensor_sketch(5, 0, 3, rng=rng), "at least 1"),
        (lambda _: draw_gaussian(1, 3, rng=0), "pass a numpy.random.Generator"),
        (lambda _: draw_srht(1, 3, rng=0), "pass a numpy.random.Generator"),
        (lambda _: draw_sparse_embedding(1, 3, rng=0), "pass a numpy.random.Generator"),
        (lambda _: draw_tensor_sketch(1, 3, 3, rng=0), "pass a numpy.random.Generator"),
        (lambda _: gaussian_size(0, 0.5, 0.1), "pass n >= 1"),
        (lambda _: srht_size(1, 8, 1.0, 0.1), "between 0 and 1"),
        (lambda _: srht_size(1, 8, 0.0, 0.1), "between 0 and 1"),
        (lambda _: sparse_embedding_size(1, 0.5, 0.0), "between 0 and 1"),
        (lambda _: sparse_embedding_size(1, 0.5, 1.0), "between 0 and 1"),
        (lambda _: sparse_embedding_size(1, 0.5, 0.1, gamma=0), "at least 1 nonzero"),
        (lambda _: tensor_sketch_size(1, float("nan"), 0.1), "between 0 and 1"),
    ],
)
def test_bad_arguments_are_named(call: Callable[..., object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(np.random.default_rng(0))


def test_every_draw_knows_its_shape() -> None:
    rng = np.random.default_rng(0)
    draws = [
        draw_gaussian(3, 4, rng=rng),
        draw_srht(3, 4, rng=rng),
        draw_sparse_embedding(3, 4, rng=rng),
        draw_sparse_embedding(3, 4, rng=rng, gamma=3),
        draw_tensor_sketch(3, 4, 1, rng=rng),
        draw_tensor_srht(3, 1, 4, rng=rng),
    ]
    for draw in draws:
        assert (draw.size, draw.dim) == (3, 4) == to_matrix(draw).shape


def test_sizes_by_hand() -> None:
    assert gaussian_size(8, 0.5, 0.1) == 552  # ((2.8284 + 2.4477) / 0.22474)^2 = 551.1
    assert sparse_embedding_size(8, 0.5, 0.125) == 2304  # 72 / (0.25 * 0.125)
    assert sparse_embedding_size(8, 0.5, 0.125, gamma=5) == 2305
    assert sparse_embedding_size(2, 0.5, 0.97) == 25  # 6 / (0.25 * 0.97) = 24.7
    assert tensor_sketch_size(8, 0.5, 0.125) == 6914  # 216 / (0.25 * 0.125) + 2
    assert tensor_srht_size(8, 2048, 8, 0.5, 0.1) == 13760  # 8 * 43 / (0.25 * 0.1), by the second moment


@pytest.mark.parametrize("epsilon", [0.3, 0.9])
@pytest.mark.parametrize("n", [1, 8])
def test_sizes_are_the_smallest_that_the_chernoff_bound_gives(n: int, epsilon: float) -> None:
    dim, failure = 2**20, 1e-9
    rate = (1 + epsilon) * np.log1p(epsilon) - epsilon
    q = 18  # the first whole number from ln(4 * 2^20 / 1e-9) / 2 = 17.99 on
    coherences = (n**0.5 + (8 * np.log(2 * dim / failure)) ** 0.5) ** 2, 4.0 * q**2 * n
    sizes = srht_size(n, dim, epsilon, failure), tensor_srht_size(n, 1024, 1024, epsilon, failure)
    for size, coherence in zip(sizes, coherences, strict=True):
        enough, too_few = (2 * n * np.exp(-rate * s / coherence) for s in (size, size - 1))
        assert enough <= failure / 2 * (1 + 1e-9)
        assert too_few > failure / 2 * (1 - 1e-9)


def test_both_signs_are_drawn() -> None:
    rng = np.random.default_rng(0)
    sketch, srht = draw_tensor_sketch(9, 1000, 1000, rng=rng), draw_tensor_srht(9, 1024, 1024, rng=rng)
    signs = [draw_srht(9, 1024, rng=rng).signs, draw_sparse_embedding(9, 1000, rng=rng).signs]
    for drawn in (*signs, sketch.left_signs, sketch.right_signs, srht.left_signs, srht.right_signs):
        assert set(drawn.ravel()) == {-1.0, 1.0}
        assert abs(drawn.sum()) < 5 * drawn.size**0.5


def test_a_block_without_signs_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        to_matrix(SparseEmbeddingDraw(np.array([[0], [1]]), np.ones((1, 1)), 2))


def test_as_many_inputs_as_rows_of_a_tensor_sketch_take_one_each() -> None:
    draw = draw_tensor_sketch(8, 3, 8, rng=np.random.default_rng(0))
    assert sorted(draw.right_rows.tolist()) == list(range(8))
