//! Licences, bans and sources of every dependency, by cargo-deny.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::workspace::{Workspace, step};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let found =
        Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("cargo-deny is not installed: run `cargo install --locked cargo-deny`, then this again");
    }
    // Advisories are left out: their database is fetched from a place that is not a package registry.
    step("deny", workspace.cargo().args(["deny", "--all-features", "check", "licenses", "bans", "sources"]))
}
