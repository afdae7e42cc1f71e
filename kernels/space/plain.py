"""What TVM's containers hold, as data."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """TVM containers and scalars as JSON-able Python."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if not hasattr(value, "value"):
        return [plain(v) for v in value]
    if not isinstance(value.value, (bool, int, float)):
        return value.value
    return float(value.value) if "float" in str(getattr(value, "dtype", "")) else int(value.value)
