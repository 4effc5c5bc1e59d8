//! A small sample set made of a rule: users, items and ages with a known effect on the log odds of
//! a click and of a conversion after it.

use gatefold_dataset::{Columns, Shards, Split};
use gatefold_features::FeatureColumn;
use gatefold_metrics::auc;
use gatefold_schema::{
    EncoderSet, EncoderState, FittedFeature, JsonRequest, ModelKind, Recipe, Vocabulary, VocabularyValues,
};
use gatefold_trainer::TrainingData;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const USERS: usize = 12;
const ITEMS: usize = 16;
const CANDIDATES: usize = 5;
/// Longest history, as the recipe declares it.
const HISTORY: usize = 3;

/// The recipe that fits the samples.
pub(crate) fn recipe(kind: ModelKind) -> Recipe {
    let mut recipe = Recipe::parse(RECIPE, "tiny.toml").unwrap();
    recipe.model.kind = kind;
    recipe.check().unwrap();
    recipe
}

/// The sample set: 6,000 training and 2,000 validation rows, five candidates a request.
pub(crate) fn sample() -> TrainingData {
    let features = recipe(ModelKind::SharedBottom).features;
    let state = |name: &str| match name {
        "item" | "history" => EncoderState::Vocab { size: ITEMS },
        _ => EncoderState::Stateless,
    };
    let items = VocabularyValues::Text((0..ITEMS).map(|item| format!("item-{item:02}")).collect());
    let mut random = ChaCha8Rng::seed_from_u64(42);
    TrainingData {
        encoders: EncoderSet {
            features: features
                .into_iter()
                .map(|feature| FittedFeature { state: state(&feature.name), feature })
                .collect(),
            vocabularies: [("item".to_owned(), Vocabulary { table: "item".into(), values: items })].into(),
            ..EncoderSet::default()
        },
        train: split(&mut random, 1200).into(),
        valid: split(&mut random, 400).into(),
        examples: serde_json::from_str::<Vec<JsonRequest>>(EXAMPLES).unwrap(),
        negative_sampling_rate: 1.0,
        late_label: None,
    }
}

/// Rows of the same rule that are in no sample set.
pub(crate) fn fresh(requests: usize) -> Shards {
    split(&mut ChaCha8Rng::seed_from_u64(43), requests).into()
}

/// All rows of a split in memory, to look at them or to change them.
pub(crate) fn rows(shards: &Shards) -> Split {
    let labels = shards.label_names().to_vec();
    let part = shards.read(0, Columns { features: true, labels: &labels, time: true }).unwrap();
    assert_eq!(part.rows, shards.rows());
    part.as_ref().clone()
}

/// AUC of the true probabilities of `ctr`, `cvr` and `ctcvr`: what no model can beat but by luck.
pub(crate) fn oracle(split: &Split) -> [f64; 3] {
    let rows: Vec<usize> = (0..split.rows).collect();
    let clicked: Vec<usize> = rows.iter().copied().filter(|&row| split.labels["click"][row] == 1.0).collect();
    let auc_of = |rows: &[usize], score: &dyn Fn(usize) -> f32, label: &str| {
        let scores: Vec<f32> = rows.iter().map(|&row| score(row)).collect();
        let labels: Vec<f32> = rows.iter().map(|&row| split.labels[label][row]).collect();
        auc(&scores, &labels, None).unwrap()
    };
    let click = |row: usize| split.labels["true_click"][row];
    let conversion = |row: usize| split.labels["true_conversion"][row];
    [
        auc_of(&rows, &click, "click"),
        auc_of(&clicked, &conversion, "conversion"),
        auc_of(&rows, &|row| click(row) * conversion(row), "conversion"),
    ]
}

fn split(random: &mut ChaCha8Rng, requests: usize) -> Split {
    let rows = requests * CANDIDATES;
    let mut uniform = || (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
    let (mut user, mut age, mut item, mut history) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut click, mut conversion) = (Vec::new(), Vec::new());
    let (mut true_click, mut true_conversion) = (Vec::new(), Vec::new());
    for _ in 0..requests {
        let this_user = (uniform() * USERS as f32) as usize;
        let this_age = 4.0 * uniform() - 2.0;
        let seen: Vec<i32> = (0..HISTORY).map(|_| 3 + (uniform() * ITEMS as f32) as i32).collect();
        let kept = (uniform() * (HISTORY + 1) as f32) as usize;
        for _ in 0..CANDIDATES {
            let this_item = (uniform() * ITEMS as f32) as usize;
            let taste = [-1.2, -0.4, 0.4, 1.2];
            let logit = taste[this_user % 4] + 1.5 * taste[this_item % 4] + 0.5 * this_age - 0.3;
            let p_click = sigmoid(logit);
            let p_conversion = sigmoid(1.5 * taste[(this_item / 4) % 4] - this_age);
            let clicked = uniform() < p_click;
            let converted = clicked && uniform() < p_conversion;
            user.push(2 + this_user as i32);
            age.push(this_age);
            item.push(3 + this_item as i32);
            history.extend((0..HISTORY).map(|place| if place < kept { seen[place] } else { 0 }));
            click.push(f32::from(u8::from(clicked)));
            conversion.push(f32::from(u8::from(converted)));
            true_click.push(p_click);
            true_conversion.push(p_conversion);
        }
    }
    Split {
        rows,
        request: (0..rows).map(|row| (row / CANDIDATES) as u32).collect(),
        columns: vec![
            FeatureColumn::Codes { width: 1, data: user },
            FeatureColumn::Numbers(age),
            FeatureColumn::Codes { width: 1, data: item },
            FeatureColumn::Codes { width: HISTORY, data: history },
        ],
        labels: [
            ("click", click),
            ("conversion", conversion),
            ("true_click", true_click),
            ("true_conversion", true_conversion),
        ]
        .map(|(name, values)| (name.to_owned(), values))
        .into(),
        time: None,
        levels: recipe(ModelKind::SharedBottom).features.iter().map(|feature| feature.side.level()).collect(),
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

const EXAMPLES: &str = r#"[
  {"request_id": "r1", "user": {"user": 3, "age": 0.5, "history": ["item-01", "item-07"]}, "context": {},
   "items": {"item": ["item-00", "item-15", "item-09", null, "never seen"]}},
  {"request_id": "r2", "user": {"user": null, "age": null, "history": []}, "context": {},
   "items": {"item": ["item-04"]}}
]"#;

const RECIPE: &str = r#"
name = "tiny"

[samples]
adult = { train = "none", test = "none" }

[[feature]]
name = "user"
side = "user"
kind = "categorical"
type = "int"
encoder = { kind = "hash", buckets = 12 }
embedding = 4

[[feature]]
name = "age"
side = "user"
kind = "numeric"
type = "float"
encoder = { kind = "none" }

[[feature]]
name = "item"
side = "item"
kind = "categorical"
type = "text"
encoder = { kind = "vocab" }
embedding = 8

[[feature]]
name = "history"
side = "user"
kind = "sequence"
type = "text"
encoder = { kind = "vocab" }
embedding = 8
table = "item"
max_len = 3

[[task]]
name = "ctr"
label = "click"

[[task]]
name = "cvr"
label = "conversion"
given = "ctr"

[[derived]]
name = "ctcvr"
product = ["ctr", "cvr"]
label = "conversion"

[model]
kind = "mmoe"
bottom = [32, 16]
experts = 3
expert = [32, 16]
tower = [8]

[train]
epochs = 4
batch_size = 128
learning_rate = 0.003
embedding_learning_rate = 0.01
"#;
