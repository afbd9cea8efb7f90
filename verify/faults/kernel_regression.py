"""Faults that `verify.claims.kernel_regression` must catch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import fast.gauss_newton
from reference.notation import FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.faults.fault import Fault


def stops_early(*problem: Any, tolerance: float, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train to a thousandth of the residual, whatever is asked for."""
    del tolerance
    return fast.gauss_newton.train(*problem, tolerance=1e-3, **options)


@dataclass(frozen=True, eq=False)
class KnowsOnlyItsData:
    """A network that predicts on points it was not trained on as if it had not been trained."""

    start: TwoLayerNetwork
    trained: Any
    X: FloatArray

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict (n,) on points (n, d)."""
        predictions: FloatArray = (self.trained if np.array_equal(X, self.X) else self.start).predict(X)
        return predictions

    def to_dense(self) -> TwoLayerNetwork:
        """Return the trained weights."""
        dense: TwoLayerNetwork = self.trained.to_dense()
        return dense


def knows_only_its_data(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train, and return a network that has learned nothing about other points."""
    trace = fast.gauss_newton.train(network, X, y, **options)
    return replace(trace, network=KnowsOnlyItsData(network, trace.network, X))  # type: ignore[arg-type]


def shrinks_idle_neurons(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train with weight decay on all that gradients do not hold: neurons that never fire lose half of their weights."""
    trace = fast.gauss_newton.train(network, X, y, **options)
    weights = trace.network.to_dense().weights.copy()
    weights[(weights == network.weights).all(axis=1)] /= 2
    return replace(trace, network=TwoLayerNetwork(weights, network.signs, network.shift))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class FrozenPattern:
    """A network whose neurons fire where they fired at the start, wherever the weights went: linear in them."""

    start: TwoLayerNetwork
    weights: FloatArray

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict (n,) on points (n, d)."""
        fires = self.start.shift <= X @ self.start.weights.T
        moved = X @ (self.weights - self.start.weights).T
        change: FloatArray = (fires * moved) @ self.start.signs / np.sqrt(self.start.width)
        return self.start.predict(X) + change

    def to_dense(self) -> TwoLayerNetwork:
        """Return the weights in an ordinary network."""
        return TwoLayerNetwork(self.weights, self.start.signs, self.start.shift)


def freezes_the_pattern(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train the linear model around the start: a single exact step."""
    del options
    fires = (network.weights @ X.T >= network.shift).astype(np.float64)
    G = (X @ X.T) * (fires.T @ fires) / network.width
    g = np.linalg.solve(G, network.predict(X) - y)
    step = network.signs[:, np.newaxis] * (fires @ (g[:, np.newaxis] * X)) / np.sqrt(network.width)
    frozen = FrozenPattern(network, network.weights - step)
    return Trace(frozen, np.array([1.0, 0.0]), y, True, [])


FAULTS: tuple[Fault, ...] = (
    Fault(
        "training-stops-early",
        "Training stops at a thousandth of the residual.",
        "value",
        {"kernel_regression.training": "fails"},
        {"train": stops_early},
    ),
    Fault(
        "only-data-known",
        "The trained network predicts on unseen points as if it had not been trained.",
        "value",
        {
            "kernel_regression.unseen": "fails",
            "kernel_regression.empirical": "fails",
            "kernel_regression.digits": "fails",
        },
        {"train": knows_only_its_data},
    ),
    Fault(
        "idle-neurons-decay",
        "Neurons that never fire lose half of their weights.",
        "value",
        {"kernel_regression.norm": "fails"},
        {"train": shrinks_idle_neurons},
    ),
    Fault(
        "pattern-frozen",
        "Neurons go on firing where they fired at the start, so that the trained model is linear.",
        "value",
        {"kernel_regression.paper": "fails"},
        {"train": freezes_the_pattern},
    ),
)
