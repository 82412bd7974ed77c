//! The REST API as the command line uses it: over plain HTTP, for a server on this machine or behind a tunnel.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use api::problem::Problem;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Longest wait for an answer: a parcel of an upload over a slow line.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Does what the command line asks of a server.
pub(crate) fn block_on<T>(asks: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asks)
}

/// A server and the operator's token.
pub(crate) struct Api {
    url: String,
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What the server did not do, in its words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It said why.
    #[error("{} {}", .0.detail, .0.remedy)]
    Problem(Box<Problem>),
    /// It said nothing that is understood, or nothing at all.
    #[error("{0}")]
    Other(String),
}

impl Api {
    /// The token is that of the variable KITE_TOKEN, or lies in the data directory.
    pub(crate) fn open(url: &str, data_dir: &Path) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is no address"))?;
        if uri.scheme_str() != Some("http") {
            bail!(
                "`{url}`: the command line speaks plain HTTP, to this machine: use http://127.0.0.1:8080, or a tunnel"
            );
        }
        let token = match std::env::var("KITE_TOKEN") {
            Ok(token) => token,
            Err(_absent) => {
                let path = data_dir.join(control::OPERATOR_TOKEN_FILE);
                std::fs::read_to_string(&path).with_context(|| {
                    format!("cannot read the operator's token {}: name the data directory with --data", path.display())
                })?
            }
        };
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token: token.trim().to_owned(), client })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request without a body; the bytes of a good answer.
    pub(crate) async fn send(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        Ok(self.exchange(method, path, None).await?)
    }

    /// Sends a request, with a body and its media type where there is one; the bytes of a good answer.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Bytes, ApiError> {
        let other = |text: String| ApiError::Other(text);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        if let Some((media_type, _)) = &body {
            request = request.header("content-type", *media_type);
        }
        let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| other(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| other(format!("{} does not answer: {error}", self.url)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| other(format!("the answer cannot be read: {error}")))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_elapsed| other("no answer in time".to_owned()))??;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ApiError::Problem(Box::new(problem))),
            Err(_no_problem) => Err(other(format!("the server answered {status}"))),
        }
    }

    /// Sends JSON, gets JSON.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl serde::Serialize>,
    ) -> anyhow::Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?.map(|bytes| ("application/json", Bytes::from(bytes)));
        let answer = self.exchange(method, path, body).await?;
        serde_json::from_slice(&answer).context("the answer is not what this version understands")
    }

    /// Gets a JSON value.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.send(Method::GET, path).await?;
        serde_json::from_slice(&body).context("the answer is not what this version understands")
    }
}
