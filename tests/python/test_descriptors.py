"""The server's own description of the protocol against the one that Triton's client carries.

Every message, field and enumeration that Gatefold declares must be Triton's, number by number;
Gatefold may leave out what it has no use for. The server's side is asked for over reflection.
"""

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import model_config_pb2, service_pb2

NAME = "GRPCInferenceService"


@pytest.fixture
def ours(server):
    with grpc.insecure_channel(server) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        yield pool.FindServiceByName(f"inference.{NAME}")


def theirs(name):
    """The descriptor of a message in Triton's files."""
    short = name.removeprefix("inference.").split(".")
    for module in (service_pb2, model_config_pb2):
        found = module.DESCRIPTOR.message_types_by_name.get(short[0])
        for part in short[1:]:
            found = found.nested_types_by_name.get(part) if found else None
        if found:
            return found
    pytest.fail(f"Triton has no message {name}")


def compare(message, seen):
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    other = theirs(message.full_name)
    for field in message.fields:
        known = other.fields_by_name.get(field.name)
        place = f"{message.full_name}.{field.name}"
        assert known is not None, f"Triton has no {place}"
        for what in ("number", "type", "is_repeated"):
            assert getattr(field, what) == getattr(known, what), f"{what} of {place}"
        oneof = [one.containing_oneof and one.containing_oneof.name for one in (field, known)]
        assert oneof[0] == oneof[1], f"oneof of {place}"
        if field.message_type:
            assert field.message_type.full_name == known.message_type.full_name, place
            compare(field.message_type, seen)
        if field.enum_type:
            for value in field.enum_type.values:
                assert known.enum_type.values_by_name[value.name].number == value.number, value.name


def test_every_call_and_field_is_tritons(ours):
    known = service_pb2.DESCRIPTOR.services_by_name[NAME]
    seen = set()
    for method in ours.methods:
        other = known.methods_by_name[method.name]
        for what in ("client_streaming", "server_streaming"):
            assert getattr(method, what) == getattr(other, what), f"{what} of {method.name}"
        for side in ("input_type", "output_type"):
            assert getattr(method, side).full_name == getattr(other, side).full_name, method.name
            compare(getattr(method, side), seen)
    assert len(ours.methods) == 12 and len(seen) > 40, seen
