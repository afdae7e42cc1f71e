"""Writes the pages of the kernel-level passes into docs/passes.md, from the code and from what was measured.

    python experiments/passes/page.py            # write them anew
    python experiments/passes/page.py --check    # change nothing, fail when they are not what the code says

What a pass states of itself (`kernels/passes/base.py`), what its example shows, and its measured effect
(`experiments/passes/run.py`, in results/<machine>/passes.json). The rest of the document is written by hand.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT
from kernels.passes import PASSES
from kernels.passes.base import Example, Pass, Place, View
from kernels.shown import shown

DOCUMENT = ROOT / "docs" / "passes.md"
BEGIN = "<!-- What follows is written by experiments/passes/page.py. -->"
END = "<!-- What was written by experiments/passes/page.py ends here. -->"

_SHOWN = 4
"""Rows of measured gains, and of losses, on a page."""

_PLACES = {
    Place.SCHEDULE: "the schedule",
    Place.FUNCTION: "the scheduled function",
    Place.LOWERING: "the lowering",
    Place.TARGET: "the target",
    Place.SOURCE: "the CUDA source",
    Place.COMPILER: "the CUDA compiler",
}
_LANGUAGES = {View.ASSEMBLY: "asm", View.CUDA: "cuda", View.COMMAND: "sh"}


def written(text: str, root: Path = ROOT) -> str:
    """The document with the pages anew. Raises ValueError without the two lines between which they are."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} lacks the line {BEGIN if not begin else END!r}")
    return before + BEGIN + "\n\n" + "\n".join(pages(effects(root))) + "\n" + END + after


def effects(root: Path) -> dict[str, Any]:
    """What was measured of the passes, by machine."""
    return {path.parent.name: json.loads(path.read_text("utf-8")) for path in root.glob("results/*/passes.json")}


def pages(measured: Mapping[str, Any]) -> Iterator[str]:
    """An overview, then a page a pass, line by line."""
    yield "| pass | what it does | searched on a CPU | on CUDA | acts on |"
    yield "|---|---|---|---|---|"
    for name, kind in PASSES.items():
        places = ", ".join(_PLACES[place] for place in kind.places())
        yield f"| `{name}` | {kind.line()} | {settings(kind, 'llvm')} | {settings(kind, 'cuda')} | {places} |"
    for kind in PASSES.values():
        yield ""
        yield from page(kind, measured)


def settings(kind: type[Pass], target: str) -> str:
    """The searched settings of a pass, the default in bold; "-" where there is nothing to search."""
    variants = kind.variants(target)
    if len(variants) == 1:
        return "-"
    return ", ".join(f"**{value(v)}**" if v == kind() else value(v) for v in variants)


def value(setting: Pass) -> str:
    """A setting's options as a reader says them: on, off, 64."""
    given = [getattr(setting, option) for option in setting.documentation.options]
    return " x ".join({True: "on", False: "off"}[v] if isinstance(v, bool) else str(v) for v in given)


def page(kind: type[Pass], measured: Mapping[str, Any]) -> Iterator[str]:
    """The page of a pass."""
    told = kind.documentation
    yield f"### {kind.name}"
    yield ""
    yield " ".join((inspect.getdoc(kind) or "").replace("\n\n", "\0").split()).replace("\0", "\n\n")
    yield ""
    for option, meaning in told.options.items():
        yield f"- Option `{option}`: {meaning}."
    for requirement in told.requires:
        yield f"- Requires: {requirement.what}. Shown by: {requirement.proof}."
    for counter, meaning in told.counters.items():
        yield f"- Counts `{counter}`: {meaning}."
    yield f"- Loses: {told.loses}"
    yield f"- Elsewhere: {told.elsewhere}."
    yield from effect(kind.name, measured)
    yield ""
    yield from example(told.example)


def effect(name: str, measured: Mapping[str, Any]) -> Iterator[str]:
    """What the pass alone, and leaving it out, did to the time of kernels."""
    rows = [(machine, row) for machine, found in measured.items() for row in found["passes"].get(name, ())]
    if not rows:
        yield "- Effect: not measured."
        return
    shown = largest(rows)
    yield (
        "- Effect, as times of speed with 95 % intervals: alone, against no pass; in all, against all but this one. Of "
        f"{len(rows)} rows the {len(shown)} with the largest effects."
    )
    yield ""
    yield "| machine | kernel | setting | alone | in all |"
    yield "|---|---|---|---|---|"
    for machine, row in shown:
        yield f"| {machine} | {row['family']} | `{row['setting']}` | {times(row['alone'])} | {times(row['in_all'])} |"


def largest(rows: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The rows with the largest gains and losses, the gains first: what is surely gained or lost counts."""

    def effect_of(row: tuple[str, Any]) -> float:
        sure = [_sure(row[1][context]) for context in ("alone", "in_all")]
        return max(sure, key=lambda gain: abs(math.log(gain)))

    ordered = sorted(rows, key=effect_of, reverse=True)
    return ordered if len(ordered) <= 2 * _SHOWN else [*ordered[:_SHOWN], *ordered[-_SHOWN:]]


def _sure(found: Mapping[str, float] | None) -> float:
    """The end of the interval that is nearer to no effect; 1 where the interval has it inside."""
    if found is None or found["low"] <= 1.0 <= found["high"]:
        return 1.0
    return found["low"] if found["low"] > 1.0 else max(found["high"], 1e-9)


def times(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['times']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def example(told: Example) -> Iterator[str]:
    """The two texts of an example, under the configurations that make them."""
    yield f"Example, {told.view.value}: {inspect.getdoc(told.program)} With `{told.before}`:"
    yield from _code(told, told.before)
    yield ""
    yield f"With `{told.after}`:"
    yield from _code(told, told.after)


def _code(told: Example, config: str) -> Iterator[str]:
    yield ""
    yield f"```{_LANGUAGES.get(told.view, 'python')}"
    yield shown(told, config)
    yield "```"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the pages are not current")
    given = parser.parse_args()
    text = DOCUMENT.read_text("utf-8")
    current = written(text)
    if given.check:
        print("docs/passes.md is " + ("what the code says" if current == text else "not what the code says"))
        return int(current != text)
    DOCUMENT.write_text(current, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
