"""Kernels that fit together: what threads share in a planned model, and which candidates take the least time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from tvm.target import Target

from kernels.shares import Box, Shares
from kernels.space import Candidate
from tuner import importers
from tuner.devices.cpu.sharing import Sharing, together
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.graph.plan import plan

ROWS, WIDTH = 64, 256
LINES = ROWS * WIDTH * 4 // 64
TRIP_S = 1e-7


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.softmax(layer(x), -1)
        return x


def chain() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Chain().eval(), (torch.randn(ROWS, WIDTH),)


class Varied(nn.Module):
    """Four kernels, none like another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = self.layers
        return fourth(torch.sigmoid(third(torch.tanh(second(torch.relu(first(x)))))))  # type: ignore[no-any-return]


def varied() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Varied().eval(), (torch.randn(ROWS, WIDTH),)


def lowered(name: str) -> Lowered:
    model = importers.load(f"torch:{__name__}:{name}", 64, {}, "random", 0)
    target = Target({"kind": "llvm", "num-cores": 2})
    return lower(clean(model.module), GraphConfig(), target)


@pytest.fixture(scope="module")
def graph() -> Lowered:
    return lowered("chain")


def half(thread: int, axis: int) -> Box:
    extents = (ROWS, WIDTH)
    box = [(0, extent) for extent in extents]
    box[axis] = (thread * extents[axis] // 2, (thread + 1) * extents[axis] // 2)
    return tuple(box)


def divided(arguments: int, by_rows: bool) -> Shares:
    """Of a kernel that reads its first argument and writes its last: by rows, each thread reads and writes its own; by
    columns, each reads all."""
    whole: Box = ((0, ROWS), (0, WIDTH))
    axis = 0 if by_rows else 1
    reads = tuple(frozenset({(0, half(t, 0) if by_rows else whole)}) for t in range(2))
    return Shares(reads, tuple(frozenset({(arguments - 1, half(t, axis))}) for t in range(2)))


BY_COLUMNS, BY_ROWS = Candidate(0, (0,)), Candidate(0, (1,))


def shares_of(graph: Lowered) -> dict[tuple[str, Candidate], Shares]:
    return {
        (task.key, candidate): divided(len(task.workload.args), candidate == BY_ROWS)
        for task in graph.tasks
        for candidate in (BY_COLUMNS, BY_ROWS)
    }


def test_threads_keep_their_rows_where_that_costs_nothing(graph: Lowered) -> None:
    options = {task.key: {BY_COLUMNS: 1e-4, BY_ROWS: 1e-4} for task in graph.tasks}
    found = together(graph, plan(graph), options, shares_of(graph), TRIP_S)
    assert set(found.candidates.values()) == {BY_ROWS}
    assert found.shared_s == 0.0
    assert found.alone_s == found.fastest_s[0]


def test_lines_that_another_thread_read_cost_their_writer_a_tenth_of_a_round_trip(graph: Lowered) -> None:
    options = {task.key: {BY_COLUMNS: 1e-4} for task in graph.tasks}
    found = together(graph, plan(graph), options, shares_of(graph), TRIP_S)
    tensors = sum(task.weight for task in graph.tasks) - 1  # the model's output is its caller's
    writing_s = tensors * LINES / 2 * TRIP_S / 10  # each thread writes its half, in parallel
    assert found.shared_s == pytest.approx(writing_s, rel=0.15)
    twice = together(graph, plan(graph), options, shares_of(graph), 2 * TRIP_S)
    assert twice.shared_s == pytest.approx(2 * found.shared_s)


def test_a_kernel_that_is_much_slower_by_rows_stays(graph: Lowered) -> None:
    options = {task.key: {BY_COLUMNS: 1e-4, BY_ROWS: 2e-4} for task in graph.tasks}
    found = together(graph, plan(graph), options, shares_of(graph), TRIP_S)
    assert set(found.candidates.values()) == {BY_COLUMNS}


def test_kernels_divided_alike_beat_a_mixture_of_what_shares_least_alone() -> None:
    """The first kernel can only be divided by rows. The others share nothing by columns, and a row more by rows: one
    of them changed alone would only move the place where columns follow rows."""
    graph = lowered("varied")
    assert [task.weight for task in graph.tasks] == [1, 1, 1, 1]

    def of(axis: int, further: int) -> Shares:
        read = [list(half(t, axis)) for t in range(2)]
        read[0][axis] = (0, read[0][axis][1] + further)
        reads = tuple(frozenset({(0, tuple(box))}) for box in read)
        return Shares(reads, tuple(frozenset({(1, half(t, axis))}) for t in range(2)))

    shares: dict[tuple[str, Candidate], Shares] = {}
    options: dict[str, dict[Candidate, float]] = {}
    first = graph.kernels[plan(graph).calls[0].kernel]
    for task in graph.tasks:
        last = len(task.workload.args) - 1
        for candidate, parts in ((BY_ROWS, of(0, 1)), (BY_COLUMNS, of(1, 0))):
            writes = tuple(frozenset({(last, box) for _, box in boxes}) for boxes in parts.writes)
            shares[task.key, candidate] = Shares(parts.reads, writes)
        options[task.key] = {BY_ROWS: 1e-4} if task.key == first else {BY_COLUMNS: 1e-4, BY_ROWS: 1e-4}
    found = together(graph, plan(graph), options, shares, TRIP_S)
    assert set(found.candidates.values()) == {BY_ROWS}


def test_what_is_not_known_to_share_costs_its_own_time_alone(graph: Lowered) -> None:
    options = {task.key: {BY_COLUMNS: 1e-4, BY_ROWS: 2e-4} for task in graph.tasks}
    found = together(graph, plan(graph), options, {}, TRIP_S)
    assert set(found.candidates.values()) == {BY_COLUMNS}
    assert found.shared_s == 0.0


def test_real_kernels_are_divided_otherwise_and_fit(graph: Lowered, tmp_path: Path) -> None:
    from kernels.passes import PASSES
    from tuner.devices.cpu import CPU

    builder = CPU.builder('{"kind": "llvm", "num-cores": 2}', tmp_path, 1, 60)
    try:
        sharing = Sharing(builder, 2, lambda: TRIP_S)
        options: dict[str, dict[Candidate, float]] = {}
        for task in graph.tasks:
            space = builder.space(task, tuple(PASSES))
            finalists = list(space.initial_candidates()[:3])
            forms = sharing.alternatives(task, finalists)
            assert {base for base, _ in forms.values()} <= set(finalists)
            assert all(1.0 <= times <= 2.0 for _, times in forms.values())
            assert all("threads{" in form.passes.to_text() for form in forms)
            options[task.key] = dict.fromkeys([*finalists, *forms], 1e-4)
        found = sharing.choose(graph, options)
        assert found is not None
        assert found.shared_s <= found.fastest_s[1]
        assert Sharing(builder, 2, lambda: None).choose(graph, options) is None
    finally:
        builder.close()
