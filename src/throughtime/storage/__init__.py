"""What a run leaves on disk: atomic writes, manifests, checkpoints, metrics, locks, run folders and records.

Nothing here imports torch before a checkpoint is saved or loaded.
"""

from throughtime.storage.atomic import new_folder, write_bytes, write_json, write_text
from throughtime.storage.checkpoints import Checkpoint, CheckpointStore
from throughtime.storage.drawing import register_renderer
from throughtime.storage.json_text import Json, read_json
from throughtime.storage.lock import RunLock
from throughtime.storage.manifest import seal, verify
from throughtime.storage.metrics import MetricsFile
from throughtime.storage.record import Record
from throughtime.storage.run_folder import RunFolder

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Json",
    "MetricsFile",
    "Record",
    "RunFolder",
    "RunLock",
    "new_folder",
    "read_json",
    "register_renderer",
    "seal",
    "verify",
    "write_bytes",
    "write_json",
    "write_text",
]
