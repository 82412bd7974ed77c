//! What sessions cost the operator, beside what they bring: by session, app, tenant and site.
//!
//! Facts times unit costs, in whole numbers until one rounding: a report is a sum, and every part of it adds up to it before that rounding.
//! Deliberately absent: measuring; nodes bring the facts. Idle machines: what nobody plays on is on nobody's report.

use std::collections::BTreeMap;

use api::id::SessionId;
use api::manifest::AppName;
use serde::{Deserialize, Serialize};

use crate::id::{ClassName, SiteName, TenantName};
use crate::money::{Currency, Exact, Money, MoneyError};

/// A cost of a quantity: so many minor units for so many of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitCost {
    /// Minor units.
    pub minor: i64,
    /// For so many. At least 1 where `minor` is not 0.
    pub per: u64,
}

impl UnitCost {
    fn of(self, quantity: u128) -> Result<Exact, MoneyError> {
        if self.minor == 0 {
            return Ok(Exact::ZERO);
        }
        let quantity = i128::try_from(quantity).map_err(|_too_large| MoneyError::Overflow)?;
        Exact::whole(i128::from(self.minor)).times(quantity, i128::from(self.per))
    }
}

/// What the operator pays for things. What is left out costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitCosts {
    /// Of all amounts.
    pub currency: Currency,
    /// Milliseconds of an instance, by hardware class: `{"minor": 12, "per": 3600000}` is 12 cents an hour.
    #[serde(default)]
    pub instance_ms: BTreeMap<ClassName, UnitCost>,
    /// Pixels that were encoded.
    #[serde(default)]
    pub encoded_pixels: UnitCost,
    /// Bytes that left a site for the player, TURN included.
    #[serde(default)]
    pub egress_bytes: UnitCost,
    /// Bytes of saves and recordings, each times the milliseconds that it was kept: a GB-month is 2,592,000,000 x 1,000,000,000 of them.
    #[serde(default)]
    pub stored_byte_ms: UnitCost,
}

/// A fault of unit costs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {minor} minor units for nothing; write in `per` for how many that is")]
pub struct UnitCostError {
    field: String,
    minor: i64,
}

impl UnitCosts {
    /// Does each cost say for how many it is?
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn check(&self) -> Result<(), UnitCostError> {
        let classes = self.instance_ms.iter().map(|(class, cost)| (format!("instance_ms.{class}"), *cost));
        let others = [
            ("encoded_pixels", self.encoded_pixels),
            ("egress_bytes", self.egress_bytes),
            ("stored_byte_ms", self.stored_byte_ms),
        ];
        let mut all = classes.chain(others.map(|(field, cost)| (field.to_owned(), cost)));
        match all.find(|(_, cost)| cost.per == 0 && cost.minor != 0) {
            Some((field, cost)) => Err(UnitCostError { field, minor: cost.minor }),
            None => Ok(()),
        }
    }
}

/// What one session took, and what it brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionCost {
    /// Which.
    pub session: SessionId,
    /// Whose.
    pub tenant: TenantName,
    /// What ran.
    pub app: AppName,
    /// Where.
    pub site: SiteName,
    /// On what.
    pub class: ClassName,
    /// Milliseconds for which an instance was held: from its place until it was cleaned up, played or not.
    pub instance_ms: u64,
    /// Milliseconds in which the player could play.
    pub streamed_ms: u64,
    /// Pixels that were encoded.
    pub encoded_pixels: u64,
    /// Bytes that left the site, TURN included.
    pub egress_bytes: u64,
    /// Bytes times milliseconds that were kept for it.
    pub stored_byte_ms: u128,
    /// What was billed for it, without tax; may be a share of a fee.
    pub revenue_minor: i64,
}

/// Quantities, exact costs and revenue, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum {
    sessions: u64,
    streamed_ms: u128,
    parts: [Exact; 4],
    revenue_minor: i128,
}

impl Sum {
    const NOTHING: Sum = Sum { sessions: 0, streamed_ms: 0, parts: [Exact::ZERO; 4], revenue_minor: 0 };

    fn add(&mut self, parts: [Exact; 4], session: &SessionCost) -> Result<(), MoneyError> {
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            *sum = sum.plus(part)?;
        }
        self.sessions += 1;
        self.streamed_ms += u128::from(session.streamed_ms);
        self.revenue_minor += i128::from(session.revenue_minor);
        Ok(())
    }
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostRow {
    /// The tenant's, app's or site's name, or the session's id.
    pub name: String,
    /// How many sessions.
    pub sessions: u64,
    /// Milliseconds in which players could play.
    pub streamed_ms: u128,
    /// Machines.
    pub compute: Money,
    /// Encoding.
    pub encoding: Money,
    /// Network.
    pub egress: Money,
    /// Storage.
    pub storage: Money,
    /// All of it: the exact sum, rounded; so it may differ by 2 minor units from the rounded parts.
    pub cost: Money,
    /// What was billed.
    pub revenue: Money,
    /// Revenue less cost.
    pub margin: Money,
    /// Margin of an hour of stream; `None` when nothing was streamed.
    pub margin_per_hour: Option<Money>,
}

/// By what a report is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// One row a session.
    Session,
    /// One row an app.
    App,
    /// One row a tenant.
    Tenant,
    /// One row a site.
    Site,
}

/// Costs and margins, added up as sessions come: memory for one row each, not for the sessions.
#[derive(Clone, Debug)]
pub struct CostReport<'a> {
    costs: &'a UnitCosts,
    by: By,
    rows: BTreeMap<String, Sum>,
    total: Sum,
}

impl<'a> CostReport<'a> {
    /// Without sessions.
    ///
    /// # Errors
    /// A cost that does not say for how many it is.
    pub fn new(costs: &'a UnitCosts, by: By) -> Result<CostReport<'a>, UnitCostError> {
        costs.check()?;
        Ok(CostReport { costs, by, rows: BTreeMap::new(), total: Sum::NOTHING })
    }

    /// Adds a session.
    ///
    /// # Errors
    /// Too large.
    pub fn add(&mut self, session: &SessionCost) -> Result<(), MoneyError> {
        let class = self.costs.instance_ms.get(&session.class).copied().unwrap_or_default();
        let parts = [
            class.of(u128::from(session.instance_ms))?,
            self.costs.encoded_pixels.of(u128::from(session.encoded_pixels))?,
            self.costs.egress_bytes.of(u128::from(session.egress_bytes))?,
            self.costs.stored_byte_ms.of(session.stored_byte_ms)?,
        ];
        let name = match self.by {
            By::Session => session.session.to_string(),
            By::App => session.app.to_string(),
            By::Tenant => session.tenant.to_string(),
            By::Site => session.site.to_string(),
        };
        self.rows.entry(name).or_insert(Sum::NOTHING).add(parts, session)?;
        self.total.add(parts, session)
    }

    /// The rows by name, and all together.
    ///
    /// # Errors
    /// Too large.
    pub fn finish(self) -> Result<(Vec<CostRow>, CostRow), MoneyError> {
        let currency = self.costs.currency;
        let rows: Result<Vec<CostRow>, MoneyError> =
            self.rows.into_iter().map(|(name, sum)| row(name, &sum, currency)).collect();
        Ok((rows?, row("all".to_owned(), &self.total, currency)?))
    }
}

fn row(name: String, sum: &Sum, currency: Currency) -> Result<CostRow, MoneyError> {
    let money = |exact: Exact| Ok::<Money, MoneyError>(Money::new(exact.round()?, currency));
    let [compute, encoding, egress, storage] = sum.parts;
    let exact = compute.plus(encoding)?.plus(egress)?.plus(storage)?;
    let revenue = Exact::whole(sum.revenue_minor);
    let margin = revenue.plus(exact.times(-1, 1)?)?;
    let hours = i128::try_from(sum.streamed_ms).map_err(|_too_long| MoneyError::Overflow)?;
    let per_hour = if hours == 0 { None } else { Some(money(margin.times(3_600_000, hours)?)?) };
    let (cost, revenue) = (money(exact)?, money(revenue)?);
    Ok(CostRow {
        name,
        sessions: sum.sessions,
        streamed_ms: sum.streamed_ms,
        compute: money(compute)?,
        encoding: money(encoding)?,
        egress: money(egress)?,
        storage: money(storage)?,
        cost,
        revenue,
        margin: revenue.minus(cost)?,
        margin_per_hour: per_hour,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const GB: u64 = 1_000_000_000;

    fn costs() -> UnitCosts {
        let per = |minor, per| UnitCost { minor, per };
        UnitCosts {
            currency: Currency::EUR,
            instance_ms: [("gpu".parse().unwrap(), per(24, HOUR))].into(),
            encoded_pixels: per(1, 1_000_000_000_000),
            egress_bytes: per(2, GB),
            stored_byte_ms: per(3, 2_592_000_000 * GB),
        }
    }

    fn session(number: u128, app: &str, site: &str, hours: u64) -> SessionCost {
        SessionCost {
            session: SessionId::from_uuid(uuid::Uuid::from_u128(number)),
            tenant: "acme".parse().unwrap(),
            app: app.parse().unwrap(),
            site: site.parse().unwrap(),
            class: "gpu".parse().unwrap(),
            instance_ms: hours * HOUR,
            streamed_ms: hours * HOUR,
            encoded_pixels: hours * 1_000_000_000_000,
            egress_bytes: hours * 5 * GB,
            stored_byte_ms: u128::from(hours * GB) * 2_592_000_000,
            revenue_minor: i64::try_from(hours * 90).unwrap(),
        }
    }

    #[test]
    fn sessions_are_added_up_by_what_is_asked_for() {
        let costs = costs();
        let report = |by| {
            let mut report = CostReport::new(&costs, by).unwrap();
            for one in [session(1, "doom", "fra", 1), session(2, "doom", "ams", 2), session(3, "tux", "fra", 3)] {
                report.add(&one).unwrap();
            }
            report.finish().unwrap()
        };
        let told = |by| -> Vec<(String, i64, i64)> {
            report(by).0.into_iter().map(|row| (row.name, row.cost.minor, row.margin.minor)).collect()
        };
        // 24 + 1 + 10 + 3 cents an hour.
        assert_eq!(told(By::App), [("doom".to_owned(), 114, 156), ("tux".to_owned(), 114, 156)]);
        assert_eq!(told(By::Site), [("ams".to_owned(), 76, 104), ("fra".to_owned(), 152, 208)]);
        assert_eq!(told(By::Tenant), [("acme".to_owned(), 228, 312)]);
        assert_eq!(told(By::Session).len(), 3);
        let (_, all) = report(By::Session);
        let parts = [all.compute, all.encoding, all.egress, all.storage].map(|money| money.minor);
        assert_eq!((parts, all.margin_per_hour.map(|money| money.minor)), ([144, 6, 60, 18], Some(52)));
    }

    #[test]
    fn figures_go_through_json() {
        let mut one = session(1, "doom", "fra", 1);
        one.stored_byte_ms = u128::from(u64::MAX) * 1000;
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<SessionCost>(&text).unwrap(), one);
        let text = serde_json::to_string(&costs()).unwrap();
        assert_eq!(serde_json::from_str::<UnitCosts>(&text).unwrap(), costs());
    }

    #[test]
    fn a_cost_of_nothing_is_refused() {
        let mut bad = costs();
        bad.egress_bytes.per = 0;
        let error = CostReport::new(&bad, By::App).unwrap_err().to_string();
        assert_eq!(error, "egress_bytes: 2 minor units for nothing; write in `per` for how many that is");
        bad.egress_bytes.minor = 0;
        assert!(CostReport::new(&bad, By::App).is_ok());
        let mut unknown = serde_json::to_value(costs()).unwrap();
        unknown["gpu"] = 3.into();
        assert!(serde_json::from_value::<UnitCosts>(unknown).is_err());
    }

    proptest! {
        #[test]
        fn rows_add_up_to_the_whole_but_for_the_rounding(hours in prop::collection::vec((0..3_u128, 0..5_000_u64), 1..30)) {
            let costs = costs();
            let mut report = CostReport::new(&costs, By::Site).unwrap();
            for (site, minutes) in hours {
                let mut one = session(1, "doom", &format!("s{site}"), 1);
                one.instance_ms = minutes * 60_000;
                report.add(&one).unwrap();
            }
            let (rows, all) = report.finish().unwrap();
            let sum: i64 = rows.iter().map(|row| row.cost.minor).sum();
            // Each row is rounded by half a unit at most.
            prop_assert!((sum - all.cost.minor).abs() <= 2, "{} {}", sum, all.cost);
            prop_assert_eq!(rows.iter().map(|row| row.revenue.minor).sum::<i64>(), all.revenue.minor);
        }
    }
}
