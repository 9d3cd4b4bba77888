"""Figures: what is measured, side by side with its rival in one run. `python -m benchmarks`.

Ratios are what counts, since the machine is shared and differs; absolute figures stand beside
them. Nothing here is needed to use the program, and no test depends on how quick anything is.
"""
