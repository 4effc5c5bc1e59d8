"""Scores over `tritonclient`, sync: they are those of `Score`, in every form that a client may choose."""

from queue import Queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import inputs_of
from tritonclient.utils import InferenceServerException


def test_scores_are_those_of_score(client, model, scored):
    assert len(scored) > 1 and any(one.candidates > 1 for one in scored)
    for number, one in enumerate(scored):
        result = client.infer(model, inputs_of(one.tensors), request_id=f"r{number}")
        one.check(result)
        reply = result.get_response()
        assert (reply.id, reply.model_name, reply.model_version) == (f"r{number}", model, "1")
        assert {output.name for output in reply.outputs} == one.scores.keys()


def test_requested_outputs_come_alone_in_their_order(client, model, scored):
    one = scored[0]
    names = list(reversed(one.scores))[:2]
    outputs = [triton.InferRequestedOutput(name) for name in names]
    result = client.infer(model, inputs_of(one.tensors), outputs=outputs, model_version="1")
    assert [output.name for output in result.get_response().outputs] == names
    one.check(result, names)


def test_rows_may_be_columns(client, model, scored):
    one = scored[0]
    columns = {
        name: values.reshape(-1, 1) if values.ndim == 1 else values for name, values in one.tensors.items()
    }
    one.check(client.infer(model, inputs_of(columns)))


def test_user_values_may_be_repeated_for_every_candidate(client, model, scored):
    one = scored[0]
    repeated = {
        name: np.repeat(values, one.candidates, axis=0) if len(values) == 1 else values
        for name, values in one.tensors.items()
    }
    one.check(client.infer(model, inputs_of(repeated)))


def test_several_users_go_in_one_request(client, model, scored):
    """Two requests, one behind the other, with the user's values repeated and missing values marked."""

    def rows(one, name):
        flags = np.zeros(one.candidates, bool)
        values = one.tensors.get(name, flags if name.endswith(".missing") else None)
        return np.repeat(values, one.candidates, axis=0) if len(values) == 1 else values

    def widen(values, width):
        blank = "" if values.dtype == np.object_ else 0
        return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=blank)

    pair, joined = scored[:2], {}
    for name in pair[0].tensors.keys() | pair[1].tensors.keys():
        parts = [rows(one, name) for one in pair]
        if parts[0].ndim == 2:
            parts = [widen(part, max(part.shape[1] for part in parts)) for part in parts]
        joined[name] = np.concatenate(parts)
    result = client.infer(model, inputs_of(joined))
    for name in pair[0].scores:
        expected = np.concatenate([one.scores[name] for one in pair])
        np.testing.assert_allclose(result.as_numpy(name), expected, rtol=0, atol=1e-6)


def test_narrower_numbers_are_taken(client, model, scored):
    one = scored[0]
    narrow = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}
    changed = {name: values.astype(narrow.get(values.dtype, values.dtype)) for name, values in one.tensors.items()}
    assert {np.dtype(np.float32), np.dtype(np.int32)} <= {values.dtype for values in changed.values()}
    one.check(client.infer(model, inputs_of(changed)))


def test_calls_run_side_by_side(client, model, scored):
    replies = Queue()
    for number, one in enumerate(scored):
        client.async_infer(
            model,
            inputs_of(one.tensors),
            lambda result, error, number=number: replies.put((number, result, error)),
        )
    for _ in scored:
        number, result, error = replies.get(timeout=30)
        assert error is None
        scored[number].check(result)


def refused(client, model, tensors, **options):
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs_of(tensors), **options)
    return caught.value.status(), caught.value.message()


def test_what_does_not_fit_is_an_invalid_argument(client, model, scored):
    one = scored[0]
    name, values = next((name, values) for name, values in one.tensors.items() if len(values) == one.candidates)
    tensors = dict(one.tensors)

    tensors[name] = values[:-1]
    status, message = refused(client, model, tensors)
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert f"expected {one.candidates - 1}" in message or f"expected {one.candidates}" in message

    tensors[name] = values.reshape(1, 1, -1)
    status, message = refused(client, model, tensors)
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert f"input '{name}': unexpected shape [1, 1, {one.candidates}]" in message

    del tensors[name]
    status, message = refused(client, model, tensors)
    assert status == "StatusCode.INVALID_ARGUMENT" and f"missing: '{name}'" in message

    status, message = refused(client, model, {**one.tensors, "nothing": values})
    assert status == "StatusCode.INVALID_ARGUMENT" and "input 'nothing'" in message

    status, message = refused(client, model, one.tensors, sequence_id=3)
    assert status == "StatusCode.INVALID_ARGUMENT" and "sequence_id" in message

    outputs = [triton.InferRequestedOutput("nothing")]
    status, message = refused(client, model, one.tensors, outputs=outputs)
    assert status == "StatusCode.INVALID_ARGUMENT" and "no output 'nothing'" in message


def test_an_unknown_model_is_not_found(client, model, scored):
    for name, options in [("nothing", {}), (model, {"model_version": "99"})]:
        status, _ = refused(client, name, scored[0].tensors, **options)
        assert status == "StatusCode.NOT_FOUND"


def test_a_time_that_has_passed_is_a_deadline(client, model, scored):
    status, _ = refused(client, model, scored[0].tensors, timeout=1)
    assert status == "StatusCode.DEADLINE_EXCEEDED"
    status, _ = refused(client, model, scored[0].tensors, client_timeout=-1.0)
    assert status == "StatusCode.DEADLINE_EXCEEDED"
    # Time enough.
    client.infer(model, inputs_of(scored[0].tensors), timeout=20_000_000, client_timeout=20.0)


def test_a_call_can_be_cancelled(client, model, scored):
    replies = Queue()
    for _ in range(20):
        call = client.async_infer(
            model, inputs_of(scored[0].tensors), lambda result, error: replies.put((result, error))
        )
        call.cancel()
    for _ in range(20):
        result, error = replies.get(timeout=30)
        assert result is not None or error.status() == "StatusCode.CANCELLED"
    scored[0].check(client.infer(model, inputs_of(scored[0].tensors)))
