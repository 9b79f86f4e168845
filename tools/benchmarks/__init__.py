"""The sections of tools/benchmark.py: what is measured, against what, and how."""
