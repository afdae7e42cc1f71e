"""A tuned model that is wrong: which kernel makes it so is found, and the next best one takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.protocols import Stop

Parts = Mapping[str, Any]
"""By workload key, what the model is assembled from; None for a kernel that builds no more."""

FaultOf = Callable[[Parts], str]
"""What is wrong with the model of some parts; "" where nothing is."""

MOST_REPLACED = 16
"""So many winners are replaced one by one; after them all kernels keep TVM's own program."""


@dataclass
class Fallback:
    """Replaces winners that make the model wrong.

    `winners` are the parts of tuned kernels, `base` those of TVM's own kernels where these were checked. `successor`
    refuses a winner, with the reason, and returns the next best part; None where that is TVM's own kernel. `note` is
    called with a sentence for each. Once `stop()` is true, all kernels keep TVM's own program.
    """

    winners: dict[str, Any]
    base: Parts
    successor: Callable[[str, str], Any]
    name: Callable[[str], str]
    note: Callable[[str], None]
    stop: Stop
    replaced: int = field(default=0, init=False)

    @property
    def parts(self) -> dict[str, Any]:
        """What the model is to be assembled from."""
        return self._with(list(self.winners))

    def mend(self, fault_of: FaultOf) -> bool:
        """Make the model right; False where that is not to be had by giving up winners."""
        before, reason = dict(self.winners), fault_of(self.parts)
        while reason and self.winners:
            if self.stop() or self.replaced >= MOST_REPLACED:
                self._keep_none(reason)
            else:
                key = self._culprit(fault_of)
                if key is None:
                    self.note(f"the model is wrong with TVM's own kernels, too: {reason}")
                    return False
                self._replace(key, reason)
            reason = fault_of(self.parts)
        return not reason and self.winners != before

    def _culprit(self, fault_of: FaultOf) -> str | None:
        """A winner with which a model that was right without it becomes wrong; None where it is wrong without any.

        By halving: what was right stays in while the rest is tried.
        """
        if fault_of(self._with([])):
            return None
        right: list[str] = []
        suspects = list(self.winners)
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            if fault_of(self._with([*right, *half])):
                suspects = half
            else:
                right += half
                suspects = suspects[len(half) :]
        return suspects[0]

    def _replace(self, key: str, reason: str) -> None:
        self.replaced += 1
        successor = self.successor(key, reason)
        if successor is None:
            del self.winners[key]
        else:
            self.winners[key] = successor
        instead = "TVM's own kernel" if successor is None else "the next best one"
        self.note(f"{self.name(key)}: its winner makes the whole model wrong ({reason}); {instead} takes its place")

    def _keep_none(self, reason: str) -> None:
        for key in list(self.winners):
            while self.successor(key, reason) is not None:
                pass
            del self.winners[key]
        self.note(f"the tuned model is wrong ({reason}), and no time is left to find out why: no kernel is tuned")

    def _with(self, tuned: Sequence[str]) -> dict[str, Any]:
        return {**self.base, **{key: self.winners[key] for key in tuned}}
