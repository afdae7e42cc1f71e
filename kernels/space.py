"""The design space of one workload: sketches from TVM's rules, their decisions, and a pass configuration.

Everything here is plain data that replays exactly: a sketch is TVM's trace as JSON, a candidate names
a sketch, one value for each of its knobs, and a pass configuration. A live schedule exists only
inside `apply`.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.passes import PASSES, PassConfig
from kernels.warm import meta_schedule
from kernels.workload import Workload

Decision = int | tuple[int, ...]

DEFAULT_SKETCH = -1
"""The sketch number of the untuned program: TVM's lowering with no schedule at all."""

MAX_TILE_STEPS = 1024
"""Register tiles with more scalar accumulators than this (twice all AVX-512 registers) only spill, and LLVM takes
seconds over them."""


_FEW_POINTS = 4096
"""Points that are enumerated rather than sampled: making and encoding so many takes about a tenth of a second."""


class InvalidCandidate(Exception):
    """A candidate whose decisions cannot be applied, or whose program the target forbids."""


@dataclass(frozen=True)
class Candidate:
    """One point of a design space: hashable, replayable, printable on one line."""

    sketch: int
    decisions: tuple[Decision, ...] = ()
    passes: PassConfig = PassConfig()

    @property
    def is_default(self) -> bool:
        return self.sketch == DEFAULT_SKETCH

    def to_text(self) -> str:
        """One line of JSON: `[sketch, [decision, ...], "passes"]`."""
        return json.dumps([self.sketch, self.decisions, self.passes.to_text()], separators=(",", ":"))

    @staticmethod
    def from_text(text: str) -> Candidate:
        """The inverse of `to_text`. Raises ValueError when the text is no candidate."""
        try:
            sketch, decisions, passes = json.loads(text)
            return Candidate(
                int(sketch),
                tuple(tuple(map(int, d)) if isinstance(d, list) else int(d) for d in decisions),
                PassConfig.from_text(passes),
            )
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a candidate: {text[:80]!r}") from error


@dataclass(frozen=True)
class Knob:
    """One decision of a sketch. `choices` are ordered so that neighbours in the list are alike.

    `role`: `spatial` or `reduce` for tiles of the anchor's loops in their order, `location`,
    or `choice`.
    """

    role: str
    choices: tuple[Decision, ...]
    instruction: int

    @functools.cached_property
    def index(self) -> Mapping[Decision, int]:
        return {choice: i for i, choice in enumerate(self.choices)}


@dataclass(frozen=True)
class Sketch:
    """The shape of a schedule with its decisions left open. `trace` is TVM's trace as JSON."""

    number: int
    trace: str = field(repr=False)
    knobs: tuple[Knob, ...]

    @property
    def tiles(self) -> tuple[tuple[int, Knob], ...]:
        """The tile knobs with their positions among the decisions."""
        return tuple((i, k) for i, k in enumerate(self.knobs) if k.role in ("spatial", "reduce"))

    @property
    def levels(self) -> tuple[int, int]:
        """How many parts spatial and reduction loops are cut into; (0, 0) without tiles."""
        spatial = [len(_parts(k)) for k in self.knobs if k.role == "spatial"]
        reduce = [len(_parts(k)) for k in self.knobs if k.role == "reduce"]
        return (spatial[0] if spatial else 0, reduce[0] if reduce else 0)


@dataclass(frozen=True)
class DesignSpace:
    """All candidates of one workload on one kind of target."""

    target_kind: str
    sketches: tuple[Sketch, ...]
    pass_names: tuple[str, ...] = tuple(PASSES)
    vector_lanes: int = 16

    # --- structure -----------------------------------------------------------------------------

    @functools.cached_property
    def pass_variants(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(PASSES[name].variants(self.target_kind) for name in self.pass_names)

    def sizes(self, sketch: int) -> tuple[int, ...]:
        """How many choices each coordinate of a sketch has: its knobs, then the passes."""
        knobs = tuple(len(k.choices) for k in self.sketches[sketch].knobs)
        return knobs + tuple(len(v) for v in self.pass_variants)

    def to_indices(self, candidate: Candidate) -> tuple[int, ...]:
        """A candidate as one index a coordinate, in the order of `sizes`."""
        knobs = self.sketches[candidate.sketch].knobs
        own = tuple(k.index[d] for k, d in zip(knobs, candidate.decisions, strict=True))
        settings = {s.name: s for s in candidate.passes.settings}
        return own + tuple(
            variants.index(settings[name]) if settings[name] in variants else 0
            for name, variants in zip(self.pass_names, self.pass_variants, strict=True)
        )

    def from_indices(self, sketch: int, indices: Sequence[int]) -> Candidate:
        knobs = self.sketches[sketch].knobs
        decisions = tuple(k.choices[i] for k, i in zip(knobs, indices, strict=False))
        passes = PassConfig()
        for variants, i in zip(self.pass_variants, indices[len(knobs) :], strict=True):
            passes = passes.replace(variants[i])
        return Candidate(sketch, decisions, passes)

    def size(self) -> int:
        """The number of points, legal or not."""
        return sum(math.prod(self.sizes(s.number)) for s in self.sketches)

    # --- legality that needs no TVM --------------------------------------------------------------

    def contains(self, candidate: Candidate) -> bool:
        """Whether the candidate names a sketch of this space and one of the choices of each of its knobs."""
        if candidate.is_default:
            return not candidate.decisions
        if not 0 <= candidate.sketch < len(self.sketches):
            return False
        knobs = self.sketches[candidate.sketch].knobs
        chosen = candidate.decisions
        return len(chosen) == len(knobs) and all(d in k.index for k, d in zip(knobs, chosen, strict=True))

    def legal(self, candidate: Candidate) -> bool:
        """Whether the candidate respects the limits that are products of its decisions."""
        if candidate.is_default:
            return True
        sketch = self.sketches[candidate.sketch]
        spatial = [_as_parts(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "spatial"]
        if not spatial or len(spatial[0]) < 3:
            return True
        if math.prod(parts[-1] for parts in spatial) > MAX_TILE_STEPS:
            return False
        return self.target_kind != "llvm" or spatial[-1][-1] >= _least_vector(math.prod(spatial[-1]))

    # --- moves ----------------------------------------------------------------------------------

    def default(self) -> Candidate:
        """The untuned program."""
        return Candidate(DEFAULT_SKETCH)

    def sample(self, rng: np.random.Generator, vary_passes: float = 0.3) -> Candidate:
        """A random legal candidate. Each pass leaves its default with probability `vary_passes`."""
        for _ in range(100):
            sketch = int(rng.integers(len(self.sketches)))
            indices = [int(rng.integers(len(k.choices))) for k in self.sketches[sketch].knobs]
            for variants in self.pass_variants:
                indices.append(int(rng.integers(len(variants))) if rng.random() < vary_passes else 0)
            candidate = self.from_indices(sketch, indices)
            if self.legal(candidate):
                return candidate
        return candidate

    def mutate(self, candidate: Candidate, rng: np.random.Generator, changes: int = 1) -> Candidate:
        """Change `changes` coordinates: half the time to a neighbour, otherwise to any choice."""
        if candidate.is_default:
            return self.sample(rng)
        sizes = self.sizes(candidate.sketch)
        free = [i for i, n in enumerate(sizes) if n > 1]
        if not free:
            return candidate
        for _ in range(20):
            indices = list(self.to_indices(candidate))
            for i in rng.choice(free, size=min(changes, len(free)), replace=False):
                if rng.random() < 0.5:
                    indices[i] = int(np.clip(indices[i] + rng.choice((-1, 1)), 0, sizes[i] - 1))
                else:
                    indices[i] = int(rng.integers(sizes[i]))
            mutated = self.from_indices(candidate.sketch, indices)
            if mutated != candidate and self.legal(mutated):
                return mutated
        return candidate

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate:
        """Each coordinate from one of two parents; of the first where their sketches differ."""
        if a.sketch != b.sketch or a.is_default:
            return self.mutate(a, rng)
        pairs = zip(self.to_indices(a), self.to_indices(b), strict=True)
        child = self.from_indices(a.sketch, [x if rng.random() < 0.5 else y for x, y in pairs])
        return child if self.legal(child) else a

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Every legal candidate one step away along one coordinate."""
        if candidate.is_default:
            return
        sizes = self.sizes(candidate.sketch)
        base = self.to_indices(candidate)
        for i, n in enumerate(sizes):
            for step in (-1, 1):
                if 0 <= base[i] + step < n:
                    moved = self.from_indices(candidate.sketch, (*base[:i], base[i] + step, *base[i + 1 :]))
                    if self.legal(moved):
                        yield moved

    # --- numbers ----------------------------------------------------------------------------------

    def encode(self, candidate: Candidate) -> NDArray[np.float32]:
        """A candidate as ENCODING_LENGTH numbers of the same meaning for every workload.

        Log2 of the tile products at each level, of the innermost factors of the last three spatial
        loops, the locations, the sketch, and the pass settings.
        """
        row = np.zeros(ENCODING_LENGTH, dtype=np.float32)
        if candidate.is_default:
            row[0] = 1
            return row
        sketch = self.sketches[candidate.sketch]
        row[1 + min(candidate.sketch, 5)] = 1
        spatial = [_as_parts(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "spatial"]
        reduce = [_as_parts(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "reduce"]
        for column, group, width in ((7, spatial, 5), (12, reduce, 3)):
            if group:
                for level, factors in enumerate(itertools.zip_longest(*group, fillvalue=1)):
                    if level < width:
                        row[column + level] = math.log2(math.prod(factors))
        for i, parts in enumerate(reversed(spatial[-4:])):
            row[15 + i] = math.log2(parts[-1])
        for i, parts in enumerate(reversed(spatial[-3:])):
            row[19 + i] = math.log2(parts[0])
        others = [d for d, k in zip(candidate.decisions, sketch.knobs, strict=True) if k.role in ("location", "choice")]
        for i, decision in enumerate(others[:4]):
            row[22 + i] = float(decision) if isinstance(decision, int) else 0.0
        numbers = candidate.passes.numbers()
        row[26 : 26 + len(numbers)] = numbers
        return row

    def encodings(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        """`encode` of each [n, ENCODING_LENGTH]."""
        return np.stack([self.encode(c) for c in candidates])

    def points(self) -> list[Candidate] | None:
        """All legal candidates of a space that is small enough to be walked through in a moment; else None."""
        if self.size() > _FEW_POINTS:
            return None
        all_ = (
            self.from_indices(s.number, i)
            for s in self.sketches
            for i in itertools.product(*map(range, self.sizes(s.number)))
        )
        return [c for c in all_ if self.legal(c)]

    # --- first guesses ------------------------------------------------------------------------------

    def seeds(self, limit: int = 24) -> list[Candidate]:
        """Analytical first guesses, the most promising first.

        For tiled sketches: the last spatial loop whole in vector registers, one or two further loops
        as a register tile of 6 to 28 accumulators, the reduction innermost in one piece, whatever is
        left outermost (parallel). After the register-blocking argument of Goto and van de Geijn,
        "Anatomy of High-Performance Matrix Multiplication" (2008).
        """
        scored: list[tuple[float, int, Candidate]] = []
        for sketch in self.sketches:
            for score, candidate in self._tiled_seeds(sketch) if sketch.levels[0] >= 4 else self._flat_seeds(sketch):
                scored.append((score, len(scored), candidate))
        scored.sort(key=lambda item: item[:2])
        return list(dict.fromkeys(c for _, _, c in scored))[:limit]

    def _flat_seeds(self, sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
        middle = [len(k.choices) // 2 for k in sketch.knobs]
        for score, position in enumerate((0, -1, None)):
            indices = [
                m if position is None else position % len(k.choices) for m, k in zip(middle, sketch.knobs, strict=True)
            ]
            yield score + 0.1 * sketch.number, self.from_indices(sketch.number, indices + [0] * len(self.pass_names))

    def _tiled_seeds(self, sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
        spatial = [(i, k) for i, k in sketch.tiles if k.role == "spatial"]
        reduce = [(i, k) for i, k in sketch.tiles if k.role == "reduce"]
        extents = [math.prod(_parts(k)) for _, k in spatial]
        last = len(spatial) - 1
        lanes = max((d for d in _divisors(extents[last]) if d <= 4 * self.vector_lanes), default=1)
        vectors = sorted({lanes, max(d for d in _divisors(extents[last]) if d <= self.vector_lanes)})
        wide = [a for a in range(last) if extents[a] > 1]
        for lane in vectors:
            registers = max(1, math.ceil(lane / self.vector_lanes))
            for axis in wide or [last]:
                for rows in _divisors(extents[axis]) if wide else [1]:
                    if not (4 <= rows * registers <= 28) and rows != extents[axis]:
                        continue
                    if rows * registers > 32:
                        continue
                    for second, more in [
                        (axis, rows),
                        *((b, 2) for b in wide if b != axis and extents[b] % 2 == 0 and rows * 2 * registers <= 28),
                    ]:
                        inner = [1] * len(spatial)
                        inner[last] = lane
                        if wide:
                            inner[axis] = rows
                        if second != axis:
                            inner[second] = more
                        yield from self._fill(sketch, spatial, reduce, extents, inner)

    def _fill(
        self,
        sketch: Sketch,
        spatial: Sequence[tuple[int, Knob]],
        reduce: Sequence[tuple[int, Knob]],
        extents: Sequence[int],
        inner: Sequence[int],
    ) -> Iterator[tuple[float, Candidate]]:
        """Complete a register tile: outer loops parallel, the reduction whole or with its first loop outside."""
        accumulators = math.prod(inner) / self.vector_lanes
        for outer in ("parallel", "cached"):
            decisions: list[Decision] = [k.choices[0] for k in sketch.knobs]
            for position, ((i, knob), extent, tile) in enumerate(zip(spatial, extents, inner, strict=True)):
                rest = extent // tile
                first = rest if outer == "parallel" or position <= 1 else 1
                decisions[i] = _nearest(knob, (first, rest // first, 1, tile))
            for position, (i, knob) in enumerate(reduce):
                extent = math.prod(_parts(knob))
                whole = position > 0 or len(reduce) == 1
                inside = 1 if not whole else extent if extent <= 64 else 16
                decisions[i] = _nearest(knob, (max(extent // inside, 1), inside))
            for i, knob in enumerate(sketch.knobs):
                if knob.role == "location":
                    decisions[i] = knob.choices[min(1, len(knob.choices) - 1)]
            candidate = Candidate(sketch.number, tuple(decisions))
            if self.legal(candidate):
                # 12 to 16 accumulators hide the latency of two FMA units and leave registers for operands
                score = (
                    abs(math.log2(accumulators / 14))
                    + (0.0 if sketch.number == 1 else 0.3)
                    + (0.05 if outer == "cached" else 0)
                )
                yield score, candidate

    # --- as data --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "target_kind": self.target_kind,
            "pass_names": list(self.pass_names),
            "vector_lanes": self.vector_lanes,
            "sketches": [
                {"trace": s.trace, "knobs": [[k.role, k.choices, k.instruction] for k in s.knobs]}
                for s in self.sketches
            ],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> DesignSpace:
        sketches: list[Sketch] = []
        for number, s in enumerate(data["sketches"]):
            knobs = tuple(
                Knob(role, tuple(tuple(c) if isinstance(c, list) else c for c in choices), instruction)
                for role, choices, instruction in s["knobs"]
            )
            sketches.append(Sketch(number, s["trace"], knobs))
        return DesignSpace(data["target_kind"], tuple(sketches), tuple(data["pass_names"]), data["vector_lanes"])


ENCODING_LENGTH = 26 + len(PASSES)


# --- with TVM -------------------------------------------------------------------------------------


def _context(workload: Workload, target: Target) -> Any:
    ms = meta_schedule()
    return ms.TuneContext(
        mod=workload.module(),
        target=target,
        space_generator=ms.space_generator.PostOrderApply(),
        search_strategy="evolutionary",
        num_threads=1,
        rand_state=1,
    )


def generate(workload: Workload, target: Target, pass_names: Sequence[str] = tuple(PASSES)) -> DesignSpace:
    """The design space that TVM's schedule rules span, the same in every process.

    The target must carry its limits (`num-cores` on a CPU). Takes 20 to 200 ms.
    """
    context = _context(workload, target)
    sketches: list[Sketch] = []
    for schedule in context.generate_design_space():
        sketch = _sketch(len(sketches), schedule.trace)
        if sketch is not None and sketch.trace not in {s.trace for s in sketches}:
            sketches.append(sketch)
    if not sketches:  # no rule applies: the identity schedule is still a space, of the passes alone
        sketches = [Sketch(0, json.dumps([[], []]), ())]
    return DesignSpace(target.kind.name, tuple(sketches), tuple(pass_names), vector_lanes(target))


def vector_lanes(target: Target) -> int:
    """fp32 lanes of the target's vector registers (32 threads of a warp on a GPU)."""
    if target.kind.name != "llvm":
        return 32
    bits = int(tvm.target.codegen.llvm_get_vector_width(target))
    return max(bits // 32, 4) if bits > 0 else 4


def _sketch(number: int, trace: Any) -> Sketch | None:
    instructions, decisions = _plain(trace.as_json())
    chosen = {i: d for i, d in decisions}
    tile_parts = [len(chosen[i]) for i, ins in enumerate(instructions) if ins[0] == "SamplePerfectTile"]
    spatial_parts = max(tile_parts, default=0)
    spatial_count = sum(parts == spatial_parts for parts in tile_parts)
    boundaries = _boundaries(spatial_parts, spatial_count, [p for p in tile_parts if p != spatial_parts])
    knobs = []
    for i, instruction in enumerate(instructions):
        kind = instruction[0]
        if kind == "SamplePerfectTile":
            parts, innermost = instruction[2]
            extent = math.prod(chosen[i])
            role = "spatial" if parts == spatial_parts else "reduce"
            knobs.append(Knob(role, _factorizations(extent, parts, innermost), i))
        elif kind == "SampleComputeLocation":
            knobs.append(Knob("location", boundaries, i))
        elif kind == "SampleCategorical":
            if _feeds(instructions, instruction[3][0], "meta_schedule.unroll_explicit"):
                continue  # the Unroll pass owns this decision
            knobs.append(Knob("choice", tuple(range(len(instruction[2][0]))), i))
    return Sketch(number, json.dumps([instructions, decisions]), tuple(knobs))


def _plain(value: Any) -> Any:
    """TVM containers and scalars as JSON-able Python."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if hasattr(value, "value"):
        return (
            value.value
            if not isinstance(value.value, (bool, int, float))
            else float(value.value)
            if "float" in str(getattr(value, "dtype", ""))
            else int(value.value)
        )
    return [_plain(v) for v in value]


def _feeds(instructions: Sequence[Any], variable: str, annotation: str) -> bool:
    return any(ins[0] == "Annotate" and variable in ins[1] and annotation in ins[2] for ins in instructions)


def _boundaries(spatial_parts: int, spatial: int, reduce_parts: Sequence[int]) -> tuple[Decision, ...]:
    """Loop indices at the end of each level of S..S R S R S tiling, after -1 (the root)."""
    if spatial_parts < 3:
        return tuple(range(-1, 6))
    reduce = len(reduce_parts)
    ends = [spatial, 2 * spatial, 2 * spatial + reduce, 3 * spatial + reduce, 3 * spatial + 2 * reduce]
    return (-1, *(end - 1 for end in ends))


@functools.lru_cache(maxsize=4096)
def _divisors(n: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, n + 1) if n % d == 0)


@functools.lru_cache(maxsize=4096)
def _least_vector(extent: int) -> int:
    """The least innermost factor of the last spatial loop of a CPU kernel: 4, where the extent has such a divisor.

    That loop is the one along which outputs lie next to each other. With a shorter one, vectorization takes
    the loop before it: strided loads and stores lane by lane, which are slow, and slow to compile.
    """
    return 4 if any(4 <= d <= 64 for d in _divisors(extent)) else 1


@functools.lru_cache(maxsize=4096)
def _factorizations(extent: int, parts: int, innermost: int) -> tuple[tuple[int, ...], ...]:
    """All ways to write `extent` as a product of `parts` factors whose last is at most `innermost`.

    Ordered by the innermost factor, then by the next: neighbours in the list are alike.
    """
    if parts == 1:
        return ((extent,),)
    found: list[tuple[int, ...]] = []
    for last in _divisors(extent):
        if last <= innermost:
            found.extend((*head, last) for head in _factorizations(extent // last, parts - 1, extent))
    return tuple(sorted(found, key=lambda f: f[::-1]))


def _parts(knob: Knob) -> tuple[int, ...]:
    return _as_parts(knob.choices[0])


def _as_parts(decision: Decision) -> tuple[int, ...]:
    return decision if isinstance(decision, tuple) else (decision,)


def _nearest(knob: Knob, wanted: tuple[int, ...]) -> Decision:
    """The choice of a tile knob closest to the wanted factors, in log space."""
    if wanted in knob.index:
        return wanted
    return min(
        knob.choices, key=lambda c: sum(abs(math.log2(a / b)) for a, b in zip(_as_parts(c), wanted, strict=False))
    )


class Replayer:
    """Turns candidates of one workload into schedules. Made once a process and workload (20 ms)."""

    def __init__(self, workload: Workload, space: DesignSpace, target: Target) -> None:
        ms = meta_schedule()
        self.space = space
        self.context = _context(workload, target)
        self.module = self.context.mod
        self._postprocs = ms.Postproc.create("llvm" if target.kind.name == "llvm" else "cuda")
        for postproc in self._postprocs:
            postproc._initialize_with_tune_context(self.context)  # noqa: SLF001 - TVM has no public name for it
        self._traces = [json.loads(s.trace) for s in space.sketches]

    def apply(self, candidate: Candidate) -> Schedule:
        """The scheduled program of a candidate.

        Raises InvalidCandidate when the decisions do not apply or a target limit is exceeded.
        """
        if not self.space.contains(candidate):  # TVM would take some of them, and crash on others
            raise InvalidCandidate("no point of this design space")
        schedule = Schedule(self.module, seed=1, error_render_level="none")
        if candidate.is_default:
            return schedule
        instructions, decisions = self._traces[candidate.sketch]
        chosen = {i: d for i, d in decisions}
        for knob, decision in zip(self.space.sketches[candidate.sketch].knobs, candidate.decisions, strict=True):
            chosen[knob.instruction] = list(decision) if isinstance(decision, tuple) else decision
        try:
            tvm.s_tir.schedule.Trace.apply_json_to_schedule(
                [instructions, [[i, d] for i, d in sorted(chosen.items())]], schedule
            )
            candidate.passes.on_schedule(schedule)
            schedule.enter_postproc()
            for postproc in self._postprocs:
                if not postproc.apply(schedule):
                    raise InvalidCandidate(f"rejected by {type(postproc).__name__}")
        except (RuntimeError, ValueError) as error:
            raise InvalidCandidate((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
        return schedule
