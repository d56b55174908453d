//! Owns the two HTTP calls that come before a socket. Does not keep tokens. Invariant: no blocking call on an async thread.

use std::time::Duration;

use proto::client::ErrorInfo;
use proto::client::http::{ErrorBody, LoggedIn, Login, VisitorCreated};
use serde::de::DeserializeOwned;

const WITHIN: Duration = Duration::from_secs(10);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The node refuses: wrong name, wrong password, unknown site.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(ErrorInfo<'static>),
    /// Try again, or another node.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// Makes an anonymous visitor of a site.
/// # Errors
/// `Refused`, or `NoAnswer` after 10 s at most.
pub async fn create_visitor(node: &str, site: &str) -> Result<VisitorCreated, HttpError> {
    let url = format!("http://{node}/v1/sites/{site}/visitors");
    post(url, "{}".to_owned()).await
}

/// Logs an agent in.
/// # Errors
/// `Refused`, or `NoAnswer` after 10 s at most.
pub async fn login(node: &str, site: &str, name: &str, password: &str) -> Result<LoggedIn, HttpError> {
    let login = Login { site: site.to_owned(), name: name.to_owned(), password: password.to_owned() };
    let body = serde_json::to_string(&login).map_err(|error| HttpError::NoAnswer(error.to_string()))?;
    post(format!("http://{node}/v1/agents/login"), body).await
}

async fn post<T: DeserializeOwned + Send + 'static>(url: String, body: String) -> Result<T, HttpError> {
    let called = tokio::task::spawn_blocking(move || post_blocking(&url, &body)).await;
    called.map_err(|error| HttpError::NoAnswer(error.to_string()))?
}

fn post_blocking<T: DeserializeOwned>(url: &str, body: &str) -> Result<T, HttpError> {
    let no_answer = |error: ureq::Error| HttpError::NoAnswer(error.to_string());
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WITHIN)).build();
    let agent = ureq::Agent::new_with_config(config);
    let mut answer = agent.post(url).content_type("application/json").send(body).map_err(no_answer)?;
    let text = answer.body_mut().read_to_string().map_err(no_answer)?;
    if answer.status().is_success() {
        return serde_json::from_str(&text).map_err(|error| HttpError::NoAnswer(error.to_string()));
    }
    match serde_json::from_str::<ErrorBody<'_>>(&text) {
        Ok(refusal) => Err(HttpError::Refused(refusal.error.into_owned())),
        Err(_) => Err(HttpError::NoAnswer(format!("status {}", answer.status()))),
    }
}
