"""Where the time goes, as the report has it: what limits each part, the order, and whether the sum is right."""

from __future__ import annotations

from typing import Any

import pytest

from tuner import report
from tuner.report import account, document, tables
from tuner.report import summary as summary_file


def with_account(summary: dict[str, Any], whole_s: float | None = None) -> dict[str, Any]:
    """Kernels inside the model as certified but for the first three, each with its bound, and a runtime of 1 ms."""
    rows = []
    for index, kernel in enumerate(summary["kernels"]):
        used = kernel["tuned_s"] or kernel["untuned_s"]
        bound = kernel["flops"] / 105e9
        kernel |= {"lower_bound_s": bound, "cold_bytes": 0}
        inside = [used * 1.5, used, 1.1 * bound][index] if index < 3 else used
        rows.append({"symbol": f"tuned_{kernel['task']}_x", "task": kernel["task"], "calls": kernel["weight"],
                     "seconds": inside * kernel["weight"]})  # fmt: skip
    summary["kernels"][4]["cold_bytes"] = int(1e7)  # 0.85 ms at 11.8 GB/s
    rows.append({"symbol": "pack", "task": None, "calls": 1, "seconds": 2e-3})
    total = sum(row["seconds"] for row in rows) + 1.5e-3
    summary["account"] = {
        "end_to_end_s": total if whole_s is None else whole_s, "inferences": 20, "kernels": rows,
        "memory": {"calls": 40, "seconds": 0.5e-3}, "runtime": {"calls": 90, "seconds": 1e-3},
    }  # fmt: skip
    return summary


def parts_of(summary: dict[str, Any]) -> list[account.Part]:
    return account.parts(summary, tables.kernels(summary))


def test_what_limits_a_part(summary: dict[str, Any]) -> None:
    found = {part.name.partition(" ")[2] or part.name: part for part in parts_of(with_account(summary))}
    assert found["fused_conv2d_add_relu"].limit == "slower inside the model"
    assert found["fused_conv2d4_add_relu"].limit == "cold operand"
    assert found["fused_conv2d2_add_add_relu"].limit == "near its lower bound"
    assert found["fused_conv2d6_add_relu"].limit == "far from peak"
    assert found["max_pool2d"].limit == "memory bound"
    pack = next(part for part in found.values() if part.certified_s is None and part.is_kernel)
    assert pack.name == "pack"
    assert (pack.bound_s, pack.above_s, pack.limit) == (None, None, "")
    runtime = next(part for part in found.values() if part.name == account.RUNTIME)
    assert (runtime.limit, runtime.calls, runtime.above_s) == ("runtime", 90, 1e-3)


def test_the_largest_loss_comes_first_and_all_add_up(summary: dict[str, Any]) -> None:
    summary = with_account(summary)
    found = parts_of(summary)
    above = [part.seconds if part.above_s is None else part.above_s for part in found]
    assert above == sorted(above, reverse=True)
    assert account.rest_s(summary, found) == pytest.approx(0.0, abs=1e-12)
    rows = account.table(summary, found).rows
    assert [row[0] for row in rows[-2:]] == ["not accounted for", "end to end"]
    assert len(rows) == len(found) + 2
    adds_up, against_certified = account.sentences(summary, found)
    assert adds_up.endswith("the account adds up.")
    assert "certified" in against_certified
    assert "(+" in against_certified


def test_an_account_that_does_not_add_up_says_so(summary: dict[str, Any]) -> None:
    summary = with_account(summary)
    summary["account"]["end_to_end_s"] *= 1.03
    [sentence, _] = account.sentences(summary, parts_of(summary))
    assert "(-2.9 %): the account does NOT add up" in sentence


def test_it_is_a_section_with_a_picture_after_the_comparison(summary: dict[str, Any], tmp_path: Any) -> None:
    titles = [section.title for section in document.build(summary, [], None, None).sections]
    assert "Where the time goes" not in titles
    with_account(summary)
    summary_file.save(tmp_path, summary)
    assert summary_file.load(tmp_path)["account"] == summary["account"]
    made = document.build(summary, [], None, None)
    assert [section.title for section in made.sections][:3] == ["End to end", "Where the time goes", "Kernels"]
    [picture] = made.sections[1].pictures
    assert picture.name == "account"
    assert picture.png.startswith(b"\x89PNG")
    assert "the other 7 kernels" in picture.alt
    report.render(tmp_path, [], ("html", "md"))
    assert "figures/account.png" in (tmp_path / "report.md").read_text()
    assert "Where the time goes" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end_to_end_s": 0.0}, r"account\.end_to_end_s"),
        ({"memory": {"calls": 1}}, r"account\.memory\.seconds: missing"),
        ({"kernels": [{"symbol": "a", "task": 3, "calls": 1, "seconds": 1.0}]}, r"account\.kernels\[0\]\.task"),
    ],
)
def test_a_broken_account_is_refused(summary: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with_account(summary)["account"] |= change
    with pytest.raises(Exception, match=message):
        summary_file.validate(summary)
