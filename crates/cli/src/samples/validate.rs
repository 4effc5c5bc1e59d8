//! `gatefold samples validate`: whether a recipe can be built.

use std::path::PathBuf;

use anyhow::{Result, bail};
use comfy_table::CellAlignment;
use gatefold_samples::{FeatureSource, SamplesError, validate};
use serde_json::json;

use crate::{
    bundles,
    console::{Console, table},
};

/// Check a recipe, and whether the logs have what it reads.
///
/// With --logs every file is opened, of which only the columns are read, and each feature is shown with the file that
/// its values come from.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold samples validate --recipe samples.toml --logs work/logs")]
pub(crate) struct Args {
    /// Recipe (TOML).
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder of the source files that the recipe names.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let recipe = bundles::read_recipe(&args.recipe)?;
    let features = validate(&recipe, args.logs.as_deref()).or_else(|errors| all(&errors))?;
    if args.json {
        return console.print_json(&json!({ "recipe": args.recipe, "features": features }));
    }
    console.print(&format!("{}\n{} can be built", sources(&features), args.recipe.display()))
}

/// All that is wrong as one error.
pub(super) fn all<T>(errors: &[SamplesError]) -> Result<T> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => bail!("{one}"),
        many => bail!("{} things are wrong:\n  {}", many.len(), many.join("\n  ")),
    }
}

/// The features with where they come from.
pub(super) fn sources(features: &[FeatureSource]) -> comfy_table::Table {
    let header = ["feature", "side", "from", "column", "type", "encoder"];
    let mut table = table(header.map(str::to_owned).into());
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Left));
    for source in features {
        let from = source.from.as_deref().unwrap_or("–");
        table.add_row([
            &source.feature,
            &source.side,
            from,
            &source.column,
            &source.value_type,
            &source.encoder,
        ]);
    }
    table
}
