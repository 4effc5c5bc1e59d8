//! `gatefold samples build --dry-run`: what would be done.

use std::path::Path;

use anyhow::Result;
use bytesize::ByteSize;
use gatefold_samples::outlook;
use gatefold_schema::Recipe;

use super::validate;
use crate::console::{Console, table};

pub(super) fn run(recipe: &Recipe, logs: &Path, json: bool, console: &Console) -> Result<()> {
    let outlook = outlook(recipe, logs).or_else(|errors| validate::all(&errors))?;
    if json {
        return console.print_json(&outlook);
    }
    let number = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let mut files = table(["log", "rows", "size", "file"].map(str::to_owned).into());
    if let Some(column) = files.column_mut(3) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for file in &outlook.files {
        let size = file.bytes.map_or_else(|| "–".to_owned(), |bytes| ByteSize(bytes).to_string());
        files.add_row([file.log.clone(), number(file.rows), size, file.path.display().to_string()]);
    }
    let steps: Vec<String> =
        outlook.steps.iter().enumerate().map(|(place, step)| format!("{:>3}. {step}", place + 1)).collect();
    let bytes = outlook.bytes.map_or_else(|| "–".to_owned(), |bytes| ByteSize(bytes).to_string());
    console.print(&format!(
        "{files}\n\n{}\n\n{}\n\nat most {} rows, {bytes} before compression; nothing was written",
        steps.join("\n"),
        validate::sources(&outlook.features),
        number(outlook.rows)
    ))
}
