"""Which operator each kernel in plain layout came from, noted while operators are legalized."""

from __future__ import annotations

from typing import Any

from tvm.ir import Call

from tuner.graph.layout import Geometry
from tuner.graph.rewriter import op_name, shape_of


class ConvolutionOrigins:
    """Legalizes `relax.nn.conv2d` as TVM does and fills `found`: kernel name -> what it computes."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def rules(self) -> dict[str, Any]:
        """For `relax.transform.LegalizeOps`."""
        return {"relax.nn.conv2d": self._conv2d}

    def _conv2d(self, builder: Any, call: Call) -> Any:
        made = call.op.get_attr("FLegalize")(builder, call)
        if op_name(made) == "relax.call_tir" and str(call.attrs.data_layout) == "NCHW":
            geometry = Geometry.of(call.attrs, shape_of(call.args[0]), shape_of(call.args[1]))
            self.found[made.args[0].name_hint] = {**geometry.origin(), "hint": hint(geometry)}
        return made


def hint(geometry: Geometry) -> str:
    """`conv2d_3x3s2`, `depthwise_conv2d_3x3`, `conv2d_1x1g4`."""
    kh, kw = geometry.weight[2:]
    text = f"conv2d_{kh}x{kw}" + (f"s{geometry.strides[0]}" if max(geometry.strides) > 1 else "")
    if geometry.groups == geometry.data[1] == geometry.weight[0]:
        return f"depthwise_{text}" if geometry.groups > 1 else text
    return text + (f"g{geometry.groups}" if geometry.groups > 1 else "")
