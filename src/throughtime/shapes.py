"""The legend of single letters for shapes, used in every docstring and annotation of the package.

| letter | meaning |
| --- | --- |
| B | sequences in a batch |
| T | time steps |
| I | input features |
| H | hidden units (the size of a state) |
| G | projected features of a cell: what `Cell.project` returns for a step |
| L | layers |
| V | words in the vocabulary |
| E | embedding features |
| N | positions, flattened: usually T * B |
"""

__all__: list[str] = []
