//! One kind of batch, compiled: what is computed, and which parameters it changes.

use std::collections::BTreeSet;

use gatefold_exec::{Executor, GradientValues, InputValue, Optimizer, Parameters, Plan};
use gatefold_graph::{
    Graph, NodeId, Op, ParamId,
    autodiff::{Gradient, Gradients, differentiate},
};
use gatefold_nn::{
    LOSS, PENALTY, RunningStatistic, SharedParameters, loss_name, loss_weight_name, running_statistics,
    shared_parameters,
};
use gatefold_schema::{BalanceConfig, Task};

use crate::{balance::pcgrad, error::TrainError, mixture::BatchKind};

/// A plan for one kind of batch.
pub(super) struct Program {
    executor: Executor,
    /// What the step lowers.
    total: NodeId,
    /// The loss of each task that the batch teaches, by the task's index.
    losses: Vec<Option<NodeId>>,
    /// For each task, its derivatives by the last shared layer; empty where nobody asks.
    last_layer: Vec<Vec<NodeId>>,
    /// Running statistics of the layers that the batch goes through.
    statistics: Vec<RunningStatistic>,
    direction: Direction,
}

/// Where a step goes.
enum Direction {
    /// Down the total loss.
    Total(Gradients),
    /// Down the losses of the tasks, combined by [`pcgrad`].
    Surgery {
        by_task: Vec<Gradients>,
        /// What the model adds to the losses.
        penalty: Option<Gradients>,
        shared: BTreeSet<ParamId>,
    },
}

impl Program {
    /// Compiles the step of a batch of `kind` from a graph with losses.
    pub(super) fn new(
        mut graph: Graph,
        kind: BatchKind,
        tasks: &[Task],
        balance: &BalanceConfig,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let node = |graph: &Graph, name: &str| {
            graph.output_named(name).ok_or_else(|| TrainError::NoOutput { output: name.to_owned() })
        };
        let all: Vec<NodeId> =
            tasks.iter().map(|task| node(&graph, &loss_name(&task.name))).collect::<Result<_, _>>()?;
        let (total, losses) = match kind {
            BatchKind::Joint => (node(&graph, LOSS)?, all.iter().copied().map(Some).collect()),
            BatchKind::Task(task) => {
                let only: Vec<Option<NodeId>> =
                    all.iter().enumerate().map(|(index, loss)| (index == task).then_some(*loss)).collect();
                let weight = loss_weight_name(&tasks[task].name);
                let weight = graph.inputs().find(|(name, _)| *name == weight).map(|(_, input)| input);
                let weight =
                    weight.ok_or_else(|| TrainError::NoOutput { output: loss_name(&tasks[task].name) })?;
                (graph.apply(Op::Mul, &[all[task], weight])?, only)
            }
        };
        let by_loss = |graph: &mut Graph| -> Result<Vec<Gradients>, TrainError> {
            all.iter().map(|loss| Ok(differentiate(graph, *loss)?)).collect()
        };
        let SharedParameters { all: shared, last_layer: layer } = shared_parameters(&graph, tasks);
        let id_of = |graph: &Graph, name: &String| {
            graph.parameters().iter().position(|parameter| parameter.name == *name).map(ParamId)
        };
        let is_joint = kind == BatchKind::Joint;
        let mut last_layer = Vec::new();
        let direction = match balance {
            BalanceConfig::PcGrad {} if is_joint => {
                let by_task = by_loss(&mut graph)?;
                let penalty = graph.output_named(PENALTY);
                let penalty = penalty.map(|penalty| differentiate(&mut graph, penalty)).transpose()?;
                let shared = shared.iter().filter_map(|name| id_of(&graph, name)).collect();
                Direction::Surgery { by_task, penalty, shared }
            }
            BalanceConfig::GradNorm { .. } if is_joint => {
                if layer.is_empty() {
                    return Err(TrainError::NoSharedLayer);
                }
                let by_task = by_loss(&mut graph)?;
                let derivative = |task: &Gradients, name| match task.get(id_of(&graph, name)?) {
                    Some(Gradient::Dense(node)) => Some(*node),
                    _ => None,
                };
                let of_layer =
                    |task: &Gradients| layer.iter().filter_map(|name| derivative(task, name)).collect();
                last_layer = by_task.iter().map(of_layer).collect();
                Direction::Total(differentiate(&mut graph, total)?)
            }
            _ => Direction::Total(differentiate(&mut graph, total)?),
        };
        let behind = behind(&graph, total);
        let mut statistics = running_statistics(&graph);
        statistics.retain(|statistic| behind[statistic.batch.0]);
        let mut targets = vec![total];
        targets.extend(statistics.iter().map(|statistic| statistic.batch));
        targets.extend(losses.iter().flatten());
        targets.extend(last_layer.iter().flatten());
        match &direction {
            Direction::Total(gradients) => targets.extend(gradients.targets()),
            Direction::Surgery { by_task, penalty, .. } => {
                targets.extend(by_task.iter().chain(penalty).flat_map(Gradients::targets));
            }
        }
        let executor = Executor::new(Plan::compile(&graph, &targets)?, threads)?;
        Ok(Self { executor, total, losses, last_layer, statistics, direction })
    }

    /// Computes losses and gradients of a batch.
    pub(super) fn run(
        &mut self,
        parameters: &Parameters,
        rows: [usize; 2],
        inputs: &[(&str, InputValue<'_>)],
    ) -> Result<(), TrainError> {
        Ok(self.executor.run(parameters, rows[0], rows[1], inputs)?)
    }

    /// What the step lowers, as the last run found it.
    pub(super) fn total(&self) -> f32 {
        self.scalar(self.total)
    }

    /// The loss of each task that the batch teaches.
    pub(super) fn losses(&self) -> Vec<Option<f32>> {
        self.losses.iter().map(|loss| loss.map(|loss| self.scalar(loss))).collect()
    }

    /// The norm of each task's gradient at the last shared layer; 0 where it was not asked for.
    pub(super) fn gradient_norm(&self, task: usize) -> f64 {
        let nodes = self.last_layer.get(task).into_iter().flatten();
        let numbers = nodes.flat_map(|node| self.executor.value(*node));
        numbers.map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt()
    }

    /// Changes the parameters by the gradients of the last run. `weights` are those of the tasks'
    /// losses, `seed` is the step's own.
    pub(super) fn step(
        &self,
        parameters: &mut Parameters,
        optimizer: &mut Optimizer,
        inputs: &[(&str, InputValue<'_>)],
        weights: &[f32],
        seed: u64,
        rate_factor: f32,
    ) -> Result<(), TrainError> {
        match &self.direction {
            Direction::Total(gradients) => {
                optimizer.step(parameters, gradients, &self.executor, inputs, rate_factor)?;
            }
            Direction::Surgery { by_task, penalty, shared } => {
                let values =
                    |gradients| GradientValues::from_run(parameters, gradients, &self.executor, inputs);
                let mut of_shared = Vec::with_capacity(by_task.len());
                let mut sum = penalty.as_ref().map(values).transpose()?.unwrap_or_default();
                for (gradients, weight) in by_task.iter().zip(weights) {
                    let mut own = values(gradients)?;
                    own.scale(*weight);
                    let mut common = own.clone();
                    common.retain(|parameter| shared.contains(&parameter));
                    own.retain(|parameter| !shared.contains(&parameter));
                    sum.add_scaled(1.0, &own);
                    of_shared.push(common);
                }
                sum.add_scaled(1.0, &pcgrad::combine(&of_shared, seed));
                optimizer.step_values(parameters, &sum, &self.executor, rate_factor)?;
            }
        }
        Ok(())
    }

    /// Moves the running statistics of batch normalization towards those of the last batch.
    pub(super) fn move_statistics(&self, parameters: &mut Parameters, rows: usize) {
        for statistic in &self.statistics {
            let batch = self.executor.value(statistic.batch);
            let running = parameters.get_mut(statistic.parameter);
            running.iter_mut().zip(batch).for_each(|(running, batch)| {
                *running = statistic.moved(*running, *batch, rows);
            });
        }
    }

    fn scalar(&self, node: NodeId) -> f32 {
        self.executor.value(node).first().copied().unwrap_or(f32::NAN)
    }
}

/// Whether a node depends on each one.
pub(super) fn behind(graph: &Graph, end: NodeId) -> Vec<bool> {
    let mut behind = vec![false; graph.nodes().len()];
    behind[end.0] = true;
    for index in (0..=end.0).rev() {
        if behind[index] {
            graph.node(NodeId(index)).inputs.iter().for_each(|input| behind[input.0] = true);
        }
    }
    behind
}
