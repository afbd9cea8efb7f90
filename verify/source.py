"""What code this process runs: a fingerprint of its files, taken before they are loaded, and where they come from.

A measurement must not be recorded under other code than it was made with. Two things could bring that about: a package
that is imported from another folder than the files that are hashed, and a file that is edited between the hash and the
import. So the hash is taken when this module is loaded, before the rest of the packages (`AT_START`), and taken again
whenever modules have been loaded since (`loaded_code`); both must agree. An edit that comes later still changes nothing
in this process, which has its modules in memory, and a process that starts after it is told apart by its own hash.

This module needs the standard library alone: it is loaded first.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reference", "fast", "verify")
DATA = Path("verify", "data")
"""Folder of the data that come with the packages."""


def code_version(root: Path = ROOT) -> str:
    """Hash the source files of the three packages, and the data that come with them, as they are now.

    Parameters
    ----------
    root : Path
        Folder that holds the packages.

    Returns
    -------
    str
        16 hexadecimal digits, which change with any change of any of these files.
    """
    digest = hashlib.sha256()
    sources = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    data = [path for path in (root / DATA).glob("[!.]*") if path.is_file() and path.suffix != ".py"]
    for path in sorted(sources + data):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


AT_START = code_version()
"""The hash before the other modules were loaded."""
FOUND: dict[int, str] = {}
"""By number of modules that Python had loaded: what `loaded_code` found then."""


def elsewhere(root: Path = ROOT) -> str:
    """Say which package Python imports from another folder than ``root``, such as ``"fast from /home/me/old"``.

    Returns
    -------
    str
        Empty when there is none.
    """
    for package in PACKAGES:
        file = import_module(package).__file__
        expected = (root / package / "__init__.py").resolve()
        if file is None or Path(file).resolve() != expected or not expected.is_file():
            return f"{package} from {'no file' if file is None else Path(file).parent.parent}"
    return ""


def loaded_code() -> str:
    """Say what code this process runs: its hash, or in words why it has none.

    Returns
    -------
    str
        `AT_START`, as long as the files were still the same whenever modules had been loaded.
    """
    modules = len(sys.modules)  # cheap enough for every cell, which the hash is not
    if modules not in FOUND:
        FOUND[modules] = elsewhere() or code_version()
    return next((found for found in list(FOUND.values()) if found != AT_START), AT_START)


def problem() -> str:
    """Say why nothing may be measured in this process, in one line with the remedy.

    Returns
    -------
    str
        Empty when its packages are from one folder whose files are as they were when the process started.
    """
    if other := elsewhere():
        return (
            f"Python imports {other}, but verify from {ROOT}, so that another code would be measured than is recorded; "
            "correct PYTHONPATH, or start in another folder"
        )
    if code_version() != AT_START:
        return "files of the packages changed since this process started; change none during a run, and start it again"
    return ""
