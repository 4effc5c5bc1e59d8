//! Batches of one task, ways of balancing, weights and rows left out.

use gatefold_dataset::Shards;
use gatefold_exec::Parameters;
use gatefold_schema::{BalanceConfig, ModelKind, Normalization, OutsideSpace, Recipe};
use gatefold_trainer::{Event, Progress, Silent, TrainError, TrainOptions, Trained, TrainingData, train};

use crate::tiny::{self, recipe, rows, sample};

fn run(recipe: &Recipe, data: &TrainingData) -> Result<Trained, TrainError> {
    train(recipe, data, &TrainOptions::new(1), &mut Silent)
}

/// Names of the parameters that differ.
fn changed(a: &Parameters, b: &Parameters) -> Vec<String> {
    let pairs = a.iter().zip(b.iter());
    pairs.filter(|((_, a), (_, b))| a != b).map(|((declared, _), _)| declared.name.clone()).collect()
}

#[test]
fn batches_of_one_task_leave_the_other_towers_as_they_were() {
    let data = sample();
    for normalization in [Normalization::None, Normalization::Batch] {
        for balance in [BalanceConfig::Fixed {}, BalanceConfig::PcGrad {}] {
            let mut base = recipe(ModelKind::Mmoe);
            base.model.normalization = normalization;
            base.train.balance = balance;
            base.train.epochs = 1;
            base.train.l2 = 0.01;
            base.train.alternate = [("cvr".to_owned(), 1)].into();
            let trained = run(&base, &data).unwrap().parameters;
            // The same first parameters, and steps that change none of them.
            let mut still = base.clone();
            (still.train.learning_rate, still.train.embedding_learning_rate) = (1e-30, None);
            still.train.optimizer = serde_json::from_str(r#"{"kind": "sgd"}"#).unwrap();
            still.model.normalization = normalization;
            let first = run(&still, &data).unwrap().parameters;
            let changed = changed(&first, &trained);
            let of_ctr: Vec<&String> = changed.iter().filter(|name| name.contains(".ctr.")).collect();
            assert!(of_ctr.is_empty(), "{normalization:?}: batches of cvr changed {of_ctr:?}");
            for part in ["tower.cvr.0.weight", "gate.cvr.0.weight", "expert.0.0.weight", "embedding.item"] {
                assert!(changed.iter().any(|name| name == part), "{part} must learn: {changed:?}");
            }
        }
    }
}

#[test]
fn a_mixture_of_batches_learns_every_task() {
    let data = sample();
    let truth = tiny::oracle(&rows(&data.valid));
    let mut recipe = recipe(ModelKind::Mmoe);
    recipe.train.epochs = 8;
    recipe.train.alternate = [("joint".to_owned(), 1), ("ctr".to_owned(), 2), ("cvr".to_owned(), 1)].into();
    let mut kinds = Kinds::default();
    let trained = train(&recipe, &data, &TrainOptions::new(2), &mut kinds).unwrap();
    for (output, oracle) in trained.evaluation.outputs.iter().zip(&truth) {
        let auc = output.figures.auc.unwrap();
        assert!(auc > oracle - 0.03, "{}: {auc:.3}, the truth reaches {oracle:.3}", output.output);
    }
    let taught = |tasks: &str| kinds.0.iter().filter(|found| *found == tasks).count();
    let steps = kinds.0.len();
    assert_eq!(trained.report.steps, steps);
    assert_eq!((taught("ctr,cvr"), taught("ctr"), taught("cvr")), (steps / 4, steps / 2, steps / 4));
}

/// The tasks that each step taught.
#[derive(Default)]
struct Kinds(Vec<String>);

impl Progress for Kinds {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Stepped { losses, .. } = event {
            self.0.push(losses.iter().map(|(task, _)| *task).collect::<Vec<_>>().join(","));
        }
    }
}

#[test]
fn every_way_of_balancing_learns_the_rule_with_the_same_bits_for_any_threads() {
    let data = sample();
    let truth = tiny::oracle(&rows(&data.valid));
    let balances = [
        BalanceConfig::Uncertainty { learning_rate: 0.01 },
        BalanceConfig::Dwa { temperature: 2.0 },
        BalanceConfig::GradNorm { alpha: 1.5, learning_rate: 0.01 },
        BalanceConfig::PcGrad {},
    ];
    let fixed = run(&recipe(ModelKind::Mmoe), &data).unwrap();
    for balance in balances {
        let mut recipe = recipe(ModelKind::Mmoe);
        recipe.train.balance = balance;
        let trained = run(&recipe, &data).unwrap();
        for (output, oracle) in trained.evaluation.outputs.iter().zip(&truth) {
            let auc = output.figures.auc.unwrap();
            assert!(auc > oracle - 0.03, "{balance:?} {}: {auc:.3} of {oracle:.3}", output.output);
        }
        assert!(trained.parameters != fixed.parameters, "{balance:?} must make a difference");
        let threads = train(&recipe, &data, &TrainOptions::new(3), &mut Silent).unwrap();
        assert!(threads.parameters == trained.parameters, "{balance:?}: threads must make none");
    }
    let mut alone = recipe(ModelKind::SingleTask);
    alone.train.balance = BalanceConfig::GradNorm { alpha: 1.5, learning_rate: 0.01 };
    let error = run(&alone, &data).unwrap_err().to_string();
    assert!(
        error.contains("gradnorm compares the tasks' gradients at the last layer that they share"),
        "{error}"
    );
}

#[test]
fn a_batch_without_a_row_of_a_task_teaches_it_nothing() {
    let data = sample();
    // The first batch, about 128 rows, has no click, and so no row of cvr.
    let mut split = rows(&data.train);
    for label in ["click", "conversion"] {
        split.labels.get_mut(label).unwrap()[..140].fill(0.0);
    }
    let data = TrainingData { train: Shards::in_memory(vec![split]), ..data };
    for balance in [BalanceConfig::Fixed {}, BalanceConfig::GradNorm { alpha: 1.5, learning_rate: 0.01 }] {
        let mut recipe = recipe(ModelKind::Mmoe);
        recipe.train.shuffle = false;
        recipe.train.balance = balance;
        let mut first = FirstLosses::default();
        train(&recipe, &data, &TrainOptions::new(1), &mut first).unwrap();
        assert!(first.0[0] > 0.5 && first.0[1] == 0.0, "{:?}", first.0);
    }
}

#[derive(Default)]
struct FirstLosses(Vec<f32>);

impl Progress for FirstLosses {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Stepped { step: 1, losses, .. } = event {
            self.0 = losses.iter().map(|(_, loss)| *loss).collect();
        }
    }
}

#[test]
fn rows_of_weight_0_count_as_if_they_were_not_there() {
    let data = sample();
    let mut recipe = recipe(ModelKind::SharedBottom);
    recipe.train.batch_size = 6000;
    recipe.train.shuffle = false;
    recipe.train.sample_weight = Some("weight".into());
    // One batch an epoch; half of its rows weigh nothing, the others 2, which a mean does not see.
    let mut weighted = rows(&data.train);
    let weights: Vec<f32> = (0..weighted.rows).map(|row| if row < 3000 { 2.0 } else { 0.0 }).collect();
    weighted.labels.insert("weight".into(), weights);
    let mut half = weighted.clone();
    half.rows = 3000;
    half.request.truncate(3000);
    half.labels.values_mut().for_each(|values| values.truncate(3000));
    let kept: Vec<u32> = (0..3000).collect();
    half.columns = half.columns.iter().map(|column| column.take(&kept)).collect();
    let mut valid = rows(&data.valid);
    valid.labels.insert("weight".into(), vec![1.0; valid.rows]);
    let with = |train| TrainingData {
        train: Shards::in_memory(vec![train]),
        valid: Shards::in_memory(vec![valid.clone()]),
        ..data.clone()
    };
    let (a, b) = (run(&recipe, &with(weighted)).unwrap(), run(&recipe, &with(half)).unwrap());
    // Touched embedding rows differ: those of weightless rows get a gradient of exactly 0.
    for ((declared, a), (_, b)) in a.parameters.iter().zip(b.parameters.iter()).filter(|((d, _), _)| !d.table)
    {
        let largest = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 2e-4, "{}: {largest}", declared.name);
    }
    let error = run(&recipe, &data).unwrap_err().to_string();
    assert!(error.contains("there is no label column 'weight', which sample_weight needs"), "{error}");
}

#[test]
fn conversions_without_a_click_are_dropped_where_that_is_wanted() {
    let data = sample();
    let clean = |data: &TrainingData| {
        let kept: Vec<u32> = {
            let split = rows(&data.train);
            (0..split.rows as u32).filter(|row| row % 100 != 0).collect()
        };
        let mut split = rows(&data.train);
        split.rows = kept.len();
        split.columns = split.columns.iter().map(|column| column.take(&kept)).collect();
        for values in split.labels.values_mut() {
            *values = kept.iter().map(|row| values[*row as usize]).collect();
        }
        split.request = kept.iter().map(|row| split.request[*row as usize]).collect();
        TrainingData { train: Shards::in_memory(vec![split]), ..data.clone() }
    };
    let mut broken = rows(&data.train);
    for row in (0..broken.rows).step_by(100) {
        broken.labels.get_mut("click").unwrap()[row] = 0.0;
        broken.labels.get_mut("conversion").unwrap()[row] = 1.0;
    }
    let broken = TrainingData { train: Shards::in_memory(vec![broken]), ..data.clone() };
    let mut recipe = recipe(ModelKind::SharedBottom);
    let error = run(&recipe, &broken).unwrap_err().to_string();
    assert!(error.contains("60 rows have conversion = 1 but click = 0 (the first is row 0)"), "{error}");
    assert!(error.contains("outside_space = \"drop\""), "{error}");
    recipe.train.outside_space = OutsideSpace::Drop;
    let mut dropped = Dropped::default();
    let trained = train(&recipe, &broken, &TrainOptions::new(1), &mut dropped).unwrap();
    assert_eq!(dropped.0, [("train", 60)]);
    // As if they had never been there.
    assert!(trained.parameters == run(&recipe, &clean(&data)).unwrap().parameters);
}

#[derive(Default)]
struct Dropped(Vec<(&'static str, usize)>);

impl Progress for Dropped {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::RowsDropped { split, rows } = event {
            self.0.push((split, *rows));
        }
    }
}
