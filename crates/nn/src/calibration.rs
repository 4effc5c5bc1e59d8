//! What comes after a head: its probability made to hold.

use gatefold_graph::{Init, NodeId, Op};
use gatefold_schema::Calibrator;

use crate::{NnError, net::Net};

/// The calibrated form of a task's `output`, with constants `calibration.<task>.<part>`.
pub(crate) fn calibrated(
    net: &mut Net,
    task: &str,
    output: NodeId,
    calibrator: &Calibrator,
) -> Result<NodeId, NnError> {
    let mut constant = |part: &str, dims: &[usize], values: Vec<f32>| {
        net.parameter(format!("calibration.{task}.{part}"), dims, Init::Values(values))
    };
    match calibrator {
        Calibrator::Logistic { scale, shift } => {
            let scale = constant("scale", &[], vec![*scale]);
            let shift = constant("shift", &[], vec![*shift]);
            let logit = logit_of(net, output).ok_or_else(|| NnError::NoLogit { task: task.to_owned() })?;
            let scaled = net.apply(Op::Mul, &[logit, scale])?;
            let shifted = net.apply(Op::Add, &[scaled, shift])?;
            net.apply(Op::Sigmoid, &[shifted])
        }
        Calibrator::Curve { scores, rates } => {
            let scores = constant("scores", &[scores.len()], scores.clone());
            let rates = constant("rates", &[rates.len()], rates.clone());
            net.apply(Op::Calibrate, &[output, scores, rates])
        }
    }
}

/// What an output is the sigmoid of.
fn logit_of(net: &Net, output: NodeId) -> Option<NodeId> {
    let node = net.graph.node(output);
    (node.op == Op::Sigmoid).then(|| node.inputs[0])
}
