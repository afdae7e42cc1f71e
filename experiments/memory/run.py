"""The memory of whole models on a GPU: the plan beside its lower bound, TVM's own plan, and PyTorch's peak.

python experiments/memory/run.py [MODEL ...] [--torch] [--json FILE]

Nothing is run on a GPU: plans are made for one, and counted. PyTorch's peak is that of the bytes of live tensors on a
CPU, followed through every operator by its own hooks; weights and inputs are left out, as they are of the plans.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.backend.cuda import pipeline
from tvm.target import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, write_json
from tuner.commands.prepare import imported
from tuner.config import load
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.graph.clobbering import clobbered
from tuner.graph.plan import plan

MODELS = (
    "resnet", "vgg19", "densenet121", "inception_v1", "inception_v2", "squeezenet", "alexnet", "zfnet512", "shufflenet",
    "mobilenet_v2", "vit_small", "bert_base",
)  # fmt: skip
ALIGNMENT = 256
TARGET = Target({"kind": "cuda", "arch": "sm_80"})


def row(name: str, with_torch: bool) -> dict[str, Any]:
    """What a model needs besides its weights, inputs and outputs, in bytes."""
    config = load(str(ROOT / "configs" / f"{name}.yaml"))
    model = imported(config)
    lowered = lower(clean(model.module), GraphConfig(), TARGET)
    planned, over = plan(lowered, ALIGNMENT), plan(lowered, ALIGNMENT, in_place=True)
    peak = _peak_of_torch(model) if with_torch else None
    return {
        "model": name, "calls": len(planned.calls), "lower_bound": planned.live_bytes, "plan": planned.arena_bytes,
        "over_bound": planned.arena_bytes / max(planned.live_bytes, 1),
        "clobbered": clobbered(lowered, planned) or clobbered(lowered, over),
        "in_place": over.arena_bytes, "in_place_over_bound": over.arena_bytes / max(over.live_bytes, 1),
        "tvm": _plan_of_tvm(lowered), "pytorch_peak": peak,
    }  # fmt: skip


def _plan_of_tvm(lowered: Lowered) -> int:
    """The bytes of all storages that TVM's StaticPlanBlockMemory makes."""
    module = lowered.module
    for step in (*pipeline.dataflow_lower_passes(TARGET), relax.transform.StaticPlanBlockMemory()):
        module = step(module)
    total = 0
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            operator = getattr(getattr(binding.value, "op", None), "name", "")
            if operator == "relax.memory.alloc_storage":
                total += int(binding.value.args[0].values[0])
    return total


def _peak_of_torch(model: Any) -> int | None:
    """The most bytes of tensors that live at once while PyTorch runs the model, without weights and inputs."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from tuner import importers

    try:
        module, _ = importers.torch_module(model.model_spec)
    except Exception as error:  # noqa: BLE001 - whatever keeps PyTorch from this model is no matter of the plans
        print(f"PyTorch: {type(error).__name__}: {str(error)[:120]}", flush=True)
        return None
    inputs = [torch.from_numpy(np.asarray(i)) for i in importers.model_inputs(model.inputs, model.model_spec, 0)]
    known = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers(), *inputs]}

    class Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.live: dict[int, int] = {}
            self.peak = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, (tuple, list)) else (made,):
                if isinstance(tensor, torch.Tensor):
                    self._seen(tensor)
            self.peak = max(self.peak, sum(self.live.values()))
            return made

        def _seen(self, tensor: Any) -> None:
            storage = tensor.untyped_storage()
            key = storage.data_ptr()
            if key and key not in known and key not in self.live:
                self.live[key] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, key, None)

    with torch.no_grad(), Followed() as followed:
        module(*inputs)
    return int(followed.peak)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, in MiB."""
    lines = [
        "| model | calls | lower bound | plan | plan / bound | in place | TVM's plan | PyTorch's peak | clobbered |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|:--|",
    ]
    for found in rows:
        mib = {key: found[key] / 2**20 for key in ("lower_bound", "plan", "in_place", "tvm")}
        peak = "" if found["pytorch_peak"] is None else f"{found['pytorch_peak'] / 2**20:.2f}"
        lines.append(
            f"| {found['model']} | {found['calls']} | {mib['lower_bound']:.2f} | {mib['plan']:.2f} | "
            f"{found['over_bound']:.4f} | {mib['in_place']:.2f} | {mib['tvm']:.2f} | {peak} | "
            f"{found['clobbered'] or 'nothing'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--torch", action="store_true", help="PyTorch's peak, too: each model is run once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        rows.append(row(name, arguments.torch))
        print(rows[-1], flush=True)
        if arguments.json:
            write_json(arguments.json, {"target": str(TARGET.kind), "alignment": ALIGNMENT, "models": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
