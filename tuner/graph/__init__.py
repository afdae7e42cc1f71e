"""The model as a graph: cleaned, laid out, and lowered to kernels. `tuner.devices` links the winners into it."""

from tuner.graph.algorithms import DIRECT, Choices, choices
from tuner.graph.build import build_untuned, finish
from tuner.graph.clean import clean
from tuner.graph.lower import GraphConfig, Lowered, input_specs, lower, output_specs, preferred_layout
from tuner.graph.parts import tuned_parts
from tuner.graph.products import attention_scores

__all__ = [
    "attention_scores", "DIRECT", "Choices", "GraphConfig", "Lowered", "build_untuned", "choices", "clean", "finish",
    "input_specs", "lower", "output_specs", "preferred_layout", "tuned_parts",
]  # fmt: skip
