//! `gatefold serve`: the server `gatefold-server`, with the same settings.

/// Arguments of `gatefold serve`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold serve --models work/models --listen 127.0.0.1:8500 --admin 127.0.0.1:8501"
)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: gatefold_server::Flags,
}

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// Settings that are not usable, a port in use, and models that cannot be loaded.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    gatefold_server::serve(&args.flags)
}
