//! Parse, run, and say what went wrong: the only place that prints an error chain.

use std::process::ExitCode;

use clap::Parser as _;
use overdue::cli::{Cli, exit_code, run};

fn main() -> ExitCode {
    // Two crates of the tree could bring a TLS provider each; choosing one here settles it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("overdue: cannot start threads: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(Cli::parse()));
    // A read of standard input may still block a thread; nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("overdue: {error:#}");
            exit_code(&error)
        }
    }
}
