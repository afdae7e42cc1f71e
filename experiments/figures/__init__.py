"""What the files under results/ say, as figures by name: one function for each kind of file.

`experiments/papers.py` puts them into the documents. A new file of a known kind (the patterns of `READERS`) needs no
code. A new kind needs one function, from a path to figures, and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from experiments.common import ROOT
from experiments.figures import gpus, models, nights, passes, raising, search, timing
from experiments.figures.words import Figures

READERS: Mapping[str, Callable[[Path], Figures]] = {
    "*/models.json": models.models,
    "precision_models.json": models.models,
    "precision_products.json": models.precision_products,
    "precision_simulated.json": models.precision_simulated,
    "field.json": models.field,
    "pypi_models.json": models.pypi_models,
    "nightly.json": nights.nightly,
    "nights.jsonl": nights.past,
    "large_model.json": models.large_model,
    "onnx_backend.json": models.onnx_backend,
    "cuda_simulated.json": gpus.cuda_simulated,
    "gpu_balance.json": gpus.gpu_balance,
    "gpu_coalescing.json": gpus.gpu_coalescing,
    "gpu_fragments.json": gpus.gpu_fragments,
    "gpu_memory.json": gpus.gpu_memory,
    "gpu_persistent.json": gpus.gpu_persistent,
    "opencl_kernels.json": gpus.opencl_kernels,
    "opencl_models.json": gpus.opencl_models,
    "opencl_clblast.json": gpus.opencl_clblast,
    "opencl_oclgrind.json": gpus.opencl_oclgrind,
    "passes_check.json": passes.passes_check,
    "passes_threads.json": passes.passes_threads,
    "raising_variants.json": raising.raising_variants,
    "raising_compilers.json": raising.raising_compilers,
    "raising_traps.json": raising.raising_traps,
    "raising_fuzz.json": raising.raising_fuzz,
    "raising_speed.json": raising.raising_speed,
    "sharing.json": timing.sharing,
    "verification.json": models.verification,
    "site.json": nights.site,
    "verdicts-*.jsonl": timing.verdicts,
    "comparison*.jsonl": timing.comparison,
    "throughput.json": search.throughput,
    "search*.json": search.search,
    "*/summary.json": models.run_summary,
}
"""Which function reads which files, by the end of their path under results/."""


def reader_of(name: str) -> Callable[[Path], Figures] | None:
    """The function for a path under results/; None where it is not a file of figures."""
    return next((reader for pattern, reader in READERS.items() if PurePosixPath(name).match(pattern)), None)


def read_all(root: Path = ROOT) -> dict[str, Figures]:
    """The figures of every file in the folders of devices, by its path under results/, but not of runs and nights."""
    results = root / "results"
    names = [path.relative_to(results).as_posix() for path in sorted(results.glob("*/**/*")) if path.is_file()]
    readers = {name: reader_of(name) for name in names if not name.startswith(("runs/", "models/", "nightly/"))}
    return {name: reader(results / name) for name, reader in readers.items() if reader}
