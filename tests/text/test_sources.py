import os
from pathlib import Path

import pytest

from throughtime.errors import InputError
from throughtime.text.sources import Source, find_sources


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A text.")


def names(folder, sources):
    return [str(source.path.relative_to(folder)) for source in sources]


def test_a_folder_stands_for_its_text_files(tmp_path):
    write(tmp_path, "b.txt", "a.md", "sub/c.rst.gz", "picture.png", ".hidden.txt", ".git/x.txt", "README", "code.py")
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    assert names(tmp_path, find_sources([str(tmp_path)])) == ["README", "a.md", "b.txt", "sub/c.rst.gz"]


def test_a_split_made_by_the_user(tmp_path):
    write(
        tmp_path, *(f"{part}.{form}" for part in ("train", "valid", "test") for form in ("txt.xz", "tok")), "more.txt"
    )
    assert names(tmp_path, find_sources([str(tmp_path)])) == ["train.txt.xz", "valid.txt.xz", "test.txt.xz"]
    tokenised = find_sources([str(tmp_path)], tokenised=True)
    assert [(source.path.name, source.part) for source in tokenised] == [
        ("train.tok", "train"),
        ("valid.tok", "valid"),
        ("test.tok", "test"),
    ]
    assert all(source.part is None for source in find_sources([str(tmp_path), "-"]))


def test_patterns_standard_input_and_repetitions(tmp_path):
    write(tmp_path, "a.txt", "b.txt", "sub/c.txt", "d[1].log")
    found = find_sources([str(tmp_path / "*.txt"), "-", str(tmp_path / "a.txt"), str(tmp_path / "d[1].log"), "-"])
    assert [source.name for source in found] == [
        str(tmp_path / "a.txt"),
        str(tmp_path / "b.txt"),
        "standard input",
        str(tmp_path / "d[1].log"),
    ]
    assert names(tmp_path, find_sources([str(tmp_path / "**/*.txt")])) == ["a.txt", "b.txt", "sub/c.txt"]
    assert found[2] == Source(None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bok.txt", r"there is no .*bok\.txt: did you mean .*book\.txt\?$"),
        ("nothing/like/it.txt", r"there is no .*it\.txt: the folder .*like does not exist$"),
        ("*.gz", r"no file matches .*\*\.gz: look at the pattern"),
        ("empty", r"the folder .*empty holds no text file: names must end in \.txt"),
        ("zzzzzzzz", r"there is no .*zzzzzzzz: look at what"),
        ("a\0b", "is no path"),
    ],
)
def test_what_is_not_there(tmp_path, given, message):
    write(tmp_path, "book.txt", "empty/picture.png")
    with pytest.raises(InputError, match=message) as caught:
        find_sources([f"{tmp_path}/{given}"])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    with pytest.raises(InputError, match=r"cannot read .*locked: Permission denied"):
        find_sources([str(tmp_path)])


def test_a_link_in_a_circle_ends(tmp_path):
    write(tmp_path, "a.txt")
    Path(tmp_path / "again").symlink_to(tmp_path)
    assert names(tmp_path, find_sources([str(tmp_path)])) == ["a.txt"]
