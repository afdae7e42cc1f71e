"""Timing: what a sample is, when there are enough, how two sets of them compare. Imports nothing heavy."""
