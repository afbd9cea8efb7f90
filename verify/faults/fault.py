"""What a planted fault is: a defect put in on purpose, and the claims whose verdicts must show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from verify.experiment import CodeUnderTest, Experiment, Verdict

Kind = Literal["value", "cost", "statistics"]
"""Wrong answers; right answers at a wrong price; evidence that is none."""


@dataclass(frozen=True)
class Fault:
    """One defect.

    Parameters
    ----------
    id : str
        Words joined by hyphens.
    description : str
        One sentence: what is wrong.
    kind : {"value", "cost", "statistics"}
        See `Kind`.
    caught_by : mapping of str to Verdict
        Id of each claim that must catch it, and its verdict then: "fails", or "invalid" where a witness contradicts
        what the code says of itself. Any other verdict, and a cell that raises, is no catch.
    routines : mapping of str to callable
        Fields of `CodeUnderTest`, and what takes their place. Module-level functions, classes, or
        `functools.partial` of one: they travel to worker processes.
    alter : callable, optional
        Takes an experiment and returns it with the defect, for faults of the harness itself.
    """

    id: str
    description: str
    kind: Kind
    caught_by: Mapping[str, Verdict]
    routines: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    alter: Callable[[Experiment], Experiment] | None = None

    @property
    def code(self) -> CodeUnderTest:
        """The code under test, with the fault in it."""
        return replace(CodeUnderTest(), **self.routines)  # type: ignore[arg-type]

    @property
    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that must catch it."""
        return tuple(dict.fromkeys(claim.split(".")[0] for claim in self.caught_by))
