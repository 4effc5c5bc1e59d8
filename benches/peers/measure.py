"""Runs a command and prints what it took: one JSON object, its last line on stdout.

Run:   python measure.py PROGRAM [ARGUMENT ...]
Wall time from start to end, processor time and peak memory as the system accounts them to the process and
those it started (wait4).
"""
import json
import os
import subprocess
import sys
import time

start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
if status:
    raise SystemExit(f"{' '.join(sys.argv[1:])} failed: {os.waitstatus_to_exitcode(status)}")
print(json.dumps({
    "wall_seconds": wall,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "peak_memory_mb": usage.ru_maxrss / 1024,
}))
