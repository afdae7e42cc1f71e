"""Thread-bound programs rewritten so that the warps need fewer transactions: order, binding, staging, vectors."""

from kernels.coalescing.nests import Nest, Refused, nests, reuses
from kernels.coalescing.rewrite import NOTHING_FEWER, Rewritten, coalesced

__all__ = ["NOTHING_FEWER", "Nest", "Refused", "Rewritten", "coalesced", "nests", "reuses"]
