"""Runs a command from a small process: ``launch.py REPORT COMMAND...`` writes seconds, KiB and exit status to REPORT.

A process starts with the largest resident memory of the one that it was forked from, until it has more of its own; so
what starts it has to be small. Imports nothing that is large for the same reason.
"""

import os
import sys
import time

start = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
with open(sys.argv[1], "w", encoding="utf-8") as report:  # not pathlib, which imports much
    report.write(f"{seconds} {usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}")
