//! Scores → `ModelInferResponse`, and totals → `ModelStatistics`.

use gatefold_engine::{ModelVersion, ScoreReply};
use gatefold_proto::inference as wire;
use wire::infer_parameter::ParameterChoice;
use wire::model_infer_response::InferOutputTensor;

use super::tensor::Datatype;
use crate::statistics::{Counts, Total};

/// The reply to the request `id`.
pub(super) fn scores(id: String, reply: ScoreReply) -> wire::ModelInferResponse {
    let raw = |scores: &Vec<f32>| scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    let raw_output_contents = reply.scores.iter().map(raw).collect();
    let outputs = reply.outputs.into_iter().zip(&reply.scores).map(|(name, scores)| InferOutputTensor {
        name,
        datatype: Datatype::Fp32.name().to_owned(),
        // A request has fewer candidates than 2^63.
        shape: vec![scores.len() as i64],
        ..InferOutputTensor::default()
    });
    wire::ModelInferResponse {
        model_name: reply.model.name.to_string(),
        model_version: reply.model.version.to_string(),
        id,
        outputs: outputs.collect(),
        raw_output_contents,
        ..wire::ModelInferResponse::default()
    }
}

/// As a stream carries it: Triton's clients learn from a parameter that a request has had its last
/// reply, which here is its only one.
pub(super) fn of_stream(mut reply: wire::ModelInferResponse) -> wire::ModelStreamInferResponse {
    let last = wire::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    reply.parameters.insert("triton_final_response".to_owned(), last);
    wire::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(reply) }
}

/// The totals of one model version.
pub(super) fn statistics(model: &ModelVersion, counts: &Counts) -> wire::ModelStatistics {
    let total =
        |total: &Total| Some(wire::StatisticDuration { count: total.count(), ns: total.nanoseconds() });
    let never = Some(wire::StatisticDuration::default());
    let batches = counts.batches.iter().enumerate().filter(|(_, total)| total.count() > 0);
    wire::ModelStatistics {
        name: model.name.to_string(),
        version: model.version.to_string(),
        last_inference: counts.last(),
        inference_count: counts.candidates(),
        execution_count: counts.batches.iter().map(Total::count).sum(),
        inference_stats: Some(wire::InferStatistics {
            success: total(&counts.success),
            fail: total(&counts.fail),
            queue: total(&counts.queue),
            compute_input: total(&counts.encode),
            compute_infer: total(&counts.infer),
            compute_output: total(&counts.reply),
            cache_hit: never,
            cache_miss: never,
        }),
        batch_stats: batches
            .map(|(place, batches)| wire::InferBatchStatistics {
                batch_size: 1 << place,
                compute_infer: total(batches),
                ..wire::InferBatchStatistics::default()
            })
            .collect(),
    }
}
