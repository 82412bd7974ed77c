//! What terms may not say: each fault with its field and what to do.

use super::{Beyond, Metered, Term, Terms, Usage};

/// Longest allowance, limit or tier in seconds: 114 years. Beyond it sums of milliseconds could overflow; shorter would refuse nothing real.
const MOST_SECONDS: u64 = 3_600_000_000;
/// Most tiers. More cannot be explained on an invoice; fewer would refuse real price lists.
const MOST_TIERS: usize = 32;

/// Terms that contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A field has a value that it cannot have.
    #[error("{field}: {fault}; {remedy}")]
    Field {
        /// Which, as in JSON.
        field: &'static str,
        /// What is wrong.
        fault: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A tier ends where it begins, or before.
    #[error(
        "tiers[{index}].up_to_s: does not rise; tiers follow each other, each ends after the one before, and only the last has no end"
    )]
    Tier {
        /// Which, from 0.
        index: usize,
    },
}

fn refuse(is_wrong: bool, field: &'static str, fault: &'static str, remedy: &'static str) -> Result<(), TermsError> {
    if is_wrong { Err(TermsError::Field { field, fault, remedy }) } else { Ok(()) }
}

impl Terms {
    /// Do these terms make sense?
    ///
    /// # Errors
    /// Names the first field that does not, and what to write instead.
    pub fn check(&self) -> Result<(), TermsError> {
        refuse(self.fee_minor < 0, "fee_minor", "is negative", "discounts are credit notes: write 0 or more")?;
        if let Term::Days { days } = self.term {
            let is_wrong = days == 0 || u64::from(days) > MOST_SECONDS / 86_400;
            refuse(is_wrong, "term.days", "is zero or more than a century", "write 1 to 41666")?;
        }
        self.check_concurrency()?;
        refuse(self.queue.weight == 0, "queue.weight", "is zero", "who shall be served last has 1")?;
        self.check_limits()?;
        match &self.usage {
            Usage::Included => {}
            Usage::Metered { metered } => check_metered(metered)?,
            Usage::Prepaid { allowance } => {
                let is_wrong = allowance.seconds == 0 || allowance.seconds > MOST_SECONDS;
                refuse(is_wrong, "usage.allowance.seconds", "is zero or absurd", "write how many seconds are bought")?;
                let is_periodic = matches!(self.term, Term::Periodic { .. });
                let is_wrong = allowance.roll_over_s > 0 && !is_periodic;
                let remedy = "write 0, or make the term periodic";
                refuse(is_wrong, "usage.allowance.roll_over_s", "has no next period to go to", remedy)?;
                let is_wrong = allowance.roll_over_s > allowance.seconds;
                let remedy = "no more can be left than was bought";
                refuse(is_wrong, "usage.allowance.roll_over_s", "is more than a period brings", remedy)?;
                if let Beyond::Metered { metered } = &allowance.beyond {
                    check_metered(metered)?;
                    let is_wrong = metered.included_s > 0;
                    let remedy = "add it to usage.allowance.seconds";
                    refuse(is_wrong, "usage.allowance.beyond.metered.included_s", "is in the allowance", remedy)?;
                    let is_wrong = metered.minimum_s > 0 || metered.step_s > 0;
                    let remedy = "write 0 for both: hours that were bought are counted to the millisecond, and so is what follows";
                    refuse(
                        is_wrong,
                        "usage.allowance.beyond.metered.minimum_s or step_s",
                        "cannot be had here",
                        remedy,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn check_concurrency(&self) -> Result<(), TermsError> {
        let places = self.concurrency;
        refuse(places.guarantee > places.maximum, "concurrency.maximum", "is below the guarantee", "raise it")
    }

    fn check_limits(&self) -> Result<(), TermsError> {
        let limits = self.limits;
        let remedy = "leave it out where there shall be no limit";
        refuse(limits.session_s == Some(0), "limits.session_s", "is zero: nobody could play", remedy)?;
        refuse(limits.plays == Some(0), "limits.plays", "is zero: nobody could play", remedy)?;
        let is_wrong = limits.period_s.is_some_and(|seconds| seconds == 0 || seconds > MOST_SECONDS);
        refuse(is_wrong, "limits.period_s", "is zero or absurd", remedy)?;
        let is_wrong = self.is_trial && limits.session_s.is_none();
        refuse(is_wrong, "limits.session_s", "is missing in a trial", "say how long a trial lasts")
    }
}

fn check_metered(metered: &Metered) -> Result<(), TermsError> {
    let field = "usage.metered.tiers";
    refuse(metered.tiers.is_empty(), field, "is empty", "write one tier without an end for a single price")?;
    refuse(metered.tiers.len() > MOST_TIERS, field, "has more than 32 entries", "join tiers")?;
    refuse(metered.included_s > MOST_SECONDS, "usage.metered.included_s", "is absurd", "use usage.kind = included")?;
    let mut reached = 0;
    for (index, tier) in metered.tiers.iter().enumerate() {
        let is_last = index + 1 == metered.tiers.len();
        match tier.up_to_s {
            None if is_last => {}
            Some(up_to) if !is_last && up_to > reached && up_to <= MOST_SECONDS => reached = up_to,
            None | Some(_) => return Err(TermsError::Tier { index }),
        }
        refuse(tier.rate.minor < 0, "usage.metered.tiers.rate.minor", "is negative", "write 0 or more")?;
        let remedy = "write 1, 60 or 3600";
        refuse(tier.rate.seconds == 0, "usage.metered.tiers.rate.seconds", "is zero", remedy)?;
    }
    Ok(())
}
