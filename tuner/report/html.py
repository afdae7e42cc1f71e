"""The report as one HTML file: no script, no network, pictures inside, every name escaped by jinja2."""

from __future__ import annotations

import base64

import jinja2

from tuner.report.document import Document
from tuner.report.figures import Picture


def render(document: Document) -> str:
    """The whole page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tuner.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(document=document, data_uri=_data_uri)


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
