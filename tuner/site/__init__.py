"""The published site: static pages made from the stored history of nights alone. No server, no network, no build step.

`write` makes a folder that any web server, or a browser from a disk, can show:

    index.html        what the last night found, worst first, and the nights before it
    cells/ID.html     one cell: its times, verdicts, thresholds, breaks and accepted changes, night by night
    models.html       every model against every baseline, as measured last
    compare.html      any two nights beside one another
    machines.html     which machines the nights ran on
    feed.xml          an Atom feed of the nights
    data/             the same for machines: index.json, cells/ID.json, nights/ID.json
"""

from tuner.site.write import Site, after_night, of_database, of_lines, write

__all__ = ["Site", "after_night", "of_database", "of_lines", "write"]
