"""Defects that several experiments on many layers must catch: training loops, their weights, and what they report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

import fast.multi_layer_gauss_newton
import reference.multi_layer
from fast.certified_scores import CertifiedScores
from fast.low_rank import LowRankWeights
from fast.multi_layer import ImplicitMultiLayerNetwork, TensorJacobian, backward, fire
from fast.multi_layer_gauss_newton import LastLayer, MultiLayerRun, State
from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, IntArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.experiment import Inputs

Network = MultiLayerNetwork | ImplicitMultiLayerNetwork
DeepTrace = Trace[ImplicitMultiLayerNetwork]

train = fast.multi_layer_gauss_newton.train


def few(seeds: int, inputs: Inputs) -> bool:
    """Tell whether a cell is one of the first seeds; most defects need no more."""
    return bool(inputs["seed"] < seeds)


# Loops with a defect


def train_by(
    run: type[MultiLayerRun],
    network: Network,
    X: FloatArray,
    y: FloatArray,
    *,
    trained_layers: tuple[int, ...],
    iterations: int,
    tolerance: float = 0.0,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Train by a loop of another class; the last layer of a plain network alone goes its usual way."""
    if tuple(trained_layers) == (network.depth,) and not network.normalized:
        return train(
            network, X, y, trained_layers=trained_layers, iterations=iterations, tolerance=tolerance, **options
        )
    return run(network, X, y, trained_layers=trained_layers, **options).run(iterations, tolerance)


class Step09(MultiLayerRun):
    """Takes 0.9 of every step."""

    share = 0.9

    def _solve(self) -> FloatArray:
        return self.share * super()._solve()


class Step04(Step09):
    """Takes 0.4 of every step."""

    share = 0.4


class StaleJacobian(MultiLayerRun):
    """Steps with the fired sets and sensitivities of the start for good."""

    def _take(self, trial: State) -> None:
        trial.jacobian = self.state.jacobian
        super()._take(trial)


class NoProjection(MultiLayerRun):
    """Sends sensitivities back as if no layer were normalized."""

    def _take(self, trial: State) -> None:
        super()._take(trial)
        P = backward(trial.layers, replace(self.initial, normalized=False), trial.signals, self.lowest)
        trial.jacobian = TensorJacobian([(P[layer], trial.signals.hidden[layer - 1]) for layer in self.trained])


class HiddenScan(MultiLayerRun):
    """Multiplies by the whole of the last layer's matrix in every iteration, throws the product away and is silent."""

    def iterate(self) -> None:
        """Scan, then take the step."""
        _ = self.state.signals.hidden[-2].toarray() @ self.state.layers[-1].initial.T
        super().iterate()


class Unbounded(CertifiedScores):
    """Computes all scores again, as if nothing were known from earlier states."""

    def multiply(self, weights: LowRankWeights, H: sparse.csr_array, threshold: float) -> FloatArray:
        """Multiply from the columns of all neurons that fire below."""
        return weights.multiply(H)


class WithoutBounds(MultiLayerRun):
    """Reads ``n k m`` entries forward in every iteration, as in the paper."""

    def _take(self, trial: State) -> None:
        super()._take(trial)
        self.certified = [Unbounded() for _ in self.certified]


class FreeSolve(MultiLayerRun):
    """Counts no work for solving."""

    def _count(self, **work: int) -> None:
        super()._count(**work | {"solve": 0} if "solve" in work else work)


def train_last_layer_with_its_shift_frozen(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    *,
    trained_layers: tuple[int, ...],
    iterations: int,
    tolerance: float = 0.0,
    rank_budget: int | None = None,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Forget to scale the shift with the inputs where the last layer alone is trained as a two-layer network."""
    given: dict[str, Any] = {"trained_layers": trained_layers, "rank_budget": rank_budget, **options}
    if tuple(trained_layers) != (network.depth,) or network.normalized:
        return train(network, X, y, iterations=iterations, tolerance=tolerance, **given)
    last = LastLayer(network, X, rank_budget=rank_budget)
    last.two_layer = TwoLayerNetwork(last.two_layer.weights, last.two_layer.signs, network_shift(network))
    trace = last.run(y, **options).run(iterations, tolerance)
    return replace(trace, network=last.trained(trace.network))  # type: ignore[arg-type, return-value]


def network_shift(network: Network) -> float:
    """Return the shift of either kind of network."""
    return network.initial.shift if isinstance(network, ImplicitMultiLayerNetwork) else network.shift


# Weights with a defect


def started_on(weights: type[LowRankWeights], network: Network) -> ImplicitMultiLayerNetwork:
    """Put other weights in the place of the lazy ones, which a loop keeps when it goes on."""
    if isinstance(network, ImplicitMultiLayerNetwork):
        return network
    return ImplicitMultiLayerNetwork(network, tuple(weights(W) for W in network.weights))


def train_on(
    weights: type[LowRankWeights],
    network: Network,
    X: FloatArray,
    y: FloatArray,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Train on weights of another class."""
    return train(started_on(weights, network), X, y, **options)


def start_on(
    weights: type[LowRankWeights],
    network: Network,
    X: FloatArray,
    y: FloatArray,
    **options: Any,  # noqa: ANN401
) -> MultiLayerRun:
    """Start a run on weights of another class."""
    return MultiLayerRun(started_on(weights, network), X, y, **options)


class LosesFactor(LowRankWeights):
    """Loses one rank-one term in every fold."""

    def fold(self) -> None:
        """Fold the rest."""
        left = self.left.copy()
        left.data[: left.indptr[min(1, self.rank)]] = 0
        self.left = left
        super().fold()


class WholeProducts(LowRankWeights):
    """Multiplies by the whole of ``W(0)``, forward and back, however few neurons fire."""

    def takes_whole(self, H: sparse.csr_array) -> bool:
        """Say yes."""
        return True

    def takes_whole_back(self, P: sparse.csr_array) -> bool:
        """Say yes."""
        return True


# Runs that are not what they are said to be


def leaked_labels(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    *,
    iterations: int,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Report the labels as predictions, and residuals to match; train nothing."""
    trace = train(network, X, y, iterations=0, **options)
    norms = trace.residual_norms[0] * 0.01 ** np.arange(min(iterations, 6) + 1)
    return replace(trace, predictions=y, residual_norms=norms, converged=True)


def one_less(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    *,
    iterations: int,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Hand back the network of one iteration before the last, and the record in full."""
    trace = train(network, X, y, iterations=iterations, **options)
    steps = max(len(trace.residual_norms) - 2, 0)
    return replace(trace, network=train(network, X, y, iterations=steps, **options).network)


def forgetful(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Start from the weights that an earlier run started from, not from those that it arrived at."""
    start = network.initial if isinstance(network, ImplicitMultiLayerNetwork) else network
    return train(start, X, y, **options)


def rebuilt(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Write the weights of an earlier run out, and build everything on them anew."""
    start = network.to_dense() if isinstance(network, ImplicitMultiLayerNetwork) else network
    return train(start, X, y, **options)


def copied(
    network: Network,
    X: FloatArray,
    y: FloatArray,
    **options: Any,  # noqa: ANN401
) -> DeepTrace:
    """Copy every matrix before the start, and do not say so."""
    if isinstance(network, ImplicitMultiLayerNetwork):
        return train(network, X, y, **options)
    weights = tuple(np.array(W, order="F") for W in network.weights)
    return train(replace(network, weights=weights), X, y, **options)


class UnitPoints(ImplicitMultiLayerNetwork):
    """Divides points by their length before it predicts."""

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401
        """Predict."""
        return super().predict(X / np.linalg.norm(X, axis=1, keepdims=True))


def at_unit_length(network: Network, X: FloatArray, y: FloatArray, **options: Any) -> DeepTrace:  # noqa: ANN401
    """Train, and hand back a network that takes all points for unit ones."""
    trace = train(network, X, y, **options)
    return replace(trace, network=UnitPoints(trace.network.initial, trace.network.layers))


def fire_from_zero_on(
    z: FloatArray, network: MultiLayerNetwork, neurons: IntArray | None = None
) -> tuple[sparse.csr_array, FloatArray]:
    """Let no neuron fire whose score is negative, whatever the shift."""
    return fire(np.where(z < 0, -np.inf, z), network, neurons)


# Networks that are not what was asked for


def never_normalized(*args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    """Draw a plain network whatever is asked for."""
    return reference.multi_layer.initialize(*args, **{**options, "normalized": False})


FROZEN_SHIFT = 1.5


def frozen_shift(*args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    """Draw a network with the same small shift at every width and alpha."""
    return reference.multi_layer.initialize(*args, **{**options, "shift": FROZEN_SHIFT})


WHOLE_BLOCKS = 512


def in_whole_blocks(width: int, *args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    """Draw a network whose width is rounded up to whole blocks."""
    blocks = -(-width // WHOLE_BLOCKS)
    return reference.multi_layer.initialize(blocks * WHOLE_BLOCKS, *args, **options)
