"""Records -> pictures -> one HTML file; and the renderer of `record.plot()`."""

from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Picture, Pictures, Table
from throughtime.reporting.records import RECORDS, draw, load_record, record_page
from throughtime.reporting.run_files import RECORD_FILES, RunFiles, read_run
from throughtime.reporting.run_page import run_page
from throughtime.reporting.several_page import several_page
from throughtime.reporting.text_record import TextRecord
from throughtime.reporting.treatment_page import treatment_page
from throughtime.reporting.trials import Arm, trial_picture
from throughtime.storage import register_renderer

__all__ = [
    "RECORDS",
    "RECORD_FILES",
    "Arm",
    "Picture",
    "Pictures",
    "RunFiles",
    "Section",
    "Table",
    "TextRecord",
    "draw",
    "load_record",
    "page",
    "read_run",
    "record_page",
    "run_page",
    "several_page",
    "treatment_page",
    "trial_picture",
]

register_renderer(draw)
