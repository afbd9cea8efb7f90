"""The runner: cells are measured once, kept, resumed, checked; nothing that goes wrong reads as "holds"."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from reference.notation import InputError
from verify import cells as stored
from verify import environment, run, source
from verify.cells import Cell, CellStore, CorruptCellError, Measured, canonical, sole_use, write_atomically
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.seeds import generator

ROOT = Path(__file__).resolve().parents[2]


def cells(profile: Profile) -> list[Inputs]:
    return [{"m": m, "seed": seed} for m in (2, 4) for seed in range(6 if profile.thorough else 3)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    return {"value": float(rng.random()), "m": inputs["m"]}


def decide(results: list[tuple[Inputs, Result]]) -> list[Finding]:
    mean = float(np.mean([result["value"] for _, result in results]))
    return [
        Finding("toy.mean", "holds", mean, (0.0, 1.0), "in [0, 1]", "m=2, 4", "the mean is a mean"),
        Finding("toy.count", "fails", float(len(results)), None, "<= 1", "m=2, 4", "too many"),
    ]


TOY = Experiment(
    name="toy",
    title="A toy",
    claims=(Claim("toy.mean", "The mean is in [0, 1].", "ours"), Claim("toy.count", "One cell.", "ours")),
    cells=cells,
    measure=measure,
    decide=decide,
)


def only(found: run.Run) -> tuple[Finding, ...]:
    (decision,) = found.decisions
    return decision.findings


def verdicts(experiment: Experiment) -> set[str]:
    return {finding.verdict for finding in only(run.run([experiment], jobs=0))}


def reasons(experiment: Experiment) -> str:
    return " | ".join(finding.reason for finding in only(run.run([experiment], jobs=0)))


def cell_files(out: Path) -> list[Path]:
    return sorted(out.rglob("*.json"))


# ---- what a run returns


def test_each_cell_gets_the_stream_that_belongs_to_it() -> None:
    expected = [generator(7, "toy", inputs).random() for inputs in cells(Profile())]
    finding = only(run.run([TOY], jobs=0, seed=7))[0]
    assert finding.estimate == pytest.approx(np.mean(expected), rel=1e-15)


def test_findings_come_in_the_order_of_the_claims_and_count_their_cells() -> None:
    turned = replace(TOY, claims=TOY.claims[::-1], decide=lambda results: decide(results))
    (decision,) = run.run([turned], jobs=0, profile=Profile(thorough=True)).decisions
    assert [finding.claim for finding in decision.findings] == ["toy.count", "toy.mean"]
    assert decision.cells == 12
    assert decision.seconds > 0


def test_threads_and_processes_find_the_same_as_this_process(tmp_path: Path) -> None:
    here = only(run.run([TOY], jobs=0))
    with ThreadPoolExecutor(2) as executor:
        assert only(run.run([TOY], executor=executor)) == here
    assert only(run.run([TOY], jobs=0, out=tmp_path)) == here


def test_worker_processes_measure_and_die_alone(tmp_path: Path) -> None:
    """Real processes: importable experiment, a worker that kills itself takes no other cell with it."""
    (tmp_path / "deadly.py").write_text(
        textwrap.dedent(
            """
            import json, os
            from verify.experiment import Claim, Experiment, Finding
            def cells(profile): return [{"i": i} for i in range(5)]
            def measure(inputs, rng, code):
                if inputs["i"] == 3 and os.environ.get("DEADLY"): os._exit(1)
                return {"pid": os.getpid(), "threads": os.environ.get("OPENBLAS_NUM_THREADS")}
            def good_measure(inputs, rng, code): return {"pid": os.getpid()}
            def found(claim, results):
                return [Finding(claim, "holds", float(len({r["pid"] for _, r in results})), None, "", "", "")]
            def decide(results): return found("d.x", results)
            def decide_good(results): return found("g.x", results)
            deadly = Experiment("d", "d", (Claim("d.x", "s", "o"),), cells, measure, decide)
            claims = (Claim("g.x", "s", "o"),)
            good = Experiment("g", "g", claims, cells, good_measure, decide_good, timed=True)
            if __name__ == "__main__":
                import deadly as module
                from verify.run import run
                decisions = run([module.deadly, module.good], jobs=2).decisions
                print(json.dumps([(f.verdict, f.estimate, f.reason) for d in decisions for f in d.findings]))
            """
        )
    )
    command = [sys.executable, str(tmp_path / "deadly.py")]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "DEADLY": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    (bad, _, reason), (timed, workers, _) = json.loads(done.stdout)
    assert bad == "invalid"
    assert "1 of 5 cells gave no result" in reason
    assert "worker process died" in reason
    assert (timed, workers) == ("holds", 1.0), "timed cells share one process"


class Threads(ThreadPoolExecutor):
    """Begins when it has four calls at a time, or after some seconds."""

    def __init__(self) -> None:
        super().__init__(4)
        self.full = threading.Barrier(4)

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        def begin() -> object:
            self.full.wait(10)
            return fn(*args, **kwargs)

        return super().submit(begin)


def test_timed_cells_run_one_at_a_time_after_the_others() -> None:
    busy, most, order, threads = 0, 0, [], []
    lock = threading.Lock()

    def watched(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
            order.append(inputs["kind"])
            threads.append(threading.get_ident())
        time.sleep(0.01)
        with lock:
            busy -= 1
        return {"value": 0.5}

    def kind(name: str, timed: bool) -> Experiment:
        listed = [{"kind": name, "seed": seed} for seed in range(4)]
        return replace(TOY, name=name, cells=lambda profile: listed, measure=watched, timed=timed)

    with Threads() as executor:
        run.run([kind("clock", True)], executor=executor, jobs=0)
        run.run([kind("clock", True), kind("count", False)], executor=executor, jobs=0)
    assert not executor.full.broken, "the executor has all cells from the start"
    assert most == 1, "threads share what some cells measure, so they take turns"
    assert {thread == threading.get_ident() for thread in threads[4:8]} == {False}
    assert set(threads[:4] + threads[8:]) == {threading.get_ident()}, "timed by a clock that is described"
    assert order[4:] == ["count"] * 4 + ["clock"] * 4


# ---- storing and resuming


def test_stored_cells_are_reused_with_the_same_findings_and_seconds(tmp_path: Path) -> None:
    first = run.run([TOY], jobs=0, out=tmp_path)
    second = run.run([TOY], jobs=0, out=tmp_path)
    assert (first.measured, first.reused, second.measured, second.reused) == (6, 0, 0, 6)
    assert second.decisions == first.decisions


@pytest.mark.parametrize("change", ["seed", "stamp", "name"])
def test_cells_of_another_seed_code_or_experiment_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run.run([TOY], jobs=0, out=tmp_path)
    if change == "stamp":
        monkeypatch.setattr(source, "code_version", lambda: "other")
        monkeypatch.setattr(source, "AT_START", "other")
        monkeypatch.setattr(source, "FOUND", {})
    other = replace(TOY, name="other") if change == "name" else TOY
    assert run.run([other], jobs=0, out=tmp_path, seed=int(change == "seed")).reused == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        *(lambda text, other=other: other for other in ("[]", "null", "1", '"text"', "{}", '{"hash": []}')),
        lambda text: text.replace('"value": 0.', '"value": 1.'),
        lambda text: text.replace('"seed": 0,\n "stamp"', '"seed": 1,\n "stamp"'),
        lambda text: text.replace('"seconds": ', '"seconds": 1'),
        lambda text: text.replace('"seconds": ', '"seconds": NaN, "s": '),
        lambda text: text.replace('"value": 0', '"value": NaN, "w": 0'),
        lambda text: "\x00" + text,
        lambda text: "[" * 100_000,
    ],
)
def test_a_corrupt_cell_is_measured_again_and_counted(tmp_path: Path, damage: Callable[[str], str]) -> None:
    first = run.run([TOY], jobs=0, out=tmp_path)
    victim = cell_files(tmp_path)[0]
    sound = victim.read_text()
    victim.write_text(damage(sound))
    assert victim.read_text() != sound
    second = run.run([TOY], jobs=0, out=tmp_path)
    assert (second.measured, second.reused, len(second.corrupt)) == (1, 5, 1)
    assert victim.name in second.corrupt[0]
    assert only(second) == only(first)
    assert json.loads(victim.read_text())["result"] == json.loads(sound)["result"]


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


@pytest.mark.parametrize(
    "intruder",
    [
        folder,
        os.mkfifo,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to(path.parent),
        lambda path: path.write_bytes(b"\xff\xfe"),
    ],
    ids=["folder", "pipe", "loop", "link to a folder", "bytes"],
)
def test_what_is_no_cell_at_all_gives_way(tmp_path: Path, intruder: Callable[[Path], None]) -> None:
    first = run.run([TOY], jobs=0, out=tmp_path)
    victim = cell_files(tmp_path)[0]
    victim.unlink()
    intruder(victim)
    second = run.run([TOY], jobs=0, out=tmp_path)
    assert (second.measured, second.reused, len(second.corrupt)) == (1, 5, 1)
    assert only(second) == only(first)
    assert run.run([TOY], jobs=0, out=tmp_path).reused == 6


def test_a_file_that_may_not_be_read_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.run([TOY], jobs=0, out=tmp_path)
    victim = cell_files(tmp_path)[0]
    read = Path.read_text

    def forbidden(path: Path, **options: str) -> str:
        if path == victim:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", forbidden)
    second = run.run([TOY], jobs=0, out=tmp_path)
    assert (second.measured, second.reused) == (1, 5)
    assert "PermissionError" in second.corrupt[0]


def test_a_swapped_cell_is_corrupt(tmp_path: Path) -> None:
    run.run([TOY], jobs=0, out=tmp_path)
    first, second, *_ = cell_files(tmp_path)
    first.write_text(second.read_text())
    stamp = json.loads(second.read_text())["stamp"]
    known = [Cell("toy", inputs, 0, stamp) for inputs in cells(Profile())]
    (named,) = (cell for cell in known if cell.name == first.stem)
    store = CellStore(tmp_path / "cells")
    with pytest.raises(CorruptCellError, match="altered"):
        store.load(named)


def test_a_failed_cell_is_not_stored_and_is_tried_again(tmp_path: Path) -> None:
    def flaky(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        raise MemoryError("no room")

    run.run([replace(TOY, measure=flaky)], jobs=0, out=tmp_path)
    assert cell_files(tmp_path) == []
    assert run.run([TOY], jobs=0, out=tmp_path).measured == 6


def test_an_interrupted_run_keeps_what_was_measured_and_goes_on_from_there(tmp_path: Path) -> None:
    calls = []

    def interrupted(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        calls.append(inputs)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(inputs, rng, code)

    with pytest.raises(run.Interrupted, match="3 of 6 cells"):
        run.run([replace(TOY, measure=interrupted)], jobs=0, out=tmp_path)
    assert len(cell_files(tmp_path)) == 3
    found = run.run([TOY], jobs=0, out=tmp_path)
    assert (found.measured, found.reused) == (3, 3)
    assert only(found) == only(run.run([TOY], jobs=0))


def test_what_finished_beside_an_interruption_is_kept(tmp_path: Path) -> None:
    """The third result has arrived when storing the second is interrupted."""
    saves = []

    class Store(CellStore):
        def save(self, cell: Cell, measured: Measured) -> None:
            saves.append(cell)
            if len(saves) == 2:
                raise KeyboardInterrupt
            super().save(cell, measured)

    class AtOnce(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CellStore", Store)
        with pytest.raises(run.Interrupted, match="6 of 6"):
            run.run([TOY], executor=AtOnce(), out=tmp_path)
    assert run.run([TOY], jobs=0, out=tmp_path).reused == 6


@pytest.mark.parametrize("key", environment.MUST_AGREE)
def test_a_worker_that_runs_something_else_gives_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Its files were changed after it had loaded them, or its libraries are others."""
    describe = environment.describe
    with ThreadPoolExecutor(1) as executor:
        assert only(run.run([TOY], executor=executor))[0].verdict == "holds"
        monkeypatch.setattr(environment, "describe", lambda: describe() | {key: "other"})
        finding = only(run.run([TOY], executor=executor, out=tmp_path))[0]
    assert finding.verdict == "invalid"
    assert f"{key.replace('_', ' ')} " in finding.reason
    assert ", not other)" in finding.reason
    assert cell_files(tmp_path) == []


def test_code_is_compared_as_it_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = environment.must_agree(environment.describe())
    assert environment.differences(expected) == ""
    monkeypatch.setattr(source, "FOUND", dict(source.FOUND))
    monkeypatch.setattr(source, "code_version", lambda: "changed")
    assert environment.differences(expected) == "", "what is in memory stays as it was"
    monkeypatch.setitem(sys.modules, "one_more", ModuleType("one_more"))
    assert environment.differences(expected) == f"code changed, not {source.AT_START}"
    monkeypatch.undo()
    assert environment.differences(expected) == ""


def test_a_module_that_changed_before_a_cell_loaded_it_spoils_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the measurement itself imports it, so that all was well before."""

    def loads(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        monkeypatch.setattr(source, "code_version", lambda: "changed")
        monkeypatch.setitem(sys.modules, "one_more", ModuleType("one_more"))
        return measure(inputs, rng, code)

    monkeypatch.setattr(source, "FOUND", dict(source.FOUND))
    finding = only(run.run([replace(TOY, measure=loads)], jobs=0, out=tmp_path))[0]
    assert finding.verdict == "invalid"
    assert f"(code changed, not {source.AT_START}); change no file during a run" in finding.reason
    assert cell_files(tmp_path) == []


def test_nothing_is_measured_when_files_changed_since_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as while own data were trained on, or while the packages were loaded."""
    monkeypatch.setattr(source, "code_version", lambda: "changed")
    with pytest.raises(InputError, match="changed since this process started; change none during a run"):
        run.run([TOY], jobs=0, out=tmp_path)
    assert cell_files(tmp_path) == []


def test_nothing_is_measured_when_a_package_is_imported_from_another_folder(tmp_path: Path) -> None:
    """The harness of this folder and a copy of ``fast`` in another, as ``PYTHONPATH`` may have it."""
    (tmp_path / "cwd" / "fast").mkdir(parents=True)
    for path in (ROOT / "fast").glob("*.py"):
        (tmp_path / "cwd" / "fast" / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "verify", "--claims", "sparsity", "--jobs", "0", "--out", "out"],
        cwd=tmp_path / "cwd",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"Python imports fast from {tmp_path / 'cwd'}, but verify from {ROOT}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "cwd" / "out").exists()


@pytest.mark.parametrize("problem", ["", "namespace", "archive"])
def test_packages_are_where_the_hashed_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: str) -> None:
    for package in source.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        loaded = ModuleType(package)
        loaded.__file__ = str(tmp_path / package / "__init__.py")
        monkeypatch.setitem(sys.modules, package, loaded)
    if problem == "namespace":
        sys.modules["fast"].__file__ = None
    if problem == "archive":  # imported, but no file that could be hashed
        (tmp_path / "fast" / "__init__.py").unlink()
    expected = {"": "", "namespace": "fast from no file", "archive": f"fast from {tmp_path}"}[problem]
    assert source.elsewhere(tmp_path) == expected
    assert source.elsewhere(tmp_path / "other").startswith("reference from")


class Cancelling(Executor):
    """Cancels every call but the first, as a cluster does that goes away."""

    calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[Any] = Future()
        if self.calls == 0:
            future.set_result(fn(*args, **kwargs))
        else:
            future.cancel()
        self.calls += 1
        return future


def test_an_executor_that_goes_away_is_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(run.Interrupted, match="1 of 6") as caught:
        run.run([TOY], executor=Cancelling(), out=tmp_path)
    assert "scheduler" in caught.value.why
    assert run.run([TOY], jobs=0, out=tmp_path).reused == 1


def test_cells_of_replaced_code_are_neither_stored_nor_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Code:
        train: str = "ours"

    monkeypatch.setattr(run, "CodeUnderTest", Code)
    run.run([TOY], jobs=0, out=tmp_path)
    assert run.run([TOY], jobs=0, out=tmp_path, code=Code("ours")).reused == 6
    assert run.run([TOY], jobs=0, out=tmp_path, code=Code("planted")).reused == 0


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "old")
    monkeypatch.setattr(stored.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "others may read it as any file"


def test_one_run_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with sole_use(tmp_path / "out"):
        words = rf"in use by another run \(process {os.getpid()}\)"
        with pytest.raises(InputError, match=words), sole_use(tmp_path / "out"):
            pass
        with sole_use(tmp_path / "other"):
            pass
    with sole_use(tmp_path / "out"):
        pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with sole_use(tmp_path), sole_use(tmp_path):
        pass


def test_leftovers_of_dead_processes_are_cleared_away(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "cells" / "toy").mkdir(parents=True)
    dead = [
        tmp_path / f".results.json.{ended.pid}.part",
        tmp_path / "cells" / "toy" / f".0a.json.{ended.pid}.part",
        tmp_path / f".report.html.{os.getpid()}.part",
        tmp_path / f".results.json.{10**30}.part",
    ]
    kept = [
        tmp_path / f".results.json.{os.getppid()}.part",
        tmp_path / "cells" / "toy" / f".0b.json.{os.getppid()}.part",
        tmp_path / ".0123456789abcdef.part",
        tmp_path / f"mine.{ended.pid}.part",
    ]
    for path in dead + kept:
        path.touch()
    with sole_use(tmp_path):
        assert [path for path in dead if path.exists()] == []
        assert [path for path in kept if not path.exists()] == []


def test_storing_returns_every_bit(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 5e-324, -0.0, 2**53 + 0.0, 10**30]
    measured = Measured(canonical({"values": values}), 0.25, "stream")
    cell = Cell("toy", {"m": 1}, 0, "stamp")
    store = CellStore(tmp_path)
    assert store.load(cell) is None
    store.save(cell, measured)
    assert store.load(cell) == measured
    assert [repr(value) for value in store.load(cell).result["values"]] == [repr(value) for value in values]


# ---- what goes wrong is invalid, and says why


def failing(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    if inputs["m"] == 4:
        raise ArithmeticError("it\ndiverged")
    return {"value": 0.5}


def test_a_cell_that_raises_makes_its_claims_invalid_and_leaves_the_others() -> None:
    bad = replace(TOY, name="bad", measure=failing)
    broken, sound = run.run([bad, TOY], jobs=0).decisions
    assert {finding.verdict for finding in broken.findings} == {"invalid"}
    assert "3 of 6 cells" in broken.findings[0].reason
    assert "ArithmeticError: it diverged" in broken.findings[0].reason
    assert broken.draw is None
    assert [finding.verdict for finding in sound.findings] == ["holds", "fails"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"value": float("nan")}, "ValueError"),
        ({"value": float("inf")}, "ValueError"),
        ({"value": np.float32(1)}, "TypeError"),
        (None, "NoneType, not a dict"),
    ],
)
def test_a_result_that_is_no_plain_number_is_invalid(result: object, words: str) -> None:
    bad = replace(TOY, measure=lambda inputs, rng, code: result)
    assert verdicts(bad) == {"invalid"}
    assert words in reasons(bad)


def raises(*_: object) -> list[Inputs]:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cells": raises}, "cells could not be listed: RuntimeError: no"),
        ({"cells": lambda profile: [{"m": object()}]}, "cells could not be listed: TypeError"),
        ({"cells": lambda profile: [{"m": 1}, {"m": 1}]}, "equal inputs"),
        ({"decide": raises}, "could not be decided: RuntimeError: no"),
        ({"decide": lambda results: []}, "decided nothing"),
        ({"decide": lambda results: None}, "could not be decided: TypeError"),
    ],
)
def test_a_broken_experiment_is_invalid(change: dict[str, Any], words: str) -> None:
    assert verdicts(replace(TOY, **change)) == {"invalid"}
    assert words in reasons(replace(TOY, **change))


def test_cells_that_share_their_random_numbers_are_one_piece_of_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial counted twice: the results themselves may differ in some point, or agree by honest chance."""

    def twice(root: int, name: str, inputs: Inputs) -> np.random.Generator:
        return generator(root, name, {**inputs, "seed": inputs["seed"] // 2})

    def discrete(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        return {"value": float(rng.integers(2)), "m": inputs["m"]}

    alike = replace(TOY, measure=discrete)
    thorough = Profile(thorough=True)
    assert only(run.run([alike], jobs=0, profile=thorough))[0].verdict == "holds"
    monkeypatch.setattr(run.seeds, "generator", twice)
    for _ in ("measured", "read back"):
        for finding in only(run.run([alike], jobs=0, out=tmp_path, profile=thorough)):
            assert finding.verdict == "invalid"
            assert finding.reason.startswith("two of its cells drew the same random numbers")


def test_trials_that_are_all_copies_are_one_piece_of_evidence() -> None:
    def one_stream(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        return measure(inputs, np.random.default_rng(0), code)

    def mostly(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
        return measure(inputs, rng if inputs == {"m": 4, "seed": 2} else np.random.default_rng(0), code)

    assert verdicts(replace(TOY, measure=one_stream)) == {"invalid"}
    assert "differ in nothing but their seed" in reasons(replace(TOY, measure=one_stream))
    assert verdicts(replace(TOY, measure=mostly)) == {"holds", "fails"}
    # Without seeds there are no repeated trials that could be copies.
    alone = replace(TOY, cells=lambda profile: [{"m": 2}, {"m": 4}], measure=one_stream)
    assert verdicts(alone) == {"holds", "fails"}


@pytest.mark.parametrize(
    ("estimate", "interval", "verdict", "expected"),
    [
        (float("nan"), (0.0, 1.0), "holds", ("invalid", None, (0.0, 1.0))),
        (float("inf"), None, "holds", ("invalid", None, None)),
        (0.5, (float("nan"), 1.0), "holds", ("invalid", 0.5, None)),
        (0.5, (float("-inf"), float("inf")), "holds", ("holds", 0.5, (None, None))),
        (np.float64(0.5), (np.int64(0), None), "fails", ("fails", 0.5, (0.0, None))),
        (None, None, "undecided", ("undecided", None, None)),
        (0.5, None, "probably", ("invalid", 0.5, None)),
    ],
)
def test_findings_are_reduced_to_finite_numbers(
    estimate: float | None,
    interval: tuple[float | None, float | None] | None,
    verdict: Verdict,
    expected: tuple[object, ...],
) -> None:
    finding = run.credible(Finding("toy.mean", verdict, estimate, interval, "m", "d", "r"))
    assert (finding.verdict, finding.estimate, finding.interval) == expected
    assert json.dumps(finding.interval, allow_nan=False)
    assert all(type(number) is float for number in (finding.estimate, *(finding.interval or ())) if number)


def test_decide_cannot_alter_what_the_plot_sees() -> None:
    def meddle(results: list[tuple[Inputs, Result]]) -> list[Finding]:
        found = decide(results)
        for _, result in results:
            result.clear()
        return found

    seen = []
    spoilt = replace(TOY, decide=meddle, plot=lambda figure, results: seen.extend(results))
    (decision,) = run.run([spoilt], jobs=0).decisions
    decision.draw(None)
    assert [set(result) for _, result in seen] == [{"value", "m"}] * 6


class Broken(Executor):
    """Loses every call, as a pool does whose workers died."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_a_broken_executor_is_no_evidence() -> None:
    finding = only(run.run([TOY], executor=Broken()))[0]
    assert finding.verdict == "invalid"
    assert "worker process died" in finding.reason


@pytest.mark.parametrize(
    ("options", "words"),
    [({"seed": -1}, "seed is -1"), ({"jobs": -2}, "jobs is -2")],
)
def test_bad_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run.run([TOY], **options)


def test_two_experiments_of_one_name() -> None:
    with pytest.raises(InputError, match="two experiments are named 'toy'"):
        run.run([TOY, TOY], jobs=0)


# ---- progress and environment


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, log, quiet = Terminal(), StringIO(), StringIO()
    run.run([TOY], jobs=0, stream=terminal)
    run.run([TOY], jobs=0, stream=quiet)
    monkeypatch.setattr(run, "LINE_SECONDS", 0.0)
    run.run([TOY], jobs=0, stream=log)
    assert "of 6 cells" in terminal.getvalue()
    assert quiet.getvalue() == "", "a short run needs no line"
    assert log.getvalue().splitlines()[-1].startswith("verify: 6 of 6 cells")


def test_code_version_changes_with_any_file_of_source_or_data(tmp_path: Path) -> None:
    for package in source.PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "module.py").write_text("x = 1\n")
    (tmp_path / "verify" / "data").mkdir()
    before = source.code_version(tmp_path)
    assert source.code_version(tmp_path) == before
    for name in ("notes.txt", "verify/notes.txt", "verify/data/.hidden"):
        (tmp_path / name).write_text("no code")
    assert source.code_version(tmp_path) == before
    seen = {before}
    for name in ("fast/module.py", "reference/inner/more.py", "verify/data/digits.csv.gz", "verify/data/other"):
        (tmp_path / name).write_text("x = 2\n")
        assert source.code_version(tmp_path) not in seen
        seen.add(source.code_version(tmp_path))
    assert len(seen) == 5


def test_environment_is_plain_and_stamped() -> None:
    described = environment.describe()
    assert json.loads(canonical(described)) == described
    for key in ("revision", "executor"):
        assert environment.stamp(described) == environment.stamp({**described, key: "other"})
    assert environment.stamp(described) != environment.stamp({**described, "other_machines": "another processor"})
    assert environment.stamp(described) != environment.stamp({**described, "numpy": "other"})


def test_revision_is_the_commit_of_this_very_folder(tmp_path: Path) -> None:
    assert environment.revision(tmp_path) is None
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    commit = environment.revision(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "inner" / "file").write_text("2")
    assert environment.revision(tmp_path) == f"{commit}+changes"
    assert environment.revision(tmp_path / "inner") is None, "a folder inside a checkout is not that checkout"


def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pathlib import Path
            from verify.experiment import Claim, Experiment, Finding
            def cells(profile): return [{"i": i} for i in range(40)]
            def measure(inputs, rng, code):
                time.sleep(0.01 if len(list(Path(os.environ["OUT"]).rglob("*.json"))) < 3 else 60)
                return {"i": inputs["i"]}
            def decide(results): return [Finding("s.x", "holds", 1.0, None, "", "", "")]
            slow = Experiment("s", "s", (Claim("s.x", "s", "o"),), cells, measure, decide)
            if __name__ == "__main__":
                import slow as module
                from verify.__main__ import main
                sys.exit(main(["--out", sys.argv[1], "--jobs", "2"], experiments=[module.slow]))
            """
        )
    )
    out = tmp_path / "out"
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "OUT": str(out)}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), str(out)], env=environ, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while len(list((out / "cells").rglob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, messages = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in messages
    assert "Traceback" not in messages
    assert 3 <= len(list((out / "cells").rglob("*.json"))) < 40
    assert not list(out.rglob("*.part"))
