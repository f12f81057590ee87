//! The `webhook` handler: a signed HTTP call by Standard Webhooks 1.0.0.
//!
//! - this file: the call
//! - `client`: the HTTP clients
//! - `id`: by which a receiver can tell a repetition
//! - `signature`: signing, and verifying for whoever writes the receiving end
//! - `answer`: what an answer, or none, means

mod answer;
mod client;
#[cfg(test)]
mod fuzz;
mod id;
mod signature;

use http::header::CONTENT_TYPE;
use reqwest::{Client, Response};

pub use self::{
    client::{Clients, SetupError},
    signature::{Refused, Signed, now_s},
};
use super::{Delivery, Handler, Outcome};
use crate::config::{Secret, WebhookConfig};

/// How much of an answer is read. The rest would only cost memory: the status says it all.
const MAX_ANSWER_BYTES: usize = 4096;

/// Calls the configured url for each expiry.
///
/// ```
/// use overdue::{
///     config::{Secret, WebhookConfig, WebhookUrl},
///     handler::webhook::{Clients, Webhook},
/// };
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = WebhookConfig::new(WebhookUrl::new("https://shop.example/expired")?);
/// config.secret.push(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?);
/// let handler = Webhook::new(config, &mut Clients::default())?;
/// assert!(handler.is_signed());
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Debug)]
pub struct Webhook {
    config: WebhookConfig,
    secrets: Vec<Secret>,
    client: Client,
}

impl Webhook {
    /// Reads the files that the configuration names. Webhooks that are given the same `clients` share
    /// connections.
    ///
    /// # Errors
    /// If a file is missing, or not what it should be.
    pub fn new(config: WebhookConfig, clients: &mut Clients) -> Result<Self, SetupError> {
        let (secrets, client) = (client::secrets(&config)?, clients.get(&config)?);
        Ok(Self { config, secrets, client })
    }

    /// False if there is no secret: a receiver cannot tell such calls from anybody's.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.secrets.is_empty()
    }

    async fn send(&self, delivery: &Delivery) -> reqwest::Result<Response> {
        let (body, id, timestamp_s) = (super::event::body(delivery), id::webhook_id(delivery), now_s());
        let mut request = self
            .client
            .post(self.config.url.as_url().clone())
            .timeout(self.config.timeout)
            .headers(self.config.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp_s);
        if let Some(trace) = &delivery.traceparent {
            request = request.header("traceparent", trace.as_str());
        }
        if self.is_signed() {
            let signed = Signed { id: &id, timestamp_s, body: &body };
            request = request.header("webhook-signature", signed.signature(&self.secrets));
        }
        request.body(body).send().await
    }
}

impl Handler for Webhook {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        match self.send(delivery).await {
            Ok(mut response) => {
                let body = beginning(&mut response).await;
                answer::outcome(&self.config, response.status(), response.headers(), &body)
            }
            Err(error) => Outcome::retry(answer::no_answer(&self.config, &error)),
        }
    }
}

/// The first bytes of the body, or what came of them: once there is a status, a body that breaks off or comes
/// too late changes nothing.
async fn beginning(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES - body.len())]);
    }
    body
}
