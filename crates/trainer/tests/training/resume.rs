//! Trainings that stop and go on, and trainings that begin where another one ended.

use std::path::Path;

use gatefold_dataset::Shards;
use gatefold_features::FeatureColumn;
use gatefold_schema::{BalanceConfig, ModelKind, Recipe, VocabularyValues};
use gatefold_trainer::{
    Checkpoints, Event, Existing, Progress, Silent, TrainError, TrainOptions, Trained, TrainingData,
    WarmStart, publish, train,
};

use crate::{
    loader,
    tiny::{recipe, rows, sample},
};

fn options(folder: &Path, existing: Existing) -> TrainOptions {
    let checkpoints = Checkpoints { folder: folder.to_owned(), every_steps: 20, every: None, existing };
    TrainOptions { checkpoints: Some(checkpoints), ..TrainOptions::new(1) }
}

/// Stops after a number of steps, and remembers how the training began.
#[derive(Default)]
struct Stop {
    after: usize,
    made: usize,
    began: Option<WarmStart>,
}

impl Progress for Stop {
    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Stepped { step, .. } => self.made = *step,
            Event::WarmStarted { report } => self.began = Some((*report).clone()),
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.after > 0 && self.made >= self.after
    }
}

/// What a checkpoint has most to remember: every rule that learns, momentum, a schedule, patience,
/// batches of several kinds, evaluations within epochs.
fn recipes() -> Vec<Recipe> {
    let balances = [
        BalanceConfig::Fixed {},
        BalanceConfig::Uncertainty { learning_rate: 0.01 },
        BalanceConfig::Dwa { temperature: 2.0 },
        BalanceConfig::GradNorm { alpha: 1.5, learning_rate: 0.01 },
        BalanceConfig::PcGrad {},
    ];
    let with = |balance| {
        let mut recipe = recipe(ModelKind::Mmoe);
        recipe.train.balance = balance;
        recipe.train.evaluate_every = 17;
        recipe.train.patience = 20;
        recipe.train.schedule = serde_json::from_str(r#"{"kind": "cosine", "warmup_steps": 30}"#).unwrap();
        recipe.train.embedding_optimizer =
            Some(serde_json::from_str(r#"{"kind": "rowwise-adagrad"}"#).unwrap());
        recipe.train.alternate = [("joint".to_owned(), 2), ("cvr".to_owned(), 1)].into();
        recipe.train.clip_norm = Some(1.0);
        recipe.model.dropout = 0.1;
        recipe
    };
    balances.map(with).into()
}

fn stopped_at(recipe: &Recipe, data: &TrainingData, folder: &Path, after: usize, existing: Existing) {
    let mut stop = Stop { after, ..Stop::default() };
    let error = train(recipe, data, &options(folder, existing), &mut stop).unwrap_err();
    let TrainError::Interrupted { step, checkpoint } = error else { panic!("{error}") };
    assert_eq!((step, checkpoint.map(|(step, _)| step)), (after, Some(after)));
}

#[test]
fn a_training_that_stops_and_goes_on_gives_the_same_model() {
    let data = sample();
    for recipe in recipes() {
        let whole = train(&recipe, &data, &TrainOptions::new(2), &mut Silent).unwrap();
        let folder = tempfile::tempdir().unwrap();
        stopped_at(&recipe, &data, folder.path(), 33, Existing::Refuse);
        stopped_at(&recipe, &data, folder.path(), 101, Existing::Resume);
        let resumed = train(&recipe, &data, &options(folder.path(), Existing::Resume), &mut Silent).unwrap();
        let name = &recipe.train.balance;
        assert!(resumed.parameters == whole.parameters, "{name:?}: other parameters");
        assert_eq!(resumed.evaluation, whole.evaluation, "{name:?}");
        assert_eq!(
            (resumed.report.steps, resumed.report.best_step),
            (whole.report.steps, whole.report.best_step)
        );
    }
}

#[test]
fn a_checkpoint_is_neither_lost_nor_gone_on_from_by_mistake() {
    let data = sample();
    let folder = tempfile::tempdir().unwrap();
    let first = recipe(ModelKind::SharedBottom);
    let fails = |recipe: &Recipe, existing, expected: &str| {
        let error = train(recipe, &data, &options(folder.path(), existing), &mut Silent).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}\ndoes not contain\n{expected}");
    };
    fails(&first, Existing::Resume, "there is no checkpoint");
    stopped_at(&first, &data, folder.path(), 5, Existing::Refuse);
    fails(&first, Existing::Refuse, "holds an unfinished training of 5 steps: go on with --resume");
    let mut other = first.clone();
    other.train.learning_rate *= 2.0;
    fails(&other, Existing::Resume, "was written with another [train]: go on with the same");
    other.train = first.train.clone();
    other.model.tower = vec![4];
    fails(&other, Existing::Resume, "was written with another [model]");
    stopped_at(&first, &data, folder.path(), 7, Existing::Discard);
    let state = folder.path().join("state-7.safetensors");
    let mut bytes = std::fs::read(&state).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&state, bytes).unwrap();
    fails(&first, Existing::Resume, "its sha256 is not the one recorded");
}

#[test]
fn a_loss_that_is_not_finite_keeps_the_last_good_checkpoint() {
    let data = sample();
    let mut recipe = recipe(ModelKind::SharedBottom);
    recipe.train.shuffle = false;
    recipe.train.request_batches = false;
    let mut split = rows(&data.train);
    let FeatureColumn::Numbers(ages) = &mut split.columns[1] else {
        panic!("the second feature is a number")
    };
    // In the 31st batch; checkpoints are written every 20 steps.
    ages[30 * recipe.train.batch_size + 1] = f32::NAN;
    let broken = TrainingData { train: Shards::in_memory(vec![split]), ..data };
    let folder = tempfile::tempdir().unwrap();
    let error = train(&recipe, &broken, &options(folder.path(), Existing::Refuse), &mut Silent).unwrap_err();
    let text = error.to_string();
    for part in ["is NaN at epoch 1, step 31", "1 not finite", "; the checkpoint of step 20 is in"] {
        assert!(text.contains(part), "{text}\ndoes not contain\n{part}");
    }
    assert!(folder.path().join("state-20.safetensors").is_file());
}

#[test]
fn a_warm_start_takes_what_means_the_same() {
    let data = sample();
    let work = tempfile::tempdir().unwrap();
    let model = work.path().join("tiny");
    let base = recipe(ModelKind::SharedBottom);
    let first = train(&base, &data, &TrainOptions::new(1), &mut Silent).unwrap();
    publish(&base, &data, &first, &model, &loader(), &mut Silent).unwrap();
    let warm = |recipe: &Recipe, data: &TrainingData| -> (Result<Trained, TrainError>, Option<WarmStart>) {
        let options = TrainOptions { warm_start: Some(model.clone()), ..TrainOptions::new(1) };
        let mut began = Stop::default();
        let trained = train(recipe, data, &options, &mut began);
        (trained, began.began)
    };

    // Steps that change nothing: the parameters are those of the bundle, every one.
    let mut still = base.clone();
    (still.train.learning_rate, still.train.embedding_learning_rate, still.train.epochs) = (1e-30, None, 1);
    let (trained, began) = warm(&still, &data);
    let began = began.unwrap();
    assert_eq!((began.from.as_str(), began.left.len(), began.by_value.len()), ("tiny 1", 0, 0));
    let trained = trained.unwrap();
    assert!(trained.parameters == first.parameters, "the parameters must be those of the bundle");
    assert_eq!(trained.warm_start.as_deref(), Some("tiny 1"));

    // Another tower and another order of the items: rows go with their items.
    let mut other = still.clone();
    other.model.tower = vec![5];
    let mut moved = data.clone();
    let Some(vocabulary) = moved.encoders.vocabularies.get_mut("item") else { panic!("items have one") };
    let VocabularyValues::Text(items) = &mut vocabulary.values else { panic!("items are text") };
    items.swap(0, 3);
    let (trained, began) = warm(&other, &moved);
    let began = began.unwrap();
    assert_eq!(
        began.by_value,
        [("embedding.item".to_owned(), "19 of 19 rows, of 19 in the bundle".to_owned())]
    );
    let left: Vec<&str> = began.left.iter().map(|(name, _)| name.as_str()).collect();
    let towers = ["tower.ctr.0.weight", "tower.ctr.0.bias", "tower.ctr.1.weight"];
    assert!(towers.iter().all(|name| left.contains(name)), "{left:?}");
    assert!(began.left[0].1.starts_with("it is [16, 8] in the bundle, [16, 5] here"), "{:?}", began.left);
    let (old, new) = (first.parameters, trained.unwrap().parameters);
    let row = |parameters: &gatefold_exec::Parameters, row: usize| {
        parameters.by_name("embedding.item").unwrap()[8 * row..8 * (row + 1)].to_vec()
    };
    assert_eq!(row(&old, 3), row(&new, 6));
    assert_eq!(row(&old, 6), row(&new, 3));
    assert_eq!(row(&old, 5), row(&new, 5));

    let error = warm(&still, &TrainingData { ..data }).0.err().map(|error| error.to_string());
    assert_eq!(error, None);
    let options = TrainOptions { warm_start: Some(work.path().join("none")), ..TrainOptions::new(1) };
    let error = train(&still, &sample(), &options, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("cannot begin with the parameters of"), "{error}");
}
