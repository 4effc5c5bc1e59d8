//! The MMoE of `cargo xtask bench train` (workload T1) on burn's CPU backend (`flex`), written as
//! its documentation suggests: a `Module`, an `Embedding` a field, `AdamConfig`.
//!
//! ```text
//! cargo run --release -- FOLDER [STEPS]      # FOLDER: what `gatefold-bench train-data` wrote
//! ```
//! Prints one JSON object: samples a second over the steps after the first two. Threads:
//! `RAYON_NUM_THREADS`.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use burn::{
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    optim::{AdamConfig, GradientsParams},
    prelude::*,
    tensor::{
        TensorData,
        activation::{log_sigmoid, relu, softmax},
    },
};
use serde_json::{Value, json};

const WIDTH: usize = 16;
const EXPERTS: usize = 8;
const HIDDEN: usize = 256;
const OUTPUT: usize = 128;
const TOWER: usize = 64;
const TASKS: usize = 2;
const WARM_UP: usize = 2;

#[derive(Module, Debug)]
struct Mmoe {
    tables: Vec<Embedding>,
    expert_first: Vec<Linear>,
    expert_second: Vec<Linear>,
    gates: Vec<Linear>,
    tower_first: Vec<Linear>,
    tower_second: Vec<Linear>,
}

impl Mmoe {
    fn new(fields: usize, rows: usize, device: &Device) -> Self {
        let inputs = fields * WIDTH;
        let linear = |count: usize, from: usize, to: usize| -> Vec<Linear> {
            (0..count).map(|_| LinearConfig::new(from, to).init(device)).collect()
        };
        Self {
            tables: (0..fields).map(|_| EmbeddingConfig::new(rows, WIDTH).init(device)).collect(),
            expert_first: linear(EXPERTS, inputs, HIDDEN),
            expert_second: linear(EXPERTS, HIDDEN, OUTPUT),
            gates: linear(TASKS, inputs, EXPERTS),
            tower_first: linear(TASKS, OUTPUT, TOWER),
            tower_second: linear(TASKS, TOWER, 1),
        }
    }

    /// Logits `[batch, tasks]` of one `[batch, 1]` of ids a field.
    fn forward(&self, ids: Vec<Tensor<2, Int>>) -> Tensor<2> {
        let rows: Vec<Tensor<2>> =
            self.tables.iter().zip(ids).map(|(table, ids)| table.forward(ids).squeeze_dim::<2>(1)).collect();
        let rows = Tensor::cat(rows, 1);
        let experts: Vec<Tensor<2>> = self
            .expert_first
            .iter()
            .zip(&self.expert_second)
            .map(|(first, second)| relu(second.forward(relu(first.forward(rows.clone())))))
            .collect();
        let experts: Tensor<3> = Tensor::stack(experts, 1);
        let logits: Vec<Tensor<2>> = (0..TASKS)
            .map(|task| {
                let gate: Tensor<3> = softmax(self.gates[task].forward(rows.clone()), 1).unsqueeze_dim(2);
                let mixture: Tensor<2> = (gate * experts.clone()).sum_dim(1).squeeze_dim(1);
                self.tower_second[task].forward(relu(self.tower_first[task].forward(mixture)))
            })
            .collect();
        Tensor::cat(logits, 1)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("give the folder that `gatefold-bench train-data` wrote")?;
    let steps: usize = arguments.next().map_or(Ok(12), |text| text.parse())?;
    let folder = Path::new(&folder);
    let shape: Value = serde_json::from_slice(&fs::read(folder.join("shape.json"))?)?;
    let number = |key: &str| shape[key].as_u64().map(|number| number as usize).context("shape.json is incomplete");
    let (samples, fields, rows, batch) =
        (number("samples")?, number("fields")?, number("rows_per_field")?, number("batch")?);
    let ids: Vec<i32> = words(&fs::read(folder.join("ids.i32"))?).map(i32::from_le_bytes).collect();
    let labels: Vec<f32> = words(&fs::read(folder.join("labels.f32"))?).map(f32::from_le_bytes).collect();

    let device = Device::flex().autodiff();
    let mut model = Mmoe::new(fields, rows, &device);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let mut started = Instant::now();
    for step in 0..WARM_UP + steps {
        if step == WARM_UP {
            started = Instant::now();
        }
        let first = step * batch % (samples - batch + 1);
        let columns = (0..fields).map(|field| {
            let column: Vec<i32> = (first..first + batch).map(|row| ids[row * fields + field]).collect();
            Tensor::<2, Int>::from_data(TensorData::new(column, [batch, 1]), &device)
        });
        let labels = labels[first * TASKS..(first + batch) * TASKS].to_vec();
        let labels = Tensor::<2>::from_data(TensorData::new(labels, [batch, TASKS]), &device);
        let logits = model.forward(columns.collect());
        let loss = ((labels.neg() + 1.0) * logits.clone() - log_sigmoid(logits)).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, gradients);
    }
    let speed = (steps * batch) as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "peer": "burn", "steps": steps, "samples_per_second": speed }));
    Ok(())
}

/// The bytes in groups of four.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]])
}
