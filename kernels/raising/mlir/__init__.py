"""MLIR in and out: its loops and structured operations as plain loops of LLVM IR, and operations as linalg."""
