"""Winners that fit together: the time of a model is that of its kernels beside one another, not alone."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.space import Candidate
from tuner.devices.device import Neighbours, Together
from tuner.graph import Lowered
from tuner.tuning.session import TaskSession


def nominate(graph: Lowered, sessions: Mapping[str, TaskSession], neighbours: Neighbours) -> None:
    """Have those forms of the finalists certified that would fit together, were they as fast as what they are forms
    of."""
    options: dict[str, dict[Candidate, float]] = {}
    for key, session in sessions.items():
        finalists = session.finalists()
        forms = neighbours.alternatives(session.task, list(finalists)) if finalists else {}
        options[key] = {**finalists, **{form: finalists[of] * times for form, (of, times) in forms.items()}}
    together = neighbours.choose(graph, options)
    for key, candidate in (together.candidates if together is not None else {}).items():
        if candidate not in sessions[key].finalists():
            sessions[key].nominate(candidate)


def prefer(graph: Lowered, sessions: Mapping[str, TaskSession], neighbours: Neighbours) -> list[str]:
    """Make those certified candidates the winners that take the least time together. Returns what to say about it."""
    options = {key: session.finalists() for key, session in sessions.items() if session.certified}
    together = neighbours.choose(graph, options)
    if together is None:
        return []
    changed = 0
    for key, candidate in together.candidates.items():
        if candidate != sessions[key].best:
            sessions[key].prefer(candidate)
            changed += 1
    return [_sentence(together, changed)] if changed else []


def _sentence(together: Together, changed: int) -> str:
    alone_s, shared_s = together.fastest_s
    return (
        f"{changed} kernels are not the fastest alone but fit their neighbours better: by the model of shared cache "
        f"lines an inference loses {1e3 * together.shared_s:.3g} ms to them instead of {1e3 * shared_s:.3g} ms, and "
        f"the kernels alone take {1e3 * (together.alone_s - alone_s):.3g} ms more"
    )
