"""Planted faults of training both layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from fast.output_layer import ImplicitJointNetwork, JointPairs, JointRun, JointTrial, layers
from fast.two_layer import BLOCK_ENTRIES
from reference.notation import FloatArray
from reference.output_layer import JointNetwork
from verify.experiment import CodeUnderTest, Inputs
from verify.faults.equality import from_the_start, half_as_many
from verify.faults.fault import Fault, call_with


def few_seeds(inputs: Inputs) -> bool:
    """Keep two seeds of each part."""
    return bool(inputs["seed"] < 2)


def layers_with_signs(network: Any) -> Any:  # noqa: ANN401
    """Take the signs of the output weights for the output weights."""
    hidden, outputs = layers(network)
    return hidden, np.sign(outputs) if isinstance(network, JointNetwork) else outputs


def layers_with_initial_outputs(network: Any) -> Any:  # noqa: ANN401
    """Take the output weights that a trained network started from for those it has now."""
    hidden, outputs = layers(network)
    return hidden, network.initial_outputs if isinstance(network, ImplicitJointNetwork) else outputs


class LastBlockPairs(JointPairs):
    """Sums the Gram matrix over the last block of neurons alone, where that is done by BLAS."""

    def _products(self, values: sparse.csr_array) -> FloatArray:
        before, fan = self.work["gram"], np.diff(values.indptr).astype(np.intp)
        products = super()._products(values)
        if self.work["gram"] - before == int(fan @ fan):
            return products
        fires = np.flatnonzero(fan)
        rows = BLOCK_ENTRIES // len(self.X)
        block = values[fires[(len(fires) - 1) // rows * rows :]].toarray()
        last: FloatArray = block.T @ block
        return last


class ShortStepPairs(JointPairs):
    """Takes four tenths of each step."""

    def try_step(self, g: FloatArray) -> JointTrial:
        """Find what a step would do."""
        return super().try_step(0.4 * g)


class FrozenOutputPairs(JointPairs):
    """Solves for both layers and moves only the first."""

    def try_step(self, g: FloatArray) -> JointTrial:
        """Find what a step would do."""
        trial = super().try_step(g)
        predictions = self.per_unit * (trial.excess_of_fired.T @ self.outer)
        return JointTrial(**(vars(trial) | {"outer": self.outer, "predictions": predictions}))


class SignPairs(JointPairs):
    """Moves weights by the signs of the output weights, as if these had stayed what they were."""

    def _advance(self, g: FloatArray) -> None:
        now, self.outer = self.outer, np.sign(self.outer)
        super()._advance(g)
        self.outer = now


class FirstTermPairs(JointPairs):
    """Leaves the output layer's term out of the Gram matrix."""

    def gram(self) -> FloatArray:
        """Compute the first term of ``G``."""
        if self._gram is None:
            E = self.fired_excess.toarray()
            self._gram = super().gram() - E.T @ E / self.network.width
        return self._gram


class DroppedFlipPairs(JointPairs):
    """Forgets the last flip of every step."""

    def try_step(self, g: FloatArray) -> JointTrial:
        """Find what a step would do."""
        trial = super().try_step(g)
        return JointTrial(**(vars(trial) | {"flips": trial.flips[:-1]}))


class ShortSteps(JointRun):
    """A run of `ShortStepPairs`."""

    watch = ShortStepPairs


class FrozenOutputs(JointRun):
    """A run of `FrozenOutputPairs`."""

    watch = FrozenOutputPairs


class Signs(JointRun):
    """A run of `SignPairs`."""

    watch = SignPairs


class FirstTerm(JointRun):
    """A run of `FirstTermPairs`."""

    watch = FirstTermPairs


class DroppedFlips(JointRun):
    """A run of `DroppedFlipPairs`."""

    watch = DroppedFlipPairs


class LastBlock(JointRun):
    """A run of `LastBlockPairs`."""

    watch = LastBlockPairs


class HalvedGram(JointRun):
    """Reports one of the two terms of the Gram matrix."""

    def iterate(self) -> None:
        """Take one step."""
        super().iterate()
        self.counts[-1]["gram"] //= 2


class QuietAtRest(JointRun):
    """Reports no work of iterations in which nothing flips."""

    def iterate(self) -> None:
        """Take one step."""
        super().iterate()
        if not self.counts[-1]["flips"]:
            self.counts[-1] = dict.fromkeys(self.counts[-1], 0)


class HiddenScan(JointRun):
    """Looks at all neurons in each iteration, and does not say so."""

    def iterate(self) -> None:
        """Take one step."""
        self.scan()
        super().iterate()

    def scan(self) -> int:
        """Compute the scores of all neurons; return the multiply-adds."""
        scores = self.X @ self.watched.weights.T
        return int(scores.size * self.X.shape[1])


class CountedScan(HiddenScan):
    """Looks at all neurons in each iteration, and says so."""

    def iterate(self) -> None:
        """Take one step."""
        super().iterate()
        self.counts[-1]["compute"] += self.scan()


FAULTS = (
    Fault(
        "joint-step-0.4",
        "Both layers take four tenths of each step.",
        "value",
        {
            "output_layer.equality": "fails",
            "output_layer.halving": "fails",
            "output_layer.first_ratio": "fails",
            "output_layer.iterations": "fails",
            "output_layer.law": "fails",
            "output_layer.climbs": "fails",
        },
        {"start_joint": ShortSteps},
    ),
    Fault(
        "joint-outputs-frozen",
        "The system is solved for both layers, but the output layer does not move.",
        "value",
        {"output_layer.equality": "fails", "output_layer.law": "fails", "output_layer.climbs": "fails"},
        {"start_joint": FrozenOutputs},
    ),
    Fault(
        "joint-signs-in-the-step",
        "Weights move by the signs of the output weights instead of the output weights.",
        "value",
        {"output_layer.equality": "fails"},
        {"start_joint": Signs},
    ),
    Fault(
        "joint-gram-first-term",
        "The Gram matrix lacks the output layer's term.",
        "value",
        {"output_layer.equality": "fails", "output_layer.law": "fails"},
        {"start_joint": FirstTerm},
    ),
    Fault(
        "joint-dropped-flip",
        "One flip of every step is forgotten.",
        "value",
        {"output_layer.equality": "fails", "output_layer.exact": "fails"},
        {"start_joint": DroppedFlips},
    ),
    Fault(
        "joint-half-as-many",
        "Training both layers takes half of the iterations asked for.",
        "value",
        {"output_layer.equality": "fails"},
        {"joint_train": partial(half_as_many, CodeUnderTest().joint_train)},
        only=few_seeds,
    ),
    Fault(
        "joint-resumed-from-the-start",
        "Training both layers of a trained network starts where its first layer started.",
        "value",
        {"output_layer.equality": "fails"},
        {
            "joint_train": partial(
                call_with, "fast.output_layer.starting_network", from_the_start, CodeUnderTest().joint_train
            )
        },
        only=few_seeds,
    ),
    Fault(
        "joint-resumed-with-initial-outputs",
        "Training both layers of a trained network starts with the output weights that it had at its start.",
        "value",
        {"output_layer.equality": "fails"},
        {
            "joint_train": partial(
                call_with, "fast.output_layer.layers", layers_with_initial_outputs, CodeUnderTest().joint_train
            )
        },
        only=few_seeds,
    ),
    Fault(
        "joint-signs-of-the-outputs",
        "Training both layers takes the signs of the output weights for the output weights at the start.",
        "value",
        {"output_layer.equality": "fails"},
        {
            "joint_train": partial(
                call_with, "fast.output_layer.layers", layers_with_signs, CodeUnderTest().joint_train
            )
        },
        only=few_seeds,
    ),
    Fault(
        "joint-last-block-alone",
        "Where neurons fire on many points the Gram matrix misses all but the last block of them.",
        "value",
        {"output_layer.equality": "fails"},
        {"start_joint": LastBlock},
        only=few_seeds,
    ),
    Fault(
        "joint-halved-counter",
        "One of the two terms of the Gram matrix is not counted.",
        "cost",
        {"output_layer.exact": "fails"},
        {"start_joint": HalvedGram},
    ),
    Fault(
        "joint-quiet-at-rest",
        "Iterations in which nothing flips report no work.",
        "cost",
        {"output_layer.exact": "fails", "output_layer.rest": "fails"},
        {"start_joint": QuietAtRest},
    ),
    Fault(
        "joint-hidden-scan",
        "All neurons are looked at in each iteration and not counted.",
        "cost",
        {"output_layer.witness": "fails", "output_layer.width": "invalid", "output_layer.rest": "invalid"},
        {"start_joint": HiddenScan},
    ),
    Fault(
        "joint-counted-scan",
        "All neurons are looked at in each iteration, and counted.",
        "cost",
        {"output_layer.witness": "fails", "output_layer.width": "fails"},
        {"start_joint": CountedScan},
    ),
)
