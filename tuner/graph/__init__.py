"""The model as a graph: cleaned, laid out, lowered to kernels, and put together again with the winners."""

from tuner.graph.assemble import assemble, build_untuned
from tuner.graph.clean import clean
from tuner.graph.lower import GraphConfig, Lowered, lower, output_specs, preferred_layout

__all__ = ["GraphConfig", "Lowered", "assemble", "build_untuned", "clean", "lower", "output_specs", "preferred_layout"]
