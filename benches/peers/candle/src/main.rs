//! The MMoE of `cargo xtask bench train` (workload T1) on candle's CPU backend, written as its
//! documentation suggests: a `VarMap`, an `Embedding` a field, `AdamW` without decay (which is Adam).
//!
//! ```text
//! cargo run --release -- FOLDER [STEPS]      # FOLDER: what `gatefold-bench train-data` wrote
//! ```
//! Prints one JSON object: samples a second over the steps after the first two. Threads:
//! `RAYON_NUM_THREADS`.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::{
    AdamW, Embedding, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, embedding, linear, ops::softmax,
};
use serde_json::{Value, json};

const WIDTH: usize = 16;
const EXPERTS: usize = 8;
const HIDDEN: usize = 256;
const OUTPUT: usize = 128;
const TOWER: usize = 64;
const TASKS: usize = 2;
const WARM_UP: usize = 2;

struct Mmoe {
    tables: Vec<Embedding>,
    experts: Vec<[Linear; 2]>,
    gates: Vec<Linear>,
    towers: Vec<[Linear; 2]>,
}

impl Mmoe {
    fn new(fields: usize, rows: usize, vars: VarBuilder) -> candle_core::Result<Self> {
        let inputs = fields * WIDTH;
        let two = |name: &str, sizes: [usize; 3]| -> candle_core::Result<[Linear; 2]> {
            Ok([
                linear(sizes[0], sizes[1], vars.pp(format!("{name}.0")))?,
                linear(sizes[1], sizes[2], vars.pp(format!("{name}.1")))?,
            ])
        };
        Ok(Self {
            tables: (0..fields)
                .map(|field| embedding(rows, WIDTH, vars.pp(format!("table.{field}"))))
                .collect::<Result<_, _>>()?,
            experts: (0..EXPERTS)
                .map(|expert| two(&format!("expert.{expert}"), [inputs, HIDDEN, OUTPUT]))
                .collect::<Result<_, _>>()?,
            gates: (0..TASKS)
                .map(|task| linear(inputs, EXPERTS, vars.pp(format!("gate.{task}"))))
                .collect::<Result<_, _>>()?,
            towers: (0..TASKS)
                .map(|task| two(&format!("tower.{task}"), [OUTPUT, TOWER, 1]))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Logits `[batch, tasks]` of ids `[fields, batch]`.
    fn forward(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        let rows: Vec<Tensor> = self
            .tables
            .iter()
            .enumerate()
            .map(|(field, table)| table.forward(&ids.i(field)?))
            .collect::<Result<_, _>>()?;
        let rows = Tensor::cat(&rows, 1)?;
        let experts: Vec<Tensor> = self
            .experts
            .iter()
            .map(|[first, second]| second.forward(&first.forward(&rows)?.relu()?)?.relu())
            .collect::<Result<_, _>>()?;
        let experts = Tensor::stack(&experts, 1)?;
        let logits: Vec<Tensor> = self
            .gates
            .iter()
            .zip(&self.towers)
            .map(|(gate, [first, second])| {
                let gate = softmax(&gate.forward(&rows)?, D::Minus1)?.unsqueeze(2)?;
                let mixture = gate.broadcast_mul(&experts)?.sum(1)?;
                second.forward(&first.forward(&mixture)?.relu()?)
            })
            .collect::<candle_core::Result<_>>()?;
        Tensor::cat(&logits, 1)
    }
}

/// Mean binary cross-entropy of logits: `max(z, 0) − z·y + ln(1 + exp(−|z|))`.
fn loss(logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
    let softplus = ((logits.abs()?.neg()?.exp()? + 1.0)?.log()? + logits.relu()?)?;
    (softplus - (logits * labels)?)?.mean_all()
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
    let ids: Vec<u32> = words(&fs::read(folder.join("ids.i32"))?).map(u32::from_le_bytes).collect();
    let labels: Vec<f32> = words(&fs::read(folder.join("labels.f32"))?).map(f32::from_le_bytes).collect();

    let device = Device::Cpu;
    let vars = VarMap::new();
    let model = Mmoe::new(fields, rows, VarBuilder::from_varmap(&vars, DType::F32, &device))?;
    let settings = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), settings)?;
    let mut started = Instant::now();
    for step in 0..WARM_UP + steps {
        if step == WARM_UP {
            started = Instant::now();
        }
        let first = step * batch % (samples - batch + 1);
        let columns: Vec<u32> =
            (0..fields).flat_map(|field| (first..first + batch).map(move |row| (field, row))).map(|(field, row)| ids[row * fields + field]).collect();
        let ids = Tensor::from_vec(columns, (fields, batch), &device)?;
        let labels = Tensor::from_slice(&labels[first * TASKS..(first + batch) * TASKS], (batch, TASKS), &device)?;
        optimizer.backward_step(&loss(&model.forward(&ids)?, &labels)?)?;
    }
    let speed = (steps * batch) as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "peer": "candle", "steps": steps, "samples_per_second": speed }));
    Ok(())
}

/// The bytes in groups of four.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]])
}
