"""Hypothesis strategies: problems drawn by their geometry, not by a seed alone.

A fault that shows only for near-parallel inputs, at an exact tie or for one data point is found only if the angle,
the tie and the number of points are drawn themselves. This module needs the extra ``test``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, shift_for
from verify.problems import rotate_towards, unit_rows


@dataclass(frozen=True, eq=False)
class Case:
    """A network, data to train on, and points that are not trained on."""

    network: TwoLayerNetwork
    X: FloatArray
    y: FloatArray
    unseen: FloatArray


generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def networks(draw: st.DrawFn, dim: int, *, least_width: int = 1, most_width: int = 300) -> TwoLayerNetwork:
    """Draw a network: Gaussian, uniform or small whole-number weights, any width, any sparsity up to 0.24."""
    width = draw(st.integers(least_width, most_width), label="width")
    alpha = draw(st.sampled_from([0.0, 0.1, 0.24]), label="alpha")
    law = draw(st.sampled_from(["gaussian", "uniform", "whole"]), label="law")
    rng = draw(generators)
    signs = 2.0 * rng.integers(0, 2, size=width).astype(np.float64) - 1.0
    if law == "whole":
        # Whole weights, a whole shift and points on the axes make exact ties at the kink common.
        weights = rng.integers(-3, 4, size=(width, dim)).astype(np.float64)
        return TwoLayerNetwork(weights, signs, 1.0)
    weights = rng.standard_normal((width, dim))
    if law == "uniform":
        weights = rng.uniform(-np.sqrt(3), np.sqrt(3), size=(width, dim))
    return TwoLayerNetwork(weights, signs, shift_for(width, alpha))


@st.composite
def points(draw: st.DrawFn, dim: int, *, most: int = 8) -> FloatArray:
    """Draw unit rows: on the axes, anywhere on the sphere, or in pairs at a drawn angle."""
    kind = draw(st.sampled_from(["axes", "sphere", "pairs"]), label="kind")
    rng = draw(generators)
    n = draw(st.integers(1, most), label="n")
    if kind == "axes":
        return np.eye(dim)[: min(n, dim)]
    if kind == "sphere":
        return unit_rows(n, dim, rng)
    angle = draw(st.floats(0.15, 1.0), label="angle")
    centres = unit_rows((n + 1) // 2, dim, rng)
    partners = rotate_towards(centres, unit_rows(len(centres), dim, rng), angle)
    return np.concatenate([centres, partners])[:n]


@st.composite
def training_cases(draw: st.DrawFn) -> Case:
    """Draw a problem wide enough to train: every point fires and no two points are close to parallel."""
    dim = draw(st.sampled_from([2, 3, 8]), label="d")
    rng = draw(generators)
    network = draw(networks(dim, least_width=1000, most_width=3001))
    X = draw(points(dim, most=3 if dim == 2 else 8))
    scale = draw(st.sampled_from([1.0, 1e-3, 30.0]), label="scale of y")
    return Case(network, X, scale * rng.standard_normal(len(X)), unit_rows(5, dim, rng))
