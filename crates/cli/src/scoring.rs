//! The split of a sample set scored by bundles, as `compare` and `evaluate` need it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gatefold_backend_ort::OrtLoader;
use gatefold_dataset::{SampleSet, Split};
use gatefold_engine::{BatchScorer, Bundle, GraphForm};

use crate::{console::Console, interrupt::Interrupt};

/// Candidates scored at a time.
const ROWS_PER_BATCH: usize = 4096;

/// Opens a bundle that encodes as the samples were encoded.
pub(crate) fn open_bundle(path: &Path, samples: &SampleSet) -> Result<Bundle> {
    let bundle =
        Bundle::open_latest(path).with_context(|| format!("cannot open the model {}", path.display()))?;
    let (found, expected) = (&bundle.manifest().fingerprint, &samples.manifest.fingerprint);
    ensure!(
        found == expected,
        "{} was trained on samples that were encoded differently (fingerprint {found:.12}, these samples have \
         {expected:.12}): use its own samples, or train it again on these",
        bundle.path().display()
    );
    Ok(bundle)
}

/// Opens the graph that computes requests once, where the bundle has it.
pub(crate) fn open_scorer(bundle: Bundle, loader: &OrtLoader, threads: usize) -> Result<BatchScorer> {
    let path = bundle.path().to_owned();
    BatchScorer::open(bundle, loader, GraphForm::UserOnce, threads)
        .with_context(|| format!("cannot run the model {}", path.display()))
}

/// Scores every row of the split: one list an output, in the order of the manifest.
pub(crate) fn score_split(
    scorer: &mut BatchScorer,
    split: &Split,
    console: &Console,
    interrupt: &Interrupt,
) -> Result<Vec<Vec<f32>>> {
    let manifest = scorer.bundle().manifest();
    let name = format!("{} v{}", manifest.name, manifest.version);
    let mut scores = vec![Vec::with_capacity(split.rows); manifest.outputs.len()];
    let bar = console.bar(split.rows as u64, "rows");
    bar.set_prefix(name.clone());
    let ranges = (0..split.rows).step_by(ROWS_PER_BATCH).map(|start| {
        interrupt.check()?;
        Ok(start..(start + ROWS_PER_BATCH).min(split.rows))
    });
    let scored = scorer.run(
        ranges,
        |_, range| Ok(split.request_batch(range.clone())),
        |range, found| {
            scores.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
            bar.set_position(range.end as u64);
            anyhow::Ok(())
        },
    );
    bar.finish_and_clear();
    scored.with_context(|| format!("cannot score with {name}"))?;
    Ok(scores)
}

/// Refuses a split with fake negatives, by which no model can be judged.
pub(crate) fn refuse_fake_negatives(samples: &SampleSet, split: &str) -> Result<()> {
    match &samples.manifest.late_label {
        Some(label) if split == "train" => bail!(
            "split 'train' has fake negatives of '{label}', by which no model can be judged: take 'valid' or 'test'"
        ),
        _ => Ok(()),
    }
}

/// Size of a split in words.
pub(crate) fn describe(samples: &SampleSet, split: &str) -> String {
    let info = samples.manifest.splits.get(split);
    info.map_or_else(String::new, |info| format!("{} rows of {} requests", info.rows, info.requests))
}
