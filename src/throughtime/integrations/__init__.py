"""Other libraries: training loops that are not one's own, places that show numbers, and files that others read.

`throughtime.integrations.lightning` and `throughtime.integrations.transformers` need their library to be imported, so
they are not handed on here.
"""

from throughtime.integrations.feed import Feed, Writer
from throughtime.integrations.heat_map import heat_map
from throughtime.integrations.json_lines import JsonLines
from throughtime.integrations.tensorboard import TensorBoard
from throughtime.integrations.weights_and_biases import WeightsAndBiases

__all__ = ["Feed", "JsonLines", "TensorBoard", "WeightsAndBiases", "Writer", "heat_map"]
