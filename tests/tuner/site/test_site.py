"""The site: every link leads somewhere, names are escaped, and a real browser sorts, reads values off charts and
compares nights."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import itertools
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree as xml

import pytest

from tests.tuner.site.nights import database, fill
from tuner import cli, site
from tuner.caveats import Caveat
from tuner.errors import OutputError
from tuner.nightly import browse, summary
from tuner.nights import CAVEAT, Night
from tuner.site import cell as cells
from tuner.store.history import History

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: it looks at the pages in a real browser")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with History(database(folder)) as history:
        fill(history)
        return site.write(history, folder / "site").folder


@pytest.fixture(scope="module")
def served(made: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(made)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [v for name in ("href", "src") if (v := values.get(name)) is not None]
        self.ids.add(values.get("id") or "")


def test_times_that_are_not_a_device_s_own_say_so(tmp_path: Path) -> None:
    """On every page, on the terminal, and in what a night says of itself; also where the last night has no times."""
    caveat = Caveat("host's time", "Every time is the host's.")
    (tmp_path / "other").mkdir()
    with History(database(tmp_path)) as plain, History(database(tmp_path / "other")) as history:
        [cell] = fill(plain, cells=1, count=3)
        for night in plain.nights():
            history.begin(night)
        for result in plain.results(cell):
            history.add(dataclasses.replace(result, facts={CAVEAT: caveat.to_json()} if result.seconds else {}))
        folder = site.write(history, tmp_path / "site").folder
        shown, results = browse.shown(history, cell)[1], history.results(cell)
        last = summary.markdown(history.nights()[-1], results[-1:], ())
    timed = re.compile(r"\d ms\b(?! \(host's time\)| \([\d.]+x\) \(host's time\))")
    for page in ("index.html", "models.html", f"cells/{cell}.html"):
        text = re.sub(r"<(svg|script).*?</\1>|<[^>]+>", " ", (folder / page).read_text(), flags=re.DOTALL)
        assert "(host's time)" in unescape(text)
        assert not timed.findall(unescape(text)), page
    assert caveat.sentence in unescape((folder / "cells" / f"{cell}.html").read_text())
    assert not any(timed.search(text) for row in shown for text in row)
    assert "(host's time)" in last
    assert not timed.search(last)


def test_every_link_leads_to_a_file_of_the_site(made: Path) -> None:
    pages = sorted(made.rglob("*.html"))
    assert len(pages) == 4 + 3
    for page in pages:
        links = Links(page)
        for link in links.found:
            if link == "data:,":
                continue
            path, fragment = urldefrag(link)
            assert not re.match(r"[a-z]+:|//", path), f"{page.name} takes {link} from elsewhere"
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.is_file(), f"{page.name}: {link}"
            assert target.is_relative_to(made.resolve())
            if ".." in fragment:
                for night in unquote(fragment).split(".."):
                    assert (made / "data" / "nights" / f"{night}.js").is_file()
            elif fragment:
                assert fragment in Links(target).ids


def test_names_are_escaped(made: Path) -> None:
    for page in made.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<b>resnet" not in text and "<8488C>" not in text
    assert "&lt;b&gt;resnet &amp; co&lt;/b&gt;" in (made / "index.html").read_text(encoding="utf-8")


def test_the_worst_comes_first_with_its_threshold_and_cause(made: Path) -> None:
    text = (made / "index.html").read_text(encoding="utf-8")
    assert "Night 20260209-020000" in text
    assert re.search(r'class="verdict worse">worse</span> 3', text)
    assert "+1.21%" in text and "our code" in text
    assert "commit 002600260026 -&gt; 002700270027" in text


def test_a_cell_tells_its_breaks_and_what_was_accepted(made: Path) -> None:
    text = next(t for p in (made / "cells").iterdir() if "resnet" in (t := p.read_text(encoding="utf-8")))
    assert "accepted: another algorithm" in text
    assert "cpu_count 2 -&gt; 4" in text
    assert "the night&#39;s budget was over" in text


def test_data_for_machines_has_every_night(made: Path) -> None:
    index = json.loads((made / "data" / "index.json").read_text())
    assert len(index["nights"]) == 40 and len(index["cells"]) == 3
    for cell in index["cells"]:
        data = json.loads((made / "data" / "cells" / f"{cell['id']}.json").read_text())
        assert (
            len(data["nights"])
            == len(data["seconds"]["searched"])
            == len(data["thresholds"]["rebuilt/reference"])
            == 40
        )
        assert data["seconds"]["searched"][-2] is None and data["outcomes"][-2] == "missing"
        assert data["last"]["findings"][0]["cause"] == "our code"
    night = json.loads((made / "data" / "nights" / f"{index['nights'][-1]['id']}.json").read_text())
    assert set(night["cells"]) == {cell["id"] for cell in index["cells"]}


def test_the_feed_is_atom_with_the_newest_night_first(made: Path) -> None:
    name = "{http://www.w3.org/2005/Atom}"
    feed = xml.fromstring((made / "feed.xml").read_text(encoding="utf-8"))  # noqa: S314 - our own
    assert feed.tag == f"{name}feed"
    entries = feed.findall(f"{name}entry")
    assert len(entries) == 40
    assert entries[0].findtext(f"{name}title") == "Night 20260209-020000: 3 worse"
    assert "resnet & co</b>: worse: rebuilt/reference" in (entries[0].findtext(f"{name}content") or "")
    for element in (feed, *entries):
        assert element.findtext(f"{name}id") and element.findtext(f"{name}updated")
    assert len({entry.findtext(f"{name}id") for entry in entries}) == 40


def test_an_empty_history_is_a_site_too(tmp_path: Path) -> None:
    with History(database(tmp_path)) as history:
        assert site.write(history, tmp_path / "site").cells == 0
    assert "No night yet" in (tmp_path / "site" / "index.html").read_text()


def test_the_command_replaces_a_site_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History(database(tmp_path)) as history:
        fill(history, cells=1, count=5)
    command = ["site", str(tmp_path / "site"), "--database", database(tmp_path)]
    assert cli.main(command) == cli.main(command) == 0
    assert "1 cell, 5 nights" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name, words in (("mine", "no site"), ("file", "is a file")):
        assert cli.main(["site", str(tmp_path / name), "--database", database(tmp_path)]) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert not list(tmp_path.glob(".*")), "no lock is left, after a refusal neither"


def test_paths_are_told_as_they_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with History(database(tmp_path)) as history:
        fill(history, cells=1, count=1)
    for out in ("site", "a/b/site", str(tmp_path / "c")):
        assert cli.main(["site", out, "--database", database(tmp_path)]) == 0
        assert f"site: {out}/index.html, 1 cell, 1 night\n" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    cli.main(["site", "mine", "--database", database(tmp_path)])
    assert "error: mine has files" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert cli.main(["site", ".", "--database", database(tmp_path)]) == 2
    assert "the folder you are in" in capsys.readouterr().err


def test_the_nights_of_one_day_are_told_apart_below_a_chart() -> None:
    def labels(*names: str) -> list[str]:
        return cells._labels([Night(name, "", "c0ffee" * 5) for name in names])  # noqa: SLF001 - what a chart gets

    assert labels("20260101-020000", "20260102-020000") == ["20260101", "20260102"]
    assert labels("20260101-020000", "20260101-123000-1") == ["02:00", "12:30"]
    assert labels("20260101-020000", "20260101-123000", "20260102-020000") == [
        "01-01 02:00", "01-01 12:30", "01-02 02:00",
    ]  # fmt: skip
    assert labels("n001", "n002") == ["n001", "n002"]
    assert cells._labels([Night("20260101-020000", "", "c0ffee" * 5, origin="backfill")]) == ["c0ffeec"]  # noqa: SLF001


def test_the_nights_that_are_kept_with_the_project_are_a_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Path(__file__).resolve().parents[3] / "results" / "amd-epyc" / "nights.jsonl"
    assert cli.main(["site", str(tmp_path / "site"), "--lines", str(kept)]) == 0
    assert "2 cells, 30 nights" in capsys.readouterr().out
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(kept.read_bytes()[:-40])
    assert cli.main(["site", str(tmp_path / "site"), "--lines", str(torn)]) == 0
    assert "1 line cannot be understood" in capsys.readouterr().out


def test_a_history_that_is_not_there_leaves_the_site_as_it_was(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "site")
    for source in (["--lines", "nowhere.jsonl"], ["--database", f"sqlite:///{tmp_path}/nowhere.db"]):
        assert cli.main(["site", str(tmp_path / "site"), *source]) == 2
        assert "nowhere" in capsys.readouterr().err
    assert (tmp_path / "site" / "index.html").read_bytes() == (made / "index.html").read_bytes()


def test_a_site_stays_whole_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(database(tmp_path)) as history:
        fill(history, cells=1, count=5)
        site.write(history, tmp_path / "site")
        before = (tmp_path / "site" / "index.html").read_text()

        def full(self: Path, *arguments: object, **named: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match="No space left"):
            site.write(history, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["history.db", "site"]


# --- in a browser --------------------------------------------------------------------------------------------------


def in_browser(made: Path, page: str, script: str, url: str | None = None) -> Any:
    """What a script, run in a page that a browser has loaded, returns. The page is read from the disk unless `url`."""
    assert CHROMIUM is not None
    copy = made / page.replace(".html", "-tested.html")
    run = (
        "<script>addEventListener('load',async()=>{let r;try{r=await(async()=>{%s})()}catch(e){r='error: '+e}"
        "const p=document.createElement('pre');p.id='out';p.textContent=JSON.stringify(r);document.body.append(p)})"
        "</script>"
    )
    copy.write_text((made / page).read_text(encoding="utf-8") + run % script, encoding="utf-8")
    where = copy.as_uri() if url is None else f"{url}/{copy.relative_to(made)}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    try:
        done = subprocess.run(
            [*command, "--virtual-time-budget=4000", "--dump-dom", where], capture_output=True, text=True, timeout=100
        )
    finally:
        copy.unlink()
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-500:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@browser
def test_tables_sort_by_a_button(made: Path) -> None:
    script = """
      const table = document.querySelector('table.sortable'), button = table.querySelectorAll('th button')[5];
      button.focus();
      const read = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[5].textContent));
      button.click(); const up = read(); button.click();
      return {focused: document.activeElement === button, up, down: read(), said: button.parentNode.ariaSort};
    """
    found = in_browser(made, "index.html", script)
    assert found["focused"] is True
    assert found["up"] == sorted(found["up"]) and found["down"] == sorted(found["up"], reverse=True)
    assert found["said"] == "descending"


@browser
def test_charts_tell_values_under_the_pointer_and_to_the_keyboard(made: Path) -> None:
    page = next(p for p in sorted((made / "cells").iterdir()) if "resnet" in p.read_text(encoding="utf-8"))
    script = """
      const figure = document.querySelector('figure.chart'), svg = figure.querySelector('svg');
      const box = svg.getBoundingClientRect(), read = () => figure.querySelector('.readout').textContent;
      const at = (share) => svg.dispatchEvent(
        new PointerEvent('pointermove', {clientX: box.left + share * box.width, clientY: box.top + 20}));
      const press = (key) => figure.dispatchEvent(new KeyboardEvent('keydown', {key, cancelable: true}));
      at(0.08); const first = read(); at(0.97); const last = read();
      figure.focus();
      press('End'); press('ArrowLeft');
      const charts = document.querySelectorAll('figure.chart').length;
      return {first, last, before: read(), focused: document.activeElement === figure, charts};
    """
    found = in_browser(made, f"cells/{page.name}", script)
    assert found["first"].startswith("20260101-020000 000000000000 same \u00b7 searched ")
    assert "onnxruntime" in found["first"]
    assert found["last"].startswith("20260209-020000 002700270027 worse")
    assert found["before"] == "20260208-020000 002600260026 missing"
    assert found["focused"] is True and found["charts"] == 4 + 8


@browser
def test_two_nights_are_compared(made: Path) -> None:
    script = """
      location.hash = '#20260101-020000..20260207-020000';
      await new Promise((done) => setTimeout(done, 500));
      const lines = [...document.querySelectorAll('#compared tbody tr')];
      const rows = lines.map((row) => [...row.cells].map((cell) => cell.textContent));
      return {rows, said: document.getElementById('changed').textContent};
    """
    found = in_browser(made, "compare.html", script)
    assert [row[0] for row in found["rows"]] == ["<b>resnet & co</b>", "cell-1", "cell-2"]
    for row in found["rows"]:
        assert row[1:3] == ["same", "same"] and row[7] == "the reference of night 20260101-020000"
        assert row[6] == "\u22125.07 %"  # what rebuilt and searched may differ by, together
        assert -20.5 < float(row[5].replace("\u2212", "-").removesuffix(" %")) < -15
    assert "torch 2.12.0 to 2.13.0" in found["said"]


@browser
def test_pages_fit_a_telephone_and_their_charts_can_be_read_there(made: Path, served: str) -> None:
    cell = next((made / "cells").iterdir()).name
    pages = ["index.html", f"cells/{cell}", "models.html", "machines.html", "compare.html"]
    script = """
      const widths = {}, sizes = [];
      for (const page of %s) {
        const frame = document.createElement('iframe');
        frame.style.cssText = 'width:400px;height:800px;border:0';
        frame.src = '/' + page; document.body.append(frame);
        await new Promise((done) => frame.onload = done);
        widths[page] = frame.contentDocument.documentElement.scrollWidth;
        for (const text of frame.contentDocument.querySelectorAll('svg text')) {
          const svg = text.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
          sizes.push(scale * parseFloat(frame.contentWindow.getComputedStyle(text).fontSize));
        }
      }
      return { widths, sizes };
    """
    found = in_browser(made, "index.html", script % json.dumps(pages), served)
    assert set(found["widths"]) == set(pages)
    assert max(found["widths"].values()) <= 400
    assert len(found["sizes"]) > 20 and min(found["sizes"]) > 8  # pixels


def test_texts_are_legible_on_light_and_dark_pages() -> None:
    """Contrast of 4.5 at least, as WCAG 2.2 asks for text (1.4.3); of 3 for lines (1.4.11)."""
    style = (Path(site.__file__).parent / "templates" / "site.css").read_text()
    blocks = re.findall(r":root \{(.*?)\n *\}", style, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks)
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for name, ground in itertools.product(("ink", "soft", "link", "good", "bad", "open", "off"), ("page", "panel")):
            assert contrast(colours[name], colours[ground]) >= 4.5, name
        for number in range(8):
            assert contrast(colours[f"s{number}"], colours["panel"]) >= 3.0


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) > 4 else "".join(2 * c for c in colour[1:])
        channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
