"""Planted faults of training many layers by the clock: right answers, slowly, and wrong ones where none looks."""

from __future__ import annotations

from fast.multi_layer import fire
from fast.multi_layer_baselines import MultiLayerDenseRun
from fast.multi_layer_gauss_newton import MultiLayerRun, State
from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, SingularGramError
from verify.claims import deep_time
from verify.faults.fault import Fault


class FourScans(MultiLayerDenseRun):
    """A dense loop that looks at every matrix four times an iteration."""

    def iterate(self) -> None:
        """Take a step, and multiply by the matrices three times more."""
        super().iterate()
        for hidden, W in zip(self.signals.hidden, self.weights, strict=False):
            dense = hidden.toarray()
            for _ in range(3):
                _ = dense @ W.T


class SevenMoreScans(MultiLayerDenseRun):
    """An opponent that multiplies by every matrix seven times more, before it looks at what fires; all is right."""

    def _scan(self) -> int:
        hidden = self.below.hidden[-1]
        for W in self.weights[self.lowest - 1 :]:
            dense = hidden.toarray()
            for _ in range(7):
                scores = dense @ W.T
            hidden, _ = fire(scores, self.initial)
        return super()._scan()


class ShortStepsWhenWide(MultiLayerRun):
    """Steps a thousandth short, but only at a width at which no run is compared with a dense one."""

    def _try(self, g: FloatArray) -> State:
        return super()._try(g * (1 - 1e-3 * (self.initial.width >= 1 << 12)))


class GivesUp(MultiLayerRun):
    """Stops at once, as if points looked alike."""

    def iterate(self) -> None:
        """Take no step."""
        raise SingularGramError("G is singular")


class DenseLastLayer:
    """Trains the last layer alone by a dense loop, as if its inputs were not known to stay."""

    def __init__(self, network: MultiLayerNetwork, X: FloatArray, *, rank_budget: int | None) -> None:
        self.network, self.X = network, X

    def run(self, y: FloatArray) -> MultiLayerDenseRun:
        """Begin a run."""
        return MultiLayerDenseRun(self.network, self.X, y, trained_layers=[self.network.depth])


FAULTS: tuple[Fault, ...] = (
    Fault(
        "deep-slow-by-the-clock",
        "The fast loop is a dense one in disguise that looks at every matrix four times an iteration.",
        "cost",
        {
            "deep_time.dense": "fails",
            "deep_time.compacted": "fails",
            "deep_time.normalized": "fails",
            "deep_time.start": "fails",
            "deep_time.last_layer": "fails",
            "deep_time.crossover": "fails",
            "deep_time.growth": "fails",
        },
        {"start_deep": FourScans, "last_layer": DenseLastLayer},
    ),
    Fault(
        "deep-opponents-dawdle",
        "The dense and the compacted loop multiply by every matrix seven times more in every iteration.",
        "cost",
        {"deep_time.opponents": "fails"},
        {"start_deep_dense": SevenMoreScans},
    ),
    Fault(
        "deep-short-steps-when-wide",
        "The fast loop takes steps a thousandth short, at the largest width alone.",
        "value",
        {claim.id: "invalid" for claim in deep_time.CLAIMS},
        {"start_deep": ShortStepsWhenWide},
    ),
    Fault(
        "deep-gives-up",
        "The fast loop stops on every network, as if points looked alike.",
        "value",
        {claim.id: "invalid" for claim in deep_time.CLAIMS},
        {"start_deep": GivesUp},
    ),
)
"""Each claim of `verify.claims.deep_time` is flipped by one of the first two."""
