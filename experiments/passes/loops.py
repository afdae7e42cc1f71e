"""What do the passes on loop nests gain: `lanes`, `fuse`, `bounds` and `balance`?

    python experiments/passes/loops.py results/<machine>/passes_loops.json [FAMILY ...] [--threads 1] [--seconds 2]

For each kernel: the best of the untuned program and the first candidates of all other sketches without these passes
("without"); the sketch `loops` with all of them at their best widths ("with"); and the best of both with one left out.
All are timed in turn, one block of calls each a round, on the same buffers; a ratio is the median over rounds, with its
95 % interval. Outputs are compared with the reference first. Run it on an idle machine: 3 minutes. For `balance`, what
each of 2 and 3 threads would execute is timed alone: "longest part" is the one that all others wait for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if TYPE_CHECKING:
    from kernels.workload import Workload

_BLOCK_S = 0.0005
_PASSES = ("lanes", "fuse", "bounds", "balance")
_WIDTHS = (16, 64, 128)


def families() -> Mapping[str, Callable[[], Any]]:
    """Unscheduled programs by name."""
    from tvm import te, tirx, topi

    def of(shape: Sequence[int], make: Callable[..., Any], *more: Sequence[int]) -> Callable[[], Any]:
        def program() -> Any:
            arguments = [te.placeholder(tuple(s), name=f"a{n}") for n, s in enumerate((shape, *more))]
            return te.create_prim_func([*arguments, make(*arguments)])

        return program

    def batch_norm(x: Any) -> Any:
        count = float(int(x.shape[0]) * int(x.shape[2]) * int(x.shape[3]))
        centred = topi.subtract(x, topi.divide(topi.sum(x, [0, 2, 3], keepdims=True), count))
        variance = topi.divide(topi.sum(topi.multiply(centred, centred), [0, 2, 3], keepdims=True), count)
        return topi.multiply(centred, topi.rsqrt(topi.add(variance, 1e-5)))

    def triangle(a: Any, b: Any) -> Any:
        k = te.reduce_axis((0, int(a.shape[1])), name="k")
        zero = tirx.const(0, "float32")

        def element(i: Any, j: Any) -> Any:
            return te.sum(tirx.if_then_else(k <= i, a[i, k] * b[k, j], zero), axis=k)

        return te.compute((int(a.shape[0]), int(b.shape[1])), element, name="product")

    def norm(x: Any, g: Any, b: Any) -> Any:
        return topi.nn.layer_norm(x, g, b, [1])

    return {
        "sum of rows, 2048 x 49": of((2048, 49), lambda a: topi.sum(a, 1)),
        "maximum of rows, 2364 x 197": of((2364, 197), lambda a: topi.max(a, 1)),
        "sum of rows, 197 x 768": of((197, 768), lambda a: topi.sum(a, 1)),
        "sum of all, 100003": of((100003,), lambda a: topi.sum(a, 0)),
        "sum down columns, 1024 x 125": of((1024, 125), lambda a: topi.sum(a, 0)),
        "sum over the middle, 16 x 197 x 77": of((16, 197, 77), lambda a: topi.sum(a, 1)),
        "global pooling, 2048 x 7 x 7": of((1, 2048, 7, 7), lambda a: topi.nn.adaptive_pool(a, (1, 1), "avg")),
        "product with one row, 1000 x 999": of((1, 999), topi.nn.dense, (1000, 999)),
        "layer norm, 197 x 768": of((197, 768), norm, (768,), (768,)),
        "layer norm, 128 x 197": of((128, 197), norm, (197,), (197,)),
        "layer norm, 4096 x 1000": of((4096, 1000), norm, (1000,), (1000,)),
        "RMS norm, 64 x 1023": of((64, 1023), lambda a, g: topi.nn.rms_norm(a, g, [1]), (1023,)),
        "RMS norm, 4096 x 1023": of((4096, 1023), lambda a, g: topi.nn.rms_norm(a, g, [1]), (1023,)),
        "softmax, 64 x 1000": of((64, 1000), topi.nn.softmax),
        "softmax, 128 x 197": of((128, 197), topi.nn.softmax),
        "softmax, 1 x 32003": of((1, 32003), topi.nn.softmax),
        "softmax, 8192 x 500": of((8192, 500), topi.nn.softmax),
        "batch norm in training, 2 x 64 x 56 x 56": of((2, 64, 56, 56), batch_norm),
        "triangle times columns, 512 x 64": of((512, 512), triangle, (512, 64)),
        "triangle times square, 256": of((256, 256), triangle, (256, 256)),
        "sum over the middle, 3 x 197 x 768": of((3, 197, 768), lambda a: topi.sum(a, 1)),
    }  # fmt: skip


def texts(names: Sequence[str]) -> dict[str, str]:
    """Configurations of the sketch `loops` by what is left out; "" leaves out nothing."""
    on = {name: f"{name}{{on=1}}" for name in names if name != "lanes"}
    found: dict[str, str] = {}
    for without in ("", *names):
        for width in _WIDTHS if "lanes" in names and without != "lanes" else (0,):
            settings = [text for name, text in on.items() if name != without]
            found[f"{without}@{width}"] = " ".join([*settings, f"lanes{{width={width}}}", "vector_math{on=1}"])
    return found


class Kernels:
    """Builds candidates of one workload, checks them, and times them in turn."""

    def __init__(self, workload: Workload, threads: int) -> None:
        import tvm

        from experiments.common import cpu_target
        from kernels import reference
        from kernels.space import TraceApplier, generate
        from kernels.tensors import seeded_inputs

        self._target = cpu_target(threads)
        self.space = generate(workload, self._target.tvm())
        self._applier = TraceApplier(workload, self.space, self._target.tvm())
        self._function = workload.module()["main"]
        inputs = seeded_inputs(workload.inputs, 0)
        self._expected = reference.evaluate(self._function, inputs, workload.num_outputs)
        outputs = [expected.astype("float32") for expected in self._expected]
        self._tensors = [tvm.runtime.tensor(array) for array in (*inputs, *outputs)]
        self._built: dict[str, Any] = {}

    def add(self, name: str, candidate: Any) -> None:
        """Build a candidate under a name; one that cannot be built, or is wrong, is left out and named."""
        import tvm
        from tvm.target import Target

        from kernels import reference
        from kernels.space import InvalidCandidate

        try:
            schedule = self._applier.apply(candidate)
        except InvalidCandidate:
            return
        spec = json.loads(self._target.text)
        applied = candidate.passes.applied(schedule.mod["main"], Target(spec))
        target = Target(applied.passes.target_options(spec))
        options = {**applied.passes.context_options(), "tirx.disable_assert": True}
        with target, tvm.transform.PassContext(opt_level=3, config=options):
            library = tvm.compile(tvm.IRModule({"main": applied.function}), target)["main"]
        library(*self._tensors)
        outputs = [tensor.numpy() for tensor in self._tensors[-len(self._expected) :]]
        length = reference.reduction_length(self._function)
        for output, expected in zip(outputs, self._expected, strict=True):
            right, _, _, reason = reference.compare(output, expected, "float32", length)
            if not right:
                print(f"wrong: {name} {candidate.to_text()}: {reason}", file=sys.stderr)
                return
        self._built[name] = library

    def parts(self, name: str, candidate: Any, threads: int) -> list[str]:
        """Build what each of `threads` threads would execute of a candidate, and give their names."""
        import tvm
        from tvm.target import Target

        function = candidate.passes.applied(
            self._applier.apply(candidate).mod["main"], Target({**json.loads(self._target.text), "num-cores": threads})
        ).function
        names = [f"{name}:{thread}" for thread in range(threads)]
        for thread, own in enumerate(names):
            part = function.with_body(rewritten_part(function.body, thread, threads))
            module = tvm.IRModule({"main": part.with_attr("global_symbol", "main")})
            self._built[own] = tvm.compile(module, self._target.tvm())["main"]
        return names

    def call(self, name: str) -> Callable[[], Any]:
        """A call of a kernel that was added."""
        library = self._built[name]
        return lambda: library(*self._tensors)

    def forget(self, name: str) -> None:
        """A kernel is timed no more."""
        del self._built[name]

    def times(self, seconds: float) -> dict[str, list[float]]:
        """Seconds of a call by name, one for each round."""
        calls = {}
        for name, library in self._built.items():
            began = time.perf_counter()
            library(*self._tensors)
            calls[name] = max(1, int(_BLOCK_S / (time.perf_counter() - began)))
        taken: dict[str, list[float]] = {name: [] for name in self._built}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(next(iter(taken.values()))) < 7:
            for name, library in self._built.items():
                began = time.perf_counter()
                for _ in range(calls[name]):
                    library(*self._tensors)
                taken[name].append((time.perf_counter() - began) / calls[name])
        return taken


def rewritten_part(body: Any, thread: int, threads: int) -> Any:
    """What one of the threads executes of a program, as TVM's runtime divides parallel loops."""
    from tvm import tirx

    from kernels.nests.plain import rewritten

    def part(loop: Any) -> Any | None:
        if loop.kind != tirx.ForKind.PARALLEL:
            return None
        extent = int(loop.extent)
        size = -(-extent // threads)
        begin = min(thread * size, extent)
        dtype = loop.loop_var.ty.dtype
        count = tirx.const(min(size, extent - begin), dtype)
        return tirx.For(loop.loop_var, tirx.const(begin, dtype), count, tirx.ForKind.SERIAL, loop.body)

    return rewritten(body, part)


def longest_parts(kernels: Kernels, loops: int, seconds: float) -> dict[str, Any]:
    """Seconds of the thread with the most work, without and with `balance`, for 2 and 3 threads. Each part is timed
    alone, on one CPU."""
    from kernels.passes import PassConfig
    from kernels.space import Candidate

    found: dict[str, Any] = {}
    for threads in (2, 3):
        names = {}
        for on in (0, 1):
            passes = PassConfig.from_text(f"fuse{{on=1}} bounds{{on=1}} lanes{{width=64}} balance{{on={on}}}")
            names[on] = kernels.parts(f"part:{threads}:{on}", Candidate(loops, (), passes), threads)
        taken = kernels.times(seconds)
        longest = {on: max(min(taken[name]) for name in names[on]) for on in names}
        found[str(threads)] = {"without_s": longest[0], "with_s": longest[1], "ratio": longest[0] / longest[1]}
        for name in (*names[0], *names[1]):
            kernels.forget(name)
    return found


def measured(program: Any, threads: int, seconds: float) -> dict[str, Any]:
    """The times and ratios of one kernel."""
    from kernels.passes import PassConfig
    from kernels.space import Candidate
    from kernels.workload import from_prim_func

    kernels = Kernels(from_prim_func(program, "kernel"), threads)
    space = kernels.space
    loops = next(sketch.number for sketch in space.sketches if sketch.rule == "loops")
    others = [c for c in space.initial_candidates(16) if c.sketch != loops][:6]
    for number, candidate in enumerate([space.default(), *others]):
        kept = PassConfig.from_text("vector_math{on=1}")
        kernels.add(f"without@{number}", Candidate(candidate.sketch, candidate.decisions, kept))
    names = [name for name in _PASSES if name in space.pass_names]
    for name, text in texts(names).items():
        kernels.add(f"loops:{name}", Candidate(loops, (), PassConfig.from_text(text)))
    taken = kernels.times(seconds)

    def best(*starts: str) -> list[float]:
        return min((times for name, times in taken.items() if name.startswith(starts)), key=_fastest)

    every = best("loops:@")
    compared = {"all": best("without@"), **{name: best("without@", f"loops:{name}@") for name in names}}
    for name in taken:
        kernels.forget(name)
    longest = longest_parts(kernels, loops, seconds / 4) if "balance" in names else {}
    return {
        "longest_part": longest,
        "with_s": min(every),
        "without_s": min(compared["all"]),
        "ratios": {name: list(ratio(times, every)) for name, times in compared.items()},
    }


def _fastest(times: Sequence[float]) -> float:
    return min(times)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high) of the ratios within rounds."""
    from tuner.measure.stats import median, median_interval

    pairs = [a / b for a, b in zip(slow, fast, strict=True)]
    interval = median_interval(pairs)
    assert interval is not None, "at least 7 rounds"
    return median(pairs), *interval


def rows(names: Sequence[str], threads: int, seconds: float) -> Iterator[dict[str, Any]]:
    for name, make in families().items():
        if not names or any(part in name for part in names):
            found = {"kernel": name, "threads": threads, **measured(make(), threads, seconds)}
            parts = " ".join(f"{n} threads {row['ratio']:.2f}" for n, row in found["longest_part"].items())
            said = ", ".join(f"{key} {value[0]:.2f}" for key, value in found["ratios"].items())
            print(
                f"{name}: {found['with_s'] * 1e6:.1f} us; without: {said} times; longest part: {parts}",
                file=sys.stderr,
                flush=True,
            )
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("families", nargs="*", help="parts of names; without any, all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(arguments.threads)
    from experiments.common import write_json

    write_json(arguments.path, list(rows(arguments.families, arguments.threads, arguments.seconds)))


if __name__ == "__main__":
    main()
