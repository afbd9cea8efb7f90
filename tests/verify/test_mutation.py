"""The command that judges mutants, on made-up ones; and the committed survivors against the source."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reference.notation import InputError
from verify import mutation
from verify.mutation import Mutant, check, mutants, problems, read_survivors
from verify.source import ROOT

SOURCE = '''\
def gram(a, b):
    """Text."""
    return a + b


def x_gram__mutmut_orig(a, b):
    """Text."""
    return f(
        a + b,
        a,
    )


def x_gram__mutmut_1(a, b):
    """Text."""
    return f(
        a - b,
        a,
    )


def x_gram__mutmut_2(a, b):
    """Text."""
    return f(
        a + b,
    )


class Forest:
    def xǁForestǁquery__mutmut_orig(self, n=1):
        return n

    def xǁForestǁquery__mutmut_1(self, n=2):
        return n
'''
SPANS = {
    "x_gram__mutmut_orig": [6, 11],
    "x_gram__mutmut_1": [14, 19],
    "x_gram__mutmut_2": [22, 26],
    "xǁForestǁquery__mutmut_orig": [30, 31],
    "xǁForestǁquery__mutmut_1": [33, 34],
}
MINUS = "gram: a + b, -> a - b,"
LEFT_OUT = "gram: a, -> (nothing)"
DEFAULT = "Forest.query: def (self, n=1): -> def (self, n=2):"


def folder(tmp_path: Path, verdicts: dict[str, int | None]) -> Path:
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "gram.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "fast" / "gram.py.spans").write_text(json.dumps({"version": 1, "spans": SPANS}))
    codes = {f"fast.gram.{name}": code for name, code in verdicts.items()}
    (tmp_path / "fast" / "gram.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    return tmp_path


def three(first: int | None = 1, second: int | None = 1, third: int | None = 1) -> dict[str, int | None]:
    return {"x_gram__mutmut_1": first, "x_gram__mutmut_2": second, "xǁForestǁquery__mutmut_1": third}


def test_mutants_are_named_by_function_and_changed_line(tmp_path: Path) -> None:
    found = mutants("fast.gram", folder(tmp_path, three(0, 1, None)))
    assert [mutant.change for mutant in found] == [MINUS, LEFT_OUT, DEFAULT]
    assert [mutant.exit_code for mutant in found] == [0, 1, None]
    assert found[0].name == "fast.gram.x_gram__mutmut_1"


def test_a_change_among_equal_lines_is_cut_out_once() -> None:
    assert mutation._difference(["f(", "a,", "a,", ")"], ["f(", "a,", ")"]) == ("a,", "(nothing)")
    assert mutation._difference(["if a:", "", "b", "c"], ["if not a:", "", "b", "d"]) == (
        "if a: b c",
        "if not a: b d",
    )


@pytest.mark.parametrize("code", [1, 3, 24, -24, 36, 152, 255, -9, -11])
def test_a_mutant_that_fails_hangs_or_crashes_is_killed(code: int) -> None:
    assert Mutant("", MINUS, code).killed


@pytest.mark.parametrize("code", [0, 5, 33, 34, 35, 2, 4, 37, None])
def test_every_other_mutant_is_not(code: int | None) -> None:
    """Passed, reached by no test, suspicious, interrupted, refused by pytest, not run."""
    assert not Mutant("", MINUS, code).killed


def test_a_folder_without_verdicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fast\.gram has no mutants .*; run python -m verify\.mutation fast\.gram"):
        mutants("fast.gram", tmp_path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    meta = folder(tmp_path, three()) / "fast" / "gram.py.meta"
    meta.write_text(meta.read_text()[:40])
    with pytest.raises(InputError, match=r"fast\.gram is damaged .*; delete .*gram\.py\*, run it again"):
        mutants("fast.gram", tmp_path)


def test_survivors_are_read_with_their_reasons() -> None:
    first = f"# What this is.\n\n[fast.gram]\nSame sum.\n    {MINUS}\n    {LEFT_OUT}\n"
    text = f"{first}Same default.\n    {DEFAULT}\n[fast.low_rank]\n"
    reasons = {MINUS: "Same sum.", LEFT_OUT: "Same sum.", DEFAULT: "Same default."}
    assert read_survivors(text) == {"fast.gram": reasons, "fast.low_rank": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    gram: a -> b\n", r"line 1 of the survivors, 'gram: a -> b', has no reason"),
        ("[fast.gram]\n    gram: a -> b\n", "line 2 .* has no reason; write one above it"),
        ("Why.\n    gram: a -> b\n", "line 2 .* has no reason"),
        ("[fast.gram]\nWhy.\n    gram: a -> b\n[fast.low_rank]\n    x: a -> b\n", "line 5 .* has no reason"),
        ("[fast.gram]\nWhy.\n    gram: a -> b\nOr.\n    gram: a -> b\n", "line 5 .* is there twice; delete one"),
        ("[fast.gram]\nWhy.\n    gram: a -> b\n[fast.gram]\n", "line 4 .* twice; put both parts together"),
        ("[fast.gram]\nWhy.\nOr.\n    gram: a -> b\n", "line 3 .* follows a reason without survivors"),
        ("[fast.gram]\nWhy.\n[fast.low_rank]\n", "line 3 .* follows a reason without survivors"),
        ("[fast.gram]\nWhy.\n", "end with a reason without survivors, 'Why.'"),
    ],
)
def test_a_list_that_leaves_a_survivor_without_a_reason_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_survivors(text)


def test_survivors_must_be_listed_and_what_is_listed_must_survive() -> None:
    alive, dead = Mutant("1", MINUS, 0), Mutant("2", LEFT_OUT, 1)
    assert problems("fast.gram", [alive, dead], {"fast.gram": {MINUS: "Same sum."}}) == []
    assert problems("fast.gram", [alive, dead], {}) == [f"fast.gram: survived and not listed: {MINUS}"]
    stale = {"fast.gram": {MINUS: "Same sum.", LEFT_OUT: "Unused."}}
    assert problems("fast.gram", [alive, dead], stale) == [f"fast.gram: listed, but no survivor: {LEFT_OUT}"]
    # What no test reaches is a survivor, too.
    assert problems("fast.gram", [Mutant("1", MINUS, 33)], {}) == [f"fast.gram: survived and not listed: {MINUS}"]


def test_changes_that_read_the_same_are_one_entry() -> None:
    twins = [Mutant("1", MINUS, 0), Mutant("2", MINUS, 1)]
    assert problems("fast.gram", twins, {"fast.gram": {MINUS: "Same sum."}}) == []
    assert problems("fast.gram", twins, {}) == [f"fast.gram: survived and not listed: {MINUS}"]


def test_what_has_not_run_is_told_and_makes_nothing_stale() -> None:
    waiting = [Mutant("1", MINUS, None), Mutant("2", LEFT_OUT, 1)]
    told = ["fast.gram: 1 mutants have not run; run python -m verify.mutation fast.gram"]
    assert problems("fast.gram", waiting, {"fast.gram": {MINUS: "Same sum."}}) == told


def test_less_than_nine_in_ten_are_too_few() -> None:
    alive, dead = Mutant("1", MINUS, 0), Mutant("2", LEFT_OUT, 1)
    listed, known = {"fast.gram": {MINUS: "Same sum."}}, ["fast.gram", "fast.low_rank"]
    table, wrong = check({"fast.gram": [alive] + 9 * [dead]}, listed, known)
    assert not wrong
    assert table == ["fast.gram                            9 of    10 killed,  90.0%"]
    few = "88.9% of the mutants are killed, less than 90%; write tests that kill more"
    assert check({"fast.gram": [alive] + 8 * [dead]}, listed, known)[1] == [few]
    # All modules are judged together.
    table, wrong = check({"fast.gram": [alive] + 8 * [dead], "fast.low_rank": [dead]}, listed, known)
    assert not wrong
    assert table[-1] == "all                                  9 of    10 killed,  90.0%"
    nothing = ["fast.low_rank                        0 of     0 killed, 100.0%"]
    assert check({"fast.low_rank": []}, {}, known) == (nothing, [])


def test_a_module_that_is_gone_is_told() -> None:
    assert check({}, {"fast.gone": {}}, ["fast.gram"])[1] == ["fast.gone is listed, but there is no such module"]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one module with verdicts, and a list that explains one survivor."""
    monkeypatch.setattr(mutation, "SURVIVORS", tmp_path / "survivors.txt")
    monkeypatch.setattr(mutation, "SHARE", 0.6)
    monkeypatch.setattr(mutation, "mutants", lambda module: mutants(module, tmp_path))
    (tmp_path / "survivors.txt").write_text(f"[fast.gram]\nSame sum.\n    {MINUS}\n", encoding="utf-8")
    return folder(tmp_path, three(0, 1, 1))


@pytest.mark.usefixtures("workshop")
def test_the_command_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[list[str], int]] = []
    monkeypatch.setattr(mutation, "run", lambda names, jobs: asked.append((list(names), jobs)))
    assert mutation.main(["--read", "fast.gram"]) == 0
    assert not asked
    assert capsys.readouterr().out == "fast.gram                            2 of     3 killed,  66.7%\n"
    assert mutation.main(["fast.gram", "--jobs", "3"]) == 0
    assert mutation.main(["fast.gram", "--jobs", "3", "--again"]) == 0
    assert asked == [(["fast.gram.*"], 3), (["fast.gram.x_gram__mutmut_1"], 3)]


def test_the_command_fails(workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (workshop / "survivors.txt").write_text("[fast.gram]\nSame default.\n    Forest.query: n -> m\n")
    assert mutation.main(["--read", "fast.gram"]) == 1
    told = capsys.readouterr().out
    assert f"survived and not listed: {MINUS}" in told
    assert "listed, but no survivor: Forest.query: n -> m" in told
    monkeypatch.setattr(mutation, "SHARE", 0.7)
    assert mutation.main(["--read", "fast.gram"]) == 1
    assert "66.7% of the mutants are killed, less than 70%" in capsys.readouterr().out


def test_bad_input_is_told(workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation.main(["fast.grim", "--read"]) == 2
    assert "there is no module fast.grim; pass names such as fast.all_pairs" in capsys.readouterr().err
    assert mutation.main(["fast.low_rank", "--read"]) == 2
    assert "fast.low_rank has no mutants" in capsys.readouterr().err
    monkeypatch.setattr(mutation.importlib.util, "find_spec", lambda name: None)
    assert mutation.main(["fast.gram"]) == 2
    assert "mutmut is not installed; run python -m pip install -e '.[mutation]'" in capsys.readouterr().err
    (workshop / "survivors.txt").unlink()
    assert mutation.main(["fast.gram", "--read"]) == 2


def test_a_failing_mutmut_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation.importlib.util, "find_spec", lambda name: "here")
    monkeypatch.setattr(mutation, "MUTMUT", (sys.executable, "-c", "raise SystemExit(4)"))
    with pytest.raises(InputError, match="mutmut ended with exit status 4"):
        mutation.run(["fast.gram.*"], 1)


def test_a_mutant_meets_its_own_tests_and_the_quickest_others(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = request.config.pluginmanager.get_plugins()
    path = str(ROOT / "tests" / "conftest.py")
    conftest = next(plugin for plugin in plugins if getattr(plugin, "__file__", None) == path)

    def chosen(mutant: str, names: list[str]) -> list[str]:
        monkeypatch.setenv("MUTANT_UNDER_TEST", mutant)
        items = [SimpleNamespace(nodeid=name) for name in names]
        conftest.pytest_collection_modifyitems(items)
        return [item.nodeid for item in items]

    others = [f"tests/fast/test_gram_and_more.py::test_{i}" for i in range(conftest.WITHOUT_OWN + 1)]
    names = [*others, "tests/reference/test_gram.py::test_it", "tests/fast/test_gram.py::test_it"]
    quick = [*others[: conftest.OTHERS], names[-1]]
    assert chosen("fast.gram.x_gram__mutmut_1", names) == quick
    assert chosen("fast.gram.xǁForestǁquery__mutmut_12", names) == quick
    assert chosen("fast.low_rank.x_gram__mutmut_1", names) == others[: conftest.WITHOUT_OWN]
    for no_mutant in ("", "stats", "fail", "list_all_tests"):
        assert chosen(no_mutant, names) == names


def test_listed_survivors_are_lines_of_the_source() -> None:
    listed = read_survivors(mutation.SURVIVORS.read_text(encoding="utf-8"))
    assert listed.keys() <= set(mutation.modules())
    for module, reasons in listed.items():
        path = ROOT / f"{module.replace('.', '/')}.py"
        source = " ".join(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        for change in reasons:
            function, _, lines = change.partition(": ")
            assert f"def {function.rpartition('.')[2]}(" in source, f"{module}: {change}"
            parts = lines.split(" -> ")
            before = [" -> ".join(parts[:end]) for end in range(1, len(parts))]
            assert any(each.replace("def (", "(") in source for each in before), f"{module}: {change}"
