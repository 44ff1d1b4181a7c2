"""Training scripts, with one fault each and without. A package: `benchmarks/ward.py` must not stand in its place."""
