//! Requests that are anything at all: scored or refused, never a panic.

use proptest::prelude::*;
use prost::Message;

use super::*;

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
