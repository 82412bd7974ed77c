//! Tenants: make, look at, configure, suspend, close.

use api::access::{CreateKey, Right, Role};
use api::problem::{Problem, ProblemKind};
use api::tenant::{
    ConfigureTenant, CreateTenant, CreatedTenant, MAX_TENANT_TITLE, SetTenantState, Tenant, TenantLimits, TenantList,
    TenantSettings, TenantState,
};
use billing::money::Currency;
use billing::period::Zone;
use serde_json::json;
use tracing::info;

use super::access::{Caller, operator};
use super::keys::new_key;
use super::{Plane, broken, now, text};

/// The time zone of tenants that name none.
const TIME_ZONE: &str = "UTC";

/// The currency of tenants that name none.
const CURRENCY: &str = "EUR";

/// Longest reason in characters.
const MAX_REASON: usize = 400;

fn unknown(name: &str) -> Problem {
    let name: String = name.chars().take(60).collect();
    ProblemKind::TenantUnknown.because(format!("No tenant is called `{name}`."))
}

/// As the database writes it.
fn time_zone(name: String) -> Result<String, Problem> {
    let zone = Zone::named(&name);
    let zone = zone.map_err(|error| ProblemKind::InvalidRequest.because(format!("`time_zone`: {error}.")))?;
    Ok(zone.name().to_owned())
}

fn currency(code: String) -> Result<String, Problem> {
    let currency = Currency::try_from(code);
    currency.map(String::from).map_err(|error| ProblemKind::InvalidRequest.because(format!("`currency`: {error}.")))
}

fn colour(text: String) -> Result<Option<String>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix('#').unwrap_or_default();
    if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(text.to_ascii_lowercase()));
    }
    Err(ProblemKind::InvalidRequest.because("`colour` is not `#` and six hexadecimal digits."))
}

/// What the settings become.
fn configured(old: &TenantSettings, request: ConfigureTenant) -> Result<TenantSettings, Problem> {
    if request.limits.is_some_and(|limits| limits.sessions_per_player == Some(0)) {
        return Err(ProblemKind::InvalidRequest.because("`sessions_per_player` of 0: nobody could play."));
    }
    Ok(TenantSettings {
        title: request.title.map_or(Ok(old.title.clone()), |title| text("title", title, MAX_TENANT_TITLE))?,
        time_zone: request.time_zone.map_or(Ok(old.time_zone.clone()), time_zone)?,
        currency: old.currency.clone(),
        colour: request.colour.map_or(Ok(old.colour.clone()), colour)?,
        limits: request.limits.unwrap_or(old.limits),
    })
}

impl Plane {
    /// Makes a tenant, with a key of its owner.
    pub(crate) async fn create_tenant(&self, caller: &Caller, request: CreateTenant) -> Result<CreatedTenant, Problem> {
        operator(caller)?;
        let name = request.name;
        let tenant = Tenant {
            name: name.clone(),
            state: TenantState::Active,
            settings: TenantSettings {
                title: request.title.map_or(Ok(name.to_string()), |title| text("title", title, MAX_TENANT_TITLE))?,
                time_zone: request.time_zone.map_or(Ok(TIME_ZONE.to_owned()), time_zone)?,
                currency: request.currency.map_or(Ok(CURRENCY.to_owned()), currency)?,
                colour: None,
                limits: TenantLimits::default(),
            },
            created_at: now(),
        };
        let (first, token) = new_key(CreateKey {
            name: "first".to_owned(),
            tenant: Some(name.to_string()),
            role: Role::Owner,
            rights: None,
            expires_in_s: None,
        })?;
        let audit = self.change(caller, Some(name.to_string()), "tenant.create", &name, None, Some(json!(tenant)));
        if !self.store.add_tenant(&tenant, &first, &audit).await.map_err(broken)? {
            return Err(ProblemKind::NameTaken.because(format!("There is a tenant called `{name}`.")));
        }
        info!(tenant = %name, "tenant made");
        Ok(CreatedTenant { name, token })
    }

    /// All tenants.
    pub(crate) async fn list_tenants(&self, caller: &Caller) -> Result<TenantList, Problem> {
        operator(caller)?;
        Ok(TenantList { tenants: self.store.tenants().await.map_err(broken)? })
    }

    /// One tenant, for the operator and its own people. Another one is as if it were not there.
    pub(crate) async fn tenant(&self, caller: &Caller, name: &str) -> Result<Tenant, Problem> {
        match caller {
            Caller::Tenant(own) if own.tenant == name => {}
            Caller::Tenant(_) => return Err(unknown(name)),
            Caller::Nobody | Caller::Operator(_) | Caller::Session(_) | Caller::Player(_) => operator(caller)?,
        }
        self.store.tenant(name).await.map_err(broken)?.ok_or_else(|| unknown(name))
    }

    /// Changes what is set of a tenant.
    pub(crate) async fn configure_tenant(
        &self,
        caller: &Caller,
        name: &str,
        request: ConfigureTenant,
    ) -> Result<Tenant, Problem> {
        match caller {
            Caller::Tenant(own) => {
                own.may(Right::TenantWrite)?;
                if own.tenant != name {
                    return Err(unknown(name));
                }
                if request.limits.is_some() {
                    return Err(ProblemKind::Forbidden.because("A tenant's limits are the operator's to set."));
                }
            }
            Caller::Nobody | Caller::Operator(_) | Caller::Session(_) | Caller::Player(_) => operator(caller)?,
        }
        self.change_tenant(caller, name, "tenant.configure", None, |old| {
            let settings = configured(&old.settings, request)?;
            Ok(Tenant { settings, ..old.clone() })
        })
        .await
    }

    /// Changes what a tenant is allowed: suspends it, lifts that, or closes it.
    pub(crate) async fn set_tenant_state(
        &self,
        caller: &Caller,
        name: &str,
        request: SetTenantState,
    ) -> Result<Tenant, Problem> {
        operator(caller)?;
        let reason = request.reason.map(|reason| text("reason", reason, MAX_REASON)).transpose()?;
        let tenant = self
            .change_tenant(caller, name, "tenant.state", reason, |old| {
                Ok(Tenant { state: request.state, ..old.clone() })
            })
            .await?;
        info!(tenant = name, state = request.state.word(), "tenant's state changed");
        // What of it is played, waits or is kept warm is the reconciler's.
        self.coordinator.stir_all();
        Ok(tenant)
    }

    async fn change_tenant(
        &self,
        caller: &Caller,
        name: &str,
        action: &'static str,
        reason: Option<String>,
        next: impl FnOnce(&Tenant) -> Result<Tenant, Problem>,
    ) -> Result<Tenant, Problem> {
        let next = |old: &Tenant| {
            let new = next(old)?;
            if new == *old {
                return Ok(None);
            }
            let mut after = json!(new);
            if let (Some(reason), Some(fields)) = (reason, after.as_object_mut()) {
                fields.insert("reason".to_owned(), reason.into());
            }
            let audit = self.change(caller, Some(name.to_owned()), action, name, Some(json!(old)), Some(after));
            Ok(Some((new, audit)))
        };
        self.store.change_tenant(name, next).await.map_err(broken)?.ok_or_else(|| unknown(name))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_and_what_is_absent_stays() {
        let old = TenantSettings {
            title: "Studio".to_owned(),
            time_zone: "UTC".to_owned(),
            currency: "EUR".to_owned(),
            colour: Some("#112233".to_owned()),
            limits: TenantLimits::default(),
        };
        let check = |json: &str, expected: Result<&str, &str>| {
            let request: ConfigureTenant = serde_json::from_str(json).unwrap();
            let got = configured(&old, request);
            match expected {
                Ok(shown) => assert_eq!(serde_json::to_string(&got.unwrap()).unwrap(), shown),
                Err(says) => assert!(got.unwrap_err().detail.contains(says), "{json}"),
            }
        };
        let shown = r##"{"title":"Studio","time_zone":"UTC","currency":"EUR","colour":"#112233","limits":{}}"##;
        check("{}", Ok(shown));
        check(
            r##"{"colour": "#AABBCC", "time_zone": "Europe/Berlin"}"##,
            Ok(&shown.replace("#112233", "#aabbcc").replace("UTC", "Europe/Berlin")),
        );
        check(r#"{"colour": ""}"#, Ok(&shown.replace(r##","colour":"#112233""##, "")));
        check(r#"{"colour": "red"}"#, Err("six hexadecimal digits"));
        check(r#"{"time_zone": "Europe/Nowhere"}"#, Err("IANA"));
        check(r#"{"title": ""}"#, Err("`title`"));
        check(r#"{"limits": {"sessions_per_player": 0}}"#, Err("nobody could play"));
        assert!(currency("eur".to_owned()).is_err() && currency("EUR".to_owned()).is_ok());
        // It cannot be changed later: one that nothing could be billed in is refused.
        assert!(currency("ABC".to_owned()).is_err());
    }
}
