"""The artifacts of nights: the run folders whose exports are references, byte for byte.

Those of the reference and of the latest nights are kept; what was measured with the others stays in the history.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tuner.files import replace_folder
from tuner.nightly.measuring import Reference
from tuner.nights import Acceptance, CellNight

KEPT = 3
"""Of the latest nights, besides the reference's and those that were accepted."""


class Artifacts:
    """The run folders of one cell's nights, under `out`/artifacts/CELL/NIGHT."""

    def __init__(self, out: Path, cell: str) -> None:
        self._folder = out / "artifacts" / cell

    def of(self, night: str) -> Path | None:
        """The run folder of a night; None where it is not here (any more)."""
        folder = self._folder / night
        return folder if (folder / "export" / "manifest.json").is_file() else None

    def keep(self, night: str, run: Path) -> None:
        """Take a run folder over, whole or not at all. Raises OSError."""
        final = self._folder / night
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        replace_folder(run, final)

    def reference(self, past: Sequence[CellNight], accepted: Sequence[Acceptance]) -> Reference | None:
        """What tonight is measured against: the night that was accepted last, else that of the last night, else the
        first night with an artifact. None where none of them is here."""
        wanted = [acceptance.night for acceptance in reversed(accepted)]
        wanted += [night.reference for night in reversed(past) if night.reference]
        wanted += [night.night for night in past]
        found = next(((night, folder) for night in wanted if (folder := self.of(night)) is not None), None)
        return None if found is None else Reference(*found)

    def drop_old(self, reference: str, accepted: Sequence[Acceptance], order: Sequence[str]) -> None:
        """Remove the artifacts of nights that nothing needs. `order`: the ids of nights, oldest first."""
        needed = {reference, *(acceptance.night for acceptance in accepted)}
        stored = [night for night in order if (self._folder / night).is_dir()]
        for night in stored[:-KEPT]:
            if night not in needed:
                shutil.rmtree(self._folder / night, ignore_errors=True)
