//! `gatefold models`: which versions of a server's models take traffic.

use clap::Subcommand;
use gatefold_proto::ranking::v1 as api;
use gatefold_server::client::{self, Access, Link, Refused};
use serde_json::json;

use api::admin_client::AdminClient;

use crate::console::{self, Console};

/// Arguments of `gatefold models`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  gatefold models list\n  gatefold models label mmoe canary 7\n  \
                  gatefold models label mmoe stable 7\n  gatefold models rollback mmoe")]
pub(crate) struct Args {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8500", global = true)]
    server: String,
    #[command(flatten)]
    access: Access,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    ask: Ask,
}

#[derive(Subcommand, Debug)]
enum Ask {
    /// List every version in the server's models folder, with its state and labels
    List {
        /// Only the versions of this model
        #[arg(default_value = "")]
        model: String,
    },
    /// Let a label name a version, which is loaded first; `stable` moves the traffic that names none
    Label {
        /// Name of the model
        model: String,
        /// The label, such as canary
        label: String,
        /// The version
        #[arg(required_unless_present = "remove")]
        version: Option<u64>,
        /// Remove the label
        #[arg(long, conflicts_with = "version")]
        remove: bool,
    },
    /// Move the traffic back to the version that took it before `stable` moved it, or else to the highest
    /// good one below
    Rollback {
        /// Name of the model
        model: String,
    },
    /// Look for new versions of a model now, also one that none of its callers' last requests fits; load
    /// it again after an unload
    Load {
        /// Name of the model
        model: String,
    },
    /// Take a model out of traffic until it is loaded again
    Unload {
        /// Name of the model
        model: String,
    },
}

/// Asks the server, and prints the versions of the models concerned as they are then.
///
/// # Errors
/// A server that does not answer, and what it refuses.
pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (model, rollback, versions) = runtime.block_on(async {
        let mut admin = AdminClient::new(client::connect_with(&args.server, &args.access).await?);
        let (model, rollback) = ask(&mut admin, args.ask).await.map_err(Refused::from)?;
        let list = api::ListVersionsRequest { model: model.clone() };
        let versions = admin.list_versions(list).await.map_err(Refused::from)?.into_inner().versions;
        anyhow::Ok((model, rollback, versions))
    })?;
    if args.json {
        let mut reply = json!({ "versions": versions.iter().map(as_json).collect::<Vec<_>>() });
        if let Some(moved) = rollback {
            reply["from_version"] = moved.from_version.into();
            reply["version"] = moved.version.into();
        }
        return console.print_json(&reply);
    }
    let moved = rollback.map(|moved| {
        format!("{model}: version {} takes the traffic that {} took\n\n", moved.version, moved.from_version)
    });
    console.print(&format!("{}{}", moved.unwrap_or_default(), as_table(&versions)))
}

/// The model concerned, and what a rollback did.
async fn ask(
    admin: &mut AdminClient<Link>,
    ask: Ask,
) -> Result<(String, Option<api::RollbackResponse>), tonic::Status> {
    let mut rollback = None;
    let model = match ask {
        Ask::List { model } => model,
        Ask::Label { model, label, version, remove: _ } => {
            let version = version.unwrap_or_default();
            admin.set_label(api::SetLabelRequest { model: model.clone(), label, version }).await?;
            model
        }
        Ask::Rollback { model } => {
            let request = api::RollbackRequest { model: model.clone() };
            rollback = Some(admin.rollback(request).await?.into_inner());
            model
        }
        Ask::Load { model } => {
            admin.load_model(api::LoadModelRequest { model: model.clone() }).await?;
            model
        }
        Ask::Unload { model } => {
            admin.unload_model(api::UnloadModelRequest { model: model.clone() }).await?;
            model
        }
    };
    Ok((model, rollback))
}

fn as_json(status: &api::VersionStatus) -> serde_json::Value {
    let mut value = json!({
        "model": status.model,
        "version": status.version,
        "state": state(status),
        "labels": status.labels,
        "since_ms": status.since_ms,
    });
    if !status.reason.is_empty() {
        value["reason"] = status.reason.as_str().into();
    }
    value
}

fn as_table(versions: &[api::VersionStatus]) -> String {
    let header = ["model", "version", "state", "labels"].map(str::to_owned).to_vec();
    let mut table = console::table(header);
    for status in versions {
        let row = [&status.model, &status.version.to_string(), state(status), &status.labels.join(", ")];
        table.add_row(row);
    }
    let reasons = versions.iter().filter(|status| !status.reason.is_empty());
    let reasons = reasons.map(|status| format!("\n{}/{}: {}", status.model, status.version, status.reason));
    format!("{table}\n{}", reasons.collect::<String>())
}

fn state(status: &api::VersionStatus) -> &'static str {
    match status.state() {
        api::VersionState::Unspecified => "unknown",
        api::VersionState::Loading => "loading",
        api::VersionState::Serving => "serving",
        api::VersionState::Draining => "draining",
        api::VersionState::Unloaded => "unloaded",
        api::VersionState::Refused => "refused",
    }
}
