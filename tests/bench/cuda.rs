//! A GPU against the processor: the same scores, and how many more of them a second.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use gatefold_backend_ort::{Device, OrtBackend, OrtError, OrtLoader, OrtSettings};
use gatefold_engine::{Backend, Bundle, GraphForm};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{FittedFeature, Kind, Level};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::world::random_codes;

/// Candidates of the batches, which are of one request each.
const CANDIDATES: [usize; 5] = [1, 50, 200, 1000, 4096];

#[derive(clap::Args)]
pub(crate) struct CudaOptions {
    /// The model's folder.
    #[arg(long)]
    model: PathBuf,
    /// The GPU.
    #[arg(long, default_value = "cuda:0")]
    device: Device,
    /// Sessions on the GPU; the processor has one a core.
    #[arg(long, default_value_t = 2)]
    sessions: usize,
    /// Seconds that each runs for, for each size of batch.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// By size of batch: the largest difference of a score, and candidates a second of both. Where the
/// device cannot be had, why.
pub(crate) fn measure(options: &CudaOptions) -> Result<Value> {
    ensure!(options.sessions > 0 && options.seconds > 0.0, "sessions and seconds must be above 0");
    let bundle = Bundle::open_latest(&options.model)?;
    let form = bundle.form(GraphForm::UserOnce);
    let open = |device: Device, count: usize| -> Result<Vec<OrtBackend>, OrtError> {
        let loader = OrtLoader::new(OrtSettings { device, ..OrtSettings::default() })?;
        (0..count).map(|_| loader.open_backend(&bundle, form)).collect()
    };
    let mut gpu = match open(options.device, options.sessions) {
        Ok(backends) => backends,
        Err(error @ OrtError::NoDevice { .. }) => {
            return Ok(json!({ "ran": false, "why": error.to_string() }));
        }
        Err(error) => return Err(error.into()),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cpu = open(Device::Cpu, cores)?;
    let outputs: Vec<usize> = (0..bundle.manifest().outputs.len()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut sizes = Vec::new();
    for candidates in CANDIDATES {
        let batch = random_batch(&bundle.manifest().features, candidates, &mut random);
        let (found, expected) = (gpu[0].run(&batch, &outputs)?, cpu[0].run(&batch, &outputs)?);
        let differences = found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs());
        // `max` would pass over what is not a number.
        let largest = differences.fold(0.0, |most: f32, one| if one <= most { most } else { one });
        let measured = |backends: &mut [OrtBackend]| speed(backends, &batch, &outputs, options.seconds);
        sizes.push(json!({
            "candidates": candidates,
            "largest_difference": largest,
            "gpu_candidates_per_second": measured(&mut gpu)?,
            "cpu_candidates_per_second": measured(&mut cpu)?,
        }));
    }
    Ok(json!({ "ran": true, "device": options.device.to_string(), "cores": cores, "sizes": sizes }))
}

/// One request with random values.
fn random_batch(features: &[FittedFeature], candidates: usize, random: &mut ChaCha8Rng) -> FeatureBatch {
    let column = |fitted: &FittedFeature| {
        let rows = if fitted.feature.side.level() == Level::Request { 1 } else { candidates };
        match fitted.feature.kind {
            Kind::Numeric => FeatureColumn::Numbers((0..rows).map(|_| random.random()).collect()),
            Kind::Categorical | Kind::Sequence => random_codes(fitted, rows, random),
        }
    };
    let columns = features.iter().map(column).collect();
    FeatureBatch { requests: 1, candidates, request_of: vec![0; candidates], columns }
}

/// Candidates a second of all `backends` at once, each on a thread of its own, after a run that warms.
fn speed(backends: &mut [OrtBackend], batch: &FeatureBatch, outputs: &[usize], seconds: f64) -> Result<f64> {
    for backend in backends.iter_mut() {
        backend.run(batch, outputs)?;
    }
    let (started, lasts) = (Instant::now(), Duration::from_secs_f64(seconds));
    let runs = std::thread::scope(|scope| -> Result<usize> {
        let repeat = |backend: &mut OrtBackend| -> Result<usize> {
            let mut runs = 0;
            while started.elapsed() < lasts {
                backend.run(batch, outputs)?;
                runs += 1;
            }
            Ok(runs)
        };
        let threads: Vec<_> =
            backends.iter_mut().map(|backend| scope.spawn(move || repeat(backend))).collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(sum)
    })?;
    Ok((runs * batch.candidates) as f64 / started.elapsed().as_secs_f64())
}
