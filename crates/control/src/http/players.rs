//! Players: create, look, erase, and what was played. `me` is the player whose token is sent.

use api::id::{PlayerId, SessionId};
use api::problem::Problem;
use api::rest::{CreatedPlayer, PlayList, Player, PlaysPage, Session};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonOut, Params, QueryIn};
use super::guard::Address;
use super::problem::Refusal;
use crate::app::access::{Caller, own_player};

/// Creates a player. Without a token where guests may play, with the operator's anywhere. The answer holds the player's
/// token, once.
#[utoipa::path(post, path = "/v1/players", operation_id = "create_player", tag = "players",
    security((), ("operator_token" = [])),
    responses(
        (status = 201, description = "The player, with his token.", body = CreatedPlayer,
            headers(("location" = String, description = "Path of the player."))),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    caller: Caller,
    Extension(Address(address)): Extension<Address>,
) -> Result<Response<Body>, Refusal> {
    let created = edge.plane.create_player(&caller, &address).await?;
    let headers = [(LOCATION, "/v1/players/me"), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, JsonOut(created)).into_response())
}

/// The player whose token is sent.
#[utoipa::path(get, path = "/v1/players/me", operation_id = "me", tag = "players",
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The player.", body = Player),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn me(caller: Caller) -> Result<JsonOut<Player>, Refusal> {
    Ok(JsonOut(own_player(&caller)?.view()))
}

/// Erases the player whose token is sent, and that his plays were his. Refused while one of them lives.
#[utoipa::path(delete, path = "/v1/players/me", operation_id = "erase_me", tag = "players",
    security(("player_token" = [])),
    responses(
        (status = 204, description = "He is erased; his token is not known any more."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn erase_me(State(edge): State<Edge>, caller: Caller) -> Result<StatusCode, Refusal> {
    edge.plane.erase_player(own_player(&caller)?.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the player played whose token is sent, newest first.
#[utoipa::path(get, path = "/v1/players/me/plays", operation_id = "my_plays", tag = "players",
    params(PlaysPage),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "A page of his plays.", body = PlayList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn my_plays(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(page): QueryIn<PlaysPage>,
) -> Result<JsonOut<PlayList>, Refusal> {
    Ok(JsonOut(edge.plane.plays(own_player(&caller)?.id, page).await?))
}

/// Ends a session of the player whose token is sent, wherever it is played: so that it can be gone on with here.
#[utoipa::path(delete, path = "/v1/players/me/sessions/{id}", operation_id = "end_my_session", tag = "players",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The session as it is now: stopping or ended.", body = Session),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn end_my_session(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Session>, Refusal> {
    Ok(JsonOut(edge.plane.end_session_of(own_player(&caller)?.id, &id).await?))
}

/// One player, for the operator.
#[utoipa::path(get, path = "/v1/players/{id}", operation_id = "player", tag = "players",
    params(("id" = PlayerId, Path, description = "The player's id.")),
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The player.", body = Player),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Player>, Refusal> {
    Ok(JsonOut(edge.plane.player_for_operator(&caller, &id).await?.view()))
}

/// Erases a player, for the operator, and that the player's plays were his. Refused while one of them lives.
#[utoipa::path(delete, path = "/v1/players/{id}", operation_id = "erase_player", tag = "players",
    params(("id" = PlayerId, Path, description = "The player's id.")),
    security(("operator_token" = [])),
    responses(
        (status = 204, description = "He is erased; his token is not known any more."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn erase(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<StatusCode, Refusal> {
    edge.plane.erase_player_for_operator(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a player played, for the operator, newest first.
#[utoipa::path(get, path = "/v1/players/{id}/plays", operation_id = "plays", tag = "players",
    params(("id" = PlayerId, Path, description = "The player's id."), PlaysPage),
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "A page of his plays.", body = PlayList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn plays(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    QueryIn(page): QueryIn<PlaysPage>,
) -> Result<JsonOut<PlayList>, Refusal> {
    let player = edge.plane.player_for_operator(&caller, &id).await?;
    Ok(JsonOut(edge.plane.plays(player.id, page).await?))
}
