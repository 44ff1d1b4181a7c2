"""The command line: arguments to workflow, results to text. It holds no logic of its own."""

from throughtime.cli.main import main

__all__ = ["main"]
