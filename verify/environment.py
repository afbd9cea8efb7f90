"""Where a run took place: versions, processor, and a fingerprint of the code that was measured.

Two runs with the same *stamp* measure the same: source files of the three packages and the data that come with them
(`verify.source`), libraries, processor. A stored cell carries the stamp and is reused under no other. A worker process
measures only when it agrees with the process that started the run in what decides the numbers (`differences`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from reference.notation import InputError
from verify import source
from verify.source import ROOT

MUST_AGREE = ("python", "numpy", "scipy", "blas", "blas_threads", "code")
"""In what a worker must be like the process that started the run."""
NO_EFFECT = ("revision", "executor")
"""What no number depends on: the code's hash says more than the commit, and workers must agree wherever they are."""


def revision(root: Path = ROOT) -> str | None:
    """Name the git commit that ``root`` is a checkout of, with ``+changes`` when files differ from it.

    Parameters
    ----------
    root : Path
        Folder that holds the packages.

    Returns
    -------
    str or None
        None when there is no git, no commit, or ``root`` is not the top of a checkout.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # A package installed below some other project's checkout must not claim that project's commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor() -> str:
    """Name the processor as the operating system does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line]
    return next(iter(names), platform.processor() or platform.machine() or "unknown")


def usable_cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def blas_name() -> str:
    """Name the linear algebra library under NumPy, with its version."""
    # NumPy describes itself through this one function, whose stub knows nothing of its keys.
    description: Any = np.show_config(mode="dicts")
    blas = description.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def differences(expected: dict[str, str]) -> str:
    """Say in what this process is not as expected.

    Parameters
    ----------
    expected : dict
        As returned by `must_agree` in the process that started the run.

    Returns
    -------
    str
        For instance ``"numpy 2.3.1, not 2.4.6"``; empty when nothing differs.
    """
    found = must_agree(describe_libraries() | {"code": source.loaded_code()})
    return ", ".join(
        f"{key} {found[key]}, not {value}".replace("_", " ") for key, value in expected.items() if found[key] != value
    )


def must_agree(environment: dict[str, Any]) -> dict[str, str]:
    """Reduce a description to what must be the same in every worker.

    Parameters
    ----------
    environment : dict
        As returned by `describe`.

    Returns
    -------
    dict
    """
    return {key: environment[key] for key in MUST_AGREE}


def describe_libraries() -> dict[str, Any]:
    """Describe Python and the libraries under a measurement; plain JSON values."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blas": blas_name(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "not set"),
    }


def describe_machine() -> dict[str, Any]:
    """Describe the machine; plain JSON values."""
    return {"processor": processor(), "cores": usable_cores(), "platform": platform.platform()}


def machine(environment: dict[str, Any]) -> str:
    """Name the kind of machine, on which the last bits of a result may depend."""
    return f"{environment['processor']}, {environment['platform']}"


def describe() -> dict[str, Any]:
    """Describe the machine, the libraries and the code; plain JSON values.

    Raises
    ------
    InputError
        What runs here is not what its files say; see `verify.source.problem`.
    """
    if problem := source.problem():
        raise InputError(problem)
    return {**describe_libraries(), **describe_machine(), "code": source.AT_START, "revision": revision()}


def stamp(environment: dict[str, Any]) -> str:
    """Fingerprint everything in the environment that a measurement may depend on.

    Parameters
    ----------
    environment : dict
        As returned by `describe`.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    relevant = {key: value for key, value in environment.items() if key not in NO_EFFECT}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
