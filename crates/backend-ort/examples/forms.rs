//! Both forms of a bundle, turn by turn in one process: processor time of a call, and its ratio.
//!
//! ```sh
//! cargo run --release -p gatefold-backend-ort --example forms -- models/mmoe/1 [candidates] [rounds]
//! ```

use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_engine::{Backend, BackendLoader as _, Bundle, GraphForm};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{FittedFeature, Kind, Level};

/// Calls of a form before the other one's turn.
const CALLS: u32 = 20;

#[allow(clippy::print_stdout, reason = "an example reports on stdout")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give the folder of a bundle")?;
    let candidates = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let loader = OrtLoader::new(OrtSettings::default())?;
    let bundle = Bundle::open_latest(path)?;
    let batch = one_request(&bundle.manifest().features, candidates);
    let outputs: Vec<usize> = (0..bundle.manifest().outputs.len()).collect();
    let mut forms = [loader.open(&bundle, GraphForm::Plain)?, loader.open(&bundle, GraphForm::UserOnce)?];
    let mut times: [Vec<f64>; 2] = Default::default();
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        for (form, times) in forms.iter_mut().zip(&mut times) {
            times.push(turn(form.as_mut(), &batch, &outputs)?);
        }
        ratios.push(times[0][times[0].len() - 1] / times[1][times[1].len() - 1]);
    }
    let [plain, once] = times.map(|times| median(times) * 1e3);
    println!(
        "{candidates} candidates of one request, one thread: plain {plain:.3} ms, user once {once:.3} ms; \
         median of {rounds} ratios {:.2}",
        median(ratios)
    );
    Ok(())
}

/// Seconds of processor time that a call takes, after one that is not counted.
fn turn(
    form: &mut dyn Backend,
    batch: &FeatureBatch,
    outputs: &[usize],
) -> Result<f64, Box<dyn std::error::Error>> {
    form.run(batch, outputs)?;
    let started = processor_seconds()?;
    for _ in 0..CALLS {
        form.run(batch, outputs)?;
    }
    Ok((processor_seconds()? - started) / f64::from(CALLS))
}

/// Processor time of this thread, in which a session of one thread computes: other programs on the
/// machine do not count.
fn processor_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One request with codes all over each table.
fn one_request(features: &[FittedFeature], candidates: usize) -> FeatureBatch {
    let column = |fitted: &FittedFeature| {
        let rows = if fitted.feature.side.level() == Level::Request { 1 } else { candidates };
        let count = rows * fitted.feature.width();
        match (fitted.feature.kind, fitted.code_count()) {
            (Kind::Numeric, _) | (_, None) => {
                FeatureColumn::Numbers((0..count).map(|row| row as f32 / count as f32).collect())
            }
            (_, Some(codes)) => {
                let data = (0..count).map(|row| (1 + row * 7919 % (codes - 1).max(1)) as i32).collect();
                FeatureColumn::Codes { width: fitted.feature.width(), data }
            }
        }
    };
    FeatureBatch {
        requests: 1,
        candidates,
        request_of: vec![0; candidates],
        columns: features.iter().map(column).collect(),
    }
}
