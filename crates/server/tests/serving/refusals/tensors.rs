//! Refused requests of `GRPCInferenceService.ModelInfer`.

use gatefold_proto::inference::InferTensorContents;
use gatefold_proto::inference::model_infer_request::InferRequestedOutputTensor;
use tonic::Code;

use super::Row;
use super::Sent::{RawTensors, Tensors};
use crate::inference::{fp32s, input, int64s, parameter, texts};

/// Those of typed contents.
pub(super) const TYPED: &[Row] = &[
    (
        "an unknown input",
        Tensors(|request| request.inputs.push(input("prise", "FP32", &[2], fp32s(&[1.0, 2.0])))),
        Code::InvalidArgument,
        "input 'prise': model 'demo' expects no such input (did you mean 'price'?)",
    ),
    (
        "lengths of what is no sequence",
        Tensors(|request| request.inputs.push(input("age.length", "INT64", &[1], int64s(&[1])))),
        Code::InvalidArgument,
        "input 'age.length': model 'demo' expects no such input",
    ),
    (
        "missing inputs",
        Tensors(|request| request.inputs.truncate(3)),
        Code::InvalidArgument,
        "inputs: model 'demo' expects 5; missing: 'item_id', 'price'",
    ),
    (
        "no inputs",
        Tensors(|request| request.inputs.clear()),
        Code::InvalidArgument,
        "missing: 'age', 'recent', 'country', 'item_id', 'price'",
    ),
    (
        "an input twice",
        Tensors(|request| request.inputs.push(request.inputs[0].clone())),
        Code::InvalidArgument,
        "input 'age': is given twice",
    ),
    (
        "a datatype of nothing",
        Tensors(|request| request.inputs[4].datatype = "FP7".into()),
        Code::InvalidArgument,
        "input 'price': unsupported data-type 'FP7': use one of BOOL, INT8",
    ),
    (
        "a number for an integer",
        Tensors(|request| request.inputs[3] = input("item_id", "FP32", &[2], fp32s(&[1.0, 2.0]))),
        Code::InvalidArgument,
        "input 'item_id': data-type is 'FP32', but model 'demo' expects 'INT64'",
    ),
    (
        "text for a number",
        Tensors(|request| request.inputs[0] = input("age", "BYTES", &[1], texts(&["31"]))),
        Code::InvalidArgument,
        "input 'age': data-type is 'BYTES', but model 'demo' expects 'FP64'",
    ),
    (
        "an integer for text",
        Tensors(|request| request.inputs[2] = input("country", "INT64", &[1], int64s(&[1]))),
        Code::InvalidArgument,
        "input 'country': data-type is 'INT64', but model 'demo' expects 'BYTES'",
    ),
    (
        "no shape",
        Tensors(|request| request.inputs[0].shape.clear()),
        Code::InvalidArgument,
        "input 'age': unexpected shape [], expected [1], or [n]",
    ),
    (
        "a matrix for a number",
        Tensors(|request| request.inputs[4].shape = vec![1, 2]),
        Code::InvalidArgument,
        "input 'price': unexpected shape [1, 2], expected [n] for n candidates",
    ),
    (
        "three dimensions",
        Tensors(|request| request.inputs[1].shape = vec![1, 1, 2]),
        Code::InvalidArgument,
        "input 'recent': unexpected shape [1, 1, 2], expected [1, length]",
    ),
    (
        "a negative dimension",
        Tensors(|request| request.inputs[4].shape = vec![-1]),
        Code::InvalidArgument,
        "input 'price': unexpected shape [-1]: -1 is negative",
    ),
    (
        "rows without number",
        Tensors(|request| request.inputs[1] = input("recent", "INT64", &[i64::MAX, 0], int64s(&[]))),
        Code::InvalidArgument,
        "input 'recent': 9223372036854775807 rows, at most 8 are accepted (limits.candidates)",
    ),
    (
        "a row without end",
        Tensors(|request| request.inputs[1] = input("recent", "INT64", &[0, i64::MAX], int64s(&[]))),
        Code::InvalidArgument,
        "input 'recent': rows of 9223372036854775807 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "elements in another list",
        Tensors(|request| request.inputs[4].contents = Some(int64s(&[1, 2]))),
        Code::InvalidArgument,
        "input 'price': has elements in int64_contents, but its data-type is FP32: move them to fp32_contents",
    ),
    (
        "too few elements",
        Tensors(|request| request.inputs[4].contents = Some(fp32s(&[1.0]))),
        Code::InvalidArgument,
        "input 'price': unexpected size: 1 elements, but shape [2] has 2",
    ),
    (
        "no contents",
        Tensors(|request| request.inputs[4].contents = None),
        Code::InvalidArgument,
        "input 'price': has no elements: give contents, or raw_input_contents for all inputs",
    ),
    (
        "an integer beyond its type",
        Tensors(|request| {
            let contents = InferTensorContents { int_contents: vec![1, 300], ..Default::default() };
            request.inputs[3] = input("item_id", "INT8", &[2], contents);
        }),
        Code::InvalidArgument,
        "input 'item_id': element 1 is 300: INT8 are taken from -128 to 127",
    ),
    (
        "item rows that differ",
        Tensors(|request| request.inputs[4] = input("price", "FP32", &[3], fp32s(&[1.0, 2.0, 3.0]))),
        Code::InvalidArgument,
        "input 'price': has 3 rows, expected 2, as input 'item_id' has",
    ),
    (
        "user rows that fit nothing",
        Tensors(|request| request.inputs[0] = input("age", "FP32", &[3], fp32s(&[1.0, 2.0, 3.0]))),
        Code::InvalidArgument,
        "input 'age': has 3 rows, expected 2, as input 'item_id' has, or 1",
    ),
    (
        "no candidates",
        Tensors(|request| {
            request.inputs[3] = input("item_id", "INT64", &[0], int64s(&[]));
            request.inputs[4] = input("price", "FP32", &[0], fp32s(&[]));
        }),
        Code::InvalidArgument,
        "input 'item_id': has no rows: give at least one candidate",
    ),
    (
        "too many candidates",
        Tensors(|request| request.inputs[4] = input("price", "FP32", &[9], fp32s(&[1.0; 9]))),
        Code::InvalidArgument,
        "input 'price': 9 rows, at most 8 are accepted (limits.candidates)",
    ),
    (
        "a sequence beyond the feature's limit",
        Tensors(|request| request.inputs[1] = input("recent", "INT64", &[1, 4], int64s(&[1; 4]))),
        Code::InvalidArgument,
        "input 'recent': row 0 has 4 elements, at most 3 are accepted",
    ),
    (
        "a sequence beyond the server's limit",
        Tensors(|request| request.inputs[1] = input("recent", "INT64", &[1, 7], int64s(&[1; 7]))),
        Code::InvalidArgument,
        "input 'recent': rows of 7 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "a length beyond the row",
        Tensors(|request| request.inputs.push(input("recent.length", "INT64", &[1], int64s(&[3])))),
        Code::InvalidArgument,
        "input 'recent.length': row 0 is 3: it must be between 0 and 2",
    ),
    (
        "lengths of another number of rows",
        Tensors(|request| request.inputs.push(input("recent.length", "INT64", &[2], int64s(&[1, 1])))),
        Code::InvalidArgument,
        "input 'recent.length': unexpected shape [2], expected [1]",
    ),
    (
        "lengths that are no integers",
        Tensors(|request| request.inputs.push(input("recent.length", "FP32", &[1], fp32s(&[1.0])))),
        Code::InvalidArgument,
        "input 'recent.length': data-type is 'FP32', expected 'INT64'",
    ),
    (
        "flags that are no flags",
        Tensors(|request| request.inputs.push(input("price.missing", "INT64", &[2], int64s(&[0, 1])))),
        Code::InvalidArgument,
        "input 'price.missing': data-type is 'INT64', expected 'BOOL'",
    ),
    (
        "long text",
        Tensors(|request| {
            request.inputs[2] = input("country", "BYTES", &[1], texts(&["a country too long"]))
        }),
        Code::InvalidArgument,
        "input 'country': value 0 has 18 bytes, at most 16 are accepted (limits.text_bytes)",
    ),
    (
        "too many inputs",
        Tensors(|request| (0..8).for_each(|_| request.inputs.push(request.inputs[0].clone()))),
        Code::InvalidArgument,
        "inputs: 13 inputs, at most 12 are accepted (limits.columns)",
    ),
    (
        "an input in shared memory",
        Tensors(|request| {
            _ = request.inputs[0].parameters.insert("shared_memory_region".into(), parameter(1))
        }),
        Code::InvalidArgument,
        "input 'age': shared memory is not supported",
    ),
    (
        "an output in shared memory",
        Tensors(|request| request.outputs.push(output("ctr", "shared_memory_region"))),
        Code::InvalidArgument,
        "output 'ctr': shared memory is not supported",
    ),
    (
        "classification",
        Tensors(|request| request.outputs.push(output("ctr", "classification"))),
        Code::InvalidArgument,
        "output 'ctr': classification is not supported",
    ),
    (
        "an unknown output",
        Tensors(|request| request.outputs.push(output("rank", "x"))),
        Code::InvalidArgument,
        "no output 'rank'; it has: ctr, cvr",
    ),
    (
        "an output twice",
        Tensors(|request| request.outputs.extend([output("ctr", "x"), output("ctr", "x")])),
        Code::InvalidArgument,
        "output 'ctr' is asked for twice",
    ),
    (
        "a sequence of requests",
        Tensors(|request| _ = request.parameters.insert("sequence_id".into(), parameter(3))),
        Code::InvalidArgument,
        "parameter 'sequence_id': models keep nothing from one request to the next",
    ),
    (
        "a negative timeout",
        Tensors(|request| _ = request.parameters.insert("timeout".into(), parameter(-1))),
        Code::InvalidArgument,
        "parameter 'timeout': is no number of microseconds",
    ),
    (
        "a negative priority",
        Tensors(|request| _ = request.parameters.insert("priority".into(), parameter(-1))),
        Code::InvalidArgument,
        "parameter 'priority': is no number from 0",
    ),
    (
        "a version beyond all",
        Tensors(|request| request.model_version = "99999999999999999999".into()),
        Code::InvalidArgument,
        "model_version: '99999999999999999999' is beyond what a version can be",
    ),
    (
        "an unknown model",
        Tensors(|request| request.model_name = "dome".into()),
        Code::NotFound,
        "no model is named 'dome'; loaded: demo",
    ),
    (
        "an unknown version",
        Tensors(|request| request.model_version = "9".into()),
        Code::NotFound,
        "model 'demo' has no version 9 loaded; loaded: 1",
    ),
    (
        "an unknown label",
        Tensors(|request| request.model_version = "canary".into()),
        Code::NotFound,
        "model 'demo' has no version labelled 'canary'",
    ),
];

/// Those of raw contents.
pub(super) const RAW: &[Row] = &[
    (
        "too few bytes",
        RawTensors(|request| request.raw_input_contents[4] = vec![0; 7].into()),
        Code::InvalidArgument,
        "input 'price': unexpected size: 7 bytes in raw_input_contents, but FP32 of shape [2] has 2 elements",
    ),
    (
        "a shape of more elements",
        RawTensors(|request| request.inputs[3].shape = vec![3]),
        Code::InvalidArgument,
        "input 'item_id': unexpected size: 16 bytes in raw_input_contents, but INT64 of shape [3] has 3",
    ),
    (
        "a shape of far more elements",
        RawTensors(|request| request.inputs[1].shape = vec![8, 6]),
        Code::InvalidArgument,
        "input 'recent': row 0 has 6 elements, at most 3 are accepted",
    ),
    (
        "contents for some inputs only",
        RawTensors(|request| _ = request.raw_input_contents.pop()),
        Code::InvalidArgument,
        "raw_input_contents: has 4 entries for 5 inputs",
    ),
    (
        "both raw and typed",
        RawTensors(|request| request.inputs[4].contents = Some(fp32s(&[1.0, 2.0]))),
        Code::InvalidArgument,
        "input 'price': has typed contents beside raw_input_contents",
    ),
    (
        "text beyond its bytes",
        RawTensors(|request| request.raw_input_contents[2] = vec![9, 0, 0, 0, b'd'].into()),
        Code::InvalidArgument,
        "input 'country': element 0 says it has 9 bytes, but 1 are left",
    ),
    (
        "stray bytes after the text",
        RawTensors(|request| request.raw_input_contents[2] = vec![1, 0, 0, 0, b'd', 1, 0].into()),
        Code::InvalidArgument,
        "input 'country': raw_input_contents ends with 2 stray bytes",
    ),
    (
        "two texts for one",
        RawTensors(|request| request.raw_input_contents[2] = vec![0; 8].into()),
        Code::InvalidArgument,
        "input 'country': unexpected size: 2 elements, but shape [1] has 1",
    ),
    (
        "no UTF-8",
        RawTensors(|request| request.raw_input_contents[2] = vec![2, 0, 0, 0, 0xff, 0xfe].into()),
        Code::InvalidArgument,
        "input 'country': element 0 is not UTF-8",
    ),
    (
        "a flag of two",
        RawTensors(|request| {
            request.inputs.push(input("age.missing", "BOOL", &[1], InferTensorContents::default()));
            request.raw_input_contents.push(vec![2].into());
        }),
        Code::InvalidArgument,
        "input 'age.missing': element 0 is the byte 2",
    ),
    (
        "an unsigned number beyond INT64",
        RawTensors(|request| {
            request.inputs[3].datatype = "UINT64".into();
            request.raw_input_contents[3] = vec![0xff; 16].into();
        }),
        Code::InvalidArgument,
        "input 'item_id': element 0 is 18446744073709551615: UINT64 are taken from 0 to 9223372036854775807",
    ),
    (
        "NaN",
        RawTensors(|request| {
            request.raw_input_contents[4] = [1.0_f32, f32::NAN].map(f32::to_le_bytes).concat().into()
        }),
        Code::InvalidArgument,
        "feature 'price' (item side), row 1: NaN is not a finite",
    ),
];

fn output(name: &str, with: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor { name: name.into(), parameters: [(with.into(), parameter(1))].into() }
}
