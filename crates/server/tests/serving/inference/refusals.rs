//! Every kind of bad `ModelInfer`, with its message; and messages that are anything at all.

use proptest::prelude::*;
use prost::Message;

use super::*;

type Spoil = fn(&mut ModelInferRequest);

/// What is done to a good request with raw contents, and the message that answers it. All are
/// INVALID_ARGUMENT.
const RAW: &[(&str, Spoil, &str)] = &[
    (
        "too few bytes",
        |request| request.raw_input_contents[4] = vec![0; 7].into(),
        "input 'price': unexpected size: 7 bytes in raw_input_contents, but FP32 of shape [2] has 2 elements",
    ),
    (
        "a shape of more elements",
        |request| request.inputs[3].shape = vec![3],
        "input 'item_id': unexpected size: 16 bytes in raw_input_contents, but INT64 of shape [3] has 3",
    ),
    (
        "a shape of far more elements",
        |request| request.inputs[1].shape = vec![8, 6],
        "input 'recent': row 0 has 6 elements, at most 3 are accepted",
    ),
    (
        "contents for some inputs only",
        |request| _ = request.raw_input_contents.pop(),
        "raw_input_contents: has 4 entries for 5 inputs",
    ),
    (
        "both raw and typed",
        |request| request.inputs[4].contents = Some(fp32s(&[1.0, 2.0])),
        "input 'price': has typed contents beside raw_input_contents",
    ),
    (
        "text beyond its bytes",
        |request| request.raw_input_contents[2] = vec![9, 0, 0, 0, b'd'].into(),
        "input 'country': element 0 says it has 9 bytes, but 1 are left",
    ),
    (
        "stray bytes after the text",
        |request| request.raw_input_contents[2] = vec![1, 0, 0, 0, b'd', 1, 0].into(),
        "input 'country': raw_input_contents ends with 2 stray bytes",
    ),
    (
        "two texts for one",
        |request| request.raw_input_contents[2] = vec![0; 8].into(),
        "input 'country': unexpected size: 2 elements, but shape [1] has 1",
    ),
    (
        "no UTF-8",
        |request| request.raw_input_contents[2] = vec![2, 0, 0, 0, 0xff, 0xfe].into(),
        "input 'country': element 0 is not UTF-8",
    ),
    (
        "a flag of two",
        |request| {
            request.inputs.push(input("age.missing", "BOOL", &[1], InferTensorContents::default()));
            request.raw_input_contents.push(vec![2].into());
        },
        "input 'age.missing': element 0 is the byte 2",
    ),
    (
        "an unsigned number beyond INT64",
        |request| {
            request.inputs[3].datatype = "UINT64".into();
            request.raw_input_contents[3] = vec![0xff; 16].into();
        },
        "input 'item_id': element 0 is 18446744073709551615: UINT64 are taken from 0 to 9223372036854775807",
    ),
    (
        "NaN",
        |request| request.raw_input_contents[4] = [1.0_f32, f32::NAN].map(f32::to_le_bytes).concat().into(),
        "feature 'price' (item side), row 1: NaN is not a finite",
    ),
];

/// The same for typed contents.
const TYPED: &[(&str, Spoil, &str)] = &[
    (
        "an unknown input",
        |request| request.inputs.push(input("prise", "FP32", &[2], fp32s(&[1.0, 2.0]))),
        "input 'prise': model 'demo' expects no such input (did you mean 'price'?)",
    ),
    (
        "lengths of what is no sequence",
        |request| request.inputs.push(input("age.length", "INT64", &[1], int64s(&[1]))),
        "input 'age.length': model 'demo' expects no such input",
    ),
    (
        "missing inputs",
        |request| request.inputs.truncate(3),
        "inputs: model 'demo' expects 5; missing: 'item_id', 'price'",
    ),
    (
        "no inputs",
        |request| request.inputs.clear(),
        "missing: 'age', 'recent', 'country', 'item_id', 'price'",
    ),
    (
        "an input twice",
        |request| request.inputs.push(request.inputs[0].clone()),
        "input 'age': is given twice",
    ),
    (
        "a datatype of nothing",
        |request| request.inputs[4].datatype = "FP7".into(),
        "input 'price': unsupported data-type 'FP7': use one of BOOL, INT8",
    ),
    (
        "a number for an integer",
        |request| request.inputs[3] = input("item_id", "FP32", &[2], fp32s(&[1.0, 2.0])),
        "input 'item_id': data-type is 'FP32', but model 'demo' expects 'INT64'",
    ),
    (
        "text for a number",
        |request| request.inputs[0] = input("age", "BYTES", &[1], texts(&["31"])),
        "input 'age': data-type is 'BYTES', but model 'demo' expects 'FP64'",
    ),
    (
        "an integer for text",
        |request| request.inputs[2] = input("country", "INT64", &[1], int64s(&[1])),
        "input 'country': data-type is 'INT64', but model 'demo' expects 'BYTES'",
    ),
    (
        "no shape",
        |request| request.inputs[0].shape.clear(),
        "input 'age': unexpected shape [], expected [1], or [n]",
    ),
    (
        "a matrix for a number",
        |request| request.inputs[4].shape = vec![1, 2],
        "input 'price': unexpected shape [1, 2], expected [n] for n candidates",
    ),
    (
        "three dimensions",
        |request| request.inputs[1].shape = vec![1, 1, 2],
        "input 'recent': unexpected shape [1, 1, 2], expected [1, length]",
    ),
    (
        "a negative dimension",
        |request| request.inputs[4].shape = vec![-1],
        "input 'price': unexpected shape [-1]: -1 is negative",
    ),
    (
        "rows without number",
        |request| request.inputs[1] = input("recent", "INT64", &[i64::MAX, 0], int64s(&[])),
        "input 'recent': 9223372036854775807 rows, at most 8 are accepted (limits.candidates)",
    ),
    (
        "a row without end",
        |request| request.inputs[1] = input("recent", "INT64", &[0, i64::MAX], int64s(&[])),
        "input 'recent': rows of 9223372036854775807 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "elements in another list",
        |request| request.inputs[4].contents = Some(int64s(&[1, 2])),
        "input 'price': has elements in int64_contents, but its data-type is FP32: move them to fp32_contents",
    ),
    (
        "too few elements",
        |request| request.inputs[4].contents = Some(fp32s(&[1.0])),
        "input 'price': unexpected size: 1 elements, but shape [2] has 2",
    ),
    (
        "no contents",
        |request| request.inputs[4].contents = None,
        "input 'price': has no elements: give contents, or raw_input_contents for all inputs",
    ),
    (
        "an integer beyond its type",
        |request| {
            let contents = InferTensorContents { int_contents: vec![1, 300], ..Default::default() };
            request.inputs[3] = input("item_id", "INT8", &[2], contents);
        },
        "input 'item_id': element 1 is 300: INT8 are taken from -128 to 127",
    ),
    (
        "item rows that differ",
        |request| request.inputs[4] = input("price", "FP32", &[3], fp32s(&[1.0, 2.0, 3.0])),
        "input 'price': has 3 rows, expected 2, as input 'item_id' has",
    ),
    (
        "user rows that fit nothing",
        |request| request.inputs[0] = input("age", "FP32", &[3], fp32s(&[1.0, 2.0, 3.0])),
        "input 'age': has 3 rows, expected 2, as input 'item_id' has, or 1",
    ),
    (
        "no candidates",
        |request| {
            request.inputs[3] = input("item_id", "INT64", &[0], int64s(&[]));
            request.inputs[4] = input("price", "FP32", &[0], fp32s(&[]));
        },
        "input 'item_id': has no rows: give at least one candidate",
    ),
    (
        "too many candidates",
        |request| request.inputs[4] = input("price", "FP32", &[9], fp32s(&[1.0; 9])),
        "input 'price': 9 rows, at most 8 are accepted (limits.candidates)",
    ),
    (
        "a sequence beyond the feature's limit",
        |request| request.inputs[1] = input("recent", "INT64", &[1, 4], int64s(&[1; 4])),
        "input 'recent': row 0 has 4 elements, at most 3 are accepted",
    ),
    (
        "a sequence beyond the server's limit",
        |request| request.inputs[1] = input("recent", "INT64", &[1, 7], int64s(&[1; 7])),
        "input 'recent': rows of 7 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "a length beyond the row",
        |request| request.inputs.push(input("recent.length", "INT64", &[1], int64s(&[3]))),
        "input 'recent.length': row 0 is 3: it must be between 0 and 2",
    ),
    (
        "lengths of another number of rows",
        |request| request.inputs.push(input("recent.length", "INT64", &[2], int64s(&[1, 1]))),
        "input 'recent.length': unexpected shape [2], expected [1]",
    ),
    (
        "lengths that are no integers",
        |request| request.inputs.push(input("recent.length", "FP32", &[1], fp32s(&[1.0]))),
        "input 'recent.length': data-type is 'FP32', expected 'INT64'",
    ),
    (
        "flags that are no flags",
        |request| request.inputs.push(input("price.missing", "INT64", &[2], int64s(&[0, 1]))),
        "input 'price.missing': data-type is 'INT64', expected 'BOOL'",
    ),
    (
        "long text",
        |request| request.inputs[2] = input("country", "BYTES", &[1], texts(&["a country too long"])),
        "input 'country': value 0 has 18 bytes, at most 16 are accepted (limits.text_bytes)",
    ),
    (
        "too many inputs",
        |request| (0..8).for_each(|_| request.inputs.push(request.inputs[0].clone())),
        "inputs: 13 inputs, at most 12 are accepted (limits.columns)",
    ),
    (
        "an input in shared memory",
        |request| _ = request.inputs[0].parameters.insert("shared_memory_region".into(), parameter(1)),
        "input 'age': shared memory is not supported",
    ),
    (
        "an output in shared memory",
        |request| request.outputs.push(output("ctr", "shared_memory_region")),
        "output 'ctr': shared memory is not supported",
    ),
    (
        "classification",
        |request| request.outputs.push(output("ctr", "classification")),
        "output 'ctr': classification is not supported",
    ),
    (
        "an unknown output",
        |request| request.outputs.push(output("rank", "x")),
        "no output 'rank'; it has: ctr, cvr",
    ),
    (
        "an output twice",
        |request| request.outputs.extend([output("ctr", "x"), output("ctr", "x")]),
        "output 'ctr' is asked for twice",
    ),
    (
        "a sequence of requests",
        |request| _ = request.parameters.insert("sequence_id".into(), parameter(3)),
        "parameter 'sequence_id': models keep nothing from one request to the next",
    ),
    (
        "a negative timeout",
        |request| _ = request.parameters.insert("timeout".into(), parameter(-1)),
        "parameter 'timeout': is no number of microseconds",
    ),
    (
        "a negative priority",
        |request| _ = request.parameters.insert("priority".into(), parameter(-1)),
        "parameter 'priority': is no number from 0",
    ),
    (
        "a version beyond all",
        |request| request.model_version = "99999999999999999999".into(),
        "model_version: '99999999999999999999' is beyond what a version can be",
    ),
];

fn output(name: &str, with: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor { name: name.into(), parameters: [(with.into(), parameter(1))].into() }
}

/// A server of the model `demo` with narrow limits.
async fn narrow() -> Running {
    Running::start(|settings| {
        settings.limits.candidates = 8;
        settings.limits.sequence_length = 6;
        settings.limits.text_bytes = 16;
        settings.limits.columns = 12;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_with_a_message_that_names_the_input() {
    let running = narrow().await;
    let mut client = client(&running).await;
    let typed = TYPED.iter().map(|case| (request(&[10.0, 20.0]), case));
    let raw = RAW.iter().map(|case| (raw(request(&[10.0, 20.0])), case));
    for (mut bad, (name, spoil, message)) in typed.chain(raw) {
        spoil(&mut bad);
        let status = client.model_infer(bad).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {}", status.message());
        assert!(status.message().contains(message), "{name}: {}", status.message());
    }
    for (model, version, message) in [
        ("dome", "", "no model is named 'dome'; loaded: demo"),
        ("demo", "9", "model 'demo' has no version 9 loaded; loaded: 1"),
        ("demo", "canary", "model 'demo' has no version labelled 'canary'"),
    ] {
        let mut bad = request(&[1.0]);
        (bad.model_name, bad.model_version) = (model.into(), version.into());
        let status = client.model_infer(bad).await.unwrap_err();
        assert_eq!((status.code(), status.message().contains(message)), (Code::NotFound, true), "{status}");
    }
    // None of them has hurt the server.
    client.model_infer(request(&[10.0, 20.0])).await.unwrap();
}

/// A tensor of any shape and elements, of names and datatypes that are likely to be looked at.
fn any_input() -> impl Strategy<Value = InferInputTensor> {
    let name = prop_oneof![
        Just("age"),
        Just("recent"),
        Just("country"),
        Just("item_id"),
        Just("price"),
        Just("recent.length"),
        Just("price.missing"),
        Just("x")
    ];
    let datatype = prop_oneof![
        Just("INT64"),
        Just("INT32"),
        Just("INT8"),
        Just("UINT64"),
        Just("FP32"),
        Just("FP64"),
        Just("BYTES"),
        Just("BOOL"),
        Just("FP16")
    ];
    let size = prop_oneof![0..4_i64, Just(i64::MAX), Just(i64::MIN), any::<i64>()];
    let contents = prop_oneof![
        Just(None),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(|values| Some(int64s(&values))),
        prop::collection::vec(any::<f32>(), 0..4).prop_map(|values| Some(fp32s(&values))),
        prop::collection::vec(any::<bool>(), 0..4).prop_map(|bool_contents| Some(InferTensorContents {
            bool_contents,
            ..InferTensorContents::default()
        })),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..4).prop_map(|bytes_contents| {
            Some(InferTensorContents { bytes_contents, ..InferTensorContents::default() })
        }),
    ];
    (name, datatype, prop::collection::vec(size, 0..4), contents).prop_map(
        |(name, datatype, shape, contents)| InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape,
            contents,
            ..InferInputTensor::default()
        },
    )
}

/// A good request of which some inputs are replaced, and others have raw contents of any bytes.
fn any_request() -> impl Strategy<Value = ModelInferRequest> {
    let replaced = prop::collection::vec((0..7_usize, any_input()), 0..4);
    let bytes = prop_oneof![
        Just(None),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 0..7).prop_map(Some)
    ];
    (any::<bool>(), replaced, bytes).prop_map(|(is_raw, replaced, bytes)| {
        let good = request(&[10.0, 20.0]);
        let mut request = if is_raw { raw(good) } else { good };
        for (place, input) in replaced {
            match request.inputs.get_mut(place) {
                Some(replaced) => *replaced = input,
                None => request.inputs.push(input),
            }
        }
        if let Some(bytes) = bytes {
            request.raw_input_contents = bytes.into_iter().map(Into::into).collect();
        }
        request
    })
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() }
}

/// Answers are scores, a refusal of the caller, or the word that the model failed on numbers that are
/// too large for it; nothing else, as a panic would be.
async fn check_answered(client: &mut GrpcInferenceServiceClient<Link>, asked: ModelInferRequest) -> bool {
    match client.model_infer(asked.clone()).await {
        Ok(reply) => {
            let reply = reply.into_inner();
            assert_eq!(reply.outputs[0].shape[0] as usize, scores(&reply, 0).len());
            true
        }
        Err(status) => {
            let refused = [Code::InvalidArgument, Code::NotFound].contains(&status.code());
            let failed = status.message().starts_with("model 'demo/1': running the model failed");
            assert!(refused || failed, "{status}: {asked:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_request_is_scored_or_refused() {
    let running = narrow().await;
    let client = client(&running).await;
    let handle = tokio::runtime::Handle::current();
    let accepted = std::sync::atomic::AtomicUsize::new(0);
    tokio::task::block_in_place(|| {
        proptest!(cases(), |(asked in any_request())| {
            let mut client = client.clone();
            let scored = handle.block_on(async move { check_answered(&mut client, asked).await });
            accepted.fetch_add(usize::from(scored), Ordering::Relaxed);
        });
    });
    assert!(accepted.load(Ordering::Relaxed) > 50, "{accepted:?} of 1500 are scored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_is_scored_or_refused() {
    let running = narrow().await;
    let client = client(&running).await;
    let handle = tokio::runtime::Handle::current();
    let good = raw(request(&[10.0, 20.0, 30.0])).encode_to_vec();
    let decoded = std::sync::atomic::AtomicUsize::new(0);
    let damage = prop::collection::vec((0..good.len(), any::<u8>()), 1..4);
    tokio::task::block_in_place(|| {
        proptest!(cases(), |(damage in damage)| {
            let mut bytes = good.clone();
            damage.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            if let Ok(asked) = ModelInferRequest::decode(bytes.as_slice()) {
                let mut client = client.clone();
                decoded.fetch_add(1, Ordering::Relaxed);
                handle.block_on(async move { check_answered(&mut client, asked).await });
            }
        });
    });
    assert!(decoded.load(Ordering::Relaxed) > 150, "{decoded:?} of 1500 are messages");
}
