"""Gauss-Newton training of both layers at once: the weights ``W`` and the output weights ``a``.

[A] draws the signs ``a`` once and trains ``W`` alone. This is the other case, which its reviewers asked about (ours).
The network is the same, but ``a`` may be any real numbers::

    f_i              = m^(-1/2) sum_r a_r max(U[i, r] - b, 0)
    df_i / dw_r      = m^(-1/2) a_r A[i, r] x_i                    as before, with the ``a_r`` of now
    df_i / da_r      = m^(-1/2) max(U[i, r] - b, 0)                one more number for each neuron
    J                = [all df/dw | all df/da]                     (n, m d + m)

The step is the shortest one in all weights together that makes the linear model exact::

    solve   G g = f - y,       G = J J^T = (X X^T) o (A diag(a^2) A^T) / m + F F^T,    F = m^(-1/2) max(U - b, 0)
    step    w_r <- w_r - m^(-1/2) a_r sum_{i: r fires on x_i} g_i x_i
            a_r <- a_r - m^(-1/2) sum_i g_i max(U[i, r] - b, 0)

both with the ``a`` and ``U`` from before the step. What is left of the residual has now two causes: pairs that flip, as
before, and the product of the two changes, ``m^(-1/2) sum_r (change of a_r) (change of U[i, r])`` over the pairs that
fire, as ``f`` is bilinear in the two layers. The new term of ``G`` is positive semidefinite, so ``g`` gets smaller.

A neuron that fires on no data point has zero gradient in ``w_r`` and in ``a_r``: it still never moves.

Cost per iteration: ``n^2 m (d + 1)`` for ``G``, ``n^3`` for the solve, ``n m d`` for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import (
    FloatArray,
    InputError,
    as_float_array,
    breakdown_explained,
    check_data,
    check_every_point_fires,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.regression import solve_exact
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class JointNetwork:
    """Two layers, both of them trained: a `TwoLayerNetwork` whose signs may be any numbers.

    Parameters
    ----------
    weights : array_like (m, d)
        ``W``. Kept without a copy when it is float64 already, and never written to.
    output_weights : array_like (m,)
        ``a``. Kept likewise.
    shift : float
        ``b``.

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries.

    Examples
    --------
    >>> network = JointNetwork([[2.0, 0.0], [0.0, 1.0]], [0.5, -3.0], 0.0)
    >>> network.predict([[1.0, 0.0], [0.0, 1.0]]) * np.sqrt(2)
    array([ 1., -3.])
    """

    weights: FloatArray
    output_weights: FloatArray
    shift: float

    def __post_init__(self) -> None:
        weights = as_float_array("weights", self.weights, 2).view()
        outputs = as_float_array("output_weights", self.output_weights, 1).view()
        if outputs.shape != weights.shape[:1]:
            raise InputError(
                f"output_weights has {outputs.size} entries but weights has {len(weights)} rows; make them equal"
            )
        shift = float(as_float_array("shift", self.shift, 0))
        weights.flags.writeable = outputs.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "output_weights", outputs)
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
        """Predict on any points: ``f_i = m^(-1/2) sum_r a_r max(<w_r, x_i> - b, 0)``.

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
        U = check_points(X, self.dim) @ self.weights.T
        f: FloatArray = np.maximum(U - self.shift, 0) @ self.output_weights / np.sqrt(self.width)
        return f

    def to_dense(self) -> JointNetwork:
        """Return the network itself: its weights are dense already."""
        return self


def jacobian(network: JointNetwork, X: ArrayLike) -> FloatArray:
    """Compute ``J``: first the columns of ``W``, neuron by neuron, then those of ``a``.

    Parameters
    ----------
    network : JointNetwork
        Width ``m``, input dimension ``d``.
    X : array_like (n, d)
        Data points.

    Returns
    -------
    ndarray (n, m * d + m)
        Columns ``r d`` to ``(r + 1) d - 1`` belong to ``w_r``, column ``m d + r`` to ``a_r``.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.

    Examples
    --------
    Two neurons; the first fires on the point with an excess of 2, the second does not fire.

    >>> network = JointNetwork([[3.0, 0.0], [0.0, 1.0]], [-0.5, 7.0], 1.0)
    >>> jacobian(network, [[1.0, 0.0]]) * np.sqrt(2)
    array([[-0.5, -0. ,  0. ,  0. ,  2. ,  0. ]])
    """
    points = check_points(X, network.dim)
    U = points @ network.weights.T
    A = network.shift <= U
    by_weights = (A * network.output_weights)[:, :, np.newaxis] * points[:, np.newaxis, :]  # (n, m, d)
    by_outputs = np.maximum(U - network.shift, 0)  # (n, m)
    J: FloatArray = np.hstack([by_weights.reshape(len(points), -1), by_outputs]) / np.sqrt(network.width)
    return J


def train(
    network: TwoLayerNetwork | JointNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
) -> Trace[JointNetwork]:
    """Train both layers by Gauss-Newton: solve ``G g = f - y``, step ``(W, a) <- (W, a) - J^T g``, repeat.

    Parameters
    ----------
    network : TwoLayerNetwork or JointNetwork
        Where to start; signs are where the output weights start. Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.

    Returns
    -------
    Trace
        ``counts`` has the multiply-adds of the phases ``pattern``, ``gram``, ``solve`` and ``step``.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`.
    NothingFiresError
        A data point on which no neuron fires.
    SingularGramError
        ``G`` is singular to working precision.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred.

    Examples
    --------
    One neuron, ``f = a max(w - 1, 0)`` at ``w = 2``, ``a = 1``: both derivatives are 1, so each takes half of the way.

    >>> trace = train(TwoLayerNetwork([[2.0]], [1.0], 1.0), [[1.0]], [2.0], iterations=1)
    >>> trace.network.weights, trace.network.output_weights, trace.predictions
    (array([[2.5]]), array([1.5]), array([2.25]))
    """
    current = as_joint(network)
    X = check_points(check_data(X), current.dim)
    y = check_labels(y, len(X))
    check_run(iterations, tolerance)
    n, (m, d) = len(X), current.weights.shape

    residual = current.predict(X) - y
    residual_norms = [float(np.linalg.norm(residual))]
    check_residual(residual_norms, y)
    counts: list[dict[str, int]] = []
    while unfinished(residual_norms, iterations, tolerance):
        J = jacobian(current, X)
        with breakdown_explained(residual_norms):
            check_every_point_fires(np.count_nonzero(current.shift <= X @ current.weights.T, axis=1))
            g = solve_exact(J @ J.T, residual)
        by_weights, by_outputs = np.split(J.T @ g, [m * d])
        current = JointNetwork(
            current.weights - by_weights.reshape(m, d), current.output_weights - by_outputs, current.shift
        )
        residual = current.predict(X) - y
        residual_norms.append(float(np.linalg.norm(residual)))
        check_residual(residual_norms, y)
        size = n * m * (d + 1)
        counts.append({"pattern": n * m * d, "gram": n * size, "solve": n**3, "step": size})
    converged = residual_norms[-1] <= tolerance * residual_norms[0]
    return Trace(current, np.array(residual_norms), residual + y, converged, counts)


def as_joint(network: TwoLayerNetwork | JointNetwork) -> JointNetwork:
    """Take the signs of a two-layer network for output weights; a joint network is returned as it is.

    Parameters
    ----------
    network : TwoLayerNetwork or JointNetwork
        Not modified; arrays are shared.

    Returns
    -------
    JointNetwork
    """
    if isinstance(network, JointNetwork):
        return network
    return JointNetwork(network.weights, network.signs, network.shift)
