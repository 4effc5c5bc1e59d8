//! A raw file of UCI census-income as a source (KDD, 1999), in the form that
//! [`tabular`](crate::tabular) reads: people of the Current Population Surveys of 1994 and 1995.
//!
//! Its rows are divided by a hash of all their values, so that copies of a row are never in two
//! splits: 883 rows of the published test file repeat another one, the survey's weight included.

use std::path::Path;

use gatefold_features::murmur::hash_text;
use gatefold_schema::Recipe;

use crate::{
    Progress, SamplesError,
    prepared::Prepared,
    tabular::{self, Holds, LabelRule, Layout, Table},
};

const LAYOUT: Layout = Layout {
    title: "UCI census-income",
    columns: &[
        ("age", Holds::Integers),
        ("class_worker", Holds::Strings),
        ("det_ind_code", Holds::Integers),
        ("det_occ_code", Holds::Integers),
        ("education", Holds::Strings),
        ("wage_per_hour", Holds::Integers),
        ("hs_college", Holds::Strings),
        ("marital_stat", Holds::Strings),
        ("major_ind_code", Holds::Strings),
        ("major_occ_code", Holds::Strings),
        ("race", Holds::Strings),
        ("hisp_origin", Holds::Strings),
        ("sex", Holds::Strings),
        ("union_member", Holds::Strings),
        ("unemp_reason", Holds::Strings),
        ("full_or_part_emp", Holds::Strings),
        ("capital_gains", Holds::Integers),
        ("capital_losses", Holds::Integers),
        ("stock_dividends", Holds::Integers),
        ("tax_filer_stat", Holds::Strings),
        ("region_prev_res", Holds::Strings),
        ("state_prev_res", Holds::Strings),
        ("det_hh_fam_stat", Holds::Strings),
        ("det_hh_summ", Holds::Strings),
        ("instance_weight", Holds::Weights),
        ("mig_chg_msa", Holds::Strings),
        ("mig_chg_reg", Holds::Strings),
        ("mig_move_reg", Holds::Strings),
        ("mig_same", Holds::Strings),
        ("mig_prev_sunbelt", Holds::Strings),
        ("num_emp", Holds::Integers),
        ("fam_under_18", Holds::Strings),
        ("country_father", Holds::Strings),
        ("country_mother", Holds::Strings),
        ("country_self", Holds::Strings),
        ("citizenship", Holds::Strings),
        ("own_or_self", Holds::Integers),
        ("vet_question", Holds::Strings),
        ("vet_benefits", Holds::Integers),
        ("weeks_worked", Holds::Integers),
        ("year", Holds::Integers),
        ("income", Holds::Strings),
    ],
    outcome: ("income", ["- 50000", "50000+"]),
    labels: &[
        // More than 50,000 a year.
        LabelRule { name: "income", column: "income", positive: "50000+" },
        LabelRule { name: "marital", column: "marital_stat", positive: "Never married" },
    ],
};

/// Reads the file and divides its rows by the recipe's shares.
pub(crate) fn prepare(
    recipe: &Recipe,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    progress.start("reading census-income", Some(1));
    let text = tabular::read(file)?;
    let table = Table::parse(&LAYOUT, &text, file)?;
    progress.advance(1);
    let shares = [recipe.samples.split.valid, recipe.samples.split.test];
    let hash = |row: usize| {
        let values: Vec<&str> = table.row(row).map(|value| value.unwrap_or("?")).collect();
        hash_text(&values.join(","), 0)
    };
    let splits = tabular::divide(file, table.rows(), shares, hash)?;
    table.prepare(recipe, splits)
}
