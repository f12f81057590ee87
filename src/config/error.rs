//! What can be wrong with a configuration. The first line names the source and what is wrong there.

use std::{io, path::PathBuf};

/// A configuration that cannot be used. Messages never show a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is there, or was named, but cannot be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        cause: io::Error,
    },

    /// A file is no TOML, has an unknown key, or a value of the wrong type.
    #[error("{}:{line}:{column}: {why}{snippet}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Column in the line in characters, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
        /// The line with a mark below the place, each line after a newline; empty if it may hold a secret.
        snippet: String,
    },

    /// An environment variable leads to an unknown key, or has a value of the wrong type.
    #[error("environment variable {variable}: {why}")]
    Variable {
        /// The name of the variable.
        variable: String,
        /// What is wrong with it.
        why: String,
    },

    /// A value is out of bounds or contradicts another one.
    #[error("{origin}: `{key}` {why}")]
    Value {
        /// Where the value was set: a file with its line, an environment variable, or a flag.
        origin: String,
        /// The path of the key, as in `queue.orders.lease`.
        key: String,
        /// What is wrong with it.
        why: String,
    },

    /// The layers are fine, each alone, but do not fit together.
    #[error("the configuration cannot be merged: {0}")]
    Merge(String),
}
