"""How an OpenCL device is chosen, described and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kernels.launch_plan import MAX_SHARED, MAX_THREADS
from kernels.workload import Workload
from tests.tuner.devices.opencl.hand_written import pocl
from tuner import environment
from tuner.config import MeasureConfig, ModelConfig, RunConfig, TargetConfig
from tuner.devices import resolve
from tuner.devices.device import Opening
from tuner.devices.finding import State
from tuner.devices.opencl import OPENCL, target
from tuner.devices.opencl.facts import POCL, Facts
from tuner.errors import ConfigError, TargetError, TunerError
from tuner.progress import Progress
from tuner.protocols import Task
from tuner.records import Fidelity, Measurement, Record, Status
from tuner.store import SqlStore
from tuner.tuning.earlier import earlier

Found = tuple[Facts, ...] | str


def facts(name: str, platform: str, number: int, processor: str = "", **more: Any) -> Facts:
    return Facts(
        **{
            "platform": platform, "name": name, "number": number, "version": "1.0", "processor": processor,
            "compute_units": 4, "max_threads": 256, "local_bytes": 32768, "global_bytes": 1 << 30,
            "cache_bytes": 1 << 20, "preferred_multiple": 64, "alignment": 128, "extensions": ("cl_khr_fp64",), **more,
        }
    )  # fmt: skip


CPU = facts("pthread-A CPU", POCL, 0, "A CPU", max_threads=4096, local_bytes=1 << 20, preferred_multiple=8)
RADEON = facts("gfx1100", "AMD Accelerated Parallel Processing", 1, extensions=("cl_khr_fp16",))
ARC = facts("Arc A770", "Intel(R) OpenCL Graphics", 2)
EVERY = (RADEON, ARC, CPU)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Found], None]]:
    """Lets these devices be the ones of this machine."""

    def of(found: Found) -> None:
        monkeypatch.setattr(target, "find_devices", lambda threads: found)
        monkeypatch.setattr("tuner.devices.opencl.findings.find_devices", lambda threads: found)
        monkeypatch.setattr("tuner.devices.opencl.bench.find_devices", lambda threads: found)

    yield of


def resolved(spec: str | Mapping[str, Any], to_run: bool = True) -> Mapping[str, Any]:
    """The attributes of the target that a run file's `target` means."""
    return dict(json.loads(resolve.resolve(TargetConfig(spec), to_run).text))


def test_pocl_is_described_by_its_driver() -> None:
    found = pocl()
    assert found.processor
    assert found.label.startswith("PoCL ")
    assert found.label.endswith("a CPU, its times are not a GPU's")
    assert found.limits["max_threads_per_block"] == min(found.max_threads, MAX_THREADS)
    assert found.limits["max_shared_memory_per_block"] == min(found.local_bytes, MAX_SHARED)
    assert Facts.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_auto_takes_a_gpu_and_never_a_cpu_by_itself(here: Callable[[Found], None]) -> None:
    here(EVERY)
    assert OPENCL.is_automatic()
    assert resolved("auto")["kind"] == "opencl"
    here((CPU,))
    assert OPENCL.is_here()
    assert not OPENCL.is_automatic()
    assert resolved("auto")["kind"] == "llvm"


def test_a_gpu_is_preferred_and_its_limits_are_the_target_s(here: Callable[[Found], None]) -> None:
    here(EVERY)
    made = resolve.resolve(TargetConfig("opencl"))
    assert json.loads(made.text) == {
        "kind": "opencl", "model": "AMD Accelerated Parallel Processing / gfx1100", "max_threads_per_block": 256,
        "max_num_threads": 256, "max_shared_memory_per_block": 32768, "thread_warp_size": 64,
    }  # fmt: skip
    assert made.device == "gfx1100 (AMD Accelerated Parallel Processing, driver 1.0)"
    assert made.tvm().kind.name == "opencl"


@pytest.mark.parametrize(
    ("chosen", "device"),
    [
        ({"device": 0}, CPU),
        ({"device": 1}, RADEON),
        ({"device": "arc"}, ARC),
        ({"platform": "intel"}, ARC),
        ({"platform": 0}, CPU),
        ({"platform": POCL, "device": 0}, CPU),
        ({"platform": 2, "device": "A770"}, ARC),
        ({"model": ARC.model}, ARC),
        ({}, RADEON),
    ],
)
def test_a_device_is_chosen_by_name_or_number(
    chosen: Mapping[str, Any], device: Facts, here: Callable[[Found], None]
) -> None:
    here(EVERY)
    assert resolved({"kind": "opencl", **chosen})["model"] == device.model


def test_smaller_limits_are_kept(here: Callable[[Found], None]) -> None:
    here(EVERY)
    assert resolved({"kind": "opencl", "max_threads_per_block": 64})["max_threads_per_block"] == 64


def test_a_device_elsewhere_can_be_compiled_for(here: Callable[[Found], None]) -> None:
    here("the package pyopencl")
    made = resolve.resolve(
        TargetConfig({"kind": "opencl", "model": "X / Y", "max_threads_per_block": 512}), to_run=False
    )
    assert made.device == target.NOT_HERE


def test_scopes_of_a_cpu_and_a_gpu_never_meet() -> None:
    text = "the same target"
    labels = {CPU.label, RADEON.label, facts("pthread-A CPU", POCL, 0, "A CPU", compute_units=2).label}
    assert len({OPENCL.scope(text, label, 2, "hot") for label in labels}) == 3
    assert OPENCL.scope(text, RADEON.label, 2, "hot") not in {
        kind.scope(text, RADEON.label, 2, "hot") for kind in resolve.all_kinds() if kind is not OPENCL
    }


def test_records_of_a_cpu_are_never_a_gpu_s(tmp_path: Path) -> None:
    """Not measured again, not a winner, not learned from, not compared: whatever the target's text."""
    text, gpu = "the same target", OPENCL.scope("the same target", RADEON.label, 2, "hot")
    measured = Measurement(Status.OK, (1e-3,), Fidelity.SCREEN)
    ways = [(OPENCL, CPU.label), (resolve.kind_named("simulated_cuda"), "Simulated GPU: its times are estimates")]
    with closing(SqlStore(f"sqlite:///{tmp_path}/r.db")) as store:
        for kind, label in ways:
            scope = kind.scope(text, label, 2, "hot")
            assert environment.stands_apart(scope) and not environment.stands_apart(gpu)
            store.append([Record("run", "key", "name", scope, 1, '[0,[],""]', "random", measured, 0, "2026-01-01",
                                 features=(1.0,), columns=("a",))])  # fmt: skip
        for scope in (gpu, resolve.kind_named("cuda").scope(text, "A GPU", 2, "hot")):
            assert store.read(scope=scope) == []
            assert earlier(store, ("a",), scope, ()) == []


def task(*dtypes: str) -> Task:
    from kernels.tensors import TensorSpec

    return Task(Workload("product", "0123456789abcdef", "", tuple(TensorSpec((2,), d) for d in dtypes), 1, 1.0), "t")


def spec_of(**more: Any) -> Callable[[Path], object]:
    return lambda folder: resolve.resolve(TargetConfig({"kind": "opencl", **more}))


def without_half(folder: Path) -> None:
    target = resolve.resolve(TargetConfig({"kind": "opencl", "device": "arc"}))
    OPENCL.require_arithmetic(target, [task("float32"), task("float32", "float16")])


def without_double(folder: Path) -> None:
    target = resolve.resolve(TargetConfig({"kind": "opencl", "device": "gfx1100"}))
    OPENCL.require_arithmetic(target, [task("float64")])


def a_mode_of_cpus(folder: Path) -> object:
    made = resolve.resolve(TargetConfig("opencl"))
    return OPENCL.open(Opening(made, MeasureConfig(mode="model"), 1, folder, folder, Progress()))


NONE, NO_DRIVER = "the package pyopencl", "an OpenCL device (no driver offers one)"
WRONG: Mapping[str, tuple[Found, Callable[[Path], object], type[TunerError], str, str]] = {
    "no package": (NONE, spec_of(), TargetError, "missing here", "pip install"),
    "no package, by name": (NONE, lambda _: resolve.resolve(TargetConfig("opencl")), TargetError,
                            "target opencl: missing here: the package pyopencl", "target: llvm"),
    "no driver": (NO_DRIVER, lambda _: resolve.resolve(TargetConfig("opencl")), TargetError,
                  "missing here: an OpenCL device", "install the driver"),
    "a platform where there is none": (NONE, spec_of(platform="AMD"), TargetError, "target.spec.platform: missing here",
                                       "pip install"),
    "no such platform": (EVERY, spec_of(platform="NVIDIA"), TargetError, "spec.platform: missing here: 'NVIDIA'",
                         "there are: 0: Portable Computing Language / pthread-A CPU; 1: AMD"),
    "platform beyond the last": (EVERY, spec_of(platform=3), TargetError, "platform: missing here: 3", "there are"),
    "no such device": (EVERY, spec_of(device="H100"), TargetError, "spec.device: missing here: 'H100'", "there are"),
    "device beyond the last": (EVERY, spec_of(device=3), TargetError, "spec.device: missing here: 3", "there are"),
    "negative device": (EVERY, spec_of(device=-1), TargetError, "target.spec.device: missing here: -1", "there are"),
    "device of another platform": (EVERY, spec_of(platform="Intel", device="gfx1100"), TargetError,
                                   "target.spec.device: missing here: 'gfx1100'", "there are"),
    "a device that is a list": (EVERY, spec_of(device=[0]), TargetError, "neither a name nor a number", "there are"),
    "a device that is true": (EVERY, spec_of(device=True), TargetError, "neither a name nor a number", "there are"),
    "an empty name": (EVERY, spec_of(device=""), TargetError, "neither a name nor a number", "there are"),
    "a model that is not here": (EVERY, spec_of(model="X / Y"), TargetError,
                                 "target.spec.model: missing here: an OpenCL device 'X / Y'", "there are"),
    "too many threads": (EVERY, spec_of(max_threads_per_block=512), TargetError,
                         "target.spec.max_threads_per_block: 512, but gfx1100 allows 256", "leave it out"),
    "too much local memory": (EVERY, spec_of(max_shared_memory_per_block=1 << 20), TargetError,
                              "spec.max_shared_memory_per_block: 1048576, but gfx1100 allows 32768", "leave it out"),
    "an attribute that TVM has not": (EVERY, spec_of(warps=4), TargetError, "target.spec.warps: unknown key",
                                      "known here: "),
    "a misspelt attribute": (EVERY, spec_of(platfrom="AMD"), TargetError, "target.spec.platfrom: unknown key",
                             "did you mean 'platform'?"),
    "threads among the attributes": (EVERY, spec_of(threads=2), TargetError, "target.spec.threads: unknown key",
                                     "target: {spec: {kind: ...}, threads: 2}"),
    "a misspelt kind": (EVERY, lambda _: resolve.resolve(TargetConfig("opncl")), ConfigError, "target.spec", "opencl"),
    "float16 without the extension": (EVERY, without_half, TargetError,
                                      "float16 needs the extension cl_khr_fp16, which Arc A770 has not", "another"),
    "float64 without the extension": (EVERY, without_double, TargetError,
                                      "float64 needs the extension cl_khr_fp64, which gfx1100 has not", "another"),
    "a mode of CPUs": (EVERY, a_mode_of_cpus, ConfigError, "'model' is no mode of opencl devices", "hot"),
}  # fmt: skip
"""What is here, what is asked for, and what the one error says."""


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_use_gives_one_clear_error(name: str, here: Callable[[Found], None], tmp_path: Path) -> None:
    found, use, kind, message, hint = WRONG[name]
    here(found)
    with pytest.raises(kind) as caught:
        use(tmp_path)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_the_doctor_says_what_there_is(here: Callable[[Found], None]) -> None:
    def states(found: Found, wanted: str) -> list[State]:
        here(found)
        return [f.state for f in OPENCL.findings(RunConfig(ModelConfig("onnx:any"), target=TargetConfig(wanted)))]

    assert states(EVERY, "opencl") == [State.OK] * 3
    assert states((CPU,), "opencl") == [State.OK, State.NOTE]
    assert states((CPU,), "auto") == [State.OK]
    assert states(NONE, "opencl") == [State.BROKEN]
    assert states(NO_DRIVER, "auto")[0] in (State.NOTE, State.WARNING)
