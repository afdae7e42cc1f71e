"""What every DeviceKind promises: what can be said and compiled without having one, and how one is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tuner.config import MeasureConfig, ModelConfig, RunConfig, TargetConfig
from tuner.devices.device import DeviceKind, Opening, mode_of
from tuner.devices.finding import Finding, State
from tuner.devices.target import canonical
from tuner.errors import ConfigError, TargetError
from tuner.precisions import FP8, NARROWER
from tuner.progress import Progress


class DeviceKindContract:
    """Fixtures: a `kind`, and `attributes` of a target of it that a run file may write out, complete."""

    @pytest.fixture
    def kind(self) -> DeviceKind:
        raise NotImplementedError("the implementation's test module provides the kind")

    @pytest.fixture
    def attributes(self) -> Mapping[str, Any]:
        raise NotImplementedError("the implementation's test module provides a target")

    def test_the_local_one_is_described_or_what_is_missing_is_named(self, kind: DeviceKind) -> None:
        if not kind.is_here():
            with pytest.raises(TargetError, match="missing here") as caught:
                kind.local(1)
            assert caught.value.hint
            return
        target = kind.local(1)
        assert (target.kind, target.threads) == (kind.name, 1)
        assert target.device
        assert target.text == canonical(json.loads(target.text))
        assert kind.from_attributes(json.loads(target.text), 1, to_run=True).text == target.text

    def test_its_devices_are_named_where_there_are_any(self, kind: DeviceKind) -> None:
        devices = kind.devices()
        assert all(device and device == device.strip() for device in devices)
        assert devices or not kind.is_here()
        assert kind.is_here() or not kind.is_automatic(), "auto would take what is not here"

    def test_a_target_that_is_written_out_needs_no_device(
        self, kind: DeviceKind, attributes: Mapping[str, Any]
    ) -> None:
        assert dict(kind.completed(attributes)) == dict(attributes)
        target = kind.from_attributes(attributes, 1, to_run=False)
        assert (target.kind, target.threads) == (kind.name, 1)
        assert target.device
        assert target.tvm().kind.name == json.loads(target.text)["kind"]

    def test_one_thread_has_no_state(self, kind: DeviceKind, tmp_path: Path) -> None:
        assert kind.state_probe(1, tmp_path) is None

    def test_one_is_opened_where_there_is_one(
        self, kind: DeviceKind, attributes: Mapping[str, Any], tmp_path: Path
    ) -> None:
        target = kind.local(1) if kind.is_here() else kind.from_attributes(attributes, 1, to_run=False)
        opening = Opening(target, MeasureConfig(), 1, tmp_path / "work", tmp_path, Progress())
        if kind.is_here():
            kind.open(opening).close()
            return
        with pytest.raises(TargetError, match="missing here"):
            kind.open(opening)

    def test_a_scope_is_short_stable_and_of_one_target_and_mode(self, kind: DeviceKind) -> None:
        scope = kind.scope("a target", "a device", 2, "hot")
        assert scope == kind.scope("a target", "a device", 2, "hot")
        assert re.fullmatch(r"(apart-)?[0-9a-f]{8,64}", scope)
        assert scope != kind.scope("another target", "a device", 2, "hot")
        assert scope != kind.scope("a target", "a device", 2, "cold")

    def test_it_has_a_mode_and_refuses_those_that_it_has_not(self, kind: DeviceKind) -> None:
        assert mode_of(kind, None) == kind.modes[0]
        assert {mode_of(kind, mode) for mode in kind.modes} == set(kind.modes)
        for mode in {"model", "hot", "cold", "lukewarm"} - set(kind.modes):
            with pytest.raises(ConfigError, match=f"measure.mode: '{mode}' is no mode of {kind.name} devices") as error:
                mode_of(kind, mode)
            assert error.value.hint == f"choose auto, {', '.join(kind.modes)}"

    @pytest.mark.parametrize("lanes", [4, 8, 16])
    def test_its_layout_is_one_that_a_graph_can_have(
        self, kind: DeviceKind, attributes: Mapping[str, Any], lanes: int
    ) -> None:
        from tests.contracts.device import tiny_model
        from tuner.graph import GraphConfig, clean, lower

        layout = kind.layout(lanes)
        assert re.fullmatch(rf"NCHW|NHWC|NCHW{lanes}c", layout)
        target = kind.from_attributes(attributes, 1, to_run=False).tvm()
        assert lower(clean(tiny_model().module), GraphConfig(layout), target).tasks

    def test_it_has_a_precision_or_says_why_not(self, kind: DeviceKind, attributes: Mapping[str, Any]) -> None:
        target = kind.from_attributes(attributes, 1, to_run=False)
        assert kind.data_bytes in ("uint8", "int8")
        for name in (*NARROWER, FP8):
            why = kind.why_not(name, target)
            assert why == why.strip() and (name in why or not why)

    def test_its_builder_and_its_assembly_need_no_device(
        self, kind: DeviceKind, attributes: Mapping[str, Any], tmp_path: Path
    ) -> None:
        import tvm

        target = kind.from_attributes(attributes, 1, to_run=False)
        builder = kind.builder(target.text, tmp_path, 1, 30.0)
        assert builder.columns
        builder.close()
        assert tvm.device(kind.assembly(target).runtime)

    def test_it_measures_bundles_or_says_why_not(self, kind: DeviceKind) -> None:
        if kind.bundles and kind.is_here():
            benches = kind.benches(None, str(kind.local(1).features[0]), "cold")
            assert benches
            for bench in benches:
                assert bench.device
                bench.close()
            return
        with pytest.raises(TargetError) as caught:
            kind.benches(None, "sm_90" if kind.name == "cuda" else kind.name, "cold")
        assert caught.value.message
        assert kind.bundles == ("missing here" in caught.value.message)

    def test_the_doctor_s_findings_say_what_to_do(self, kind: DeviceKind) -> None:
        findings = list(kind.findings(RunConfig(ModelConfig("onnx:any"), target=TargetConfig(kind.name))))
        assert all(isinstance(finding, Finding) and finding.part and finding.found for finding in findings)
        assert all(finding.advice for finding in findings if finding.state in (State.WARNING, State.BROKEN))
        assert kind.is_here() or State.BROKEN in {finding.state for finding in findings}, "it is wanted and not here"
