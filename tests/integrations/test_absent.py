"""Where a library is absent, an import says what to install."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("name", "libraries"),
    [("lightning", ("lightning", "lightning.pytorch", "pytorch_lightning")), ("transformers", ("transformers",))],
)
def test_an_import_says_what_to_install(name: str, libraries: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"throughtime.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'throughtime\[{name}\]'"):
        import_module(f"throughtime.integrations.{name}")
