"""Writes `crates/exec/tests/golden/optimizers.json`, which the tests of `crates/exec` read.

A dense matrix and a table make five steps with each optimizer, in double precision, on the same
gradients. The optimizers are those of PyTorch where PyTorch has them (its sparse gradients for the
table), else their published formulas in NumPy.

    python training/reference/optimizers.py
"""

import json
import pathlib

import numpy
import torch

FILE = pathlib.Path(__file__).resolve().parents[2] / "crates/exec/tests/golden/optimizers.json"
STEPS, LOOKUPS = 5, 8
# A width beyond the 16 numbers that the kernels take at a time.
DENSE, TABLE = (3, 19), (7, 19)
# Of the learning rate, step by step.
FACTORS = [0.25, 1.0, 1.0, 0.5, 0.125]

RATE = 0.05
ADAM = {"learning_rate": RATE, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
ADAGRAD = {"learning_rate": RATE, "epsilon": 1e-6, "initial": 0.125}
CASES = [
    {"optimizer": {"kind": "sgd", "learning_rate": RATE, "momentum": 0.0}},
    {"optimizer": {"kind": "sgd", "learning_rate": RATE, "momentum": 0.75}},
    {"optimizer": {"kind": "adam", **ADAM}},
    {"optimizer": {"kind": "adam", **ADAM}, "l2": 0.3, "embedding_l2": 0.2},
    {"optimizer": {"kind": "adamw", **ADAM, "weight_decay": 0.4}},
    {"optimizer": {"kind": "adagrad", **ADAGRAD}},
    {"optimizer": {"kind": "rowwise-adagrad", **ADAGRAD}},
    {"optimizer": {"kind": "ftrl", "learning_rate": RATE, "beta": 1.0, "l1": 0.5, "l2": 0.75}},
    {"optimizer": {"kind": "sgd", "learning_rate": RATE, "momentum": 0.0}, "clip_norm": 6.0},
    {"optimizer": {"kind": "adagrad", **ADAGRAD}, "clip_norm": 6.0, "l2": 0.3, "embedding_l2": 0.2},
]


class TorchOptimizer:
    """One of `torch.optim`, for a dense parameter or for the touched rows of a table."""

    def __init__(self, start, is_table, kind, learning_rate, weight_decay=0.0, **settings):
        self.parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
        self.rate, self.is_table, self.weight_decay = learning_rate, is_table, weight_decay
        # Where PyTorch has no decay for sparse gradients, touched rows are decayed here.
        self.decays_rows = is_table and weight_decay > 0
        if kind.startswith("adam"):
            settings["betas"] = (settings.pop("beta1"), settings.pop("beta2"))
            settings["eps"] = settings.pop("epsilon")
        if kind == "adagrad":
            settings["initial_accumulator_value"] = settings.pop("initial")
            settings["eps"] = settings.pop("epsilon")
        if kind == "adamw" and not is_table:
            settings["weight_decay"] = weight_decay
        makers = {
            "sgd": torch.optim.SGD,
            "adam": torch.optim.SparseAdam if is_table else torch.optim.Adam,
            "adamw": torch.optim.SparseAdam if is_table else torch.optim.AdamW,
            "adagrad": torch.optim.Adagrad,
        }
        self.optimizer = makers[kind]([self.parameter], lr=learning_rate, **settings)

    def values(self):
        return self.parameter.detach().numpy()

    def step(self, touched, gradient, factor):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        if self.is_table:
            rows = torch.from_numpy(touched)[None, :]
            values = torch.from_numpy(gradient[touched])
            self.parameter.grad = torch.sparse_coo_tensor(rows, values, gradient.shape)
        else:
            self.parameter.grad = torch.from_numpy(gradient)
        if self.decays_rows:
            with torch.no_grad():
                self.parameter[touched] *= 1 - self.rate * factor * self.weight_decay
        self.optimizer.step()


class LazyMomentum:
    """`torch.optim.SGD` with momentum, row by row: a row's momentum moves when it is touched."""

    def __init__(self, start, learning_rate, momentum):
        self.w, self.m = start.copy(), numpy.zeros_like(start)
        self.rate, self.momentum = learning_rate, momentum

    def values(self):
        return self.w

    def step(self, touched, gradient, factor):
        for row in touched:
            self.m[row] = self.momentum * self.m[row] + gradient[row]
            self.w[row] -= self.rate * factor * self.m[row]


class RowwiseAdagrad:
    """FBGEMM's EXACT_ROWWISE_ADAGRAD."""

    def __init__(self, start, learning_rate, epsilon, initial):
        self.w, self.sums = start.copy(), numpy.full(len(start), initial)
        self.rate, self.epsilon = learning_rate, epsilon

    def values(self):
        return self.w

    def step(self, touched, gradient, factor):
        for row in touched:
            self.sums[row] += (gradient[row] ** 2).mean()
            self.w[row] -= self.rate * factor * gradient[row] / (self.sums[row] ** 0.5 + self.epsilon)


class Ftrl:
    """McMahan et al., "Ad click prediction: a view from the trenches" (2013), algorithm 1.

    The paper starts at w = 0, z = 0. From other weights, z starts where the algorithm's closed form
    gives them back.
    """

    def __init__(self, start, learning_rate, beta, l1, l2):
        self.alpha, self.beta, self.l1, self.l2 = learning_rate, beta, l1, l2
        self.z = -start * (beta / learning_rate + l2) - l1 * numpy.sign(start)
        self.n = numpy.zeros_like(start)
        assert numpy.allclose(self.values(), start)

    def values(self):
        w = -(self.z - numpy.sign(self.z) * self.l1)
        w = w / ((self.beta + numpy.sqrt(self.n)) / self.alpha + self.l2)
        return numpy.where(numpy.abs(self.z) <= self.l1, 0.0, w)

    def step(self, touched, gradient, factor):
        w = self.values()
        for row in touched:
            g = gradient[row]
            sigma = (numpy.sqrt(self.n[row] + g**2) - numpy.sqrt(self.n[row])) / self.alpha
            self.z[row] += factor * g - sigma * w[row]
            self.n[row] += g**2


def make(start, is_table, kind, **settings):
    if kind == "rowwise-adagrad":
        return RowwiseAdagrad(start, **settings)
    if kind == "ftrl":
        return Ftrl(start, **settings)
    if kind == "sgd" and is_table and settings["momentum"] > 0:
        return LazyMomentum(start, **settings)
    return TorchOptimizer(start, is_table, kind, **settings)


def clipped(gradients, limit):
    """All gradients, scaled by PyTorch to a common norm."""
    parameters = [torch.nn.Parameter(torch.zeros(gradient.shape).double()) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.from_numpy(gradient.copy())
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    return [parameter.grad.numpy() for parameter in parameters]


def train(case, start, batches):
    settings = case["optimizer"]
    optimizers = [make(values, is_table, **settings) for is_table, values in enumerate(start)]
    amounts = [case.get("l2", 0.0), case.get("embedding_l2", 0.0)]
    norms = []
    for factor, (dense, codes, rows) in zip(FACTORS, batches):
        table = numpy.zeros(TABLE)
        numpy.add.at(table, codes, rows)
        # Code 0 is padding: its row is never trained.
        table[0] = 0
        gradients = [dense, table]
        norms.append(sum((gradient**2).sum() for gradient in gradients) ** 0.5)
        if "clip_norm" in case:
            gradients = clipped(gradients, case["clip_norm"])
        touched = [numpy.arange(len(dense)), numpy.unique(codes[codes != 0])]
        for optimizer, gradient, rows_touched, amount in zip(optimizers, gradients, touched, amounts):
            penalized = gradient + amount * optimizer.values()
            optimizer.step(rows_touched, penalized, factor)
    if "clip_norm" in case:
        assert min(norms) < case["clip_norm"] < max(norms), norms
    return [optimizer.values() for optimizer in optimizers]


def listed(array):
    """Nine significant digits: more than a 32-bit float holds."""
    return [float(f"{value:.9g}") for value in numpy.asarray(array).ravel()]


def main():
    random = numpy.random.default_rng(7)

    def numbers(*shape):
        return random.normal(size=shape).astype(numpy.float32).astype(numpy.float64)

    start = [numbers(*DENSE), numbers(*TABLE)]
    start[1][0] = 0
    for values in start:
        values.ravel()[::5] = 0
    batches = []
    for step in range(STEPS):
        # Padding, duplicates, and rows that no step or not every step touches.
        codes = random.integers(0, 5, size=LOOKUPS) if step else numpy.array([2, 0, 5, 2, 2, 1, 0, 1])
        scale = numpy.float32(2.0 ** (step - 3))
        batches.append((numbers(*DENSE) * scale, codes, numbers(LOOKUPS, TABLE[1]) * scale))
    cases = []
    for case in CASES:
        dense, table = train(case, start, batches)
        cases.append({**case, "dense": listed(dense), "table": listed(table)})
    golden = {
        "rows": [DENSE[0], TABLE[0]],
        "width": DENSE[1],
        "dense": listed(start[0]),
        "table": listed(start[1]),
        "factors": FACTORS,
        "batches": [
            {"dense": listed(dense), "codes": codes.tolist(), "rows": listed(rows)}
            for dense, codes, rows in batches
        ],
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    lines.append('"cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{FILE}: {len(cases)} cases")


if __name__ == "__main__":
    main()
