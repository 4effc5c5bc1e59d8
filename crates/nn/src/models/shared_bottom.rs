//! Shared-bottom: one network below, a tower for each task above it.
//!
//! Rich Caruana, "Multitask Learning", Machine Learning 28 (1997); in the form that Ma et al.
//! (KDD 2018, section 3.1) compare with.

use gatefold_schema::Task;

use crate::{NnError, models::Head, net::Net};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let bottom = net.hidden("bottom", x, &net.model.bottom)?;
    Head::towers(net, tasks, &vec![bottom; tasks.len()])
}
