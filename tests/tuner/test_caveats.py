"""Caveats of times: as data, and beside every time that a command shows of a device whose times are not its own."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests import null_device, unlabelled
from tests.null_device import NULL, NullKind
from tests.test_null_device import Ran, config_of, run, store_model
from tests.tuner.report.test_ladder import told
from tuner import cli
from tuner.caveats import MEASURED, NONE, OWN, Caveat, Caveats
from tuner.commands import show
from tuner.devices import resolve
from tuner.devices.opencl.facts import A_CPU
from tuner.progress import task_line
from tuner.records import Fidelity, Record
from tuner.report import html as page
from tuner.report import ladder, ladder_page

KERNEL = Caveat("kernel-words", "Times of kernels are nobody's.")
MODEL = Caveat("model-words", "Times of models are nobody's.")
WORDS, SENTENCES = (KERNEL.words, MODEL.words), (KERNEL.sentence, MODEL.sentence)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A run on a null device whose times have caveats; it is known while this module is tested."""
    folder = tmp_path_factory.mktemp("runs")
    store_model(folder / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr(NullKind, "caveats", lambda kind, device: Caveats(KERNEL, MODEL))
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        yield run(config_of(folder, "runs", trials=8, formats="html, md, csv"))


def test_a_time_without_a_caveat_is_measured() -> None:
    assert (NONE.beside("1 ms"), NONE.sentences, NONE.source) == ("1 ms", (), MEASURED)
    assert (KERNEL.beside("1 ms"), KERNEL.source) == ("1 ms (kernel-words)", "kernel-words")
    assert OWN.sentences == ()
    assert Caveats(KERNEL, MODEL).sentences == SENTENCES
    assert Caveats(KERNEL, KERNEL).sentences == (KERNEL.sentence,)


def test_caveats_are_kept_as_data() -> None:
    both = Caveats(KERNEL, MODEL)
    assert Caveats.from_json(json.loads(json.dumps(both.to_json()))) == both
    damaged: list[object] = [None, [], "words", {"kernel": 3}, {"kernel": {"words": 3}}]
    assert [Caveats.from_json(data) for data in damaged] == [OWN] * len(damaged)


@pytest.mark.parametrize("name", resolve.KINDS)
def test_what_has_words_has_a_sentence(name: str) -> None:
    kind = resolve.kind_named(name)
    for device in ("a device", f"a device: {A_CPU}"):
        for caveat in (kind.caveats(device).kernel, kind.caveats(device).model):
            assert bool(caveat.words) == bool(caveat.sentence)


def test_every_time_of_a_report_says_what_it_is(ran: Ran) -> None:
    assert not unlabelled.in_markdown((ran.folder / "report.md").read_text(), WORDS, SENTENCES)


def test_the_page_says_what_the_text_says(ran: Ran) -> None:
    text, shown = ((ran.folder / f"report.{kind}").read_text() for kind in ("md", "html"))
    plain = html.unescape(re.sub("<[^>]+>", "", shown))
    without_pictures = re.sub(r"^!\[.*$", "", text, flags=re.MULTILINE)
    for said in (*WORDS, *SENTENCES):
        assert plain.count(said) == without_pictures.count(said) > 0


def test_every_row_of_the_table_for_programs_says_what_its_seconds_are(ran: Ran) -> None:
    rows = list(csv.DictReader(io.StringIO((ran.folder / "kernels.csv").read_text())))
    assert rows
    assert {row["times"] for row in rows} == {KERNEL.words}
    assert Caveats.of_summary(ran.summary) == Caveats(KERNEL, MODEL)


def test_the_terminal_says_what_every_time_is(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert not unlabelled.in_lines(ran.lines, WORDS)
    assert set(SENTENCES) <= set(ran.lines)
    facts, kernels, *_ = show.description(ran.folder)
    assert not unlabelled.in_facts(facts, WORDS)
    assert not unlabelled.in_table(kernels, WORDS)
    assert not unlabelled.in_table(show.description(ran.folder, with_records=True)[-1], WORDS)
    assert not unlabelled.in_table(show.overview(ran.config.out), WORDS)
    assert KERNEL.words in task_line("conv", 3, 1e-3, 2e-3, {}, None, KERNEL)


def test_two_trials_are_compared_with_their_caveat(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    screened: dict[str, list[Record]] = {}
    for record in ran.records:
        if record.measurement.fidelity is Fidelity.SCREEN:
            screened.setdefault(record.task_key, []).append(record)
    first, second = next(iter(screened.values()))[:2]
    names = [f"{ran.folder.name}:{record.trial}" for record in (first, second)]
    assert cli.main(["compare", *names, "--out", ran.config.out, "--time-budget", "1s"]) == 0
    printed = capsys.readouterr().out
    assert not unlabelled.in_lines(printed.splitlines(), WORDS)
    assert KERNEL.sentence in printed


@pytest.mark.parametrize("lines_of", [lambda ladder_: ladder.text(ladder_, code=False), ladder.headline])
def test_a_ladder_says_what_its_times_are(lines_of: Callable[[object], Iterator[str]]) -> None:
    explained = told(caveat=KERNEL.to_json())
    assert not unlabelled.in_lines(list(lines_of(explained)), WORDS)
    table = ladder.table(explained)
    timed = [column for column, title in enumerate(table.headers) if title != "predicted"]
    rows = [[row[column] for column in timed] for row in (table.headers, *table.rows)]
    assert not unlabelled.in_table(rows, WORDS)
    assert html.unescape(page.render(ladder_page.page(explained))).count(KERNEL.sentence) == 2


def test_the_rule_finds_a_time_that_says_nothing() -> None:
    """Of the same report without caveats: the rule is one that can fail."""
    assert unlabelled.in_lines(["a: 1.2 ms"], WORDS)
    assert not unlabelled.in_lines(["a: 1.2 ms (kernel-words)", "Search (guided) took 60.0 s: 14 trials"], WORDS)
    assert unlabelled.in_table([["kernel", "tuned"], ["a", "1.2 µs"]], WORDS)
    assert not unlabelled.in_table([["kernel", "tuned (kernel-words)"], ["a", "1.2 µs"]], WORDS)
    section = "## Kernels\n\n| kernel | tuned (kernel-words) |\n|:--|--:|\n| a | 1.2 ms |\n"
    assert unlabelled.in_markdown(section, WORDS, SENTENCES) == ["Kernels: no sentence says what its times are"]
    assert not unlabelled.in_markdown(section + KERNEL.sentence, WORDS, SENTENCES)


def test_a_kind_without_caveats_says_nothing(ran: Ran) -> None:
    assert dataclasses.asdict(OWN) == Caveats(NONE, NONE).to_json()
    assert NULL.name == ran.summary["target"]["kind"]
