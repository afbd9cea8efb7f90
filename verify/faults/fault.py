"""What a planted fault is: a defect put in on purpose, and the claims whose verdicts must show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal
from unittest import mock

from reference.notation import InputError
from verify.experiment import CodeUnderTest, Experiment, Inputs, Verdict

Kind = Literal["value", "cost", "statistics"]
"""Wrong answers; right answers at a wrong price; evidence that is none."""

CATCHES: tuple[Verdict, ...] = ("fails", "invalid")


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
    only : callable, optional
        Takes the inputs of a cell and tells whether to measure it, where a part of the cells is enough to flip the
        claims. On that part the true code must not show the verdicts expected here.
    """

    id: str
    description: str
    kind: Kind
    caught_by: Mapping[str, Verdict]
    routines: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    alter: Callable[[Experiment], Experiment] | None = None
    only: Callable[[Inputs], bool] | None = None

    @property
    def code(self) -> CodeUnderTest:
        """The code under test, with the fault in it."""
        return replace(CodeUnderTest(), **self.routines)  # type: ignore[arg-type]

    @property
    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that must catch it."""
        return tuple(dict.fromkeys(claim.split(".")[0] for claim in self.caught_by))


def call_with(
    target: str, other: object, call: Callable[..., object], *arguments: object, **options: object
) -> object:
    """Call a routine while something that it uses, named by its full path, is replaced."""
    with mock.patch(target, other):
        return call(*arguments, **options)


def check(experiments: Sequence[Experiment], faults: Sequence[Fault]) -> None:
    """Refuse claims that no fault tries, and faults that try nothing.

    Parameters
    ----------
    experiments : sequence of Experiment
        Whose claims need a fault each.
    faults : sequence of Fault
        All there are.

    Raises
    ------
    InputError
        Claims without a fault; a fault's id used twice; a fault that names no claim, an unknown claim, an unknown
        routine or a verdict that is no catch; a fault that changes nothing. The message names them.
    """
    ids = [fault.id for fault in faults]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise InputError(f"two faults are called {twice[0]!r}; results are kept by id, so rename one")
    claims = [claim.id for experiment in experiments for claim in experiment.claims]
    known = {each.name for each in fields(CodeUnderTest)}
    for fault in faults:
        unknown = [claim for claim in fault.caught_by if claim not in claims]
        if unknown or not fault.caught_by:
            cause = f"names unknown claims: {', '.join(unknown)}" if unknown else "names no claim"
            raise InputError(f"fault {fault.id!r} {cause}; name claims of registered experiments in caught_by")
        wrong = [f"{claim}: {verdict}" for claim, verdict in fault.caught_by.items() if verdict not in CATCHES]
        if wrong:
            raise InputError(f"fault {fault.id!r} expects {wrong[0]}, which is no catch; expect fails or invalid")
        strange = sorted(fault.routines.keys() - known)
        if strange:
            raise InputError(f"fault {fault.id!r} replaces {strange[0]!r}; replace fields of CodeUnderTest")
        if not fault.routines and fault.alter is None:
            raise InputError(f"fault {fault.id!r} changes nothing; give it routines or alter")
    tried = {claim for fault in faults for claim in fault.caught_by}
    untried = [claim for claim in claims if claim not in tried]
    if untried:
        raise InputError(f"no fault tries {', '.join(untried)}; plant one in verify/faults that flips it")
