"""The report as Markdown (GitHub's dialect). Every name is escaped; pictures are files in `figures/`."""

from __future__ import annotations

import re

from tuner.report.document import Document, Section
from tuner.report.tables import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]|#~$!])")


def escape(text: str) -> str:
    """Text that shows as itself, on one line, wherever inline Markdown or a table cell is allowed."""
    flat = " ".join(text.split())
    entities = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", entities).replace("://", "&#58;//").replace("@", "&#64;")


def render(document: Document) -> str:
    parts = [f"# {escape(document.title)}", escape(document.subtitle)]
    first, *rest = document.headline.sentences
    parts += [f"**{escape(first)}**", *map(escape, rest)]
    for section in document.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {escape(section.title)}"]
    parts += [escape(text) for text in section.text] if len(section.text) < 2 else [_items(section.text)]
    parts += [f"[{escape(words)}](<{page}>)" for words, page in section.links]
    parts += [f"![{escape(picture.alt)}](figures/{picture.name}.png)" for picture in section.pictures]
    parts += [_table(section.table)] if section.table is not None else []
    parts += [_code(section.code)] if section.code is not None else []
    return parts


def _items(texts: tuple[str, ...]) -> str:
    return "\n".join(f"- {escape(text)}" for text in texts)


def _table(table: Table) -> str:
    rule = "|".join(":--" if column in table.words else "--:" for column in range(len(table.headers)))
    lines = [" | ".join(map(escape, table.headers)), rule, *(" | ".join(map(escape, row)) for row in table.rows)]
    return "\n".join(f"| {line} |" if line is not rule else f"|{line}|" for line in lines)


def _code(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{code}\n{fence}"
