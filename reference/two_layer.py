"""The two-layer shifted-ReLU network: pre-activations, activation pattern, prediction.

Mathematics ([A], Definitions 2.3 and 2.5, with the shift ``b`` that keeps the pattern sparse)::

    U[i, r] = <w_r, x_i>                                       pre-activations  (n, m)
    A[i, r] = 1 when U[i, r] >= b, else 0                      activation pattern  (n, m)
    f_i     = m^(-1/2) sum_r a_r max(U[i, r] - b, 0)           predictions  (n,)

The kink ``U[i, r] = b`` belongs to the firing side, here and everywhere in this project. The prediction does not
notice, since the ReLU is 0 there; the Jacobian does.

At the start ``w_r ~ N(0, I_d)`` and ``a_r`` is uniform in {-1, +1}. On a unit row, ``U[i, r] ~ N(0, 1)``, so a data
point fires ``k = m Phi(-b)`` neurons on average; ``b = sqrt(2 alpha ln m)`` makes that at most ``m^(1-alpha)``. The
shift ``b = sqrt(0.48 ln m)`` of [A] (conference version, Corollary A.17) is ``alpha = 0.24``.

Cost: ``n m d`` multiply-adds for ``U``; everything after it is ``n m``.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import (
    BoolArray,
    FloatArray,
    InputError,
    as_float_array,
    check_generator,
    check_points,
)


@dataclass(frozen=True, eq=False)
class TwoLayerNetwork:
    """Two layers, width ``m``; only ``weights`` is ever trained ([A], Definition 2.3).

    Parameters
    ----------
    weights : array_like (m, d)
        ``W``. Kept without a copy when it is float64 already, and never written to.
    signs : array_like (m,)
        ``a``; each entry -1 or +1. Kept likewise.
    shift : float
        ``b``; any finite number, 0 for the plain ReLU.

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, signs other than -1 and +1.

    Examples
    --------
    >>> network = TwoLayerNetwork([[2.0, 0.0], [0.0, 1.0]], [1, -1], 1.0)
    >>> network.predict([[1.0, 0.0], [0.0, 1.0]]) * np.sqrt(2)  # neuron 1 sits on its kink at the second point
    array([1., 0.])
    """

    weights: FloatArray
    signs: FloatArray
    shift: float

    def __post_init__(self) -> None:
        weights = as_float_array("weights", self.weights, 2).view()
        signs = as_float_array("signs", self.signs, 1).view()
        if signs.shape != weights.shape[:1]:
            raise InputError(f"signs has {signs.size} entries but weights has {len(weights)} rows; make them equal")
        if not (np.abs(signs) == 1).all():
            worst = int(np.argmax(np.abs(signs) != 1))
            raise InputError(f"signs[{worst}] is {signs[worst]}; every sign must be -1 or +1")
        shift = float(as_float_array("shift", self.shift, 0))
        weights.flags.writeable = signs.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "signs", signs)
        object.__setattr__(self, "shift", shift)

    @property
    def width(self) -> int:
        """Number of neurons ``m``."""
        return len(self.weights)

    @property
    def dim(self) -> int:
        """Input dimension ``d``."""
        return int(self.weights.shape[1])

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points: ``f_i = m^(-1/2) sum_r a_r max(<w_r, x_i> - b, 0)`` ([A], Definition 2.5).

        Parameters
        ----------
        X : array_like (n, d)
            Points; they need not be of unit length.

        Returns
        -------
        ndarray (n,)

        Raises
        ------
        InputError
            NaN or infinite entries, wrong number of columns.
        """
        U = preactivations(self, X)
        f: FloatArray = np.maximum(U - self.shift, 0) @ self.signs / np.sqrt(self.width)
        return f

    def to_dense(self) -> TwoLayerNetwork:
        """Return the network itself: its weights are dense already."""
        return self


def initialize(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw a network at random: ``w_r ~ N(0, I_d)``, ``a_r`` uniform in {-1, +1} ([A], Definition 2.3).

    Parameters
    ----------
    width, dim : int
        ``m`` and ``d``, at least 1.
    shift : float
        ``b``; see `shift_for`.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    InputError
        ``width`` or ``dim`` below 1, or ``rng`` not a Generator.
    """
    check_generator(rng)
    if width < 1 or dim < 1:
        raise InputError(f"width is {width} and dim is {dim}; both must be at least 1")
    weights = rng.standard_normal((width, dim))
    signs = 2.0 * rng.integers(0, 2, size=width).astype(np.float64) - 1.0
    return TwoLayerNetwork(weights, signs, shift)


def shift_for(width: int, alpha: float) -> float:
    """Return the shift ``b = sqrt(2 alpha ln m)``, at which at most ``m^(1-alpha)`` neurons fire on average.

    Parameters
    ----------
    width : int
        ``m``, at least 1.
    alpha : float
        Sparsity exponent, at least 0; 0 gives the plain ReLU, 0.24 the shift of [A].

    Returns
    -------
    float

    Raises
    ------
    InputError
        ``width`` below 1, ``alpha`` negative or not finite.

    Examples
    --------
    >>> shift_for(2**20, 0.24) == float(np.sqrt(0.48 * np.log(2**20)))
    True
    """
    if not (1 <= width < math.inf and 0 <= alpha <= sys.float_info.max):
        shown = "beyond float64" if abs(width) > sys.float_info.max else width
        raise InputError(f"width is {shown} and alpha is {alpha}; pass width >= 1 and a finite alpha >= 0")
    # NumPy knows no logarithm of an int beyond 64 bits.
    logarithm = np.log(width) if width < 2**63 else math.log(width)
    return float(np.sqrt(2 * alpha * logarithm))


def preactivations(network: TwoLayerNetwork, X: ArrayLike) -> FloatArray:
    """Compute ``U[i, r] = <w_r, x_i>``.

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``, input dimension ``d``.
    X : array_like (n, d)
        Points.

    Returns
    -------
    ndarray (n, m)

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.
    """
    return check_points(X, network.dim) @ network.weights.T


def activation_pattern(network: TwoLayerNetwork, X: ArrayLike) -> BoolArray:
    """Tell which neurons fire on which points: ``A[i, r] = (<w_r, x_i> >= b)``, the kink included.

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``, shift ``b``.
    X : array_like (n, d)
        Points.

    Returns
    -------
    ndarray (n, m) of bool

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.
    """
    pattern: BoolArray = preactivations(network, X) >= network.shift
    return pattern
