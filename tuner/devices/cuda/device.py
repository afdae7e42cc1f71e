"""A run on this machine's first GPU. Never ran on one: docs/gpu.md says what was checked instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuner import files
from tuner.commands import whole_model as whole
from tuner.commands.prepare import RunContext, tvm_target
from tuner.devices.device import Finished
from tuner.errors import TargetError
from tuner.protocols import RANK, Bench, ImportedModel, Task

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.graph import Lowered
    from tuner.measure.models import EntrySpec
    from tuner.tuning.phase import SearchResult

_ON_CPU = "onnxruntime_cpu"
"""ONNX Runtime beside rivals on the GPU: an independent answer, and no rival in speed."""

_ONNX_RUNTIME = {
    _ON_CPU: "onnxruntime", "onnxruntime_cuda": "onnxruntime_cuda", "onnxruntime_cuda_graph": "onnxruntime_cuda_graph",
}  # fmt: skip
"""Entrants by their names in the report, and the baseline that each of them is."""

_CEILINGS_TIMEOUT_S = 120.0
_KERNEL_TIMEOUT_S = 120.0


class OnGpu:
    """Implements `Device`. Kernels are cubins in a child with its own context; the model is one CUDA graph.

    Unlike on a CPU the model's winners are compiled again, all in one module.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._about: Mapping[str, Any] = {}
        self.bench: Bench
        if run.replay is not None:
            from tuner.measure.replay import Recording, ReplayBench

            recording = Recording.load(run.replay)
            self.ceilings = dict(recording.ceilings)
            self.bench = ReplayBench(recording)
            return
        from tuner.devices.cuda.bench import open_gpus

        [opened] = open_gpus([0], run.target.features[0], run.config.measure.mode)
        self._about = opened.description
        self.bench = opened
        run.progress.phase("measuring this GPU's ceilings")
        self.ceilings = _ceilings()

    def lower_bound_s(self, task: Task) -> float:
        """From memory traffic alone; 0 where the device does not tell its memory's speed."""
        from tuner.devices.cuda.runner import lower_bound_s

        if not self._about:
            return 0.0
        moved = sum(spec.nbytes for spec in task.workload.args)
        return lower_bound_s(moved, int(self._about["l2_bytes"]), float(self._about["peak_bytes_per_s"]))

    def kernel_baselines(self, found: SearchResult) -> dict[str, dict[str, list[float]]]:
        from tuner.process.worker import Child

        run = self._run
        if not run.config.baselines.kernels or run.interrupted() or not self._about:
            return {}
        run.progress.phase("timing cuDNN's and cuBLAS's kernels")
        policy = dataclasses.asdict(dataclasses.replace(RANK, max_time_s=0.5))
        settings = {
            "runner": "tuner.devices.cuda.kernel_service:runner", "device": 0, "mode": run.config.measure.mode,
            "bus_id": self._about["bus_id"],
        }  # fmt: skip
        counterparts = [task for task in found.lowered.tasks if task.workload.origin]
        with Child("tuner.devices.cuda.torch_services:KernelsOnGpu", settings) as child:

            def ask(task: Task) -> Any:
                origin, dtype = dict(task.workload.origin), task.workload.args[0].dtype
                return child.call("time", _KERNEL_TIMEOUT_S, origin=origin, dtype=dtype, policy=policy)

            return whole.time_each(run, counterparts, ask)

    def parts(self, found: SearchResult, winners: Mapping[str, Candidate]) -> Mapping[str, Any]:
        """The scheduled program of each winner."""
        sessions = {key: found.sessions[key] for key in winners}
        return {
            key: whole.scheduled(session.task, session.space, winners[key], self._run.target)
            for key, session in sessions.items()
        }

    def whole_model(
        self, model: ImportedModel, graph: Lowered, parts: Mapping[str, Any], versions: Mapping[str, str]
    ) -> Finished:
        from tuner.devices.cuda.assembly import assemble_gpu
        from tuner.measure.models import TUNED, UNTUNED

        run, target = self._run, tvm_target(self._run.target)
        run.progress.phase("compiling the tuned model")
        manifest = whole.export(model, graph, assemble_gpu(graph, parts, target), run.work, run.target, versions)
        if not self._about:
            run.notes.append("not exported: without a GPU its outputs are not verified")
            return None, None
        rivals = [self._entrant(TUNED, run.work / "export" / "model.so")]
        if "untuned" in run.config.baselines.models and not run.interrupted():
            run.progress.phase("compiling untuned TVM for comparison")
            plain = run.work / "untuned.so"
            assemble_gpu(graph, {}, target).export_library(str(plain))
            rivals.append(self._entrant(UNTUNED, plain))
        rivals += self._rivals(model, half=model.inputs[0].dtype == "float16")
        contest = whole.contest(run, model, rivals, (_ON_CPU, "torch"))
        whole.check_original_weights(
            run,
            graph,
            lambda original_weights_model: assemble_gpu(original_weights_model, parts, target),
            contest,
            device="cuda",
        )
        if why_not := whole.why_not_exported(run, contest):
            contest.notes.append(f"not exported: {why_not}")
            return contest, None
        files.replace_folder(run.work / "export", run.folder / "export")
        return contest, manifest

    def close(self) -> None:
        self.bench.close()

    def _entrant(self, name: str, path: Any) -> EntrySpec:
        from tuner.measure.models import EntrySpec

        settings = {"library": str(path), "threads": self._run.target.threads, "device": "cuda"}
        return EntrySpec(name, "tuner.measure.compiled_model:CompiledModelWorker", settings)

    def _rivals(self, model: ImportedModel, half: bool) -> list[EntrySpec]:
        """PyTorch in each way that was asked for and ONNX Runtime; the latter on the CPU too, to check against."""
        from tuner.devices.cuda.torch_services import settings_of
        from tuner.measure.models import EntrySpec

        model_spec, provider = dict(model.model_spec), "tuner.importers:torch_module"
        found = [
            EntrySpec(
                setting.name,
                "tuner.devices.cuda.torch_services:ModelOnGpu",
                {"setting": setting.name, "model_spec": model_spec, "provider": provider},
            )
            for setting in settings_of(self._run.config.baselines.models, half)
        ]
        if "onnxruntime" in self._run.config.baselines.models:
            common = {
                "model_spec": model_spec,
                "threads": self._run.target.threads,
                "provider": "tuner.importers:onnx_bytes",
            }
            for name, baseline in _ONNX_RUNTIME.items():
                found.append(EntrySpec(name, "tuner.baselines.worker:BaselineWorker", {"baseline": baseline, **common}))
        return found


def _ceilings() -> dict[str, Any]:
    """What this GPU can do at most. Raises TargetError where PyTorch cannot use it."""
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    with Child("tuner.devices.cuda.torch_services:CeilingsOfGpu") as child:
        try:
            return dict(child.call("measure", _CEILINGS_TIMEOUT_S))
        except (ChildDied, ChildError, ChildTimeout) as error:
            raise TargetError(
                f"PyTorch cannot use this GPU, and without it there is nothing to compare with: {str(error)[:300]}",
                "install a build of PyTorch for CUDA; or bundle, measure and absorb, which do without",
            ) from error
