"""Children that hang, die, raise and leave things behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

SERVICE = "tests.tuner.hostile:Hostile"


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(SERVICE, {"offset": 3}, env={"TUNER_TEST_MARK": "here"}) as made:
        yield made


def test_answers_and_keeps_state(child: Child) -> None:
    assert child.call("add", 60, value=4) == 7
    assert child.call("environment", 10, name="TUNER_TEST_MARK") == "here"


def test_a_lock_of_a_child_that_is_killed_is_not_left_behind(child: Child) -> None:
    assert child.call("lock", 60) == []


def test_an_exception_is_typed_and_the_child_lives_on(child: Child) -> None:
    with pytest.raises(ChildError) as caught:
        child.call("fail", 60)
    assert caught.value.kind == "ValueError"
    assert child.call("add", 10, value=1) == 4


@pytest.mark.parametrize(
    ("op", "says"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("leave", "code 7"), ("kill_self", "SIGKILL")]
)
def test_a_death_is_reported_with_its_cause(child: Child, op: str, says: str) -> None:
    with pytest.raises(ChildDied, match=says):
        child.call(op, 60)
    assert not child.alive()


def test_a_late_child_is_killed_with_its_descendants(child: Child) -> None:
    child.call("add", 60, value=0)
    grandchild = child.call("spawn", 10)
    began = time.monotonic()
    with pytest.raises(ChildTimeout):
        child.call("hang", 0.5)
    assert time.monotonic() - began < 5
    assert not _runs(grandchild)


def test_output_flood_does_not_block(child: Child) -> None:
    assert child.call("flood", 60) == "done"


def test_closing_leaves_nothing(child: Child) -> None:
    pid = child.call("pid", 60)
    child.close()
    child.close()
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    for _ in range(50):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split(")")[1].split()[0] == "Z":
                    return False
        except FileNotFoundError:
            return False
        time.sleep(0.02)
    return True
