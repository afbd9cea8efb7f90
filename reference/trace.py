"""What a training run returns, on both sides, and the record that lets them be compared step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from numpy.typing import ArrayLike

from reference.notation import FloatArray


class Network(Protocol):
    """Anything that predicts and can write itself out as a dense network."""

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on points (n, d); returns (n,)."""
        ...

    def to_dense(self) -> Network:
        """Return the same function with all weights written out."""
        ...


NetworkT = TypeVar("NetworkT", bound=Network, covariant=True)


@dataclass(frozen=True, eq=False)
class Trace(Generic[NetworkT]):
    """One training run.

    Parameters
    ----------
    network : Network
        The trained network, with ``predict(X)`` and ``to_dense()``.
    residual_norms : ndarray (iterations + 1,)
        ``||f - y||`` before the first step and after each; shorter when the run stopped early.
    predictions : ndarray (n,)
        ``f`` on the training data at the end.
    converged : bool
        Whether the last residual is at most ``tolerance`` times the first.
    counts : list of dict
        For each iteration, the work of each phase (phase name to whole number), as counted from the sizes of the
        arrays it processed. The phases differ between algorithms; each ``train`` documents its own.
    preparation_counts : dict
        The same for the work before the first iteration.
    stopped : str
        For a safeguarded run that ended because it got no further: one sentence that says at which iteration and
        residual, why, and what to do. Empty otherwise.
    """

    network: NetworkT
    residual_norms: FloatArray
    predictions: FloatArray
    converged: bool
    counts: list[dict[str, int]]
    preparation_counts: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
