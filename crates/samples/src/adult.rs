//! The raw files of UCI Adult as a source (Becker and Kohavi, 1996), in the form that
//! [`tabular`](crate::tabular) reads.

use std::path::Path;

use gatefold_features::murmur::hash_int;
use gatefold_schema::Recipe;

use crate::{
    Progress, SamplesError,
    prepared::Prepared,
    tabular::{self, Holds, LabelRule, Layout, Table},
};

const LAYOUT: Layout = Layout {
    title: "UCI Adult",
    columns: &[
        ("age", Holds::Integers),
        ("workclass", Holds::Strings),
        ("fnlwgt", Holds::Integers),
        ("education", Holds::Strings),
        ("education_num", Holds::Integers),
        ("marital_status", Holds::Strings),
        ("occupation", Holds::Strings),
        ("relationship", Holds::Strings),
        ("race", Holds::Strings),
        ("sex", Holds::Strings),
        ("capital_gain", Holds::Integers),
        ("capital_loss", Holds::Integers),
        ("hours_per_week", Holds::Integers),
        ("native_country", Holds::Strings),
        ("income", Holds::Strings),
    ],
    outcome: ("income", ["<=50K", ">50K"]),
    labels: &[
        // More than 50,000 a year.
        LabelRule { name: "income", column: "income", positive: ">50K" },
        LabelRule { name: "marital", column: "marital_status", positive: "Never-married" },
    ],
};

/// Reads both files; rows of the train file are put to train or validation by a hash of their
/// number.
pub(crate) fn prepare(
    recipe: &Recipe,
    train: &Path,
    test: &Path,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    progress.start("reading Adult", Some(2));
    let train_text = tabular::read(train)?;
    let mut table = Table::parse(&LAYOUT, &train_text, train)?;
    progress.advance(1);
    let test_text = tabular::read(test)?;
    let tested = Table::parse(&LAYOUT, &test_text, test)?;
    progress.advance(1);

    let published = table.rows();
    let shares = [recipe.samples.split.valid, 0.0];
    let mut splits = tabular::divide(train, published, shares, |row| hash_int(row as i64, 0))?;
    splits[2] = (published..published + tested.rows()).collect();
    table.append(tested);
    table.prepare(recipe, splits)
}
