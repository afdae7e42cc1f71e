"""Nightly jobs: every cell measured each night, judged against its history, and the history looked into.

`night.py` runs a night; `browse.py`, `bisect.py` and `backfill.py` are the commands on the history. What is stored is
in `tuner.nights`, where it is stored in `tuner.store.history`.
"""
