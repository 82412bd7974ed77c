//! Amounts of money: whole minor units of one currency, exact fractions of them on the way, and one rounding.
//!
//! Principles: no floating point; currencies are never mixed silently; every sum is checked; what is split is conserved.
//! Rounding happens once, in [`Exact::round`], half to even: it has no drift in either party's favour over many lines, which half-up has.
//! Deliberately absent: exchange rates.

mod currency;
mod exact;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::currency::{Currency, CurrencyError};
pub use self::exact::Exact;

/// Why an amount cannot be computed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Two currencies in one sum. Convert outside, or keep one account for each.
    #[error("{left} and {right} cannot be added: amounts of two currencies are kept apart")]
    Mixed {
        /// Of the first amount.
        left: Currency,
        /// Of the second.
        right: Currency,
    },
    /// Larger than 9.2e18 minor units, or than 1.7e38 in between: a price or a quantity is absurd. Look at the plan.
    #[error("the amount is too large to be counted: look for an absurd price or quantity")]
    Overflow,
    /// Division by nothing, as in a proration over an empty period.
    #[error("cannot divide by zero")]
    ByZero,
    /// A text that is no amount. Write it as `12.34 EUR`.
    #[error("`{0}` is no amount: expected for example `12.34 EUR`, with no more digits than the currency has")]
    Text(String),
    /// Nothing to split by. Give at least one weight above zero.
    #[error("an amount cannot be split by weights that are all zero")]
    NoWeights,
}

/// An amount: whole minor units (cents, yen, fils) of a currency. May be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units: 1234 is 12.34 EUR, 1234 JPY, 1.234 KWD.
    pub minor: i64,
    /// ISO 4217.
    pub currency: Currency,
}

impl Money {
    /// So many minor units.
    #[must_use]
    pub const fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// Nothing.
    #[must_use]
    pub const fn zero(currency: Currency) -> Money {
        Money { minor: 0, currency }
    }

    /// True for nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.minor == 0
    }

    /// The same debt the other way.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] for the one number that has no negative.
    pub fn negated(self) -> Result<Money, MoneyError> {
        Ok(Money { minor: self.minor.checked_neg().ok_or(MoneyError::Overflow)?, ..self })
    }

    /// Both together.
    ///
    /// # Errors
    /// Two currencies, or too large.
    pub fn plus(self, other: Money) -> Result<Money, MoneyError> {
        self.same(other)?;
        Ok(Money { minor: self.minor.checked_add(other.minor).ok_or(MoneyError::Overflow)?, ..self })
    }

    /// Without the other.
    ///
    /// # Errors
    /// Two currencies, or too large.
    pub fn minus(self, other: Money) -> Result<Money, MoneyError> {
        self.same(other)?;
        Ok(Money { minor: self.minor.checked_sub(other.minor).ok_or(MoneyError::Overflow)?, ..self })
    }

    /// All together; nothing of `currency` when there are none.
    ///
    /// # Errors
    /// Another currency among them, or too large.
    pub fn sum(currency: Currency, amounts: impl IntoIterator<Item = Money>) -> Result<Money, MoneyError> {
        amounts.into_iter().try_fold(Money::zero(currency), Money::plus)
    }

    /// Into parts by weights, by the largest remainder: the parts add up to the whole, and none is further than one minor unit from its exact
    /// share. Of equal remainders the earlier part has the unit.
    ///
    /// # Errors
    /// No weight above zero, or too large.
    pub fn split(self, weights: &[u64]) -> Result<Vec<Money>, MoneyError> {
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 {
            return Err(MoneyError::NoWeights);
        }
        let whole = u128::from(self.minor.unsigned_abs());
        let mut parts = Vec::with_capacity(weights.len());
        for (index, weight) in weights.iter().enumerate() {
            let product = whole.checked_mul(u128::from(*weight)).ok_or(MoneyError::Overflow)?;
            parts.push((index, product / total, product % total));
        }
        let given: u128 = parts.iter().map(|part| part.1).sum();
        let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
        by_remainder.sort_by_key(|index| (std::cmp::Reverse(parts[*index].2), *index));
        // Fewer than there are parts with a remainder, because the remainders add up to a multiple of the total below their number.
        let left = usize::try_from(whole - given).map_err(|_too_many| MoneyError::Overflow)?;
        for index in by_remainder.into_iter().take(left) {
            parts[index].1 += 1;
        }
        let sign = i128::from(self.minor.signum());
        let signed = |(_, units, _): (usize, u128, u128)| {
            let units = i128::try_from(units).map_err(|_too_large| MoneyError::Overflow)?;
            let minor = i64::try_from(units * sign).map_err(|_too_large| MoneyError::Overflow)?;
            Ok(Money { minor, ..self })
        };
        parts.into_iter().map(signed).collect()
    }

    /// The number alone, with as many decimals as the currency has: `12.34`.
    #[must_use]
    pub fn decimal(&self) -> String {
        let digits = usize::from(self.currency.exponent());
        let sign = if self.minor < 0 { "-" } else { "" };
        let scale = 10_u64.pow(u32::from(self.currency.exponent()));
        let (whole, part) = (self.minor.unsigned_abs() / scale, self.minor.unsigned_abs() % scale);
        if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part:0digits$}") }
    }

    fn same(self, other: Money) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::Mixed { left: self.currency, right: other.currency })
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads what [`Money`] prints. Missing decimals are zeros; more than the currency has are refused, never rounded.
    fn from_str(text: &str) -> Result<Money, MoneyError> {
        parse(text).ok_or_else(|| MoneyError::Text(text.chars().take(60).collect()))
    }
}

fn parse(text: &str) -> Option<Money> {
    let (number, code) = text.split_once(' ')?;
    let currency: Currency = code.parse().ok()?;
    let (is_negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, part) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, part)) => (whole, part),
        None => (number, ""),
    };
    let digits = usize::from(currency.exponent());
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > digits || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    let units: i128 = format!("{whole}{part:0<digits$}").parse().ok()?;
    let minor = i64::try_from(if is_negative { -units } else { units }).ok()?;
    Some(Money { minor, currency })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<i64, ()>) {
        let read = text.parse::<Money>();
        assert_eq!(read.as_ref().map(|money| money.minor).map_err(|_error| ()), expected, "{text}: {read:?}");
        if let Ok(money) = read {
            assert_eq!(money.to_string().parse(), Ok(money));
        }
    }

    #[test]
    fn amounts_are_read_and_printed() {
        for (text, expected) in [
            ("12.34 EUR", Ok(1234)),
            ("12.3 EUR", Ok(1230)),
            ("12 EUR", Ok(1200)),
            ("-0.05 EUR", Ok(-5)),
            ("1234 JPY", Ok(1234)),
            ("1.234 KWD", Ok(1234)),
            ("92233720368547758.07 EUR", Ok(i64::MAX)),
            ("92233720368547758.08 EUR", Err(())),
            ("1.5 JPY", Err(())),
            ("1.234 EUR", Err(())),
            ("1. EUR", Err(())),
            (".5 EUR", Err(())),
            ("1,5 EUR", Err(())),
            ("+1 EUR", Err(())),
            ("--1 EUR", Err(())),
            ("1 XXX", Err(())),
            ("1EUR", Err(())),
            ("", Err(())),
        ] {
            check(text, expected);
        }
        assert_eq!(Money::new(-1230, Currency::EUR).to_string(), "-12.30 EUR");
        assert_eq!(Money::new(i64::MIN, Currency::JPY).to_string(), "-9223372036854775808 JPY");
    }

    #[test]
    fn currencies_are_not_mixed_and_sums_do_not_wrap() {
        let (euro, yen) = (Money::new(1, Currency::EUR), Money::new(1, Currency::JPY));
        assert_eq!(euro.plus(yen), Err(MoneyError::Mixed { left: Currency::EUR, right: Currency::JPY }));
        assert_eq!(Money::new(i64::MAX, Currency::EUR).plus(euro), Err(MoneyError::Overflow));
        assert_eq!(Money::new(i64::MIN, Currency::EUR).negated(), Err(MoneyError::Overflow));
    }

    #[test]
    fn what_remains_goes_to_the_largest_remainder() {
        let split = |minor, weights: &[u64]| -> Vec<i64> {
            Money::new(minor, Currency::EUR).split(weights).unwrap().iter().map(|part| part.minor).collect()
        };
        assert_eq!(split(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(split(-100, &[1, 1, 1]), [-34, -33, -33]);
        assert_eq!(split(100, &[1, 2, 4]), [14, 29, 57]);
        assert_eq!(split(5, &[0, 1, 0]), [0, 5, 0]);
        assert_eq!(Money::new(5, Currency::EUR).split(&[0]), Err(MoneyError::NoWeights));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(minor in any::<i64>(), weights in prop::collection::vec(any::<u64>(), 1..20)) {
            let whole = Money::new(minor, Currency::EUR);
            if let Ok(parts) = whole.split(&weights) {
                let sum: i128 = parts.iter().map(|part| i128::from(part.minor)).sum();
                prop_assert_eq!(sum, i128::from(minor));
                for (part, weight) in parts.iter().zip(&weights) {
                    prop_assert!(*weight > 0 || part.minor == 0);
                }
            } else {
                prop_assert!(weights.iter().all(|weight| *weight == 0));
            }
        }

        #[test]
        fn texts_never_panic(text in "\\PC*") {
            let _read = text.parse::<Money>();
        }
    }
}
