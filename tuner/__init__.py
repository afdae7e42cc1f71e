"""An auto-tuning and benchmarking harness for ML models. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
