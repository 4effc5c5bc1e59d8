//! Batch normalization's statistics: those of a batch in training, and their running averages,
//! which a served model normalizes by.

use gatefold_graph::{Graph, NodeId, ParamId};

/// Share by which a running statistic moves towards that of a batch, as in PyTorch.
pub const STATISTICS_MOMENTUM: f32 = 0.1;

/// A running statistic of a training graph, and the statistic of the batch that it follows. No
/// loss depends on the running one: whoever trains moves it after each step, by
/// [`moved`](Self::moved).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningStatistic {
    /// The parameter, `[width]`.
    pub parameter: ParamId,
    /// The statistic of the batch over its candidates, constant `[width]`.
    pub batch: NodeId,
    /// Whether it is a variance, which the batch has divided by its rows.
    is_variance: bool,
}

impl RunningStatistic {
    /// The running statistic after a batch of `rows` candidates:
    /// `running + momentum · (batch − running)`, with the unbiased variance (PyTorch's
    /// `BatchNorm1d`). A batch of one row has no variance and moves none.
    pub fn moved(&self, running: f32, batch: f32, rows: usize) -> f32 {
        let batch = match (self.is_variance, rows) {
            (true, 0 | 1) => running,
            (true, rows) => batch * rows as f32 / (rows - 1) as f32,
            (false, _) => batch,
        };
        running + STATISTICS_MOMENTUM * (batch - running)
    }
}

/// The running statistics of a graph of [`training`](crate::training), of either form; none
/// without batch normalization.
pub fn running_statistics(graph: &Graph) -> Vec<RunningStatistic> {
    let node_of = |name: &str, running: &str, batch: &str| {
        let layer = name.strip_suffix(running)?;
        graph.output_named(&format!("{layer}{batch}"))
    };
    let mut found = Vec::new();
    for (index, parameter) in graph.parameters().iter().enumerate() {
        let mean = node_of(&parameter.name, RUNNING_MEAN, BATCH_MEAN);
        let variance = node_of(&parameter.name, RUNNING_VARIANCE, BATCH_VARIANCE);
        if let Some(batch) = mean.or(variance) {
            let is_variance = mean.is_none();
            found.push(RunningStatistic { parameter: ParamId(index), batch, is_variance });
        }
    }
    found
}

/// What the names of the statistics of a layer end in: parameters, then outputs of training.
pub(crate) const RUNNING_MEAN: &str = ".running_mean";
pub(crate) const RUNNING_VARIANCE: &str = ".running_variance";
pub(crate) const BATCH_MEAN: &str = ".batch_mean";
pub(crate) const BATCH_VARIANCE: &str = ".batch_variance";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_move_as_in_pytorch() {
        let mean = RunningStatistic { parameter: ParamId(0), batch: NodeId(0), is_variance: false };
        // 2 + 0.1 · (5 − 2)
        assert!((mean.moved(2.0, 5.0, 4) - 2.3).abs() < 1e-6);
        let variance = RunningStatistic { is_variance: true, ..mean };
        // 1 + 0.1 · (3 · 4/3 − 1)
        assert!((variance.moved(1.0, 3.0, 4) - 1.3).abs() < 1e-6);
        assert_eq!(variance.moved(1.0, 0.0, 1), 1.0);
    }
}
