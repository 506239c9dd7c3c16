"""How long things take and what memory they need, as ratios within one run: `python -m benchmarks.speed`."""
