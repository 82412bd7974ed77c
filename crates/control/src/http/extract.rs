//! What handlers take out of requests. Each failure is a problem that names what was wrong.

use std::time::Duration;

use api::access::Right;
use api::problem::{Problem, ProblemKind};
use api::rest::{MAX_JSON_BYTES, MAX_SDP_BYTES};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Edge;
use super::problem::Refusal;
use crate::app::access::{Caller, own_player};

/// How long a body may take. 64 KiB at 100 kbit/s take five seconds.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// How long a parcel of an upload may take: 17 MB at half a megabit a second.
const BYTES_LIMIT: Duration = Duration::from_secs(300);

/// What may be longer takes memory that was used before.
const LARGE: usize = 1 << 20;

/// Longest parser's message that is passed on, in characters: it may quote the body.
const MAX_DETAIL: usize = 200;

/// The parameters of the path.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Edge> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Edge) -> Result<Self, Refusal> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(params)| Self(params))
            .map_err(|error| Refusal(ProblemKind::PathUnknown.because(format!("The path cannot be read: {error}."))))
    }
}

/// The parameters behind the path's question mark.
pub(super) struct QueryIn<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Edge> for QueryIn<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Edge) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| {
            let error: String = error.body_text().chars().take(MAX_DETAIL).collect();
            Refusal(ProblemKind::InvalidRequest.because(format!("The address cannot be read: {error}.")))
        })
    }
}

impl FromRequestParts<Edge> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Edge) -> Result<Self, Refusal> {
        Ok(state.plane.caller(bearer(&parts.headers)?).await?)
    }
}

/// The token of the `Authorization` header, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) => Ok(Some(token)),
        None => Err(ProblemKind::TokenMissing.because("The Authorization header holds no bearer token.")),
    }
}

/// Bytes of somebody who may send them: read when the token is that of the operator or of a tenant alone.
pub(super) struct BytesIn<const MOST: usize>(pub(super) Bytes);

impl<const MOST: usize> FromRequest<Edge> for BytesIn<MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &Edge) -> Result<Self, Refusal> {
        let caller = state.plane.caller(bearer(request.headers())?).await?;
        state.plane.tenant_with(&caller, Right::AppsWrite)?;
        expect_type(request.headers(), "application/octet-stream")?;
        read_within(request.into_body(), MOST, BYTES_LIMIT).await.map(Self)
    }
}

/// Bytes of a player, read when his token is good alone.
pub(super) struct PlayerBytesIn<const MOST: usize>(pub(super) Bytes);

impl<const MOST: usize> FromRequest<Edge> for PlayerBytesIn<MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &Edge) -> Result<Self, Refusal> {
        own_player(&state.plane.caller(bearer(request.headers())?).await?)?;
        expect_type(request.headers(), "application/x-tar")?;
        read_within(request.into_body(), MOST, BYTES_LIMIT).await.map(Self)
    }
}

/// A JSON body in, of at most so many bytes.
pub(super) struct JsonIn<T, const MOST: usize = MAX_JSON_BYTES>(pub(super) T);

impl<T: DeserializeOwned, const MOST: usize> FromRequest<Edge> for JsonIn<T, MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &Edge) -> Result<Self, Refusal> {
        expect_type(request.headers(), "application/json")?;
        let body = read(request.into_body(), MOST).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let error: String = error.to_string().chars().take(MAX_DETAIL).collect();
            Refusal(ProblemKind::InvalidRequest.because(format!("The body is not what is expected: {error}.")))
        })
    }
}

/// An SDP body.
pub(super) struct Sdp(pub(super) String);

impl FromRequest<Edge> for Sdp {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &Edge) -> Result<Self, Refusal> {
        expect_type(request.headers(), "application/sdp")?;
        let body = read(request.into_body(), MAX_SDP_BYTES).await?;
        let refused = |detail| Refusal(ProblemKind::InvalidOffer.because(detail));
        let text = String::from_utf8(body.into()).map_err(|_detail| refused("The body is not UTF-8."))?;
        // No SDP has any, and each would take six bytes on its way to the streamer.
        if text.contains(|character: char| character.is_control() && !"\r\n\t".contains(character)) {
            return Err(refused("The body has control characters, which SDP has not."));
        }
        Ok(Self(text))
    }
}

/// A JSON body out.
pub(super) struct JsonOut<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonOut<T> {
    fn into_response(self) -> Response<Body> {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => {
                tracing::error!(%error, "a response could not be written");
                Refusal(ProblemKind::Internal.plain()).into_response()
            }
        }
    }
}

fn expect_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let sent: String = if sent.is_empty() { "none".to_owned() } else { sent.chars().take(60).collect() };
    Err(Refusal(ProblemKind::WrongMediaType.because(format!("Content-Type has to be {expected}; {sent} was sent."))))
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    read_within(body, limit, BODY_LIMIT).await
}

async fn read_within(body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    let too_large = || Refusal(ProblemKind::TooLarge.because(format!("The body has more than {limit} bytes.")));
    let mut stream = body.into_data_stream();
    let mut bytes = if limit > LARGE { content::buffers::take(&[]) } else { Vec::new() };
    let all = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_cut| Refusal(ProblemKind::InvalidRequest.because("The body was cut off.")))?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(content::buffers::lend(bytes))
    };
    let slow = |_elapsed| Refusal(ProblemKind::InvalidRequest.because("The body took too long."));
    timeout(time, all).await.map_err(slow)?
}
