//! The stages between event logs and labelled impressions, each a pure function of frames.
//!
//! Columns that belong to the pipeline begin with `#`, so that no feature can be called alike;
//! feature columns bear the names of their features. Times are milliseconds. What a stage may use
//! of an impression's future is said at the stage: only the labels may.

use polars::prelude::*;

/// Key of an impression in its log.
pub(crate) const IMPRESSION: &str = "#impression";
/// Key of a request.
pub(crate) const REQUEST: &str = "#request";
/// User.
pub(crate) const USER: &str = "#user";
/// Item.
pub(crate) const ITEM: &str = "#item";
/// When the item was shown.
pub(crate) const TIME: &str = "#time";
/// When the first item of the request was shown: the time that all its rows count by.
pub(crate) const REQUEST_TIME: &str = "#request_time";
/// When a profile row was written.
pub(crate) const WRITTEN: &str = "#written";
/// When a click or conversion happened.
pub(crate) const EVENT: &str = "#event";
/// Label columns.
pub(crate) const CLICK: &str = "click";
/// Set only where [`CLICK`] is.
pub(crate) const CONVERSION: &str = "conversion";

/// Drops rows without a key or a time.
pub(crate) fn with_keys(frame: LazyFrame, keys: &[&str]) -> LazyFrame {
    let present = keys.iter().map(|key| col(*key).is_not_null()).reduce(Expr::and);
    present.map_or(frame.clone(), |present| frame.filter(present))
}

/// Keeps of the rows for one item in one request the earliest, and adds [`REQUEST_TIME`].
pub(crate) fn deduplicate_impressions(frame: LazyFrame) -> PolarsResult<LazyFrame> {
    let earliest_first = SortMultipleOptions::default().with_maintain_order(true);
    let of_request = col(TIME).min().over([col(REQUEST)])?;
    let distinct = frame
        .sort([TIME, IMPRESSION], earliest_first)
        .unique_stable(Some(cols([REQUEST, ITEM])), UniqueKeepStrategy::First);
    Ok(distinct.with_columns([of_request.alias(REQUEST_TIME)]))
}

/// Joins to each impression the last profile row that was written strictly before its request;
/// a row written at that very time does not count. `profiles` has the column `key`, [`WRITTEN`]
/// and the features.
pub(crate) fn join_profiles(impressions: LazyFrame, profiles: LazyFrame, key: &str) -> LazyFrame {
    let as_of = AsOfOptions {
        strategy: AsofStrategy::Backward,
        tolerance: None,
        tolerance_str: None,
        left_by: Some(vec![key.into()]),
        right_by: Some(vec![key.into()]),
        allow_eq: false,
        // Sorted just before; within groups it could not be checked.
        check_sortedness: false,
    };
    impressions
        .sort([REQUEST_TIME], SortMultipleOptions::default().with_maintain_order(true))
        .join_builder()
        .with(profiles.sort([WRITTEN], SortMultipleOptions::default().with_maintain_order(true)))
        .left_on([col(REQUEST_TIME)])
        .right_on([col(WRITTEN)])
        .how(JoinType::AsOf(Box::new(as_of)))
        .finish()
        .drop(cols([WRITTEN]))
}

/// The clicks that count: on an impression of their request and item, not before it and within the
/// window after it. Columns [`REQUEST`], [`ITEM`], [`USER`] and [`EVENT`], the time of the click.
pub(crate) fn counted_clicks(clicks: LazyFrame, impressions: LazyFrame, window_ms: i64) -> LazyFrame {
    let delay = || col(EVENT) - col(TIME);
    clicks
        .inner_join_on(impressions.select([col(REQUEST), col(ITEM), col(USER), col(TIME)]), [REQUEST, ITEM])
        .filter(delay().gt_eq(lit(0i64)).and(delay().lt_eq(lit(window_ms))))
        .select([col(REQUEST), col(ITEM), col(USER), col(EVENT)])
}

/// The impressions that conversions are attributed to: each conversion to the last counted click
/// of its user and item strictly before it, if it comes within the window after that click. Of
/// clicks at the same time the one of the greatest request counts. Columns [`REQUEST`] and
/// [`ITEM`], each pair once.
pub(crate) fn converted(conversions: LazyFrame, clicks: LazyFrame, window_ms: i64) -> LazyFrame {
    const CLICK_TIME: &str = "#click_time";
    let as_of = AsOfOptions {
        strategy: AsofStrategy::Backward,
        tolerance: None,
        tolerance_str: None,
        left_by: Some(vec![USER.into(), ITEM.into()]),
        right_by: Some(vec![USER.into(), ITEM.into()]),
        allow_eq: false,
        // Sorted just before; within groups it could not be checked.
        check_sortedness: false,
    };
    let clicks = clicks
        .group_by([col(USER), col(ITEM), col(EVENT).alias(CLICK_TIME)])
        .agg([col(REQUEST).max()])
        .sort([CLICK_TIME], SortMultipleOptions::default());
    conversions
        .select([col(USER), col(ITEM), col(EVENT)])
        .unique(None, UniqueKeepStrategy::Any)
        .sort([EVENT], SortMultipleOptions::default())
        .join_builder()
        .with(clicks.with_column(col(CLICK_TIME).alias("#clicked_at")))
        .left_on([col(EVENT)])
        .right_on([col(CLICK_TIME)])
        .how(JoinType::AsOf(Box::new(as_of)))
        .finish()
        .filter((col(EVENT) - col("#clicked_at")).lt_eq(lit(window_ms)))
        .select([col(REQUEST), col(ITEM)])
        .unique(None, UniqueKeepStrategy::Any)
}

/// Adds the label columns, 0 or 1.
pub(crate) fn label(impressions: LazyFrame, clicks: LazyFrame, converted: LazyFrame) -> LazyFrame {
    let clicked = clicks.select([col(REQUEST), col(ITEM)]).unique(None, UniqueKeepStrategy::Any);
    let flag = |name: &str| lit(true).alias(name);
    let filled = |name: &str| col(name).is_not_null().cast(DataType::Float32);
    impressions
        .left_join_on(clicked.with_column(flag(CLICK)), [REQUEST, ITEM])
        .left_join_on(converted.with_column(flag(CONVERSION)), [REQUEST, ITEM])
        .with_columns([filled(CLICK), filled(CONVERSION)])
}

/// Adds the audit columns of each impression.
pub(crate) fn join_audit(impressions: LazyFrame, audit: LazyFrame) -> LazyFrame {
    impressions.left_join_on(audit, [IMPRESSION])
}

/// The order of samples: by time, the rows of a request together. An item stands once in a
/// request, so the order is complete.
pub(crate) fn in_order(frame: LazyFrame) -> LazyFrame {
    frame.sort([REQUEST_TIME, REQUEST, ITEM], SortMultipleOptions::default())
}

/// Equi-joins on columns of one name.
trait JoinOn {
    fn inner_join_on<const N: usize>(self, other: LazyFrame, keys: [&str; N]) -> LazyFrame;
    fn left_join_on<const N: usize>(self, other: LazyFrame, keys: [&str; N]) -> LazyFrame;
}

impl JoinOn for LazyFrame {
    fn inner_join_on<const N: usize>(self, other: LazyFrame, keys: [&str; N]) -> LazyFrame {
        self.join(other, keys.map(col), keys.map(col), JoinArgs::new(JoinType::Inner))
    }

    fn left_join_on<const N: usize>(self, other: LazyFrame, keys: [&str; N]) -> LazyFrame {
        self.join(other, keys.map(col), keys.map(col), JoinArgs::new(JoinType::Left))
    }
}
