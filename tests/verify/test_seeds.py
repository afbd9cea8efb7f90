from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.seeds import generator

keys = st.tuples(st.text(max_size=5), st.dictionaries(st.text(max_size=3), st.integers(0, 99), max_size=3))


def numbers(root: int, *key: object) -> list[int]:
    return generator(root, *key).integers(2**63, size=4).tolist()


@given(st.integers(0, 2**64), keys, keys)
def test_a_stream_belongs_to_its_key(root: int, key: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert numbers(root, *key) == numbers(root, *key)
    assert (numbers(root, *key) == numbers(root, *other)) == (key == other)
    assert numbers(root, *key) != numbers(root + 1, *key)


def test_the_order_of_a_cell_s_inputs_does_not_matter() -> None:
    assert numbers(0, "cost", {"n": 4, "d": 8}) == numbers(0, "cost", {"d": 8, "n": 4})


@pytest.mark.parametrize(
    ("key", "other"),
    [
        (("a", "b"), ("ab",)),
        (("a", 1), ("a", "1")),
        (("a", 1), ("a", 1.0)),
        (("a", {"width": 12}), ("a", {"width": 1}, 2)),
        ((), ("",)),
    ],
)
def test_keys_that_read_alike_have_different_streams(key: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert numbers(0, *key) != numbers(0, *other)


def test_another_process_draws_the_same_numbers() -> None:
    # Python salts its hashes anew in every process; the streams must not depend on them.
    script = "from verify.seeds import generator; print(generator(7, 'search', {'width': 64}).integers(10**9))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(said) == generator(7, "search", {"width": 64}).integers(10**9)


def test_a_key_must_be_plain() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        generator(0, object())
    with pytest.raises(ValueError, match="non-negative"):
        generator(-1, "cost")
