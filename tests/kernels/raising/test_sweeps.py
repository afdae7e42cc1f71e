"""Maps behind each other over rows: the same to the last bit, by how many threads, and in whose memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")
pytest.importorskip("islpy", reason="the extra `llvm` is not installed")

from kernels.raising import sweeps as module
from kernels.raising.sweeps import Sweeps
from tuner.baselines.original import Original, build
from tuner.errors import MissingPackage
from tuner.importers.c_source import compiler, ir_of
from tuner.importers.llvm_service import LlvmService
from tuner.protocols import Array

SOURCE = Path(__file__).parent / "sweeps.c"

CASES: Sequence[tuple[str, Mapping[str, int], int]] = [
    ("smoothed", {"t": 1, "n": 9, "m": 7}, 1), ("smoothed", {"t": 2, "n": 97, "m": 5}, 3),
    ("heat", {"t": 2, "n": 9}, 1), ("heat", {"t": 1, "n": 17}, 2), ("waves", {"t": 1, "n": 5}, 1),
    ("waves", {"t": 6, "n": 111}, 2), ("mixed", {"n": 23}, 1), ("mixed", {"n": 149}, 2),
]  # fmt: skip
"""Function, sizes, threads."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the functions' IR and a library of them."""
    try:
        compiler()
    except MissingPackage as error:
        pytest.skip(str(error))
    here = tmp_path_factory.mktemp("sweeps")
    content = ir_of(SOURCE, "-O0")
    assert isinstance(content, str)
    (here / "sweeps.ll").write_text(content)
    build({"path": str(SOURCE)}, ["-O1", "-ffp-contract=off"], here / "exact.so")
    return here


def raised(folder: Path, name: str, sizes: Mapping[str, int], threads: int) -> dict[str, Any]:
    reply = LlvmService().op_raise(str(folder / "sweeps.ll"), name, sizes, False, threads)
    assert "left_alone" not in reply, reply
    return reply


def kernels(reply: Mapping[str, Any]) -> dict[str, tvm.tirx.PrimFunc]:
    functions = tvm.ir.load_json(reply["module"]).functions.items()
    return {v.name_hint: f for v, f in functions if isinstance(f, tvm.tirx.PrimFunc)}


def given_and_wanted(folder: Path, reply: Mapping[str, Any], seed: int = 0) -> tuple[list[Array], list[Array]]:
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(t["shape"]).astype(t["dtype"]) for t in reply["inputs"]]
    original = Original(folder / "exact.so", reply["c"], inputs)
    original.launch(1)
    return inputs, original.outputs()


def called(reply: Mapping[str, Any], inputs: Sequence[Array]) -> list[Array]:
    built = tvm.relax.build(tvm.ir.load_json(reply["module"]), tvm.target.Target("llvm"))
    machine = tvm.relax.VirtualMachine(built, tvm.cpu())
    return [value.numpy() for value in machine["main"](*map(tvm.runtime.tensor, inputs))]


@pytest.mark.parametrize(("name", "sizes", "threads"), CASES)
def test_maps_behind_each_other_are_the_maps_one_after_another(
    name: str, sizes: Mapping[str, int], threads: int, folder: Path
) -> None:
    reply = raised(folder, name, sizes, threads)
    assert any(hint.startswith("sweeps") for hint in kernels(reply))
    inputs, wanted = given_and_wanted(folder, reply)
    for got, want in zip(called(reply, inputs), wanted, strict=True):
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


def test_rows_are_divided_among_threads_where_there_are_enough(folder: Path) -> None:
    [one] = kernels(raised(folder, "smoothed", {"t": 1, "n": 99, "m": 8}, 3)).values()
    assert int(one.body.block.body.extent) == 3
    [one] = kernels(raised(folder, "smoothed", {"t": 3, "n": 99, "m": 8}, 3)).values()
    assert int(one.body.block.body.extent) == 1  # ten rows of each 33 would be computed twice


@pytest.mark.parametrize(("name", "sizes"), [("smoothed", {"t": 2, "n": 33, "m": 17}), ("waves", {"t": 3, "n": 20})])
def test_the_callers_arrays_are_overwritten_in_place(name: str, sizes: Mapping[str, int], folder: Path) -> None:
    """As an exported function does: at addresses that are multiples of an element's size alone."""
    reply = raised(folder, name, sizes, 1)
    assert all(t["direct"] for t in [*reply["c"]["inputs"], *reply["c"]["outputs"]])
    [function] = kernels(reply).values()
    built = tvm.compile(function.with_attr("global_symbol", "f"), target=tvm.target.Target("llvm"))
    inputs, wanted = given_and_wanted(folder, reply)
    places: dict[str, Any] = {}
    for tensor, array in zip(reply["inputs"], inputs, strict=True):
        room = np.empty(array.size + 1, array.dtype)
        room[1:] = array.reshape(-1)
        places[tensor["name"]] = tvm_ffi.from_dlpack(room[1:].reshape(array.shape), require_alignment=array.itemsize)
    built["f"](*(places[name] for name in names_of(reply, function)))
    for tensor, want in zip(reply["c"]["outputs"], wanted, strict=True):
        assert np.from_dlpack(places[tensor["name"]]).tobytes() == want.tobytes()


def names_of(reply: Mapping[str, Any], function: tvm.tirx.PrimFunc) -> list[str]:
    """The arrays of a kernel's arguments, by the call in `main`."""
    main = tvm.ir.load_json(reply["module"])["main"]
    variables = dict(zip(main.params, (t["name"] for t in reply["inputs"]), strict=True))
    bindings = main.body.blocks[0].bindings
    given = [variables[v] for v in bindings[0].value.args[1].fields]
    places = {b.var: b.value.index for b in bindings[1:] if isinstance(b.value, tvm.relax.TupleGetItem)}
    made = [""] * len(places)
    returned = next(b.value.fields for b in bindings if isinstance(b.value, tvm.relax.Tuple))
    for variable, tensor in zip(returned, reply["c"]["outputs"], strict=True):
        made[places[variable]] = tensor["name"]
    assert len(given) + len(made) == len(function.params)
    return [*given, *made]


def test_what_reads_rows_in_another_order_is_not_behind(folder: Path) -> None:
    reply = raised(folder, "turned_over", {"n": 12}, 1)
    assert not any(hint.startswith("sweeps") for hint in kernels(reply))
    inputs, wanted = given_and_wanted(folder, reply)
    assert all(got.tobytes() == want.tobytes() for got, want in zip(called(reply, inputs), wanted, strict=True))


def test_many_steps_are_even_parts_that_fit_a_cache(folder: Path) -> None:
    reply = raised(folder, "smoothed", {"t": 20, "n": 40, "m": 33}, 1)
    main = tvm.ir.load_json(reply["module"])["main"]
    calls = [b for b in main.body.blocks[0].bindings if isinstance(b.value, tvm.ir.Call)]
    assert len(calls) == 2 and len(kernels(reply)) == 2  # twenty maps each, of which the last also leaves `y`
    inputs, wanted = given_and_wanted(folder, reply)
    assert all(got.tobytes() == want.tobytes() for got, want in zip(called(reply, inputs), wanted, strict=True))


@pytest.mark.parametrize("lag", [-1, 1])
def test_a_map_that_is_too_near_or_a_window_that_is_too_small_is_seen(
    lag: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = module._lags  # noqa: SLF001

    def sabotaged(sweeps: Sweeps) -> tuple[list[int], dict[int, int]]:
        lags, windows = right(sweeps)
        if lag < 0:
            return [max(0, one + lag) for one in lags], windows
        return lags, {number: max(1, size // 2) for number, size in windows.items()}

    monkeypatch.setattr(module, "_lags", sabotaged)
    reply = raised(folder, "smoothed", {"t": 2, "n": 20, "m": 9}, 1)
    inputs, wanted = given_and_wanted(folder, reply)
    assert any(got.tobytes() != want.tobytes() for got, want in zip(called(reply, inputs), wanted, strict=True))
