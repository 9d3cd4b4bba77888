"""A report made up for tests: one measurement of each form."""

from benchmarks.measurement import Goal, Measurement, Spread
from benchmarks.report import Report

QUICK = Measurement(
    "streamer, rival: the stock one",
    "µs",
    ours=Spread(2, 3, 4, 4),
    rival=Spread(500, 600, 700, 700),
    ratio=Spread(150, 200, 240, 240),
    goal=Goal("≥ 100", True),
)
EXACT = Measurement("largest difference", "", Spread(0, 0, 0, 0), goal=Goal("≤ 1e-05", True))
MISSED = Measurement("prefill", "s", Spread(0.1, 0.2, 0.9, 1), goal=Goal("p99 ≤ 0.5 s", False))
REPORT = Report(
    {"cpu": "A Processor", "cores": 2, "memory_gb": 8.0, "system": "Linux x86_64", "load": 3.5},
    {"commit": "abc1234", "python": "3.11.7", "torch": "2.13.0"},
    (QUICK, EXACT, MISSED),
)
