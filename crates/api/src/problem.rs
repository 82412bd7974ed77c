//! Problems: what the REST API answers when it cannot do what was asked (RFC 9457, `application/problem+json`).
//!
//! One catalogue of types; each has an HTTP status, a title and a remedy. The sentence of the single case is `detail`.

use serde::{Deserialize, Serialize};

/// Prefix of the `type` member: a name, not an address that has to exist.
pub const TYPE_PREFIX: &str = "urn:kite:problem:";

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:kite:problem:` and the word of the [`ProblemKind`].
    #[serde(rename = "type")]
    #[schema(example = "urn:kite:problem:no_capacity")]
    pub kind: String,
    /// The kind in words, the same for every case of it.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This case in a sentence.
    pub detail: String,
    /// What can be done about it.
    pub remedy: String,
    /// Id of the request, to be found in the logs. Also the header `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which another try makes sense. Also the header `retry-after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident, $word:literal, $status:literal, $title:literal, $remedy:literal;)+) => {
        /// Kinds of problems. The words are part of the contract: none is renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word at the end of the type.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Title.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What can be done.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

problems! {
    /// The body or a parameter is not what the OpenAPI document says.
    InvalidRequest, "invalid_request", 400, "The request is malformed",
        "Send what /openapi.json describes.";
    /// The SDP offer cannot be used.
    InvalidOffer, "invalid_offer", 400, "The SDP offer cannot be used",
        "Offer one video and one audio section to receive, and the data channels that the SDK opens.";
    /// No token, or one of the wrong form.
    TokenMissing, "token_missing", 401, "A token is needed",
        "Send `Authorization: Bearer` with the token that creating the session or the player returned.";
    /// A token that nothing here issued.
    TokenUnknown, "token_unknown", 401, "The token is not known",
        "Use the token that creating the session or the player returned; a player who was erased creates himself anew.";
    /// The token's time is over.
    TokenExpired, "token_expired", 401, "The token is expired",
        "Create a new session.";
    /// A good token of something else.
    Forbidden, "forbidden", 403, "This token gives no right to that",
        "Use the token of this session or of this player.";
    /// The tenant is suspended.
    TenantSuspended, "tenant_suspended", 403, "The tenant is suspended",
        "The operator says why, and lifts it.";
    /// A web page of another origin, which the operator has not listed.
    OriginNotAllowed, "origin_not_allowed", 403, "Pages of this origin are not allowed",
        "The operator has to list the origin in `access.origins`.";
    /// Another host name than the operator listed.
    HostNotAllowed, "host_not_allowed", 403, "This host name is not allowed",
        "Open the address that `kite up` printed, or let the operator list the name in `access.hosts`.";
    /// No such app.
    AppUnknown, "app_unknown", 404, "There is no such app",
        "GET /v1/apps lists the apps.";
    /// The app has no picture.
    PictureMissing, "picture_missing", 404, "The app has no picture",
        "Set `picture` in the app's kite.toml.";
    /// No such session.
    SessionUnknown, "session_unknown", 404, "There is no such session",
        "Create a session.";
    /// No such player.
    PlayerUnknown, "player_unknown", 404, "There is no such player",
        "Create a player.";
    /// No such peer.
    PeerUnknown, "peer_unknown", 404, "There is no such peer",
        "Use the Location that the offer's answer returned.";
    /// No such version of a save.
    SaveUnknown, "save_unknown", 404, "There is no such version of a save",
        "GET /v1/players/me/saves lists the versions.";
    /// No such release.
    ReleaseUnknown, "release_unknown", 404, "There is no such release",
        "GET /v1/apps/{app}/releases lists the releases.";
    /// No such upload.
    UploadUnknown, "upload_unknown", 404, "There is no such upload",
        "Begin a new upload: what arrived before need not be sent again.";
    /// No such node.
    NodeUnknown, "node_unknown", 404, "There is no such node",
        "GET /v1/nodes lists the nodes.";
    /// No such site, or the way to it cannot be measured.
    SiteUnknown, "site_unknown", 404, "There is no such site to measure",
        "GET /v1/sites lists the sites; go on without this one.";
    /// No such tenant.
    TenantUnknown, "tenant_unknown", 404, "There is no such tenant",
        "Create the tenant first.";
    /// No such key.
    KeyUnknown, "key_unknown", 404, "There is no such key",
        "GET /v1/keys lists the keys.";
    /// No such pool.
    PoolUnknown, "pool_unknown", 404, "There is no such pool",
        "GET /v1/pools lists the pools.";
    /// No such command.
    CommandUnknown, "command_unknown", 404, "There is no such command",
        "GET /v1/commands lists the commands.";
    /// The command has no output, or not yet, or it was forgotten.
    OutputMissing, "output_missing", 404, "The command has no output",
        "Wait until GET /v1/commands/{id} shows an output.";
    /// No such path.
    PathUnknown, "path_unknown", 404, "There is nothing at this path",
        "/openapi.json lists the paths.";
    /// The method is not offered at this path.
    MethodNotAllowed, "method_not_allowed", 405, "This method is not offered here",
        "/openapi.json lists the methods; connectivity candidates belong into the offer.";
    /// The session is over or not in a state for this.
    SessionEnded, "session_ended", 409, "The session is over",
        "Create a new session.";
    /// No instance of the session is on a node.
    NotRunning, "not_running", 409, "The session has no instance",
        "Wait until the session is ready; `logs` can also be had of an instance that ended a while ago.";
    /// The player has a session that lives.
    PlayerBusy, "player_busy", 409, "The player has a running session",
        "End the session, wait until it has ended, and try again.";
    /// Another session of the same player and app lives.
    SaveInUse, "save_in_use", 409, "Your save is in use",
        "End your other session of this game first.";
    /// The player's save went on in several ways.
    SaveConflict, "save_conflict", 409, "Your save has several newest versions",
        "Send `save` with the id of the version to go on with; GET /v1/players/me/saves lists them.";
    /// The release is played, or a channel points to it.
    ReleaseInUse, "release_in_use", 409, "The release is in use",
        "Point the channels to another release, and wait until nobody plays it.";
    /// The tenant has as many bytes of releases as it may.
    TenantFull, "tenant_full", 409, "The tenant has no room for more releases",
        "Remove releases that nobody plays, or have the operator raise the limit; what arrived need not be sent again.";
    /// The name is another's.
    NameTaken, "name_taken", 409, "The name is taken",
        "Choose another name.";
    /// More bytes than allowed.
    TooLarge, "too_large", 413, "The body is too large",
        "Send at most 64 KiB.";
    /// Not the media type that is read here.
    WrongMediaType, "wrong_media_type", 415, "This media type is not read here",
        "Send application/sdp for offers and application/json elsewhere.";
    /// The app cannot be played at this spec.
    SpecOutOfRange, "spec_out_of_range", 422, "The app is not offered at this spec",
        "Choose a spec inside of the range that GET /v1/apps returns.";
    /// What was brought is no save of this app.
    InvalidSave, "invalid_save", 422, "This cannot be a save of this app",
        "Send a tar archive with the top directories `home` and `base`, as the archive of a version has them.";
    /// What was uploaded is no package that could be played.
    InvalidPackage, "invalid_package", 422, "The package cannot become a release",
        "Correct what the detail names and push again: what arrived need not be sent again.";
    /// This address or key starts sessions too often.
    RateLimited, "rate_limited", 429, "Too many requests",
        "Wait as long as Retry-After says.";
    /// This address or key has as many sessions as it may.
    TooManySessions, "too_many_sessions", 429, "Too many sessions of one player",
        "End one of your sessions.";
    /// There are as many keys as may be.
    TooManyKeys, "too_many_keys", 429, "Too many keys",
        "Revoke keys that nothing uses.";
    /// As many commands wait or run as may.
    TooManyCommands, "too_many_commands", 429, "Too many commands at once",
        "Wait until the commands before have ended.";
    /// A bug.
    Internal, "internal", 500, "Something went wrong on our side",
        "Try again; tell the operator the request id.";
    /// The instance did not answer.
    StreamerUnreachable, "streamer_unreachable", 502, "The stream does not answer",
        "Try again; if it stays so, create a new session.";
    /// Every place is taken.
    NoCapacity, "no_capacity", 503, "Every place is taken",
        "Wait until somebody leaves, or ask for a smaller spec.";
    /// No space on the node's disk.
    DiskFull, "disk_full", 503, "The machine's disk is full",
        "The operator has to free disk space.";
    /// As many measure the way to the site as may, or its machines do not answer.
    SiteBusy, "site_busy", 503, "The way to the site cannot be measured now",
        "Go on without this site: the session is placed by what is known of the others.";
    /// No node is there.
    NoNode, "no_node", 503, "No machine is ready",
        "Try again in a moment.";
    /// The service is being stopped.
    ServiceStopping, "service_stopping", 503, "The service is being stopped",
        "Try again in a moment.";
    /// No replica of the control plane leads at the moment.
    NoLeader, "no_leader", 503, "The service is taking over",
        "Try again in a moment.";
    /// The streamer was not ready in time.
    StreamerTimeout, "streamer_timeout", 504, "The stream was not ready in time",
        "Try again; if it stays so, create a new session.";
}

impl ProblemKind {
    /// This case of it.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("{TYPE_PREFIX}{}", self.word()),
            title: self.title().to_owned(),
            status: self.status(),
            detail: detail.into(),
            remedy: self.remedy().to_owned(),
            request_id: None,
            retry_after_s: None,
        }
    }

    /// A case that says no more than the title.
    #[must_use]
    pub fn plain(self) -> Problem {
        self.because(format!("{}.", self.title()))
    }
}

impl Problem {
    /// With the time after which another try makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_of_its_class_and_a_word_of_its_own() {
        let mut words: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.word()).collect();
        for kind in ProblemKind::ALL {
            assert!((400..600).contains(&kind.status()), "{}", kind.word());
            assert!(kind.remedy().ends_with('.'), "{}", kind.word());
            assert_eq!(kind.plain().kind, format!("urn:kite:problem:{}", kind.word()));
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ProblemKind::ALL.len());
    }
}
