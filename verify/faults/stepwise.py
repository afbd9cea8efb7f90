"""Makes a run of a routine that trains, so that one fault can take the place of both."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from reference.notation import FloatArray


class Stepwise:
    """A run that asks a training routine for one iteration at a time, each from the network that the last one left.

    Parameters
    ----------
    train : callable
        ``train(network, X, y, iterations=1, **options)``; only the network in its trace is used.
    network, X, y, options
        As for `train`.
    """

    def __init__(
        self,
        train: Callable[..., Any],
        network: Any,  # noqa: ANN401
        X: FloatArray,
        y: FloatArray,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.train, self.network = train, network
        self.X, self.y, self.options = X, y, options

    def iterate(self) -> None:
        """Take one iteration."""
        self.network = self.train(self.network, self.X, self.y, iterations=1, **self.options).network

    def trace(self, tolerance: float) -> SimpleNamespace:
        """Hand out the network."""
        del tolerance
        return SimpleNamespace(network=self.network)
