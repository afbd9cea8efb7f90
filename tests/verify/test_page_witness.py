"""Pages read: the witness itself, the three numbers side by side, and reads that no tripwire notices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fast.gauss_newton import EventRun
from fast.watched_pairs import WatchedPairs
from reference.notation import InputError
from reference.two_layer import initialize, shift_for
from verify import page_witness as pages
from verify import problems, seeds
from verify.claims import cost, page_witness
from verify.claims.events import Seen
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


@pytest.mark.parametrize("columns", [3, 512, 513, 2048, 9000])
def test_rows_that_were_read_are_counted_and_keep_their_values(columns: int) -> None:
    array = pages.PagedArray(50, columns)
    values = np.random.default_rng(0).standard_normal((50, columns))
    array.rows[:] = values
    array.forget()
    assert array.rows_read() == (0 if TELLS else -1)
    for column in (0, columns // 2, columns - 1):
        array.forget()
        array.rows[[3, 7, 7, 40], column].sum()
        assert array.rows_read() == (3 if TELLS else -1)
    np.testing.assert_array_equal(array.rows, values)


def test_nothing_that_the_process_reads_elsewhere_counts() -> None:
    array, other = pages.PagedArray(50, 3), pages.PagedArray(70, 3)
    array.forget()
    other.rows.sum()
    assert array.rows_read() == (0 if TELLS else -1)


def test_the_shape_is_checked() -> None:
    with pytest.raises(InputError, match="pass at least one row"):
        pages.PagedArray(0, 3)
    with pytest.raises(InputError, match="8193 rows, each a mapping of its own; pass at most 8192"):
        pages.PagedArray(8193, 3)


def mappings() -> int:
    """Count those of this process; 0 where the system has no such list."""
    return len(pages.MAPPINGS.read_bytes().splitlines()) if pages.MAPPINGS.exists() else 0


def test_an_array_that_is_kept_after_its_context_is_one_mapping() -> None:
    before = mappings()
    with pages.PagedArray(2000, 3) as array:
        # What other tests left behind may go meanwhile; where the system does not tell, nothing is mapped row by row.
        assert mappings() >= (before + 1500 if TELLS else 0)
    assert mappings() < before + 1000
    assert not array.tells()


def test_a_process_short_of_mappings_keeps_those_it_has_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = mappings()
    few = tmp_path / "most"
    few.write_text(f"{before + 3000}\n")
    monkeypatch.setattr(pages, "MOST_MAPPINGS", few)
    array = pages.PagedArray(2000, 3)
    assert mappings() < before + 100
    array.rows[:] = 1.5
    assert array.rows_read() == -1
    assert (array.rows == 1.5).all()


@pytest.mark.parametrize("missing", ["the table", "its length", "the mapping"])
def test_a_system_that_does_not_tell_leaves_the_claims_undecided(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "short").write_bytes(b"\xff" * 100)
    if missing == "the mapping":
        monkeypatch.delattr(pages.os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(pages, "FOUND", tmp_path / {"the table": "none", "its length": "short"}[missing])
    one_of_each_claim = {"tree", "query", "low-rank", "events-memory"}
    found = findings(CodeUnderTest(), lambda inputs: inputs["loop"] in one_of_each_claim)
    assert found.pop("page_witness.memory").verdict == "holds"
    assert {finding.verdict for finding in found.values()} == {"undecided"}
    assert all("does not tell which pages" in finding.reason for finding in found.values())


def test_witness_ledger_and_count_agree() -> None:
    expected = dict.fromkeys([claim.id for claim in page_witness.CLAIMS], "holds" if TELLS else "undecided")
    assert verdicts(CodeUnderTest()) == expected | {"page_witness.memory": "holds"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_reads_that_are_not_counted_are_caught(fault: Fault) -> None:
    assert fault.only is not None
    found = verdicts(fault.code, fault.only)
    told = TELLS or "page_witness.memory" in fault.caught_by
    expected = fault.caught_by if told else dict.fromkeys(fault.caught_by, "undecided")
    assert {claim: found[claim] for claim in fault.caught_by} == expected


def test_every_claim_has_a_fault() -> None:
    check([page_witness.EXPERIMENT], FAULTS)


def test_the_tripwire_is_blind_to_what_only_compares_and_pages_to_a_private_copy() -> None:
    """Says what either does not see, so that both are needed, and the memory; see there when this fails."""
    rng = np.random.default_rng(0)
    problem = problems.make("random", 4, 8, rng)
    network = initialize(1 << 11, 8, shift=shift_for(1 << 11, cost.ALPHA), rng=rng)
    honest = CodeUnderTest().train(network, problem.X, problem.y, iterations=cost.ITERATIONS, search="tree")
    comparing = next(fault.code for fault in FAULTS if fault.id == "tree-compares-weights")
    assert cost.run_ignores_poison(network, problem, honest, comparing)
    found = verdicts(CodeUnderTest(start=PrivateCopyTree), partial(of, "tree"))
    assert found["page_witness.rows"] == ("holds" if TELLS else "undecided")


def test_a_run_that_comes_back_to_a_copy_goes_on_as_if_nobody_looked() -> None:
    """A safeguarded run does so after steps that it takes back."""
    rng = np.random.default_rng(0)
    problem = problems.make("random", 8, 8, rng)
    network = initialize(1 << 12, 8, shift=shift_for(1 << 12, page_witness.ALPHA), rng=rng)
    norms = []
    for seen in (None, Seen()):
        run = EventRun(network, problem.X, problem.y, step="safeguarded")
        for _ in range(3):
            if seen is not None:
                seen.attach(run)
            run._restore(run._save())
            run.iterate()
        assert isinstance(run.watched, WatchedPairs)
        norms.append(run.residual_norms)
    assert norms[0] == norms[1]


def test_a_view_notes_what_is_asked_for_by_index() -> None:
    values, asked = np.arange(6.0), []  # type: ignore[var-annotated]
    view = page_witness.noting(values, asked)
    np.testing.assert_array_equal(view[:4][[1, 3, 3]], [1.0, 3.0, 3.0])
    view[[0, 5]] = -1.0
    assert values[5] == -1.0
    assert [list(indices) for indices in asked] == [[1, 3, 3]]
