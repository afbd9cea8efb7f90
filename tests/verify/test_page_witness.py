"""Pages read: the witness itself, the three numbers side by side, and reads that no tripwire notices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reference.notation import InputError
from reference.two_layer import initialize, shift_for
from verify import page_witness as pages
from verify import problems, seeds
from verify.claims import cost, page_witness
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile
from verify.faults.fault import Fault, check
from verify.faults.page_witness import FAULTS, PrivateCopyTree, of

TELLS = pages.PagedArray(8, 1).tells()
"""On other systems the claims must be undecided, which the tests then ask for."""


def first(inputs: Inputs) -> bool:
    return bool(inputs["seed"] == 0)


def findings(code: CodeUnderTest, only: Callable[[Inputs], bool] = first) -> dict[str, Finding]:
    experiment = page_witness.EXPERIMENT
    chosen = [inputs for inputs in experiment.cells(Profile()) if only(inputs)]
    results = [(i, experiment.measure(i, seeds.generator(0, "page_witness", i), code)) for i in chosen]
    return {finding.claim: finding for finding in experiment.decide(results)}


def verdicts(code: CodeUnderTest, only: Callable[[Inputs], bool] = first) -> dict[str, str]:
    return {claim: finding.verdict for claim, finding in findings(code, only).items()}


@pytest.mark.parametrize(("columns", "each"), [(3, 1), (512, 1), (513, 2)])
def test_pages_of_the_rows_that_were_read_are_counted(columns: int, each: int) -> None:
    array = pages.PagedArray(50, columns)
    assert array.rows.shape == (50, columns)
    assert array.pages_per_row == each
    if not TELLS:
        return
    array.forget()
    assert array.pages_read() == 0
    array.rows[[3, 7, 7, 40]].sum()
    assert array.pages_read() == 3 * each


def test_rows_need_a_shape() -> None:
    with pytest.raises(InputError, match="pass at least one row"):
        pages.PagedArray(0, 3)


@pytest.mark.parametrize("missing", ["CLEAR", "MAPS"])
def test_a_system_that_does_not_tell_leaves_the_claims_undecided(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, missing, Path("/nowhere/at/all"))
    found = findings(CodeUnderTest())
    assert {finding.verdict for finding in found.values()} == {"undecided"}
    assert all("does not tell which pages" in finding.reason for finding in found.values())


def test_witness_ledger_and_count_agree() -> None:
    expected = "holds" if TELLS else "undecided"
    assert verdicts(CodeUnderTest()) == {claim.id: expected for claim in page_witness.CLAIMS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_reads_that_are_not_counted_are_caught(fault: Fault) -> None:
    assert fault.only is not None
    found = verdicts(fault.code, fault.only)
    expected = fault.caught_by if TELLS else dict.fromkeys(fault.caught_by, "undecided")
    assert {claim: found[claim] for claim in fault.caught_by} == expected


def test_every_claim_has_a_fault() -> None:
    check([page_witness.EXPERIMENT], FAULTS)


def test_the_tripwire_is_blind_to_what_only_compares_and_both_to_a_private_copy() -> None:
    """Says what is not seen; when this fails, a witness has become better and the docstrings are out of date."""
    rng = np.random.default_rng(0)
    problem = problems.make("random", 4, 8, rng)
    network = initialize(1 << 11, 8, shift=shift_for(1 << 11, cost.ALPHA), rng=rng)
    honest = CodeUnderTest().train(network, problem.X, problem.y, iterations=cost.ITERATIONS, search="tree")
    comparing = next(fault.code for fault in FAULTS if fault.id == "tree-compares-weights")
    assert cost.run_ignores_poison(network, problem, honest, comparing)
    found = verdicts(CodeUnderTest(start=PrivateCopyTree), partial(of, "tree"))
    assert found["page_witness.rows"] == ("holds" if TELLS else "undecided")
