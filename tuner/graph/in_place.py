"""Which outputs of a model may be in the place of its inputs."""

from __future__ import annotations

from tuner.graph.lower import Lowered
from tuner.graph.overwriting import overwritten
from tuner.graph.plan import KernelCall, Plan, Tensor, Unplannable, plan


def in_place(lowered: Lowered) -> dict[tuple[int, int], str]:
    """Pairs of an input and an output, by their numbers, that a caller may give the same memory, each with the kernel
    that then overwrites the one by the other.

    The kernel reads each element of the input at most where it writes it, and nothing reads the input afterwards.
    """
    try:
        planned = plan(lowered)
    except Unplannable:
        return {}
    found: dict[tuple[int, int], str] = {}
    for output in range(len(planned.outputs)):
        writing = [call for call in planned.calls if _is(call.arguments[-1], "output", output)]
        if len(writing) != 1:
            continue
        for number in _given_up(planned, writing[0], lowered):
            found[number, output] = writing[0].kernel
    return found


def _given_up(planned: Plan, call: KernelCall, lowered: Lowered) -> list[int]:
    """The inputs that a call reads for the last time, and may overwrite."""
    later = planned.calls[planned.calls.index(call) + 1 :]
    free = overwritten(lowered.module[call.kernel])
    given = call.arguments[:-1]
    return [
        number
        for number in {t.place.at for t in given if t.place.kind == "input"}
        if all(at in free for at, t in enumerate(given) if _is(t, "input", number))
        and not any(_is(t, "input", number) for other in later for t in other.arguments)
    ]


def _is(tensor: Tensor, kind: str, number: int) -> bool:
    return tensor.place.kind == kind and tensor.place.at == number
