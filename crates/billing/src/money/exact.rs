//! Exact fractions of minor units, and the one place where they are rounded.

use std::cmp::Ordering;

use super::MoneyError;

/// An exact fraction of a minor unit: what a rating computes with until it rounds once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Any sign; has no divisor in common with the denominator.
    numerator: i128,
    /// Above zero.
    denominator: i128,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Exact = Exact { numerator: 0, denominator: 1 };

    /// `numerator / denominator`, reduced.
    ///
    /// # Errors
    /// A denominator of zero, or one that cannot be negated.
    pub fn new(numerator: i128, denominator: i128) -> Result<Exact, MoneyError> {
        if denominator == 0 {
            return Err(MoneyError::ByZero);
        }
        let divisor = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs()))
            .map_err(|_too_large| MoneyError::Overflow)?
            * denominator.signum();
        let divide = |value: i128| value.checked_div(divisor).ok_or(MoneyError::Overflow);
        Ok(Exact { numerator: divide(numerator)?, denominator: divide(denominator)? })
    }

    /// A whole number.
    #[must_use]
    pub const fn whole(value: i128) -> Exact {
        Exact { numerator: value, denominator: 1 }
    }

    /// Both together.
    ///
    /// # Errors
    /// Too large.
    pub fn plus(self, other: Exact) -> Result<Exact, MoneyError> {
        let shared = i128::try_from(gcd(self.denominator.unsigned_abs(), other.denominator.unsigned_abs()))
            .map_err(|_too_large| MoneyError::Overflow)?;
        let (left, right) = (other.denominator / shared, self.denominator / shared);
        let numerator =
            product(self.numerator, left)?.checked_add(product(other.numerator, right)?).ok_or(MoneyError::Overflow)?;
        Exact::new(numerator, product(self.denominator, left)?)
    }

    /// Times `numerator / denominator`.
    ///
    /// # Errors
    /// A denominator of zero, or too large.
    pub fn times(self, numerator: i128, denominator: i128) -> Result<Exact, MoneyError> {
        // Reduced crosswise first, which keeps the products as small as they can be.
        let left = Exact::new(self.numerator, denominator)?;
        let right = Exact::new(numerator, self.denominator)?;
        Exact::new(product(left.numerator, right.numerator)?, product(left.denominator, right.denominator)?)
    }

    /// The only rounding of this crate: to the nearest minor unit, halves to the even one.
    ///
    /// # Errors
    /// More than 9.2e18 minor units.
    pub fn round(self) -> Result<i64, MoneyError> {
        let (floor, rest) = (self.numerator.div_euclid(self.denominator), self.numerator.rem_euclid(self.denominator));
        let is_up = match rest.cmp(&(self.denominator - rest)) {
            Ordering::Less => false,
            Ordering::Equal => floor.rem_euclid(2) == 1,
            Ordering::Greater => true,
        };
        i64::try_from(floor + i128::from(is_up)).map_err(|_too_large| MoneyError::Overflow)
    }

    /// The smallest whole number that is not below. For quantities that are given away, never for money.
    #[must_use]
    pub fn ceiling(self) -> i128 {
        let floor = self.numerator.div_euclid(self.denominator);
        floor + i128::from(self.numerator.rem_euclid(self.denominator) != 0)
    }
}

fn product(left: i128, right: i128) -> Result<i128, MoneyError> {
    left.checked_mul(right).ok_or(MoneyError::Overflow)
}

/// At least 1.
fn gcd(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_go_to_the_even_unit() {
        let check = |numerator, denominator, expected| {
            let rounded = Exact::new(numerator, denominator).unwrap().round();
            assert_eq!(rounded, Ok(expected), "{numerator}/{denominator}");
        };
        for (numerator, denominator, expected) in [
            (1, 2, 0),
            (3, 2, 2),
            (5, 2, 2),
            (-1, 2, 0),
            (-3, 2, -2),
            (1, 3, 0),
            (2, 3, 1),
            (-2, 3, -1),
            (1, -2, 0),
            (7, 1, 7),
            (i128::from(i64::MAX), 1, i64::MAX),
        ] {
            check(numerator, denominator, expected);
        }
        assert_eq!(Exact::whole(i128::from(i64::MAX) + 1).round(), Err(MoneyError::Overflow));
        assert_eq!(Exact::new(1, 0), Err(MoneyError::ByZero));
        assert_eq!(Exact::whole(i128::MAX).plus(Exact::whole(1)), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn adding_is_exact(a in any::<i32>(), b in 1..10_000_i32, c in any::<i32>(), d in 1..10_000_i32) {
            let [a, b, c, d] = [a, b, c, d].map(i128::from);
            let sum = Exact::new(a, b).unwrap().plus(Exact::new(c, d).unwrap()).unwrap();
            prop_assert_eq!(sum, Exact::new(a * d + c * b, b * d).unwrap());
            let times = Exact::new(a, b).unwrap().times(c, d).unwrap();
            prop_assert_eq!(times, Exact::new(a * c, b * d).unwrap());
        }

        #[test]
        fn rounding_is_never_further_than_half(a in any::<i64>(), b in 1..1_000_000_i64) {
            let rounded = i128::from(Exact::new(i128::from(a), i128::from(b)).unwrap().round().unwrap());
            let distance = (rounded * i128::from(b) - i128::from(a)).abs() * 2;
            prop_assert!(distance < i128::from(b) || (distance == i128::from(b) && rounded % 2 == 0));
        }
    }
}
