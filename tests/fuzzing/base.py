"""What all samples of files share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
Files = Mapping[str, bytes]


class Refused(Exception):
    """The file was refused by other means than an exception: ignored, or skipped and counted."""
