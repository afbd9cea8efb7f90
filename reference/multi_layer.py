"""The deep shifted-ReLU network: signals forward, sensitivities backward, Jacobian and Gram matrix layer by layer.

Mathematics ([B]; the shift of DESIGN kept at every layer). With ``L`` layers of width ``m``::

    h_0 = x,    z_l = W_l h_(l-1),    v_l = max(z_l - b, 0),    h_l = c v_l,    f = <a, h_L>

``W_1`` is (m, d), the others are (m, m), entries N(0, 1), ``a`` fixed signs. A neuron *fires* when ``z >= b``, the kink
included. ``c = (m c_b)^(-1/2)``, ``c_b = E max(Z - b, 0)^2``, gives ``E ||h_l||^2 = 1`` after a signal of length 1; the
lengths fluctuate, and deeper layers amplify that, see `reference.signals`. Backward, with ``D_l`` the diagonal 0/1
matrix of who fires::

    q_L = a,    p_l = c D_l q_l,    q_(l-1) = W_l^T p_l          df / dW_l = p_l h_(l-1)^T

so a Jacobian row is a rank-one tensor for each layer, and the Gram matrix a sum over the trained ones::

    G = sum_l (P_l P_l^T) o (H_(l-1) H_(l-1)^T)                  P_l (n, m), H_l (n, m) row by row

*Normalized* networks (ours, not the paper's) scale every hidden signal to length 1, ``h_l = v_l / ||v_l||``, so that no
signal fades. Then ``dh / dv = (I - h h^T) / ||v||``, and only ``p_l`` changes::

    p_l = D_l (q_l - <h_l, q_l> h_l) / ||v_l||

Their predictions are bounded: ``|f| <= ||a|| ||h_L|| = m^(1/2)``, and ``k^(1/2)`` where ``k`` neurons of the last layer
fire. Labels beyond that are refused (`check_reach`). Towards labels near it the weights may grow without end while the
residual hardly moves; that counts as divergence too (`ran_away`).

Cost for ``n`` points: ``n m^2`` for each layer forward, and as much backward; ``n m^2`` for each layer's rows of ``J``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import (
    BoolArray,
    FloatArray,
    InputError,
    IntArray,
    as_float_array,
    check_generator,
    check_points,
    diverged,
)
from reference.signals import SHIFTS, Shape, check_signals, second_moment

GROWTH_ALLOWED = 1e8
"""Signals before normalization beyond this multiple of their first length mean divergence. In runs that converged, on
labels of up to half the reach, they grew 100-fold at most."""


@dataclass(frozen=True, eq=False)
class MultiLayerNetwork:
    """``L`` layers of width ``m`` ([B]).

    Parameters
    ----------
    weights : sequence of L array_like
        ``W_1`` (m, d), then ``W_2`` to ``W_L``, each (m, m). Kept without a copy when they are float64 already, in
        whatever memory order they come, and never written to.
    signs : array_like (m,)
        ``a``; each entry -1 or +1.
    shift : float
        ``b``; within `reference.signals.SHIFTS`.
    normalized : bool
        Whether every hidden signal is scaled to length 1. Predictions are then at most ``m^(1/2)`` in size.

    Raises
    ------
    InputError
        No layer, wrong shapes, NaN or infinite entries, signs other than -1 and +1, a shift beyond all Gaussian scores.

    Examples
    --------
    Two neurons, one layer, ``c = 1`` for ``b = 0`` (``c_0 = 1/2``):

    >>> MultiLayerNetwork([[[2.0], [-3.0]]], [1, 1], 0.0).predict([[1.0], [-1.0]])
    array([2., 3.])
    """

    weights: tuple[FloatArray, ...]
    signs: FloatArray
    shift: float
    normalized: bool = False

    def __post_init__(self) -> None:
        if not len(self.weights):
            raise InputError("weights is empty; pass a tuple with one matrix per layer")
        weights = tuple(as_float_array(f"weights[{i}]", W, 2).view() for i, W in enumerate(self.weights))
        signs = as_float_array("signs", self.signs, 1).view()
        m = len(signs)
        for i, W in enumerate(weights):
            columns = W.shape[1] if i == 0 else m
            if W.shape != (m, columns):
                raise InputError(f"weights[{i}] has shape {W.shape}; signs has {m} entries, so pass ({m}, {columns})")
        if not (np.abs(signs) == 1).all():
            worst = int(np.argmax(np.abs(signs) != 1))
            raise InputError(f"signs[{worst}] is {signs[worst]}; every sign must be -1 or +1")
        shift = float(as_float_array("shift", self.shift, 0))
        if not SHIFTS[0] <= shift <= SHIFTS[1]:
            raise InputError(
                f"shift is {shift:g}; pass one from {SHIFTS[0]:g} to {SHIFTS[1]:g}: beyond, the scale of a layer, "
                "(m c_b)^(-1/2), leaves the range of float64"
            )
        for array in (*weights, signs):
            array.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "signs", signs)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "normalized", bool(self.normalized))

    @property
    def width(self) -> int:
        """Number of neurons of a layer, ``m``."""
        return len(self.signs)

    @property
    def dim(self) -> int:
        """Input dimension ``d``."""
        return int(self.weights[0].shape[1])

    @property
    def depth(self) -> int:
        """Number of layers ``L``."""
        return len(self.weights)

    @property
    def scale(self) -> float:
        """``c = (m c_b)^(-1/2)``."""
        return float((self.width * second_moment(self.shift)) ** -0.5)

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points: ``f_i = <a, h_L>``.

        Parameters
        ----------
        X : array_like (n, d)
            Points; they need not be of unit length.

        Returns
        -------
        ndarray (n,)
            Where a signal has died, 0.

        Raises
        ------
        InputError
            NaN or infinite entries, wrong number of columns.
        """
        f: FloatArray = forward(self, X).hidden[-1] @ self.signs
        return f

    def to_dense(self) -> MultiLayerNetwork:
        """Return the network itself: its weights are dense already."""
        return self


def initialize(
    width: int, dim: int, depth: int, *, shift: float, rng: np.random.Generator, normalized: bool = False
) -> MultiLayerNetwork:
    """Draw a network at random: entries N(0, 1), signs uniform in {-1, +1} ([B]).

    Parameters
    ----------
    width, dim, depth : int
        ``m``, ``d`` and ``L``, at least 1.
    shift : float
        ``b``; see `reference.two_layer.shift_for`.
    rng : numpy.random.Generator
        Source of randomness.
    normalized : bool
        Whether every hidden signal is scaled to length 1.

    Returns
    -------
    MultiLayerNetwork
        The (m, m) matrices are stored column by column, which is how the fast side reads them.

    Raises
    ------
    InputError
        ``width``, ``dim`` or ``depth`` below 1, or ``rng`` not a Generator.
    """
    check_generator(rng)
    if width < 1 or dim < 1 or depth < 1:
        raise InputError(f"width is {width}, dim is {dim} and depth is {depth}; all must be at least 1")
    first = rng.standard_normal((width, dim))
    others = [rng.standard_normal((width, width)).T for _ in range(depth - 1)]
    signs = 2.0 * rng.integers(0, 2, size=width).astype(np.float64) - 1.0
    return MultiLayerNetwork((first, *others), signs, shift, normalized)


@dataclass(frozen=True, eq=False)
class Signals:
    """What passes through a network forward.

    Parameters
    ----------
    hidden : tuple of L + 1 ndarray
        ``H_0 = X`` (n, d), then ``H_1`` to ``H_L``, each (n, m).
    fires : tuple of L ndarray (n, m) of bool
        Who fires in each layer.
    sizes : tuple of L ndarray (n,)
        What each layer's ``v`` is divided by: ``||v_l||`` in a normalized network, ``1 / c`` otherwise.
    """

    hidden: tuple[FloatArray, ...]
    fires: tuple[BoolArray, ...]
    sizes: tuple[FloatArray, ...]

    def check(self, network: MultiLayerNetwork) -> None:
        """Stop when a signal has died.

        Raises
        ------
        DeadSignalError
            See `reference.signals.check_signals`.
        """
        lengths = [np.linalg.norm(h, axis=1) for h in self.hidden[:-1]]
        check_signals(self.fired(), lengths, network)

    def fired(self) -> list[IntArray]:
        """Count the neurons of each layer that fire on each point: L arrays (n,)."""
        return [np.count_nonzero(fires, axis=1) for fires in self.fires]


def forward(network: MultiLayerNetwork, X: ArrayLike) -> Signals:
    """Send points through the network: ``h_l = c max(W_l h_(l-1) - b, 0)``.

    Parameters
    ----------
    network : MultiLayerNetwork
        ``L`` layers.
    X : array_like (n, d)
        Points.

    Returns
    -------
    Signals

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.
    """
    hidden, fires, sizes = [check_points(X, network.dim)], [], []
    for W in network.weights:
        z = hidden[-1] @ W.T
        v = np.maximum(z - network.shift, 0)
        size = np.full(len(v), 1 / network.scale)
        if network.normalized:
            size = np.linalg.norm(v, axis=1)
            size[size == 0] = 1  # a dead signal stays 0
        fires.append(z >= network.shift)
        sizes.append(size)
        hidden.append(v / size[:, np.newaxis])
    return Signals(tuple(hidden), tuple(fires), tuple(sizes))


def backward(network: MultiLayerNetwork, signals: Signals) -> tuple[FloatArray, ...]:
    """Send sensitivities back: ``p_l = c D_l q_l``, ``q_(l-1) = W_l^T p_l`` from ``q_L = a``.

    Parameters
    ----------
    network : MultiLayerNetwork
        ``L`` layers.
    signals : Signals
        From `forward`.

    Returns
    -------
    tuple of L ndarray (n, m)
        ``P_1`` to ``P_L``, with ``df_i / dW_l = p_(i,l) h_(i,l-1)^T``.
    """
    q = np.tile(network.signs, (len(signals.hidden[0]), 1))
    found: list[FloatArray] = []
    for layer in range(network.depth, 0, -1):
        h, fires, size = signals.hidden[layer], signals.fires[layer - 1], signals.sizes[layer - 1]
        if network.normalized:
            q = q - np.sum(h * q, axis=1, keepdims=True) * h
        p = fires * q / size[:, np.newaxis]
        found.append(p)
        q = p @ network.weights[layer - 1]
    return tuple(reversed(found))


def check_network(network: object) -> None:
    """Check that a network is a deep one with its weights written out.

    Parameters
    ----------
    network : MultiLayerNetwork
        Where to start.

    Raises
    ------
    InputError
        Anything else; of a deep network with implicit weights the message says how to write them out.

    Examples
    --------
    >>> check_network(MultiLayerNetwork([[[2.0], [-3.0]]], [1, 1], 0.0))
    """
    if isinstance(network, MultiLayerNetwork):
        return
    if hasattr(network, "to_dense") and hasattr(network, "depth"):
        raise InputError("network has implicit weights, and this loop trains dense ones; pass network.to_dense()")
    raise InputError(f"network is a {type(network).__name__}; pass a MultiLayerNetwork")


def check_layers(trained_layers: Collection[int], depth: int) -> tuple[int, ...]:
    """Check which layers are to be trained.

    Parameters
    ----------
    trained_layers : collection of int
        Distinct numbers from 1 to ``depth``; at least one.
    depth : int
        ``L``.

    Returns
    -------
    tuple of int
        In increasing order.

    Raises
    ------
    InputError
        Empty, repeated, no whole numbers, or out of range.

    Examples
    --------
    >>> check_layers([2, 1], 3)
    (1, 2)
    """
    try:
        layers = sorted(trained_layers)
    except TypeError:
        layers = []
    whole = all(isinstance(layer, (int, np.integer)) and not isinstance(layer, bool) for layer in layers)
    if not layers or not whole or len(set(layers)) < len(layers) or layers[0] < 1 or layers[-1] > depth:
        raise InputError(
            f"trained_layers is {trained_layers!r}; pass distinct layer numbers from 1 to {depth}, for instance "
            f"({depth},) for the last layer alone"
        )
    return tuple(int(layer) for layer in layers)


def check_reach(y: FloatArray, network: Shape) -> None:
    """Check that a network can predict labels of this size: a normalized one has ``|f| <= m^(1/2)``.

    Parameters
    ----------
    y : ndarray (n,)
        Labels.
    network : MultiLayerNetwork
        Says ``m``, and whether layers are normalized.

    Raises
    ------
    InputError
        A normalized network, and a label of size ``m^(1/2)`` or more: at the bound itself the gradient is zero.
    """
    worst, reach = int(np.argmax(np.abs(y))), math.sqrt(network.width)
    if network.normalized and abs(y[worst]) >= reach:
        raise InputError(
            f"y[{worst}] is {y[worst]:.3g}, out of reach: the predictions of a normalized network are below "
            f"sqrt(width) = {reach:.3g} in size; rescale the labels, or widen the network (here {network.width})"
        )


def ran_away(sizes: Sequence[FloatArray], first: Sequence[FloatArray]) -> bool:
    """Tell whether signals before normalization have grown beyond `GROWTH_ALLOWED` times their first length.

    Parameters
    ----------
    sizes, first : sequence of L ndarray (n,)
        What each layer's ``v`` is divided by, now and at the start; see `Signals`. Without normalization, constant.

    Returns
    -------
    bool
    """
    pairs = zip(sizes, first, strict=True)
    return not all(float(now.max()) <= GROWTH_ALLOWED * float(then.max()) for now, then in pairs)


def check_growth(sizes: Sequence[FloatArray], first: Sequence[FloatArray], residual_norms: list[float]) -> None:
    """Stop a run whose weights run away while its residual, bounded as predictions are, tells nothing.

    Parameters
    ----------
    sizes, first : sequence of L ndarray (n,)
        As for `ran_away`.
    residual_norms : list of float
        Residuals so far, the newest last.

    Raises
    ------
    DivergenceError
        The run ran away.
    """
    if ran_away(sizes, first):
        raise diverged(
            residual_norms,
            f"signals before normalization grew beyond {GROWTH_ALLOWED:.0e} times their first length; labels close to "
            "sqrt(width) are hard to reach, rescale them",
        )


def jacobian(network: MultiLayerNetwork, X: ArrayLike, layer: int) -> FloatArray:
    """Compute the derivatives of all predictions with respect to one layer's weights.

    Parameters
    ----------
    network : MultiLayerNetwork
        ``L`` layers.
    X : array_like (n, d)
        Points.
    layer : int
        1 to ``L``.

    Returns
    -------
    ndarray (n, m, d) for layer 1, (n, m, m) for the others
        Row ``i`` is the rank-one matrix ``p_(i,l) h_(i,l-1)^T``.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns, no such layer.

    Examples
    --------
    One layer, ``f = 2^(1/2) c (max(2 x, 0) + max(-3 x, 0)) = ...`` at ``x = 1``: only the first neuron fires.

    >>> network = MultiLayerNetwork([[[2.0], [-3.0]]], [1, 1], 0.0)
    >>> jacobian(network, [[1.0]], 1)
    array([[[1.],
            [0.]]])
    """
    (layer,) = check_layers([layer], network.depth)
    signals = forward(network, X)
    P, H = backward(network, signals)[layer - 1], signals.hidden[layer - 1]
    J: FloatArray = P[:, :, np.newaxis] * H[:, np.newaxis, :]
    return J


def gram(network: MultiLayerNetwork, X: ArrayLike, trained_layers: Collection[int]) -> FloatArray:
    """Compute ``G = J J^T`` over the trained layers: a sum of ``(P_l P_l^T) o (H_(l-1) H_(l-1)^T)``.

    Parameters
    ----------
    network : MultiLayerNetwork
        ``L`` layers.
    X : array_like (n, d)
        Points.
    trained_layers : collection of int
        Layers, 1 to ``L``.

    Returns
    -------
    ndarray (n, n)

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns, no such layers.
    """
    layers = check_layers(trained_layers, network.depth)
    signals = forward(network, X)
    return gram_from(backward(network, signals), signals.hidden, layers)


def gram_from(P: Sequence[FloatArray], hidden: Sequence[FloatArray], layers: Sequence[int]) -> FloatArray:
    """Compute ``G`` from sensitivities ``P_1 .. P_L`` and signals ``H_0 .. H_L``; see `gram`.

    Parameters
    ----------
    P : sequence of L ndarray (n, m)
        From `backward`.
    hidden : sequence of L + 1 ndarray
        From `forward`.
    layers : sequence of int
        The trained ones.

    Returns
    -------
    ndarray (n, n)
    """
    terms = [(P[layer - 1] @ P[layer - 1].T) * (hidden[layer - 1] @ hidden[layer - 1].T) for layer in layers]
    return np.asarray(sum(terms))
