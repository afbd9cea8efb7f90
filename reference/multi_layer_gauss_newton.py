"""Gauss-Newton training of several layers at once, every number computed from its definition.

Mathematics ([B], its training loop without the data structures). As in `reference.gauss_newton`, with the weights of
all trained layers as one long vector::

    solve   G g = f - y                                 G: sum over trained layers of (P_l P_l^T) o (H_(l-1) H_(l-1)^T)
    step    W_l <- W_l - sum_i g_i p_(i,l) h_(i,l-1)^T  for every trained layer, an update of rank n at most

Departures from the paper
1. ``G g = f - y`` is solved exactly; `fast.multi_layer_gauss_newton` has the sketched solver.
2. Any subset of the layers may be trained, and ``normalized`` networks too.
3. Signals that die, and a run that grows instead of shrinking, end with an error; the paper assumes a width at which
   neither can happen.

Cost per iteration: ``n m^2`` for each layer forward and backward, ``n^2 m`` for ``G``, ``n^3`` for the solve, ``n m^2``
for each trained layer's step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from reference.multi_layer import (
    MultiLayerNetwork,
    Signals,
    backward,
    check_growth,
    check_layers,
    check_network,
    check_reach,
    forward,
    gram,
    gram_from,
    ran_away,
)
from reference.notation import (
    FloatArray,
    InputError,
    breakdown_explained,
    check_data,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.regression import solve_exact
from reference.safeguard import Step
from reference.safeguarded_run import Model, take_safeguarded_steps
from reference.signals import singular_explained
from reference.trace import Trace


def train(
    network: MultiLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    trained_layers: Collection[int],
    iterations: int,
    tolerance: float = 0.0,
    step: Step = "full",
) -> Trace[MultiLayerNetwork]:
    """Train some layers by Gauss-Newton ([B]): solve ``G g = f - y``, step ``W_l <- W_l - P_l^T diag(g) H_(l-1)``.

    Parameters
    ----------
    network : MultiLayerNetwork
        Where to start; any weights. Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified. Of a normalized network, below ``m^(1/2)`` in size, which its predictions cannot exceed.
    trained_layers : collection of int
        Which layers move, numbered from 1 to the depth.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.
    step : {"full", "safeguarded"}
        The paper's step, or one that never raises the residual; see `reference.gauss_newton.train`.

    Returns
    -------
    Trace
        ``counts`` has the multiply-adds of the phases ``forward``, ``backward``, ``gram``, ``solve`` and ``step``; of a
        safeguarded run ``pattern`` in place of the first, ``gram`` with the signals both ways, ``solve`` and ``step``.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`, `reference.multi_layer.check_layers` and ``check_reach``.
    DeadSignalError
        Some layer is silent on some data point.
    SingularGramError
        ``G`` is singular to working precision. Not in a safeguarded run, which damps it.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred; or the weights of a
        normalized network did. Not in a safeguarded run.

    Examples
    --------
    >>> from reference.multi_layer import initialize
    >>> network = initialize(500, 3, 2, shift=0.5, rng=np.random.default_rng(0))
    >>> trace = train(network, np.eye(3), [1.0, -1.0, 1.0], trained_layers=(1, 2), iterations=9, tolerance=1e-12)
    >>> trace.converged, bool((trace.residual_norms[1:] <= trace.residual_norms[:-1] / 2).all())
    (True, True)
    """
    check_network(network)
    layers = check_layers(trained_layers, network.depth)
    X = check_points(check_data(X), network.dim)
    y = check_labels(y, len(X))
    check_reach(y, network)
    check_run(iterations, tolerance)
    if step == "safeguarded":
        model = several_layers(network, X, layers)
        return take_safeguarded_steps(network, model, y, iterations=iterations, tolerance=tolerance)
    if step != "full":
        raise InputError(f"step is {step!r}; pass 'full' or 'safeguarded'")
    n, sizes = len(X), [W.size for W in network.weights]

    signals = forward(network, X)
    first = signals.sizes
    residual = signals.hidden[-1] @ network.signs - y
    residual_norms = [float(np.linalg.norm(residual))]
    check_residual(residual_norms, y)
    counts: list[dict[str, int]] = []
    while unfinished(residual_norms, iterations, tolerance):
        with breakdown_explained(residual_norms):
            signals.check(network)
            P = backward(network, signals)
            with singular_explained(signals.fired(), network):
                g = solve_exact(gram_from(P, signals.hidden, layers), residual)
        network = moved(network, P, signals, layers, g)
        signals = forward(network, X)
        residual = signals.hidden[-1] @ network.signs - y
        residual_norms.append(float(np.linalg.norm(residual)))
        check_residual(residual_norms, y)
        check_growth(signals.sizes, first, residual_norms)
        counts.append(
            {
                "forward": n * sum(sizes),
                "backward": n * sum(sizes[1:]),
                "gram": n * n * sum(sum(network.weights[layer - 1].shape) for layer in layers),
                "solve": n**3,
                "step": n * sum(sizes[layer - 1] for layer in layers),
            }
        )
    converged = residual_norms[-1] <= tolerance * residual_norms[0]
    return Trace(network, np.array(residual_norms), residual + y, converged, counts)


def moved(
    network: MultiLayerNetwork, P: Sequence[FloatArray], signals: Signals, layers: Sequence[int], g: FloatArray
) -> MultiLayerNetwork:
    """Make the step ``W_l <- W_l - P_l^T diag(g) H_(l-1)`` of the trained layers.

    Parameters
    ----------
    network : MultiLayerNetwork
        Not modified.
    P : sequence of L ndarray (n, m)
        From `reference.multi_layer.backward`.
    signals : Signals
        From `reference.multi_layer.forward`.
    layers : sequence of int
        The trained ones.
    g : ndarray (n,)
        Step.

    Returns
    -------
    MultiLayerNetwork
    """
    weights = list(network.weights)
    for layer in layers:
        weights[layer - 1] = weights[layer - 1] - (P[layer - 1] * g[:, np.newaxis]).T @ signals.hidden[layer - 1]
    return MultiLayerNetwork(tuple(weights), network.signs, network.shift, network.normalized)


def several_layers(like: MultiLayerNetwork, X: FloatArray, layers: Sequence[int]) -> Model[MultiLayerNetwork]:
    """Say what the safeguarded loop has to know of deep networks that start at this one, on data points (n, d)."""
    n, sizes = len(X), [W.size for W in like.weights]
    first = forward(like, X).sizes

    def alive(network: MultiLayerNetwork) -> bool:
        signals = forward(network, X)
        return all(count.all() for count in signals.fired()) and not ran_away(signals.sizes, first)

    def move(network: MultiLayerNetwork, g: FloatArray) -> MultiLayerNetwork:
        signals = forward(network, X)
        return moved(network, backward(network, signals), signals, layers, g)

    both_ways = n * (sum(sizes) + sum(sizes[1:]))
    return Model(
        X,
        check=lambda network: forward(network, X).check(network),
        alive=alive,
        gram=lambda network: gram(network, X, layers),
        move=move,
        work={
            "pattern": n * sum(sizes),
            "gram": both_ways + n * n * sum(sum(like.weights[layer - 1].shape) for layer in layers),
            "step": both_ways + n * sum(sizes[layer - 1] for layer in layers),
        },
    )
