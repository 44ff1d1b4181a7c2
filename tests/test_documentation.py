"""Every Python block and every command of the documentation runs, page by page.

The blocks of a page share their names, and a folder with a text, `book.txt`, and a trained run, `runs/book`. What a
reader has (`model`, `inputs`, `targets`, `loss`, `optimizer`) is there. Minutes become two steps, and networks small.
The commands of a page share such a folder too; `LEFT_OUT` says which are run elsewhere.
Where a block needs a library that is not installed (`<!-- needs: LIBRARY ... -->` stands before it), it is left out,
and the test is skipped behind the other blocks.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

import throughtime
from commands import SCRIPT, commands, shrunk, written
from throughtime.cli.main import app, run
from tiny import TINY, made_text

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
NEEDS = re.compile(r"<!-- needs: ([\w ]+) -->\n+\Z")
LEFT_OUT = {
    "pip install .": "tests/test_package.py runs it, in an environment of its own",
}
"""Lines of console blocks that are run elsewhere, and where."""
RAISE_NOTHING = {"cells", "prescribe", "why"}
"""Public functions in which there is no mistake to be made."""
SMALL = "steps=2, hidden_size=8, embedding_size=8, window=6, num_streams=4, device='cpu'"


@dataclass(frozen=True)
class Block:
    """A block of code: its language, text, first line in the page, and the libraries without which it is not run."""

    language: str
    text: str
    line: int
    needs: tuple[str, ...]


def blocks(page: Path, *languages: str) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(content):
        before = NEEDS.search(content[: match.start()])
        line = content.count("\n", 0, match.start()) + 2
        needs = tuple(before[1].split()) if before else ()
        found.append(Block(match[2], textwrap.dedent(match[3]), line, needs))
    return [block for block in found if block.language in languages]


def with_blocks(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


def named(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "book.txt").write_text(made_text(), encoding="utf-8")
    throughtime.train(folder / "book.txt", out=folder / "runs" / "book", steps=20, **TINY)
    return folder


@pytest.fixture
def there(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the present folder."""
    shutil.copytree(run_folder, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "there"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return tmp_path / "there"


class Recall(torch.nn.Module):
    """A network of a reader's."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.RNN(2, 16)
        self.read = torch.nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.rnn(x)[0][-1])


def what_a_reader_has() -> dict[str, object]:
    batch = throughtime.tasks.make("delayed-recall", length=40).batch(64, seed=0)
    model = Recall()
    return {
        "model": model,
        "inputs": batch.inputs,
        "targets": batch.targets,
        "loss": torch.nn.functional.cross_entropy,
        "optimizer": torch.optim.Adam(model.parameters()),
    }


def without_numbers(text: str) -> str:
    """As it is compared: numbers differ by machine in their last digits, and lines are broken anew."""
    return re.sub(r"\d+(\.\d+)?", "#", " ".join(text.split()))


@pytest.mark.parametrize("page", with_blocks("python"), ids=named)
@pytest.mark.usefixtures("there")
# What another library says of a training of three seconds, and of its own insides, is no matter of ours.
@pytest.mark.filterwarnings(
    "ignore::UserWarning:pytorch_lightning",
    "ignore::UserWarning:lightning_fabric",
    "ignore::DeprecationWarning:pytorch_lightning",
    "ignore::DeprecationWarning:wandb",
    "ignore:.*treespec:FutureWarning",
)
def test_the_code_of_a_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    names: dict[str, object] = {"__name__": "__main__", **what_a_reader_has()}
    missing = []
    for block in blocks(page, "python"):
        absent = [library for library in block.needs if find_spec(library) is None]
        missing += absent
        if not absent:
            code = re.sub(r"\bminutes=\d+", SMALL, block.text)
            exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), names)
    printed = without_numbers(capsys.readouterr().out)
    for block in blocks(page, "text"):
        assert without_numbers(block.text) in printed, f"{named(page)}, line {block.line}: nothing prints this"
    if missing:
        pytest.skip(f"blocks of {named(page)} were left out, as these are not installed: {', '.join(missing)}")


def what_a_command_needs(folder: Path) -> None:
    """Files of a reader's, beside the text and the run."""
    (folder / "other.txt").write_text(made_text(seed=5), encoding="utf-8")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    patient = (DOCS.parent / "examples" / "sick_reader.py").read_text(encoding="utf-8")
    assert "steps = 80" in patient
    (folder / "sick_reader.py").write_text(patient.replace("steps = 80", "steps = 2"), encoding="utf-8")


def shrunk_here(line: str) -> list[str]:
    """As for the README; the placeholder of a run is one, and measurements of a minute are read from their record."""
    words = ["runs/book" if word == "RUN" else word for word in shrunk(line)]
    return words if words[0] != "why" else [*words[: words.index("--seed")], "--stored", str(DOCS / "why.json")]


@pytest.mark.parametrize("page", with_blocks("console"), ids=named)
def test_the_commands_of_a_page_run(
    page: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what_a_command_needs(there)
    monkeypatch.setenv("BROWSER", "true")  # the program that does nothing: no window is shown to who tests
    monkeypatch.syspath_prepend(there)
    for line in commands(page.read_text(encoding="utf-8")):
        if line in LEFT_OUT:
            continue
        assert line.startswith("throughtime "), f"{line}: run it, or say in LEFT_OUT where it is run"
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)  # as it stands, too
        words = shrunk_here(line)
        for path in written(words) if "--resume" not in words else ():
            shutil.rmtree(path, ignore_errors=True)  # a page that makes a run begins without it
        # Two steps of training make nothing healthy, and prove nothing.
        assert run(words) in ((0, 1) if words[0] in ("diagnose", "treat") else (0,)), (
            f"{line}\n{capsys.readouterr().err}"
        )
        out = capsys.readouterr().out
        assert json.loads(out) if "--json" in words else out.strip(), line
        assert all(path.exists() for path in written(words)), line
    monkeypatch.delitem(sys.modules, "sick_reader", raising=False)


def test_what_is_left_out_stands_in_the_documentation() -> None:
    assert set(LEFT_OUT) <= {line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))}


def test_every_command_is_described() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `throughtime (\w+)", page, flags=re.MULTILINE))
    assert described == {name for name in app if not name.startswith("-")}


def test_no_public_name_is_missing_in_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is in the list of a part with a page, and has a docstring; `docs/conf.py` checks what Sphinx makes of it."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: extra 'docs'")
    found = spec_from_file_location("conf", DOCS / "conf.py")
    assert found is not None
    assert found.loader is not None
    configuration = module_from_spec(found)
    found.loader.exec_module(configuration)
    monkeypatch.setattr(configuration, "HERE", tmp_path)
    (tmp_path / "reference").mkdir()
    configuration._write_reference()
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "reference" / "api").glob("*.rst")}
    assert all(f".. automodule:: {page}\n   :members:\n" in text for page, text in pages.items())
    own = [f"throughtime.{part}" for part in configuration.PARTS_OF_THEIR_OWN]  # whose values stand in their own file
    for name in throughtime.__all__:
        if name == "__version__":
            continue
        value = getattr(throughtime, name)
        home = ".".join(value.__module__.split(".")[:2])
        assert home in pages, name
        assert name in import_module(home).__all__, name
    for page in pages:
        part = import_module(page)
        for name in part.__all__:
            value = getattr(part, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                assert inspect.getdoc(value), f"{page}.{name}"  # without one it would be left out
            elif page not in ("throughtime", *own):
                assert f".{name}\n   :no-value:" in pages[page], f"{page}.{name}"


@pytest.mark.parametrize("name", [name for name in throughtime.__all__ if name != "__version__"])
def test_a_docstring_tells_arguments_what_comes_back_and_errors(name: str) -> None:
    value = getattr(throughtime, name)
    told = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        assert "Args:" in told or "Attributes:" in told or not inspect.signature(value).parameters
        return
    signature = inspect.signature(value)
    for argument in signature.parameters:
        assert re.search(rf"^    {argument}: ", told, flags=re.MULTILINE), f"{name} does not say what {argument} is"
    assert ("Returns:" in told) == (signature.return_annotation not in (None, "None"))
    assert ("Raises:" in told) == (name not in RAISE_NOTHING)


def test_code_has_a_language_that_is_known_here() -> None:
    """A block in a language that nobody looks at would be a block that nobody runs."""
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        languages = set(re.findall(r"^ *```(\S+)$", content, flags=re.MULTILINE))
        assert languages <= {"python", "console", "text", "toml", "json", "bibtex", "{toctree}", "{eval-rst}"}, page
