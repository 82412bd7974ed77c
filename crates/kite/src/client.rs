//! The REST API as the command line uses it: small bodies over plain HTTP, for a server on this machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use api::problem::Problem;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Longest wait for an answer. The server is on this machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server and the operator's token.
#[derive(Debug)]
pub(crate) struct Api {
    url: String,
    token: String,
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
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token: token.trim().to_owned() })
    }

    /// Sends a request without a body; the bytes of a good answer.
    pub(crate) async fn send(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Empty::<Bytes>::new())?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let exchange = async {
            let response = client.request(request).await.with_context(|| format!("{} does not answer", self.url))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?.to_bytes();
            anyhow::Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange).await.context("no answer in time")??;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => bail!("{} {}", problem.detail, problem.remedy),
            Err(_no_problem) => bail!("the server answered {status}"),
        }
    }

    /// Gets a JSON value.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.send(Method::GET, path).await?;
        serde_json::from_slice(&body).context("the answer is not what this version understands")
    }
}
