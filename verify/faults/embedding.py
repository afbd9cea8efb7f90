"""Faults in the sketches: lengths off on average, too few rows used, lost signs, no sketch at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from fast import sketch
from fast.jacobian import FiredJacobian
from reference.notation import FloatArray
from reference.sketch import Draw, TensorSketchDraw, TensorSRHTDraw
from verify.experiment import Inputs
from verify.faults.fault import Fault

KINDS = ("gaussian", "srht", "sparse", "tensor", "tensor_srht")
ROWS = 8
"""As many as there are data points in the experiment: far too few."""


def few_blocks(inputs: Inputs) -> bool:
    """Keep three blocks of trials a kind: 60 trials."""
    return bool(inputs["seed"] < 3)


def unnormalized(draw: Draw, M: FloatArray) -> FloatArray:
    """Sketch lengths 1.4 times too long."""
    return 1.4 * np.asarray(sketch.apply(draw, M))


def unnormalized_jacobian(draw: TensorSketchDraw, J: FiredJacobian) -> FloatArray:
    """Sketch lengths 1.4 times too long, from the fired pairs."""
    return 1.4 * np.asarray(sketch.sketch_jacobian(draw, J))


def biased_jacobian(draw: TensorSketchDraw, J: FiredJacobian) -> FloatArray:
    """Sketch lengths 5% too long, from the fired pairs."""
    return 1.05 * np.asarray(sketch.sketch_jacobian(draw, J))


def shortened(draw: Draw, M: FloatArray) -> FloatArray:
    """Use the first rows only, scaled so that lengths are right on average."""
    S = np.asarray(sketch.apply(draw, M))
    return np.asarray(S[:ROWS] * np.sqrt(len(S) / ROWS))


def folded(draw: TensorSketchDraw) -> TensorSketchDraw:
    """Hash to a few rows."""
    return replace(draw, left_rows=draw.left_rows % ROWS, right_rows=draw.right_rows % ROWS)


def without_signs(draw: TensorSketchDraw, J: FiredJacobian) -> FloatArray:
    """Hash to a few rows, and forget the random signs."""
    draw = replace(draw, left_signs=np.abs(draw.left_signs), right_signs=np.abs(draw.right_signs))
    return np.asarray(sketch.sketch_jacobian(folded(draw), J))


def few_rows_of_tensors(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> FloatArray:
    """Use a few rows of the draw only, in sketches of factor pairs."""
    draw = replace(draw, left_rows=draw.left_rows % ROWS, right_rows=draw.right_rows % ROWS)
    return np.asarray(sketch.sketch_tensors(draw, left, right))


def no_sketch(draw: Draw, M: FloatArray) -> FloatArray:
    """Return the matrix itself: perfect, and as large as it was."""
    return M


def no_sketch_of_jacobian(draw: TensorSketchDraw, J: FiredJacobian) -> FloatArray:
    """Return the Jacobian itself."""
    dense: FloatArray = J.to_dense().T
    return dense


FAULTS: tuple[Fault, ...] = (
    Fault(
        "unnormalized-sketch",
        "Sketches make vectors 1.4 times too long.",
        "value",
        {f"embedding.{claim}": "fails" for claim in (*KINDS, "unbiased")},
        {"sketch": unnormalized, "sketch_jacobian": unnormalized_jacobian},
        only=few_blocks,
    ),
    Fault(
        "biased-sketch",
        "TensorSketch makes vectors 5% too long, well within its distortion.",
        "value",
        {"embedding.unbiased": "fails"},
        {"sketch_jacobian": biased_jacobian},
        only=few_blocks,
    ),
    Fault(
        "short-sketch",
        "Sketches use as many rows as there are data points, and lengths are right on average.",
        "value",
        {f"embedding.{kind}": "fails" for kind in KINDS if kind != "tensor"},
        {"sketch": shortened},
        only=few_blocks,
    ),
    Fault(
        "lost-signs",
        "TensorSketch hashes to a few rows without random signs.",
        "value",
        {"embedding.tensor": "fails"},
        {"sketch_jacobian": without_signs},
        only=few_blocks,
    ),
    Fault(
        "short-tensor-sketch",
        "Sketches of factor pairs use a few rows of their draw.",
        "value",
        {"embedding.rank_one": "fails"},
        {"sketch_tensors": few_rows_of_tensors},
        only=few_blocks,
    ),
    Fault(
        "no-sketch",
        "In place of a sketch the whole matrix is returned, which embeds perfectly and saves nothing.",
        "cost",
        {"embedding.short": "fails"},
        {"sketch": no_sketch, "sketch_jacobian": no_sketch_of_jacobian},
        only=few_blocks,
    ),
)
