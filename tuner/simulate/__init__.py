"""Recorded spaces as devices: a search is tried on them without building or measuring anything."""
