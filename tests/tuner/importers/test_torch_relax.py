"""Exported programs as relax: converters of our own, and by way of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuner.baselines.exact import InFloat64
from tuner.errors import ModelError
from tuner.importers.pytorch.export import exported
from tuner.importers.pytorch.flex import plain_attention
from tuner.importers.pytorch.relax import to_relax
from tuner.importers.torch import _in_relax


class Calls(nn.Module):
    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, *values: Tensor) -> Any:
        return self.run(*values)


def _answers(run: Callable[..., Any], *values: Tensor) -> tuple[list[np.ndarray[Any, Any]], list[str]]:
    """What relax answers, and the notes of the import."""
    import tvm
    from tvm import relax

    program = exported(Calls(run).eval(), values, "torch:m:f")
    module, _, notes = _in_relax(program, tuple(f"v{i}" for i in range(len(values))), "torch:m:f")
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(value.numpy()) for value in values))
    return [part.numpy() for part in ([result] if hasattr(result, "numpy") else result)], notes


FLOATS = torch.tensor([[-1.5, 0.25, 2.0, 7.5]])
WHOLE = torch.tensor([[-3, 0, 2, 7]])


@pytest.mark.parametrize(
    ("run", "values"),
    [
        (lambda x: (x > 0).cumsum(-1), (FLOATS,)),
        (lambda x: x.cumsum(-1), (WHOLE.to(torch.int32),)),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), (FLOATS,)),
        (lambda x: torch.div(x, 2, rounding_mode="trunc"), (FLOATS,)),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), (WHOLE,)),
        (lambda x: x / 2, (WHOLE,)),
        (lambda x: x * 0.5 + 1, (WHOLE,)),
        (lambda x: x > 0.5, (WHOLE,)),
        (lambda x, y: torch.add(x, y, alpha=3), (FLOATS, WHOLE)),
        (lambda x: torch.addmm(x.sum(), x, x.T, alpha=2.0, beta=0.5), (FLOATS,)),
        (lambda x: torch.cat([torch.zeros(0), x, x + 1], -1), (FLOATS,)),
        (lambda x: (x[:, -1], x.T[-2], x.T.select(-2, -1)), (FLOATS,)),
        (lambda x, i: x[0, i], (FLOATS, torch.tensor([-1, 0, -4]))),
        (
            lambda x, i, j: (x[:, i, j], x[i, :, j], x[:, :, i[:, None], j]),
            (torch.arange(120.0).reshape(2, 3, 4, 5), torch.tensor([-1, 0]), torch.tensor([1, -2])),
        ),
        (lambda x, i: x.index_put((i,), x[i] * 2), (FLOATS[0].clone(), torch.tensor([-1, 0]))),
        (lambda x: ((x > 0) == (x > 1), (x > 0) != (x > 1), (x > 0) == True, x == x.to(torch.int64)), (FLOATS,)),  # noqa: E712
        (lambda x: torch.histc(x, 4, -2, 6), (FLOATS,)),
        (lambda x: torch.histc(x, 3, 0, 2), (torch.tensor([0.0, 1.0, 1.0, 2.0, 5.0]),)),
        (lambda x: (x.double() @ x.T.double(), x.half() @ x.T.half()), (FLOATS,)),
    ],
)
def test_results_have_the_types_and_values_of_torch(run: Callable[..., Any], values: tuple[Tensor, ...]) -> None:
    made, notes = _answers(run, *values)
    assert not notes
    result = run(*values)
    for got, want in zip(made, result if isinstance(result, tuple) else (result,), strict=True):
        assert got.dtype == want.numpy().dtype
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


def _grouped(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """torch exports it for bfloat16 alone."""
    return torch.nn.functional.grouped_mm(rows.bfloat16(), matrices.bfloat16(), offs=ends).float()


def test_groups_of_rows_are_multiplied_with_matrices_of_their_own() -> None:
    rng = torch.Generator().manual_seed(0)
    rows, matrices = torch.randn(7, 8, generator=rng), torch.randn(4, 8, 16, generator=rng)
    ends = torch.tensor([2, 2, 5, 7], dtype=torch.int32)  # the second group is empty
    want = torch.cat([rows[:2] @ matrices[0], rows[2:5] @ matrices[2], rows[5:] @ matrices[3]])
    [made], _ = _answers(_grouped, rows, matrices, ends)
    np.testing.assert_allclose(made, want.numpy(), rtol=0.03, atol=0.03)


def test_flex_attention_with_functions_of_the_user() -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    slopes = torch.tensor([0.5, 0.25])
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 8, 8, device="cpu")

    def run(query: Tensor, keys: Tensor) -> Any:
        return (
            flex_attention(query, keys, keys, score_mod=lambda score, b, h, i, j: score + slopes[h] * (0.1 * (j - i))),
            flex_attention(query, keys, keys, block_mask=mask, enable_gqa=True),
        )

    values = [torch.randn(1, 2, 8, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    query, keys = (value.double() for value in values)
    scores, places = query @ keys.transpose(2, 3) / 2, torch.arange(8)
    sloped = scores + 0.1 * slopes.reshape(2, 1, 1) * (places - places.reshape(-1, 1))
    masked = scores.masked_fill(places > places.reshape(-1, 1), -torch.inf)
    expected = [torch.softmax(s, -1) @ keys for s in (sloped, masked)]
    made, notes = _answers(run, *values)
    with torch.no_grad(), plain_attention(), InFloat64():
        exact = run(query, keys)
    for ours, wide, right in zip(made, exact, expected, strict=True):
        np.testing.assert_allclose(ours, right.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(wide.numpy(), right.numpy(), rtol=1e-6, atol=1e-6)
    assert not notes


def test_what_tvm_does_not_know_comes_by_way_of_onnx() -> None:
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    [made], [note] = _answers(lambda v: torch.fft.rfft(v).abs(), x)
    np.testing.assert_allclose(made, torch.fft.rfft(x).abs().numpy(), rtol=1e-4, atol=1e-5)
    assert note.startswith("imported by way of ONNX: TVM does not support the operator aten._fft_r2c.default")
    assert "test_torch_relax.py, line " in note


def test_a_node_is_named_by_its_module_and_its_line() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), Calls(lambda v: torch.linalg.qr(v)[0]))
    program = exported(inner, (torch.eye(3),), "torch:m:f")
    with pytest.raises(ModelError, match=r"aten.linalg_qr.default of the module 1 \(test_torch_relax.py, line \d+"):
        to_relax(program, "torch:m:f")
    with pytest.raises(ModelError, match=r"linalg_qr.*; by way of ONNX: "):
        _in_relax(program, ("x",), "torch:m:f")


def test_recurrent_layers_stay_loops() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            states: Tensor = self.layer(x)[0]
            return states

    program = exported(Last().eval(), (torch.zeros(1, 40, 4),), "torch:m:f")
    module, _, [note] = _in_relax(program, ("x",), "torch:m:f")
    assert "recurrent layers stay loops" in note
    assert len(module.functions) < 10
