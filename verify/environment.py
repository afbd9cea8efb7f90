"""Where a run took place: versions, processor, and a fingerprint of the code that was measured.

Two runs with the same *stamp* measure the same: source files of the three packages, libraries, processor. A
stored cell carries the stamp and is reused under no other.
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

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reference", "fast", "verify")


def code_version(root: Path = ROOT) -> str:
    """Hash the source files of the three packages.

    Parameters
    ----------
    root : Path
        Folder that holds the packages.

    Returns
    -------
    str
        16 hexadecimal digits, which change with any change of any source file.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


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


def describe() -> dict[str, Any]:
    """Describe the machine, the libraries and the code; plain JSON values."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blas": blas_name(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "not set"),
        "processor": processor(),
        "cores": usable_cores(),
        "platform": platform.platform(),
        "code": code_version(),
        "revision": revision(),
    }


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
    # The revision is left out: the code's hash says more, and a commit of the same code changes no number.
    relevant = {key: value for key, value in environment.items() if key != "revision"}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
