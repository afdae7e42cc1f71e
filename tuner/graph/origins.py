"""Which operator each kernel in plain layout came from, noted while operators are legalized."""

from __future__ import annotations

from typing import Any

from tvm.ir import Call

from tuner.graph.convolution import Geometry
from tuner.graph.rewriter import op_name, shape_of


class ConvolutionOrigins:
    """Legalizes `relax.nn.conv2d` as TVM does and fills `origins`: kernel name -> what it computes."""

    def __init__(self) -> None:
        self.origins: dict[str, dict[str, Any]] = {}

    def rules(self) -> dict[str, Any]:
        """For `relax.transform.LegalizeOps`."""
        return {"relax.nn.conv2d": self._conv2d}

    def _conv2d(self, builder: Any, call: Call) -> Any:
        legalized = call.op.get_attr("FLegalize")(builder, call)
        if op_name(legalized) == "relax.call_tir" and str(call.attrs.data_layout) == "NCHW":
            geometry = Geometry.of(call.attrs, shape_of(call.args[0]), shape_of(call.args[1]))
            self.origins[legalized.args[0].name_hint] = {**geometry.origin(), "hint": geometry.hint()}
        return legalized
