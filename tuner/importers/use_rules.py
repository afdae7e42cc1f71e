"""By operator, what its result's use and its own needs tell of its operands (see `uses`)."""

from __future__ import annotations

from collections.abc import Mapping

from tuner.importers.use import POSITIVE, Use
from tuner.importers.uses import (
    Facts,
    Rule,
    Step,
    Told,
    at_least,
    at_most,
    chosen,
    clipped,
    compared,
    divided,
    each,
    index_into,
    inverted,
    minus,
    moved,
    negated,
    plus,
    power,
    rectified,
    running_sum,
    summed,
    takes,
    times,
    to_type,
    tuples_into,
)

_KEEP = Use(levels=(1.0, 0.0))
_SCORES = Use(scores=True)


def _softmax(step: Step, use: Use, facts: Facts) -> Told:
    yield step.operand(0), _SCORES


def _lengths(data: int, lengths: int, axis: int) -> Rule:
    """Operand `lengths` counts how many elements along an axis of `data` are used."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        along = int(step.attributes.get("time_axis", axis))
        if step.attributes.get("layout"):
            along = 1 - along
        if extent := facts.extent(step.operand(data), along):
            yield step.operand(lengths), Use(1, extent)

    return rule


def _how_many(step: Step, use: Use, facts: Facts) -> Told:
    """The k of TopK."""
    if extent := facts.extent(step.operand(0), int(step.attributes.get("axis", -1))):
        yield step.operand(1), Use(1, extent)


def _sliced(step: Step, use: Use, facts: Facts) -> Told:
    """Where a slice begins in the first half of the axes that it cuts, and ends in the second."""
    yield from moved(0)(step, use, facts)
    shape, axes = facts.shape(step.operand(0)), facts.constant(step.operand(3)) if step.operand(3) else None
    if not shape:
        return
    cut = [shape[int(axis)] for axis in axes.reshape(-1)] if axes is not None else shape
    extent = min(cut, default=1)
    yield step.operand(1), Use(0, max(0, (extent - 1) // 2))
    yield step.operand(2), Use(max(1, (extent + 1) // 2), max(1, extent))


def _an_axis(operand: int) -> Rule:
    def rule(step: Step, use: Use, facts: Facts) -> Told:
        shape = facts.shape(step.operand(0))
        if shape:
            yield step.operand(operand), Use(0, len(shape) - 1)

    return rule


def _reshaped(step: Step, use: Use, facts: Facts) -> Told:
    """A target shape that is no constant: one of as many axes that holds all elements."""
    yield from moved(0)(step, use, facts)
    axes, known = facts.extent(step.operand(1), 0), facts.shape(step.outputs[0])
    if axes:
        yield step.operand(1), Use(exact=known if known is not None else (1.0,) * (axes - 1) + (-1.0,))


def _expanded(step: Step, use: Use, facts: Facts) -> Told:
    yield from moved(0)(step, use, facts)
    axes, shape = facts.extent(step.operand(1), 0), facts.shape(step.operand(0))
    if axes and shape is not None and len(shape) <= axes:
        yield step.operand(1), Use(exact=(1.0,) * (axes - len(shape)) + tuple(map(float, shape)))


def _resized(step: Step, use: Use, facts: Facts) -> Told:
    yield from moved(0)(step, use, facts)
    shape = facts.shape(step.operand(0))
    if shape:
        yield step.operand(2), Use(exact=(1.0,) * len(shape))
        yield step.operand(3), Use(exact=tuple(map(float, shape)))


def _one_hot(step: Step, use: Use, facts: Facts) -> Told:
    depth = facts.number(step.operand(1))
    if depth:
        yield step.operand(0), Use(0, depth - 1)
    else:
        yield step.operand(1), Use(2, 8)


def _classes(step: Step, use: Use, facts: Facts) -> Told:
    if extent := facts.extent(step.operand(0), 1):
        yield step.operand(1), Use(0, extent - 1)


def _of_kind(step: Step, operand: int, facts: Facts) -> Use:
    """An attention mask, which is a mask of what is kept, or added to the scores."""
    return Use(levels=(1.0, 0.0)) if step.attributes.get(f"bool_{operand}") else Use(scores=True)


def _attention(step: Step, use: Use, facts: Facts) -> Told:
    yield step.operand(3), _of_kind(step, 3, facts)


def _lengths_or_mask(operand: int, tokens: int) -> Rule:
    """com.microsoft: one number a sequence is its length, one a token is a mask. Operand `tokens` has the tokens."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        shape, extent = facts.shape(step.operand(operand)) if step.operand(operand) else None, None
        extent = facts.extent(step.operand(tokens), 1)
        if shape is None or not extent:
            return
        yield step.operand(operand), Use(1, extent) if len(shape) == 1 else _KEEP

    return rule


_POSITIVE_SECOND = divided(POSITIVE)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        (
            "Identity",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "Transpose",
            "Tile",
            "Split",
            "Dropout",
            "Pad",
            "Upsample",
            "DepthToSpace",
            "SpaceToDepth",
            "Trilu",
            "Compress",
            "ReduceMax",
            "ReduceMin",
            "ReduceMean",
            "MaxPool",
            "AveragePool",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "Floor",
            "Ceil",
            "Round",
            "CastLike",
        ),
        moved(0),
    ),
    "Identity": lambda step, use, facts: [(step.operand(0), use)],
    "Concat": moved(),
    "Cast": to_type,
    "Reshape": _reshaped,
    "Expand": _expanded,
    "Resize": _resized,
    "Slice": _sliced,
    "Tile": each(moved(0), takes(_1=Use(1, 2))),
    "Trilu": each(moved(0), takes(_1=Use(-1, 1))),
    "Dropout": each(moved(0), takes(_1=Use(0.0, 0.5), _2=Use(exact=(0.0,)))),
    "Compress": each(moved(0), takes(_1=Use(mask=True))),
    "TopK": each(moved(0), _how_many),
    # indices
    "Gather": each(moved(0), index_into(0, 1)),
    "GatherElements": each(moved(0), index_into(0, 1)),
    "GatherND": each(moved(0), tuples_into(0, 1)),
    "ScatterElements": each(moved(0, 2), index_into(0, 1, distinct=True)),
    "Scatter": each(moved(0, 2), index_into(0, 1, distinct=True)),
    "ScatterND": each(moved(0, 2), tuples_into(0, 1, distinct=True)),
    "OneHot": _one_hot,
    "NegativeLogLikelihoodLoss": _classes,
    "SoftmaxCrossEntropyLoss": _classes,
    "ReverseSequence": each(moved(0), _lengths(0, 1, 0)),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _lengths(0, 4, 0)),
    "Range": takes(_0=Use(exact=(0.0,)), _1=Use(1, 16), _2=Use(exact=(1.0,))),
    "Loop": takes(_0=Use(1, 4), _1=Use(exact=(1.0,))),
    "BitShift": takes(_1=Use(0, 7)),
    "NonMaxSuppression": takes(_2=Use(1, 8), _3=Use(0.0, 1.0), _4=Use(0.0, 0.5)),
    # arithmetic
    "Add": plus,
    "Sub": minus,
    "Mul": times,
    "Div": _POSITIVE_SECOND,
    "Mod": takes(_1=Use(low=1.0)),
    "Pow": power(POSITIVE),
    "Neg": negated,
    "ReduceSum": summed,
    "CumSum": each(running_sum, _an_axis(1)),
    "Clip": clipped,
    "Max": at_least,
    "Min": at_most,
    "Relu": rectified,
    "Sqrt": takes(_0=Use(low=0.0)),
    **dict.fromkeys(("Log", "Reciprocal", "ReduceLogSum", "Rsqrt"), takes(_0=Use(low=POSITIVE))),
    **dict.fromkeys(("Asin", "Acos", "Atanh", "GridSample"), takes(_0=Use(-1.0, 1.0))),
    "GridSample": takes(_1=Use(-1.0, 1.0)),
    "Acosh": takes(_0=Use(low=1.0 + POSITIVE)),
    "Log1p": takes(_0=Use(low=POSITIVE - 1.0)),
    "BatchNormalization": takes(_4=Use(low=POSITIVE)),
    "QuantizeLinear": takes(_1=Use(0.01, 0.1)),
    "DequantizeLinear": takes(_1=Use(0.01, 0.1)),
    # conditions and masks
    "Where": chosen,
    "Not": inverted,
    **dict.fromkeys(("And", "Or"), moved(0, 1)),
    "Xor": takes(_0=Use(mask=True), _1=Use(mask=True)),
    "Equal": compared(None),
    "Greater": compared(True),
    "GreaterOrEqual": compared(True),
    "Less": compared(False),
    "LessOrEqual": compared(False),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Attention": _attention,
    "RotaryEmbedding": index_into(1, 3, axis=0),
    # of com.microsoft
    "ms.Attention": _lengths_or_mask(3, 0),
    "ms.MultiHeadAttention": _lengths_or_mask(4, 0),
    "ms.RotaryEmbedding": index_into(2, 1, axis=0),
    "ms.EmbedLayerNormalization": each(index_into(2, 0, axis=0), index_into(4, 1, axis=0), takes(_7=_KEEP)),
    # of PyTorch
    "IndexTensor": lambda step, use, facts: _indexed(step, facts),
}


def _indexed(step: Step, facts: Facts) -> Told:
    """`x[i, j, ...]`: each index along its own axis; what is left out is an empty name."""
    for axis, name in enumerate(step.inputs[1:]):
        extent = facts.extent(step.operand(0), axis)
        if name and extent:
            mask = bool(step.attributes.get(f"bool_{axis + 1}"))
            yield name, Use(mask=True) if mask else Use(0, extent - 1)
