"""The parts that the models of `models.py` are made of: features to rows, layers, experts, gates.

A part asks for its parameters by name where it uses them. The first pass over a batch, on made-up
rows, declares them; later ones find them.
"""

import torch

FIRST_VALUE_CODE = 2  # after padding and missing

ACTIVATIONS = {
    "relu": torch.relu,
    "leaky-relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
}
EPSILON = 1e-5


class Net(torch.nn.Module):
    """Named parameters and the parts that use them."""

    def __init__(self, features, model):
        super().__init__()
        self.features = [fitted["feature"] for fitted in features]
        self.code_counts = {
            fitted["feature"]["name"]: code_count(fitted)
            for fitted in features
            if fitted["feature"]["kind"] != "numeric"
        }
        self.model = model
        self.names = {}

    def declare(self):
        """Declares every parameter by a pass over two rows."""
        batch = {}
        for feature in self.features:
            if feature["kind"] == "numeric":
                batch[feature["name"]] = torch.tensor([0.0, 1.0])
            else:
                shape = (2, feature["max_len"]) if feature["kind"] == "sequence" else (2,)
                batch[feature["name"]] = torch.ones(shape, dtype=torch.int64)
        with torch.no_grad():
            self(batch)

    def parameter(self, name, shape, trained=True):
        """The parameter of this name, which is declared if it is new."""
        if name not in self.names:
            attribute = name.replace(".", "__").replace("-", "_")
            self.register_parameter(attribute, torch.nn.Parameter(torch.zeros(shape), requires_grad=trained))
            self.names[name] = attribute
        return getattr(self, self.names[name])

    def by_name(self):
        """Every parameter under Gatefold's name for it."""
        return {name: getattr(self, attribute) for name, attribute in self.names.items()}

    # Layers.

    def activate(self, values):
        return ACTIVATIONS[self.model.get("activation", "relu")](values)

    def linear(self, name, rows, width):
        weight = self.parameter(f"{name}.weight", (rows.shape[-1], width))
        return rows @ weight + self.parameter(f"{name}.bias", (width,))

    def layer(self, name, rows, width):
        """One hidden layer: linear, normalization, activation. (Dropout is left out.)"""
        return self.activate(self.normalize(f"{name}.norm", self.linear(name, rows, width)))

    def normalize(self, name, rows):
        kind, width = self.model.get("normalization", "none"), (rows.shape[-1],)
        if kind == "none":
            return rows
        gamma, beta = self.parameter(f"{name}.gamma", width), self.parameter(f"{name}.beta", width)
        if kind == "layer":
            return torch.nn.functional.layer_norm(rows, width, gamma, beta, EPSILON)
        mean = self.parameter(f"{name}.running_mean", width, trained=False)
        variance = self.parameter(f"{name}.running_variance", width, trained=False)
        if self.training:  # the running statistics are left as they are
            mean, variance = None, None
        return torch.nn.functional.batch_norm(rows, mean, variance, gamma, beta, self.training, 0.0, EPSILON)

    def hidden(self, name, rows, widths):
        for index, width in enumerate(widths):
            rows = self.layer(f"{name}.{index}", rows, width)
        return rows

    def hidden_to(self, name, rows, widths, outputs):
        return self.linear(f"{name}.{len(widths)}", self.hidden(name, rows, widths), outputs)

    def tower(self, task, rows, widths=None):
        widths = self.model["tower"] if widths is None else widths
        return self.hidden_to(f"tower.{task}", rows, widths, 1).squeeze(1)

    def expert(self, name, rows):
        return self.hidden(name, rows, self.model["expert"])

    def mixture(self, gate, rows, experts):
        weights = torch.softmax(self.hidden_to(gate, rows, self.model["gate"], len(experts)), 1)
        return (weights.unsqueeze(2) * torch.stack(experts, 1)).sum(1)

    # Features.

    def rows(self, batch, prefix="embedding"):
        """What depends on the request alone, in the features' order, then the rest, end to end."""
        request, candidate = [], []
        for feature in self.features:
            value = self._value(feature, batch, prefix)
            follows_candidate = feature["side"] == "item" or feature.get("pooling") == "attention"
            (candidate if follows_candidate else request).append(value)
        return torch.cat(request + candidate, 1)

    def _value(self, feature, batch, prefix):
        values = batch[feature["name"]]
        if feature["kind"] == "numeric":
            return values.unsqueeze(1)
        rows = self._embed(feature, values, prefix)
        if feature["kind"] == "categorical":
            return rows
        present = (values != 0).to(rows.dtype).unsqueeze(2)
        pooling = feature.get("pooling", "mean")
        if pooling == "sum":
            return rows.sum(1)
        if pooling == "mean":
            return rows.sum(1) / present.sum(1).clamp(min=1)
        if pooling == "max":
            largest = rows.masked_fill(present == 0, float("-inf")).amax(1)
            return torch.where(present.sum(1) > 0, largest, torch.zeros_like(largest))
        name = f"pooling.{feature['name']}" if prefix == "embedding" else f"pooling.{prefix[10:]}.{feature['name']}"
        if pooling == "attention":
            return self._attention(name, feature, rows, present, batch, prefix)
        return self._gru(name, rows, values)

    def _embed(self, feature, codes, prefix):
        shape = (self.code_counts[feature["name"]], feature["embedding"])
        table = self.parameter(f"{prefix}.{table_name(feature)}", shape)
        # `padding_idx` keeps the zero row of padding out of training.
        return torch.nn.functional.embedding(codes.long(), table, padding_idx=0)

    def _attention(self, name, feature, keys, present, batch, prefix):
        """Zhou et al., KDD 2018: weights from an activation unit, without softmax."""
        asked = next(other for other in self.features if other["name"] == feature["query"])
        query = self._embed(asked, batch[asked["name"]], prefix).unsqueeze(1).expand_as(keys)
        unit = torch.cat([query, keys, query - keys, query * keys], 2)
        widths = self.model.get("attention", [36])
        for index, width in enumerate(widths):
            unit = self.activate(self.linear(f"{name}.{index}", unit, width))
        weights = self.linear(f"{name}.{len(widths)}", unit, 1)
        return (weights * keys * present).sum(1)

    def _gru(self, name, rows, codes):
        """PyTorch's own GRU over the codes that are not padding."""
        width = rows.shape[2]
        weights = [
            self.parameter(f"{name}.weight_input", (width, 3 * width)).t(),
            self.parameter(f"{name}.weight_hidden", (width, 3 * width)).t(),
            self.parameter(f"{name}.bias_input", (3 * width,)),
            self.parameter(f"{name}.bias_hidden", (3 * width,)),
        ]
        state = torch.zeros(rows.shape[0], width, dtype=rows.dtype)
        for position in range(codes.shape[1]):
            next_state = torch.gru_cell(rows[:, position], state, *weights)
            state = torch.where((codes[:, position] != 0).unsqueeze(1), next_state, state)
        return state


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
