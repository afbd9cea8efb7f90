"""The kill matrix: every outcome on tiny experiments, resuming, and what registration refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.notation import InputError
from verify import __main__ as command
from verify.claims import EXPERIMENTS
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.faults import FAULTS, check_registered, kill
from verify.faults.fault import Fault, check
from verify.run import Interrupted


def cells(profile: Profile) -> list[Inputs]:
    return [{"seed": seed} for seed in range(8 if profile.thorough else 4)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    true = CodeUnderTest()
    # The true routines stand for 1, those of a fault say what they are.
    value = 1.0 if code.gram is true.gram else float(code.gram(1.0))
    count = 1.0 if code.shifted_ntk is true.shifted_ntk else float(code.shifted_ntk(1.0))
    return {"value": value, "count": count, "drawn": float(rng.random())}


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Say "fails" for a value above 1, "undecided" between, "invalid" for a count that a witness contradicts."""
    worst = max(result["value"] for _, result in results)
    count = max(result["count"] for _, result in results)
    value: Verdict = "holds" if worst <= 1 else "undecided" if worst < 2 else "fails"
    return [
        Finding("toy.value", value, worst, None, "<= 1", "toy", f"the worst is {worst}"),
        Finding("toy.count", "holds" if count <= 1 else "invalid", count, None, "<= 1", "toy", "the witness"),
    ]


CLAIMS = (Claim("toy.value", "The value is small.", "ours"), Claim("toy.count", "So is the count.", "ours"))
TOY = Experiment("toy", "A toy", CLAIMS, cells, measure, decide)


def one(_: float) -> float:
    return 1.0


def halfway(_: float) -> float:
    return 1.5


def three(_: float) -> float:
    return 3.0


def raises(_: float) -> float:
    raise ArithmeticError("no such thing")


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests keeps its own answer to signals."""
    monkeypatch.setattr(command, "end_on_termination", lambda: None)


def fault(identity: str = "planted", *, caught_by: dict[str, Verdict] | None = None, **change: Any) -> Fault:  # noqa: ANN401
    change = change or {"routines": {"gram": three}}
    return Fault(identity, "Something is wrong.", "value", caught_by or {"toy.value": "fails"}, **change)


def only(*faults: Fault, experiment: Experiment = TOY, **options: Any) -> kill.Row:  # noqa: ANN401
    (row,) = kill.kill([experiment], faults, jobs=0, **options).rows
    return row


# ---- outcomes


def test_a_fault_that_gives_the_verdict_foretold_is_caught() -> None:
    row = only(fault())
    assert (row.outcome, row.reason, row.others, row.cells) == ("caught", "", {}, 4)
    assert row.catches == (kill.Catch("toy.value", "fails", "fails", "holds", "the worst is 3.0"),)


def test_a_contradicted_count_is_caught_as_invalid_and_other_flips_are_noted() -> None:
    row = only(fault(caught_by={"toy.count": "invalid"}, routines={"shifted_ntk": three, "gram": three}))
    assert (row.outcome, row.others) == ("caught", {"toy.value": "fails"})


@pytest.mark.parametrize(("routine", "found"), [(one, "holds"), (halfway, "undecided")])
def test_a_fault_that_holds_or_is_undecided_survives(routine: Callable[[float], float], found: str) -> None:
    row = only(fault(routines={"gram": routine}))
    assert row.outcome == "survives"
    assert f"toy.value must be fails, and is {found}" in row.reason


def test_one_claim_that_misses_it_is_enough_to_survive() -> None:
    row = only(fault(caught_by={"toy.value": "fails", "toy.count": "invalid"}))
    assert row.outcome == "survives"
    assert "toy.count" in row.reason


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (fault(routines={"gram": raises}), "ArithmeticError: no such thing"),
        (fault(caught_by={"toy.count": "fails"}, routines={"shifted_ntk": three}), "must be fails, and is invalid"),
        (fault(caught_by={"toy.value": "invalid"}), "must be invalid, and is fails"),
        (fault(alter=lambda experiment: 1 / 0), "could not be planted: ZeroDivisionError"),
        (fault(alter=lambda experiment: replace(experiment, decide=lambda results: [])), "decided nothing"),
        (fault(alter=lambda experiment: replace(experiment, cells=lambda profile: 1 / 0)), "could not be listed"),
    ],
)
def test_anything_else_is_an_accident(planted: Fault, words: str) -> None:
    row = only(planted)
    assert row.outcome == "by accident"
    assert words in row.reason


def test_a_cell_that_raises_is_no_catch_even_where_invalid_is_foretold() -> None:
    row = only(fault(caught_by={"toy.count": "invalid"}, routines={"shifted_ntk": raises}))
    assert row.outcome == "by accident"


def test_a_claim_that_fails_on_the_true_code_catches_nothing() -> None:
    def doubled(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        result = measure(inputs, rng, code)
        return {**result, "value": 2 * result["value"]}

    matrix = kill.kill([replace(TOY, measure=doubled)], [fault()], jobs=0)
    assert [(finding.claim, finding.verdict) for finding in matrix.true_code] == [("toy.value", "fails")]
    assert matrix.rows[0].outcome == "by accident"
    assert "for the true code toy.value is fails" in matrix.rows[0].reason
    assert not matrix.succeeded


def test_no_fault_at_all_is_no_success() -> None:
    assert not kill.kill([TOY], [], jobs=0).succeeded


# ---- faults of the harness, and parts of the cells


def one_seed(experiment: Experiment) -> Experiment:
    return replace(experiment, cells=lambda profile: [{**inputs, "seed": 0} for inputs in cells(profile)])


def test_equal_trials_are_refused_by_the_runner_and_that_is_a_catch() -> None:
    row = only(fault(caught_by={"toy.value": "invalid"}, alter=one_seed))
    assert row.outcome == "caught"
    assert "equal inputs" in row.catches[0].reason


def test_a_fault_sees_the_same_random_numbers_and_may_not_rename_its_experiment() -> None:
    drawn: dict[str, list[float]] = {}

    def seen(name: str) -> Experiment:
        def remember(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
            drawn[name] = [result["drawn"] for _, result in results]
            return decide(results)

        return replace(TOY, name=name, decide=remember)

    only(fault(alter=lambda experiment: seen("other"), routines={"gram": three}), experiment=seen("toy"))
    assert len(set(drawn["toy"])) == 4
    assert drawn["other"] == drawn["toy"]


def test_a_part_of_the_cells_is_enough_unless_the_true_code_fails_on_it() -> None:
    def first(inputs: Inputs) -> bool:
        return bool(inputs["seed"] == 0)

    row = only(fault(routines={"gram": three}, only=first))
    assert (row.outcome, row.cells) == ("caught", 1)

    def wants_all(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
        verdict: Verdict = "holds" if len(results) == 4 else "fails"
        return [replace(decide(results)[0], verdict=verdict), decide(results)[1]]

    row = only(fault(routines={"gram": three}, only=first), experiment=replace(TOY, decide=wants_all))
    assert row.outcome == "by accident"
    assert "fails on these cells" in row.reason


# ---- cells


def test_cells_of_a_fault_are_its_own_and_are_reused(tmp_path: Path) -> None:
    faults = [fault("first"), fault("second", routines={"gram": three, "shifted_ntk": three})]
    start = kill.kill([TOY], faults, jobs=0, out=tmp_path)
    again = kill.kill([TOY], faults, jobs=0, out=tmp_path)
    assert (start.measured, start.reused, again.measured, again.reused) == (12, 0, 0, 12)
    assert again.rows == start.rows
    stored = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    by_fault = {name: {c["result"]["value"] for c in stored if c["fault"] == name} for name in ("", "first", "second")}
    assert by_fault == {"": {1.0}, "first": {3.0}, "second": {3.0}}


def test_cells_of_a_cluster_of_other_machines_are_kept_apart(tmp_path: Path) -> None:
    kill.kill([TOY], [fault()], jobs=0, out=tmp_path)
    about = {"executor": "a cluster", "other_machines": "another processor"}
    there = kill.kill([TOY], [fault()], jobs=0, out=tmp_path, about_executor=about)
    assert (there.measured, there.reused) == (8, 0)
    assert about.items() <= there.environment.items()


def test_a_fault_that_leaves_the_measurement_alone_is_decided_from_the_true_cells() -> None:
    def blind(experiment: Experiment) -> Experiment:
        found = [replace(finding, verdict="fails") for finding in decide([({}, {"value": 1.0, "count": 1.0})])]
        return replace(experiment, decide=lambda results: found)

    matrix = kill.kill([TOY], [fault(alter=blind)], jobs=0)
    assert (matrix.measured, matrix.rows[0].outcome) == (4, "caught")


def test_an_interrupted_trial_goes_on_from_there(tmp_path: Path) -> None:
    calls = []

    def interrupted(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        calls.append(inputs)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(inputs, rng, code)

    with pytest.raises(Interrupted, match="5 of 8"):
        kill.kill([replace(TOY, measure=interrupted)], [fault()], jobs=0, out=tmp_path)
    matrix = kill.kill([TOY], [fault()], jobs=0, out=tmp_path)
    assert (matrix.measured, matrix.reused, matrix.rows[0].outcome) == (3, 5, "caught")


# ---- registration


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ([fault()], "no fault tries toy.count; plant one"),
        ([fault(), fault()], "two faults are called 'planted'"),
        ([fault(caught_by={"toy.value": "fails", "toy.vale": "fails"})], "names unknown claims: toy.vale"),
        ([replace(fault(), caught_by={})], "names no claim"),
        ([fault(caught_by={"toy.value": "undecided"})], "toy.value: undecided, which is no catch"),
        ([fault(routines={"grm": three})], "replaces 'grm'"),
        ([replace(fault(), routines={})], "changes nothing"),
    ],
)
def test_registration_refuses(faults: list[Fault], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check([TOY], faults)


def test_registration_accepts_claims_that_all_have_a_fault() -> None:
    check([TOY], [fault(), fault("other", caught_by={"toy.count": "invalid"})])


def test_the_project_s_own_claims_are_all_tried() -> None:
    check_registered(EXPERIMENTS)
    with pytest.raises(InputError, match=r"no fault tries toy\.value, toy\.count"):
        check_registered([*EXPERIMENTS, TOY])


# ---- presentation and command line

GOOD, SURVIVOR = fault("good"), fault("harmless", caught_by={"toy.count": "invalid"})


def main(out: Path, *arguments: str, faults: tuple[Fault, ...] = (GOOD, SURVIVOR)) -> int:
    options = ["--faults", "--out", str(out), "--jobs", "0", *arguments]
    return command.main(options, experiments=(TOY,), faults=faults)


def test_the_matrix_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "true code    2 of 2 claims hold" in printed
    assert "caught       good (value)" in printed
    assert "survives     harmless (value)" in printed
    assert "Also: toy.value fails" in printed
    assert "Why: toy.count must be invalid, and is holds: the witness" in printed
    assert "Of 2 planted faults, 1 caught, 1 survives." in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ABOUT.txt", "cells", "faults.json"}
    written = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert written["summary"] == {"caught": 1, "survives": 1, "by accident": 0}
    assert [each["claim"] for each in written["true_code"]] == ["toy.value", "toy.count"]
    assert written["faults"][0]["claims"] == [
        {"id": "toy.value", "expected": "fails", "found": "fails", "true_code": "holds", "reason": "the worst is 3.0"}
    ]
    assert written["faults"][1]["others"] == {"toy.value": "fails"}
    assert written["environment"]["seed"] == 0


def test_the_next_report_shows_the_matrix(tmp_path: Path) -> None:
    main(tmp_path / "out")
    command.main(["--out", str(tmp_path / "out"), "--jobs", "0"], experiments=(TOY,))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Of 2 planted faults, 1 caught, 1 survives." in page
    assert "another version of the code" not in page


def test_exit_status_is_0_only_when_all_are_caught(tmp_path: Path) -> None:
    assert main(tmp_path / "out", faults=(GOOD,)) == 0
    assert main(tmp_path / "out", faults=(fault(routines={"gram": raises}),)) == 1
    assert main(tmp_path / "out", faults=()) == 1


def test_claims_and_names_choose_faults(tmp_path: Path) -> None:
    assert main(tmp_path / "out", "--claims", "toy.value") == 0
    written = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert [each["id"] for each in written["faults"]] == ["good"]
    both = replace(SURVIVOR, caught_by={"toy.count": "invalid", "toy.value": "fails"})
    assert kill.chosen([GOOD, both], ["toy.value"]) == [GOOD, replace(both, caught_by={"toy.value": "fails"})]
    options = ["--out", str(tmp_path / "out"), "--jobs", "0", "--faults", "good"]
    assert command.main(options, experiments=(TOY,), faults=(GOOD, SURVIVOR)) == 0


def test_list_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path / "out", "--list") == 0
    printed = capsys.readouterr().out
    assert "harmless (value)" in printed
    assert "Something is wrong. Caught by toy.count (invalid)." in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--faults", "goods"], "unknown fault 'goods'; did you mean good?"),
        (["--faults", "--claims", "tay"], "unknown claim 'tay'"),
        (["--faults", "--data", "digits"], "leave --data out"),
        (["--faults", "--seed", "-1"], "--seed is -1"),
        (["--faults", "--against", "HEAD"], "--faults does not go with --against"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    out = tmp_path / "out"
    assert command.main([*arguments, "--out", str(out)], experiments=(TOY,), faults=(GOOD,)) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_the_project_s_own_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--faults", "--list"]) == 0
    assert all(fault.id in capsys.readouterr().out for fault in FAULTS[:1])
