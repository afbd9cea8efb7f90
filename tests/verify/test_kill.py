"""``kill -9`` in mid-sweep, then the same command: nothing lost, nothing measured twice, the same results.

The real command line, its real processes, real signals. More and other moments, and other claims, by hand::

    KILLS=10 KILL_SEED=1 KILL_CLAIMS=search,low_rank,query_time pytest tests/verify/test_kill.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from verify import same
from verify.claims import EXPERIMENTS

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", "1"))
SEED = int(os.environ.get("KILL_SEED", "0"))
TIMED = {experiment.name for experiment in EXPERIMENTS if experiment.timed}
CLAIMS = os.environ.get("KILL_CLAIMS", "search")


def start(out: Path) -> subprocess.Popen[str]:
    """Start the command, in a process group of its own as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-m", "verify", "--claims", CLAIMS, "--jobs", "2", "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def cell_files(out: Path) -> list[Path]:
    return sorted((out / "cells").rglob("*.json"))


def wait_until(stored: int, out: Path, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while len(cell_files(out)) < stored:
        assert running.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers_of(running: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its worker processes, without the one that Python keeps to clear up behind them."""
    found = []
    for child in psutil.Process(running.pid).children():
        with suppress(psutil.Error):  # git, for instance, which has ended meanwhile
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def complaints(messages: str) -> list[str]:
    """The lines on stderr that are not progress, which a slow machine shows."""
    return [line for line in messages.splitlines() if " s so far, " not in line]


def fingerprints(out: Path) -> dict[Path, tuple[int, int, bytes]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in cell_files(out)}


def results(out: Path) -> dict[str, object]:
    """What was measured, by place, without the time it took; of cells whose result is no time."""
    files = [path for path in cell_files(out) if path.parent.name not in TIMED]
    return {str(path.relative_to(out)): json.loads(path.read_text())["result"] for path in files}


def claims(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "results.json").read_text())["claims"]
    return found


def test_a_sweep_survives_being_killed(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    uninterrupted = start(whole)
    assert uninterrupted.communicate(timeout=1800)[1].count("Traceback") == 0
    assert uninterrupted.returncode == 0
    total = len(cell_files(whole))
    rng = np.random.default_rng(SEED)
    known: dict[Path, tuple[int, int, bytes]] = {}
    for number, moment in enumerate(sorted(int(each) for each in rng.integers(1, total, KILLS))):
        running = start(out)
        wait_until(max(moment, len(known)), out, running)
        time.sleep(rng.uniform(0, 0.2))
        workers = psutil.Process(running.pid).children(recursive=True)
        os.kill(running.pid, signal.SIGKILL)
        if number % 2:  # else they have to notice by themselves
            for worker in workers:
                worker.kill()
        running.communicate(timeout=60)  # its workers hold the other end too, so this waits for them
        stored = fingerprints(out)
        assert known.items() <= stored.items(), "nothing lost, nothing measured twice"
        known = stored
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE] == []
        (out / f".results.json.{running.pid}.part").touch()
    last = start(out)
    _, messages = last.communicate(timeout=1800)
    assert last.returncode == 0
    assert f"{total - len(known)} cells measured, {len(known)} reused" in messages
    assert known.items() <= fingerprints(out).items()
    assert same.main([str(whole), str(out)]) == 0
    assert results(out) == results(whole)
    assert list(out.rglob("*.part")) == []


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start(out)
    wait_until(1, out, running)
    known = fingerprints(out)
    workers_of(running)[0].kill()
    _, messages = running.communicate(timeout=600)
    assert (running.returncode, complaints(messages)) == (0, [])
    assert known.items() <= fingerprints(out).items()
    assert not any(claim["verdict"] == "invalid" for claim in claims(out))


def test_ctrl_c_at_a_terminal_is_one_line(tmp_path: Path) -> None:
    """The signal goes to the whole group; the workers, which are just starting, must leave the answer to the parent."""
    out = tmp_path / "out"
    running = start(out)
    while len(workers_of(running)) < 2:
        assert running.poll() is None
        time.sleep(0.005)
    time.sleep(0.3)
    worker = workers_of(running)[0]
    worker.send_signal(signal.SIGINT)
    with pytest.raises(psutil.TimeoutExpired):
        worker.wait(0.5)
    os.killpg(running.pid, signal.SIGINT)
    _, messages = running.communicate(timeout=60)
    assert running.returncode == 130
    (complaint,) = complaints(messages)
    assert complaint.endswith("the same command goes on from there")


def test_ctrl_c_while_the_libraries_load_is_one_line() -> None:
    script = (
        "import runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'numpy': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "sys.argv = ['verify', '--list']\n"
        "runpy.run_module('verify', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "verify: interrupted\n")
    ignored = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    done = subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), "who was told to ignore it does"
