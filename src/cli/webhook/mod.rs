//! `overdue webhook sign|verify|listen`: help for whoever writes the receiving end.

mod listen;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Output, block};
use crate::{
    config::Secret,
    duration,
    error::Invalid,
    handler::webhook::{Signed, now_s},
};

/// `overdue webhook …`
#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Print the headers with which overdue would send a body
    Sign(Sign),
    /// Check a signature as a receiver should; exit code 1 if it is not to be trusted
    Verify(Verify),
    /// Receive webhooks on 127.0.0.1, verify and print them, until SIGTERM or Ctrl-C
    Listen(listen::Listen),
}

impl WebhookCommand {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Sign(command) => command.run(output),
            Self::Verify(command) => command.run(output),
            Self::Listen(command) => command.run(output).await,
        }
    }
}

/// A secret as it was given. It is checked later, since clap shows the values that it refuses.
#[derive(Clone)]
struct GivenSecret(String);

impl FromStr for GivenSecret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Args)]
struct Secrets {
    /// A secret, whsec_ and base64; several for a rotation
    #[arg(long = "secret", value_name = "SECRET", env = "OVERDUE_WEBHOOK_SECRET", hide_env_values = true)]
    given: Vec<GivenSecret>,
}

impl Secrets {
    /// Several may stand in one text, as in the configuration.
    fn checked(&self) -> Result<Vec<Secret>, Invalid> {
        self.given.iter().flat_map(|given| given.0.split_whitespace()).map(Secret::new).collect()
    }

    fn at_least_one(&self) -> anyhow::Result<Vec<Secret>> {
        let secrets = self.checked()?;
        if secrets.is_empty() {
            return Err(Invalid::new("secret", "", "is missing: --secret or OVERDUE_WEBHOOK_SECRET").into());
        }
        Ok(secrets)
    }
}

/// `overdue webhook sign`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Every byte of the body counts, a newline at its end too. To send it as overdue does:

  overdue webhook sign body.json > headers
  curl -H @headers -H 'content-type: application/json' --data-binary @body.json http://127.0.0.1:8080/")]
pub(super) struct Sign {
    #[command(flatten)]
    secrets: Secrets,
    /// The webhook-id [default: a random one]
    #[arg(long, value_parser = webhook_id)]
    id: Option<String>,
    /// The webhook-timestamp, in seconds since the Unix epoch [default: now]
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// The file with the body; - reads standard input
    file: PathBuf,
}

/// The headers by their names.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    webhook_id: String,
    webhook_timestamp: i64,
    webhook_signature: String,
}

impl Sign {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let secrets = self.secrets.at_least_one()?;
        let body = read(&self.file)?;
        let id = self.id.clone().unwrap_or_else(|| format!("msg_{:032x}", rand::random::<u128>()));
        let timestamp_s = self.timestamp.unwrap_or_else(now_s);
        let signature = Signed { id: &id, timestamp_s, body: &body }.signature(&secrets);
        let lines =
            format!("webhook-id: {id}\nwebhook-timestamp: {timestamp_s}\nwebhook-signature: {signature}");
        let headers =
            Headers { webhook_id: id, webhook_timestamp: timestamp_s, webhook_signature: signature };
        output.one(&headers, &lines)
    }
}

/// `overdue webhook verify`
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    secrets: Secrets,
    /// The header webhook-id
    #[arg(long, value_parser = webhook_id)]
    id: String,
    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS")]
    timestamp: i64,
    /// The header webhook-signature, whole
    #[arg(long)]
    signature: String,
    /// How far the timestamp may be from this machine's clock
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    tolerance: Duration,
    /// The file with the body, byte for byte; - reads standard input
    file: PathBuf,
}

#[derive(Serialize)]
struct Verified<'a> {
    verified: bool,
    id: &'a str,
    bytes: usize,
}

impl Verify {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let secrets = self.secrets.at_least_one()?;
        let body = read(&self.file)?;
        let signed = Signed { id: &self.id, timestamp_s: self.timestamp, body: &body };
        if let Err(refused) = signed.verify(&secrets, &self.signature, now_s(), self.tolerance) {
            bail!("not to be trusted: {refused}");
        }
        let result = Verified { verified: true, id: &self.id, bytes: body.len() };
        let rows =
            [("verified", "yes".to_owned()), ("id", self.id.clone()), ("bytes", body.len().to_string())];
        output.one(&result, &block(&rows))
    }
}

/// An id with a dot could be signed as one thing and read as another.
fn webhook_id(text: &str) -> Result<String, Invalid> {
    if text.is_empty() || text.contains('.') || text.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(Invalid::new(
            "webhook-id",
            text,
            "cannot be: it has no dot, no spaces, and is not empty",
        ));
    }
    Ok(text.to_owned())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if path == Path::new("-") {
        io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
    } else {
        let read = File::open(path).and_then(|mut file| file.read_to_end(&mut body));
        read.with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(body)
}
