//! A refusal as a response. Handlers return [`Refusal`]; the guard around all of them writes it out with the request's id.

use api::problem::{MEDIA_TYPE, Problem, ProblemKind};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;

/// A problem that travels to the guard.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(pub(super) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(&self.0);
        response.extensions_mut().insert(self);
        response
    }
}

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A response with its problem written out, when it has one.
pub(super) fn write_out(mut response: Response<Body>, request_id: &str) -> Response<Body> {
    let Some(Refusal(mut problem)) = response.extensions_mut().remove::<Refusal>() else {
        return repaired(response, request_id);
    };
    problem.request_id = Some(request_id.to_owned());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    *response.status_mut() = status(&problem);
    *response.body_mut() = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
    response
}

/// Errors that a library answered in its own words become problems too.
fn repaired(response: Response<Body>, request_id: &str) -> Response<Body> {
    // A page for people says itself what is wrong.
    let is_page = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if response.headers().get(CONTENT_TYPE).is_some_and(is_page) {
        return response;
    }
    let kind = match response.status().as_u16() {
        404 => ProblemKind::PathUnknown,
        405 => ProblemKind::MethodNotAllowed,
        413 => ProblemKind::TooLarge,
        415 => ProblemKind::WrongMediaType,
        // A file's range or precondition: no body is expected, the status is the answer.
        412 | 416 => return response,
        400..=499 => ProblemKind::InvalidRequest,
        500..=599 => ProblemKind::Internal,
        _ => return response,
    };
    write_out(Refusal(kind.plain()).into_response(), request_id)
}
