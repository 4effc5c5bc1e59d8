"""What the training peers share: their arguments, their data, and how a turn is timed.

The data is what `gatefold-bench train-data` wrote: `ids.i32`, `labels.f32` and `shape.json`. Every
peer prints one JSON object a round on stdout.
"""

import argparse
import json
import pathlib
import resource
import time

import numpy
import torch

WIDTH = 16
TASKS = 2
LEARNING_RATE = 1e-3


class Workload:
    """The ids, labels and shape of one workload."""

    def __init__(self, folder):
        shape = json.loads((folder / "shape.json").read_text())
        self.model = shape["model"]
        self.samples, self.fields = shape["samples"], shape["fields"]
        self.rows_per_field, self.batch = shape["rows_per_field"], shape["batch"]
        ids = numpy.fromfile(folder / "ids.i32", dtype="<i4")
        self.ids = ids.reshape(self.samples, self.fields).astype(numpy.int64)
        self.labels = numpy.fromfile(folder / "labels.f32", dtype="<f4").reshape(self.samples, TASKS)

    def first(self, steps):
        """The rows of the first `steps` batches."""
        count = min(self.samples, steps * self.batch)
        return self.ids[:count], self.labels[:count]


def arguments(description, variants=None):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if variants:
        parser.add_argument("variant", choices=variants)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24, help="batches a round")
    parser.add_argument("--rounds", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    torch.manual_seed(0)
    return parsed, Workload(parsed.data)


def measure(parsed, variant, run, samples):
    """Times `run`, which trains on `samples` samples, `--rounds` times; prints what each gave."""
    for _ in range(parsed.rounds):
        cpu = time.process_time()
        begin = time.perf_counter()
        run()
        seconds = time.perf_counter() - begin
        figures = {
            "variant": variant,
            "samples": samples,
            "samples_per_second": samples / seconds,
            "cpu_seconds": time.process_time() - cpu,
            "seconds": seconds,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(figures), flush=True)
