//! Commands to instances, for the operator and for tenants.

use api::access::Right;
use api::command::{Command, CommandList, CommandRequest, CommandsPage, MAX_COMMAND_BYTES};
use api::id::{CommandId, SessionId};
use api::problem::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params, QueryIn, bearer};
use super::problem::Refusal;
use crate::app::access::Caller;
use crate::app::commands::commander;

/// A request for a command, read when the token is of somebody who may command alone: it is longer than other bodies.
pub(super) struct CommandIn {
    caller: Caller,
    request: CommandRequest,
}

impl FromRequest<Edge> for CommandIn {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &Edge) -> Result<Self, Refusal> {
        let caller = state.plane.caller(bearer(request.headers())?).await?;
        commander(&caller, Right::Commands)?;
        let JsonIn(request) = JsonIn::<CommandRequest, MAX_COMMAND_BYTES>::from_request(request, state).await?;
        Ok(Self { caller, request })
    }
}

/// Has something done with a session's instance: stop it, start its game again, run a script in its sandbox, read its output, make a picture of
/// what it shows. The answer comes at once; `GET /v1/commands/{id}` says what became of it.
#[utoipa::path(post, path = "/v1/sessions/{id}/commands", operation_id = "create_command", tag = "commands",
    params(("id" = SessionId, Path, description = "The session's id.")),
    request_body = CommandRequest,
    security(("tenant_key" = ["commands"]), ("operator_token" = [])),
    responses(
        (status = 202, description = "The command. It ends by itself, whatever happens.", body = Command,
            headers(("location" = String, description = "Path of the command."))),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    Params(id): Params<String>,
    CommandIn { caller, request }: CommandIn,
) -> Result<Response<Body>, Refusal> {
    let command = edge.plane.create_command(&caller, &id, request).await?;
    let headers = [(LOCATION, format!("/v1/commands/{}", command.id))];
    Ok((StatusCode::ACCEPTED, headers, JsonOut(command)).into_response())
}

/// The commands of a session, newest first.
#[utoipa::path(get, path = "/v1/sessions/{id}/commands", operation_id = "session_commands", tag = "commands",
    params(("id" = SessionId, Path, description = "The session's id."), CommandsPage),
    security(("tenant_key" = ["commands"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "A page of them.", body = CommandList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn of_session(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    QueryIn(page): QueryIn<CommandsPage>,
) -> Result<JsonOut<CommandList>, Refusal> {
    Ok(JsonOut(edge.plane.list_commands(&caller, Some(&id), page).await?))
}

/// All commands, newest first: who had what done, when, and what became of it. A tenant sees those of its own sessions.
#[utoipa::path(get, path = "/v1/commands", operation_id = "commands", tag = "commands",
    params(CommandsPage),
    security(("tenant_key" = ["commands"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "A page of them.", body = CommandList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(page): QueryIn<CommandsPage>,
) -> Result<JsonOut<CommandList>, Refusal> {
    Ok(JsonOut(edge.plane.list_commands(&caller, None, page).await?))
}

/// One command.
#[utoipa::path(get, path = "/v1/commands/{command}", operation_id = "command", tag = "commands",
    params(("command" = CommandId, Path, description = "The command's id.")),
    security(("tenant_key" = ["commands"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The command as it is now.", body = Command),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Command>, Refusal> {
    Ok(JsonOut(edge.plane.command(&caller, &id).await?))
}

/// What a command brought: text of `exec` and `logs`, as the programs wrote it, or the picture of `screenshot`.
#[utoipa::path(get, path = "/v1/commands/{command}/output", operation_id = "command_output", tag = "commands",
    params(("command" = CommandId, Path, description = "The command's id.")),
    security(("tenant_key" = ["commands"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The bytes.", content(
            (String = "text/plain"),
            (Vec<u8> = "image/png"),
        )),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn output(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<Response<Body>, Refusal> {
    let (kind, bytes) = edge.plane.command_output(&caller, &id).await?;
    Ok(([(CONTENT_TYPE, kind.media_type()), (CACHE_CONTROL, "no-store")], bytes).into_response())
}
