//! The REST API as simulated players and the operator use it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// Largest answer that is read.
const MOST: usize = 1 << 20;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    /// A text of the body.
    pub(crate) fn text(&self, path: &str) -> anyhow::Result<String> {
        let found = self.body.pointer(path).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| anyhow!("{}: no {path} in {}", self.status, self.body))
    }
}

/// A client of all replicas.
#[derive(Debug)]
pub(crate) struct Http {
    urls: Vec<String>,
    next: AtomicUsize,
    operator: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new(urls: &[String], operator: String) -> anyhow::Result<Self> {
        anyhow::ensure!(urls.iter().all(|url| url.starts_with("http://")), "addresses begin with http://");
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(5)).build(connector);
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self { urls, next: AtomicUsize::new(0), operator, client })
    }

    /// The replicas in turn, as a load balancer deals them.
    pub(crate) fn base(&self) -> &str {
        &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()]
    }

    /// As the operator.
    pub(crate) async fn operate(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask(method, path, Some(&self.operator), Some(("application/json", body.to_string()))).await
    }

    /// As whoever has the token.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<(&str, String)>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((kind, _)) = &body {
            request = request.header("content-type", *kind);
        }
        let body = Full::new(Bytes::from(body.map(|(_, body)| body).unwrap_or_default()));
        let exchange = async {
            let response = self.client.request(request.body(body)?).await?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| anyhow!(error))?;
            let bytes = bytes.to_bytes();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_no_json| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Ok(Answer { status, body })
        };
        timeout(LIMIT, exchange).await.context("no answer in time")?
    }
}
