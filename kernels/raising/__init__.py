"""Loop nests of plain C found in LLVM IR, proven to be tensor computations, and made TensorIR."""
