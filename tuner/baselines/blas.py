"""A raised contraction by numpy, which has its products from a BLAS: einsum with the best order of pairs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.measure.model_service import ModelWorker
from tuner.protocols import Array

BLAS = "numpy_blas"
"""Its name in reports."""


class Product:
    """Implements `protocols.Prepared`. `inputs` are the model's, in order."""

    def __init__(self, c: Mapping[str, Any], inputs: Sequence[Array]) -> None:
        formula = c["formula"]
        given = {t["position"]: np.asarray(a) for t, a in zip(c["inputs"], inputs, strict=True)}
        output = c["outputs"][0]
        self._text, self._operands = formula["text"], [given[position] for position in formula["operands"]]
        self._path = np.einsum_path(self._text, *self._operands, optimize="optimal")[0]
        self._before = given[output["position"]] if formula["adds"] else None
        self._result = np.empty(output["shape"], output["dtype"])

    def launch(self, count: int) -> None:
        for _ in range(count):
            np.einsum(self._text, *self._operands, out=self._result, optimize=self._path)
            if self._before is not None:
                np.add(self._result, self._before, out=self._result)

    def outputs(self) -> list[Array]:
        return [self._result]


class BlasWorker(ModelWorker):
    """`c` says which contraction it is."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self._c = c

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load and call once; returns {"settings", "load_s"} as the other workers do."""
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        began = time.perf_counter()
        prepared = Product(self._c, inputs)
        prepared.launch(1)
        self._prepared = prepared
        return {"settings": f"numpy {np.__version__}: {self._c['formula']['text']}",
                "load_s": time.perf_counter() - began}  # fmt: skip
