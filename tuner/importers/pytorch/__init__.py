"""A PyTorch module, from the callable that makes it to relax. `tuner.importers.torch` is the entry."""
