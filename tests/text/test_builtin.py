import sys
import sysconfig
from collections import Counter
from pathlib import Path

from throughtime.text.builtin import Document, builtin_documents, read_cache, write_cache
from throughtime.text.choices import TextChoices
from throughtime.text.corpus import prepare


def test_the_whole_corpus_is_the_same_on_two_calls(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    imported = set(sys.modules)
    made = builtin_documents()
    assert not {name for name in set(sys.modules) - imported if name.startswith(("torch", "pydoc_data", "tkinter"))}
    (cached,) = (tmp_path / "throughtime").iterdir()
    assert cached.name.startswith("built-in-corpus-python-")
    assert builtin_documents() == made == read_cache(cached)
    corpus = prepare(TextChoices(), tmp_path / "corpus")
    assert corpus.description["split"] == "by module"
    assert corpus.description["parts"]["train"]["num_words"] > 500_000
    assert min(corpus.description["parts"][part]["num_words"] for part in ("valid", "test")) > 15_000
    paragraphs = Counter(text for document in made for text in document.text.split("\n\n"))
    assert paragraphs.most_common(1)[0][1] == 1
    assert len({document.module for document in made}) == len(made)


def test_a_damaged_cache_is_no_cache(tmp_path):
    path = tmp_path / "cache.json"
    documents = [Document("train", "a", "The text."), Document("test", "b", "Another.")]
    write_cache(path, documents)
    assert read_cache(path) == documents
    for damaged in (path.read_bytes().replace(b"The", b"Teh"), path.read_bytes()[:-9], b"[]", b""):
        path.write_bytes(damaged)
        assert read_cache(path) is None
    path.unlink()
    assert read_cache(path) is None


def test_a_part_of_the_library_twice(tmp_path):
    roots = {"json": Path(sysconfig.get_path("stdlib"), "json"), "email": Path(sysconfig.get_path("stdlib"), "email")}
    documents = builtin_documents(roots=roots)
    assert documents == builtin_documents(roots=roots)
    assert [document.module for document in documents] == sorted(document.module for document in documents)


def test_docstrings_of_every_kind_are_found_and_bad_files_are_skipped(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "inner.py").write_text('"""This is the docstring of a test, and is skipped."""')
    (tmp_path / "broken.py").write_text('"""This is the docstring of a broken file."""\ndef (')
    (tmp_path / "bytes.py").write_bytes(b'"""This is the docstring of \xff a file."""')
    (tmp_path / "good.py").write_text(
        '"""This is the docstring of the module."""\n"\\d"\n'
        'class A:\n    """This is the docstring of the class."""\n'
        '    async def f(self):\n        """This is the docstring of the method."""\n'
        'if A:\n    def g():\n        """This is the docstring of the MODULE!"""\n'
        'add_docstr(A.f, r"""\nThis is the docstring that is added.\n""".format(1))\n'
    )
    (document,) = builtin_documents(roots={"made": tmp_path})
    assert document.module == "made.good"
    assert document.part in ("train", "valid", "test")
    assert document.text.split("\n\n") == [
        "This is the docstring of the module.",
        "This is the docstring of the class.",
        "This is the docstring of the method.",
        "This is the docstring that is added.",
    ]
