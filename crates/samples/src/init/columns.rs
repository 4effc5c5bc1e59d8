//! What a feature of a column is like, from the column's type and first values.

use gatefold_schema::Side;
use polars::prelude::*;

use super::tables::Table;

/// Different values up to which integers are taken for the names of things.
const FEW: usize = 50;

/// The text of a feature that reads a column, or of a comment that says why none does.
pub(super) fn feature(table: &Table, name: &str, side: Side) -> String {
    let Ok(column) = table.peek.column(name) else { return String::new() };
    if is_unique_id(name, column) && !(side == Side::Item && table.keys.item.as_deref() == Some(name)) {
        return format!("# '{name}' of {} is not read: every row has its own.\n", table.name);
    }
    let different = column.n_unique().unwrap_or(0);
    let (kind, value_type, encoder, more) = match column.dtype() {
        DataType::String => ("categorical", "text", vocabulary(different), coded(different)),
        found if found.is_integer() && (different <= FEW || name.ends_with("id")) => {
            ("categorical", "int", vocabulary(different), coded(different))
        }
        found if found.is_integer() => ("numeric", "int", number(column), String::new()),
        found if found.is_float() => ("numeric", "float", number(column), String::new()),
        DataType::List(inner) if **inner == DataType::String || inner.is_integer() => {
            let value_type = if inner.is_integer() { "int" } else { "text" };
            ("sequence", value_type, vocabulary(FEW + 1), format!("max_len = 20\n{}", coded(FEW + 1)))
        }
        other => {
            return format!(
                "# '{name}' of {} is not read: no feature has type {other}; convert it to numbers or text.\n",
                table.name
            );
        }
    };
    format!(
        "\n[[feature]]\nname = {name:?}\nside = \"{}\"\nkind = \"{kind}\"\ntype = \"{value_type}\"\nencoder = {encoder}\n\
         {more}",
        side.name()
    )
}

/// Whether a column holds an id of its own for nearly each row (some are logged again), which nothing can be learned
/// of.
fn is_unique_id(name: &str, column: &Column) -> bool {
    let looks_like = name.ends_with("id") && !column.dtype().is_float();
    looks_like
        && column.len() > FEW
        && column.n_unique().is_ok_and(|different| different * 10 >= column.len() * 9)
}

/// A vocabulary; of many values the rare ones are left out, as little is learned of them.
fn vocabulary(different: usize) -> String {
    if different <= FEW {
        "{ kind = \"vocab\" }".into()
    } else {
        "{ kind = \"vocab\", min_count = 5 }".into()
    }
}

fn coded(different: usize) -> String {
    let width = match different {
        ..=10 => 4,
        11..=1000 => 8,
        _ => 16,
    };
    format!("embedding = {width}\n")
}

/// Numbers that spread over orders of magnitude by their logarithm, others by mean and deviation.
fn number(column: &Column) -> String {
    let numbers = column.cast(&DataType::Float64);
    let spread = numbers.as_ref().ok().and_then(|numbers| {
        let numbers = numbers.f64().ok()?;
        Some((numbers.min()?, numbers.mean()?, numbers.max()?))
    });
    let kind = match spread {
        Some((min, mean, max)) if min >= 0.0 && max > 4.0 * mean => "log1p",
        _ => "standardize",
    };
    format!("{{ kind = \"{kind}\" }}")
}
