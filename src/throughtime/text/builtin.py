"""The built-in corpus: the English documentation that every user already has.

Help topics and docstrings of Python's standard library, and docstrings of torch, read from the installed source files
with `ast`; nothing is imported. Each module belongs to one part for good, by a hash of its name, so the same versions
give the same corpus on every machine.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from throughtime.errors import InputError, RunError
from throughtime.storage.atomic import make_folder, write_json
from throughtime.storage.json_text import read_json
from throughtime.text.prose import paragraphs

__all__ = ["Document", "builtin_documents", "builtin_name", "read_cache", "write_cache"]

BUILDER_VERSION = 1
"""To be raised whenever the same sources would give another text."""

_SKIPPED = frozenset(
    {
        "test",
        "tests",
        "idle_test",
        "_internal",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "_vendor",
        "sitecustomize",
        "usercustomize",
    }
)
_TOPICS = "pydoc_data.topics"
_BLOCKS_OF_STATEMENTS = ("body", "handlers", "orelse", "finalbody")
_TRIPLE_QUOTES = (b'"""', b"'''")


class Document(NamedTuple):
    """The documentation of one module (or one help topic): paragraphs separated by empty lines."""

    part: str
    module: str
    text: str


def builtin_name() -> str:
    """What the built-in corpus is called, with the versions that it was made of."""
    return f"built-in corpus (Python {platform.python_version()}, torch {_torch_version()}, builder {BUILDER_VERSION})"


def builtin_documents(*, roots: Mapping[str, Path] | None = None) -> list[Document]:
    """The built-in corpus, in the order of the modules' names; every paragraph occurs once.

    It is kept in the user's cache folder (`$XDG_CACHE_HOME/throughtime`, else `~/.cache/throughtime`), under the
    versions of Python and torch; a copy that cannot be read, or whose hash is wrong, is made anew.

    Args:
        roots: folder of each package to read (the standard library's is called ""), and then nothing is cached; by
            default the standard library and torch.

    Raises:
        InputError: if no documentation is installed.
    """
    if roots is not None:
        return _collect(roots)
    path = _cache_folder() / f"{_slug(builtin_name())}.json"
    documents = read_cache(path)
    if documents is None:
        documents = _collect(_installed_roots())
        with contextlib.suppress(RunError):  # a home that is read-only or full: it is collected again next time
            make_folder(path.parent)
            write_cache(path, documents)
    return documents


def read_cache(path: Path) -> list[Document] | None:
    """What `write_cache` wrote, or None if there is nothing or it is damaged."""
    try:
        content = read_json(path)
        documents = [Document(*map(str, fields)) for fields in content["documents"]]
        return documents if content["hash"] == _hash(documents) else None
    except (RunError, KeyError, TypeError, ValueError):
        return None


def write_cache(path: Path, documents: list[Document]) -> None:
    """Keep the corpus in a file, with its hash.

    Raises:
        RunError: if it cannot be written.
    """
    write_json(path, {"hash": _hash(documents), "documents": documents})


def _collect(roots: Mapping[str, Path]) -> list[Document]:
    modules = sorted((name, path) for package, root in roots.items() for name, path in _modules(package, root))
    seen: set[bytes] = set()
    documents: list[Document] = []
    for name, path in modules:
        for topic, docstrings in _documentation(name, path):
            texts = [text for docstring in docstrings for text in paragraphs(docstring) if _is_new(text, seen)]
            if texts:
                documents.append(Document(_part(topic), topic, "\n\n".join(texts)))
    if not documents:
        raise InputError("no documentation is installed here to make the built-in corpus of: name a TEXT to train on")
    return documents


def _modules(package: str, root: Path) -> Iterator[tuple[str, Path]]:
    """The source files below `root`, with the names of their modules."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name.isidentifier() and name not in _SKIPPED]
        above = [package] if package else []
        above += Path(folder).relative_to(root).parts
        for file in files:
            stem = file.removesuffix(".py")
            if stem != file and stem.isidentifier() and stem not in _SKIPPED:
                yield ".".join(above if stem == "__init__" else [*above, stem]), Path(folder, file)


def _documentation(module: str, path: Path) -> Iterator[tuple[str, list[str]]]:
    """What a module says, as (module, docstrings); each help topic counts as a module of its own."""
    try:
        source = path.read_bytes()
        if module != _TOPICS and not any(quotes in source for quotes in _TRIPLE_QUOTES):
            return  # hardly any docstring, and parsing is what takes the time
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return  # templates and files for other Pythons: no loss
    if module == _TOPICS:
        yield from ((f"{module}.{topic}", [text]) for topic, text in sorted(_topics(tree)))
    else:
        yield module, list(_docstrings(tree))


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The entries of the dictionary `topics`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    yield str(key.value), str(value.value)


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Docstrings below `node`, in the order of the file; also those that torch adds by `add_docstr(function, text)`."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield text
    for block in _BLOCKS_OF_STATEMENTS:
        for child in getattr(node, block, ()):
            if isinstance(child, ast.Expr):
                if isinstance(child.value, ast.Call):
                    yield from _added_docstrings(child.value)
            elif hasattr(child, "body"):
                yield from _docstrings(child)


def _added_docstrings(call: ast.Call) -> Iterator[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name.startswith("add_docstr"):
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                yield node.value


def _is_new(text: str, seen: set[bytes]) -> bool:
    """Whether this paragraph has not been seen before, letter case and punctuation aside."""
    digest = hashlib.sha256("".join(filter(str.isalnum, text.lower())).encode()).digest()[:16]
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _part(module: str) -> str:
    remainder = hashlib.sha256(module.encode()).digest()[-1] % 20
    return {0: "valid", 1: "test"}.get(remainder, "train")


def _installed_roots() -> dict[str, Path]:
    roots = {"": Path(sysconfig.get_path("stdlib"))}
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        roots["torch"] = Path(torch.origin).parent
    return roots


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "throughtime"


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "." else " " for c in name).split()).lower()


def _hash(documents: list[Document]) -> str:
    return hashlib.sha256(json.dumps(documents).encode()).hexdigest()
