"""The models of `crates/nn` in PyTorch: the same parameters under the same names.

A model is described by the same JSON as in a bundle's manifest: fitted features, tasks, derived
outputs and the model's configuration. Weights of linear layers are stored `[in, out]`, as Gatefold
stores them: `y = x W + b`.

Inputs are a dictionary from feature name to a tensor with one row a candidate: integer codes
`[rows]` for a categorical feature, `[rows, max_len]` for a sequence (0 is padding), numbers `[rows]`
for a numeric one.
"""

import torch

FIRST_VALUE_CODE = 2  # after padding and missing


class Model(torch.nn.Module):
    """Shared-bottom, ESMM or MMoE, by `model["kind"]`."""

    def __init__(self, features, tasks, derived, model):
        super().__init__()
        self.features = [fitted["feature"] for fitted in features]
        self.tasks, self.derived, self.model = tasks, derived, model
        self.names = {}
        for fitted in features:
            feature = fitted["feature"]
            if feature["kind"] != "numeric":
                self._parameter(f"embedding.{table_name(feature)}", (code_count(fitted), feature["embedding"]))
        inputs = sum(feature.get("embedding") or 1 for feature in self.features)
        names = [task["name"] for task in tasks]
        tower = model["tower"] + [1]
        if model["kind"] == "shared-bottom":
            self._layers("bottom", inputs, model["bottom"])
            for name in names:
                self._layers(f"tower.{name}", model["bottom"][-1], tower)
        elif model["kind"] == "mmoe":
            for expert in range(model["experts"]):
                self._layers(f"expert.{expert}", inputs, model["expert"])
            for name in names:
                self._layers(f"gate.{name}", inputs, model["gate"] + [model["experts"]])
                self._layers(f"tower.{name}", model["expert"][-1], tower)
        elif model["kind"] == "esmm":
            for name in names:
                self._layers(f"tower.{name}", inputs, model["bottom"] + tower)
        else:
            raise ValueError(f"model kind {model['kind']!r} has no reference")

    def _parameter(self, name, shape):
        if name in self.names:
            return  # a table that several features share
        attribute = name.replace(".", "__").replace("-", "_")
        self.register_parameter(attribute, torch.nn.Parameter(torch.zeros(shape)))
        self.names[name] = attribute

    def _layers(self, prefix, inputs, widths):
        for index, width in enumerate(widths):
            self._parameter(f"{prefix}.{index}.weight", (inputs, width))
            self._parameter(f"{prefix}.{index}.bias", (width,))
            inputs = width

    def by_name(self):
        """Every parameter under Gatefold's name for it."""
        return {name: getattr(self, attribute) for name, attribute in self.names.items()}

    def _apply_layers(self, prefix, rows, last_is_linear):
        """The layers `prefix.0`, `prefix.1`, … with a ReLU after each but, if asked, the last."""
        parameters = self.by_name()
        count = sum(1 for name in parameters if name.startswith(prefix + ".") and name.endswith(".weight"))
        for index in range(count):
            rows = rows @ parameters[f"{prefix}.{index}.weight"] + parameters[f"{prefix}.{index}.bias"]
            if index + 1 < count or not last_is_linear:
                rows = torch.relu(rows)
        return rows

    def _input_rows(self, batch):
        """Request-level features in their order, then candidate-level ones, end to end."""
        parameters = self.by_name()
        ordered = sorted(self.features, key=lambda feature: feature["side"] == "item")
        columns = []
        for feature in ordered:
            values = batch[feature["name"]]
            if feature["kind"] == "numeric":
                columns.append(values.unsqueeze(1))
                continue
            table = parameters[f"embedding.{table_name(feature)}"]
            # `padding_idx` keeps the zero row of padding out of training.
            rows = torch.nn.functional.embedding(values.long(), table, padding_idx=0)
            if feature["kind"] == "sequence":
                present = (values != 0).sum(1, keepdim=True).clamp(min=1)
                rows = rows.sum(1) / present.to(rows.dtype)
            columns.append(rows)
        return torch.cat(columns, 1)

    def logits(self, batch):
        """Task name → logits `[rows]`."""
        x = self._input_rows(batch)
        kind = self.model["kind"]
        if kind == "shared-bottom":
            shared = self._apply_layers("bottom", x, last_is_linear=False)
        elif kind == "mmoe":
            count = self.model["experts"]
            experts = [self._apply_layers(f"expert.{expert}", x, last_is_linear=False) for expert in range(count)]
            experts = torch.stack(experts, 1)
        logits = {}
        for task in self.tasks:
            name = task["name"]
            if kind == "shared-bottom":
                rows = shared
            elif kind == "mmoe":
                gate = torch.softmax(self._apply_layers(f"gate.{name}", x, last_is_linear=True), 1)
                rows = (gate.unsqueeze(2) * experts).sum(1)
            else:
                rows = x
            logits[name] = self._apply_layers(f"tower.{name}", rows, last_is_linear=True).squeeze(1)
        return logits

    def forward(self, batch):
        """Output name → probabilities `[rows]`: the tasks in order, then the derived outputs."""
        outputs = {name: torch.sigmoid(logit) for name, logit in self.logits(batch).items()}
        for derived in self.derived:
            product = torch.ones(())
            for name in derived["product"]:
                product = product * outputs[name]
            outputs[derived["name"]] = product
        return outputs

    def losses(self, batch, labels):
        """`loss` and `loss.<task>`; `labels` maps task names to 0/1 tensors `[rows]`.

        ESMM learns the conditional task through the product with the task that it is given, over
        all rows (Ma et al., SIGIR 2018, formula 3); the others learn it on the rows where it is
        defined, and have no loss where there is none.
        """
        logits = self.logits(batch)
        losses = {}
        for task in self.tasks:
            name, given = task["name"], task.get("given")
            if self.model["kind"] == "esmm" and given:
                joint = torch.sigmoid(logits[given]) * torch.sigmoid(logits[name])
                joint = joint.clamp(1e-7, 1 - 1e-7)
                losses[name] = torch.nn.functional.binary_cross_entropy(joint, labels[name])
                continue
            weight = labels[given] if given else torch.ones_like(labels[name])
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits[name], labels[name], reduction="none")
            losses[name] = (each * weight).sum() / weight.sum().clamp(min=1)
        total = sum(task.get("weight", 1.0) * losses[task["name"]] for task in self.tasks)
        return {"loss": total, **{f"loss.{name}": value for name, value in losses.items()}}


def table_name(feature):
    return feature.get("table") or feature["name"]


def code_count(fitted):
    """Rows of a feature's embedding table: padding, missing, then the encoder's own codes."""
    encoder, state = fitted["feature"]["encoder"], fitted["state"]
    if encoder["kind"] == "vocab":
        return FIRST_VALUE_CODE + encoder.get("oov_buckets", 1) + state["size"]
    if encoder["kind"] == "hash":
        return FIRST_VALUE_CODE + encoder["buckets"]
    if encoder["kind"] == "bucketize":
        return FIRST_VALUE_CODE + len(encoder["edges"]) + 1
    raise ValueError(f"encoder {encoder['kind']!r} makes no codes")


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
