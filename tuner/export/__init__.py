"""Ways to deploy a tuned model; `library` is the compiled shared library with its manifest."""
