"""The figures in README.md, and the results that they come from.

``python -m verify.readme`` compares them with ``verify-results/results.json``; ``--write`` renews the tables first.
So that nothing in the README is typed from memory, every number outside code blocks must be one of these:

1. what was measured: the last cell of a table row whose first cell is a claim, and in the text an estimate with its
   interval, ``0.66 [0.65, 0.67]``, which belongs to the claim that is named next after it. It is generated from the
   claim's result, in the form that it has already (see `FORMS`), and must equal it character by character. Times
   differ from run to run; there the README's interval must overlap the new one;
2. anywhere in a row, list item or paragraph that names claims: a number from the statement, margin, domain or reason of
   one of them;
3. a definition (`FORMULAS`, `CONSTANTS`).

What code blocks show is run, or compared with what their command prints, by ``tests/test_readme.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reference.notation import InputError
from verify.cells import write_atomically
from verify.source import ROOT, code_version

README = ROOT / "README.md"

FORMULAS = frozenset(
    {
        "b = sqrt(2 alpha ln m)",
        "m^(1-alpha)",
        "m^(1-alpha) n d + n^3",
        "n^2 m^(1-alpha)",
        "sqrt(1 + (n - 1) / d) / 2",
    }
)
"""Inline code whose numbers belong to a formula."""

CONSTANTS: Mapping[str, str] = {
    "2208.04508": "arXiv number of [A]",
    "2112.07628": "arXiv number of [B]",
    "3.11": "oldest Python; the tests compare it with pyproject.toml",
    "0": "seed of the tables; the results must have it. Exit status of a run that found nothing wrong",
    "1": "exit status of a run that found something wrong; a residual as large as at the start; a length; a label",
    "2": "exit status after bad input; the exponent 1/2",
    "0.24": "the alpha of [A]",
    "8": "neurons in the picture of the trees; the tests count them",
}
"""Numbers that are no measurements, and why."""

MINUTES = 3, 4
"""How long all claims take on two cores, as the README says in words, give or take half a minute."""

NUMBER = re.compile(r"(?<![\w.^])\d+(?:\.\d+)?(?:e-?\d+)?(?:\^\d+)?")
CLAIM = re.compile(r"`([a-z_]+\.(?!py`|md`|json`|html`|svg`)[a-z_]+)`")
ROW = re.compile(r"\| `([a-z_]+\.[a-z_]+)` \| (.*) \| (.*) \|")
MEASURED = re.compile(rf"(?<!\S)(-?\d\S*\s\[\S+,\s\S+\])(?=(?:(?!\n\n).)*?{CLAIM.pattern})", re.DOTALL)
APART = re.compile(r"(^```.*?^```$|^\|[^\n]*$)", re.DOTALL | re.MULTILINE)
"""Code blocks and table rows."""


# ---- what the README says ------------------------------------------------------------------------


def blocks(text: str) -> list[str]:
    """Split a Markdown text into paragraphs, list items, headings and table rows, without its code blocks.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    list of str
        One line each.
    """
    found: list[str] = [""]
    for line in re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines():
        if re.match(r"\||#|- |\d+\. |$", line):
            found.append("")
        # The number of a list item is no figure.
        found[-1] += re.sub(r"^\d+\. ", "", line.strip()) + " "
    return [block.strip() for block in found if block.strip()]


def claims_in(block: str) -> list[str]:
    """List the claims that a block names."""
    found: list[str] = CLAIM.findall(block)
    return found


def numbers(block: str) -> list[str]:
    """List the numbers in a block that are no definitions, as they are written.

    Parameters
    ----------
    block : str
        Text without code blocks.

    Returns
    -------
    list of str

    Examples
    --------
    >>> numbers("At alpha = 0.5, `m = 2^18` and `m^(1-alpha)`, 3 of [A]; up to 2^40 and 1e-7")
    ['0.5', '2^18', '3', '2^40', '1e-7']
    """
    plain = re.sub(r"`([^`]*)`", lambda code: " " if code[1] in FORMULAS else code[0], block)
    return [number for number in NUMBER.findall(plain.replace("..", " ")) if number not in CONSTANTS]


def value(number: str) -> float:
    """Read a number that may be a power: ``value("2^10")`` is 1024."""
    base, _, power = number.partition("^")
    return float(base) ** int(power or 1)


def unbound(text: str, known: Collection[str]) -> list[str]:
    """Find what no command vouches for.

    Parameters
    ----------
    text : str
        The README.
    known : collection of str
        Ids of all claims.

    Returns
    -------
    list of str
        A sentence for every block with numbers that are neither defined nor beside a claim.
    """
    return [
        f"{', '.join(numbers(block))} in {block[:60]!r}: name the claim beside it, or add it to verify.readme.CONSTANTS"
        for block in blocks(text)
        if numbers(block) and not any(name in known for name in claims_in(block))
    ]


# ---- what was found ------------------------------------------------------------------------------


def rounded(number: float, decimals: int) -> str:
    """Write a number with that many decimals; an exact zero as 0."""
    return "0" if number == 0 else f"{round(number, decimals) + 0.0:.{decimals}f}"


def with_interval(found: Mapping[str, Any]) -> str:
    """Write estimate and interval so that the interval's width has two digits."""
    low, high = found["interval"]
    decimals = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 4
    return f"{rounded(found['estimate'], decimals)} [{rounded(low, decimals)}, {rounded(high, decimals)}]"


def quoted(pattern: str) -> Callable[[Mapping[str, Any], str], str]:
    """Make a form that replaces each match of ``pattern`` in a cell by the next one in the claim's reason."""

    def form(found: Mapping[str, Any], cell: str) -> str:
        matches: Iterator[str] = iter(re.findall(pattern, found["reason"]))
        return re.sub(pattern, lambda _: next(matches, "?"), cell)

    return form


FORMS: tuple[tuple[str, Callable[[Mapping[str, Any], str], str]], ...] = (
    (r"at most \S+", lambda found, _: f"at most {found['estimate']:.1e}"),
    (r".*\d of \d.*", quoted(r"\d+ of \d+")),
    (r".*\d%.*", quoted(r"\d+%")),
    (r"\S+ \[\S+, \S+\]", lambda found, _: with_interval(found)),
    (r"\S+", lambda found, _: f"{found['estimate']:.2g}"),
)
"""Forms of a measured cell, by a pattern for the whole cell, and how each is made from a result."""


def quotient(found: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a mean logarithm, which the margin says it is, into the quotient that people read."""
    ends = [None if end is None else math.exp(end) for end in found["interval"] or ()]
    return {**found, "estimate": math.exp(found["estimate"]), "interval": ends or None}


def regenerated(cell: str, found: Mapping[str, Any]) -> str:
    """Write a measured cell anew in the form that it has; where the margin is a logarithm, as a quotient.

    Parameters
    ----------
    cell : str
        As it stands in the README.
    found : mapping
        The claim's entry in ``results.json``.

    Returns
    -------
    str
        A question mark where the result has nothing of this form.
    """
    cell = " ".join(cell.split())
    form = next((form for pattern, form in FORMS if re.fullmatch(pattern, cell)), None)
    try:
        if re.fullmatch(r"[<>]=? log \S+", found["margin"]):
            found = quotient(found)
        return "?" if form is None else form(found, cell)
    except (TypeError, ValueError):  # no estimate, no interval, or one with an open end
        return "?"


def overlap(cell: str, new: str) -> bool:
    """Tell whether the intervals of two measured cells overlap."""
    ends = [re.fullmatch(r"\S+ \[(\S+), (\S+)\]", each) for each in (cell, new)]
    if ends[0] is None or ends[1] is None:
        return False
    (low, high), (new_low, new_high) = ((float(end[1]), float(end[2])) for end in ends if end)
    return low <= new_high and new_low <= high


def check(text: str, results: Mapping[str, Any], timed: Collection[str]) -> list[str]:
    """Compare every figure with the results.

    Parameters
    ----------
    text : str
        The README.
    results : mapping
        Content of ``results.json`` of a run of all claims.
    timed : collection of str
        Names of the experiments that read the clock.

    Returns
    -------
    list of str
        One sentence per disagreement.
    """
    found = {claim["id"]: claim for claim in results["claims"]}
    problems = unbound(text, found.keys())
    # Two cells are measured at a time, but one alone where the clock is read.
    minutes = sum(each["seconds"] / (1 if each["id"].partition(".")[0] in timed else 2) for each in found.values()) / 60
    least, most = MINUTES
    if not least - 0.5 <= minutes <= most + 0.5:
        problems.append(f"README says {least} to {most} minutes on two cores; the cells took two {minutes:.1f}")
    for block in blocks(text):
        named = [found[name] for name in claims_in(block) if name in found]
        problems += [f"{claim['id']} is {claim['verdict']}" for claim in named if claim["verdict"] != "holds"]
        row = ROW.fullmatch(block)
        for cell, name in [(row[3], row[1])] if row else MEASURED.findall(block):
            if name in found:
                problems += compare(cell, found[name], by_clock=name.partition(".")[0] in timed)
        if named:
            sources = (claim[key] for claim in named for key in ("statement", "margin", "domain", "reason"))
            vouched = {value(number) for source in sources for number in numbers(source)}
            problems += [
                f"{number} in {block[:60]!r} is nowhere in {', '.join(claim['id'] for claim in named)}"
                for number in numbers(row[2] if row else MEASURED.sub(" ", block))
                if value(number) not in vouched
            ]
    return problems


def compare(cell: str, claim: Mapping[str, Any], *, by_clock: bool) -> list[str]:
    """Compare a measured cell with its claim's result; returns one sentence or none."""
    cell, new = " ".join(cell.split()), regenerated(cell, claim)
    if overlap(cell, new) if by_clock else cell == new:
        return []
    return [f"{claim['id']}: README has {cell!r}, the results {new!r}"]


def write(text: str, results: Mapping[str, Any]) -> str:
    """Bring up to date what was measured.

    Parameters
    ----------
    text : str
        The README.
    results : mapping
        Content of ``results.json``.

    Returns
    -------
    str
        The new README.
    """
    found = {claim["id"]: claim for claim in results["claims"]}

    def renew_row(row: re.Match[str]) -> str:
        return f"| `{row[1]}` | {row[2]} | {renewed(row[3], row[1])} |"

    def renewed(cell: str, name: str) -> str:
        return regenerated(cell, found[name]) if name in found else cell

    def renew(part: str) -> str:
        if part.startswith("|"):
            return ROW.sub(renew_row, part)
        return part if part.startswith("```") else MEASURED.sub(lambda match: renewed(*match.groups()), part)

    return "".join(renew(part) for part in APART.split(text))


# ---- the command ---------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    """Read results that may stand in the README: of this code, all claims, seed 0, the default profile.

    Parameters
    ----------
    path : Path
        A ``results.json``.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        Unreadable, or of another run.
    """
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = {key: results["environment"][key] for key in ("code", "seed", "profile")}
        for claim in results["claims"]:
            check_claim(claim)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); python -m verify writes it") from error
    wanted = {"code": code_version(), "seed": 0, "profile": "default"}
    for key, is_wanted in wanted.items():
        if stated[key] != is_wanted:
            raise InputError(f"{path} has {key} {stated[key]!r}, not {is_wanted!r}; run python -m verify again")
    return results


def check_claim(claim: Mapping[str, Any]) -> None:
    """Make sure that what is made of a claim can be made of it.

    Raises
    ------
    ValueError, KeyError, TypeError
        A hand has been at it.
    """
    for key in ("id", "statement", "verdict", "margin", "domain", "reason"):
        if not isinstance(claim[key], str):
            raise ValueError(f"{key} of {claim['id']} is no text")
    if not isinstance(claim["seconds"], (int, float)):
        raise ValueError(f"seconds of {claim['id']} is no number")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 when README and results agree, 1 when not, 2 after bad input."""
    from verify.claims import EXPERIMENTS

    parser = argparse.ArgumentParser(prog="python -m verify.readme", description="Compare README.md with the results.")
    default = Path("verify-results/results.json")
    parser.add_argument("results", nargs="?", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--write", action="store_true", help="first bring what was measured up to date")
    options = parser.parse_args(arguments)
    try:
        results = load(options.results)
        text = README.read_text(encoding="utf-8")
        known = {claim.id for each in EXPERIMENTS for claim in each.claims}
        missing = known - {each["id"] for each in results["claims"]}
        if missing:
            raise InputError(f"{options.results} lacks {min(missing)}; run python -m verify without --claims")
        if options.write:
            write_atomically(README, write(text, results))
            text = README.read_text(encoding="utf-8")
    except (InputError, OSError) as error:
        print(f"readme: {error}", file=sys.stderr)
        return 2
    problems = check(text, results, {each.name for each in EXPERIMENTS if each.timed})
    print(*problems or ["README.md agrees with the results"], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
