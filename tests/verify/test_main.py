"""The command line: exit statuses, one-line complaints, and nothing written on bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reference.notation import InputError
from verify import __main__ as command
from verify import own_data, own_fine_tuning
from verify.cells import sole_use
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result

END_ON_TERMINATION = command.end_on_termination
ROOT = Path(__file__).resolve().parents[2]


def cells(profile: Profile) -> list[Inputs]:
    return [{"seed": seed} for seed in range(4 if profile.thorough else 2)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    return {"value": float(rng.random())}


def experiment(name: str, *verdicts: str) -> Experiment:
    ids = [f"{name}.{part}" for part in "abcd"[: len(verdicts)]]

    def decide(results: list[tuple[Inputs, Result]]) -> list[Finding]:
        mean = float(np.mean([result["value"] for _, result in results]))
        return [
            Finding(identity, verdict, mean, (0.0, 1.0), "<= 1", "toy", "because")
            for identity, verdict in zip(ids, verdicts, strict=True)
        ]

    claims = tuple(Claim(identity, f"Claim {identity} is true.", "ours") for identity in ids)
    return Experiment(name, f"Experiment {name}", claims, cells, measure, decide)


GOOD = experiment("good", "holds", "undecided")
BAD = experiment("bad", "holds", "fails")
LOST = experiment("lost", "invalid")
ALL = (GOOD, BAD, LOST)


def main(out: Path, *arguments: str, experiments: tuple[Experiment, ...] = ALL) -> int:
    return command.main(["--out", str(out), "--jobs", "0", *arguments], experiments=experiments)


def claims_of(out: Path) -> list[str]:
    return [claim["id"] for claim in json.loads((out / "results.json").read_text())["claims"]]


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests keeps its own answer to signals."""
    monkeypatch.setattr(command, "end_on_termination", lambda: None)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.standard_normal((12, 3)), rng.integers(0, 2, 12)])
    path.write_text("a,b,c,target\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


# ---- what a run leaves behind


def test_a_run_prints_a_table_and_writes_results_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path / "new" / "out", "--seed", "3") == 1
    out = tmp_path / "new" / "out"
    assert {path.name for path in out.iterdir()} == {"ABOUT.txt", "cells", "report.html", "results.json"}
    assert claims_of(out) == ["good.a", "good.b", "bad.a", "bad.b", "lost.a"]
    environment = json.loads((out / "results.json").read_text())["environment"]
    assert (environment["seed"], environment["profile"]) == (3, "default")
    assert environment["date"]
    printed = capsys.readouterr()
    assert "Of 5 claims, 2 hold, 1 fails, 1 is undecided, 1 is invalid." in printed.out
    assert "\x1b" not in printed.out
    assert str(out / "report.html") in printed.out


@pytest.mark.parametrize(
    ("chosen", "status"),
    [((GOOD,), 0), ((BAD,), 1), ((LOST,), 1), ((GOOD, LOST), 1)],
    ids=["good", "bad", "lost", "good-and-lost"],
)
def test_exit_status(tmp_path: Path, chosen: tuple[Experiment, ...], status: int) -> None:
    assert main(tmp_path / "out", experiments=chosen) == status


def test_a_second_run_reuses_cells_and_writes_the_same_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(out)
    report = (out / "report.html").read_bytes()
    capsys.readouterr()
    main(out)
    assert "0 cells measured, 6 reused" in capsys.readouterr().err
    assert (out / "report.html").read_bytes() == report


def test_a_corrupt_cell_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main(out)
    next((out / "cells").rglob("*.json")).write_text("{")
    main(out)
    messages = capsys.readouterr().err
    assert messages.count("measured again") == 1
    assert "1 cells measured (1 because their files were corrupt), 5 reused" in messages


def test_many_corrupt_cells_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main(out)
    for path in (out / "cells").rglob("*.json"):
        path.write_text("")
    capsys.readouterr()
    main(out)
    messages = capsys.readouterr().err
    assert messages.count("measured again") == command.MOST_CORRUPT == 5
    assert "6 cells measured (6 because their files were corrupt), 0 reused" in messages


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], table: Path) -> None:
    out = tmp_path / "out"
    main(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    with sole_use(out):
        assert main(out) == 2
        assert main(out, "--data", str(table)) == 2
    messages = capsys.readouterr().err
    assert messages.count(f"in use by another run (process {os.getpid()}); wait for its end") == 2
    assert messages.count("\n") == 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}.items() <= before.items()


def test_a_folder_that_is_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def delete(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        shutil.rmtree(out)
        return measure(inputs, rng, code)

    assert main(out, experiments=(replace(GOOD, measure=delete),)) == 0
    assert main(out, experiments=(GOOD,)) == 0, "the folder is still known as ours"


def test_a_run_killed_at_its_very_start_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / f".ABOUT.txt.{10**30}.part").write_text("Writ")
    assert main(tmp_path, experiments=(GOOD,)) == 0
    assert not list(tmp_path.glob(".*.part"))


def test_interruption_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        raise KeyboardInterrupt

    slow = Experiment("slow", "t", GOOD.claims, cells, interrupted, lambda results: [])
    assert main(tmp_path / "out", experiments=(slow,)) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(("module", "more"), [(own_data, []), (own_fine_tuning, ["--fine-tune"])])
def test_termination_while_own_data_are_measured_is_like_ctrl_c(
    tmp_path: Path,
    table: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    more: list[str],
) -> None:
    def terminated(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise InputError("SIGTERM went unanswered")

    monkeypatch.setattr(module, "run", terminated)
    monkeypatch.setattr(command, "end_on_termination", END_ON_TERMINATION)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(tmp_path / "out", "--data", str(table), *more) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "verify: interrupted\n"
    assert not (tmp_path / "out").exists()


# ---- choosing claims


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("good", ["good.a", "good.b"]),
        ("bad.a", ["bad.a"]),
        ("lost.a, good.b", ["good.b", "lost.a"]),
        ("good,good.a", ["good.a", "good.b"]),
    ],
)
def test_chosen_claims(tmp_path: Path, wanted: str, found: list[str]) -> None:
    main(tmp_path / "out", "--claims", wanted)
    assert claims_of(tmp_path / "out") == found


def test_a_failing_claim_that_was_not_chosen_does_not_count(tmp_path: Path) -> None:
    assert main(tmp_path / "out", "--claims", "bad.a") == 0


def test_list_and_help_measure_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path / "out", "--list") == 0
    assert "Claim bad.b is true." in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(tmp_path / "out", "--help")
    assert end.value.code == 0
    taught = capsys.readouterr().out
    words = ("holds", "undecided", "invalid", "exit status", "examples", "130", "--data digits", "dask", "verify.same")
    for word in words:
        assert word in taught
    assert f"default {own_data.DEFAULT_ALPHA}" in taught
    assert f"default {own_data.DEFAULT_WIDTH}" in taught
    assert not (tmp_path / "out").exists()


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--claims", "god"], "choose from good, bad, lost (--list shows the claims of each)"),
        (["--claims", ","], "names no claim"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", "x"], "--seed: invalid int value"),
        (["--jobs", "-1"], "--jobs is -1"),
        (["--centre"], "name the file with --data"),
        (["--drop-duplicates"], "--drop-duplicates says how to treat a file"),
        (["--alpha", "0", "--list"], "--alpha says how to treat a file; name the file with --data"),
        (["--width", "0"], "--width says how to treat a file"),
        (["--data", ""], "cannot tell the format from the name"),
        (["--data", "digits", "--claims", ""], "--claims names no claim"),
        (["--width", "0", "--data", "digits"], "--width is 0"),
        (["--width", f"1{'0' * 30}", "--data", "digits"], "would not fit in memory; lower --width"),
        (["--width", f"1{'0' * 400}", "--data", "digits", "--fine-tune"], "would not fit in memory; lower --width"),
        (["--rows", "0", "--data", "digits"], "--rows is 0"),
        (["--rows", "10000", "--data", "digits"], "10000"),
        (["--alpha", "-1", "--data", "digits"], "alpha is -1"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--frobnicate"], "--help"),
        (["--thor"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    out = tmp_path / "out"
    assert main(out, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("verify: ")
    assert words in message
    assert message.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("a,b\n1,x\n2,3\n", "x"),
        ("1,2,0\n1,2\n", "line 2"),
        ("1,2,1\n1,2,0\n", "--drop-duplicates"),
    ],
)
def test_bad_files_are_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    assert main(tmp_path / "out", "--data", str(tmp_path / "bad.csv")) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_target(tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path / "out", "--data", str(table), "--target", "price") == 2
    assert "price" in capsys.readouterr().err


def test_a_folder_with_other_content_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "results.json"
    precious.write_text("mine")
    assert main(tmp_path) == 2
    assert "holds other files; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert precious.read_text() == "mine"


def test_out_is_a_file_or_below_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(tmp_path / "file") == 2
    assert main(tmp_path / "file" / "below") == 2
    printed = capsys.readouterr().err
    assert "is a file; name a folder" in printed
    assert "cannot be written" in printed


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main(tmp_path / "out", experiments=(GOOD,)) == 0


def test_a_full_disk_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(command, "write_atomically", full)
    assert main(tmp_path / "out") == 2
    assert "No space left on device; free some space" in capsys.readouterr().err


def test_select_refuses_by_exception_too() -> None:
    with pytest.raises(InputError, match="unknown claim"):
        command.select(ALL, "nothing")


# ---- a user's own data


def test_own_data_alone_decides_the_claims_about_it(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(tmp_path / "out", "--data", str(table), "--centre", "--width", "4096")
    claims = json.loads((tmp_path / "out" / "results.json").read_text())["claims"]
    assert {claim["id"].split(".")[0] for claim in claims} == {"data"}
    assert status == int(any(claim["verdict"] in ("fails", "invalid") for claim in claims))
    assert "separation" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Your data: table.csv" in page
    assert "<svg" in page


def test_own_data_beside_named_claims(tmp_path: Path, table: Path) -> None:
    main(tmp_path / "out", "--data", str(table), "--centre", "--claims", "good")
    assert set(claims_of(tmp_path / "out")) > {"good.a", "good.b", "data.agreement"}


# ---- as a process


def test_linear_algebra_is_held_to_one_thread_before_numpy_is_loaded() -> None:
    script = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest):\n"
        "    if name.split('.')[0] == 'numpy' and 'numpy' not in sys.modules:\n"
        "        print(os.environ.get('OPENBLAS_NUM_THREADS'))\n"
        "        os._exit(0) if sys.stdout.flush() is None else None\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = watch\n"
        "import verify.__main__\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.endswith("NUM_THREADS")}
    command_line = [sys.executable, "-c", script]
    done = subprocess.run(command_line, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_closed_pipe_is_no_error() -> None:
    script = "import sys; from verify.__main__ import main; sys.exit(main(['--list'], experiments=()))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1
