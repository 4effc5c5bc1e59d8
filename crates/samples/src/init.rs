//! `samples init`: a recipe to start from, made of what the files look like.

mod columns;
mod tables;

use std::path::Path;

use gatefold_schema::Side;

use self::tables::{Role, Table};
use crate::SamplesError;

/// Names of columns that are likely to hold the outcome.
const OUTCOMES: [&str; 9] = [
    "click",
    "clicked",
    "is_click",
    "is_clicked",
    "conversion",
    "converted",
    "is_conversion",
    "label",
    "purchased",
];

/// The text of a recipe to start from: one that explains its parts, or, with the folder of logs, one with their
/// files, their keys and a feature for each column that a feature can read.
///
/// # Errors
/// A folder that cannot be read, or in which impressions and clicks are not recognised.
pub fn init(logs: Option<&Path>) -> Result<String, SamplesError> {
    let Some(folder) = logs else { return Ok(include_str!("init/template.toml").to_owned()) };
    let tables = tables::find(folder)?;
    let of = |role: Role| tables.iter().find(|table| table.role == Some(role));
    let (Some(impressions), Some(clicks)) = (of(Role::Impressions), of(Role::Clicks)) else {
        let found: Vec<String> =
            tables.iter().map(|table| format!("{} ({})", table.name, table.columns())).collect();
        let found =
            if found.is_empty() { "no .parquet, .csv or .arrow file".to_owned() } else { found.join("; ") };
        return Err(SamplesError::source(
            folder,
            format!(
                "impressions (request, user, item, time) and clicks (item, time, and request or user) were not both \
                 recognised among: {found}; call files and columns so, or begin with `gatefold samples init` without \
                 --from"
            ),
        ));
    };
    let mut text = format!(
        "# Made from {0}: a beginning, of which every line is yours to change.\n#\n\
         #   gatefold samples validate --recipe samples.toml --logs {0}\n\
         #   gatefold samples build --recipe samples.toml --logs {0} --out SAMPLES\n\n\
         name = \"samples\"\n\n[samples]\n\
         # The latest tenth of the rows is the test, the tenth before it for validation.\n\
         split = {{ valid = 0.1, test = 0.1 }}\n\n[samples.logs]\n",
        folder.display()
    );
    text += &impressions.log("impressions");
    text += &clicks.log("clicks");
    let (conversions, users, items) = (of(Role::Conversions), of(Role::Users), of(Role::Items));
    if let Some(table) = conversions {
        text += &table.log("conversions");
    }
    for (table, key, default) in [(users, "users", "user_id"), (items, "items", "item_id")] {
        text += &table.map_or_else(String::new, |table| table.profiles(key, default));
    }
    let by = if clicks.keys.request.is_some() { "" } else { "click_by = \"user\", " };
    let window = if conversions.is_some() { ", conversion_window = \"7d\"" } else { "" };
    text += &format!(
        "# A later click or conversion does not count.\nlabels = {{ {by}click_window = \"1d\"{window} }}\n"
    );
    for table in tables.iter().filter(|table| table.role.is_none()) {
        text += &format!("# Not used: {} ({}).\n", table.name, table.columns());
    }
    text += EXAMPLES;
    text += &features(impressions, users, items);
    text += TASK;
    if conversions.is_some() {
        text += CONVERSION_TASK;
    }
    Ok(text)
}

const EXAMPLES: &str = r#"
# Columns made of the events before each request, which features can read as any other:
# [[samples.logs.aggregate]]
# name = "item_ctr"       # the column item_ctr_7d
# of = "clicks"
# by = ["item"]
# what = "rate"
# windows = ["7d"]
# weight = 20
# prior = 0.05
# [[samples.logs.sequence]]
# name = "last_clicked"   # a list of item ids
# of = "clicks"
# last = 20
"#;

const TASK: &str = "\n# What is predicted.\n\n[[task]]\nname = \"ctr\"\nlabel = \"click\"\n";
const CONVERSION_TASK: &str = "\n[[task]]\nname = \"cvr\"\nlabel = \"conversion\"\ngiven = \"ctr\"\n\n[[derived]]\n\
                               name = \"ctcvr\"\nproduct = [\"ctr\", \"cvr\"]\nlabel = \"conversion\"\n";

/// A feature for each column that one can read.
fn features(impressions: &Table, users: Option<&Table>, items: Option<&Table>) -> String {
    let mut text = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut section = |title: &str, columns: Vec<(&Table, String, Side)>| {
        text += &format!("\n# {title}\n");
        for (table, column, side) in columns {
            if names.contains(&column) {
                text +=
                    &format!("# '{column}' of {} is not read: another column has its name.\n", table.name);
            } else if OUTCOMES.contains(&column.to_lowercase().as_str()) {
                text += &format!(
                    "# '{column}' of {} is left out: it looks like the outcome itself.\n",
                    table.name
                );
            } else {
                text += &columns::feature(table, &column, side);
                names.push(column);
            }
        }
    };
    let mut who = vec![(impressions, impressions.keys.user.clone().unwrap_or_default(), Side::User)];
    who.extend(users.into_iter().flat_map(|table| table.others().map(move |name| (table, name, Side::User))));
    section("Who asks.", who);
    let shown: Vec<(&Table, String, Side)> =
        impressions.others().map(|name| (impressions, name.clone(), impressions.side_of(&name))).collect();
    let (context, of_item): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|(_, _, side)| *side == Side::Context);
    section("When and where.", context);
    let mut what = vec![(impressions, impressions.keys.item.clone().unwrap_or_default(), Side::Item)];
    what.extend(of_item);
    what.extend(
        items.into_iter().flat_map(|table| table.others().map(move |name| (table, name, Side::Item))),
    );
    section("What is offered.", what);
    text
}
