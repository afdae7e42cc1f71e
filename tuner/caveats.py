"""What times are that are not their device's own: an estimate, or those of a CPU that stands for a GPU.

A kind of device says so of its devices (`DeviceKind.caveats`); summaries, records and nights carry it; whatever shows a
time asks them and puts the words beside it. The times of most devices have no caveat, and then nothing is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Caveat:
    """What a time is. `words` stand in brackets beside a time, or at the head of a column; `sentence` says it in full,
    once in each section. Both are empty where a time is the device's own. `of_parts`: why the steps of a schedule have
    no times there; empty where they have."""

    words: str = ""
    sentence: str = ""
    of_parts: str = ""

    def beside(self, text: str) -> str:
        """A time, or the title of times, with the words."""
        return f"{text} ({self.words})" if self.words else text

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentence, where there is one."""
        return (self.sentence,) if self.sentence else ()

    @property
    def source(self) -> str:
        """What a time is from, in one word for other programs."""
        return self.words or MEASURED

    def to_json(self) -> dict[str, str]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The inverse of `to_json`; none for what is no caveat, e.g. of a file that an earlier version wrote."""
        stated = data if isinstance(data, Mapping) else {}
        return cls(*(value if isinstance(value := stated.get(f.name), str) else "" for f in dataclasses.fields(cls)))


MEASURED = "measured"
"""The source of times without a caveat."""

NONE = Caveat()


@dataclass(frozen=True)
class Caveats:
    """Those of a device: of the times of a kernel, and of a whole model."""

    kernel: Caveat = NONE
    model: Caveat = NONE

    @property
    def sentences(self) -> tuple[str, ...]:
        """Both sentences, or the one that both have."""
        return tuple(dict.fromkeys([*self.kernel.sentences, *self.model.sentences]))

    def to_json(self) -> dict[str, Any]:
        return {"kernel": self.kernel.to_json(), "model": self.model.to_json()}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The inverse of `to_json`; none for anything else."""
        stated = data if isinstance(data, Mapping) else {}
        return cls(Caveat.from_json(stated.get("kernel")), Caveat.from_json(stated.get("model")))

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> Self:
        """Those of the device that a run was on."""
        target = summary.get("target")
        return cls.from_json(target.get("caveats") if isinstance(target, Mapping) else None)


OWN = Caveats()
"""Those of a device that is timed itself."""
