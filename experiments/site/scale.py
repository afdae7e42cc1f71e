"""How long the site of a long history takes, and how large its pages are: `python experiments/site/scale.py`.

A history of CELLS cells over NIGHTS nights (tests/tuner/site/nights.py makes the first of each, with all kinds of
findings, breaks and gaps) is written into a scratch database, the site is made in a child, and its largest page is
opened in a browser where Chromium is installed. Writes results/amd-epyc/site.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.common import write_json
from tests.tuner.site import nights
from tuner import environment
from tuner.nights import CellKey, CellKind
from tuner.store.history import History

ROOT = Path(__file__).resolve().parents[2]


def filled(folder: Path, cells: int, count: int) -> Path:
    """A database with the history; rows are inserted in one transaction, which the program itself never does."""
    path = folder / "history.db"
    with History(f"sqlite:///{path}") as history:
        for number in range(count):
            one = nights.night(number, moved=count // 2)
            history.begin(one)
            history.end(one.id, one.began_at)
    rng = np.random.default_rng(0)
    with sqlite3.connect(path) as connection:
        for cell in range(cells):
            key = CellKey(f"cell-{cell}", CellKind.MODEL, f"torch:m{cell}", "", "float32", "llvm", 2, "60 s", 0, "EPYC")
            for number in range(count):
                one = nights.night(number, moved=count // 2)
                content = json.dumps(nights.result(key, one, number, count, rng).to_json())
                connection.execute(
                    "INSERT INTO night_cells (night, cell, device, content, samples) VALUES (?, ?, 'EPYC', ?, '{}')",
                    (one.id, key.id, content),
                )
    return path


def opened_s(page: Path) -> float | None:
    """Seconds in which a browser parses, runs and lays out a page, as it says itself; None without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    timed = page.with_name("timed.html")
    script = "<script>addEventListener('load',()=>setTimeout(()=>{document.title='T'+performance.timing.loadEventEnd"
    script += "+'-'+performance.timing.navigationStart},0))</script>"
    timed.write_text(page.read_text(encoding="utf-8") + script, encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    dom = subprocess.run([*command, timed.as_uri()], capture_output=True, text=True, check=True).stdout
    title = dom.partition("<title>T")[2].partition("</title>")[0]
    end, _, start = title.partition("-")
    return (int(end) - int(start)) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--nights", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "amd-epyc" / "site.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        database = filled(folder, arguments.cells, arguments.nights)
        command = [sys.executable, "-m", "tuner", "site", str(folder / "site"), "--database", f"sqlite:///{database}"]
        began = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True)
        seconds = time.monotonic() - began
        pages = sorted((folder / "site").rglob("*.html"), key=lambda p: p.stat().st_size)
        found = {
            "cells": arguments.cells, "nights": arguments.nights, "seconds": round(seconds, 1),
            "peak_MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "largest_page": pages[-1].name, "largest_page_bytes": pages[-1].stat().st_size,
            "site_bytes": sum(p.stat().st_size for p in (folder / "site").rglob("*") if p.is_file()),
            "opened_s": {p.name: opened_s(p) for p in (pages[-1], folder / "site" / "index.html")},
            "machine": environment.cpu_model(),
        }  # fmt: skip
    write_json(arguments.out, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
