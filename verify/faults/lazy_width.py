"""Planted faults for the lazy-width claims: samplers that are nearly right."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from fast.lazy_width import LazyNetwork, initialize
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork
from verify.experiment import CodeUnderTest, Inputs
from verify.faults.fault import Fault, call_with

Defect = Literal[
    "none", "duplicates", "fixed", "poisson", "beyond", "unprojected", "first signs", "all signs", "short"
]


def draw(
    X: FloatArray,
    *,
    width: int,
    shift: float,
    rng: np.random.Generator,
    unseen: FloatArray | None = None,
    defect: Defect = "none",
) -> LazyNetwork:
    """Draw as the module docstring of `fast.lazy_width` says, in plain lines, with one defect or none.

    Parameters
    ----------
    X, width, shift, rng, unseen
        As for `fast.lazy_width.initialize`.
    defect : str
        ``duplicates``: keep a neuron once for every point that it fires on. ``fixed``, ``poisson``: draw the mean
        number of neurons, or a Poisson number, not a binomial one. ``beyond``: threshold 1% too high. ``unprojected``:
        add the part along the point without taking out what is there. ``first signs``: the first twentieth are +1.
        ``all signs``: all are. ``short``: lose the last 3%.

    Returns
    -------
    LazyNetwork
    """
    points = X if unseen is None else np.concatenate([X, unseen])
    n, d = points.shape
    lengths = np.linalg.norm(points, axis=1)
    directions = points / lengths[:, np.newaxis]
    chances = ndtr(-shift / lengths)
    q = float(chances.sum())
    if q > 1:  # a full draw
        weights = rng.standard_normal((width, d))
        fires = np.greater_equal(points @ weights.T, shift)
        weights = weights[fires.any(axis=0)]
    else:
        draws = rng.poisson(width * q) if defect == "poisson" else rng.binomial(width, q)
        if defect == "fixed":
            draws = round(width * q)
        index = rng.choice(n, size=draws, p=chances / q)
        beyond = 1.01 * shift if defect == "beyond" else shift
        along = -ndtri(ndtr(-beyond / lengths[index]) * (1 - rng.random(draws)))
        weights = rng.standard_normal((draws, d))
        removed = 0 if defect == "unprojected" else (weights * directions[index]).sum(axis=1)
        weights += (along - removed)[:, np.newaxis] * directions[index]
        if defect != "duplicates":
            fires = np.greater_equal(points @ weights.T, shift)
            weights = weights[fires.argmax(axis=0) == index]
    signs: FloatArray = 2.0 * rng.integers(0, 2, size=len(weights)).astype(np.float64) - 1.0
    if defect == "first signs":
        signs[: len(signs) // 20] = 1.0
    if defect == "all signs":
        signs[:] = 1.0
    kept = len(weights) * 97 // 100 if defect == "short" else len(weights)
    return LazyNetwork(weights[:kept], signs[:kept], shift, width, points)


class NothingRejected(LazyNetwork):
    """Extends itself by all neurons that fire on the further points, also where they fire on a given one."""

    def extend(self, points: ArrayLike, *, rng: np.random.Generator) -> LazyNetwork:
        """Draw more neurons."""
        more = initialize(points, width=self.width, shift=self.shift, rng=rng)
        weights, signs, together = (
            np.concatenate([getattr(network, name) for network in (self, more)])
            for name in ("weights", "signs", "points")
        )
        return LazyNetwork(weights, signs, self.shift, self.width, together)


class SmallDeviation(LazyNetwork):
    """Says that predictions lack a tenth of what they may lack."""

    def missing_deviation(self, X: FloatArray) -> FloatArray:
        """Bound what is missing."""
        return super().missing_deviation(X) / 10


class NotRescaled(LazyNetwork):
    """Writes its neurons out as they are, as if there were no others."""

    def to_dense(self) -> TwoLayerNetwork:
        """Write the neurons out."""
        return TwoLayerNetwork(self.weights, self.signs, self.shift)


class Silent(LazyNetwork):
    """Predicts on other points without a warning."""

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().predict(X)


def drawn_as(
    X: ArrayLike,
    *,
    width: int,
    shift: float,
    rng: np.random.Generator,
    unseen: ArrayLike | None = None,
    kind: type[LazyNetwork],
) -> LazyNetwork:
    """Draw a network of another class."""
    network = initialize(X, width=width, shift=shift, rng=rng, unseen=unseen)
    return kind(network.weights, network.signs, network.shift, network.width, network.points)


def without_unseen(
    X: FloatArray, *, width: int, shift: float, rng: np.random.Generator, unseen: FloatArray | None = None
) -> LazyNetwork:
    """Draw only the neurons that fire on ``X``, and say that ``unseen`` was given as well."""
    network = initialize(X, width=width, shift=shift, rng=rng)
    return network if unseen is None else replace(network, points=np.concatenate([X, unseen]))


def thresholds_of_unit_points(points: FloatArray, shift: float) -> tuple[FloatArray, FloatArray]:
    """Compute the lengths, and forget them."""
    return np.linalg.norm(points, axis=1), np.full(len(points), shift)


def take_all(network: object, X: FloatArray) -> None:
    """Check nothing."""


SOME = {"tails": 4, "repeats": 20, "ratios": 6, "extended": 6}


def some(inputs: Inputs) -> bool:
    """Take some seeds of every part."""
    return bool(inputs["seed"] < SOME[inputs["part"]])


FAULTS = (
    Fault(
        "no-rejection",
        "A neuron that fires on several points is kept once for each of them: nothing is rejected.",
        "value",
        {"lazy_width.fired": "fails", "lazy_width.shared": "fails", "lazy_width.touched": "fails"},
        {"lazy_initialize": partial(draw, defect="duplicates")},
        only=some,
    ),
    Fault(
        "fixed-number",
        "The number of neurons drawn is the mean of the binomial distribution, not a draw from it.",
        "value",
        {"lazy_width.spread": "fails"},
        {"lazy_initialize": partial(draw, defect="fixed")},
        only=some,
    ),
    Fault(
        "not-projected",
        "The part of a neuron along its point is added to what is there already.",
        "value",
        {"lazy_width.law": "fails"},
        {"lazy_initialize": partial(draw, defect="unprojected")},
        only=some,
    ),
    Fault(
        "first-signs-alike",
        "The first twentieth of the neurons have sign +1.",
        "value",
        {"lazy_width.signs": "fails"},
        {"lazy_initialize": partial(draw, defect="first signs")},
        only=some,
    ),
    Fault(
        "extension-rejects-nothing",
        "A network is extended by every neuron that fires on a further point, also if it fires on a given one.",
        "value",
        {"lazy_width.extended": "fails"},
        {"lazy_initialize": partial(drawn_as, kind=NothingRejected)},
        only=some,
    ),
    Fault(
        "deviation-too-small",
        "A network says that its predictions on other points lack a tenth of what they may lack.",
        "value",
        {"lazy_width.missing": "fails"},
        {"lazy_initialize": partial(drawn_as, kind=SmallDeviation)},
        only=some,
    ),
    Fault(
        "all-signs-alike",
        "All neurons have sign +1.",
        "value",
        {"lazy_width.first_ratio": "fails"},
        {"lazy_initialize": partial(draw, defect="all signs")},
        only=some,
    ),
    Fault(
        "unseen-points-ignored",
        "Only neurons that fire on a point to train on are drawn; unseen points are taken note of.",
        "value",
        {"lazy_width.extended": "fails"},
        {"lazy_initialize": without_unseen},
        only=some,
    ),
    Fault(
        "all-points-taken-for-unit",
        "Thresholds along points are those of unit points, whatever their length.",
        "value",
        {"lazy_width.extended": "fails"},
        {
            "lazy_initialize": partial(
                call_with, "fast.lazy_width.lengths_and_thresholds", thresholds_of_unit_points, initialize
            )
        },
        only=some,
    ),
    Fault(
        "dense-not-rescaled",
        "A network is written out as a dense one without regard to the neurons that do not exist.",
        "value",
        {"lazy_width.first_ratio": "fails"},
        {"lazy_initialize": partial(drawn_as, kind=NotRescaled)},
        only=some,
    ),
    Fault(
        "silence-about-missing-neurons",
        "A network predicts on points that it was not given without a warning.",
        "value",
        {"lazy_width.missing": "fails"},
        {"lazy_initialize": partial(drawn_as, kind=Silent)},
        only=some,
    ),
    Fault(
        "trained-on-points-not-given",
        "A network is trained on points that it was not given.",
        "value",
        {"lazy_width.missing": "fails"},
        {"train": partial(call_with, "fast.gauss_newton.check_given", take_all, CodeUnderTest().train)},
        only=some,
    ),
)
"""One fault at least for each claim."""
