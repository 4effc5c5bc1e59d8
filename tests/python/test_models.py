"""What the server tells of itself and its models, and what can be asked of its repository."""

import shutil
import time

import grpc
import pytest
from conftest import inputs_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException


def test_the_server_is_described(client):
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "gatefold" and metadata.version
    assert {"model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)


def test_a_model_is_described(client, model, scored):
    assert client.is_model_ready(model) and client.is_model_ready(model, "1")
    assert not client.is_model_ready(model, "99") and not client.is_model_ready("nothing")
    metadata = client.get_model_metadata(model, as_json=True)
    assert (metadata["name"], metadata["versions"]) == (model, ["1"])
    assert {output["name"]: output["datatype"] for output in metadata["outputs"]} == {
        name: "FP32" for name in scored[0].scores
    }
    config = client.get_model_config(model).config
    assert config.name == model and config.max_batch_size == 0
    required = [tensor.name for tensor in config.input if not tensor.optional]
    assert required == [tensor["name"] for tensor in metadata["inputs"]]
    optional = {tensor.name for tensor in config.input if tensor.optional}
    assert set(scored[0].tensors) <= set(required) | optional
    assert config.parameters["user_once"].string_value == "true"


def test_statistics_count_requests_candidates_and_time(client, model, scored):
    def statistics():
        (found,) = client.get_inference_statistics(model).model_stats
        return found

    before = statistics()
    for one in scored:
        client.infer(model, inputs_of(one.tensors))
    with pytest.raises(InferenceServerException):
        client.infer(model, [])
    after = statistics()
    assert (after.name, after.version) == (model, "1")
    requests = after.inference_stats.success.count - before.inference_stats.success.count
    assert requests == len(scored)
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_count - before.inference_count == sum(one.candidates for one in scored)
    assert after.execution_count - before.execution_count == len(scored)
    stages = ["queue", "compute_input", "compute_infer", "compute_output"]
    assert all(getattr(after.inference_stats, stage).ns > 0 for stage in stages)
    assert abs(after.last_inference / 1000 - time.time()) < 60
    assert sum(batch.compute_infer.count for batch in after.batch_stats) == after.execution_count


def test_models_are_loaded_and_unloaded(client, model, models_folder, scored):
    """On a copy of the model under another name, so that the other tests are not disturbed."""

    def states():
        return {(entry.name, entry.version): entry for entry in client.get_model_repository_index().models}

    assert states()[(model, "1")].state == "READY"
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("damaged")
    assert caught.value.status() == "StatusCode.NOT_FOUND"

    # A bundle says its own name, so that a copy of it is refused.
    shutil.copytree(models_folder / model / "1", models_folder / "damaged" / "1")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("damaged")
    assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"
    entry = states()[("damaged", "1")]
    assert entry.state == "UNAVAILABLE" and model in entry.reason
    shutil.rmtree(models_folder / "damaged")

    client.unload_model(model)
    assert states()[(model, "1")].state == "UNAVAILABLE"
    assert not client.is_model_ready(model)
    with pytest.raises(InferenceServerException):
        client.infer(model, inputs_of(scored[0].tensors))
    client.load_model(model)
    assert client.is_model_ready(model)
    scored[0].check(client.infer(model, inputs_of(scored[0].tensors)))


def test_what_gatefold_does_not_have_is_said(client):
    for call in [client.get_system_shared_memory_status, client.get_trace_settings]:
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("anything", config="{}")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert "load parameter 'config'" in caught.value.message()


def test_health_is_told_model_by_model(server, model):
    with grpc.insecure_channel(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ["", model, "inference.GRPCInferenceService"]:
            reply = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING, service
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nothing"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
