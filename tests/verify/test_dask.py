"""``--dask``: the same results from a real cluster of worker processes, whatever happens to it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from reference.notation import InputError
from verify import __main__ as command
from verify import cluster, environment, same

ROOT = Path(__file__).resolve().parents[2]
TOY = """
    import os, time
    from pathlib import Path
    from verify.experiment import Claim, Experiment, Finding

    def note(name, inputs):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{name} {inputs['i']} {os.getpid()}\\n")

    def nap():
        time.sleep(0.1)
        while Path(os.environ["NOTES"] + ".hold").exists():
            time.sleep(0.05)

    def cells(profile): return [{"i": i} for i in range(12)]
    def few(profile): return [{"i": i} for i in range(2)]
    def measure(inputs, rng, code):
        note("count", inputs)
        nap()
        return {"value": float(rng.random())}
    def measure_timed(inputs, rng, code):
        note("clock", inputs)
        return {"value": time.perf_counter()}
    def decide(results):
        return [Finding("count.x", "holds", sum(result["value"] for _, result in results), None, "", "", "")]
    def decide_timed(results):
        return [Finding("clock.x", "holds", results[0][1]["value"], None, "", "", "")]

    count = Experiment("count", "c", (Claim("count.x", "s", "o"),), cells, measure, decide)
    clock = Experiment("clock", "c", (Claim("clock.x", "s", "o"),), few, measure_timed, decide_timed, timed=True)

    if __name__ == "__main__":
        import sys, toy_sweep
        from verify.__main__ import main
        sys.exit(main(sys.argv[1:], experiments=[toy_sweep.count, toy_sweep.clock]))
"""
CLUSTER = """
    import sys
    from distributed import LocalCluster
    if __name__ == "__main__":
        with LocalCluster(
            n_workers=int(sys.argv[1]), threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster:
            print(cluster.scheduler_address, flush=True)
            sys.stdin.read()
"""


class Place:
    """A folder with the toy experiments, in which workers note what they measure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.hold = folder / "notes.hold"
        self.environ = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "NOTES": str(self.notes),
            "OPENBLAS_NUM_THREADS": "1",
        }
        (folder / "toy_sweep.py").write_text(textwrap.dedent(TOY))
        (folder / "local_cluster.py").write_text(textwrap.dedent(CLUSTER))

    def noted(self) -> list[tuple[str, int, int]]:
        if not self.notes.exists():
            return []
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return [(name, int(i), int(pid)) for name, i, pid in lines]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command line in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(self.folder / "toy_sweep.py"), *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def local_cluster(place: Place, workers: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a scheduler and workers, all of them processes; their output is the test's."""
    process = subprocess.Popen(
        [sys.executable, str(place.folder / "local_cluster.py"), str(workers)],
        env=place.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def address(place: Place) -> Iterator[str]:
    with local_cluster(place, 2) as (address, _):
        yield address


@pytest.fixture
def toy(place: Place, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The experiments, importable here as on the workers; nothing noted yet, and no one told to wait."""
    monkeypatch.syspath_prepend(str(place.folder))
    for name in ("NOTES", "PYTHONPATH", "OPENBLAS_NUM_THREADS"):  # for processes that this one starts
        monkeypatch.setenv(name, place.environ[name])
    monkeypatch.setattr(command, "end_on_termination", lambda: None)
    place.notes.unlink(missing_ok=True)
    place.hold.unlink(missing_ok=True)
    return importlib.import_module("toy_sweep")


def complaints(messages: str) -> list[str]:
    """The lines on stderr that are not progress, which a slow machine shows."""
    return [line for line in messages.splitlines() if " s so far, " not in line]


def main(toy: ModuleType, *arguments: str) -> int:
    return command.main(arguments, experiments=[toy.count, toy.clock])


def wait_for(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


# ---- measuring there


def test_a_cluster_finds_the_same_and_timed_cells_stay_here(
    toy: ModuleType, place: Place, address: str, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    assert main(toy, "--dask", address, "--out", str(there)) == 0
    processes = {name: {pid for noted, _, pid in place.noted() if noted == name} for name in ("count", "clock")}
    assert len(processes["count"]) == 2, "both workers worked"
    assert len(processes["clock"]) == 1
    assert not processes["clock"] & processes["count"]
    assert Counter(name for name, _, _ in place.noted()) == {"count": 12, "clock": 2}
    assert main(toy, "--jobs", "0", "--out", str(here)) == 0
    assert same.main([str(there), str(here)], timed={"clock"}) == 0
    described = json.loads((there / "results.json").read_text())["environment"]
    assert described["executor"] == cluster.EXECUTOR
    assert "other_machines" not in described
    assert main(toy, "--jobs", "0", "--out", str(there)) == 0
    assert Counter(name for name, _, _ in place.noted()) == {"count": 24, "clock": 4}, "cells are reused"


def test_a_killed_worker_loses_nothing(toy: ModuleType, place: Place, address: str, tmp_path: Path) -> None:
    place.hold.touch()
    running = place.start("--dask", address, "--out", str(tmp_path / "out"))
    wait_for(lambda: len(place.noted()) == 2)
    (_, cell, pid), (_, other, _) = place.noted()
    os.kill(pid, signal.SIGKILL)
    place.hold.unlink()
    _, messages = running.communicate(timeout=120)
    assert (running.returncode, complaints(messages)) == (0, [])
    times = Counter((name, i) for name, i, _ in place.noted())
    assert len(times) == 14
    assert times["count", other] == 1
    assert {each for each, number in times.items() if number > 1} == {("count", cell)}


def test_the_killed_command_goes_on(toy: ModuleType, place: Place, address: str, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    running = place.start("--dask", address, "--out", str(out))
    wait_for(lambda: len(list(out.rglob("*.json"))) >= 3)
    running.kill()
    running.communicate()
    stored = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert 3 <= len(stored) < 14
    assert main(toy, "--dask", address, "--out", str(out)) == 0
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    assert main(toy, "--jobs", "0", "--out", str(whole)) == 0
    assert same.main([str(out), str(whole)], timed={"clock"}) == 0


def test_ctrl_c_cancels_what_waits_there(toy: ModuleType, place: Place, address: str, tmp_path: Path) -> None:
    place.hold.touch()
    running = place.start("--dask", address, "--out", str(tmp_path / "out"))
    wait_for(lambda: len(place.noted()) == 2)
    running.send_signal(signal.SIGINT)
    _, messages = running.communicate(timeout=60)
    place.hold.unlink()
    assert running.returncode == 130
    (complaint,) = complaints(messages)
    assert "0 of 14 cells are measured and kept" in complaint
    assert main(toy, "--dask", address, "--out", str(tmp_path / "next")) == 0
    assert len(place.noted()) == 2 + 14, "none of the cells that waited was measured"


def test_a_scheduler_that_goes_away_is_an_interruption(toy: ModuleType, place: Place, tmp_path: Path) -> None:
    place.hold.touch()
    with local_cluster(place, 1) as (address, process):
        running = place.start("--dask", address, "--out", str(tmp_path / "out"))
        wait_for(lambda: len(place.noted()) == 1)
        process.kill()
        _, messages = running.communicate(timeout=120)
    place.hold.unlink()
    assert running.returncode == 130
    assert "the executor cancelled what was left" in messages
    assert messages.endswith("0 of 14 cells are measured and kept, and the same command goes on from there\n")


# ---- refusals


@pytest.mark.parametrize(
    "malformed",
    ["", "here", "10.0.0.1:8786", "tcp://10.0.0.1", "tcp://:8786", "tcp://h:0", "tcp://h:65536", "http://h:80", "tcp://h:80/"],
)
def test_a_malformed_address(tmp_path: Path, capsys: pytest.CaptureFixture[str], malformed: str) -> None:
    assert command.main(["--dask", malformed, "--out", str(tmp_path / "out")], experiments=[]) == 2
    message = capsys.readouterr().err
    assert "is no address; pass the one that the scheduler printed" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sound", ["tcp://127.0.0.1:8786", "tcp://node-1.example:1", "tcp://[fe80::1]:8786"])
def test_a_sound_address(sound: str) -> None:
    cluster.check_address(sound)


def test_jobs_are_not_for_clusters(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--dask", "tcp://h:1", "--jobs", "2"], experiments=[]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_the_optional_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = r"install it with python -m pip install -e '\.\[dask\]'"
    with pytest.raises(InputError, match=words), cluster.connect("tcp://127.0.0.1:8786"):
        pass


@pytest.mark.parametrize("backlog", [None, 1], ids=["closed", "silent"])
def test_nothing_answers(monkeypatch: pytest.MonkeyPatch, backlog: int | None) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if backlog is not None:
            taken.listen(backlog)
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no dask scheduler answers at {address}"), cluster.connect(address):
            pass


@pytest.mark.parametrize("key", ["code", "numpy", "blas_threads"])
def test_a_worker_that_differs(monkeypatch: pytest.MonkeyPatch, address: str, key: str) -> None:
    describe = environment.describe
    monkeypatch.setattr(environment, "describe", lambda: describe() | {key: "other"})
    words = rf"worker tcp://\S+ differs \(.*{key.replace('_', ' ')} \S+, not other.*\); start it anew"
    with pytest.raises(InputError, match=words), cluster.connect(address):
        pass


def test_workers_on_another_kind_of_machine_are_named(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    machine = environment.machine(environment.describe())
    monkeypatch.setattr(environment, "processor", lambda: "another processor")
    with cluster.connect(address) as (_, about):
        assert about == {"executor": cluster.EXECUTOR, "other_machines": machine}


def test_a_cluster_without_workers_or_with_workers_that_lack_the_package(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 5.0)
    with local_cluster(place, 0) as (address, _):
        words = "has no workers; start some with dask worker tcp://"
        with pytest.raises(InputError, match=words), cluster.connect(address):
            pass
        (tmp_path / "verify.py").write_text("raise ImportError('not here')\n")
        bare = subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, "--nthreads", "1", "--dashboard-address", "127.0.0.1:0"],
            cwd=tmp_path,
            env={**place.environ, "PYTHONPATH": str(tmp_path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            monkeypatch.setattr(cluster, "ANSWER_SECONDS", 60.0)
            with pytest.raises(InputError, match="cannot run this package"), cluster.connect(address):
                pass
        finally:
            bare.terminate()
            bare.wait(30)
