//! A look into a trained model: how its gates use the experts, and which hidden units never change.
//!
//! Computed by the native forward pass on the validation split, and recorded in the bundle, so that
//! `gatefold evaluate --gates` can show it without the trainer's graph.

use gatefold_graph::{Graph, NodeId, Op};
use gatefold_metrics::{GateTally, MetricError, UnitTally};
use gatefold_nn::Gate;
use gatefold_schema::{CapturedExpert, ExpertWeight, GateFigures, GateReport, LayerFigures, Recipe, SHARED};

use crate::{data::TrainingData, error::TrainError, forward::Forward, train::Trained};

/// A gate that gives one expert so much of its weight has collapsed.
const COLLAPSED: f64 = 0.9;
/// An expert is idle below this part of an even share, in every gate that reads it.
const IDLE: f64 = 0.1;
/// A gate that gives so much of all weight that an expert gets has captured it, if it uses it at
/// least at [`USED`] of an even share.
const CAPTURED: f64 = 0.9;
/// See [`CAPTURED`].
const USED: f64 = 0.5;
/// A layer with so many dead units deserves attention.
const DEAD: f64 = 0.5;

/// Looks into the model, and keeps what it finds in [`Trained::gates`].
///
/// # Errors
/// When the model cannot be run or the shards cannot be read.
pub fn inspect(
    recipe: &Recipe,
    data: &TrainingData,
    threads: usize,
    trained: &mut Trained,
) -> Result<(), TrainError> {
    let Recipe { tasks, derived, model, .. } = recipe;
    let (graph, gates) = gatefold_nn::forward_with_gates(&data.encoders.features, tasks, derived, model)?;
    let layers = hidden_layers(&graph);
    let mut targets = Vec::with_capacity(gates.len() + layers.len());
    for Gate { name, .. } in &gates {
        targets.push(graph.output_named(name).ok_or_else(|| TrainError::NoOutput { output: name.clone() })?);
    }
    targets.extend(layers.iter().map(|(_, node)| *node));
    if targets.is_empty() {
        return Ok(());
    }
    let mut gate_tallies: Vec<GateTally> =
        gates.iter().map(|gate| GateTally::new(gate.experts.len())).collect();
    let mut unit_tallies: Vec<UnitTally> =
        layers.iter().map(|(_, node)| UnitTally::new(graph.fact(*node).row_len())).collect();

    let failed = |source| TrainError::Metric { output: "gates".into(), split: "valid".into(), source };
    let mut forward = Forward::with_targets(graph, targets, recipe, &data.encoders, threads)?;
    forward.scan(&trained.parameters, &data.valid, |values| {
        let (of_gates, of_layers) = values.split_at(gate_tallies.len());
        let gates = gate_tallies.iter_mut().zip(of_gates).try_for_each(|(tally, values)| tally.add(values));
        let mut layers = unit_tallies.iter_mut().zip(of_layers);
        gates.and_then(|()| layers.try_for_each(|(tally, values)| tally.add(values))).map_err(failed)
    })?;

    let used = gates.into_iter().zip(gate_tallies).map(|(gate, tally)| figures(gate, tally));
    let gates = used.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let layers: Vec<LayerFigures> = layers
        .into_iter()
        .zip(unit_tallies)
        .map(|((layer, _), tally)| LayerFigures { layer, units: tally.units(), dead: tally.dead() })
        .collect();
    let captured = captured(&gates);
    let warnings = warnings(&gates, &captured, &layers);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    trained.gates = Some(GateReport { rows: data.valid.rows(), gates, captured, layers, warnings });
    Ok(())
}

/// The activations of hidden layers, by the name of the layer: the parameters that lead to them
/// are `<layer>.bias`, or `<layer>.norm.<part>` where it is normalized.
fn hidden_layers(graph: &Graph) -> Vec<(String, NodeId)> {
    let parameter_of = |id: &NodeId| match graph.node(*id).op {
        Op::Parameter(parameter) => Some(graph.parameters()[parameter.0].name.as_str()),
        _ => None,
    };
    let layer_of = |node: &gatefold_graph::Node| {
        let source = graph.node(*node.inputs.first()?);
        let parameter = source.inputs.iter().find_map(parameter_of)?;
        let layer = parameter.rsplit_once('.')?.0;
        Some(layer.strip_suffix(".norm").unwrap_or(layer).to_owned())
    };
    let is_activation = |op: &Op| matches!(op, Op::Relu | Op::Activation(_));
    let nodes = graph.nodes().iter().enumerate();
    let hidden = nodes.filter(|(_, node)| is_activation(&node.op) && node.fact.dims.len() == 1);
    hidden.filter_map(|(index, node)| Some((layer_of(node)?, NodeId(index)))).collect()
}

fn figures(gate: Gate, tally: GateTally) -> Result<GateFigures, MetricError> {
    let found = tally.finish()?;
    // One expert alone has no entropy at all.
    let largest = (found.mean.len() as f64).ln().max(f64::MIN_POSITIVE);
    let experts = gate.experts.into_iter().zip(found.mean);
    Ok(GateFigures {
        gate: gate.name,
        experts: experts.map(|(expert, weight)| ExpertWeight { expert, weight }).collect(),
        entropy: found.entropy / largest,
        entropy_of_mean: found.entropy_of_mean / largest,
    })
}

/// Experts that the gates of several tasks read and one of them has for itself.
fn captured(gates: &[GateFigures]) -> Vec<CapturedExpert> {
    let of_tasks: Vec<&GateFigures> =
        gates.iter().filter(|gate| !gate.gate.ends_with(&format!("gate.{SHARED}"))).collect();
    experts(gates)
        .into_iter()
        .filter_map(|expert| {
            let weights: Vec<(f64, &GateFigures)> =
                of_tasks.iter().filter_map(|gate| Some((weight(gate, expert)?, *gate))).collect();
            let (most, gate) = *weights.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
            let share = most / weights.iter().map(|(weight, _)| weight).sum::<f64>();
            let is_used = most * gate.experts.len() as f64 >= USED;
            (weights.len() > 1 && share >= CAPTURED && is_used).then(|| CapturedExpert {
                expert: expert.to_owned(),
                gate: gate.gate.clone(),
                share,
            })
        })
        .collect()
}

fn warnings(gates: &[GateFigures], captured: &[CapturedExpert], layers: &[LayerFigures]) -> Vec<String> {
    let mut found = Vec::new();
    for gate in gates.iter().filter(|gate| gate.experts.len() > 1) {
        let most = gate.experts.iter().find(|expert| expert.weight >= COLLAPSED);
        found.extend(most.map(|ExpertWeight { expert, weight }| {
            format!(
                "{} has collapsed: {:.0} % of its weight is on {expert}; try a lower learning rate, or fewer experts",
                gate.gate,
                100.0 * weight
            )
        }));
    }
    let even_parts = |expert: &str| {
        let part = |gate: &GateFigures| Some(weight(gate, expert)? * gate.experts.len() as f64);
        gates.iter().filter_map(part).fold(0.0, f64::max)
    };
    let experts = experts(gates);
    for expert in experts.iter().filter(|expert| even_parts(expert) < IDLE) {
        found.push(format!(
            "{expert} is idle: no gate gives it {:.0} % of an even share; fewer experts would do",
            100.0 * IDLE
        ));
    }
    let shared = experts
        .iter()
        .filter(|expert| gates.iter().filter(|gate| weight(gate, expert).is_some()).count() > 1);
    if !captured.is_empty() && shared.count() == captured.len() {
        found.push(
            "every shared expert is captured by one task: the tasks share nothing above the embeddings"
                .into(),
        );
    }
    for LayerFigures { layer, units, dead } in layers {
        if *dead as f64 >= DEAD * *units as f64 {
            found.push(format!(
                "{dead} of {units} units of {layer} never change; try a lower learning rate or another activation"
            ));
        }
    }
    found
}

/// The experts of all gates, each once, in order of first appearance.
fn experts(gates: &[GateFigures]) -> Vec<&str> {
    let mut experts: Vec<&str> = Vec::new();
    for expert in gates.iter().flat_map(|gate| &gate.experts) {
        if !experts.contains(&expert.expert.as_str()) {
            experts.push(&expert.expert);
        }
    }
    experts
}

/// The mean weight that a gate gives an expert, where it reads it.
fn weight(gate: &GateFigures, expert: &str) -> Option<f64> {
    gate.experts.iter().find(|found| found.expert == expert).map(|found| found.weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(name: &str, experts: &[(&str, f64)]) -> GateFigures {
        let expert = |(name, weight): &(&str, f64)| ExpertWeight { expert: (*name).into(), weight: *weight };
        let experts = experts.iter().map(expert).collect();
        GateFigures { gate: name.into(), experts, entropy: 0.5, entropy_of_mean: 0.5 }
    }

    #[track_caller]
    fn check(gates: &[GateFigures], layers: &[LayerFigures], taken: &[&str], warned: &[&str]) {
        let captured = captured(gates);
        let found: Vec<String> =
            captured.iter().map(|taken| format!("{} by {}", taken.expert, taken.gate)).collect();
        assert_eq!(found, taken);
        let found = warnings(gates, &captured, layers);
        assert_eq!(found.len(), warned.len(), "{found:?}");
        for (found, warned) in found.iter().zip(warned) {
            assert!(found.starts_with(warned), "{found}\ndoes not begin with\n{warned}");
        }
    }

    #[test]
    fn captured_idle_and_collapsed_experts_are_told_apart() {
        let even = [("a", 0.5), ("b", 0.5)];
        check(&[gate("gate.ctr", &even), gate("gate.cvr", &even)], &[], &[], &[]);
        check(
            &[
                gate("gate.ctr", &[("a", 0.6), ("b", 0.38), ("c", 0.02)]),
                gate("gate.cvr", &[("a", 0.03), ("b", 0.95), ("c", 0.02)]),
            ],
            &[],
            &["a by gate.ctr"],
            &["gate.cvr has collapsed: 95 % of its weight is on b", "c is idle"],
        );
        check(
            &[gate("gate.ctr", &[("a", 0.97), ("b", 0.03)]), gate("gate.cvr", &[("a", 0.03), ("b", 0.97)])],
            &[],
            &["a by gate.ctr", "b by gate.cvr"],
            &["gate.ctr has collapsed", "gate.cvr has collapsed", "every shared expert is captured"],
        );
    }

    #[test]
    fn an_expert_of_one_task_is_not_captured() {
        check(
            &[
                gate("gate.ctr", &[("own.ctr", 0.5), ("common", 0.5)]),
                gate("gate.cvr", &[("own.cvr", 0.5), ("common", 0.5)]),
                gate("level.0.gate.shared", &[("own.ctr", 0.01), ("own.cvr", 0.01), ("common", 0.98)]),
            ],
            &[],
            &[],
            &["level.0.gate.shared has collapsed"],
        );
    }

    #[test]
    fn layers_of_dead_units_are_named() {
        let layer = |layer: &str, dead| LayerFigures { layer: layer.into(), units: 8, dead };
        check(
            &[],
            &[layer("tower.ctr.0", 4), layer("tower.cvr.0", 3)],
            &[],
            &["4 of 8 units of tower.ctr.0"],
        );
    }
}
