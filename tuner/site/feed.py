"""The nights as an Atom feed (RFC 4287)."""

from __future__ import annotations

from urllib.parse import quote
from xml.etree import ElementTree as xml

from tuner.nightly.summary import ORDER
from tuner.nights import Night
from tuner.site.pages import Overview

_ENTRIES = 60
_ATOM = "http://www.w3.org/2005/Atom"


def atom(told: Overview, url: str) -> str:
    """The newest nights, newest first. Links begin with `url`; without one they are relative to the feed."""
    base = url.rstrip("/") + "/" if url else ""
    feed = xml.Element("feed", xmlns=_ATOM)
    measured = told.measured[:_ENTRIES]
    _add(feed, "title", "Nights of measurements")
    _add(feed, "id", base or "urn:tuner:nights")
    _add(feed, "updated", _time(measured[0]) if measured else "1970-01-01T00:00:00+00:00")
    xml.SubElement(xml.SubElement(feed, "author"), "name").text = "tuner nightly"
    xml.SubElement(feed, "link", href=f"{base}index.html")
    xml.SubElement(feed, "link", rel="self", href=f"{base}feed.xml")
    for number, night in enumerate(measured):
        counts = told.counts[night.id]
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome])
        entry = xml.SubElement(feed, "entry")
        _add(entry, "title", f"Night {night.id}: {words}")
        _add(entry, "id", f"urn:tuner:night:{quote(night.id)}")
        _add(entry, "updated", _time(night))
        before = measured[number + 1].id if number + 1 < len(measured) else night.id
        xml.SubElement(entry, "link", href=f"{base}compare.html#{quote(before)}..{quote(night.id)}")
        _add(entry, "content", "\n".join(told.alerts[night.id]) or "nothing changed", type="text")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(feed, encoding="unicode") + "\n"


def _time(night: Night) -> str:
    return night.ended_at or night.began_at


def _add(parent: xml.Element, name: str, text: str, **attributes: str) -> None:
    element = xml.SubElement(parent, name, attributes)
    element.text = "".join(c for c in text if c.isprintable() or c == "\n")
