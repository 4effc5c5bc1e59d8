"""A running Gatefold server, a request that it can score, and the scores that `Score` gives it.

`tests/system/triton.rs` starts the server and this suite; what the suite needs stands in the
environment:

- SUITE_SERVER: host:port of the gRPC API
- SUITE_MODEL: a model that it serves
- SUITE_MODELS: the folder that the server reads
- SUITE_EXAMPLES: a file of JSON requests, as `gatefold request --file` reads it
- SUITE_BINARY: the program `gatefold`
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
import tritonclient.grpc as triton

NUMPY_TYPES = {"INT64": np.int64, "FP64": np.float64, "BYTES": np.object_}


@pytest.fixture(scope="session")
def server():
    return os.environ["SUITE_SERVER"]


@pytest.fixture(scope="session")
def model():
    return os.environ["SUITE_MODEL"]


@pytest.fixture(scope="session")
def models_folder():
    return pathlib.Path(os.environ["SUITE_MODELS"])


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server) as client:
        yield client


class Scored:
    """A request as JSON has it, its tensors, and its scores by `Score`."""

    def __init__(self, request, metadata, scores):
        self.request = request
        self.scores = {name: np.array(values, np.float32) for name, values in scores.items()}
        self.candidates = len(next(iter(self.scores.values())))
        self.tensors = {}
        values = {**request["user"], **request["context"], **request["items"]}
        for declared in metadata.inputs:
            self._add(declared, values.get(declared.name))

    def _add(self, declared, value):
        """Adds the tensors of one feature: padded values, lengths of rows, and which are missing."""
        name, dtype = declared.name, NUMPY_TYPES[declared.datatype]
        blank = "" if declared.datatype == "BYTES" else 0
        per_request = declared.shape[0] == 1
        rows = [value] if per_request else value
        missing = [row is None for row in rows]
        if len(declared.shape) == 2:
            rows = [row or [] for row in rows]
            width = max(len(row) for row in rows)
            self.tensors[name] = np.array([row + [blank] * (width - len(row)) for row in rows], dtype)
            self.tensors[name] = self.tensors[name].reshape(len(rows), width)
            self.tensors[f"{name}.length"] = np.array([len(row) for row in rows], np.int64)
        else:
            self.tensors[name] = np.array([blank if row is None else row for row in rows], dtype)
        if any(missing):
            self.tensors[f"{name}.missing"] = np.array(missing)

    def check(self, result, outputs=None, tolerance=1e-6):
        for name in outputs or self.scores:
            found = result.as_numpy(name)
            assert found.dtype == np.float32 and found.shape == (self.candidates,)
            np.testing.assert_allclose(found, self.scores[name], rtol=0, atol=tolerance)


def inputs_of(tensors):
    """Tensors as the client sends them."""
    kinds = {np.dtype(np.int64): "INT64", np.dtype(np.float32): "FP32", np.dtype(bool): "BOOL"}
    kinds |= {np.dtype(np.object_): "BYTES", np.dtype(np.int32): "INT32", np.dtype(np.float64): "FP64"}
    inputs = []
    for name, values in tensors.items():
        tensor = triton.InferInput(name, list(values.shape), kinds[values.dtype])
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


@pytest.fixture(scope="session")
def scored(server, model):
    """Every example, with its tensors and the scores that `Score` gives it."""
    examples = os.environ["SUITE_EXAMPLES"]
    with triton.InferenceServerClient(server) as client:
        metadata = client.get_model_metadata(model)
    requests = json.loads(pathlib.Path(examples).read_text())
    found = []
    for number, request in enumerate(requests):
        command = [os.environ["SUITE_BINARY"], "request", "--server", f"http://{server}"]
        command += ["--model", model, "--file", examples, "--row", str(number), "--json"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(Scored(request, metadata, json.loads(output)["scores"]))
    return found
