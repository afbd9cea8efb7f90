"""Planted faults for the convergence claims: loops that converge too slowly, and some that do so too well."""

from __future__ import annotations

import numpy as np

import fast.gauss_newton
import reference.two_layer
from fast.gauss_newton import TreeRun
from fast.two_layer import ImplicitNetwork
from reference.notation import FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.experiment import Inputs
from verify.faults.fault import Fault

BLOCK = 1 << 13


def some(inputs: Inputs) -> bool:
    """Take ten trials of every family."""
    return bool(inputs["seed"] < 10)


def narrow(inputs: Inputs) -> bool:
    """Take all trials on narrow networks, and the fewest of the others."""
    return bool(inputs["family"] == "narrow" or inputs["seed"] < 2)


class GradientDescent(TreeRun):
    """Takes a step of gradient descent, with its best learning rate of the moment, in the place of Gauss-Newton's."""

    def _solve(self) -> FloatArray:
        eigenvalues = np.linalg.eigvalsh(self._gram())
        g: FloatArray = 2 / (eigenvalues[-1] + eigenvalues[0]) * self.residual
        return g


class RunOn(TreeRun):
    """Takes more steps than it was asked for: as many as it needs."""

    def iterate(self) -> None:
        """Take 40 steps, or fewer where fewer do."""
        start = self.residual_norms[0]
        for _ in range(40):
            super().iterate()
            if self.residual_norms[-1] <= 1e-12 * start:
                return


def gauss_newton(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, learning_rate: float
) -> Trace[ImplicitNetwork]:
    """Take a Gauss-Newton step in the place of gradient descent's."""
    return fast.gauss_newton.train(network, X, y, iterations=iterations)


def pad(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Fill up the last block of neurons, and let those that nobody asked for take part."""
    return reference.two_layer.initialize(-(-width // BLOCK) * BLOCK, dim, shift=shift, rng=rng)


FAULTS = (
    Fault(
        "gradient-descent-for-gauss-newton",
        "Gradient descent passes for Gauss-Newton, and Gauss-Newton for gradient descent.",
        "value",
        {
            "convergence.random": "fails",
            "convergence.gradient": "fails",
            "convergence.first_ratio": "fails",
        },
        {"start": GradientDescent, "train_gradient_descent": gauss_newton},
        only=some,
    ),
    Fault(
        "more-iterations-than-asked",
        "Training ignores the number of iterations: what is reported as one of them is a whole run.",
        "value",
        {
            "convergence.pairs": "fails",
            "convergence.clash": "fails",
            "convergence.first_ratio": "fails",
            "convergence.first_slope": "fails",
        },
        {"start": RunOn},
        only=some,
    ),
    Fault(
        "padded-width",
        "The width is rounded up to whole blocks of 8192 neurons, and all of them take part.",
        "value",
        {"convergence.narrow": "fails"},
        {"initialize": pad},
        only=narrow,
    ),
)
"""One fault at least for each claim."""
