"""Why a series changed, from what else changed in the same night. Pure functions: no measuring, no git."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuner.nights import Cause

Explained = tuple[Cause, tuple[str, ...]]
"""A cause, and the sentences that it rests on."""


@dataclass(frozen=True)
class Changes:
    """What is different from the last night in which the series stood at its level.

    `commits`: then and now; equal or empty where they do not differ. `touched`: files of this program between them that
    decide how code is made (None: unknown). `versions`: by package, then and now, where they differ. `same_code`:
    whether the rebuilt library has the reference's instructions, byte for byte (None: unknown). `environment`: facts of
    the machine that differ, in words.
    """

    commits: tuple[str, str] = ("", "")
    touched: Sequence[str] | None = None
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    same_code: bool | None = None
    environment: Sequence[str] = ()

    @property
    def committed(self) -> bool:
        return self.commits[0] != self.commits[1]


BASELINE_PACKAGES: Mapping[str, Sequence[str]] = {
    "torch": ("torch",), "torch_channels_last": ("torch",), "torch_compile": ("torch",),
    "torch_max_autotune": ("torch",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"), "mnn": ("mnn",),
}  # fmt: skip
"""By baseline, the packages whose version is that baseline's."""

_ONLY_BASELINES = frozenset(name for names in BASELINE_PACKAGES.values() for name in names) - {"torch"}
"""Packages that no tuned model is made with."""


def needs_earlier_commit(changes: Changes) -> bool:
    """Whether commits and libraries changed in one night, so that only building the earlier commit tells them apart."""
    versions = changes.versions.keys() - _ONLY_BASELINES
    return bool(changes.committed and versions and changes.touched != [] and not changes.same_code)


def of_rebuilt(changes: Changes, earlier: float | None = None) -> Explained:
    """Why the same frozen candidates, compiled today, are not as fast as the reference.

    `earlier`: the share of the change that the earlier commit shows with today's libraries; None where unknown.
    """
    if changes.same_code:
        return Cause.NOISE, ("the rebuilt library has the reference's instructions, byte for byte",)
    versions = {name: pair for name, pair in changes.versions.items() if name not in _ONLY_BASELINES}
    said = (*_committed(changes), *_versions(versions))
    if changes.committed and not versions:
        return Cause.CODE, said
    if versions and (not changes.committed or changes.touched == []):
        untouched = "no file that decides how code is made differs between the commits"
        return Cause.LIBRARY, (*said, *([untouched] if changes.committed else []))
    if changes.committed and versions and earlier is not None:
        share = f"the earlier commit, built with today's libraries, shows {earlier:.0%} of the change"
        return (Cause.LIBRARY if earlier > 0.5 else Cause.CODE), (*said, share)
    if changes.committed and versions:
        return Cause.UNKNOWN, (*said, "both changed in one night: `tuner history bisect` tells them apart")
    return Cause.UNKNOWN, ("neither a commit nor a version differs, and yet the instructions do",)


def of_search(changes: Changes, tonight: float, tries: Sequence[float], needed: float) -> Explained:
    """Why the search finds another thing than before. `tonight` is the change of the first search, `tries` those of all
    seeds, the first among them; `needed` what their median has to exceed to count."""
    middle = sorted(tries)[len(tries) // 2] if len(tries) % 2 else sum(sorted(tries)[len(tries) // 2 - 1 :][:2]) / 2
    listed = ", ".join(f"{_percent(change)}" for change in tries)
    if len(tries) < 2 or abs(middle) <= needed or math.copysign(1, middle) != math.copysign(1, tonight):
        return Cause.LUCK, (f"searched again with other seeds: {listed}; the median does not hold",)
    said = (f"it holds over {len(tries)} seeds: {listed}", *_committed(changes))
    versions = {name: pair for name, pair in changes.versions.items() if name not in _ONLY_BASELINES}
    if versions and not changes.committed:
        return Cause.LIBRARY, (*said, *_versions(versions))
    return Cause.SEARCH, (*said, *_versions(versions))


def of_reference(changes: Changes, reference: float, baselines: Mapping[str, float], needed: float) -> Explained:
    """Why the reference, the same bytes as ever, takes another time than in nights before.

    `reference` is the change of its seconds, `baselines` those of each baseline's seconds.
    """
    steady = {name: change for name, change in baselines.items() if not _upgraded(name, changes)}
    along = [n for n, change in steady.items() if change * reference > 0 and abs(change) > 0.4 * abs(reference)]
    still = [n for n in steady if n not in along]
    said = [f"the same bytes take {_percent(reference)} of their time before"]
    if steady and len(still) > len(along) and "apache-tvm" in changes.versions:
        said.append(f"{', '.join(still)} did not change: it is the runtime that the model runs in")
        return Cause.LIBRARY, (*said, *_versions({"apache-tvm": changes.versions["apache-tvm"]}))
    if abs(reference) <= needed:
        return Cause.NOISE, tuple(said)
    if along:
        said.append(f"so do {', '.join(f'{n} ({_percent(steady[n])})' for n in along)}")
    return Cause.ENVIRONMENT, (*said, *changes.environment)


def of_baseline(changes: Changes, name: str, change: float) -> Explained:
    """Why a baseline stands elsewhere against the reference than before."""
    packages = BASELINE_PACKAGES.get(name, (name,))
    upgraded = {package: changes.versions[package] for package in packages if package in changes.versions}
    if upgraded:
        return Cause.BASELINE, (f"{name}: {_percent(change)} against the reference", *_versions(upgraded))
    return Cause.NOISE, (f"{name}: {_percent(change)} against the reference, and no version of it changed",)


def _upgraded(name: str, changes: Changes) -> bool:
    return any(package in changes.versions for package in BASELINE_PACKAGES.get(name, (name,)))


def _committed(changes: Changes) -> tuple[str, ...]:
    if not changes.committed:
        return ()
    before, now = changes.commits
    touched = changes.touched or []
    files = f", which changes {', '.join(touched[:5])}{' and more' if len(touched) > 5 else ''}" if touched else ""
    return (f"commit {before[:12] or 'unknown'} -> {now[:12] or 'unknown'}{files}",)


def _versions(versions: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{name} {old or 'absent'} -> {new or 'absent'}" for name, (old, new) in sorted(versions.items()))


def _percent(change: float) -> str:
    return f"{math.expm1(change):+.1%}"
