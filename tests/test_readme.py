"""What the README shows is what a reader gets."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from verify.__main__ import main
from verify.claims import EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_print_what_they_show() -> None:
    session = "\n".join(blocks("python"))
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", "README.md", 0)
    failures: list[str] = []
    doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("block", [block for block in blocks("console") if "digits" in block])
def test_a_digits_block_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: str
) -> None:
    command, *expected = block.rstrip().splitlines()
    arguments = command.removeprefix("$ python -m verify ").split()
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert expected.pop() == "..."
    assert capsys.readouterr().out.splitlines()[: len(expected)] == expected


def test_the_digits_fail_to_halve_when_they_are_not_centred(tmp_path: Path) -> None:
    assert main(["--data", "digits", "--out", str(tmp_path / "out")]) == 1


def test_claims_named_in_the_readme_exist() -> None:
    known = {claim.id for experiment in EXPERIMENTS for claim in experiment.claims}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", README) if not name.endswith(".py")}
    assert named
    assert named <= known


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    commands = [block.strip() for block in blocks("console") if block.startswith("python -m pip")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_every_file_of_the_reading_order_exists_and_none_is_left_out() -> None:
    order = README.split("## Learn the algorithm")[1].split("## What holds")[0]
    named = set(re.findall(r"`([a-z_]+\.py)`", order))
    files = {path.name for path in (ROOT / "reference").glob("*.py")} - {"__init__.py"}
    assert named == files
