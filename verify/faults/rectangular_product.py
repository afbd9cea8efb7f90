"""Planted faults of the fast rectangular product: wrong answers, wrong counts, wrong bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fast.rectangular_product import LEAF, PANEL, error_bound, multiplications, multiply
from reference.notation import FloatArray
from verify.claims.rectangular_product import halvings
from verify.faults.fault import Fault

Product = Callable[..., Any]


def schoolbook(A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Never halve."""
    C = np.empty((len(A), B.shape[1]))
    product(A, B, out=C)
    return C


def behind_the_counter(A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Halve for show, and multiply by other means."""
    multiply(A, B, leaf=leaf, product=product)
    C: FloatArray = A @ B
    return C


def wrong_block(A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Let the two quarters off the diagonal change places, wherever blocks are halved."""
    C = multiply(A, B, leaf=leaf, product=product)
    (p, q), r = A.shape, B.shape[1]
    level = halvings(p, q, r, leaf)
    if level:
        p, r = p >> level << level - 1, r >> level << level - 1
        upper, lower = C[:p, r : 2 * r], C[p : 2 * p, :r]
        upper[:], lower[:] = lower.copy(), upper.copy()
    return C


def first_panel_again(A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Add the strip of the first panel of rows to every panel, wherever the inner side leaves a strip."""
    C = multiply(A, B, leaf=leaf, product=product)
    (p, q), r = A.shape, B.shape[1]
    level = halvings(p, q, r, leaf)
    rows, inner, columns = (side >> level << level for side in (p, q, r))
    strip = A[:rows, inner:] @ B[inner:, :columns]
    for top in range(PANEL, rows, PANEL):
        own = strip[top : top + PANEL]
        C[top : top + len(own), :columns] += strip[: len(own)] - own
    return C


def single_precision(A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Round one factor to 24 bits."""
    return multiply(A.astype(np.float32), B, leaf=leaf, product=product)


def without_strips(p: int, q: int, r: int, *, leaf: int = LEAF) -> int:
    """Count the leaves, and not the strips around them."""
    level = halvings(p, q, r, leaf)
    return multiplications(*(side >> level << level for side in (p, q, r)), leaf=leaf)


def small_bound(A: FloatArray, B: FloatArray, *, leaf: int) -> float:
    """Bound errors by a thousandth of what is known."""
    return 1e-3 * error_bound(A, B, leaf=leaf)


def vacuous_bound(A: FloatArray, B: FloatArray, *, leaf: int) -> float:
    """Bound errors by twice what is known, which every product satisfies."""
    return 2 * error_bound(A, B, leaf=leaf)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "product-schoolbook",
        "The fast product never halves.",
        "cost",
        {"rectangular_product.count": "fails", "rectangular_product.exponent": "fails"},
        {"rectangular_product": schoolbook},
    ),
    Fault(
        "product-behind-the-counter",
        "The fast product halves and counts, and takes its result from a plain product.",
        "cost",
        {"rectangular_product.count": "fails"},
        {"rectangular_product": behind_the_counter},
    ),
    Fault(
        "product-never-halves-by-default",
        "The default leaf is so large that nothing is ever halved.",
        "cost",
        {"rectangular_product.count": "fails"},
        {"rectangular_product": partial(multiply, leaf=1 << 62)},
    ),
    Fault(
        "product-wrong-count",
        "The stated number of multiplications leaves out the strips around the halved blocks.",
        "cost",
        {"rectangular_product.count": "fails"},
        {"rectangular_multiplications": without_strips},
    ),
    Fault(
        "product-wrong-block",
        "Strassen's recursion writes two quarters of the result in each other's place.",
        "value",
        {"rectangular_product.error": "fails"},
        {"rectangular_product": wrong_block},
    ),
    Fault(
        "product-first-panel-again",
        "From the 257th row on, the strip beside the halved blocks is that of the first 256 rows.",
        "value",
        {"rectangular_product.error": "fails"},
        {"rectangular_product": first_panel_again},
    ),
    Fault(
        "product-single-precision",
        "The fast product rounds one factor to single precision.",
        "value",
        {"rectangular_product.error": "fails"},
        {"rectangular_product": single_precision},
    ),
    Fault(
        "product-small-bound",
        "The error bound is a thousandth of what is known.",
        "value",
        {"rectangular_product.error": "fails"},
        {"rectangular_error_bound": small_bound},
    ),
    Fault(
        "product-vacuous-bound",
        "The error bound is twice the textbook's, so that worse products would pass.",
        "statistics",
        {"rectangular_product.error": "fails"},
        {"rectangular_error_bound": vacuous_bound},
    ),
)
"""Each claim of `verify.claims.rectangular_product` is flipped by one of them at least."""
