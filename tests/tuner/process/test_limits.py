"""Limits of children: what is refused is refused, what is needed still works. Each in a child of its own."""

from __future__ import annotations

import pytest

from tuner.process.limits import Limits, for_compilers, for_kernels
from tuner.process.worker import Child, ChildDied, ChildError

SERVICE = "tests.tuner.hostile:Limited"


def test_without_limits_nothing_is_limited() -> None:
    with Child(SERVICE) as child:
        assert child.call("run_program", 60) == 0
        assert child.call("leave_group", 10)
        assert child.call("allocate", 10, size=3 << 30)


def test_a_kernels_child() -> None:
    with Child(SERVICE, limits=for_kernels()) as child:
        assert child.call("threads", 60, count=8) == 8
        assert child.call("allocate", 10, size=256 << 20)
        assert not child.call("allocate_within", 10, size=256 << 20, growth=128 << 20)
        assert child.call("allocate_within", 10, size=64 << 20, growth=128 << 20)
        assert child.call("allocate", 10, size=256 << 20)
        assert not child.call("allocate", 10, size=1 << 45)
        for op in ("run_program", "leave_group", "fork"):
            with pytest.raises(ChildError) as caught:
                child.call(op, 10)
            assert caught.value.kind in ("PermissionError", "BlockingIOError")
        assert child.call("write_file", 10, size=65 << 20) == 64 << 20
        assert child.call("write_large_file", 10, size=65 << 20) == 65 << 20


def test_a_compilers_child() -> None:
    with Child(SERVICE, limits=for_compilers()) as child:
        assert child.call("run_program", 60) == 0
        with pytest.raises(ChildError) as caught:
            child.call("leave_group", 10)
        assert caught.value.kind == "PermissionError"


def test_what_a_child_of_a_compiler_starts_cannot_leave_the_group_either() -> None:
    with Child(SERVICE, limits=for_compilers()) as child:
        assert child.call("program_leaves_group", 60) != 0
    with Child(SERVICE) as child:
        assert child.call("program_leaves_group", 60) == 0


def test_memory_in_all() -> None:
    with Child(SERVICE, limits=Limits(memory_bytes=2 << 30)) as child:
        assert not child.call("allocate", 60, size=2 << 30)
        assert child.call("allocate", 60, size=64 << 20)


def test_no_crash_leaves_a_core() -> None:
    with Child(SERVICE) as child:
        assert child.call("core_limit", 60) == [0, 0]
        with pytest.raises(ChildDied):
            child.call("abort", 60)
