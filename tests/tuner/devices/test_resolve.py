"""The table of devices: what `auto` means here, what is refused and which field is blamed."""

from __future__ import annotations

from typing import Any

import pytest

from tests import null_device
from tuner import environment
from tuner.config import TargetConfig
from tuner.devices import resolve as devices
from tuner.devices.cpu import CPU
from tuner.devices.cuda import CUDA
from tuner.devices.cuda import target as cuda_target
from tuner.devices.cuda.simulated import SIMULATED_CUDA
from tuner.devices.resolve import caveats_of, kind_of, kind_of_text, resolve
from tuner.errors import ConfigError, TargetError


def test_every_line_of_the_table_names_the_kind_of_its_target() -> None:
    assert {name: devices.kind_named(name).name for name in devices.KINDS} == {name: name for name in devices.KINDS}


def test_the_simulated_gpu_is_taken_where_it_is_named_alone() -> None:
    assert not SIMULATED_CUDA.is_automatic()
    written = resolve(TargetConfig({"kind": "simulated_cuda"}), to_run=False)
    assert kind_of(written) is SIMULATED_CUDA
    assert written.text == resolve(TargetConfig({"kind": "cuda", "model": "simulated"}), to_run=False).text
    caveats = caveats_of(written)
    assert "an estimate of the analytical model, not a measurement" in caveats.kernel.sentence
    assert "that of the host which simulates the GPU" in caveats.model.sentence
    with pytest.raises(TargetError, match=r"target\.spec\.max_num_threads: 2048, the simulated GPU has 1024"):
        resolve(TargetConfig({"kind": "simulated_cuda", "max_num_threads": 2048}), to_run=False)


def test_auto_is_the_cpu_unless_a_gpu_can_be_used() -> None:
    assert resolve(TargetConfig()).kind == ("llvm" if cuda_target.missing_here() else "cuda")


def test_a_device_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError):
        resolve(TargetConfig(null_device.NAME))
    null_device.install(monkeypatch)
    resolved = resolve(TargetConfig(null_device.NAME))
    assert resolved.kind == null_device.NAME
    assert kind_of(resolved) is null_device.NULL


@pytest.mark.parametrize(
    ("name", "word"), [("lvm", "did you mean 'llvm'?"), ("gpu", "auto, cuda, simulated_cuda, opencl, llvm")]
)
def test_a_name_that_is_no_kind_of_device_is_refused(name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=rf"target\.spec: .*{name!r}") as caught:
        devices.check(TargetConfig(name))
    assert word in f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(ConfigError):
        resolve(TargetConfig(name))


def test_names_of_the_table_and_targets_written_out_pass_the_check() -> None:
    specs: tuple[str | dict[str, Any], ...] = (devices.AUTO, *devices.KINDS, {"kind": "anything"})
    for spec in specs:
        devices.check(TargetConfig(spec))


def test_a_stored_target_tells_its_kind_of_device() -> None:
    assert kind_of_text('{"kind":"llvm","num-cores":2}') is CPU
    assert kind_of_text('{"kind":"cuda","arch":"sm_90a"}') is CUDA
    assert kind_of_text('{"kind":"cuda","model":"simulated","arch":"sm_90a"}') is SIMULATED_CUDA


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"llvm"', '{"kind":["llvm"]}', '{"kind":"metal"}'])
def test_a_stored_target_of_no_known_device_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="no kind of device"):
        kind_of_text(text)


def test_fewer_threads_may_be_asked_for_but_not_more() -> None:
    assert resolve(TargetConfig("llvm")).threads == environment.usable_threads()
    assert resolve(TargetConfig("llvm", threads=1)).threads == 1
    with pytest.raises(TargetError, match=r"target\.threads: 4096, but this process may use"):
        resolve(TargetConfig("llvm", threads=4096))


@pytest.mark.parametrize(
    ("spec", "field", "word"),
    [
        ({"kind": "llvn"}, "target.spec.kind", "not defined"),
        ({"kind": ["llvm"]}, "target.spec.kind", "String"),
        ({"kind": "c"}, "target.spec.kind", "llvm or cuda"),
        ({"kind": "llvm", "mcp": "x"}, "target.spec.mcp", "unknown key\n  did you mean 'mcpu'?"),
        ({"kind": "llvm", "thread": 2}, "target.spec.thread", "target: {spec: {kind: ...}, threads: 2}"),
        ({"kind": "llvm", "platform": "AMD"}, "target.spec.platform", "known here: "),
        ({"kind": "opencl", "devise": 0}, "target.spec.devise", "did you mean 'device'?"),
        ({"kind": "simulated_cuda", "max_num_thread": 2}, "target.spec.max_num_thread", "'max_num_threads'?"),
        ({"tag": "nvidia/nvidia-h100", "aarch": "sm_90a"}, "target.spec.aarch", "did you mean 'arch'?"),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": "two"}, "target.spec.num-cores", "int"),
        ({"mcpu": "znver4", "opt-level": [], "kind": "llvm"}, "target.spec.opt-level", "int"),
        ({"kind": "llvm", "num-cores": -2}, "target.spec.num-cores", "-2"),
        ({"kind": "llvm", "mcpu": "znver44"}, "target.spec.mcpu", "did you mean 'znver4'?"),
        ({"kind": "llvm", "mtriple": "riscv64-linux-gnu"}, "target.spec.mtriple", "cannot run"),
        ({"tag": "nvidia/nothing"}, "target.spec.tag", "nvidia/nothing"),
        ({"kind": "cuda", "arch": "sm_90a", "max_thread": 4}, "target.spec.max_thread", "unknown key"),
    ],
)
def test_a_wrong_mapping_blames_its_field(spec: dict[str, Any], field: str, word: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(TargetConfig(spec))
    assert str(caught.value).startswith(f"{field}: ")
    assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_attribute_is_found_without_the_device() -> None:
    with pytest.raises(TargetError, match=r"target\.spec\.thread: unknown key"):
        devices.check_keys(TargetConfig({"kind": "cuda", "thread": 2}))
    written: list[dict[str, Any]] = [{"kind": "opencl", "platform": "AMD", "device": 0}, {"tag": "nvidia/nvidia-h100"}]
    specs: list[str | dict[str, Any]] = [*devices.KINDS, *written]
    for spec in specs:
        devices.check_keys(TargetConfig(spec))


@pytest.mark.parametrize("name", ["max_threads_per_block", "max_shared_memory_per_block", "thread_warp_size"])
@pytest.mark.parametrize("kind", [{"kind": "cuda", "arch": "sm_90"}, {"kind": "opencl", "model": "X / Y"}])
def test_a_limit_below_one_is_refused(kind: dict[str, str], name: str) -> None:
    for value in (0, -1):
        with pytest.raises(TargetError, match=f"target.spec.{name}: {value}, but at least 1 is needed"):
            resolve(TargetConfig({**kind, name: value}), to_run=False)
