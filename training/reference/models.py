"""The models of `crates/nn` in PyTorch: the same parameters under the same names.

A model is described by the same JSON as in a bundle's manifest: fitted features, tasks, derived
outputs and the model's configuration. Weights of linear layers are stored `[in, out]`, as Gatefold
stores them: `y = x W + b`.

Inputs are a dictionary from feature name to a tensor with one row a candidate: integer codes
`[rows]` for a categorical feature, `[rows, max_len]` for a sequence (0 is padding), numbers `[rows]`
for a numeric one.
"""

import torch

from net import Net

SHARED = "shared"


class Model(Net):
    """Any model of the zoo, by `model["kind"]`."""

    def __init__(self, features, tasks, derived, model):
        super().__init__(features, model)
        self.tasks, self.derived = tasks, derived
        self.task_names = [task["name"] for task in tasks]
        self.declare()

    def heads(self, batch):
        """Task name → what its tower ends in, `[rows]`: a logit, or a number."""
        kind = self.model["kind"].replace("-", "_")
        return getattr(self, f"_{kind}")(batch)

    def forward(self, batch):
        """Output name → predictions `[rows]`: the tasks in order, then the derived outputs."""
        return self._outputs(self.heads(batch))

    def _outputs(self, heads):
        outputs = {}
        for task in self.tasks:
            value = heads[task["name"]]
            if task.get("fake_negatives") == "calibrated":
                # b / (1 - b), which a b above 1/2 would lift above 1.
                b = torch.sigmoid(value)
                outputs[task["name"]] = (b / (1 - b)).clamp(max=1)
            else:
                outputs[task["name"]] = value if is_number(task) else torch.sigmoid(value)
        if self.model["kind"] == "aitm":
            outputs = self._conditional(outputs)
        for derived in self.derived:
            product = torch.ones(())
            for name in derived["product"]:
                product = product * outputs[name]
            outputs[derived["name"]] = product
        return outputs

    def losses(self, batch, labels, late=None):
        """`loss` and `loss.<task>`; `labels` maps task names to tensors `[rows]`.

        `late` is 1 on rows that are there again as positives, for the tasks that learn from fake
        negatives. Those that weigh them count a positive 1 + p and a negative (1 - p)(1 + p) times
        (Ktena et al., RecSys 2019), with p their own prediction, a constant.

        A conditional task is learned on the rows where it is defined, and has no loss where there is
        none. ESMM learns it through the product with the task that it is given, over all rows (Ma
        et al., SIGIR 2018, formula 3); AITM predicts the joint outcome itself.
        """
        heads = self.heads(batch)
        outputs = self._outputs(heads)
        losses = {}
        for task in self.tasks:
            name, given = task["name"], task.get("given")
            label = labels[name]
            if is_number(task):
                each = (heads[name] - label) ** 2
            elif self.model["kind"] == "esmm" and given:
                joint = (outputs[given] * outputs[name]).clamp(1e-7, 1 - 1e-7)
                each = torch.nn.functional.binary_cross_entropy(joint, label, reduction="none")
            else:
                each = torch.nn.functional.binary_cross_entropy_with_logits(heads[name], label, reduction="none")
            everywhere = not given or self.model["kind"] in ("esmm", "aitm")
            weight = torch.ones_like(label) if everywhere else labels[given]
            if task.get("fake_negatives") == "weighted":
                p = joint if self.model["kind"] == "esmm" and given else torch.sigmoid(heads[name])
                p = p.detach()
                weight = weight * torch.where(label == 1, 1 + p, (1 - p) * (1 + p))
            elif late is not None and "fake_negatives" not in task:
                weight = weight * (1 - late)
            losses[name] = (each * weight).sum() / weight.sum().clamp(min=1)
        total = sum(task.get("weight", 1.0) * losses[task["name"]] for task in self.tasks)
        named = {f"loss.{name}": value for name, value in losses.items()}
        penalty = self._penalty(heads)
        if penalty is None:
            return {"loss": total, **named}
        return {"loss": total + penalty, **named, "loss.penalty": penalty}

    def _towers(self, values):
        return {name: self.tower(name, values[name]) for name in self.task_names}

    # The zoo.

    def _single_task(self, batch):
        return self._towers(
            {
                name: self.hidden(f"bottom.{name}", self.rows(batch, f"embedding.{name}"), self.model["bottom"])
                for name in self.task_names
            }
        )

    def _shared_bottom(self, batch):
        bottom = self.hidden("bottom", self.rows(batch), self.model["bottom"])
        return self._towers({name: bottom for name in self.task_names})

    def _bottom_of_each(self, batch):
        x = self.rows(batch)
        return self._towers({name: self.hidden(f"bottom.{name}", x, self.model["bottom"]) for name in self.task_names})

    _l2_sharing = _bottom_of_each
    _trace_norm = _bottom_of_each

    def _cross_stitch(self, batch):
        x = self.rows(batch)
        values = {name: x for name in self.task_names}
        for layer, width in enumerate(self.model["bottom"]):
            units = torch.stack(
                [self.layer(f"bottom.{name}.{layer}", values[name], width) for name in self.task_names], 1
            )
            values = {
                name: torch.einsum("t,btd->bd", self.parameter(f"stitch.{name}.{layer}", (len(self.tasks),)), units)
                for name in self.task_names
            }
        return self._towers(values)

    def _omoe(self, batch):
        x = self.rows(batch)
        experts = [self.expert(f"expert.{expert}", x) for expert in range(self.model["experts"])]
        mixture = self.mixture(f"gate.{SHARED}", x, experts)
        return self._towers({name: mixture for name in self.task_names})

    def _mmoe(self, batch):
        x = self.rows(batch)
        experts = [self.expert(f"expert.{expert}", x) for expert in range(self.model["experts"])]
        return self._towers({name: self.mixture(f"gate.{name}", x, experts) for name in self.task_names})

    def _cgc(self, batch):
        x = self.rows(batch)
        mixtures, _ = self._extract("", {name: x for name in self.task_names}, x)
        return self._towers(mixtures)

    def _ple(self, batch):
        shared = self.rows(batch)
        values = {name: shared for name in self.task_names}
        for level in range(self.model["levels"]):
            prefix = f"level.{level}."
            mixtures, every = self._extract(prefix, values, shared)
            if level + 1 < self.model["levels"]:
                shared = self.mixture(f"{prefix}gate.{SHARED}", shared, every)
            values = mixtures
        return self._towers(values)

    def _extract(self, prefix, values, shared):
        own = {
            name: [
                self.expert(f"{prefix}expert.{name}.{expert}", values[name])
                for expert in range(self.model["task_experts"])
            ]
            for name in self.task_names
        }
        common = [self.expert(f"{prefix}expert.{SHARED}.{expert}", shared) for expert in range(self.model["experts"])]
        mixtures = {
            name: self.mixture(f"{prefix}gate.{name}", values[name], own[name] + common) for name in self.task_names
        }
        return mixtures, sum(own.values(), []) + common

    def _esmm(self, batch):
        x = self.rows(batch)
        widths = self.model["bottom"] + self.model["tower"]
        return {name: self.tower(name, x, widths) for name in self.task_names}

    def _aitm(self, batch):
        x = self.rows(batch)
        widths = self.model["bottom"] + self.model["tower"]
        logits, previous = {}, None
        for name in self.task_names:
            value = self.hidden(f"tower.{name}", x, widths)
            if previous is not None:
                transferred = self.hidden(f"transfer.{name}", previous, widths[-1:])
                value = self._attend(value, transferred)
            logits[name] = self.linear(f"tower.{name}.{len(widths)}", value, 1).squeeze(1)
            previous = value
        return logits

    def _attend(self, own, transferred):
        both = torch.stack([own, transferred], 1)
        width = both.shape[-1]
        query, key, value = (
            both @ self.parameter(f"attention.{part}.weight", (width, width)) for part in ("query", "key", "value")
        )
        weights = torch.softmax((query * key).sum(-1) / width**0.5, 1)
        return (weights.unsqueeze(-1) * value).sum(1)

    def _conditional(self, outputs):
        """AITM's towers predict joint outcomes; the output of a conditional task is the quotient."""
        result = dict(outputs)
        for task in self.tasks:
            if task.get("given"):
                condition = outputs[task["given"]]
                result[task["name"]] = torch.minimum(outputs[task["name"]], condition) / condition
        return result

    def _penalty(self, heads):
        kind, names = self.model["kind"], self.task_names
        if kind == "aitm":
            predictions = [torch.sigmoid(heads[name]) for name in names]
            excess = [torch.relu(later - earlier) for earlier, later in zip(predictions, predictions[1:])]
            return self.model["calibrator"] * sum(excess).mean()
        layers = range(len(self.model["bottom"]))
        parameters = self.by_name()
        if kind == "l2-sharing":
            distance = 0
            for index, first in enumerate(names):
                for second in names[index + 1 :]:
                    for layer in layers:
                        for part in ("weight", "bias"):
                            difference = (
                                parameters[f"bottom.{first}.{layer}.{part}"]
                                - parameters[f"bottom.{second}.{layer}.{part}"]
                            )
                            distance = distance + (difference**2).sum()
            return self.model["sharing"] * distance
        if kind == "trace-norm":
            total = 0
            for layer in layers:
                stacked = torch.stack([parameters[f"bottom.{name}.{layer}.weight"].flatten() for name in names], 1)
                total = total + torch.linalg.matrix_norm(stacked, ord="nuc")
            return self.model["sharing"] * total
        return None


def is_number(task):
    """Whether the task predicts a number and not a probability."""
    return task.get("loss") == "squared-error"


def load_parameters(model, arrays):
    """Copies NumPy arrays by name into the model; names and shapes must agree exactly."""
    parameters = model.by_name()
    if set(parameters) != set(arrays):
        raise ValueError(f"parameter names differ: {sorted(set(parameters) ^ set(arrays))}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != arrays[name].shape:
                raise ValueError(f"{name}: shape {arrays[name].shape}, the model has {tuple(parameter.shape)}")
            parameter.copy_(torch.from_numpy(arrays[name]))
