"""What all targets share: their text, and how many threads they may use."""

from __future__ import annotations

import pytest

from tuner import environment
from tuner.devices.target import ResolvedTarget, canonical, threads_of
from tuner.errors import TargetError


def test_the_text_does_not_depend_on_the_order_of_the_attributes() -> None:
    assert canonical({"kind": "llvm", "num-cores": 2}) == canonical({"num-cores": 2, "kind": "llvm"})
    assert canonical({"num-cores": 2, "kind": "llvm"}) == '{"kind":"llvm","num-cores":2}'


def test_tvm_takes_the_text() -> None:
    text = canonical({"kind": "llvm", "num-cores": 1})
    assert ResolvedTarget("llvm", text, 1, "a CPU").tvm().kind.name == "llvm"


def test_threads_are_all_that_there_are_or_as_many_as_asked_for() -> None:
    usable = environment.usable_threads()
    assert threads_of(None) == usable
    assert threads_of(1) == 1
    for wanted in (0, usable + 1):
        with pytest.raises(TargetError, match=rf"here: {wanted}, but this process may use {usable}"):
            threads_of(wanted, "here")
