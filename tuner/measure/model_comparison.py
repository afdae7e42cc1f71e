"""What came of comparing whole models."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuner.measure.comparison import ComparisonResult
from tuner.measure.quality import Quality


@dataclass
class ModelComparison:
    """The tuned model against its baselines: times, whether its outputs are right, and notes for the report.

    `settings` says of each entry, in words, how it ran. `load_s` has the seconds from loading to the end of the first
    call, and `peak_bytes` the largest resident set that its process ever had, whatever took it. `verified` is None
    where no reference ran to check against. Errors are the largest of the tuned outputs against any reference that ran.
    `segments_s`: of a model with islands, what each part of the tuned one takes of an inference, in order.
    `precisions`: what entries compute in, of those that are told. `errors`: of the outputs of each entry against
    float64 on the first inputs, relative to their size, where there is such a run. `quality`: how good the tuned
    outputs are.
    """

    result: ComparisonResult
    settings: dict[str, str] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    verified: bool | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    segments_s: list[float] = field(default_factory=list)
    precisions: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    quality: Quality | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def misses_accuracy(self) -> bool:
        """Whether an accuracy was asked for that the tuned outputs do not have."""
        return self.quality is not None and self.quality.met is False
