"""The command line as a user meets it: results on standard output, mistakes in one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import throughtime
from throughtime.cli.main import app, main, run
from throughtime.kernels import library
from tiny import OPTIONS, made_text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    text = folder / "book.txt"
    text.write_text(made_text(), encoding="utf-8")
    assert run(["train", str(text), "--out", str(folder / "run"), "--epochs", "2", *OPTIONS]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def cloze(trained: Path) -> Path:
    arguments = ["train", str(trained.parent / "book.txt"), "--out", str(trained.parent / "cloze"), "--model", "cloze"]
    assert run([*arguments, "--epochs", "1", *OPTIONS]) == 0
    return trained.parent / "cloze"


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("throughtime: ")
    return lines[0]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_help_does_not_import_torch() -> None:
    done = python(
        "import sys; from throughtime.cli.main import run; assert run(['--help']) == 0;"
        "assert run(['train', '--help']) == 0; assert not {'torch', 'numpy'} & set(sys.modules), 'too much'"
    )
    assert done.returncode == 0, done.stderr
    for command in ("train", "predict", "evaluate", "compare", "score", "doctor"):
        assert command in done.stdout


def test_every_command_takes_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in app if not name.startswith("-")]
    assert len(names) == 14
    for name in names:
        assert run([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert {"--seed", "--threads", "--device", "--json"} <= set(re.findall(r"--\w+", shown)), name


def test_importing_the_package_does_not_import_torch() -> None:
    done = python("import sys, throughtime; dir(throughtime); assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_train_says_what_came_out(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(trained.parent / "book.txt")
    assert run(["train", text, "--out", str(trained.parent / "again"), "--steps", "3", *OPTIONS]) == 0
    out = capsys.readouterr().out
    assert "perplexity" in out
    assert "context: carried across sentences" in out
    assert "unknown words" in out
    assert str(trained.parent / "again") in out


def test_train_prints_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(trained.parent / "book.txt")
    assert run(["train", text, "--out", str(trained.parent / "json"), "--steps", "3", "--json", *OPTIONS]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 3
    assert found["test"]["next"]["context_carried"] is True


def test_predict(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(trained), "The old man ___ his pipe.", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("%" in line and "his pipe." in line for line in lines)
    assert run(["predict", str(trained), "The old [man]", "--json", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["asks_for"] == "next"
    assert len(found["guesses"]) == 5
    assert found["unknown_words"] == ["[", "]"]


def test_unknown_words_are_named_beside_the_answer(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(trained), "The zyzzyva ___ his pipe."]) == 0
    captured = capsys.readouterr()
    assert "zyzzyva" in captured.err
    assert len(captured.out.splitlines()) == 5


def test_score_and_evaluate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", str(trained), "The old man lit his pipe."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:7]] == ["The", "old", "man", "lit", "his", "pipe", "."]
    assert "log probability in nats" in lines[7]
    assert (
        run(["evaluate", str(trained), str(trained.parent / "book.txt"), "--ngram", "--cache", "--continuous-cache"])
        == 0
    )
    out = capsys.readouterr().out
    assert "0.0 % unknown words" in out
    assert "mixture (network" in out
    assert run(["evaluate", str(trained), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["heads"]["next"]["perplexity"] > 1
    assert run(["evaluate", str(trained), "--dynamic"]) == 0
    assert "next word, learning on: perplexity" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["in_use"]["threads"] == 1
    assert set(found["kernels"]) == {info.name for info in throughtime.cells()}
    assert found["compiled_loops"]["there"] is (library() is not None)
    assert all(kernel["why"] for kernel in found["kernels"].values())
    assert run(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--cel", "gru"], "--cell"),
        (["trian"], "train"),
        (["train", "--cell", "lstn", "--steps", "1"], "did you mean 'lstm'"),
        (["train", "--model", "clozed", "--steps", "1"], "did you mean 'cloze'"),
        (["train", "nowhere/book.txt", "--steps", "1"], "nowhere/book.txt"),
        (["train", "--minutes", "0"], "above 0"),
        (["train", "--minutes", "1", "--epochs", "2"], "either minutes, or epochs, or steps"),
        (["train", "--minutes", "soon"], "minutes"),
        (["train", "--hidden-size", "0", "--steps", "1"], "plan.hidden_size must be at least 1"),
        (["train", "--resume"], "--out"),
        (["train", "--device", "cuda:7", "--steps", "1"], "unknown device"),
        (["train", "--encoding", "utf-9", "--steps", "1"], "utf-9"),
        (["train", "--threads", "-1", "--steps", "1"], "threads must be at least 0"),
        (["measure", "nowhere", "--threads", "-1"], "threads must be at least 0"),
        (["predict", "nowhere", "a ___", "--threads", str(10**12)], "threads must be at most 1024"),
        (["train", "--minutes", "inf"], "a number above 0"),
        (["train", "--learning-rate", "inf", "--steps", "1"], "must be a number, not infinity"),
        (["score", "nowhere", "words", "--seed", "-1"], "seed must lie between 0 and 2^62, not at -1"),
        (["train", "--seed", "-1", "--steps", "1"], "seed must lie between 0 and 2^62, not at -1"),
        (["train", "--seed", str(2**70), "--steps", "1"], "seed must lie between 0 and 2^62"),
        (["report", "nowhere", "--device", "gpu"], "did you mean 'cpu'"),
        (["why", "--device", "cuda"], "leave out --device cuda"),
        (["bench", "--device", "cuda"], "leave out --device cuda"),
        (["export", "nowhere", "there", "--device", "cuda"], "leave out --device cuda"),
        (["diagnose", "--device", "cuda", "mine.py"], "leave out --device cuda"),
        (["predict", "nowhere", "a ___ b"], "there is no run at nowhere"),
        (["predict"], "run"),
        (["evaluate", "nowhere"], "there is no run at nowhere"),
        (["compare", "--only", "lstn", "--steps", "1"], "did you mean 'lstm'"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails(arguments, capsys)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_mistake_leaves_no_run_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(["train", "nowhere.txt", "--steps", "1"], capsys)
    fails(["compare", "nowhere.txt", "--steps", "1"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_fits_no_memory_leaves_no_run_behind(
    text_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["train", str(text_file), "--out", str(tmp_path / "run"), "--steps", "1", *OPTIONS]
    arguments[arguments.index("--embedding-size") + 1] = str(10**15)
    assert "out of memory: choose a smaller network" in fails(arguments, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG picture, not text"),
        (b"some words\x00 more words. " * 50, "NUL"),
        (b"fine words until here " * 40 + b"\xff\xfe\xfa", "880"),
        (b"\x1f\x8b\x08\x00 not really gzip", "cannot be decompressed"),
        (b"Too short.", "words"),
    ],
)
def test_bad_text_gets_one_line(content: bytes, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    line = fails(["train", str(path), "--out", str(tmp_path / "run"), "--steps", "1", *OPTIONS], capsys)
    assert words in line
    assert not (tmp_path / "run").exists()


def test_replaced_bytes_are_counted(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(made_text(100).replace("pipe", "p\u00edpe").encode("latin-1"))
    count = made_text(100).count("pipe")
    arguments = [str(path), "--errors", "replace"]
    assert run(["train", *arguments, "--out", str(tmp_path / "run"), "--steps", "1", *OPTIONS]) == 0
    assert f"{count} bytes of the text could not be decoded" in capsys.readouterr().err
    assert run(["evaluate", str(trained), *arguments]) == 0
    assert f"{count} bytes of the text could not be decoded" in capsys.readouterr().err


def test_a_sentence_that_does_not_fit_gets_one_line(
    trained: Path, cloze: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert "a cloze model has no next word" in fails(["predict", str(cloze), "The old man"], capsys)
    assert "top must be at least 1" in fails(["predict", str(trained), "The ___", "--top", "0"], capsys)
    assert "blank" in fails(["score", str(trained), "The ___ man"], capsys)
    assert "leave them out for a blank" in fails(["predict", str(trained), "The ___", "--ngram", "0.5"], capsys)


def test_training_ends_with_a_diagnosis_or_says_why_it_has_none(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for model, told in (("cloze", "diagnosis: "), ("window", "no diagnosis: ")):
        arguments = ["train", str(trained.parent / "book.txt"), "--model", model, "--out", str(tmp_path / model)]
        assert run([*arguments, "--steps", "2", *OPTIONS]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith(told) for line in lines) == 1
    assert run([*arguments[:-1], str(tmp_path / "other"), "--steps", "2", "--no-diagnose", *OPTIONS]) == 0
    assert "diagnosis" not in capsys.readouterr().out


def test_standard_input_is_a_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "throughtime", "train", "-", "--out", str(tmp_path / "run"), "--steps", "2", *OPTIONS],
        input=made_text(100),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout


def test_ctrl_c_saves_and_exits_130(trained: Path, tmp_path: Path) -> None:
    text = str(trained.parent / "book.txt")
    arguments = ["train", text, "--out", str(tmp_path / "run"), "--epochs", "10000", "--patience", "10000", *OPTIONS]
    with subprocess.Popen(
        [sys.executable, "-m", "throughtime", *arguments], stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "continue with --resume --out" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_closed_pipe_is_no_error(trained: Path) -> None:
    command = f'"{sys.executable}" -m throughtime evaluate "{trained}" --json | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_gets_one_line(trained: Path) -> None:
    command = f'"{sys.executable}" -m throughtime score "{trained}" "The old man" > /dev/full'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert os.strerror(28) in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="arguments are text here")
def test_bytes_of_no_encoding_and_a_terminal_that_shows_ascii(trained: Path) -> None:
    arguments = [sys.executable, "-m", "throughtime", "score", os.fsencode(trained), "né ".encode() + b"\xff"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(arguments, capture_output=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[:2]] == [b"n\\xe9", b"\\udcff"]


def test_a_seed_is_heard(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for seed in ("0", "0", "1"):
        assert run(["measure", str(trained), "--steps", "12", "--json", "--seed", seed]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] != told[2]


def test_report_and_export_print_json(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert run(["report", str(trained), "--no-measure", "--out", str(page), "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert run(["export", str(trained), str(tmp_path / "exported"), "--json", "--threads", "1", "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "exported")


RECORD = Path(__file__).parents[1] / "reporting" / "records" / "need.json"


@pytest.mark.skipif(os.name != "posix", reason="a script stands for the browser")
def test_a_report_is_opened_in_the_browser(tmp_path: Path) -> None:
    """One that is named, one that fails, and none at all."""
    script, page, seen = tmp_path / "browser", tmp_path / "a page.html", tmp_path / "seen"
    command = [sys.executable, "-m", "throughtime", "report", str(RECORD), "--out", str(page), "--open"]
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "TERM"}
    bare = {name: value for name, value in os.environ.items() if name not in hidden} | {"PATH": str(tmp_path)}

    def opened(**variables: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=bare | variables)
        assert done.stdout == f"report: {page}\n"
        return done.stderr

    script.write_text(f'#!/bin/sh\necho "$@" > {shlex.quote(str(seen))}\n')
    script.chmod(0o755)
    assert opened(BROWSER=str(script)) == ""
    assert seen.read_text().strip() == page.resolve().as_uri()
    script.write_text("#!/bin/sh\nexit 1\n")
    instead = f"no browser could be started here (BROWSER names one): open {page} yourself\n"
    assert opened(BROWSER=str(script)) == instead
    assert opened() == instead


def test_measure_and_horizons_of_a_run(trained: Path, cloze: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", str(trained), "--steps", "12", "--sequences", "3"]) == 0
    assert "the gradient by the state reaches" in capsys.readouterr().out
    assert run(["measure", str(trained), "--steps", "12", "--sequences", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "gradient"
    assert found["precision"] == "float64"
    assert run(["horizons", str(trained), "--steps", "12", "--sequences", "20"]) == 0
    assert "; the gradient reaches " in capsys.readouterr().out
    assert "is not recurrent" in fails(["measure", str(cloze)], capsys)
    assert "a stretch of 100000 steps needs 100001" in fails(["measure", str(trained), "--steps", "100000"], capsys)
    assert "steps must be at least 2" in fails(["horizons", str(trained), "--steps", "1"], capsys)


def test_what_stands_behind_a_script_is_its_own_but_for_two_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import json, pathlib, sys\npathlib.Path('seen.json').write_text(json.dumps(sys.argv[1:]))\n"
    )

    def seen(*behind: str) -> list[str]:
        assert run(["diagnose", "mine.py", *behind]) == 2
        found: list[str] = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
        return found

    assert seen("--epochs", "3", "--device", "cuda", "--json") == ["--epochs", "3", "--device", "cuda"]
    assert seen("--ignore", "plateau", "a.txt", "--ignore=overfitting") == ["a.txt"]
    assert seen("--seed", "1", "--", "--json") == ["--seed", "1", "--json"]
    capsys.readouterr()
    assert run(["diagnose", "mine.py", "--ignore", "plato"]) == 2
    assert "did you mean 'plateau'" in capsys.readouterr().err


def test_a_defect_is_no_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own exit code for a traceback, 1, would say to a pipeline that the network is ill."""

    def fails(_: list[str]) -> int:
        raise ValueError("not foreseen")

    monkeypatch.setattr(sys.modules["throughtime.cli.main"], "run", fails)
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert caught.value.code == 2
    assert "ValueError: not foreseen" in capsys.readouterr().err
