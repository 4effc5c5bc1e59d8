//! `gatefold bundle quantize`: tables and layers in fewer bits, where no AUC notices.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use gatefold_backend_ort::OrtLoader;
use gatefold_dataset::{Columns, SampleSet, Split};
use gatefold_engine::{BackendLoader, Bundle, GOLDEN_TOLERANCE, GraphForm, golden};
use gatefold_features::FeatureBatch;
use gatefold_metrics::{FigureOptions, Metric};
use gatefold_onnx::{Quantization, TableType};
use gatefold_trainer::{Evaluation, GraphRanges, Observed, measured_outputs, observe_ranges, quantize};
use serde_json::json;

use crate::{bundles, console::Console, interrupt::Interrupt, scoring};

/// The split whose rows show what values range over: another one than those that models are judged by.
const OBSERVED_SPLIT: &str = "train";
/// So many of its shards are looked at, evenly spaced.
const OBSERVED_SHARDS: usize = 8;
/// So many batches of each, evenly spaced.
const OBSERVED_BATCHES: usize = 4;
/// Rows of a batch.
const OBSERVED_ROWS: usize = 256;

/// Store tables or compute layers in fewer bits.
///
/// Publishes a bundle as a new version whose embedding tables take half (f16) or about a third
/// (int8) of the memory, or whose layers are computed in 8-bit integers. Both versions score the
/// samples; unless every AUC stays where it was, nothing is published. Golden rows are kept, with the
/// tolerance that the new version needs.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold bundle quantize work/models/mmoe --experts int8 --tables f16 --samples work/samples"
)]
pub(crate) struct Args {
    /// Folder of a model (its latest version is used) or of one version.
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Compute the layers of experts, gates and towers in this type.
    #[arg(long, value_name = "TYPE", value_enum)]
    experts: Option<ExpertType>,
    /// Store embedding tables in this type.
    #[arg(long, value_name = "TYPE", value_enum)]
    tables: Option<StoredType>,
    /// Folder written by `gatefold samples build`. Rows of its split `train` show what the values that int8
    /// stands for range over.
    #[arg(long, value_name = "DIR")]
    samples: PathBuf,
    /// Split to measure the effect on.
    #[arg(long, default_value = "valid")]
    split: String,
    /// Folder of the model that gets the new version; its name becomes the model's [default: that of the bundle].
    /// A server of that folder takes the new version at once.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How far an AUC may move: above 0, below 1.
    #[arg(long, value_name = "X", default_value_t = 0.0005, value_parser = auc_change)]
    max_auc_change: f64,
    /// Publish although this processor has no instructions for 8-bit products: for another machine.
    #[arg(long)]
    force: bool,
    /// Threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ExpertType {
    /// 8-bit integers: weights with a scale a column, rows by the range that samples show.
    Int8,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StoredType {
    /// 16-bit floats.
    F16,
    /// 8-bit integers with a scale a row.
    Int8,
}

/// What the samples show of one bundle.
struct Measured {
    /// Output and AUC.
    auc: BTreeMap<String, f64>,
    /// Largest difference to a golden score.
    golden_difference: f32,
    bytes: u64,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let quantization = Quantization {
        tables: args.tables.map(|stored| match stored {
            StoredType::F16 => TableType::F16,
            StoredType::Int8 => TableType::Int8,
        }),
        products: args.experts.is_some(),
    };
    ensure!(quantization != Quantization::default(), "nothing to do: give --experts, --tables or both");
    if quantization.products && !args.force && !multiplies_bytes() {
        bail!(
            "this processor has no instructions for 8-bit products (AVX-512 VNNI, AVX-VNNI or dot product): \
             layers in int8 would gain little here, and on x86 may overflow; use --force for a bundle that is \
             served on another machine"
        );
    }
    let samples = SampleSet::open(&args.samples)
        .with_context(|| format!("cannot open the samples in {}", args.samples.display()))?;
    let split = samples
        .load(&args.split)
        .with_context(|| format!("cannot load split '{}' of {}", args.split, args.samples.display()))?;
    ensure!(split.rows > 0, "split '{}' of {} has no row", args.split, args.samples.display());
    let bundle = scoring::open_bundle(&args.bundle, &samples)?;
    ensure!(
        bundle.manifest().golden_tolerance.is_none(),
        "{} is in fewer bits already: start from the version that it was made of",
        bundle.path().display()
    );
    let model_folder = match args.out {
        Some(folder) => folder,
        None => bundle.path().parent().context("the bundle stands in no folder")?.to_owned(),
    };
    let threads = args.threads.map_or_else(bundles::all_cores, |threads| threads as usize);
    let loader = bundles::loader()?;
    let measure = |bundle: Bundle| -> Result<Measured> {
        let bytes = bundle.manifest().files.values().map(|file| file.bytes).sum();
        let mut scorer = scoring::open_scorer(bundle, &loader, threads)?;
        let scores = scoring::score_split(&mut scorer, &split, console, &interrupt)?;
        let auc = auc_of(scorer.bundle(), &args.split, &split, &scores)?;
        let golden_difference = golden_difference(scorer.bundle(), &loader).map_err(anyhow::Error::msg)?;
        Ok(Measured { auc, golden_difference, bytes })
    };

    // A trial shows the effect; only then is it known what the manifest has to say. It stands on the
    // disk of the model, under a name that is no version's.
    std::fs::create_dir_all(&model_folder)
        .with_context(|| format!("cannot create {}", model_folder.display()))?;
    let _unless_used = RemovedIfEmpty(&model_folder);
    let trial = tempfile::Builder::new().prefix(".trial-").tempdir_in(&model_folder)?;
    let name = bundle.manifest().name.clone();
    let ranges = match quantization.products {
        true => {
            let mut batches = golden::batches(&bundle)?;
            batches.extend(observed_rows(&samples)?);
            observe_ranges(&bundle, &loader, &batches, &trial.path().join("observed"))?
        }
        false => GraphRanges::new(),
    };
    let trial_folder = trial.path().join(&name);
    let rewritten = quantize(&bundle, quantization, &ranges, 1.0, &[], &trial_folder, |_| Ok(()))?;
    ensure!(
        !quantization.products || rewritten.products > 0,
        "no layer of {name} is wide enough to gain from int8"
    );
    let before = measure(bundle.clone())?;
    let after = measure(rewritten.bundle)?;
    let moved: BTreeMap<&str, f64> = before
        .auc
        .iter()
        .filter_map(|(output, auc)| Some((output.as_str(), after.auc.get(output)? - auc)))
        .collect();
    let too_far = |moved: f64| moved.is_nan() || moved.abs() >= args.max_auc_change;
    if let Some((output, moved)) = moved.iter().find(|(_, moved)| too_far(**moved)) {
        bail!(
            "nothing is published: the AUC of '{output}' on {} moves by {moved:+.6}, and less than {} is allowed \
             (--max-auc-change)",
            args.split,
            args.max_auc_change
        );
    }

    // Other batches are summed in another order, and rows whose range is not known have a scale a batch.
    let tolerance = (2.0 * after.golden_difference).max(GOLDEN_TOLERANCE);
    let words =
        moved.iter().map(|(output, moved)| format!("{output} {moved:+.6}")).collect::<Vec<_>>().join(", ");
    let experts = if quantization.products { "int8" } else { "f32" };
    let stored = match quantization.tables {
        None => "f32",
        Some(TableType::F16) => "f16",
        Some(TableType::Int8) => "int8",
    };
    let provenance = [
        (
            "quantized",
            format!("experts {experts}, tables {stored}, of version {}", bundle.manifest().version),
        ),
        ("auc moved", format!("{words} on {}", args.split)),
    ];
    let verify = |bundle: &Bundle| golden_difference(bundle, &loader).map(drop);
    let published = quantize(&bundle, quantization, &ranges, tolerance, &provenance, &model_folder, verify)?;
    if args.json {
        return console.print_json(&json!({
            "bundle": published.bundle.path(),
            "version": published.bundle.manifest().version,
            "tables": published.tables,
            "products": published.products,
            "bytes": { "before": before.bytes, "after": after.bytes },
            "auc": { "before": before.auc, "after": after.auc, "moved": moved },
            "golden_tolerance": tolerance,
        }));
    }
    let mut text = format!("{:<24}  {:>10}  {:>10}  {:>10}\n", "AUC", "before", "after", "moved");
    for (output, moved) in &moved {
        let (before, after) = (before.auc[*output], after.auc[*output]);
        text.push_str(&format!("{output:<24}  {before:>10.6}  {after:>10.6}  {moved:>+10.6}\n"));
    }
    let mut changed = Vec::new();
    if quantization.products {
        changed.push(format!("{} products in {experts}", published.products));
    }
    if quantization.tables.is_some() {
        changed.push(format!("{} tables in {stored}", published.tables));
    }
    console.print(&format!(
        "{text}{}: {} -> {} bytes\nno score of a golden request moved by more than {:.6}\n{}",
        changed.join(", "),
        before.bytes,
        after.bytes,
        after.golden_difference,
        published.bundle.path().display()
    ))
}

/// A folder that is gone when this is dropped, where nothing has been put into it.
struct RemovedIfEmpty<'a>(&'a Path);

impl Drop for RemovedIfEmpty<'_> {
    fn drop(&mut self) {
        // One that holds something is not removed.
        let _ = std::fs::remove_dir(self.0);
    }
}

/// How far an AUC may move.
fn auc_change(text: &str) -> Result<f64, String> {
    let change: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if change > 0.0 && change < 1.0 {
        Ok(change)
    } else {
        Err(format!("{change} is not above 0 and below 1"))
    }
}

/// Rows that show what the values of a model range over.
fn observed_rows(samples: &SampleSet) -> Result<Vec<FeatureBatch>> {
    let folder = samples.folder().display();
    let shards = samples.shards(OBSERVED_SPLIT).with_context(|| {
        format!("int8 needs rows of split '{OBSERVED_SPLIT}', which show what values range over")
    })?;
    ensure!(
        shards.rows() > 0,
        "split '{OBSERVED_SPLIT}' of {folder} has no row to show what values range over"
    );
    let mut batches = Vec::new();
    for index in (0..shards.count()).step_by(shards.count().div_ceil(OBSERVED_SHARDS)) {
        let shard = shards
            .read(index, Columns { features: true, labels: &[], time: false })
            .with_context(|| format!("cannot read split '{OBSERVED_SPLIT}' of {folder}"))?;
        let step = shard.rows.div_ceil(OBSERVED_BATCHES).max(OBSERVED_ROWS);
        let starts = (0..shard.rows).step_by(step);
        batches
            .extend(starts.map(|start| shard.request_batch(start..(start + OBSERVED_ROWS).min(shard.rows))));
    }
    Ok(batches)
}

/// AUC of every output that has one, on its own rows.
fn auc_of(bundle: &Bundle, name: &str, split: &Split, scores: &[Vec<f32>]) -> Result<BTreeMap<String, f64>> {
    let manifest = bundle.manifest();
    let outputs = measured_outputs(&manifest.tasks, &manifest.derived);
    let observed = Observed { labels: split.labels.clone(), groups: split.request.clone(), weights: None };
    let evaluation = Evaluation::measure(name, &outputs, scores, &observed, &FigureOptions::default())?;
    let auc_of = |output: &gatefold_trainer::OutputEvaluation| {
        Some((output.output.clone(), output.figures.get(Metric::Auc)?))
    };
    Ok(evaluation.outputs.iter().filter_map(auc_of).collect())
}

/// Largest difference to a golden score of each graph that the bundle has.
fn golden_difference(bundle: &Bundle, loader: &OrtLoader) -> Result<f32, String> {
    let mut largest = 0.0f32;
    for form in [GraphForm::Plain, GraphForm::UserOnce] {
        if bundle.graph(form).is_some() {
            let mut backend = loader.open(bundle, form).map_err(|error| error.to_string())?;
            let report = golden::check(bundle, backend.as_mut()).map_err(|error| error.to_string())?;
            largest = largest.max(report.largest_difference);
        }
    }
    Ok(largest)
}

/// Whether the processor multiplies bytes and sums into 32 bits in one instruction.
fn multiplies_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("dotprod")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auc_moves_by_a_number_between_0_and_1() {
        assert_eq!(auc_change("5e-4"), Ok(0.0005));
        for text in ["nan", "0", "1", "inf"] {
            assert!(auc_change(text).unwrap_err().ends_with("is not above 0 and below 1"), "{text}");
        }
        assert_eq!(auc_change("half"), Err("'half' is no number".to_owned()));
    }
}
