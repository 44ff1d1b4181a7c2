from __future__ import annotations

import json
from pathlib import Path

import pytest

from throughtime.errors import RunError
from throughtime.storage.manifest import MANIFEST_NAME, seal, verify


@pytest.fixture
def sealed(tmp_path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"through time")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "né").write_bytes(b"\x00")
    seal(tmp_path)
    verify(tmp_path)
    return tmp_path


def test_the_manifest_names_every_file_with_its_size_and_hash(sealed):
    content = json.loads((sealed / MANIFEST_NAME).read_bytes())
    assert {name: entry["bytes"] for name, entry in content["files"].items()} == {"a.txt": 12, "empty": 0, "deep/né": 1}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content["files"]["empty"]["sha256"] == empty


def test_every_single_bit_of_the_manifest_counts(sealed):
    manifest = sealed / MANIFEST_NAME
    content = bytearray(manifest.read_bytes())
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(content)
        with pytest.raises(RunError, match=r"manifest\.json is damaged"):
            verify(sealed)
        content[bit // 8] ^= 1 << bit % 8
    manifest.write_bytes(content)
    verify(sealed)


@pytest.mark.parametrize(
    "content", [b"", b"1", b"[]", b"{}", b'{"files": 1}', b'{"files": {"a": 1}}', b'{"files": NaN}', b"[" * 100_000]
)
def test_a_manifest_that_is_something_else_is_refused(sealed, content):
    (sealed / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        verify(sealed)


def test_a_changed_file_is_named(sealed):
    (sealed / "a.txt").write_bytes(b"through lime")
    with pytest.raises(RunError, match=r"a\.txt is damaged: its SHA-256"):
        verify(sealed)
    (sealed / "a.txt").write_bytes(b"through")
    with pytest.raises(RunError, match=r"a\.txt is damaged: 7 bytes, 12 in manifest"):
        verify(sealed)


def test_a_missing_and_an_extra_file_are_named(sealed):
    (sealed / "b.txt").write_bytes(b"")
    with pytest.raises(RunError, match=r"b\.txt is extra"):
        verify(sealed)
    (sealed / "b.txt").unlink()
    (sealed / "a.txt").unlink()
    with pytest.raises(RunError, match=r"a\.txt is missing"):
        verify(sealed)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*manifest\.json"):
        verify(tmp_path)
    with pytest.raises(RunError, match=r"cannot read .*manifest\.json"):
        verify(tmp_path / "absent")
