from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.json_text import encode_json, read_json

TARGET = Path("x.json")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates included
VALUES = st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10)


@given(VALUES)
def test_every_value_comes_back_as_it_was(value):
    assert json.loads(encode_json(value, target=TARGET)) == value
    assert json.loads(encode_json(value, target=TARGET, indent=1)) == value


def test_keys_keep_their_order_and_text_stays_readable():
    assert encode_json({"b": "שלום", "a": [1, 0.1]}, target=TARGET).decode() == '{"b": "שלום", "a": [1, 0.1]}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(NonFiniteError, match=r"x\.json was not written"):
        encode_json({"loss": [number]}, target=TARGET)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"\x00\x00"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*x\.json: no such file"):
        read_json(tmp_path / "x.json")
