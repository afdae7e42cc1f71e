"""Puts the figures of the files under results/ into the documents, and checks that they are there.

A document names the file and the figure in a comment before the figure, and ends it with a second comment:

    of <!-- figure: amd-epyc/verdicts-aa.jsonl comparisons -->200<!-- end --> comparisons none was wrong

    python experiments/papers.py            # write every figure into the documents anew
    python experiments/papers.py --check    # change nothing; say which figures differ from their files (exit code 1)
    python experiments/papers.py --list     # every figure that a document may state, with its value

To state a figure of a new file: put the file into results/<device>/, link it in results/README.md, write the two
comments with anything between them, and run the first command. `experiments/figures/` reads the files; only a new
kind of file needs code there.

A table is a figure on lines of its own. Any other figure must not begin a line, where Markdown would take the line for
HTML, nor stand in a code span, where Markdown would show the comments.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.common import ROOT
from experiments.figures import read_all
from experiments.figures.words import Figures

DOCUMENTS = ("README.md", "CHANGELOG.md", "docs/**/*.md", "experiments/**/*.md", "results/README.md")
OPENING = "<!-- figure:"
FIGURE = re.compile(OPENING + r" (?P<file>\S+) (?P<name>[^<>]+?) -->(?P<text>(?:(?!<!--).)*)<!-- end -->", re.DOTALL)


def documents(root: Path = ROOT) -> list[Path]:
    return sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)})


def restated(text: str, known: Mapping[str, Figures]) -> tuple[str, list[tuple[int, str]]]:
    """A document with every figure as its file has it, and what was wrong with it: (line, words) each."""
    wrong = list(_malformed(text))

    def as_in_the_file(match: re.Match[str]) -> str:
        name, stated = f"{match['file']} {match['name']}", match["text"]
        value = known.get(match["file"], {}).get(match["name"])
        if value is None:
            wrong.append((_line(match), f"no figure {name!r}; {_near(name, known)}"))
            return match[0]
        if value != stated:
            wrong.append((_line(match), f"{name!r} is {value.strip()!r}, the document says {stated.strip()!r}"))
        return f"{OPENING} {name} -->{value}<!-- end -->"

    return FIGURE.sub(as_in_the_file, text), wrong


def _malformed(text: str) -> Iterator[tuple[int, str]]:
    good = {match.start(): match["text"] for match in FIGURE.finditer(text)}
    for match in re.finditer(OPENING, text):
        before = text[: match.start()].rpartition("\n")[2]
        if match.start() not in good:
            yield _line(match), f"a figure is not written `{OPENING} FILE NAME -->...<!-- end -->`"
        elif not before.strip(" \t>*+-") and not good[match.start()].startswith("\n"):
            yield _line(match), "a figure begins a line: Markdown takes the line for HTML"
        elif before.count("`") % 2:
            yield _line(match), "a figure stands in a code span: Markdown shows the comments"


def _line(match: re.Match[str]) -> int:
    return match.string.count("\n", 0, match.start()) + 1


def _near(name: str, known: Mapping[str, Figures]) -> str:
    names = [f"{file} {figure}" for file, figures in known.items() for figure in figures]
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "--list prints those there are"


def problems(root: Path = ROOT) -> list[str]:
    """What documents state that the files do not, `path:line: words` each."""
    known = read_all(root)
    return [
        f"{path.relative_to(root)}:{line}: {words}"
        for path in documents(root)
        for line, words in restated(path.read_text("utf-8"), known)[1]
    ]


def write(root: Path = ROOT) -> list[Path]:
    """Write all figures into the documents anew; returns the documents that changed."""
    known, changed = read_all(root), []
    for path in documents(root):
        before = path.read_text("utf-8")
        after, _ = restated(before, known)
        if after != before:
            path.write_text(after, "utf-8")
            changed.append(path)
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a figure differs")
    parser.add_argument("--list", action="store_true", help="print every figure there is")
    given = parser.parse_args()
    if given.list:
        print(
            "\n".join(
                f"{file} {name}: {text}" for file, figures in read_all().items() for name, text in figures.items()
            )
        )
        return 0
    for path in [] if given.check else write():
        print(f"{path.relative_to(ROOT)}: written")
    wrong = problems()
    print("\n".join(wrong) if wrong else "every figure is what its file says", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
