//! AITM: towers in the order of the outcomes (click, then conversion, …). Each tower passes what it
//! knows to the next, which weighs it against its own by attention; a calibrator holds later
//! outcomes no likelier than earlier ones.
//!
//! Dongbo Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with
//! Multi-task Learning in Targeted Display Advertising", KDD 2021, section 4: the transfer
//! (equation 4), the attention (equations 5 to 7) and the calibrator (equation 12). Where the paper
//! leaves it open, as its authors' code (`AITM_standard.py`): the transfer is one hidden layer, the
//! three projections have no bias and are shared by all steps, and the constraint is averaged over
//! the rows.
//!
//! The paper's towers predict every outcome on all impressions. So does a tower here, also that of
//! a task that is conditional (`given`): its logit is that of the joint outcome, learned where its
//! first condition is, and the output is the quotient `min(1, p_joint / p_given)`. Its label must
//! be 0 wherever the condition's is 0.

use gatefold_graph::{Init, NodeId, Op};
use gatefold_schema::Task;

use crate::{
    NnError,
    models::{Head, Learned},
    net::{Net, Penalty},
};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let widths = [net.model.bottom.as_slice(), &net.model.tower].concat();
    let width = widths[widths.len() - 1];
    let attention = Attention::new(net, width);

    let mut heads: Vec<Head> = Vec::with_capacity(tasks.len());
    // What the last tower knows, and the logit and probability of its outcome.
    let mut last: Option<(NodeId, NodeId, NodeId)> = None;
    for (index, task) in tasks.iter().enumerate() {
        let tower = format!("tower.{}", task.name);
        let mut known = net.hidden(&tower, x, &widths)?;
        if let Some((passed, ..)) = last {
            let passed = net.hidden(&format!("transfer.{}", task.name), passed, &[width])?;
            known = attention.weigh(net, known, passed)?;
        }
        let unit = net.linear(&format!("{tower}.{}", widths.len()), known, 1)?;
        let logit = net.apply(Op::Squeeze, &[unit])?;
        let probability = net.apply(Op::Sigmoid, &[logit])?;
        let mut head = Head { output: probability, learned: Learned::Logit(logit), space: index };
        if let Some((_, condition, before)) = last {
            if task.given.is_some() {
                head.output = quotient(net, logit, condition)?;
                head.space = heads[index - 1].space;
            }
            constrain(net, before, probability, head.space)?;
        }
        heads.push(head);
        last = Some((known, logit, probability));
    }
    Ok(heads)
}

/// The projections of the attention between what a tower knows and what was passed to it.
struct Attention {
    query: NodeId,
    key: NodeId,
    value: NodeId,
    width: usize,
}

impl Attention {
    fn new(net: &mut Net, width: usize) -> Self {
        let mut weight = |part: &str| {
            net.parameter(format!("attention.{part}.weight"), &[width, width], Init::GlorotUniform)
        };
        Self { query: weight("query"), key: weight("key"), value: weight("value"), width }
    }

    /// `Σ_u softmax(⟨query(u), key(u)⟩ / √width) · value(u)` over both.
    fn weigh(&self, net: &mut Net, own: NodeId, passed: NodeId) -> Result<NodeId, NnError> {
        let (mut scores, mut values) = (Vec::with_capacity(2), Vec::with_capacity(2));
        for side in [own, passed] {
            let query = net.apply(Op::MatMul, &[side, self.query])?;
            let key = net.apply(Op::MatMul, &[side, self.key])?;
            let score = net.apply(Op::Dot, &[query, key])?;
            scores.push(net.apply(Op::Scale(1.0 / (self.width as f32).sqrt()), &[score])?);
            values.push(net.apply(Op::MatMul, &[side, self.value])?);
        }
        let scores = net.apply(Op::Concat, &scores)?;
        let weights = net.apply(Op::Softmax, &[scores])?;
        net.apply(Op::Mix, &[weights, values[0], values[1]])
    }
}

/// `min(1, σ(joint) / σ(condition))`, written so that nothing overflows:
/// `σ(j) + σ(−j) · exp(−max(c − j, 0))`, and less by a few roundings, which could lift it above 1.
fn quotient(net: &mut Net, joint: NodeId, condition: NodeId) -> Result<NodeId, NnError> {
    let minus_joint = net.apply(Op::Scale(-1.0), &[joint])?;
    let gap = net.apply(Op::Add, &[condition, minus_joint])?;
    let gap = net.apply(Op::Relu, &[gap])?;
    let gap = net.apply(Op::Scale(-1.0), &[gap])?;
    let ratio = net.apply(Op::Exp, &[gap])?;
    let complement = net.apply(Op::Sigmoid, &[minus_joint])?;
    let rest = net.apply(Op::Mul, &[complement, ratio])?;
    let probability = net.apply(Op::Sigmoid, &[joint])?;
    let sum = net.apply(Op::Add, &[probability, rest])?;
    net.apply(Op::Scale(1.0 - 4.0 * f32::EPSILON), &[sum])
}

/// The calibrator: `max(later − earlier, 0)`, averaged over the rows of a sample space.
fn constrain(net: &mut Net, earlier: NodeId, later: NodeId, space: usize) -> Result<(), NnError> {
    let strength = net.model.calibrator;
    if !net.training || strength == 0.0 {
        return Ok(());
    }
    let minus_earlier = net.apply(Op::Scale(-1.0), &[earlier])?;
    let excess = net.apply(Op::Add, &[later, minus_earlier])?;
    let value = net.apply(Op::Relu, &[excess])?;
    net.penalties.push(Penalty { strength, value, space: Some(space) });
    Ok(())
}
