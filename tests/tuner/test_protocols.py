"""What crosses the seams survives as JSON, and a job says what a bench needs to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.space import Candidate
from kernels.tensors import TensorSpec
from kernels.workload import Workload
from tuner.protocols import AaControl, Artifact, ExpectedOutput, Job, Policy, Reference, Task, job_of
from tuner.records import Fidelity

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PATHS = TEXT.map(Path)
SECONDS = st.floats(0, 1e6)
SEEDS = st.integers(0, 2**32)
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT
DATA = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
DTYPES = st.sampled_from(["float32", "float16", "int64", "bool"])

REFERENCES = st.builds(Reference, PATHS, DTYPES, st.integers(1, 2**40))
EXPECTED = st.builds(ExpectedOutput, PATHS, st.none() | PATHS, SECONDS, SECONDS)
POLICIES = st.builds(
    Policy, st.sampled_from(Fidelity), st.integers(1, 1000), SECONDS, SECONDS, SECONDS, SECONDS, SECONDS,
    st.none() | SECONDS, st.none() | SECONDS,
)  # fmt: skip
CONTROLS = st.lists(st.tuples(st.integers(0, 10**6), SECONDS)).map(
    lambda pairs: AaControl(tuple(number for number, _ in pairs), tuple(seconds for _, seconds in pairs))
)
SPECS = st.lists(st.builds(TensorSpec, st.lists(st.integers(0, 2**31), max_size=4).map(tuple), DTYPES), max_size=3).map(
    tuple
)
JOBS = st.builds(
    Job, TEXT, TEXT, PATHS, TEXT, SPECS, SPECS, SEEDS, st.none() | REFERENCES,
    st.none() | st.tuples(SEEDS, REFERENCES), st.lists(EXPECTED, max_size=3).map(tuple),
    st.lists(TEXT, max_size=3).map(tuple), st.dictionaries(TEXT, DATA, max_size=3),
)  # fmt: skip


def through_json(value: Any) -> Any:
    """What comes out of a pipe into which it was put."""
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


@given(POLICIES)
def test_a_policy_survives(policy: Policy) -> None:
    assert through_json(policy) == policy


@given(REFERENCES)
def test_a_reference_survives(reference: Reference) -> None:
    assert through_json(reference) == reference


@given(EXPECTED)
def test_an_expected_output_survives(expected: ExpectedOutput) -> None:
    assert through_json(expected) == expected


@given(CONTROLS)
def test_a_control_survives(control: AaControl) -> None:
    assert through_json(control) == control


@given(JOBS)
def test_a_job_survives(job: Job) -> None:
    assert through_json(job) == job


@pytest.mark.parametrize("missing", ["task", "path", "inputs", "reference", "recheck", "resources"])
def test_a_job_without_a_field_is_refused(missing: str) -> None:
    spec = TensorSpec((2, 3), "float32")
    data = Job("task", "candidate", Path("kernel.so"), "entry", (spec,), (spec,), 0).to_json()
    assert Job.from_json(data).elements == 12
    del data[missing]
    with pytest.raises(KeyError, match=missing):
        Job.from_json(data)


def test_a_job_is_made_of_what_was_built_and_checked_on_other_inputs_after() -> None:
    specs = (TensorSpec((4,), "float32"), TensorSpec((4,), "int64"), TensorSpec((2, 2), "float32"))
    task = Task(Workload("sum", "key", "", specs, 1, 0.0), "a target")
    first, second = Reference(Path("0.npz"), "float32", 4), Reference(Path("1.npz"), "float32", 4)
    artifact = Artifact(Path("kernel.so"), "entry", "digest", 0.5, {"plan": [1]})
    job = job_of(task, Candidate(0, (3,)), artifact, 0, first, (1, second))
    assert (job.task, job.candidate) == ("key", Candidate(0, (3,)).to_text())
    assert (job.inputs, job.outputs, job.elements) == (specs[:2], specs[2:], 12)
    assert (job.path, job.entry, job.resources) == (artifact.path, "entry", {"plan": [1]})
    other = job.on_recheck_inputs()
    assert (other.seed, other.reference, other.recheck) == (1, second, None)
    assert other.on_recheck_inputs() is other
